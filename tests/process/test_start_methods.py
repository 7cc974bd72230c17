"""Start methods: choosing one, and what each of them owes to a child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, ended, open_descriptors, running, scaled, state, until
from programs import run, write


def server() -> Any:
    """This process's fork server, as the client sees it."""
    from procession import forkserver

    return forkserver._forkserver


# --- what the child processes do --------------------------------------------------------------------------------------


def nothing():
    pass


def tell_parent(log):
    log.put(os.getppid())


def wait_for(gate, log):
    gate.get()
    log.put(os.getpid())


def have_a_child(context, log):
    with running(context, (tell_parent, log)) as [process]:
        ended(process)


def tell_server(log):
    log.put(server()._forkserver_pid)


# --- choosing ---------------------------------------------------------------------------------------------------------


def test_a_context_and_its_process_are_named_after_the_method(start_method):
    context = mp.get_context(start_method)
    assert context.get_start_method() == start_method
    assert context.get_context() is context
    assert type(context).__name__.lower().startswith(start_method)
    assert context.Process.__name__.lower().startswith(start_method)
    for method in ("spawn", None):
        with pytest.raises(ValueError, match="cannot set start method"):
            context.set_start_method(method)


def test_an_unknown_method_is_an_error():
    with pytest.raises(ValueError, match="'teleport'"):
        mp.get_context("teleport")


def test_the_methods_and_their_default_are_those_of_multiprocessing():
    ask = "print(mp.get_all_start_methods(), mp.get_start_method(allow_none=True), mp.get_start_method())"
    ours = run("-c", f"import procession as mp; {ask}").well()
    assert ours == run("-c", f"import multiprocessing as mp; {ask}").well()


def test_the_start_method_is_settled_once(tmp_path):
    script = write(
        tmp_path / "settle.py",
        """
        import procession as mp

        def refused(method):
            try:
                mp.set_start_method(method)
            except RuntimeError:
                return True

        mp.get_context("spawn").Lock()
        mp.get_context("spawn").get_start_method()
        print(mp.get_start_method(allow_none=True))
        mp.set_start_method("spawn")
        print(mp.get_start_method(), refused("fork"), type(mp.get_context()).__name__)
        mp.set_start_method("fork", force=True)
        print(mp.get_start_method(), refused("fork"))
        mp.set_start_method(None, force=True)
        print(mp.get_start_method(allow_none=True))
        mp.Lock()
        print(refused("spawn"))
        """,
    )
    assert run(script).well().splitlines() == ["None", "spawn True SpawnContext", "fork True", "None", "True"]


def test_starting_a_process_of_a_context_does_not_settle_the_method(start_method, tmp_path):
    script = write(
        tmp_path / "start.py",
        """
        import sys
        import procession as mp

        def tell():
            print(mp.get_start_method(), flush=True)

        if __name__ == "__main__":
            mp.freeze_support()
            process = mp.get_context(sys.argv[1]).Process(target=tell)
            process.start()
            process.join()
            print(mp.get_start_method(allow_none=True))
        """,
    )
    assert run(script, start_method).well() == f"{start_method}\nNone\n"


def test_contexts_mix(start_method):
    log = mp.get_context("fork").Queue()
    for made in ("fork", "spawn", "forkserver"):
        lock = mp.get_context(made).Lock()
        with running(mp.get_context(start_method), (take_and_tell, lock, log)) as [process]:
            assert log.get(timeout=PATIENCE) == "taken"
            assert ended(process) == [0]


def take_and_tell(lock, log):
    with lock:
        log.put("taken")


# --- the main module --------------------------------------------------------------------------------------------------

MAIN = """
import os
import sys
import procession as mp

if __name__ not in ("__main__", "__mp_main__"):
    raise RuntimeError("imported under a name of its own: " + __name__)
if __name__ == "__mp_main__":
    with open(os.environ["NOTE"], "a") as file:
        file.write(f"{os.getpid()}\\n")

class Thing:
    def __init__(self, word):
        self.word = word

def tell(thing, q):
    q.put((type(thing) is Thing, thing.word, __name__, sys.argv[1:], sys.modules["__main__"].tell is tell))

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    q = context.Queue()
    for n in range(2):
        process = context.Process(target=tell, args=(Thing("of the main module"), q))
        process.start()
        print(q.get(timeout=PATIENCE))
        process.join()
"""


def main_arguments(kind: str, folder: Path) -> list[str | Path]:
    """How to run MAIN, written to folder, as a script or a module."""
    if kind == "script":
        return [write(folder / "script.py", MAIN)]
    if kind == "script without suffix":
        return [write(folder / "script", MAIN)]
    if kind == "script in another folder":
        write(folder / "elsewhere" / "script.py", MAIN)
        return [Path("elsewhere", "script.py")]
    if kind == "compiled":
        import py_compile

        py_compile.compile(str(write(folder / "source.py", MAIN)), cfile=str(folder / "script.pyc"))
        return [folder / "script.pyc"]
    write(folder / "package" / "__init__.py", "")
    write(folder / "package" / "module.py", "from . import __name__ as package\nassert package == 'package'\n" + MAIN)
    return ["-m", "package.module"]


@pytest.mark.parametrize("launcher", [[], ["-m", "procession"]])
@pytest.mark.parametrize(
    "kind", ["script", "script without suffix", "script in another folder", "compiled", "module in a package"]
)
def test_what_the_main_module_defines_is_found_in_its_children(start_method, tmp_path, kind, launcher):
    note = tmp_path / "note"
    note.touch()
    arguments = main_arguments(kind, tmp_path)
    outcome = run(*launcher, *arguments, start_method, "word", cwd=tmp_path, NOTE=str(note))
    name = "__main__" if start_method == "fork" else "__mp_main__"
    told = (True, "of the main module", name, [start_method, "word"], True)
    assert outcome.well() == f"{told}\n" * 2
    # under "forkserver" the server alone has imported it
    imports = {"fork": 0, "spawn": 2, "forkserver": 1}
    assert len(note.read_text().splitlines()) == imports[start_method]


@pytest.mark.parametrize("launcher", [["script.py"], ["-m", "script"], ["-m", "package.module"]])
def test_a_spawned_child_imports_next_to_nothing(tmp_path, launcher):
    source = """
import sys
import procession as mp

def tell(before):
    print(*sorted(set(sys.modules) - set(before.split())))

if __name__ == "__main__":
    process = mp.get_context("spawn").Process(target=tell, args=(sys.argv[1],))
    process.start()
    process.join()
"""
    write(tmp_path / "script.py", source)
    write(tmp_path / "package" / "__init__.py", "")
    write(tmp_path / "package" / "module.py", source)
    bare = run("-c", "import sys; print(*sys.modules)", cwd=tmp_path).well()
    imported = set(run(*launcher, bare, cwd=tmp_path).well().split())
    others = {name for name in imported if name.partition(".")[0] not in ("procession", "package", "__mp_main__")}
    assert others <= {
        "__future__",
        "_signal",
        "_weakref",
        "_weakrefset",
        "atexit",
        "gc",
        "itertools",
        "marshal",
        "types",
        "weakref",
    }


def test_the_first_start_of_a_program_imports_no_pickle(start_method, tmp_path):
    source = """
import sys
import procession as mp

if __name__ == "__main__":
    process = mp.get_context(sys.argv[1]).Process(target=print, args=("here",))
    process.start()
    process.join()
    print({"pickle", "_pickle", "signal", "re"} & set(sys.modules))
"""
    outcome = run(write(tmp_path / "script.py", source), start_method, cwd=tmp_path)
    assert outcome.well() == "here\nset()\n"


def test_queues_import_neither_threads_nor_collections(tmp_path):
    source = """
import sys
from procession.queues import Empty, Queue
print(sorted({"collections", "queue", "threading"} & set(sys.modules)))
queue = Queue(1)
try:
    queue.get(False)
except Empty:
    queue.put(1)
print(sorted({"collections", "queue", "threading"} & set(sys.modules)))
from procession.queues import Full, ShutDown
import queue as standard
print(Empty is standard.Empty, Full is standard.Full, getattr(standard, "ShutDown", ShutDown) is ShutDown)
"""
    assert run("-c", source, cwd=tmp_path).well() == "[]\n[]\nTrue True True\n"


def test_what_a_shell_starts_in_the_background_and_so_ignores_ctrl_c_has_children_that_do_too(start_method, tmp_path):
    source = """
import signal
import sys
import procession as mp

def tell(_=None):
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN

def put(queue):
    queue.put(tell())

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    queue = context.SimpleQueue()
    for _ in range(3):
        process = context.Process(target=put, args=(queue,))
        process.start()
        process.join()
        print(queue.get(), process.exitcode)
    with context.Pool(2) as pool, context.Manager() as manager:
        print(pool.apply(abs, (-1,)), manager.list([1])[0])
"""
    script = write(tmp_path / "script.py", source)
    command = [sys.executable, str(script), start_method]
    ignoring = f"import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv({command[0]!r}, {command!r})"
    assert run("-c", ignoring).well() == "True 0\n" * 3 + "1 1\n"


def test_a_spawned_childs_collector_passes_over_the_interpreter_and_not_over_the_program(tmp_path):
    source = """
import gc
import weakref
import procession as mp

class Circle:
    pass

circle = Circle()
circle.itself = circle

def tell():
    global circle
    gone = weakref.ref(circle)
    print(gc.isenabled(), gc.get_freeze_count() > 1000, any(each is circle for each in gc.get_objects()))
    circle = None
    gc.collect()
    print(gone() is None)

if __name__ == "__main__":
    process = mp.get_context("spawn").Process(target=tell)
    process.start()
    process.join()
"""
    write(tmp_path / "script.py", source)
    assert run("script.py", cwd=tmp_path).well() == "True True True\nTrue\n"


@pytest.mark.parametrize("launcher", [[], ["-m", "procession"]])
@pytest.mark.parametrize("kind", ["folder", "zip file", "package"])
def test_a_main_module_that_is_made_to_be_run_is_not_imported_in_children(start_method, tmp_path, kind, launcher):
    source = """
import sys
import procession as mp
if __name__ != "__main__":
    raise RuntimeError("it was imported")
context = mp.get_context(sys.argv[1])
q = context.Queue()
process = context.Process(target=q.put, args=("done",))
process.start()
print(q.get(timeout=PATIENCE))
process.join()
"""
    if kind == "zip file":
        arguments: list[str | Path] = [tmp_path / "program.zip"]
        with zipfile.ZipFile(tmp_path / "program.zip", "w") as file:
            file.writestr("__main__.py", scaled(source))
    else:
        write(tmp_path / "program" / "__init__.py", "")
        write(tmp_path / "program" / "__main__.py", source)
        arguments = [tmp_path / "program"] if kind == "folder" else ["-m", "program"]
    assert run(*launcher, *arguments, start_method, cwd=tmp_path).well() == "done\n"


@pytest.mark.start_methods("spawn", "forkserver")
def test_a_main_module_that_starts_processes_when_imported_is_told_so(tmp_path, start_method):
    script = write(
        tmp_path / "bomb.py",
        """
        import sys
        import procession as mp

        def never():
            print("never")

        process = mp.get_context(sys.argv[1]).Process(target=never)
        process.start()
        process.join()
        sys.exit(process.exitcode)
        """,
    )
    outcome = run(script, start_method)
    assert outcome.code == 1
    assert outcome.out == ""
    assert "RuntimeError" in outcome.err
    assert "before the current process has finished its bootstrapping phase" in outcome.err


# --- what a child is given --------------------------------------------------------------------------------------------


def test_a_child_has_the_folders_flags_and_arguments_of_its_parent(start_method, tmp_path):
    write(tmp_path / "extra" / "only_there.py", "word = 'found'")
    script = write(
        tmp_path / "main" / "parent.py",
        """
        import os, sys, warnings
        import procession as mp

        def tell(q):
            import only_there
            q.put((only_there.word, sys.path, sys.argv, os.getcwd(), tuple(sys.flags), sys.warnoptions, sys._xoptions))

        if __name__ == "__main__":
            sys.path.insert(0, os.path.abspath(sys.argv.pop()))
            sys.argv.append("changed")
            os.chdir("/")
            context = mp.get_context(sys.argv[1])
            q = context.Queue()
            process = context.Process(target=tell, args=(q,))
            process.start()
            told = q.get(timeout=PATIENCE)
            process.join()
            mine = ("found", sys.path, sys.argv, "/", tuple(sys.flags), sys.warnoptions, sys._xoptions)
            print(told == mine or (told, mine))
        """,
    )
    options = ["-O", "-B", "-s", "-bb", "-Wignore::ImportWarning", "-X", "utf8", "-X", "dev"]
    assert run(*options, script, start_method, tmp_path / "extra", cwd=tmp_path).well() == "True\n"


@pytest.mark.parametrize("option", ["-I", "-S", "-E", "-P"])
def test_children_find_the_package_where_the_parent_found_it(start_method, tmp_path, option):
    (tmp_path / "only_here").mkdir()
    (tmp_path / "only_here" / "procession").symlink_to(Path(mp.__file__).parent)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'only_here')!r}); import procession as mp\n"
        f"context = mp.get_context({start_method!r}); q = context.Queue()\n"
        "process = context.Process(target=q.put, args=(mp.__file__,)); process.start()\n"
        "print(q.get(timeout=PATIENCE)); process.join()\n"
    )
    assert run(option, "-c", code).well().startswith(str(tmp_path / "only_here"))


def test_children_find_modules_in_a_zip_file_that_was_put_on_the_path(start_method, tmp_path):
    with zipfile.ZipFile(tmp_path / "modules.zip", "w") as file:
        file.writestr("zipped.py", "def tell(q):\n    q.put(__file__)\n")
    code = (
        "import sys; sys.path.append('modules.zip'); import procession as mp, zipped\n"
        f"context = mp.get_context({start_method!r}); q = context.Queue()\n"
        "process = context.Process(target=zipped.tell, args=(q,)); process.start()\n"
        "print(q.get(timeout=PATIENCE)); process.join()\n"
    )
    assert run("-c", code, cwd=tmp_path).well().endswith("modules.zip/zipped.py\n")


# What a program that was made into an executable sees: sys.frozen, and itself as sys.executable. Nuitka's, which leaves
# the interpreter where it is, has itself there from the import of `multiprocessing` on.
MADE = {
    "packaged": "sys.frozen, sys.executable = True, {frozen!r}",
    "compiled": "import types; __compiled__ = types.SimpleNamespace(standalone=False, process_exe={frozen!r})\n"
    "sys.executable = {frozen!r}",
    "compiled, seen late": "import types, procession.spawn\n"
    "__compiled__ = types.SimpleNamespace(standalone=False, process_exe={frozen!r})\n"
    "if sys.argv[1:2] != ['--procession-child']: procession.spawn.set_executable({frozen!r})",
}


@pytest.mark.parametrize("made", MADE)
@pytest.mark.start_methods("spawn", "forkserver")
def test_a_frozen_program_is_its_children_too(tmp_path, start_method, made):
    frozen = tmp_path / "frozen"
    program = write(
        tmp_path / "program.py",
        f"""
        import os, sys
        exec({MADE[made].format(frozen=str(frozen))!r})
        import procession as mp

        def tell(q):
            q.put((os.environ["STARTED"], sys.argv, mp.current_process().name))

        if __name__ == "__main__":
            mp.freeze_support()
            context = mp.get_context({start_method!r})
            q = context.Queue()
            for _ in range(2):
                process = context.Process(target=tell, args=(q,), name="a child")
                process.start()
                print(*q.get(timeout=PATIENCE))
                process.join()
            assert process.exitcode == 0
        """,
    )
    write(frozen, f'#!/bin/sh\nSTARTED=frozen exec {sys.executable} {program} "$@"\n').chmod(0o700)
    arguments = [str(program), "an argument"]
    assert run(program, "an argument", STARTED="plainly").well() == f"frozen {arguments} a child\n" * 2


FROZEN = """
import os, sys
{made}
import multiprocessing.spawn, signal
import procession as mp
from concurrent.futures import ProcessPoolExecutor
from procession import resource_tracker, shared_memory
"""


def frozen(folder: Path, text: str, made: str = "packaged") -> Path:
    """A program that sees what one sees that was made into an executable."""
    executable = folder / "frozen"
    beginning = FROZEN.format(made=MADE[made].format(frozen=str(executable)))
    program = write(folder / "program.py", beginning + textwrap.dedent(text))
    log = folder / "started"
    script = f"""
        #!/bin/sh
        # whatever goes wrong, it does not start itself without end
        echo >> {log}; [ $(wc -l < {log}) -lt 20 ] || exit 99
        # as packagers have it, for the standard library's tracker: that is code and no program
        case "$*" in *-c\\ from\\ multi*) exec {sys.executable} "$@" ;; esac
        exec {sys.executable} {program} "$@"
        """
    write(executable, script.lstrip("\n")).chmod(0o700)
    return program


@pytest.mark.parametrize("made", MADE)
def test_what_a_killed_frozen_program_leaves_is_removed(tmp_path, made):
    text = """
        if __name__ == "__main__":
            mp.freeze_support()
            segment = shared_memory.SharedMemory(create=True, size=100)
            print(segment.name, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    outcome = run(frozen(tmp_path, text, made))
    assert (outcome.code, outcome.err) == (-9, "")
    segment = Path("/dev/shm", outcome.out.strip())
    until(lambda: not segment.exists())


# (on Linux the standard library's own `multiprocessing.freeze_support` does nothing; packagers replace it by this one)
@pytest.mark.parametrize("order", ["mp, multiprocessing.spawn", "multiprocessing.spawn, mp"])
def test_frozen_children_of_ours_and_of_the_standard_library_are_told_apart(tmp_path, order):
    text = f"""
        if __name__ == "__main__":
            for package in ({order}):
                package.freeze_support()
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
                print(executor.submit(abs, -1).result())
            for method in ("spawn", "forkserver"):
                with mp.get_context(method).Pool(1) as pool:
                    print(pool.apply(abs, (-2,)))
        """
    assert run(frozen(tmp_path, text)).well() == "1\n2\n2\n"


@pytest.mark.parametrize("made", MADE)
@pytest.mark.start_methods("spawn", "forkserver")
def test_a_frozen_program_that_forgets_its_children_does_not_start_itself_without_end(tmp_path, start_method, made):
    text = f"""
        if __name__ == "__main__":
            process = mp.get_context({start_method!r}).Process(target=abs, args=(1,))
            process.start()
            process.join()
        """
    outcome = run(frozen(tmp_path, text, made))
    assert outcome.err.count("must call procession.freeze_support()") == 1


def test_what_makes_executables_finds_every_module_of_the_package():
    from modulefinder import ModuleFinder

    root = Path(mp.__file__).parent
    finder = ModuleFinder(path=[str(root.parent), *sys.path], excludes=["joblib", "torch"])
    finder.import_hook("procession")
    # A program imports these by name. Found from the package, they would bring their libraries into every executable.
    for name in ("joblib", "torch"):
        finder.import_hook(f"procession.{name}")
    files = (path.relative_to(root.parent).with_suffix("") for path in root.rglob("*.py"))
    names = {".".join(path.parts).removesuffix(".__init__") for path in files}
    apart = {name for name in names if "_pyinstaller" in name or name.endswith("__main__")}
    assert names - apart <= set(finder.modules)


@pytest.mark.start_methods("spawn", "forkserver")
@pytest.mark.parametrize("kind", ["str", "bytes", "path"])
def test_children_run_the_interpreter_that_was_set(tmp_path, start_method, kind):
    wrapper = write(tmp_path / "wrapper", f'#!/bin/sh\ntouch {tmp_path}/used\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o700)
    executable = {"str": repr(str(wrapper)), "bytes": repr(os.fsencode(wrapper)), "path": f"Path({str(wrapper)!r})"}
    code = (
        "import procession as mp; from pathlib import Path\n"
        f"context = mp.get_context({start_method!r}); context.set_executable({executable[kind]})\n"
        "process = context.Process(target=print, args=('child',)); process.start(); process.join()\n"
    )
    assert run("-c", code).well() == "child\n"
    assert (tmp_path / "used").exists()


@pytest.mark.start_methods("spawn", "forkserver")
@pytest.mark.parametrize("executable", ["/nowhere/python", None])
def test_without_an_interpreter_start_raises_and_leaves_nothing(start_method, executable):
    code = (
        f"import os, procession as mp; context = mp.get_context({start_method!r})\n"
        f"context.set_executable({executable!r})\n"
        "process = context.Process(target=print)\n"
        "for _ in range(2):\n"
        "    try: process.start()\n"
        "    except (OSError, RuntimeError) as error: print(process.pid, mp.active_children())\n"
    )
    assert run("-c", code).well() == "None []\n" * 2


@pytest.mark.start_methods("spawn", "forkserver")
def test_objects_of_the_standard_library_can_be_handed_to_our_children(tmp_path, start_method):
    script = write(
        tmp_path / "both.py",
        """
        import multiprocessing
        import sys
        import procession

        def answer(lock, connection, q):
            with lock:
                connection.send("through the standard library's pipe")
                q.put("through our queue")

        if __name__ == "__main__":
            assert multiprocessing is not procession
            lock = multiprocessing.get_context("spawn").Lock()
            ours, theirs = multiprocessing.Pipe()
            context = procession.get_context(sys.argv[1])
            q = context.Queue()
            process = context.Process(target=answer, args=(lock, theirs, q))
            process.start()
            print(ours.recv(), q.get(timeout=PATIENCE), sep="; ")
            process.join()
        """,
    )
    assert run(script, start_method).out == "through the standard library's pipe; through our queue\n"


# --- the fork server --------------------------------------------------------------------------------------------------


@pytest.fixture
def forkserver() -> Any:
    return mp.get_context("forkserver")


def test_children_come_from_the_server_one_after_the_other(forkserver):
    log = forkserver.Queue()
    with running(forkserver, *[(tell_parent, log)] * 3) as processes:
        assert {log.get(timeout=PATIENCE) for _ in processes} == {server()._forkserver_pid}
        assert ended(*processes) == [0] * 3


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_was_killed_is_replaced_and_its_children_live_on(forkserver, sent):
    gate, log = forkserver.Queue(), forkserver.Queue()
    with running(forkserver, (wait_for, gate, log)) as [before]:
        first = server()._forkserver_pid
        os.kill(first, sent)
        until(lambda: state(first) in "XZ")
        with running(forkserver, (tell_parent, log)) as [after]:
            second = log.get(timeout=PATIENCE)
            assert second not in (first, os.getpid())
            assert ended(after) == [0]
        gate.put("go on")
        assert log.get(timeout=PATIENCE) == before.pid
        # nobody could wait for it, so what it said before it ended is all there is to know
        assert ended(before)[0] in (0, 255)


def test_ctrl_c_does_not_end_the_server(forkserver):
    with running(forkserver, (nothing,)) as [process]:
        assert ended(process) == [0]
    first = server()._forkserver_pid
    os.kill(first, signal.SIGINT)
    log = forkserver.Queue()
    with running(forkserver, (tell_parent, log)) as [process]:
        assert log.get(timeout=PATIENCE) == first
        assert ended(process) == [0]


def test_a_child_of_the_server_and_a_forked_child_use_the_same_server(forkserver):
    log = forkserver.Queue()
    for context in (forkserver, mp.get_context("fork")):
        with running(context, (have_a_child, forkserver, log)) as [process]:
            assert log.get(timeout=PATIENCE) == server()._forkserver_pid
            assert ended(process) == [0]


def test_a_spawned_child_has_a_server_of_its_own(forkserver):
    log = forkserver.Queue()
    server().ensure_running()
    with running(mp.get_context("spawn"), (have_a_child, forkserver, log)) as [process]:
        assert log.get(timeout=PATIENCE) not in (server()._forkserver_pid, os.getpid())
        assert ended(process) == [0]


def test_the_server_can_be_stopped_and_comes_back(forkserver):
    server().ensure_running()
    first = server()._forkserver_pid
    server()._stop()
    assert state(first) == "X"
    assert server()._forkserver_pid is None
    server()._stop()
    with running(forkserver, (nothing,)) as [process]:
        assert ended(process) == [0]
    assert server()._forkserver_pid not in (first, None)


def test_the_server_ends_when_the_program_does(tmp_path):
    script = write(
        tmp_path / "program.py",
        """
        import procession as mp
        from procession.forkserver import _forkserver
        if __name__ == "__main__":
            process = mp.get_context("forkserver").Process(target=print)
            process.start()
            process.join()
            print(_forkserver._forkserver_pid)
        """,
    )
    pid = int(run(script).well().split()[-1])
    until(lambda: state(pid) in "XZ")


def test_the_server_imports_what_it_is_told_to_and_prints_it_once(tmp_path):
    write(tmp_path / "preloaded.py", "import os\nprint('preloaded', end=' ')\npid = os.getpid()\n")
    script = write(
        tmp_path / "program.py",
        """
        import os, sys
        import procession as mp

        def tell():
            loaded = sys.modules["preloaded"].pid
            print(loaded == os.getppid(), end=" ")

        if __name__ == "__main__":
            mp.set_forkserver_preload(["preloaded"])
            for _ in range(2):
                process = mp.get_context("forkserver").Process(target=tell)
                process.start()
                process.join()
        """,
    )
    assert run(script).well() == "preloaded True True "


@pytest.mark.parametrize("on_error", ["ignore", "warn", "fail"])
def test_a_preload_that_fails_has_the_consequence_that_was_asked_for(on_error):
    code = (
        "import procession as mp\n"
        f"mp.set_forkserver_preload(['missing_module'], on_error={on_error!r})\n"
        "process = mp.get_context('forkserver').Process(target=print, args=('child',))\n"
        "try:\n"
        "    process.start(); process.join()\n"
        "except ConnectionError as error:\n"
        "    print(*error.__notes__, type(error.__cause__).__name__, process.pid)\n"
    )
    outcome = run("-W", "always::ImportWarning", "-c", code)
    assert outcome.code == 0
    if on_error == "fail":
        assert outcome.out.startswith("Forkserver process may have crashed")
        assert outcome.out.endswith(" ModuleNotFoundError None\n")
        assert outcome.err.count("ModuleNotFoundError: No module named 'missing_module'") == 1
    else:
        assert outcome.out == "child\n"
        assert ("ImportWarning: Failed to preload module 'missing_module'" in outcome.err) == (on_error == "warn")
        if on_error == "ignore":
            assert outcome.err == ""


def test_what_to_preload_is_checked():
    with pytest.raises(TypeError, match="module_names must be a list of strings"):
        mp.set_forkserver_preload([1, 2])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="on_error must be 'ignore', 'warn', or 'fail'"):
        mp.set_forkserver_preload(["os"], on_error="shout")


def test_the_server_holds_no_descriptors_of_children_that_have_ended(forkserver):
    def once():
        with running(forkserver, *[(nothing,)] * 3) as processes:
            assert ended(*processes) == [0] * 3

    once()
    pid = server()._forkserver_pid
    before = open_descriptors(pid)
    for _ in range(3):
        once()
    until(lambda: open_descriptors(pid) <= before)


def test_too_many_descriptors_are_refused_before_anything_starts(forkserver):
    with pytest.raises(ValueError, match="300 descriptors"):
        server().connect_to_new_process(None, range(300))


def test_a_program_under_every_method_leaves_no_zombie(start_method, tmp_path):
    script = write(
        tmp_path / "program.py",
        """
        import os, sys
        import procession as mp

        def nothing():
            pass

        if __name__ == "__main__":
            context = mp.get_context(sys.argv[1])
            processes = [context.Process(target=nothing) for _ in range(5)]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            zombies = 0
            for entry in os.listdir("/proc"):
                try:
                    if entry.isdigit():
                        state, ppid = open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()[:2]
                        zombies += state == "Z" and int(ppid) == os.getpid()
                except OSError:
                    pass
            print(zombies)
        """,
    )
    assert run("-W", "ignore", script, start_method).well() == "0\n"


def test_two_programs_do_not_meet(tmp_path):
    """Each has a family and a server of its own."""
    code = (
        "import procession as mp, sys\n"
        "q = mp.Queue(); q.put('mine')\n"
        "print('ready', flush=True); sys.stdin.readline(); print(q.get(timeout=PATIENCE), q.empty())\n"
    )
    programs = [
        subprocess.Popen([sys.executable, "-c", scaled(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for program in programs:
        assert program.stdout
        assert program.stdout.readline() == "ready\n"
    assert [program.communicate("go\n", timeout=PATIENCE)[0] for program in programs] == ["mine True\n"] * 2
