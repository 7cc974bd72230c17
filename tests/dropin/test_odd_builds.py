"""Odd Pythons: with several interpreters in one process, or built without some of what Linux has."""

from __future__ import annotations

import os

import pytest

from programs import run, write

PROGRAM = """
import os, sys, procession as mp
from procession import shared_memory
from multiprocessing.connection import wait

def child(queue, value, mapping):
    value.value += 1
    mapping["alive"] = mp.parent_process().is_alive()
    queue.put("child")

def square(number):
    return number * number

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        context = mp.get_context(method)
        queue, value = context.Queue(), context.Value("i", 1)
        with context.Manager() as manager:
            mapping = manager.dict()
            process = context.Process(target=child, args=(queue, value, mapping))
            process.start()
            said = queue.get(timeout=PATIENCE)
            ended = wait([process.sentinel], PATIENCE) == [process.sentinel]
            process.join()
            print(method, said, value.value, mapping["alive"], ended, process.exitcode)
    segment = shared_memory.SharedMemory(create=True, size=10000)
    segment.buf[9999] = 1
    segment.close()
    segment.unlink()
    with mp.Pool(2) as pool:
        print(pool.map(square, range(4)), mp.cpu_count() > 0)
    print([name for name in sys.argv[1:] if hasattr(os, name)])
"""

MISSING = [
    ["pidfd_open", "P_PIDFD"],
    ["memfd_create", "MFD_CLOEXEC"],
    ["posix_spawn", "posix_spawnp", "POSIX_SPAWN_DUP2"],
    ["eventfd", "eventfd_read", "eventfd_write"],
    ["process_cpu_count", "sched_getaffinity", "sched_setaffinity"],
    ["posix_fallocate", "posix_fadvise"],
    ["waitid", "wait3", "wait4"],
    ["pipe2", "preadv", "pwritev", "splice", "sendfile", "copy_file_range", "getrandom"],
]


@pytest.mark.parametrize("missing", MISSING, ids=lambda names: names[0])
def test_a_python_without_some_of_what_linux_has_runs_everything(tmp_path, missing):
    remove = f"import os\nfor name in {missing!r}: vars(os).pop(name, None)\n"
    (tmp_path / "sitecustomize.py").write_text(remove)
    program = write(tmp_path / "program.py", PROGRAM)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    lines = run(program, *missing, PYTHONPATH=path).well().splitlines()
    expected = [f"{method} child 2 True True 0" for method in ("fork", "spawn", "forkserver")]
    assert lines == [*expected, "[0, 1, 4, 9] True", "[]"]


def test_a_second_interpreter_in_the_process_is_refused_in_plain_words():
    code = """if True:
    import sys, procession
    try:
        import _interpreters as interpreters
        other = interpreters.create("legacy")
    except ImportError:
        import _xxsubinterpreters as interpreters
        other = interpreters.create(isolated=False)
    interpreters.run_string(other, '''if True:
        try:
            import procession
        except ImportError as error:
            print(error)
        ''')
    print(procession.Lock().acquire(timeout=1))
    """
    refused, works = run("-c", code).well().splitlines()
    assert refused.startswith("procession is in use by another interpreter of this process")
    assert works == "True"
