"""How a child begins: what it reads from, what it is called, and where it looks for what it imports."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, ended
from programs import run, write

# --- standard input ---------------------------------------------------------------------------------------------------


def read(way: str, queue: Any) -> None:
    ways = {
        "input": lambda: input("what? "),
        "twice": lambda: [_refused(input), _refused(input)],
        "read": lambda: sys.stdin.read(9),
        "lines": lambda: list(sys.stdin),
        "with": lambda: sys.stdin.__enter__().readline(),
        "descriptor": lambda: os.read(sys.stdin.fileno(), 9),
    }
    try:
        queue.put(ways[way]())
    except EOFError:
        queue.put("end")


def _refused(call: Any) -> bool:
    try:
        call()
    except EOFError:
        return True
    return False


@pytest.mark.parametrize(
    ("way", "answer"),
    [("input", "end"), ("twice", [True, True]), ("read", ""), ("lines", []), ("with", ""), ("descriptor", b"")],
)
def test_a_child_finds_its_standard_input_empty(context, way, answer):
    queue = context.Queue()
    process = context.Process(target=read, args=(way, queue))
    process.start()
    assert queue.get(timeout=PATIENCE) == answer
    assert ended(process) == [0]


def test_a_worker_that_asks_for_input_gets_an_error_as_its_result():
    with mp.get_context("fork").Pool(1) as pool, pytest.raises(EOFError):
        pool.apply(input)


# --- names ------------------------------------------------------------------------------------------------------------

ODD = [os.fsdecode(b"job-\xff"), "job-\udc80\ud800", "n\0l", "\U0001f680" * 40, ""]


def tell_names(queue: Any) -> None:
    queue.put((mp.current_process().name, mp.parent_process().name))


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_a_process_may_have_any_name(context, name):
    queue = context.Queue()
    process = context.Process(target=tell_names, args=(queue,), name=name)
    process.start()
    assert queue.get(timeout=PATIENCE) == (name or process.name, mp.current_process().name)
    assert ended(process) == [0]
    repr(process)


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_whatever_has_a_name_may_have_any(name):
    with mp.get_context("fork").Manager() as manager:
        for obj in (mp.Lock(name=name), mp.Event(name=name), mp.Barrier(1, name=name), mp.Condition(name=name)):
            queue = mp.Queue()
            queue.put(obj)
            assert queue.get().name == name == obj.statistics().name
        shared = mp.SharedDict()
        shared[name] = name
        assert shared[name] == name
        managed = manager.dict({name: name})
        assert managed[name] == name


def rename(name: str) -> None:
    mp.current_process().name = name


@pytest.mark.parametrize("name", ODD[:3], ids=ascii)
def test_a_process_may_give_itself_any_name(context, name):
    process = context.Process(target=rename, args=(name,))
    process.start()
    assert ended(process) == [0]


def fail() -> None:
    raise ValueError("why")


@pytest.mark.parametrize("name", ODD[:2], ids=ascii)
@pytest.mark.start_methods("fork", "spawn")  # a fork server has its own standard error
def test_a_process_with_such_a_name_says_how_it_failed(start_method, name, capfd):
    process = mp.get_context(start_method).Process(target=fail, name=name)
    process.start()
    assert ended(process) == [1]
    assert "ValueError: why" in capfd.readouterr().err


# --- where a child looks for modules ----------------------------------------------------------------------------------

PROGRAM = """
    import sys
    sys.path.append({folder!r})
    import procession as mp
    from procession.shared_memory import SharedMemory

    def work(queue):
        queue.put(1)

    if __name__ == "__main__":
        for method in ("spawn", "forkserver"):
            context = mp.get_context(method)
            queue = context.Queue()
            process = context.Process(target=work, args=(queue,))
            process.start()
            process.join()
            print(method, process.exitcode, queue.get(timeout=PATIENCE))
        segment = SharedMemory(create=True, size=10)
        segment.close()
        segment.unlink()
        print("segment")
"""


def poisoned(folder: Path) -> Path:
    """Modules in it that have the names of the standard library's, and cannot be imported."""
    names = set(sys.stdlib_module_names)
    if sys.version_info >= (3, 13):
        names.remove("linecache")  # what Python itself imports for -c, before any code of ours runs
    for name in sorted(names):
        write(folder / f"{name}.py", "import os; os.write(2, __file__.encode()); os._exit(77)")
    return folder


def test_no_module_in_the_current_folder_stands_in_for_one_that_a_child_needs(tmp_path):
    folder = poisoned(tmp_path / "current")
    script = write(tmp_path / "script" / "main.py", PROGRAM.format(folder=str(Path(mp.__file__).parent.parent)))
    assert run(script, cwd=folder).well() == "spawn 0 1\nforkserver 0 1\nsegment\n"


def test_no_module_beside_the_package_stands_in_for_one_that_a_child_needs(tmp_path):
    folder = poisoned(tmp_path / "packages")
    (folder / "procession").symlink_to(Path(mp.__file__).parent)
    # -S: the environment's own folder of packages is not searched, so the package is found where it is to be found
    script = write(tmp_path / "script" / "main.py", PROGRAM.format(folder=str(folder)))
    assert run("-S", script).well() == "spawn 0 1\nforkserver 0 1\nsegment\n"


# --- how it ends ------------------------------------------------------------------------------------------------------

# code -> the status with which multiprocessing's children end, by fork or from its server, and by spawn
CODES = {
    0: (0, 0),
    256: (0, 0),
    257: (1, 1),
    -1: (255, 255),
    -300: (212, 212),
    2**31 - 1: (255, 255),
    2**31: (1, 0),
    2**32 + 3: (1, 3),
    2**63: (1, 255),
    2**64 + 5: (1, 255),
    10**30: (1, 255),
    -(10**30): (1, 255),
}


@pytest.mark.parametrize("code", CODES)
def test_an_exit_code_becomes_the_status_that_it_becomes_with_multiprocessing(start_method, code):
    process = mp.get_context(start_method).Process(target=sys.exit, args=(code,))
    process.start()
    assert ended(process) == [CODES[code][start_method == "spawn"]]


AUDITED = """
    import sys, procession as mp, time

    seen = []
    if __name__ == "__main__":
        sys.addaudithook(lambda event, what: seen.append((event, what)))
        context = mp.get_context({method!r})
        process = context.Process(target=time.sleep, args=(60,))
        process.start()
        started = [event for event, _ in seen if event in ("os.fork", "_posixsubprocess.fork_exec")]
        for way in (process.interrupt, process.terminate, process.kill):
            way()
        sent = [what[1] for event, what in seen if event == "os.kill" and what[0] == process.pid]
        process.join()
        process.kill()
        print(started, sent, len([event for event, _ in seen if event == "os.kill"]))
"""


@pytest.mark.parametrize(
    ("method", "event"),
    [("fork", "os.fork"), ("spawn", "_posixsubprocess.fork_exec"), ("forkserver", "_posixsubprocess.fork_exec")],
)
def test_an_audit_hook_sees_starts_and_signals(method, event, tmp_path):
    script = write(tmp_path / "program.py", AUDITED.format(method=method))
    assert run(script).well() == f"[{event!r}] [2, 15, 9] 3\n"


REFUSING = """
    import sys, procession as mp

    def refuse(event, what):
        if event in ("os.fork", "_posixsubprocess.fork_exec"):
            raise PermissionError("no more processes")

    if __name__ == "__main__":
        sys.addaudithook(refuse)
        for method in ("fork", "spawn", "forkserver"):
            process = mp.get_context(method).Process(target=print)
            try:
                process.start()
            except PermissionError as error:
                print(method, error, process)
"""


def test_an_audit_hook_can_refuse_a_start(tmp_path):
    script = write(tmp_path / "program.py", REFUSING)
    lines = run(script).well().splitlines()
    assert [line.partition(" <")[0] for line in lines] == [
        f"{method} no more processes" for method in ("fork", "spawn", "forkserver")
    ]
    assert all("initial" in line for line in lines)
