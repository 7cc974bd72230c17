"""Without the extension: which objects a program gets, what raises an error, and when there is a warning."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from programs import run, write

ROOT = Path(__file__).resolve().parents[2]
SAME = (
    "connection",
    "dummy",
    "dummy.connection",
    "forkserver",
    "heap",
    "managers",
    "popen_fork",
    "popen_forkserver",
    "popen_spawn_posix",
    "queues",
    "resource_sharer",
    "resource_tracker",
    "shared_memory",
    "sharedctypes",
    "spawn",
    "synchronize",
    "util",
)


def plainly(code: str, **environment: str) -> str:
    """What a program prints that does not use the extension."""
    return run("-c", code, PROCESSION_FALLBACK="1", **environment).well()


def test_with_the_extension_nothing_of_plain_python_is_imported():
    code = """if True:
        import sys, procession
        procession.Queue(), procession.Lock(), procession.Event()
        loaded = [name for name in sys.modules if "_plain" in name or name.partition(".")[0] == "multiprocessing"]
        print(procession.native, loaded)
    """
    assert run("-c", code).well() == "True []\n"


@pytest.mark.parametrize("name", SAME)
def test_a_module_is_that_of_multiprocessing(name):
    code = f"""if True:
        import sys, importlib
        import procession
        ours = importlib.import_module("procession.{name}")
        theirs = importlib.import_module("multiprocessing.{name}")
        print(ours is theirs, theirs.__spec__.name, theirs.__name__, procession.{name} is theirs)
    """
    full = f"multiprocessing.{name}"
    assert plainly(code) == f"True {full} {full} True\n"


def test_modules_with_additions_have_all_names_of_multiprocessing():
    code = """if True:
        import importlib
        for name in "context", "process", "reduction":
            theirs = importlib.import_module(f"multiprocessing.{name}")
            ours = importlib.import_module(f"procession.{name}")
            missing = [one for one in vars(theirs) if not one.startswith("__") and not hasattr(ours, one)]
            print(name, missing)
        import procession, multiprocessing
        print(issubclass(procession.Process, multiprocessing.Process), procession.TimeoutError is
              multiprocessing.TimeoutError, issubclass(procession.WorkerDiedError, multiprocessing.ProcessError))
        print(isinstance(procession.get_context("spawn"), multiprocessing.context.SpawnContext))
    """
    assert plainly(code) == "context []\nprocess []\nreduction []\nTrue True True\nTrue\n"


def test_every_public_name_can_be_imported():
    code = """if True:
        import procession
        from procession import *
        print(procession.native, [name for name in procession.__all__ if not hasattr(procession, name)])
        import procession.futures, procession.pool, procession.rust, procession.torch, procession.joblib
        from procession.rust import Program, to_bytes
        from procession.joblib import register
        print(procession.__version__ != "", SharedDict.__name__, procession.inspect.__name__)
    """
    assert plainly(code) == "False []\nTrue SharedDict procession.inspect\n"


@pytest.mark.parametrize(
    ("use", "told"),
    [
        ("mp.SharedDict()", "procession.SharedDict needs procession's extension"),
        ("mp.ndarray((2,))", "use numpy arrays in procession.shared_memory.SharedMemory"),
        ("mp.inspect(1)", "use py-spy"),
        ("mp.set_stall_report(1)", "set_stall_report needs"),
        ("mp.cluster('tls://host:8786')", "use distributed.Client"),
        ("mp.get_context('dask')", "use distributed.Client"),
        ("mp.Lock(robust=True)", "robust=True needs"),
        ("mp.Queue(maxbytes='1MB')", "use maxsize="),
        ("mp.Pool(1, worker_memory_limit='1GB')", "worker_memory_limit= needs"),
        ("mp.Process().exception", "use Process.exitcode"),
        ("importlib.import_module('procession.rust').to_bytes(1)", "procession.rust.to_bytes needs"),
        ("importlib.import_module('procession.torch').enable()", "use torch.multiprocessing"),
        ("importlib.import_module('procession.joblib').register()", "loky"),
    ],
)
def test_what_needs_the_extension_says_so_and_what_to_use(use, told):
    code = f"""if True:
        import importlib
        import procession as mp
        try:
            {use}
        except NotImplementedError as error:
            print(error)
    """
    printed = plainly(code)
    assert told in printed and "PROCESSION_FALLBACK is 1" in printed and printed.count("\n") == 1


def test_what_has_no_effect_is_accepted():
    code = """if True:
        import procession as mp
        mp.set_forkserver_spares(3)
        mp.install()
        import multiprocessing
        array = [1, 2]
        print(mp.move(array) is array, multiprocessing is mp, mp.Lock(name="a"), mp.RLock(robust=False) is None)
        queue = mp.Queue(3, name="tasks", maxbytes=0)
        queue.put("a")
        print(queue.get(), mp.Value("i", 3, name="v").value, mp.Event(name="e").is_set(), mp.Array("i", 2, name="x")[:])
        for one in mp.Semaphore(2, name="s"), mp.Condition(name="c"), mp.Barrier(1, name="b"), mp.SimpleQueue(name="q"):
            print(type(one).__module__)
    """
    printed = plainly(code).replace("\n", " ")
    assert printed.startswith("True False <Lock(owner=None)> False a 3 False [0, 0] multiprocessing.synchronize ")


def test_the_start_method_is_that_of_multiprocessing():
    code = """if True:
        import procession as mp, multiprocessing
        mp.set_start_method("spawn")
        print(multiprocessing.get_start_method(), mp.get_context().Process.__name__, mp.get_all_start_methods()[0] ==
              multiprocessing.get_all_start_methods()[0])
        try:
            mp.set_start_method("fork")
        except RuntimeError as error:
            print("context has already been set" in str(error))
        try:
            mp.get_context("no")
        except ValueError as error:
            print(error)
    """
    assert plainly(code) == "spawn SpawnProcess True\nTrue\ncannot find context for 'no'\n"


# --- when it is so ----------------------------------------------------------------------------------------------------

WORKS = """
import sys
import procession as mp

def square(n):
    return n * n

if __name__ == "__main__":
    with mp.Pool(2) as pool:
        print(mp.native, mp.get_start_method(), pool.map(square, range(4)))
"""


def on(tmp_path: Path, text: str) -> dict[str, str]:
    """An environment in which each Python runs `text` before all else."""
    write(tmp_path / "site" / "sitecustomize.py", text)
    return {"PYTHONPATH": str(tmp_path / "site"), "PROCESSION_FALLBACK": ""}


@pytest.mark.parametrize("platform", ["darwin", "freebsd14"])
def test_another_system_needs_no_setting_and_gets_no_warning(platform, tmp_path):
    # the standard library asks for the platform as well: on macOS the start method is "spawn"
    environment = on(tmp_path, f"import sys, subprocess, tempfile; sys.platform = {platform!r}")
    method = "spawn" if platform == "darwin" else "forkserver" if sys.version_info >= (3, 14) else "fork"
    program = write(tmp_path / "works.py", WORKS)
    assert run(program, **environment).well() == f"False {method} [0, 1, 4, 9]\n"


def test_on_windows_the_names_of_unix_are_missing(tmp_path):
    # only here: its children find Linux
    code = """
import sys, multiprocessing, multiprocessing.connection, multiprocessing.util, subprocess, tempfile, threading, logging
import multiprocessing.context as context, multiprocessing.popen_spawn_posix, multiprocessing.reduction
import concurrent.futures, importlib.metadata, runpy
context._concrete_contexts = {"spawn": context.SpawnContext()}
context._default_context = context.DefaultContext(context._concrete_contexts["spawn"])
sys.platform = "win32"
import procession as mp
print(mp.native, mp.get_start_method(), hasattr(mp.context, "ForkContext"), "win32" in mp._plain.reason)
for use in (lambda: mp.Process(output="forward"), lambda: mp.Pool(1, output="forward")):
    try:
        use()
    except NotImplementedError as error:
        print(str(error).partition(" ")[0])
"""
    printed = run("-c", code, PROCESSION_FALLBACK="").well()
    assert printed.splitlines()[1:] == ["output=", "output="]
    assert printed.startswith("False spawn ")


def test_an_old_kernel_warns_once_and_works(tmp_path):
    text = """
        import os
        known = os.uname()
        os.uname = lambda: os.uname_result((known[0], known[1], "4.18.0-553.el8.x86_64", known[3], known[4]))
    """
    program = write(tmp_path / "works.py", WORKS.replace("mp.Pool(2)", "mp.get_context('spawn').Pool(2)"))
    outcome = run(program, **on(tmp_path, text))
    assert outcome.code == 0 and outcome.out.endswith("[0, 1, 4, 9]\n"), outcome
    assert outcome.err.count("RuntimeWarning: procession works without its extension") == 1, outcome.err
    assert "the kernel is 4.18.0-553.el8.x86_64, and it needs Linux 5.11 or later" in outcome.err
    assert f"{program}:3: " in outcome.err
    # and says nothing if the user has said so
    assert run(program, **{**on(tmp_path, text), "PROCESSION_FALLBACK": "1"}).well()
    # or is used all the same
    asked = {**on(tmp_path, text), "PROCESSION_FALLBACK": "0"}
    assert run("-c", "import procession; print(procession.native)", **asked).well() == "True\n"


def test_an_installation_without_the_extension_warns_and_works(tmp_path):
    shutil.copytree(
        ROOT / "python" / "procession", tmp_path / "procession", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    program = write(tmp_path / "works.py", WORKS)
    outcome = run(program, PROCESSION_FALLBACK="")
    assert outcome.code == 0 and outcome.out.startswith("False "), outcome
    assert outcome.err.count("there is no wheel for this Python or this processor") == 1
    outcome = run(program, PROCESSION_FALLBACK="0")
    assert outcome.code == 1 and "ModuleNotFoundError" in outcome.err


# --- the wheel --------------------------------------------------------------------------------------------------------


def test_the_wheel_without_the_extension_has_all_of_it_and_can_be_used(tmp_path):
    tool = ROOT / "tools" / "build_plain_wheel.py"
    printed = run(tool, "--out", tmp_path / "wheels").well()
    (wheel,) = (tmp_path / "wheels").iterdir()
    assert wheel.name.endswith("-py3-none-any.whl") and printed.startswith(wheel.name)
    first = wheel.read_bytes()
    run(tool, "--out", tmp_path / "wheels").well()
    assert wheel.read_bytes() == first
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    assert not [name for name in names if name.endswith((".so", ".pyc"))]
    modules = {path.relative_to(ROOT / "python").as_posix() for path in (ROOT / "python").rglob("procession/**/*.py")}
    assert modules <= set(names)
    code = "import procession as mp; print(mp.native, mp.__version__, mp.__file__)"
    version = wheel.name.split("-")[1]
    where = tmp_path / "installed" / "procession" / "__init__.py"
    installed = {"PYTHONPATH": str(tmp_path / "installed"), "PROCESSION_FALLBACK": "1"}
    assert run("-c", code, **installed).well() == f"False {version} {where}\n"
    assert run("-m", "procession", "--version", **installed).well() == f"procession {version}\n"
    told = run("-m", "procession.inspect", "ps", **installed)
    assert told.code == 1 and told.err.startswith("procession: this command needs procession's extension"), told
