"""Builds the wheel, and has it prove itself where there is nothing but a Python.

There is one wheel for all CPythons, and one for the free-threaded ones. For each Python that is found, it is installed
into a new environment, without a compiler or anything else in PATH, and there runs a small program under every start
method, and one that knows nothing of it. The command `procession` must read the stacks of a program without the program
py-spy.

With --use, a wheel that is there already proves itself on the Python that runs this program. So the wheels of a release
are used on other machines, where nothing is built.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import build_plain_wheel
from other_pythons import ALL, FREE_THREADED, build_wheel, find

METHODS = ("fork", "spawn", "forkserver")

PROGRAM = """
import sys
import {package} as mp

def work(tasks, results, lock, total):
    while (n := tasks.get()) is not None:
        with lock:
            total.value += n
        results.put((n, n * n))

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    tasks, results, lock, total = context.Queue(), context.Queue(), context.Lock(), context.Value("q", 0)
    processes = [context.Process(target=work, args=(tasks, results, lock, total)) for _ in range(2)]
    for process in processes:
        process.start()
    for n in [*range(100), None, None]:
        tasks.put(n)
    squares = dict(results.get(timeout=60) for _ in range(100))
    for process in processes:
        process.join()
    assert squares == {{n: n * n for n in range(100)}} and total.value == 4950
    factor = 3
    with context.Pool(2) as pool:
        assert pool.map(lambda n: n * factor, range(10)) == [3 * n for n in range(10)]
    print(sys.argv[1], *(process.exitcode for process in processes), type(tasks).__module__)
"""

WAITS = """
import sys
import procession as mp

def consume(queue):
    queue.get()

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    queue = context.Queue()
    child = context.Process(target=consume, args=(queue,), name="consumer")
    child.start()
    print("started", flush=True)
    sys.stdin.readline()
    queue.put("a message")
    child.join()
"""


def run(*command: str | Path, folder: Path, path: Path, **more: str) -> str:
    """What a command prints that has nothing in PATH but one folder. If it fails, so do we, and show why."""
    words = [str(word) for word in command]
    environment = {"PATH": str(path), "HOME": str(folder), "TMPDIR": str(folder), **more}
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)
    if done.returncode or done.stderr:
        raise SystemExit(f"{' '.join(words)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def check_contents(wheel: Path) -> None:
    """One wheel for all versions, with the types and without what is for developers."""
    known = re.search("-(cp311-abi3|cp314-cp314t)-(manylinux|musllinux)", wheel.name)
    assert known, f"{wheel.name}: neither for every CPython from 3.11 on nor for the free-threaded 3.14"
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    extension = "procession/_core.abi3.so"
    if known[1] == "cp314-cp314t":
        (extension,) = (name for name in names if re.fullmatch(r"procession/_core\.cpython-314t-.*\.so", name))
    for needed in (extension, "procession/_core.pyi", "procession/py.typed", "procession/__main__.py"):
        assert needed in names, f"{wheel.name} lacks {needed}"
    modules = {path.relative_to("python").as_posix() for path in Path("python/procession").rglob("*.py")}
    assert modules <= set(names), f"{wheel.name} lacks {sorted(modules - set(names))}"
    strange = [name for name in names if not name.startswith(("procession/", "procession-"))]
    assert not strange, f"{wheel.name} has {strange}"
    (parts,) = (name for name in names if ".dist-info/sboms/" in name)
    assert archive.read(parts) == Path("crates/procession-python/sbom.cdx.json").read_bytes(), f"{parts}: make sbom"


def prove_stacks(python: Path, program: Path, method: str, folder: Path, path: Path) -> None:
    """The command reads the Python stacks of a program by itself."""
    environment = {"PATH": str(path), "HOME": str(folder), "TMPDIR": str(folder)}
    words = [python, program, method]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdin and process.stdout and process.stdout.readline() == "started\n"
        end = time.monotonic() + 60
        while True:
            printed = run(path / "procession", "stacks", "--json", str(process.pid), folder=folder, path=path)
            found = {one["name"]: one for one in json.loads(printed)["stacks"]}
            frames = [
                frame["name"] for stack in found.get("consumer", {"stacks": []})["stacks"] for frame in stack["frames"]
            ]
            if "consume" in frames:
                break
            assert time.monotonic() < end, printed
        shown = run(path / "procession", "stacks", str(process.pid), folder=folder, path=path)
        [consumer] = [part for part in shown.split("\n\n") if part.startswith("consumer ")]
        assert "waits for a message of Queue" in consumer and "consume " in consumer, shown
        assert "<module>" not in consumer, f"the frames of the parent are shown:\n{shown}"
        process.communicate("end\n", timeout=60)
        assert process.returncode == 0


def installed(executable: str, wheel: Path, folder: Path) -> Path:
    """Installs the wheel into a new environment, and returns the folder with its programs."""
    subprocess.run([executable, "-m", "venv", folder / "environment"], check=True)
    path = folder / "environment" / "bin"
    pip = ("-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "install", "--quiet")
    subprocess.run([path / "python", *pip, "--only-binary", ":all:", wheel], check=True, env={"PATH": str(path)})
    return path


LOCK = """
import sys, procession, procession._core
print(getattr(sys, "_is_gil_enabled", lambda: True)())
"""


def prove(executable: str, version: str, wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = installed(executable, wheel, folder)
        python = path / "python"
        has_lock = run(python, "-c", LOCK, folder=folder, path=path)
        assert has_lock == f"{'cp314t' not in wheel.name}\n", f"{wheel.name} turns the interpreter's lock on"
        for package, command in (("procession", ()), ("multiprocessing", ("-m", "procession"))):
            program = folder / f"with_{package}.py"
            program.write_text(PROGRAM.format(package=package))
            for method in METHODS:
                printed = run(python, *command, program, method, folder=folder, path=path)
                assert printed == f"{method} 0 0 procession.queues\n", printed
        program = folder / "waits.py"
        program.write_text(WAITS)
        if "cp314t" in wheel.name:
            print(f"Python {version}: its stacks are NOT READ, py-spy does not know the layout of this interpreter")
        else:
            for method in METHODS:
                prove_stacks(python, program, method, folder, path)
    print(f"Python {version}: {wheel.name} works", flush=True)


def prove_plain(executable: str, version: str, wheel: Path) -> None:
    """The wheel without the extension: it can be installed, and a program runs under every start method."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = installed(executable, wheel, folder)
        python = path / "python"
        program = folder / "program.py"
        program.write_text(PROGRAM.format(package="procession"))
        for method in METHODS:
            printed = run(python, program, method, folder=folder, path=path, PROCESSION_FALLBACK="1")
            assert printed == f"{method} 0 0 multiprocessing.queues\n", printed
        # what is not asked for is told, in one sentence
        quiet = "import warnings; warnings.simplefilter('error'); import procession"
        told = subprocess.run([python, "-c", quiet], check=False, capture_output=True, text=True, env={})
        assert "RuntimeWarning: procession works without its extension" in told.stderr, told.stderr
    print(f"Python {version}: {wheel.name} works", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, help="the folder to build the wheel in")
    parser.add_argument("--use", metavar="PATTERN", help="use this wheel, on this Python, and build none")
    parser.add_argument("--maturin", default="maturin")
    options = parser.parse_args()
    if options.use:
        (wheel,) = (path.absolute() for path in Path().glob(options.use))
        if wheel.name.endswith("-none-any.whl"):
            prove_plain(sys.executable, platform.python_version(), wheel)
            return 0
        check_contents(wheel)
        prove(sys.executable, platform.python_version(), wheel)
        return 0
    wheel = build_wheel(options.maturin, options.wheels).absolute()  # it empties the folder first
    plain = build_plain_wheel.build(options.wheels / "plain").absolute()
    check_contents(wheel)
    for version in ALL:
        executable = find(version)
        if executable:
            if version == FREE_THREADED:
                wheel = build_wheel(options.maturin, options.wheels / "free-threaded", executable).absolute()
                check_contents(wheel)
            prove(executable, version, wheel)
            prove_plain(executable, version, plain)
        else:
            print(f"Python {version}: not found, NOT TESTED", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
