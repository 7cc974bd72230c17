"""Procession in the place of multiprocessing: the same names, and programs that do not know of it."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import zipfile

import pytest

import procession as mp
from programs import run, write

SHOW = """
import sys
print(__name__, __file__ if "__file__" in globals() else None, sys.argv, sys.path[0], __package__, sep="|")
print(sys.modules["__main__"].__dict__ is globals(), __spec__.name if __spec__ else None)
"""


# --- the names --------------------------------------------------------------------------------------------------------


def test_every_public_name_of_multiprocessing_is_there():
    assert set(multiprocessing.__all__) - set(mp.__all__) == set()
    for name in mp.__all__:
        assert hasattr(mp, name)
    for method in ("fork", "spawn", "forkserver"):
        context = mp.get_context(method)
        theirs = {name for name in dir(multiprocessing.get_context(method)) if not name.startswith("_")}
        assert theirs - set(dir(context)) == set()


def test_every_module_exports_what_it_says():
    from importlib import import_module
    from pathlib import Path

    for path in Path(mp.__file__).parent.glob("*.py"):
        if path.stem not in ("__init__", "__main__"):
            module = import_module(f"procession.{path.stem}")
            for name in module.__all__:
                assert hasattr(module, name), f"{path.stem}.{name}"


ARGUMENTS = {
    "Barrier": (2,),
    "Pool": (1,),
    "Value": ("i",),
    "Array": ("i", 2),
    "RawValue": ("i",),
    "RawArray": ("i", 2),
}


@pytest.mark.parametrize(
    "name",
    [
        "Array",
        "Barrier",
        "BoundedSemaphore",
        "Condition",
        "Event",
        "JoinableQueue",
        "Lock",
        "Manager",
        "Pipe",
        "Pool",
        "Queue",
        "RLock",
        "RawArray",
        "RawValue",
        "Semaphore",
        "SimpleQueue",
        "Value",
    ],
)
def test_every_object_of_multiprocessing_is_made_here(name):
    made = getattr(mp, name)(*ARGUMENTS.get(name, ()))
    for obj in made if name == "Pipe" else (made,):
        assert type(obj).__module__.startswith(("procession.", "ctypes"))
    if name == "Pool":
        made.terminate()


def test_functions_and_errors_are_where_multiprocessing_has_them():
    assert mp.cpu_count() >= 1
    assert mp.freeze_support() is None
    assert mp.get_logger().name == "multiprocessing"
    assert issubclass(mp.TimeoutError, mp.ProcessError)
    assert mp.TimeoutError is not TimeoutError
    assert mp.context.BaseContext.AuthenticationError is mp.AuthenticationError
    assert mp.reducer is mp.get_context("fork").reducer


def test_the_package_is_imported_without_much_else():
    code = (
        "import sys; before = set(sys.modules); import {}\n"
        "print(*sorted(m for m in set(sys.modules) - before if not m.startswith('procession')))\n"
        "import threading, os; print(threading.active_count(), len(os.listdir('/proc/self/fd')))\n"
    )

    def imported(names):
        source = f"import sys; sys.path[:0] = {sys.path!r}\n{code.format(names)}"
        modules, counts = run("-I", "-S", "-c", source).well().splitlines()
        return set(modules.split()), counts

    modules, counts = imported("procession")
    heavy = {"logging", "pickle", "select", "selectors", "signal", "socket", "struct", "subprocess", "tempfile"}
    assert not heavy & modules
    # what these import in turn is another thing in each Python
    small, _ = imported("__future__, _weakrefset, atexit, itertools, os, types")
    assert modules - small <= {"__mp_main__"}
    assert counts == "1 4"


# --- install() --------------------------------------------------------------------------------------------------------


def test_after_install_multiprocessing_means_procession():
    code = """
import sys
import procession
procession.install()
procession.install()
import multiprocessing
import multiprocessing.queues as q
from multiprocessing import context, synchronize
import multiprocessing.process
assert multiprocessing is procession is sys.modules["multiprocessing"]
assert q is procession.queues is sys.modules["multiprocessing.queues"] is sys.modules["procession.queues"]
assert q.__name__ == q.__spec__.name == "procession.queues"
assert context is procession.context and synchronize.Lock is procession.synchronize.Lock
from multiprocessing import Queue, Process, current_process
assert type(Queue()).__module__ == "procession.queues"
print(sum(type(finder).__name__ == "_Finder" for finder in sys.meta_path))
"""
    assert run("-c", code).well() == "1\n"


def test_install_also_takes_the_place_of_a_multiprocessing_that_was_imported_before():
    code = """
import multiprocessing, multiprocessing.queues, multiprocessing.pool
before = multiprocessing
import procession
procession.install()
import multiprocessing.queues
assert multiprocessing is procession is not before
assert multiprocessing.queues is procession.queues
import multiprocessing.pool
assert multiprocessing.pool is procession.pool
"""
    run("-c", code).well()


def test_a_module_that_nobody_has_is_not_found():
    code = "import procession; procession.install()\nimport multiprocessing.nonsense"
    assert "ModuleNotFoundError: No module named 'multiprocessing.nonsense'" in run("-c", code).err


def test_pickles_may_name_either_package():
    code = """
import pickle
import procession
lock = procession.Lock()
theirs = pickle.dumps(lock, 0).replace(b"procession.synchronize", b"multiprocessing.synchronize")
procession.install()
again = pickle.loads(theirs)
again.acquire()
print(type(again) is procession.synchronize.Lock, lock.locked(), b"procession.synchronize" in pickle.dumps(again))
"""
    assert run("-c", code).well() == "True True True\n"


def test_children_have_what_their_parent_has_installed(start_method, tmp_path):
    script = write(
        tmp_path / "program.py",
        """
        import sys
        if __name__ == "__main__":
            import procession
            procession.install()
        import multiprocessing
        from multiprocessing import Process, Queue

        def tell(q, depth):
            import multiprocessing.queues as queues
            q.put((multiprocessing.__name__, queues.__name__))
            if depth:
                child = Process(target=tell, args=(q, depth - 1))
                child.start()
                child.join()

        if __name__ == "__main__":
            multiprocessing.set_start_method(sys.argv[1])
            q = Queue()
            process = Process(target=tell, args=(q, 1))
            process.start()
            print(q.get(timeout=PATIENCE), q.get(timeout=PATIENCE))
            process.join()
        """,
    )
    line = ("procession", "procession.queues")
    assert run(script, start_method).well() == f"{line} {line}\n"


def test_without_install_multiprocessing_is_the_standard_librarys():
    code = (
        "import procession, multiprocessing; print(multiprocessing is procession, multiprocessing.Queue().__module__)"
    )
    assert run("-c", code).well() == "False multiprocessing.queues\n"


# --- python -m procession ---------------------------------------------------------------------------------------------


def both(*arguments, **options):
    """What Python makes of a command line, and what `python -m procession` makes of it."""
    return run(*arguments, **options), run("-m", "procession", *arguments, **options)


@pytest.mark.parametrize(
    "kind", ["script", "relative", "link", "folder", "zip file", "module", "package", "code", "stdin"]
)
def test_a_program_finds_everything_as_python_leaves_it(tmp_path, kind):
    script = write(tmp_path / "folder" / "__main__.py", SHOW)
    write(tmp_path / "folder" / "__init__.py", "")
    write(tmp_path / "folder" / "module.py", SHOW)
    (tmp_path / "link").symlink_to(script)
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as file:
        file.writestr("__main__.py", SHOW)
    arguments = {
        "script": [script],
        "relative": ["folder/../folder/module.py"],
        "link": ["link"],
        "folder": ["folder"],
        "zip file": ["program.zip"],
        "module": ["-m", "folder.module"],
        "package": ["-m", "folder"],
        "code": ["-c", SHOW],
        "stdin": ["-"],
    }[kind]
    theirs, ours = both(*arguments, "one", "-m", "two", cwd=tmp_path, stdin=SHOW if kind == "stdin" else "")
    assert ours.well() == theirs.well()
    assert ours.out.startswith("__main__|")


@pytest.mark.parametrize("option", ["-P", "-I"])
@pytest.mark.parametrize("kind", ["script", "folder", "code"])
def test_a_safe_path_stays_safe(tmp_path, option, kind):
    show = "import sys; print(sys.path)"
    write(tmp_path / "folder" / "__main__.py", show)
    arguments = {"script": ["folder/__main__.py"], "folder": ["folder"], "code": ["-c", show]}[kind]
    theirs = run(option, *arguments, cwd=tmp_path)
    ours = run(option, "-m", "procession", *arguments, cwd=tmp_path)
    assert ours.well() == theirs.well()


@pytest.mark.parametrize(
    "ending",
    ["pass", "raise SystemExit", "import sys; sys.exit(7)", "raise SystemExit('farewell')", "1 / 0", "def x(:\n  pass"],
)
def test_a_program_ends_as_it_would_and_shows_a_traceback_of_its_own(tmp_path, ending):
    script = write(tmp_path / "ends.py", f"def end():\n    exec({ending!r})\n\nend()\n")
    theirs, ours = both(script)
    assert ours == theirs


def test_a_program_with_a_syntax_error_shows_it(tmp_path):
    theirs, ours = both(write(tmp_path / "wrong.py", "print('never')\ndef x(:\n"))
    assert ours.code == theirs.code == 1
    assert ours.out == ""
    assert ours.err.endswith(theirs.err[theirs.err.index("  File") :])


def test_an_excepthook_of_the_program_is_respected(tmp_path):
    script = write(
        tmp_path / "hooks.py",
        """
        import sys, traceback
        def hook(kind, error, trace):
            print(kind.__name__, len(traceback.extract_tb(trace)), error.__traceback__ is trace)
        sys.excepthook = hook
        1 / 0
        """,
    )
    theirs, ours = both(script)
    assert ours == theirs
    assert ours.out == "ZeroDivisionError 1 True\n"


def test_ctrl_c_ends_a_program_by_the_signal(tmp_path):
    script = write(
        tmp_path / "interrupt.py", "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)"
    )
    theirs, ours = both(script)
    assert ours.code == theirs.code == -2
    assert ours.err == theirs.err


def test_a_program_that_does_not_exist_is_told_so(tmp_path):
    ours = run("-m", "procession", "missing.py", cwd=tmp_path)
    assert ours.code == 2
    assert "can't open file 'missing.py'" in ours.err
    ours = run("-m", "procession", "-m", "missing_module", cwd=tmp_path)
    assert ours.code == 1
    assert "No module named missing_module" in ours.err
    assert "Traceback" not in ours.err
    write(tmp_path / "empty" / "module.py", "")
    ours = run("-m", "procession", "empty", cwd=tmp_path)
    assert ours.code == 1
    assert "no __main__ module" in ours.err


def test_an_import_error_inside_the_program_is_not_taken_for_a_missing_program(tmp_path):
    write(tmp_path / "package" / "__init__.py", "import missing_module")
    write(tmp_path / "package" / "__main__.py", "")
    ours = run("-m", "procession", "-m", "package", cwd=tmp_path)
    assert ours.code == 1
    assert "No module named 'missing_module'" in ours.err
    assert "Traceback" in ours.err


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_printed(option):
    assert run("-m", "procession", option).well().startswith("usage: python -m procession")


def test_the_version_is_printed():
    assert run("-m", "procession", "--version").well() == f"procession {mp.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--nonsense"], ["-m"], ["-c"]])
def test_a_command_line_that_says_nothing_is_refused(arguments):
    outcome = run("-m", "procession", *arguments)
    assert outcome.code == 2
    assert "usage: python -m procession" in outcome.out + outcome.err


def test_processes_of_an_unaware_program_are_ours(start_method, tmp_path):
    script = write(
        tmp_path / "unaware.py",
        """
        import sys
        import multiprocessing
        from multiprocessing import Process, Queue, set_start_method

        def work(q):
            q.put((multiprocessing.__name__, __name__))

        if __name__ == "__main__":
            set_start_method(sys.argv[1])
            q = Queue()
            process = Process(target=work, args=(q,))
            process.start()
            print(*q.get(timeout=PATIENCE))
            process.join()
        """,
    )
    name = "__main__" if start_method == "fork" else "__mp_main__"
    assert run("-m", "procession", script, start_method).well() == f"procession {name}\n"


def test_the_pickled_forms_of_our_objects_name_our_modules():
    for thing in (mp.Lock(), mp.Queue(), mp.SimpleQueue()):
        assert b"procession." in pickle.dumps(thing)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert type(pickle.loads(pickle.dumps(thing, protocol))) is type(thing)
