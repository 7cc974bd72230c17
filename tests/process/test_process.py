"""Process objects, as a Python program meets them: the same under every start method."""

from __future__ import annotations

import atexit
import functools
import gc
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

import procession as mp
from deadlines import PATIENCE, asleep, ended, open_descriptors, running, state, until
from procession import process as process_module
from procession import util
from programs import run, write

# --- what the child processes do --------------------------------------------------------------------------------------


def nothing():
    pass


def sleep():
    while True:
        signal.pause()


def tell_arguments(log, *args, **kwargs):
    log.put((args, kwargs))


def tell_length(log, data):
    log.put((len(data), data[:1], data[-1:]))


def tell_about_itself(log):
    me = mp.current_process()
    parent = mp.parent_process()
    log.put(
        {
            "name": me.name,
            "pid": me.pid,
            "getpid": os.getpid(),
            "daemon": me.daemon,
            "authkey": bytes(me.authkey),
            "alive": me.is_alive(),
            "children": mp.active_children(),
            "parent name": parent.name,
            "parent pid": parent.pid,
            "parent alive": parent.is_alive(),
            "main thread": threading.main_thread().native_id,
            "method": mp.get_start_method(),
        }
    )


def leave(code):
    sys.exit(code)


def quietly_leave(path, code):
    sys.stderr = open(path, "w")
    sys.exit(code)


def fail(path):
    sys.stderr = open(path, "w")
    raise ZeroDivisionError("of all things")


def tell_whether_parent_lives(log):
    parent = mp.parent_process()
    log.put((os.getpid(), parent.is_alive()))
    parent.join(0)
    parent.join(PATIENCE)
    log.put((os.getpid(), parent.is_alive()))


def have_a_child_and_sleep(context, log):
    context.Process(target=tell_whether_parent_lives, args=(log,)).start()
    sleep()


def start_a_thread_that_ends_late(path):
    def late():
        time.sleep(0.2)
        Path(path).write_text("late")

    threading.Thread(target=late).start()


def register_for_the_end(path):
    def note(word):
        with open(path, "a") as file:
            file.write(f"{word} ")

    atexit.register(note, "atexit")
    util.Finalize(None, note, args=("finalizer",), exitpriority=1)


def print_without_a_newline():
    print("printed", end="")


def tell_stdin(log):
    log.put(sys.stdin.read())


def have_a_child(log):
    try:
        mp.Process(target=nothing).start()
    except AssertionError as error:
        log.put(str(error))


def start_it(process, log):
    try:
        process.start()
    except AssertionError as error:
        log.put(str(error))


def tell_what_comes_in(connection, log):
    log.put(connection.recv(100))
    connection.close()


def tell_descriptors(log, gate):
    log.put(open_descriptors())
    gate.get()


def rename(log):
    mp.current_process().name = "renamed"
    log.put(mp.current_process().name)


def answer_interrupt(log):
    try:
        log.put("ready")
        sleep()
    except KeyboardInterrupt:
        log.put("interrupted")
        sys.exit(7)


class Callable:
    def __call__(self, log, itself):
        log.put(type(itself).__name__)


class CannotBeUnpickled:
    def __reduce__(self):
        return explode, ()


def explode():
    sys.stderr = open(os.devnull, "w")
    raise RuntimeError("not in one piece")


# --- running ----------------------------------------------------------------------------------------------------------


def test_a_process_calls_its_target_with_its_arguments(context):
    log = context.Queue()
    process = context.Process(target=tell_arguments, args=[log, 1, "two"], kwargs={"three": 3})
    process.start()
    assert log.get(timeout=PATIENCE) == ((1, "two"), {"three": 3})
    assert ended(process) == [0]


def test_a_process_without_a_target_ends_well(context):
    process = context.Process()
    process.start()
    assert ended(process) == [0]


@pytest.mark.parametrize("size", [0, 100_000, 20_000_000])
def test_arguments_of_any_size_arrive(context, size):
    log = context.Queue()
    data = b"x" * size
    with running(context, (tell_length, log, data)) as [process]:
        assert log.get(timeout=PATIENCE) == (size, data[:1], data[-1:])
        assert ended(process) == [0]


def test_a_derived_class_overrides_run(start_method, tmp_path):
    script = write(
        tmp_path / "greet.py",
        """
        import sys
        import procession as mp

        class Greeter(mp.Process):
            def __init__(self, word):
                super().__init__(name="greeter")
                self.word = word

            def run(self):
                print(self.word, self.name, flush=True)

        if __name__ == "__main__":
            mp.set_start_method(sys.argv[1])
            greeter = Greeter("hello")
            greeter.start()
            greeter.join()
            print(greeter.exitcode)
        """,
    )
    assert run(script, start_method).well() == "hello greeter\n0\n"


def test_a_process_knows_itself_and_its_parent(context, start_method):
    log = context.Queue()
    process = context.Process(target=tell_about_itself, args=(log,), name="somebody", daemon=True)
    process.start()
    told = log.get(timeout=PATIENCE)
    me = mp.current_process()
    assert told["name"] == "somebody"
    assert told["pid"] == told["getpid"] == process.pid == process.ident
    assert told["daemon"] is True
    assert told["authkey"] == me.authkey
    assert told["alive"] is True
    assert told["children"] == []
    assert (told["parent name"], told["parent pid"]) == (me.name, os.getpid())
    assert told["parent alive"] is True
    assert told["main thread"] == process.pid
    assert told["method"] == start_method
    assert ended(process) == [0]


def test_the_main_process_has_no_parent():
    assert mp.parent_process() is None
    assert mp.current_process().name == "MainProcess"
    assert mp.current_process().is_alive()
    assert mp.current_process().exitcode is None
    assert mp.current_process().pid == os.getpid()


def test_names_are_numbered_and_can_be_given_and_changed(context):
    first, second = context.Process(), context.Process()
    kind, _, number = first.name.rpartition("-")
    assert kind == context.Process.__name__
    assert second.name == f"{kind}-{int(number) + 1}"
    assert context.Process(name="mine").name == "mine"
    first.name = "other"
    assert first.name == "other"
    log = context.Queue()
    with running(context, (rename, log)) as [process]:
        assert log.get(timeout=PATIENCE) == "renamed"
        assert ended(process) == [0]


def test_a_child_of_a_child_is_numbered_below_it(context):
    process = context.Process()
    process._identity = (3, 1)
    before = process_module._current_process
    process_module._current_process = process
    try:
        assert mp.Process().name.startswith("Process-3:1:")
    finally:
        process_module._current_process = before


def test_processes_can_be_started_by_threads_at_the_same_time(context):
    log = context.Queue()
    processes = [context.Process(target=tell_arguments, args=(log, n)) for n in range(8)]
    threads = [threading.Thread(target=process.start) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(log.get(timeout=PATIENCE) for _ in processes) == [((n,), {}) for n in range(8)]
    assert ended(*processes) == [0] * 8


# --- how a process ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "exitcode"),
    [(None, 0), (0, 0), (8, 8), (255, 255), (256, 0), (-1, 255), (True, 1), (False, 0)],
)
def test_sys_exit_ends_a_process_with_that_code(context, asked, exitcode):
    with running(context, (leave, asked)) as [process]:
        assert ended(process) == [exitcode]


@pytest.mark.parametrize("asked", ["farewell", [1, 2], 2.5])
def test_sys_exit_with_anything_else_prints_it_and_means_one(context, tmp_path, asked):
    with running(context, (quietly_leave, tmp_path / "err", asked)) as [process]:
        assert ended(process) == [1]
    assert (tmp_path / "err").read_text() == f"{asked}\n"


def test_an_exception_is_printed_with_the_name_of_the_process_and_means_one(context, tmp_path):
    with running(context, (fail, tmp_path / "err")) as [process]:
        assert ended(process) == [1]
        name = process.name
    lines = (tmp_path / "err").read_text().splitlines()
    assert lines[0] == f"Process {name}:"
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: of all things"
    assert any('raise ZeroDivisionError("of all things")' in line for line in lines)


@pytest.mark.parametrize(("method", "sent"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)])
def test_a_signal_that_ends_a_process_is_its_exit_code_below_zero(context, method, sent):
    with running(context, (sleep,)) as [process]:
        assert process.exitcode is None
        getattr(process, method)()
        assert ended(process) == [-sent]
        assert f"exitcode=-{sent.name}" in repr(process)
        getattr(process, method)()  # nothing happens


def test_interrupt_is_what_ctrl_c_does(context):
    log = context.Queue()
    with running(context, (answer_interrupt, log)) as [process]:
        assert log.get(timeout=PATIENCE) == "ready"
        asleep(process.pid)
        process.interrupt()
        assert log.get(timeout=PATIENCE) == "interrupted"
        assert ended(process) == [7]


def test_join_waits_as_long_as_it_is_told_to(context):
    with running(context, (sleep,)) as [process]:
        for timeout in (0, -1, 0.0):
            began = time.monotonic()
            assert process.join(timeout) is None
            assert time.monotonic() - began < 5
        began = time.monotonic()
        process.join(0.2)
        assert 0.2 <= time.monotonic() - began < 5
        assert process.exitcode is None
        assert process.is_alive()
        process.kill()
        process.join()
        assert not process.is_alive()
        process.join()


def test_active_children_are_those_that_were_started_and_have_not_ended(context):
    process = context.Process(target=sleep, daemon=True)
    assert process not in mp.active_children()
    assert not process.is_alive()
    process.start()
    assert process in mp.active_children()
    process.kill()
    until(lambda: process not in mp.active_children())
    assert process.exitcode == -signal.SIGKILL


def test_a_start_joins_those_of_many_children_that_have_ended(context):
    processes = [context.Process(target=sleep, daemon=True) for _ in range(12)]
    for process in processes:
        process.start()
    try:
        ended = processes[2:12:3]
        os.close(processes[5].sentinel)  # as a program does that closes all descriptors
        for process in ended:
            process.kill()
        assert until(lambda: all(state(process.pid) in "ZX" for process in ended))
        last = context.Process(target=sleep, daemon=True)
        last.start()
        processes.append(last)
        assert {process for process in processes if process._popen.returncode is not None} == set(ended)
        assert set(mp.active_children()) >= set(processes) - set(ended)
        assert not set(mp.active_children()) & set(ended)
        assert all(process.exitcode == -signal.SIGKILL for process in ended)
    finally:
        for process in processes:
            process.kill()
            process.join()


def test_the_sentinel_becomes_readable_when_the_process_ends(context):
    process = context.Process(target=sleep, daemon=True)
    with pytest.raises(ValueError, match="process not started"):
        process.sentinel  # noqa: B018
    process.start()
    assert select.select([process.sentinel], [], [], 0)[0] == []
    process.kill()
    assert select.select([process.sentinel], [], [], PATIENCE)[0] == [process.sentinel]
    assert ended(process) == [-signal.SIGKILL]


def test_a_process_waits_for_its_threads_that_are_not_daemonic(context, tmp_path):
    with running(context, (start_a_thread_that_ends_late, tmp_path / "note")) as [process]:
        assert ended(process) == [0]
    assert (tmp_path / "note").read_text() == "late"


def test_what_was_registered_for_the_end_of_a_process_runs(context, tmp_path):
    with running(context, (register_for_the_end, tmp_path / "note")) as [process]:
        assert ended(process) == [0]
    assert sorted((tmp_path / "note").read_text().split()) == ["atexit", "finalizer"]


def test_what_was_registered_for_the_end_of_the_parent_does_not_run_in_a_child(context, tmp_path):
    note = (tmp_path / "note").touch
    finalizer = util.Finalize(None, note, exitpriority=1)
    atexit.register(note)
    try:
        with running(context, (nothing,)) as [process]:
            assert ended(process) == [0]
        assert not (tmp_path / "note").exists()
    finally:
        finalizer.cancel()
        atexit.unregister(note)


def test_what_a_process_printed_is_flushed_and_what_its_parent_printed_is_not_printed_again(start_method, tmp_path):
    script = write(
        tmp_path / "prints.py",
        """
        import sys
        import procession as mp

        def say():
            print("child", end=" ")

        if __name__ == "__main__":
            print("parent", end=" ")
            process = mp.get_context(sys.argv[1]).Process(target=say)
            process.start()
            process.join()
            print("parent again", end="")
        """,
    )
    assert run(script, start_method).well() == "parent child parent again"


def test_a_process_has_an_empty_standard_input(context):
    log = context.Queue()
    with running(context, (tell_stdin, log)) as [process]:
        assert log.get(timeout=PATIENCE) == ""
        assert ended(process) == [0]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("broken", ["closed", None])
def test_standard_streams_that_are_broken_do_not_matter(context, monkeypatch, stream, broken):
    replacement = open(os.devnull, "w") if broken else None
    if replacement is not None:
        replacement.close()
    monkeypatch.setattr(sys, stream, replacement)
    with running(context, (nothing,)) as [process]:
        assert ended(process) == [0]


# --- parents and children ---------------------------------------------------------------------------------------------


def test_a_grandchild_sees_its_parent_die(context):
    log = context.Queue()
    with running(context, (have_a_child_and_sleep, context, log)) as [process]:
        grandchild, alive = log.get(timeout=PATIENCE)
        assert alive is True
        process.kill()
        assert ended(process) == [-signal.SIGKILL]
        assert log.get(timeout=PATIENCE) == (grandchild, False)
    until(lambda: state(grandchild) in "XZ")


def test_whether_a_process_is_daemonic_is_inherited_and_fixed_by_the_start(context):
    process = context.Process(target=sleep)
    assert process.daemon is False
    process.daemon = True
    process.start()
    with pytest.raises(AssertionError):
        process.daemon = False
    process.kill()
    assert ended(process) == [-signal.SIGKILL]


@pytest.mark.parametrize("ending", ["end", "exception"])
def test_a_program_joins_its_children_and_terminates_the_daemonic_ones_when_it_ends(start_method, tmp_path, ending):
    script = write(
        tmp_path / "ends.py",
        """
        import signal, sys, time
        import procession as mp

        def short(q):
            q.put("ready")
            time.sleep(0.3)
            print("the child has ended", flush=True)

        def forever(q):
            signal.signal(signal.SIGTERM, lambda *_: (print("the daemon was told", flush=True), sys.exit(0)))
            q.put("ready")
            for _ in range(6000):  # Python misses a signal that comes between its last look and the system call
                time.sleep(0.01)

        if __name__ == "__main__":
            mp.set_start_method(sys.argv[1])
            q = mp.Queue()
            mp.Process(target=short, args=(q,)).start()
            mp.Process(target=forever, args=(q,), daemon=True).start()
            q.get(), q.get()
            print("the program ends", flush=True)
            if sys.argv[2] == "exception":
                sys.exit(3)
        """,
    )
    outcome = run(script, start_method, ending)
    assert outcome.err == ""
    assert outcome.code == (3 if ending == "exception" else 0)
    assert outcome.out.splitlines()[0] == "the program ends"
    assert sorted(outcome.out.splitlines()[1:]) == ["the child has ended", "the daemon was told"]


def test_ctrl_c_ends_the_whole_tree_with_one_traceback(start_method, tmp_path):
    script = write(
        tmp_path / "sleeps.py",
        """
        import os, signal, sys, time
        import procession as mp

        def wait(q, depth):
            if depth:
                mp.Process(target=wait, args=(q, depth - 1)).start()
            q.put(os.getpid())
            while True:  # a signal that comes just before one sleep ends the next one
                time.sleep(0.1)

        if __name__ == "__main__":
            os.setpgid(0, 0)
            mp.set_start_method(sys.argv[1])
            q = mp.Queue()
            children = [mp.Process(target=wait, args=(q, 1), daemon=n == 0) for n in range(2)]
            for child in children:
                child.start()
            print(*[q.get(timeout=PATIENCE) for _ in range(4)], flush=True)
            try:
                os.killpg(0, signal.SIGINT)
                children[0].join()
            finally:
                for child in children:
                    child.join()
                print([child.exitcode for child in children], [repr(child.exception) for child in children])
        """,
    )
    outcome = run(script, start_method)
    pids, told = outcome.out.splitlines()
    assert told == "[1, 1] ['KeyboardInterrupt()', 'KeyboardInterrupt()']"
    assert outcome.code == -signal.SIGINT
    assert outcome.err.count("Traceback") == 1
    assert len(outcome.err.splitlines()) < 15
    until(lambda: all(state(int(pid)) in "XZ" for pid in pids.split()))


def test_ctrl_c_while_children_start_shows_one_traceback(start_method, tmp_path):
    script = write(
        tmp_path / "starts.py",
        """
        import os, signal, sys, time
        import procession as mp

        if __name__ != "__main__":
            os.write(int(os.environ.get("TELL", "2")), b"")
            time.sleep(0.2)  # a main module that takes long to import

        if __name__ == "__main__":
            os.setpgid(0, 0)
            mp.set_start_method(sys.argv[1])
            mp.Process(target=time.sleep, args=(0,)).start()
            children = [mp.Process(target=time.sleep, args=(20,)) for n in range(4)]
            try:
                for child in children:
                    child.start()
                time.sleep(0.1)
                os.killpg(0, signal.SIGINT)
                time.sleep(20)
            finally:
                for child in children:
                    child.join()
                print(all(child.exitcode in (1, -signal.SIGINT) for child in children))
        """,
    )
    outcome = run(script, start_method)
    assert outcome.out == "True\n"
    assert outcome.err.count("Traceback") == 1


def test_a_ctrl_c_that_comes_before_a_child_is_ready_is_not_lost(start_method, tmp_path):
    script = write(
        tmp_path / "early.py",
        """
        import os, signal, sys, time
        import procession as mp

        def hold(*_):
            raise SystemExit(7)

        if __name__ == "__main__":
            os.setpgid(0, 0)
            mp.set_start_method(sys.argv[1])
            codes = []
            for n in range(12):
                child = mp.Process(target=time.sleep, args=(PATIENCE,))
                try:
                    child.start()
                    os.killpg(0, signal.SIGINT)
                    time.sleep(PATIENCE)
                except KeyboardInterrupt:
                    child.join()
                    codes.append(child.exitcode)
            print(set(codes) <= {1, -signal.SIGINT} or codes)
            if sys.argv[1] == "fork":  # what a handler raises in the child does not reach what its parent was doing
                signal.signal(signal.SIGTERM, hold)
                child = mp.Process(target=time.sleep, args=(PATIENCE,))
                try:
                    child.start()
                    child.terminate()
                finally:
                    child.join()
                    print(child.exitcode)
        """,
    )
    outcome = run(script, start_method)
    assert outcome.well().splitlines() == (["True", "7"] if start_method == "fork" else ["True"])


def test_a_daemonic_process_outlives_the_thread_that_started_it(context):
    log = context.Queue()
    process = context.Process(target=answer_interrupt, args=(log,), daemon=True)
    thread = threading.Thread(target=process.start)
    thread.start()
    thread.join()
    assert log.get(timeout=PATIENCE) == "ready"
    until(lambda: state(os.getpid(), thread.native_id) == "X")  # gone for the kernel too
    assert process.is_alive()
    asleep(process.pid)  # Python 3.13.0 loses a signal that comes before, in the child of a fork in a thread
    process.interrupt()
    assert ended(process) == [7]


def test_daemonic_processes_die_with_a_killed_parent_though_their_siblings_live(start_method, tmp_path):
    script = write(
        tmp_path / "parent.py",
        """
        import os, sys, time
        import procession as mp

        def wait(q):
            q.put(os.getpid())
            time.sleep(60)

        if __name__ == "__main__":
            context = mp.get_context(sys.argv[1])
            q = context.Queue()
            for daemon in (True, False, True, False):
                context.Process(target=wait, args=(q,), daemon=daemon).start()
                print(q.get(timeout=PATIENCE), flush=True)
            os.kill(os.getpid(), 9)
        """,
    )
    outcome = run(script, start_method)
    first, lives, second, lives_too = (int(line) for line in outcome.out.split())
    try:
        until(lambda: state(first) in "XZ" and state(second) in "XZ")
        asleep(lives)
        asleep(lives_too)
    finally:
        for pid in (lives, lives_too):
            os.kill(pid, signal.SIGKILL)


def test_a_child_of_os_fork_leaves_the_children_of_its_parent_alone(context):
    with running(context, (sleep,)) as [process]:
        pid = os.fork()
        if pid == 0:
            code = len(mp.active_children()) + (process.exitcode is not None) + 5
            util._exit_function()
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
        assert process.is_alive()
        process.kill()
        assert ended(process) == [-signal.SIGKILL]


# --- the object -------------------------------------------------------------------------------------------------------


def test_a_process_can_be_started_once_and_only_by_whoever_made_it():
    fork = mp.get_context("fork")
    process = fork.Process(target=nothing)
    log = fork.Queue()
    with running(fork, (start_it, process, log)):
        assert "created by current process" in log.get(timeout=PATIENCE)
    process.start()
    with pytest.raises(AssertionError, match="twice"):
        process.start()
    assert ended(process) == [0]


def test_a_start_that_fails_leaves_nothing_behind(start_method):
    context = mp.get_context(start_method)
    if start_method == "fork":
        pytest.skip("nothing is pickled")
    children = mp.active_children()
    before = open_descriptors()
    process = context.Process(target=nothing, args=(threading.Lock(),))
    for _ in range(2):
        with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
            process.start()
        assert process.exitcode is None
        assert process.pid is None
        assert "initial" in repr(process)
    assert mp.active_children() == children
    assert mp.context.get_spawning_popen() is None
    if start_method == "spawn":
        assert open_descriptors() <= before + 1  # family memory, if this test is the first
    works = context.Process(target=nothing)
    works.start()
    assert ended(works) == [0]


def test_a_child_that_cannot_unpickle_its_arguments_ends_with_one(start_method):
    if start_method == "fork":
        pytest.skip("nothing is pickled")
    with running(mp.get_context(start_method), (tell_arguments, CannotBeUnpickled())) as [process]:
        assert ended(process) == [1]


def test_a_closed_process_holds_nothing_and_refuses(context):
    process = context.Process(target=sleep, daemon=True)
    process.start()
    with pytest.raises(ValueError, match="running"):
        process.close()
    process.kill()
    assert ended(process) == [-signal.SIGKILL]
    process.close()
    process.close()
    assert "closed" in repr(process)
    for method in ("is_alive", "join", "terminate", "kill", "start"):
        with pytest.raises(ValueError, match="closed"):
            getattr(process, method)()
    for attribute in ("exitcode", "pid", "sentinel"):
        with pytest.raises(ValueError, match="closed"):
            getattr(process, attribute)
    reference = weakref.ref(process)
    del process
    gc.collect()
    assert reference() is None


def test_a_started_process_no_longer_holds_its_target_and_arguments(context):
    target, log = Callable(), context.Queue()
    reference = weakref.ref(target)
    process = context.Process(target=target, args=(log, target))
    process.start()
    del target
    gc.collect()
    assert reference() is None
    assert log.get(timeout=PATIENCE) == "Callable"
    assert ended(process) == [0]


def test_keyword_arguments_are_not_shared_between_processes():
    first, second = mp.Process(), mp.Process()
    first._kwargs["mine"] = 1
    assert second._kwargs == {}


def test_what_a_process_looks_like_tells_its_state(context):
    process = context.Process(target=sleep, name="looks", daemon=True)
    kind = context.Process.__name__
    assert repr(process) == f"<{kind} name='looks' parent={os.getpid()} initial daemon>"
    process.start()
    assert repr(process) == f"<{kind} name='looks' pid={process.pid} parent={os.getpid()} started daemon>"
    process.kill()
    assert ended(process) == [-9]
    assert repr(process) == (
        f"<{kind} name='looks' pid={process.pid} parent={os.getpid()} stopped exitcode=-SIGKILL daemon>"
    )


def test_the_authentication_key_cannot_be_pickled_by_accident():
    with pytest.raises(TypeError):
        pickle.dumps(mp.current_process().authkey)
    with pytest.raises(TypeError):
        pickle.dumps(mp.Process())


def test_an_owner_died_error_survives_pickling():
    error = pickle.loads(pickle.dumps(mp.OwnerDiedError("it died", 12, "somebody", -9)))
    assert type(error) is mp.OwnerDiedError
    assert isinstance(error, mp.ProcessError)
    assert (str(error), error.pid, error.name, error.exitcode) == ("it died", 12, "somebody", -9)


# --- what goes along --------------------------------------------------------------------------------------------------


def test_sockets_can_be_handed_to_a_process(context):
    log = context.Queue()
    ours, theirs = socket.socketpair()
    with ours, theirs, running(context, (tell_what_comes_in, theirs, log)) as [process]:
        theirs.close()
        ours.sendall(b"through a socket that went along")
        assert log.get(timeout=PATIENCE) == b"through a socket that went along"
        assert ended(process) == [0]


def test_methods_and_partial_objects_can_be_targets(context):
    log = context.Queue()
    for target in (functools.partial(log.put, "partial"), functools.partial(Callable().__call__, log)):
        process = context.Process(target=target, args=() if "partial" in target.args else (1,))
        process.start()
        assert log.get(timeout=PATIENCE) in ("partial", "int")
        assert ended(process) == [0]


def test_a_child_has_no_descriptors_that_are_not_its_own(start_method):
    if start_method == "fork":
        pytest.skip("a fork copies all descriptors")
    context = mp.get_context(start_method)
    log, gate = context.Queue(), context.Queue()
    pairs = [socket.socketpair() for _ in range(5)]
    with running(context, *[(tell_descriptors, log, gate)] * 4):
        counts = [log.get(timeout=PATIENCE) for _ in range(4)]
        for _ in range(4):
            gate.put(None)
    for pair in pairs:
        for end in pair:
            end.close()
    assert len(set(counts)) == 1
    # 0 to 2, family memory, sys.stdin, the folder that is being listed, the way to the fork server
    assert counts[0] <= 7


def test_starting_and_ending_processes_needs_no_more_descriptors_each_time(context):
    def once():
        with running(context, (nothing,), (nothing,)) as processes:
            assert ended(*processes) == [0, 0]
        for process in processes:
            process.close()

    once()  # what is made once for all is made now
    before = open_descriptors()
    for _ in range(5):
        once()
    assert open_descriptors() == before


def test_functions_registered_to_follow_a_fork_are_called_once_in_the_child(start_method, tmp_path):
    script = write(
        tmp_path / "forks.py",
        """
        import sys
        import procession as mp
        from procession import util

        class Thing:
            number = 1

        def tell():
            print(thing.number)

        thing = Thing()
        util.register_after_fork(thing, lambda thing: setattr(thing, "number", thing.number + 1))

        if __name__ == "__main__":
            for _ in range(4):  # some of them are forked ahead by the fork server
                process = mp.get_context(sys.argv[1]).Process(target=tell)
                process.start()
                process.join()
        """,
    )
    assert run(script, start_method).well() == ("1\n" if start_method == "spawn" else "2\n") * 4


class Locked:
    def __init__(self):
        self.lock = threading.Lock()

    def method(self):
        pass


@pytest.mark.start_methods("spawn", "forkserver")
def test_what_cannot_be_sent_to_a_child_names_the_place(start_method):
    context = mp.get_context(start_method)
    for process, place in (
        (context.Process(target=Locked().method), "._target.__self__.lock"),
        (context.Process(target=print, args=(1, [Locked()])), "._args[1][0].lock"),
    ):
        with pytest.raises(TypeError) as caught:
            process.start()
        assert f"because of what is at {place}: _thread.lock" in "\n".join(caught.value.__notes__)
