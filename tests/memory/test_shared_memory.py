"""Segments of shared memory with a name, and the watcher that looks after them."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import secrets
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import deadlines
from deadlines import PATIENCE, ended, open_descriptors, running, scaled, until
from procession import resource_tracker
from procession._memory import segments
from procession.shared_memory import ShareableList, SharedMemory
from programs import run

FOLDER = Path(segments.FOLDER)

pytestmark = pytest.mark.skipif(
    not os.access(FOLDER, os.W_OK), reason=f"named shared memory needs {FOLDER}, which cannot be written to here"
)


@pytest.fixture
def segment() -> Iterator[SharedMemory]:
    shared = SharedMemory(create=True, size=64)
    yield shared
    shared.close()
    if (FOLDER / shared.name).exists():
        shared.unlink()


def exists(name: str) -> bool:
    return (FOLDER / name.lstrip("/")).exists()


def program(text: str, *arguments: str, **keywords: Any) -> subprocess.Popen[str]:
    """Another program, which is no member of this family."""
    return subprocess.Popen(
        [sys.executable, "-c", scaled(text), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )


ATTACH = "import sys; from procession.shared_memory import SharedMemory as S; s = S(sys.argv[1]{}); "
CREATE = "from procession.shared_memory import SharedMemory as S; s = S(create=True, size=100{}); " + (
    "print(s.name, flush=True); "
)
SAY_WATCHER = "from procession import resource_tracker as r; print(r._resource_tracker._pid, flush=True); "
STAY = "import time; time.sleep(60)"


# --- what the child processes do --------------------------------------------------------------------------------------


def write_by_name(name, data):
    segment = SharedMemory(name)
    segment.buf[: len(data)] = data


def write_into(segment, data):
    segment.buf[: len(data)] = data
    segment.close()


def make_one(outbox):
    segment = SharedMemory(create=True, size=10)
    segment.buf[:3] = b"abc"
    outbox.put(segment.name)


def tracker_of_family(outbox):
    resource_tracker.ensure_running()
    outbox.put(resource_tracker._resource_tracker._pid)


# --- segments ---------------------------------------------------------------------------------------------------------


def test_a_segment_is_seen_by_name_and_through_a_pickle(segment):
    segment.buf[:5] = b"hello"
    by_name, by_pickle = SharedMemory(segment.name), pickle.loads(pickle.dumps(segment))
    assert bytes(by_name.buf[:5]) == bytes(by_pickle.buf[:5]) == b"hello"
    by_name.buf[0] = ord("j")
    assert bytes(segment.buf[:5]) == b"jello"
    assert (by_name.size, len(by_name.buf), by_pickle.name) == (64, 64, segment.name)


def test_wrong_names_and_sizes_are_refused():
    for size in (0, -1):
        with pytest.raises(ValueError):
            SharedMemory(create=True, size=size)
    with pytest.raises(ValueError):
        SharedMemory()
    with pytest.raises(ValueError):
        SharedMemory("nul\0nul")
    for name in ("a/b", "..", ".", "a" * 300):
        with pytest.raises(OSError):
            SharedMemory(name, create=True, size=1)
    with pytest.raises(FileNotFoundError):
        SharedMemory("procession-test-nobody")


def test_the_name_is_free_again_after_unlink():
    name = f"procession-{secrets.token_hex(4)}"
    first = SharedMemory(name, create=True, size=10)
    with pytest.raises(FileExistsError):
        SharedMemory(name, create=True, size=10)
    first.unlink()
    with pytest.raises(FileNotFoundError):
        first.unlink()
    second = SharedMemory(name, create=True, size=20)
    first.buf[0], second.buf[0] = 1, 2
    assert first.buf[0] == 1
    second.unlink()


def test_a_view_keeps_the_mapping_alive(segment):
    np = pytest.importorskip("numpy", reason="numpy is not installed, and this is about its arrays")
    array, view = np.ndarray((8,), "f8", buffer=segment.buf), segment.buf[:8]
    segment.close()
    assert segment.buf is None
    gc.collect()
    array[0] = 1.5
    assert struct.unpack("d", view)[0] == 1.5
    segment.close()


def test_a_segment_takes_at_most_one_descriptor():
    SharedMemory(create=True, size=1).unlink()
    gc.collect()
    before = open_descriptors()
    segments = [SharedMemory(create=True, size=100) for _ in range(20)]
    each = 0 if sys.version_info >= (3, 13) else 1
    assert open_descriptors() <= before + 20 * each
    for one in segments:
        one.unlink()
    del segments, one
    gc.collect()
    assert open_descriptors() <= before


def test_a_full_folder_is_an_error_and_leaves_nothing():
    free = os.statvfs(FOLDER)
    size = free.f_bavail * free.f_frsize + (1 << 30)
    before = set(os.listdir(FOLDER))
    with pytest.raises(OSError) as caught:
        SharedMemory(create=True, size=size)
    assert caught.value.errno in (errno.ENOSPC, errno.ENOMEM)
    assert "no room" in str(caught.value) or "no memory" in str(caught.value)
    assert set(os.listdir(FOLDER)) <= before


def test_without_the_folder_the_error_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(segments, "FOLDER", str(tmp_path / "none"))
    with pytest.raises(OSError, match=r"named shared memory needs .* which is missing"):
        SharedMemory(create=True, size=10)
    with pytest.raises(FileNotFoundError):
        SharedMemory("anything")


def test_processes_share_it_by_name_and_by_pickle(context, segment):
    with running(context, (write_by_name, segment.name, b"one")) as children:
        assert ended(*children) == [0]
    assert bytes(segment.buf[:3]) == b"one"
    with running(context, (write_into, segment, b"two")) as children:
        assert ended(*children) == [0]
    assert bytes(segment.buf[:3]) == b"two"


def test_what_a_child_has_made_outlives_it(context):
    outbox = context.Queue()
    with running(context, (make_one, outbox)) as children:
        name = outbox.get(timeout=PATIENCE)
        assert ended(*children) == [0]
    again = SharedMemory(name)
    assert bytes(again.buf[:3]) == b"abc"
    again.unlink()


# --- who removes it ---------------------------------------------------------------------------------------------------


def test_one_who_only_attached_does_not_take_it_away(segment):
    for track in ("", ", track=False"):
        with program(ATTACH.format(track) + "s.buf[0] = 5", segment.name) as other:
            other.communicate(timeout=PATIENCE)
        assert other.returncode == 0
        assert segment.buf[0] == 5
        assert exists(segment.name)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_killed_program_has_made_is_removed(how):
    with program(CREATE.format("") + STAY) as other:
        name = other.stdout.readline().strip()
        assert exists(name)
        other.send_signal(how)
        _, errors = other.communicate(timeout=PATIENCE)
    assert not exists(name)
    assert "resource_tracker: There appear to be 1 leaked shared_memory objects to clean up at shutdown" in errors


def test_what_is_not_tracked_stays_until_it_is_unlinked():
    with program(CREATE.format(", track=False")) as other:
        name, errors = (text.strip() for text in other.communicate(timeout=PATIENCE))
    assert (exists(name), errors) == (True, "")
    untracked = pickle.loads(pickle.dumps(SharedMemory(name, track=False)))
    assert not untracked._track
    untracked.unlink()


def test_the_last_who_attached_removes_it_where_the_makers_watcher_was_killed_too():
    with program(CREATE.format("") + SAY_WATCHER + STAY) as maker:
        name, watcher = maker.stdout.readline().strip(), int(maker.stdout.readline())
        with program(ATTACH.format("") + "print(1, flush=True); " + STAY, name) as user:
            assert user.stdout.readline() == "1\n"
            os.kill(watcher, signal.SIGKILL)
            maker.kill()
            maker.communicate(timeout=PATIENCE)
            assert exists(name)
            user.kill()
            user.communicate(timeout=PATIENCE)
    assert not exists(name)


def test_what_nobody_watches_any_more_is_swept_and_nothing_else(segment):
    with program(CREATE.format("") + SAY_WATCHER + STAY) as maker:
        name, watcher = maker.stdout.readline().strip(), int(maker.stdout.readline())
        os.kill(watcher, signal.SIGKILL)
        maker.kill()
        maker.communicate(timeout=PATIENCE)
    foreign = FOLDER / f"psm_{secrets.token_hex(4)}"
    foreign.write_bytes(b"not ours")
    kept = SharedMemory(create=True, size=10, track=False)
    try:
        assert name not in segments.sweep()  # too young
        assert exists(name)
        until(lambda: segments.hold(segment.name) is not None)
        swept = segments.sweep(older_than=0)
        assert name in swept
        assert not exists(name)
        assert exists(foreign.name) and exists(kept.name) and exists(segment.name)
    finally:
        foreign.unlink()
        kept.unlink()


def test_a_family_has_one_watcher(context, segment):  # with nothing to watch it might end meanwhile
    pid, outbox = resource_tracker._resource_tracker._pid, context.Queue()
    with running(context, (tracker_of_family, outbox)) as children:
        assert outbox.get(timeout=PATIENCE) == pid
        assert ended(*children) == [0]


def test_a_killed_watcher_that_its_starter_does_not_wait_for_is_dead_for_all_others():
    text = """if True:
        import os, signal, sys
        import procession as mp
        from procession import _core, resource_tracker as r
        from procession.shared_memory import SharedMemory
        sys.path.insert(0, sys.argv[1])
        from deadlines import state, until

        def begin(box):
            r.ensure_running()
            box.put(r._resource_tracker._pid)
            signal.pause()

        box = mp.Queue()
        child = mp.get_context("fork").Process(target=begin, args=(box,))
        child.start()
        pid = box.get(timeout=PATIENCE)
        os.kill(pid, signal.SIGKILL)
        until(lambda: state(pid) == "Z")
        segment = SharedMemory(create=True, size=10)
        print(r._resource_tracker._pid != pid, _core.tracker()[0] == r._resource_tracker._pid)
        segment.unlink()
        child.kill()
        child.join()
    """
    assert run("-c", text, Path(deadlines.__file__).parent).well() == "True True\n"


def test_a_program_without_segments_has_no_watcher():
    text = """if True:
        import os, procession as mp
        q, v, a = mp.Queue(), mp.Value("i"), mp.RawArray("b", 1000)
        q.put(a)
        p = mp.get_context("fork").Process(target=q.get); p.start(); p.join()
        print(open(f"/proc/self/task/{os.getpid()}/children").read().split())
    """
    assert run("-c", text).well() == "[]\n"


def test_a_killed_watcher_is_replaced_with_a_warning(segment):
    resource_tracker.ensure_running()
    tracker = resource_tracker._resource_tracker
    old = tracker._pid
    os.kill(old, signal.SIGKILL)
    until(lambda: not tracker._check_alive())
    with pytest.warns(UserWarning, match="resource_tracker: process died unexpectedly"):
        again = SharedMemory(create=True, size=10)
    assert tracker._pid != old
    again.unlink()


def test_a_watcher_that_is_not_needed_any_more_ends_and_is_replaced_in_silence(tmp_path):
    text = """if True:
        import os, time, warnings
        from procession import resource_tracker as r
        from procession._memory import tracker_main
        from procession.shared_memory import SharedMemory
        warnings.simplefilter("error")
        tracker = r._resource_tracker
        tracker._send("REGISTER", "/short-lived", "noop")
        first = tracker._pid
        tracker.unregister("/short-lived", "noop")
        limit = time.monotonic() + 20
        while tracker._check_alive():
            assert time.monotonic() < limit, "it stays"
            time.sleep(0.01)
        segment = SharedMemory(create=True, size=10)
        assert tracker._pid != first
        segment.unlink()
        print("well")
    """
    (tmp_path / "sitecustomize.py").write_text("import procession._memory.tracker_main as w; w.IDLE = 0.05")
    assert run("-c", text, PYTHONPATH=str(tmp_path)).well() == "well\n"


def test_stopping_the_watcher_takes_no_longer_than_is_said_where_a_forked_child_uses_it():
    text = """if True:
        import os, time
        from procession import resource_tracker as r
        tracker = r.ResourceTracker()
        for seconds in (None, 60, 0.3):
            tracker.ensure_running()
            hold, let_go = os.pipe()
            child = os.fork() if seconds == 0.3 else None
            if child == 0:
                os.close(let_go)
                os.read(hold, 1)
                os._exit(0)
            began = time.monotonic()
            tracker._stop(wait_timeout=seconds)
            passed = time.monotonic() - began
            print(tracker._exitcode, tracker._waitpid_timed_out, tracker._pid, tracker._fd, passed >= (seconds or 60))
            os.close(let_go)
        os.waitpid(child, 0)
        tracker._stop(use_blocking_lock=False)
    """
    assert run("-c", text).well() == "0 False None None False\n" * 2 + "None True None None True\n"


def test_a_forked_child_that_pauses_does_not_hold_the_output_of_its_parent_through_the_watcher():
    text = """if True:
        import os
        from procession import resource_tracker as r
        r.ensure_running()
        if os.fork() == 0:
            os.close(1)
            os.read(int(os.environ["HOLD"]), 1)
            os._exit(0)
        print("parent")
    """
    ours, theirs = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", scaled(text)],
        stdout=subprocess.PIPE,
        pass_fds=[ours],
        env={**os.environ, "HOLD": str(ours)},
        text=True,
    ) as parent:
        try:
            assert parent.communicate(timeout=PATIENCE) == ("parent\n", None)
        finally:
            os.close(ours)
            os.close(theirs)


def test_the_lock_of_the_tracker_is_free_in_a_forked_child_whoever_held_it():
    text = """if True:
        import os, threading, signal
        from procession import resource_tracker as r
        tracker = r._resource_tracker
        for depth in (1, 2):
            for _ in range(depth):
                tracker._lock.acquire()
            tracker._lock.at_work = True  # as where another thread is just starting a watcher
            child = os.fork()
            if child == 0:
                signal.alarm(10)
                free = []
                thread = threading.Thread(target=lambda: free.append(tracker._lock.acquire(False)))
                thread.start()
                thread.join()
                os._exit(free != [True] or tracker._lock.at_work)
            tracker._lock.at_work = False
            for _ in range(depth):
                tracker._lock.release()
            print(os.waitpid(child, 0)[1])
    """
    assert run("-c", text).well() == "0\n0\n"


def test_a_handler_that_comes_while_the_watcher_is_started_registers_and_waits_for_nothing():
    text = """if True:
        import signal
        from procession import resource_tracker as r
        tracker = r.ResourceTracker()
        launch = tracker._launch

        def handler(*_):
            tracker.register("/from-handler", "noop")
            tracker.ensure_running()
            try:
                tracker._stop()
            except r.ReentrantCallError as error:
                print(type(error).__bases__[0].__name__)

        def interrupted():
            signal.raise_signal(signal.SIGUSR1)
            launch()
            signal.raise_signal(signal.SIGUSR1)

        signal.signal(signal.SIGUSR1, handler)
        tracker._launch = interrupted
        tracker.register("/outer", "noop")
        tracker.unregister("/outer", "noop")
        print(tracker._lock.waiting, tracker._lock.at_work)
        tracker._stop()
        print(tracker._exitcode)
    """
    outcome = run("-c", text)
    # the watcher says that it had the handler's message
    assert outcome.out == "RuntimeError\nRuntimeError\n[] False\n1\n", outcome
    assert "/from-handler" in outcome.err and "/outer" not in outcome.err


def test_any_name_can_be_registered_and_is_told_when_left_behind():
    text = """if True:
        from procession import resource_tracker as r
        for name in ("/a:b", "/c\\nd", "/e%3Af", "/gone"):
            r.register(name, "noop")
        r.unregister("/gone", "noop")
        r.unregister("/never-registered", "noop")
    """
    errors = run("-c", text).err
    # the watcher may write a moment after its program has ended
    assert errors == "" or "3 leaked noop objects" in errors
    with pytest.raises(ValueError, match="too long"):
        resource_tracker.register("a" * 600, "noop")


# --- lists ------------------------------------------------------------------------------------------------------------


def test_zeros_at_the_end_and_wide_characters_are_kept():
    items = [b"\0\1\0", "0\U00010000\U00010000", b"\0" * 8, "a\0", b"12345678", "", "\0" * 17]
    shared = ShareableList(items)
    assert list(shared) == items
    shared[0] = b"123\0"
    shared[4] = b"\0\0"
    assert (shared[0], shared[4]) == (b"123\0", b"\0\0")
    shared.shm.unlink()


def test_a_list_refuses_what_it_cannot_store_and_stays_as_it_was():
    before = set(os.listdir(FOLDER))
    for items in ([{}], [2**64], [b"x" * 10_000_000], [b"x" * 1_000_000 + b"\0"], ["\ud800"]):
        with pytest.raises((TypeError, ValueError, struct.error)):
            ShareableList(items)
    assert set(os.listdir(FOLDER)) <= before
    shared = ShareableList(["abc", 1])
    for value in ({}, 2**64, "too long for it"):
        with pytest.raises((TypeError, ValueError, struct.error)):
            shared[0] = value
    for use in (lambda: shared[2], lambda: shared[-3], lambda: shared.__setitem__(2, 1)):
        with pytest.raises(IndexError):
            use()
    assert (list(shared), shared.index(1), shared.count("abc"), shared[-1]) == (["abc", 1], 1, 1, 1)
    with pytest.raises(ValueError):
        shared.index("absent")
    shared.shm.unlink()


def test_the_tracker_does_not_wake_for_each_of_many_segments():
    source = """
import procession.resource_tracker as tracker
from procession.shared_memory import SharedMemory

def switches():
    lines = open(f"/proc/{tracker._resource_tracker._pid}/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("voluntary_ctxt")))

def make(size):
    segment = SharedMemory(create=True, size=size)
    segment.close()
    segment.unlink()

make(1)
before = switches()
for _ in range(2000):
    make(100)
print(switches() - before < 1000)
kept = SharedMemory(create=True, size=1)
"""
    outcome = run("-c", source)
    assert outcome.out == "True\n"
    assert "1 leaked shared_memory objects" in outcome.err
