"""How processes end: what their parent learns, what ends with them, and that nothing is left of them."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import warnings

import pytest

import procession as mp
from deadlines import PATIENCE, ended, running, state, until
from procession._start import exit_report
from programs import run, write

# --- what the child processes do --------------------------------------------------------------------------------------


class Odd(Exception):
    def __init__(self, a, b):
        super().__init__("odd")


class Unpicklable(Exception):
    def __init__(self):
        super().__init__("with a lock", threading.Lock())


def raise_it(error):
    raise error


def raise_odd():
    raise Odd(1, 2)


def raise_unpicklable():
    raise Unpicklable


def deep():
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError("second") from error


def leave(code):
    sys.exit(code)


def leave_at_once(code):
    os._exit(code)


def send_to_self(number):
    os.kill(os.getpid(), number)
    time.sleep(PATIENCE)


def ignore_sigterm(log):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log.put("ready")
    time.sleep(60)


def sleep():
    time.sleep(60)


def have_children(context, log, depth, daemon=None):
    if depth:
        child = context.Process(target=have_children, args=(context, log, depth - 1, False), daemon=daemon)
        child.start()
    log.put(os.getpid())
    time.sleep(60)


def nothing():
    pass


def pass_on(log, item):
    log.put(item)


# --- what ended it ----------------------------------------------------------------------------------------------------


def outcome(context, function, *arguments):
    with running(context, (function, *arguments)) as [process]:
        ended(process)
        return process, process.exception


def test_the_exception_that_ended_a_process_comes_home_with_its_traceback(context, capfd, monkeypatch):
    # a changed environment asks for a new fork server, whose children print where this test looks
    monkeypatch.setenv("WHO_LOOKS", "capfd")
    process, error = outcome(context, raise_it, ZeroDivisionError("by zero"))
    assert (type(error), error.args, process.exitcode) == (ZeroDivisionError, ("by zero",), 1)
    assert isinstance(error.__cause__, exit_report.RemoteTraceback)
    assert "in raise_it" in str(error.__cause__)
    assert process.exception is error
    assert "ZeroDivisionError: by zero" in capfd.readouterr().err  # as it always was
    process, error = outcome(context, deep)
    assert "KeyError: 'first'" in str(error.__cause__)


def test_an_exception_that_cannot_be_sent_is_told_in_words(context):
    _, error = outcome(context, raise_unpicklable)
    assert isinstance(error, mp.ProcessDiedError)
    assert "ended with Unpicklable: ('with a lock'" in str(error)
    assert "in raise_unpicklable" in str(error.__cause__)
    _, error = outcome(context, raise_odd)
    assert "ended with Odd: odd (it cannot be unpickled" in str(error)


def test_a_process_that_ended_well_or_runs_has_no_exception(context):
    process, error = outcome(context, nothing)
    assert error is None
    assert outcome(context, leave, 0)[1] is None
    with running(context, (sleep,)) as [running_one]:
        assert running_one.exception is None
    assert context.Process(target=nothing).exception is None
    process.close()
    with pytest.raises(ValueError, match="closed"):
        process.exception  # noqa: B018


@pytest.mark.parametrize(
    ("function", "argument", "words"),
    [
        (leave, 3, "ended with exit code 3"),
        (leave, "a last word", "ended with exit code 1"),
        (leave_at_once, 4, "ended with exit code 4"),
        (send_to_self, signal.SIGKILL, "was killed by SIGKILL"),
        (send_to_self, signal.SIGTERM, "was killed by SIGTERM"),
        (send_to_self, signal.SIGRTMIN + 3, f"was killed by signal {signal.SIGRTMIN + 3}"),
    ],
)
def test_how_a_process_ended_can_be_read(context, function, argument, words):
    process, error = outcome(context, function, argument)
    assert isinstance(error, mp.ProcessDiedError)
    assert str(error) == f"{process.name} (pid {process.pid}) {words}"
    assert (error.pid, error.name, error.exitcode) == (process.pid, process.name, process.exitcode)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.exitcode) == (str(error), error.exitcode)


def test_a_kill_for_want_of_memory_is_told_by_the_count_of_the_control_group(context, monkeypatch):
    counts = iter([5, 6, 6])
    monkeypatch.setattr(exit_report._core, "oom_kills", lambda: next(counts))
    monkeypatch.setattr(exit_report, "_counts", False)
    with running(context, (sleep,), (sleep,), (sleep,)) as [first, second, third]:
        third.kill()  # by us, so nobody asks
        assert ended(third) == [-signal.SIGKILL]
        for process in (first, second):
            os.kill(process.pid, signal.SIGKILL)
            assert ended(process) == [-signal.SIGKILL]
    assert str(first.exception).endswith("was killed by SIGKILL: out of memory")
    assert str(second.exception).endswith("was killed by SIGKILL")
    assert str(third.exception).endswith("was killed by SIGKILL")


def test_what_a_child_cannot_unpickle_comes_home_too(start_method):
    if start_method == "fork":
        pytest.skip("nothing is pickled")
    code = f"""if True:
    import procession as mp, sys, types
    module = types.ModuleType("nowhere")
    exec("def f(): pass", module.__dict__)
    sys.modules["nowhere"] = module
    process = mp.get_context({start_method!r}).Process(target=module.f)
    process.start()
    process.join()
    print(type(process.exception).__name__, process.exception, process.exitcode)
    """
    assert run("-c", code).out == "ModuleNotFoundError No module named 'nowhere' 1\n"


# --- ending it --------------------------------------------------------------------------------------------------------


def test_terminate_with_a_grace_period_ends_a_process_in_any_case(context):
    log = context.Queue()
    with running(context, (ignore_sigterm, log), (sleep,)) as [stubborn, obedient]:
        assert log.get(timeout=PATIENCE) == "ready"
        stubborn.terminate(grace=0.1)
        assert stubborn.exitcode == -signal.SIGKILL
        obedient.terminate(grace=PATIENCE)
        assert obedient.exitcode == -signal.SIGTERM
        obedient.terminate(grace=0)  # has ended already


@pytest.mark.parametrize("end", ["terminate", "kill"])
@pytest.mark.parametrize("daemon", [None, False])
def test_children_of_a_daemonic_process_end_with_it_and_so_do_theirs(context, end, daemon):
    log = context.Queue()
    process = context.Process(target=have_children, args=(context, log, 2, daemon), daemon=True)
    process.start()
    pids = [log.get(timeout=PATIENCE) for _ in range(3)]
    getattr(process, end)()
    ended(process)
    until(lambda: all(state(pid) in "XZ" for pid in pids))


def test_a_daemonic_process_that_ends_by_itself_ends_its_children(context):
    log = context.Queue()
    process = context.Process(target=start_and_return, args=(context, log), daemon=True)
    process.start()
    pid = log.get(timeout=PATIENCE)
    assert ended(process) == [0]
    until(lambda: state(pid) in "XZ")


def start_and_return(context, log):
    child = context.Process(target=sleep)
    child.start()
    log.put(child.pid)


# --- exit codes although others wait as well --------------------------------------------------------------------------

WAITERS = """
import os, signal, sys, threading, time
import procession as mp

def nothing(gate): pass
def fail(gate): sys.exit(7)
def die(gate): gate.wait(); os.kill(os.getpid(), 15); time.sleep(20)

def wait_for_any():
    while True:
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pass
        time.sleep(0.001)

def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass

if __name__ == "__main__":
    method, way = sys.argv[1:]
    context = mp.get_context(method)
    if way == "handler":
        signal.signal(signal.SIGCHLD, reap)
    elif way == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    else:
        threading.Thread(target=wait_for_any, daemon=True).start()
    for target, expected in ((nothing, 0), (fail, 7), (die, -15)) * 4:
        gate = context.Event()
        process = context.Process(target=target, args=(gate,))
        process.start()
        gate.set()
        process.join()
        # on older kernels a signal's number is lost to whoever waited, unless the fork server did
        kernel_tells = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15)
        allowed = (expected,) if expected >= 0 or method == "forkserver" or kernel_tells else (expected, 255)
        assert process.exitcode in allowed, (process.exitcode, expected)
        assert not process.is_alive()
    print("well")
"""


@pytest.mark.parametrize("way", ["handler", "ignored", "thread"])
def test_exit_codes_are_right_although_the_program_waits_for_children_itself(start_method, tmp_path, way):
    script = write(tmp_path / "waits.py", WAITERS)
    assert run(script, start_method, way).out == "well\n"


# --- many -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "count"), [("fork", 300), ("forkserver", 300), ("spawn", 15)])
def test_many_at_once(method, count, tmp_path):
    script = write(
        tmp_path / "many.py",
        """
        import sys
        import procession as mp
        def wait_at(gate, log, n):
            gate.wait()
            log.put(n)
        if __name__ == "__main__":
            context, count = mp.get_context(sys.argv[1]), int(sys.argv[2])
            gate, log = context.Event(), context.SimpleQueue()
            processes = [context.Process(target=wait_at, args=(gate, log, n)) for n in range(count)]
            for process in processes:
                process.start()
            assert len(mp.active_children()) == count
            gate.set()
            assert sorted(log.get() for _ in processes) == list(range(count))
            for process in processes:
                process.join()
            assert [process.exitcode for process in processes] == [0] * count
            print("well")
        """,
    )
    assert run(script, method, str(count)).well() == "well\n"


def test_one_after_the_other_for_long_needs_no_more_memory_or_descriptors(start_method, tmp_path):
    script = write(
        tmp_path / "long.py",
        """
        import gc, os, sys
        import procession as mp
        def f(): pass
        def fail(): sys.exit(1)
        def crash(): raise ValueError
        def measure():
            gc.collect()
            with open("/proc/self/statm") as file:
                pages = int(file.read().split()[1])
            return pages, len(os.listdir("/proc/self/fd")), os.fstat(memory).st_blocks

        if __name__ == "__main__":
            sys.stderr = None
            context = mp.get_context(sys.argv[1])
            memory = mp._core.family_fd()
            def some(count):
                for n in range(count):
                    process = context.Process(target=(f, fail, crash)[n % 3])
                    process.start()
                    process.join()
                    process.exception
            count = int(sys.argv[2])
            some(count)
            before = measure()
            some(2 * count)
            after = measure()
            assert after[0] - before[0] < 500, (before, after)
            assert after[1:] == before[1:], (before, after)
            from procession.process import _children, _dangling
            assert not _children
            print("well")
        """,
    )
    assert run(script, start_method, {"spawn": "6"}.get(start_method, "200")).out == "well\n"


LINUX = tuple(int(part) for part in os.uname().release.split(".")[:2])


@pytest.mark.skipif(LINUX < (6, 15), reason="older kernels do not tell the exit code of a process that was waited for")
def test_an_exit_code_is_exact_though_a_handler_waits_for_everybody_before_the_fork_returns(tmp_path):
    file = write(
        tmp_path / "program.py",
        """
        import os, signal, time
        import procession as mp

        def reap(*_):
            while True:
                try:
                    if not os.waitpid(-1, os.WNOHANG)[0]:
                        return
                except ChildProcessError:
                    reaped.append(True)
                    return

        def until_reaped():
            end = time.monotonic() + 20
            while not reaped and time.monotonic() < end:
                time.sleep(0.001)

        if __name__ == "__main__":
            reaped = []
            mp.set_start_method("fork")
            signal.signal(signal.SIGCHLD, reap)
            os.register_at_fork(after_in_child=lambda: os._exit(7), after_in_parent=until_reaped)
            process = mp.Process(target=print)
            process.start()
            process.join(PATIENCE)
            print(process.exitcode, bool(reaped))
        """,
    )
    assert run(file).well() == "7 True\n"


def test_a_fork_of_somebody_elses_making_is_the_one_that_is_called(monkeypatch: pytest.MonkeyPatch):
    real, calls = os.fork, []

    def fork() -> int:
        calls.append(1)
        return real()

    monkeypatch.setattr(os, "fork", fork)
    process = mp.get_context("fork").Process(target=sys.exit, args=(3,))
    process.start()
    process.join()
    assert (calls, process.exitcode) == ([1], 3)


def test_a_warning_that_is_an_error_does_not_lose_a_child_that_was_forked(monkeypatch):
    from procession import popen_fork

    monkeypatch.setattr(popen_fork, "_fork", _warned(popen_fork._fork, popen_fork._warn_about_threads))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        process = mp.get_context("fork").Process(target=sys.exit, args=(3,))
        process.start()
    process.join()
    assert process.exitcode == 3


def _warned(fork, warn):
    def warned(name):
        forked = fork(name)
        if forked[0]:
            warn()
        return forked

    return warned
