"""A program may derive from any public class and set whatever attributes its twin in multiprocessing has not, under
names that ours uses: what we add gives way, and everything else works as before.
"""

from __future__ import annotations

import importlib
import inspect
import io
import multiprocessing
import os
import pickle
import queue as std_queue
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import procession as mp
import surface
from deadlines import PATIENCE, ended
from procession import _core, connection, queues

# What carries the package's name is no name of a program's. These came to multiprocessing with later Pythons:
LATER = {"_track"}
# Objects of the twin have these, set by its `__init__`.
OF_TWINS = {
    "connection": {"_readable", "_writable"},
    "context": {"_sentinel"},
    "pool": {"_lock"},
    "process": {"_sentinel"},
    "queues": {"_maxsize", "_reader", "_writer"},
    "resource_tracker": {"_fd"},
    "sharedctypes": {"_lock", "_obj"},
}


def is_private(name: str) -> bool:
    return (name.startswith("__") and name.endswith("__")) or name.startswith("_procession_") or name in LATER


def added(ours: Any, theirs: Any) -> set[str]:
    """The attributes of a class, or object, of ours that its twin lacks."""
    return {name for name in set(dir(ours)) - set(dir(theirs)) if not is_private(name)}


def public_classes() -> list[tuple[str, type, type]]:
    found = {}
    for name in surface.modules():
        ours, theirs = (surface.module_of(package, name) for package in ("procession", "multiprocessing"))
        for known, kind in vars(theirs).items():
            mine = getattr(ours, known, None)
            if inspect.isclass(kind) and kind.__module__.startswith("multiprocessing") and inspect.isclass(mine):
                found[f"{kind.__module__.partition('.')[2]}.{kind.__qualname__}"] = (mine, kind)
    return [(path, *kinds) for path, kinds in sorted(found.items())]


@pytest.mark.parametrize(("path", "ours", "theirs"), public_classes(), ids=[path for path, *_ in public_classes()])
def test_no_property_of_ours_forbids_a_derived_class_to_set_an_attribute(path, ours, theirs):
    forbidding = {
        name
        for name in added(ours, theirs)
        if inspect.isdatadescriptor(inspect.getattr_static(ours, name))
        and (not hasattr(ours, "__slots__") or name not in ours.__slots__)
    }
    assert forbidding <= OF_TWINS.get(path.partition(".")[0], set())


# --- classes that set all of them -------------------------------------------------------------------------------------


def makes(path: str, *args: Any) -> Callable[[Any], Any]:
    """A function that makes an object of a class of a package."""
    module, _, name = path.rpartition(".")

    def make(package: Any) -> Any:
        kind = getattr(importlib.import_module(f"{package.__name__}.{module}"), name)
        more = {"ctx": package.get_context()} if module in ("queues", "synchronize") else {}
        return kind(*args, **more)

    return make


class Target:
    """What the attributes are set to: nothing that our code could call or use in the place of its own."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Target, ()


def deriving(path: str, *args: Any, hidden: set[str] | None = None) -> type:
    """A class derived from ours that sets all attributes which an object of the twin lacks."""
    module, _, name = path.rpartition(".")
    ours, theirs = (importlib.import_module(f"{package.__name__}.{module}") for package in (mp, multiprocessing))
    base, twin = getattr(ours, name), getattr(theirs, name)
    names = added(base, twin) - OF_TWINS.get(module, set())
    if not args or args[0] is not NOT_MADE:
        of_ours, of_theirs = (makes(path, *args)(package) for package in (mp, multiprocessing))
        names = (names | added(of_ours, of_theirs)) - set(dir(of_theirs))
    names -= hidden or set()

    class Derived(base):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            for name in names:
                setattr(self, name, Target())

    Derived.names = names
    Derived.__qualname__ = Derived.__name__ = f"Own{name}"
    globals()[Derived.__name__] = Derived  # where pickle finds it
    return Derived


def kept(obj: Any) -> None:
    """The object has the attributes as they were set."""
    assert {name for name in type(obj).names if type(getattr(obj, name)) is not Target} == set()


NOT_MADE = object()
AFTER_START = {"shutdown", "_process"}  # a manager that was started has them, the twin as well

OwnProcess = deriving("context.Process")
OwnQueue = deriving("queues.Queue", 3)
OwnJoinableQueue = deriving("queues.JoinableQueue")
OwnSimpleQueue = deriving("queues.SimpleQueue")
OwnLock = deriving("synchronize.Lock")
OwnRLock = deriving("synchronize.RLock")
OwnSemaphore = deriving("synchronize.Semaphore", 2)
OwnBoundedSemaphore = deriving("synchronize.BoundedSemaphore", 2)
OwnEvent = deriving("synchronize.Event")
OwnCondition = deriving("synchronize.Condition")
OwnBarrier = deriving("synchronize.Barrier", 2)
OwnConnection = deriving("connection.Connection", NOT_MADE)
OwnSyncManager = deriving("managers.SyncManager", hidden={"set", *AFTER_START})
OwnSharedMemoryManager = deriving("managers.SharedMemoryManager", hidden=AFTER_START)
OwnListProxy = deriving("managers.ListProxy", NOT_MADE, hidden={"clear", "copy"})
OwnSharedMemory = deriving("shared_memory.SharedMemory", NOT_MADE)
OwnShareableList = deriving("shared_memory.ShareableList", NOT_MADE)
OwnSynchronized = deriving("sharedctypes.Synchronized", NOT_MADE)
OwnFinalize = deriving("util.Finalize", NOT_MADE)
OwnArena = deriving("heap.Arena", NOT_MADE)


def tell_name(queue: Any) -> None:
    queue.put(mp.current_process().name)


@pytest.fixture
def default(start_method: str) -> Any:
    """The default context, with that start method."""
    before = mp.get_start_method(allow_none=True)
    mp.set_start_method(start_method, force=True)
    yield
    mp.set_start_method(before, force=True)


def test_a_process_that_has_all_these_attributes_lives_and_ends(default):
    queue = mp.Queue()
    process = OwnProcess(target=tell_name, args=(queue,), name="mine")
    kept(process)
    assert not process.is_alive() and "initial" in repr(process)
    process.start()
    assert queue.get(timeout=PATIENCE) == "mine"
    assert ended(process) == [0] and not process.is_alive()
    kept(process)
    process.close()
    killed = OwnProcess(target=time.sleep, args=(PATIENCE,))
    killed.start()
    killed.terminate()
    assert ended(killed) == [-signal.SIGTERM]


@pytest.mark.parametrize("kind", [OwnQueue, OwnJoinableQueue])
def test_a_queue_that_has_all_these_attributes_works(kind):
    queue = kind(3, ctx=mp.get_context())
    kept(queue)
    queue.put(1)
    queue.put_nowait([2])
    assert mp.connection.wait([queue], 0) == [queue]
    assert queue._reader.poll() and queue._reader.recv() == 1
    copy = pickle.loads(pickle.dumps(queue))
    assert copy.get(timeout=PATIENCE) == [2] and queue.empty() and not queue.full() and queue.qsize() == 0
    if kind is OwnJoinableQueue:
        queue.task_done()
        queue.task_done()
        queue.join()
    repr(queue)
    kept(queue)
    queue.close()
    queue.join_thread()
    with pytest.raises(ValueError, match="closed"):
        queue.put(1)


def test_a_simple_queue_that_has_all_these_attributes_works():
    queue = OwnSimpleQueue(ctx=mp.get_context())
    queue.put(1)
    assert pickle.loads(pickle.dumps(queue)).get() == 1 and queue.empty()
    kept(queue)
    queue.close()


@pytest.mark.parametrize("kind", [OwnLock, OwnRLock, OwnSemaphore, OwnBoundedSemaphore])
def test_a_lock_that_has_all_these_attributes_works(kind):
    lock = kind(ctx=mp.get_context())
    copy = pickle.loads(pickle.dumps(lock))
    methods = type(lock).__mro__[1]  # `acquire` and `release` are of the object in multiprocessing
    assert methods.acquire(lock) and (kind is OwnRLock or not copy.acquire(False))
    methods.release(lock)
    with lock:
        repr(lock)
    kept(lock)


def test_an_event_that_has_all_these_attributes_works():
    event = OwnEvent(ctx=mp.get_context())
    copy = pickle.loads(pickle.dumps(event))
    assert mp.connection.wait([event], 0) == []
    copy.set()
    assert event.wait(PATIENCE) and mp.connection.wait([event], 0) == [event]
    repr(event)
    kept(event)


def test_a_condition_that_has_all_these_attributes_works():
    condition = OwnCondition(ctx=mp.get_context())
    copy = pickle.loads(pickle.dumps(condition))

    def notify() -> None:
        with copy:
            copy.notify_all()

    with condition:
        repr(condition)
        thread = threading.Thread(target=notify)
        thread.start()
        assert condition.wait(PATIENCE)
    thread.join()
    kept(condition)


@pytest.mark.parametrize("action", [None, dict])
def test_a_barrier_that_has_all_these_attributes_works(action):
    barrier = OwnBarrier(2, action, ctx=mp.get_context())
    copy = pickle.loads(pickle.dumps(barrier))
    thread = threading.Thread(target=copy.wait)
    thread.start()
    assert barrier.wait(PATIENCE) in (0, 1)
    thread.join()
    barrier.abort()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    repr(barrier)
    kept(barrier)


def test_a_connection_that_has_all_these_attributes_works():
    ours, theirs = mp.Pipe()
    own = OwnConnection(ours._handle)
    ours._handle = None
    with own, theirs:
        theirs.send([1])
        assert own.poll() and own.recv() == [1]
        own.send_bytes(b"x")
        assert theirs.recv_bytes() == b"x"
        copy = mp.reduction.ForkingPickler.loads(mp.reduction.ForkingPickler.dumps(own))
        copy.send(2)
        assert theirs.recv() == 2
        copy.close()
        kept(own)


@pytest.mark.parametrize("kind", [OwnSyncManager, OwnSharedMemoryManager])
def test_a_manager_that_has_all_these_attributes_works(kind):
    with kind(ctx=mp.get_context("fork")) as manager:
        if kind is OwnSyncManager:
            listed = manager.list([1])
            proxy = OwnListProxy(listed._token, "pickle", manager=manager, authkey=manager._authkey)
            proxy.append(2)
            assert list(listed) == [1, 2] and len(pickle.loads(pickle.dumps(proxy))) == 2
            kept(proxy)
        else:
            manager.SharedMemory(10).close()
            manager.ShareableList([1]).shm.close()
        kept(manager)


def test_segments_and_lists_in_them_that_have_all_these_attributes_work():
    segment = OwnSharedMemory(create=True, size=10)
    segment.buf[0] = 7
    copy = pickle.loads(pickle.dumps(segment))
    assert copy.buf[0] == 7
    kept(segment)
    copy.close()
    segment.close()
    segment.unlink()
    items = OwnShareableList([1, "x"])
    items[0] = 5
    items[1] = "y"
    assert list(items) == [5, "y"] and list(pickle.loads(pickle.dumps(items))) == [5, "y"] and items.format
    kept(items)
    items.shm.close()
    items.shm.unlink()


def test_values_finalizers_and_arenas_that_have_all_these_attributes_work():
    value = OwnSynchronized(mp.RawValue("i", 3), mp.RLock())
    value.value += 1
    assert value.value == 4 and value.get_obj().value == 4
    kept(value)
    called = []
    finalizer = OwnFinalize(None, called.append, (1,), exitpriority=1)
    kept(finalizer)
    finalizer()
    OwnFinalize(None, called.append, (2,), exitpriority=1).cancel()
    assert called == [1] and not finalizer.still_active()
    arena = OwnArena(10)
    memoryview(arena)[0] = 1
    assert memoryview(pickle.loads(pickle.dumps(arena)))[0] == 1
    kept(arena)


# --- methods that are made of others ----------------------------------------------------------------------------------


class Counting:
    """Counts what goes through `put` and `get`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.puts = self.gets = 0

    def put(self, *args: Any, **kwargs: Any) -> None:
        self.puts += 1
        super().put(*args, **kwargs)

    def get(self, *args: Any, **kwargs: Any) -> Any:
        self.gets += 1
        return super().get(*args, **kwargs)


class CountingQueue(Counting, queues.Queue):
    """The methods come from a class that is no queue itself."""


class CountingJoinableQueue(queues.JoinableQueue):
    """The methods are its own."""

    puts = gets = 0

    def put(self, *args: Any, **kwargs: Any) -> None:
        self.puts += 1
        super().put(*args, **kwargs)

    def get(self, *args: Any, **kwargs: Any) -> Any:
        self.gets += 1
        return super().get(*args, **kwargs)


class Grandchild(CountingQueue):
    """Inherits them."""


@pytest.mark.parametrize("kind", [CountingQueue, CountingJoinableQueue, Grandchild])
def test_whatever_puts_and_gets_goes_through_the_put_and_get_of_a_derived_class(kind):
    queue = kind(ctx=mp.get_context())
    queue.put_nowait(1)
    assert queue.get_nowait() == 1 and (queue.puts, queue.gets) == (1, 1)
    queue.put_many([1, 2, 3])
    assert queue.get_many(2) == [1, 2] and (queue.puts, queue.gets) == (4, 3)
    assert queue.get_many(5, timeout=PATIENCE) == [3]
    with pytest.raises(std_queue.Empty):
        queue.get_nowait()
    with pytest.raises(std_queue.Empty):
        queue.get_many(1, timeout=0.01)


def test_put_many_through_an_own_put_tells_how_many_were_put():
    queue = CountingQueue(2, ctx=mp.get_context())
    with pytest.raises(std_queue.Full) as full:
        queue.put_many([1, 2, 3], timeout=0.01)
    assert full.value.__notes__ == ["2 items were put"]
    queue.get_many(2)


def test_a_derived_class_may_have_a_put_nowait_of_its_own_beside_its_put():
    class Own(CountingQueue):
        def put_nowait(self, obj: Any) -> None:
            queues.Queue.put(self, (obj,), False)

    queue = Own(ctx=mp.get_context())
    queue.put_nowait(1)
    assert queue.puts == 0 and queue.get() == (1,)


def test_queues_that_override_nothing_keep_the_compiled_methods():
    class Plain(queues.Queue):
        pass

    assert Plain.put_nowait is queues.Queue.put_nowait is _core.Queue.put_nowait
    assert Plain.get_nowait is _core.Queue.get_nowait


class Reversed(connection.Connection):
    """Moves the bytes of each message backwards, and counts how it was used."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.used: list[str] = []

    def _send_bytes(self, buf: Any) -> None:
        self.used.append("send")
        super()._send_bytes(bytes(buf)[::-1])

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO:
        self.used.append("recv")
        return io.BytesIO(super()._recv_bytes(maxsize).getvalue()[::-1])

    def _poll(self, timeout: float | None) -> bool:
        self.used.append("poll")
        return super()._poll(timeout)

    def _close(self) -> None:
        self.used.append("close")
        super()._close()


def test_what_a_derived_connection_moves_goes_through_its_own_methods():
    ends = mp.Pipe()
    first, second = (Reversed(os.dup(end.fileno())) for end in ends)
    for end in ends:
        end.close()
    first.send([1, "x"])
    first.send_bytes(b"abc", 1)
    first.send_bytes(b"abcd")
    room = bytearray(4)
    assert second.poll() and second.recv() == [1, "x"] and second.recv_bytes() == b"bc"
    assert second.recv_bytes_into(room) == 4 and room == b"abcd"
    assert first.used == ["send"] * 3 and second.used == ["poll", "recv", "recv", "recv"]
    with first:
        pass
    second.close()
    assert first.used[-1] == second.used[-1] == "close" and first.closed and second.closed
