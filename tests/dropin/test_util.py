"""Finalizers, logging and the small services that other packages take from multiprocessing.util."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import warnings

import pytest

import procession as mp
from deadlines import until
from procession import util
from programs import run, write


class Thing:
    pass


# --- finalizers -------------------------------------------------------------------------------------------------------


def test_a_finalizer_runs_once_when_its_object_is_collected_or_it_is_called():
    called: list[str] = []
    first, second = Thing(), Thing()
    util.Finalize(first, called.append, ["collected"])
    finalizer = util.Finalize(second, called.append, ["called"])
    assert finalizer.still_active()
    assert "append" in repr(finalizer)
    del first
    gc.collect()
    assert finalizer() is None
    assert finalizer() is None
    del second
    gc.collect()
    assert called == ["collected", "called"]
    assert not finalizer.still_active()
    assert repr(finalizer) == "<Finalize object, dead>"


def test_a_cancelled_finalizer_does_not_run():
    called: list[int] = []
    thing = Thing()
    finalizer = util.Finalize(thing, called.append, [1], exitpriority=5)
    finalizer.cancel()
    finalizer.cancel()
    del thing
    gc.collect()
    assert finalizer() is None
    assert called == []


def test_a_finalizer_returns_what_its_callback_returns():
    assert util.Finalize(None, lambda a, b: a + b, (1,), {"b": 2}, exitpriority=0)() == 3


def test_a_finalizer_that_would_never_run_is_refused():
    with pytest.raises(ValueError, match="exitpriority"):
        util.Finalize(None, print)
    with pytest.raises(TypeError, match=r"(?i)exitpriority"):
        util.Finalize(None, print, exitpriority="late")  # type: ignore[arg-type]


def test_finalizers_run_at_exit_by_priority_and_then_the_youngest_first():
    code = """
from procession.util import Finalize
class Thing: pass
kept = Thing()
Finalize(kept, print, ("not at exit",))
for name, priority in (("a", 0), ("b", 10), ("c", -5), ("d", 10), ("e", 0)):
    Finalize(None, print, (name,), exitpriority=priority)
Finalize(None, lambda: 1 / 0, exitpriority=7)
del kept.__class__
"""
    code = code.replace("del kept.__class__\n", "import os, atexit; atexit.register(os._exit, 0) if False else None\n")
    outcome = run("-c", code)
    assert outcome.out.split("\n")[:5] == ["d", "b", "e", "a", "c"]
    assert outcome.err.count("ZeroDivisionError") == 1


def test_a_finalizer_of_the_parent_does_not_run_in_a_forked_child():
    finalizer = util.Finalize(None, os._exit, (9,), exitpriority=0)
    try:
        pid = os.fork()
        if pid == 0:
            finalizer()
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    finally:
        finalizer.cancel()


# --- logging ----------------------------------------------------------------------------------------------------------


def test_the_log_names_the_process_and_goes_on_in_children(start_method, tmp_path):
    script = write(
        tmp_path / "logs.py",
        """
        import logging, sys
        import procession as mp

        def work():
            mp.get_logger().warning("from the child")

        if __name__ == "__main__":
            mp.log_to_stderr(logging.WARNING)
            process = mp.get_context(sys.argv[1]).Process(target=work, name="worker")
            process.start()
            process.join()
            mp.get_logger().warning("from the parent")
            mp.get_logger().debug("not to be seen")
        """,
    )
    outcome = run(script, start_method)
    assert outcome.err == "[WARNING/worker] from the child\n[WARNING/MainProcess] from the parent\n"


def test_what_the_package_logs_names_the_caller(tmp_path):
    script = write(
        tmp_path / "says.py",
        """
        import logging, sys
        from procession import util
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(filename)s %(levelno)s %(message)s"))
        util.info("nobody listens")
        assert util._logger is None
        util.get_logger().addHandler(handler)
        util.get_logger().setLevel(1)
        util.sub_debug("a"), util.debug("b"), util.info("c %s", 1), util.sub_warning("d")
        handler.setLevel(100)
        """,
    )
    assert run(script).well() == "says.py 5 a\nsays.py 10 b\nsays.py 20 c 1\nsays.py 25 d\n"


# --- what follows a fork ----------------------------------------------------------------------------------------------


def test_a_fork_aware_lock_is_free_in_a_forked_child_whoever_held_it():
    context = mp.get_context("fork")
    lock = util.ForkAwareThreadLock()
    with lock:
        process = context.Process(target=take, args=(lock,))
        process.start()
        process.join()
    assert process.exitcode == 0


def take(lock):
    if not lock.acquire(False):
        os._exit(1)


def test_fork_aware_thread_local_data_is_empty_in_a_forked_child():
    local = util.ForkAwareLocal()
    local.word = "mine"
    process = mp.get_context("fork").Process(target=lambda: os._exit(hasattr(local, "word")))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert local.word == "mine"


# --- odds and ends ----------------------------------------------------------------------------------------------------


def test_a_program_is_started_with_the_descriptors_that_it_was_given():
    reader, writer = os.pipe()
    code = f"import os; os.write({writer}, b'here'); os.fstat({reader})"
    with warnings.catch_warnings(action="error") if sys.version_info >= (3, 11) else warnings.catch_warnings():
        pid = util.spawnv_passfds(sys.executable, [sys.executable, "-c", code], [writer])
        error = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        gc.collect()
    assert error == 1  # the other descriptor was not given to it
    assert os.read(reader, 10) == b"here"
    os.close(reader)
    os.close(writer)


def test_all_descriptors_but_some_can_be_closed():
    code = (
        "import os; from procession import util\n"
        "kept, lost = os.dup(1), os.dup(1)\n"
        "util.close_all_fds_except([1, 2, kept])\n"
        "os.write(kept, b'kept')\n"
        "try: os.fstat(lost)\n"
        "except OSError: os.write(1, b' closed')\n"
        "os._exit(0)\n"
    )
    assert run("-c", code).well() == "kept closed"


@pytest.mark.parametrize(
    "options",
    [[], ["-O"], ["-OO", "-B"], ["-I"], ["-E", "-s"], ["-P"], ["-bb"], ["-X", "dev"], ["-Werror", "-X", "utf8=0"]],
)
def test_the_options_for_a_child_give_it_the_flags_of_its_parent(options):
    code = (
        "import sys, subprocess\n"
        "show = 'import sys; print(sys.flags, sys.warnoptions, sys._xoptions)'\n"
        f"sys.path[:0] = {[path for path in sys.path if path]!r}\n"
        "from procession._process.interpreter_flags import interpreter_options\n"
        "exec(show)\n"
        "sys.stdout.flush()\n"
        "subprocess.run([sys.executable, *interpreter_options(), '-c', show])\n"
    )
    mine, childs = run(*options, "-c", code).well().splitlines()
    assert childs == mine


def test_the_temporary_folder_goes_with_the_program():
    code = "from procession import util; d = util.get_temp_dir(); assert d == util.get_temp_dir(); print(d)"
    folder = run("-c", code).well().strip()
    assert os.path.basename(folder).startswith("pymp-")
    assert not os.path.exists(folder)


def test_abstract_addresses_are_told_from_files():
    assert util.abstract_sockets_supported
    for address in ("\0name", b"\0name"):
        assert util.is_abstract_socket_namespace(address)
    for address in ("", None, "/tmp/name", b"/tmp/name"):
        assert not util.is_abstract_socket_namespace(address)
    with pytest.raises(TypeError):
        util.is_abstract_socket_namespace(5)  # type: ignore[arg-type]


def test_an_unhurried_thread_does_not_keep_finalizers_from_being_registered():
    """Registering and running at the same time, as the garbage collector of another thread does."""
    errors = []

    def register():
        # So many and no more: where the other thread falls behind, there would be ever more for it to run.
        try:
            for _ in range(50):
                things = [Thing() for _ in range(20)]
                for thing in things:
                    thing.me = thing
                    util.Finalize(thing, int, exitpriority=1)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=register)
    kept = dict(util._finalizer_registry)
    util._finalizer_registry.clear()
    thread.start()
    try:
        while thread.is_alive():
            util._run_finalizers(0)
            gc.collect()
    finally:
        thread.join()
        util._run_finalizers()
        util._finalizer_registry.update(kept)
    assert errors == []


@pytest.mark.parametrize("name", ["a worker's name", "two\nlines and a # sign", "\u00fc\x00", "long " * 1000])
def test_ps_shows_what_a_spawned_child_is_and_its_name(name):
    context = mp.get_context("spawn")
    event = context.Event()
    process = context.Process(target=event.wait, args=(20,), name=name)
    process.start()

    def words_of_it() -> list[bytes]:
        with open(f"/proc/{process.pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")[1:]  # empty until the interpreter is loaded

    words = until(words_of_it)
    event.set()
    process.join()
    assert process.exitcode == 0
    assert words[-2] == b"--multiprocessing-fork"
    assert b"from multiprocessing.spawn import spawn_main" in words[-3]
    assert ascii(name[:60]).encode() in words[-3]


def test_what_newer_pythons_have_is_there_on_all():
    assert util.WARNING == 30
    util.warn("goes nowhere, as long as there is no logger")
    context = mp.context.DefaultContext()
    assert context.get_start_method() == mp.context.DefaultContext(None).get_start_method()
    for kind in (mp.Lock, mp.RLock, mp.Semaphore, mp.BoundedSemaphore):
        lock = kind()
        before = lock.locked()
        with lock:
            assert (before, lock.locked()) == (False, True)
        assert isinstance(lock, mp.synchronize.SemLock)
        assert not lock.locked()


def test_the_command_line_of_a_child_says_what_it_is():
    from procession import spawn

    line = [os.fsdecode(word) for word in spawn.get_command_line(slot=1, generation=2)]
    assert line[0] == sys.executable
    assert line[-1] == "--multiprocessing-fork"
    assert "spawn_main(slot=1, generation=2)" in line[-2]
    assert spawn.is_forking(["program", "--multiprocessing-fork"])
    assert not spawn.is_forking(["program"])
    compile(line[-2], "<string>", "exec")
    assert subprocess.list2cmdline(line)
