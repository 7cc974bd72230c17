"""Runs tests on aarch64 in an emulator: a whole Linux, with pages of 4 KiB and of 16 KiB.

The tests are compiled here, and run in `qemu-system-aarch64` with a kernel and the C library of Debian, which apt-get
fetches from where this machine has its own packages. A whole system and not `qemu-aarch64`, because the emulation of
single programs has neither robust futexes nor `futex_waitv`, on which everything here rests. What is missing is said
aloud, and nothing runs.

An emulated processor is ten times slower. So a test may exceed a deadline that is enough on any real machine: a program
that fails is run once more, one test at a time. The emulator does not show the order of memory accesses of aarch64,
which is weaker than that of x86-64: for that there is `make loom`.

With `--python` the extension is compiled too, and Debian's Python runs folders of tests/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "aarch64"
TARGET = "aarch64-unknown-linux-gnu"
SUITE = "trixie"  # the first Debian that has a kernel with pages of 16 KiB
# What the names of kernels end with: pages of 4 KiB, and of 16 KiB.
KERNELS = {"4k": "-cloud-arm64", "16k": "-arm64-16k"}
PACKAGES = ["bash", "coreutils", "findutils", "grep", "iproute2", "libgcc-s1", "mount", "procps", "sed", "util-linux"]
PYTHON_PACKAGES = ["python3", "libpython3-stdlib"]
PYTHON = "3.13"  # that of this Debian
TOOLS = {
    "cargo": "https://rustup.rs",
    "aarch64-linux-gnu-gcc": "the package gcc-aarch64-linux-gnu",
    "aarch64-linux-gnu-strip": "the package gcc-aarch64-linux-gnu",
    "qemu-system-aarch64": "the package qemu-system-arm",
    "apt-get": "it fetches Debian's packages",
    "dpkg-deb": "it unpacks Debian's packages",
    "cpio": "the package cpio",
}
# The emulated machine: an older processor without LSE atomics is `cortex-a72`.
QEMU = ["-M", "virt,gic-version=3", "-smp", "2", "-m", "6144", "-nographic", "-no-reboot", "-nic", "none"]
PASSWD = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
INIT = """#!/bin/bash
export PATH=/usr/bin:/usr/sbin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs tmp /tmp; mount -t tmpfs shm /dev/shm; mount -t devpts pts /dev/pts; mount -t tmpfs run /run
chmod 1777 /tmp /dev/shm
ip link set lo up
ulimit -c 0
bash /job/run.sh
echo o > /proc/sysrq-trigger
sleep 60
"""
# A line "RESULT name status seconds" for each program, and the output of those that fail.
RUN_RUST = """cd /tmp
for test in /job/tests/*; do
  options=; case $test in */crash_*) options=--test-threads=1;; esac
  began=$SECONDS
  for try in 1 2; do
    timeout -k 5 900 $test $options > /tmp/out 2>&1; status=$?
    if [ $status = 0 ]; then break; fi
    grep -vE '^test .* ok$' /tmp/out | tail -40
    options=--test-threads=1
  done
  echo "RESULT ${test##*/} $status $((SECONDS - began)) $(grep -E '^test result' /tmp/out | tail -1)"
done
"""
RUN_PYTHON = """cd /job/project
export PYTHONPATH=/job/site
for area in %s; do
  began=$SECONDS
  timeout -k 5 2400 python3 -m pytest tests/$area -q -p no:cacheprovider -m 'not slow' > /tmp/out 2>&1
  status=$?
  if [ $status != 0 ]; then tail -60 /tmp/out; fi
  echo "RESULT python:$area $status $((SECONDS - began)) $(tail -1 /tmp/out)"
done
"""


def missing() -> list[str]:
    """What this machine has not got."""
    lacking = [f"{tool} ({why})" for tool, why in TOOLS.items() if not shutil.which(tool)]
    if not lacking:
        command = ["rustc", "--print", "target-libdir", "--target", TARGET]
        library = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        lacking += [] if Path(library).is_dir() else [f"Rust's {TARGET} (rustup target add {TARGET})"]
    return lacking


def debian() -> str | None:
    """Where this machine has Debian's packages from; None if it has none of Debian's."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
    return next((line.split()[1] for line in listed.splitlines() if line.startswith("Debian http")), None)


class Apt:
    """apt-get for another processor, with lists and packages of its own: it changes nothing of this machine."""

    def __init__(self, source: str) -> None:
        state = WORK / "apt"
        for folder in ("state/lists/partial", "cache/archives/partial", "preferences"):
            (state / folder).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        key = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (state / "sources.list").write_text(f"deb [signed-by={key}] {source} {SUITE} main\n", encoding="utf-8")
        self.archives = state / "cache" / "archives"
        config = state / "apt.conf"
        config.write_text(
            'APT::Architecture "arm64"; APT::Architectures { "arm64"; }; APT::Install-Recommends "false";\n'
            f'Dir::State "{state}/state"; Dir::State::status "{state}/status"; Dir::Cache "{state}/cache";\n'
            f'Dir::Etc::sourcelist "{state}/sources.list"; Dir::Etc::sourceparts "-";\n'
            f'Dir::Etc::preferencesparts "{state}/preferences"; APT::Sandbox::User "root";\n',
            encoding="utf-8",
        )
        self.environment = {**os.environ, "APT_CONFIG": str(config)}

    def __call__(self, *arguments: str, cwd: Path = ROOT) -> None:
        command = ["apt-get", "-qq", *arguments]
        subprocess.run(command, check=True, env=self.environment, cwd=cwd, stdout=subprocess.DEVNULL)

    def newest(self, ending: str) -> str:
        """The newest kernel whose name has this ending."""
        command = ["apt-cache", "search", "--names-only", f"^linux-image-[0-9].*[0-9]{ending}$"]
        found = subprocess.run(command, check=True, env=self.environment, stdout=subprocess.PIPE, text=True).stdout
        names = [line.split()[0] for line in found.splitlines()]
        return max(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def fetch(python: bool) -> Path:
    """Fetches and unpacks the system; returns its folder. The kernels lie beside it."""
    root = WORK / ("root-python" if python else "root")
    if root.is_dir():
        return root
    source = debian()
    if source is None:
        raise SystemExit("aarch64-test: SKIPPED, this machine has no packages of Debian")
    apt = Apt(source)
    apt("update")
    apt("install", "--download-only", "--yes", *PACKAGES, *(PYTHON_PACKAGES if python else []))
    made = root.with_suffix(".new")
    shutil.rmtree(made, ignore_errors=True)
    for package in sorted(apt.archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, made], check=True)
    for folder in ("doc", "man", "locale", "info"):
        shutil.rmtree(made / "usr" / "share" / folder, ignore_errors=True)
    (made / "usr" / "bin" / "sh").symlink_to("bash")
    (made / "etc" / "passwd").write_text(PASSWD, encoding="utf-8")
    (made / "etc" / "group").write_text("root:x:0:\nnogroup:x:65534:\n", encoding="utf-8")
    (made / "init").write_text(INIT, encoding="utf-8")
    (made / "init").chmod(0o755)
    for name, ending in KERNELS.items():
        place = WORK / "kernels" / name
        if not place.is_dir():
            place.mkdir(parents=True)
            apt("download", apt.newest(ending), cwd=place)
            (package,) = place.glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", package, place], check=True)
            shutil.rmtree(place / "usr", ignore_errors=True)
            package.unlink()
    made.rename(root)
    return root


def cross() -> dict[str, str]:
    """The environment in which cargo compiles for the other processor."""
    linker = f"CARGO_TARGET_{TARGET.upper().replace('-', '_')}_LINKER"
    return {**os.environ, linker: "aarch64-linux-gnu-gcc"}


def compiled(*arguments: str) -> Iterable[Path]:
    """Compiles tests; returns their programs."""
    command = ["cargo", "test", "--quiet", "--no-run", "--target", TARGET, "--message-format", "json", *arguments]
    written = subprocess.run(command, check=True, env=cross(), cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    for line in written.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["profile"]["test"]:
            yield Path(message["executable"])


def stage_rust(job: Path, only: str) -> str:
    """Puts the Rust tests of the core into the job, with those that kill a process at each crash point.

    only: a part of the names of the programs that are meant.
    """
    tests = job / "job" / "tests"
    tests.mkdir(parents=True)
    plain = compiled("-p", "procession-core")
    crash = compiled("-p", "procession-core", "-p", "procession", "--features", "crash-points", "--test", "crash_*")
    for program in [*(p for p in plain if not p.name.startswith(("crash_", "loom_"))), *crash]:
        if only in program.name:
            subprocess.run(["aarch64-linux-gnu-strip", "-S", "-o", tests / program.name, program], check=True)
    # A test compares this list with the table of the fields, and finds it at the path that it has here.
    fields = ROOT / "crates" / "procession-core" / "fields.txt"
    copy = job / fields.relative_to("/")
    copy.parent.mkdir(parents=True)
    shutil.copy(fields, copy)
    return RUN_RUST


def stage_python(job: Path, areas: list[str]) -> str:
    """Puts the package, with its extension, and the tests into the job."""
    out = WORK / "wheel"
    shutil.rmtree(out, ignore_errors=True)
    command = [str(Path(sys.executable).parent / "maturin"), "build", "--release", "--quiet", "--target", TARGET]
    command += ["--features", "", "--compatibility", "linux", "--interpreter", sys.executable, "--out", str(out)]
    subprocess.run(command, check=True, env=cross(), cwd=ROOT)
    (wheel,) = out.glob("*.whl")
    site, project = job / "job" / "site", job / "job" / "project"
    zipfile.ZipFile(wheel).extractall(site)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(site)]
    command += ["--only-binary", ":all:", "--python-version", PYTHON]
    command += [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 24, 27, 28, 34)]
    command += ["-r", str(ROOT / "requirements-test.txt"), "numpy"]
    subprocess.run(command, check=True)
    tracked = subprocess.run(["git", "ls-files", "-z"], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    for name in tracked.split("\0"):
        if name and not name.startswith(("python/", "crates/", "benchmarks/")):
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project / name)
    return RUN_PYTHON % " ".join(areas)


def archive(folder: Path, path: Path) -> None:
    """Packs a folder as the kernel unpacks it into memory."""
    names = "\0".join(str(p.relative_to(folder)) for p in [folder, *sorted(folder.rglob("*"))])
    with path.open("wb") as to:
        command = ["cpio", "--null", "--create", "--format", "newc", "--quiet", "--owner", "0:0"]
        subprocess.run(command, check=True, cwd=folder, stdout=to, input=names.encode())


def boot(kernel: str, cpu: str, initial: Path, limit: float) -> bool:
    """Starts the emulated machine and prints what its tests say. Returns whether all have passed."""
    (image,) = (WORK / "kernels" / kernel / "boot").glob("vmlinuz-*")
    command = ["nice", "qemu-system-aarch64", *QEMU, "-cpu", cpu, "-kernel", str(image), "-initrd", str(initial)]
    command += ["-append", "console=ttyAMA0 quiet panic=-1 rdinit=/init"]
    passed = failed = 0
    print(f"--- {image.name} on {cpu}", flush=True)
    machine = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, errors="replace")
    killer = subprocess.Popen(["sh", "-c", f"sleep {limit}; kill {machine.pid}"])
    assert machine.stdout is not None
    for line in machine.stdout:
        print(line.rstrip("\r\n"), flush=True)
        if result := re.match(r"RESULT \S+ (\d+) ", line):
            passed, failed = passed + (result[1] == "0"), failed + (result[1] != "0")
    machine.wait()
    killer.kill()
    print(f"{kernel}: {passed} programs passed, {failed} failed", flush=True)
    return passed > 0 and failed == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", choices=[*KERNELS], action="append", help="only this kernel; repeatable")
    parser.add_argument("--cpu", default="neoverse-n1", help="the emulated processor, as qemu names it")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only the programs of Rust whose names have this part"
    )
    parser.add_argument("--python", metavar="FOLDER", nargs="+", help="run these folders of tests/, and no Rust tests")
    parser.add_argument("--limit", type=float, default=5400, help="seconds after which a machine is ended")
    options = parser.parse_args()
    if lacking := missing():
        print("aarch64-test: SKIPPED, there is no", "; no ".join(lacking))
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    root = fetch(bool(options.python))
    job = WORK / "job"
    shutil.rmtree(job, ignore_errors=True)
    (job / "job").mkdir(parents=True)
    run = stage_python(job, options.python) if options.python else stage_rust(job, options.only)
    (job / "job" / "run.sh").write_text(run, encoding="utf-8")
    archive(root, WORK / "root.cpio")
    archive(job, WORK / "job.cpio")
    initial = WORK / "initial.cpio"  # the kernel unpacks one archive behind the other
    initial.write_bytes((WORK / "root.cpio").read_bytes() + (WORK / "job.cpio").read_bytes())
    kernels = options.pages or [*KERNELS]
    return int(not all([boot(kernel, options.cpu, initial, options.limit) for kernel in kernels]))


if __name__ == "__main__":
    sys.exit(main())
