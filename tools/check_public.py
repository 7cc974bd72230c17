"""Checks which types of other crates stand in the public signatures of the crate `procession`: only those listed here.

A type of a dependency in a public signature ties the versions of both crates together. So these are few, and they are
listed here. The compiler finds them: its check of public dependencies is not stable yet, and `RUSTC_BOOTSTRAP=1` lets a
stable compiler do it (https://doc.rust-lang.org/cargo/reference/unstable.html#public-dependency).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

# Whose types and traits are public on purpose. The others (the core, rustix, postcard, libc, thiserror) are details.
PUBLIC = {
    "arrow_buffer",  # with the feature `arrow`
    "bytes",  # with the feature `bytes`
    "futures_core",  # `Stream`, with the feature `futures`
    "futures_sink",  # `Sink`, with the feature `futures`
    "half",  # with the feature `half`
    "ndarray",  # views, with the feature `ndarray`
    "num_bigint",  # with the feature `num-bigint`
    "serde_core",  # `Serialize` and `Deserialize` are the bounds of `Message`
    "zerocopy",  # its traits are the bounds of `Pod`; exported as `procession::zerocopy`
}

NAMED = re.compile(r"from private dependency '(\w+)' in public interface")
COMMAND = "cargo check --quiet --package procession --all-features --message-format json -Zpublic-dependency"


def main() -> int:
    environment = {**os.environ, "RUSTC_BOOTSTRAP": "1"}
    command = [*COMMAND.split(), "--target-dir", "target/public"]
    run = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=False)
    if run.returncode:
        print("the check of public dependencies did not run to its end", file=sys.stderr)
        return run.returncode
    seen: set[str] = set()
    wrong = 0
    for line in run.stdout.splitlines():
        record = json.loads(line)
        if record["reason"] != "compiler-message" or record["target"]["name"] != "procession":
            continue
        message = record["message"]
        named = NAMED.search(message["message"])
        if named is None:
            continue
        seen.add(named[1])
        if named[1] not in PUBLIC:
            print(message["rendered"], end="")
            wrong += 1
    if unused := PUBLIC - seen:
        print(f"tools/check_public.py lists crates that stand in no public signature: {', '.join(sorted(unused))}")
    return bool(wrong or unused)


if __name__ == "__main__":
    sys.exit(main())
