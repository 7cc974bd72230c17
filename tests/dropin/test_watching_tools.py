"""Debuggers, tracers and measuring tools, which replace some of Python's functions to learn of child processes."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from programs import run, write

# what tools do to be told of every program that is started
TOOLS = {
    "spawnv_passfds": """
        from procession import util as place
        name = "spawnv_passfds"
        """,
    "the standard library's spawnv_passfds": """
        import multiprocessing.util as place
        name = "spawnv_passfds"
        """,
    "fork_exec": """
        import _posixsubprocess as place
        name = "fork_exec"
        """,
    "posix_spawn": """
        import os as place
        name = "posix_spawn"
        """,
}
WATCHING = """
before = getattr(place, name)
seen = []
def watching(*args, **kwargs):
    command = next(arg for arg in args if isinstance(arg, list) and len(arg) > 1)
    seen.append(next(word for word in ("forkserver", "spawn_main", "other") if word in str(command) or word == "other"))
    return before(*args, **kwargs)
setattr(place, name, watching)
"""
PROGRAM = """
import os, signal, sys, procession as mp
from procession import forkserver
import tool

def child(connection, queue):
    connection.send(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    queue.put(sorted(int(fd) > 2 for fd in os.listdir("/proc/self/fd"))[:1])

def square(number):
    return number * number

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    reader, writer = context.Pipe(duplex=False)
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(writer, queue), daemon=True)
    process.start()
    print(reader.recv(), queue.get())
    process.join()
    with context.Pool(2) as pool:
        print(pool.map(square, range(4)))
    server = forkserver._forkserver._forkserver_pid
    if server is not None:
        with open(f"/proc/{server}/task/{server}/children") as file:
            alive = [pid for pid in file.read().split() if "Z" not in open(f"/proc/{pid}/stat").read()]
        print("spares:", len(alive))
    print(process.exitcode, tool.seen)
"""


def tool_in(folder: Path, name: str) -> None:
    write(folder / "tool.py", textwrap.dedent(TOOLS[name]) + WATCHING)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_replaces_what_starts_programs_is_told_of_our_starts(tmp_path, start_method, tool):
    tool_in(tmp_path, tool)
    program = write(tmp_path / "program.py", PROGRAM)
    lines = run(program, start_method).well().splitlines()
    expected = ["False [False]", "[0, 1, 4, 9]"]
    seen = {"fork": [], "spawn": ["spawn_main"] * 3, "forkserver": ["forkserver"]}[start_method]
    if start_method == "forkserver":
        expected.append("spares: 0")  # a tool would take one for a child that does nothing
    assert lines == [*expected, f"0 {seen}"]


@pytest.mark.start_methods("spawn", "forkserver")
def test_a_tool_may_hand_descriptors_of_its_own_to_each_child(tmp_path, start_method):
    write(
        tmp_path / "tool.py",
        """
        import os
        from procession import util
        reader, writer = os.pipe()
        before = util.spawnv_passfds
        util.spawnv_passfds = lambda path, args, fds: before(path, args, [*fds, writer])
        """,
    )
    program = write(
        tmp_path / "program.py",
        f"""
        import os, procession as mp

        def child(fd, connection):
            os.write(fd, b"from the child")
            connection.send("as well")

        if __name__ == "__main__":
            import tool
            context = mp.get_context({start_method!r})
            ours, theirs = context.Pipe()
            process = context.Process(target=child, args=(tool.writer, theirs))
            process.start()
            print(os.read(tool.reader, 20).decode(), ours.recv())
            process.join()
        """,
    )
    assert run(program).well() == "from the child as well\n"


# (the standard library's own function says nothing of a program that cannot be started)
@pytest.mark.parametrize("tool", ["spawnv_passfds", "fork_exec", "posix_spawn"])
def test_a_start_that_fails_under_a_tool_is_an_error_and_leaves_no_child(tmp_path, tool):
    tool_in(tmp_path, tool)
    code = """if True:
    import os, procession as mp
    import tool
    mp.set_executable("/no/such/python")
    for method in ("spawn", "forkserver"):
        try:
            mp.get_context(method).Process(target=print).start()
        except FileNotFoundError as error:
            print(error.errno, error.filename)
    try: os.waitpid(-1, 0)
    except ChildProcessError: print("no child")
    """
    out = run("-c", code, cwd=tmp_path).well()
    assert out.replace("b'", "").replace("'", "") == "2 /no/such/python\n" * 2 + "no child\n"


@pytest.mark.start_methods("spawn", "forkserver")
def test_a_tracer_that_runs_a_child_by_a_module_of_its_own_finds_the_alias_there(tmp_path, start_method):
    # as `python -m tracer -c CODE`: it imports multiprocessing before the child's own code comes to run
    write(
        tmp_path / "tracer.py",
        """
        import sys
        import multiprocessing.util

        print(multiprocessing.__name__, flush=True)
        before = multiprocessing.util.spawnv_passfds

        def spawnv_passfds(path, args, fds):
            place = args.index("-c")
            return before(path, [*args[:place], "-m", "tracer", *args[place:]], fds)

        multiprocessing.util.spawnv_passfds = spawnv_passfds

        if __name__ == "__main__":
            code, sys.argv = sys.argv[2], ["-c", *sys.argv[3:]]
            exec(compile(code, "<string>", "exec"))
        """,
    )
    program = write(
        tmp_path / "program.py",
        f"""
        import multiprocessing

        def child():
            print("child", flush=True)

        if __name__ == "__main__":
            import tracer
            process = multiprocessing.get_context({start_method!r}).Process(target=child)
            process.start()
            process.join()
            print(process.exitcode)
        """,
    )
    out = run("-m", "procession", program, PYTHONPATH=str(tmp_path)).well()
    assert out == "procession\nprocession\nchild\n0\n"


@pytest.mark.start_methods("spawn", "forkserver")
def test_what_a_tool_puts_into_the_start_message_finds_the_alias(tmp_path, start_method):
    write(
        tmp_path / "stowaway.py",
        """
        class Stowaway:
            def __setstate__(self, state):
                import multiprocessing.process
                print(multiprocessing.__name__, multiprocessing.process.BaseProcess.__module__, flush=True)

            def __getstate__(self):
                return {"some": "state"}
        """,
    )
    program = write(
        tmp_path / "program.py",
        f"""
        import multiprocessing

        def child():
            print("child", flush=True)

        if __name__ == "__main__":
            import stowaway
            from multiprocessing import spawn

            before = spawn.get_preparation_data
            spawn.get_preparation_data = lambda name: dict(before(name), stowaway=stowaway.Stowaway())
            process = multiprocessing.get_context({start_method!r}).Process(target=child)
            process.start()
            process.join()
        """,
    )
    out = run("-m", "procession", program, PYTHONPATH=str(tmp_path)).well()
    assert out == "procession procession.process\nchild\n"
