"""Managers: objects in a server process, used by others through proxies."""

from __future__ import annotations

import collections.abc
import copy
import gc
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from random import Random

import pytest

import procession as mp
from deadlines import PATIENCE, state, until
from procession.managers import (
    BaseManager,
    BaseProxy,
    MakeProxyType,
    RemoteError,
    SharedMemoryManager,
    SyncManager,
    Token,
)
from procession.shared_memory import ShareableList, SharedMemory

# --- what the tests' managers hold ---


class Counter:
    def __init__(self, start=0):
        self.count = start

    def up(self, by=1):
        self.count += by
        return self.count

    def fail(self):
        return 1 / 0

    def _hidden(self):
        return "hidden"

    def self(self):
        return self

    def numbers(self):
        return iter(range(3))

    def unpicklable(self):
        return threading.Lock()

    def exit(self):
        raise SystemExit(3)

    def odd(self):
        raise Odd("one", "two")

    def pid(self):
        return os.getpid()


class Odd(Exception):
    """Cannot be unpickled."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class CounterProxy(BaseProxy):
    _exposed_ = ("up", "_hidden")

    def up(self, by=1):
        return self._callmethod("up", (by,))


class Office(BaseManager):
    pass


Office.register("Counter", Counter)
Office.register("Seen", Counter, exposed=("up", "_hidden"))
Office.register("Own", Counter, CounterProxy)
Office.register(
    "Typed", Counter, exposed=("up", "self", "numbers"), method_to_typeid={"self": "Same", "numbers": "Numbers"}
)
Office.register("Same", exposed=("up",), create_method=False)
Office.register("Numbers", exposed=("__next__",), create_method=False)


@pytest.fixture
def manager(start_method):
    with mp.get_context(start_method).Manager() as manager:
        yield manager


@pytest.fixture
def shared():
    with mp.get_context("fork").Manager() as manager:
        yield manager


@pytest.fixture
def office(start_method):
    with Office(ctx=mp.get_context(start_method)) as office:
        yield office


# --- calls ---


def test_what_a_method_returns_comes_back_from_the_server(office):
    counter = office.Counter(40)
    assert counter.up() == 41
    assert counter.up(by=1) == 42
    assert counter.pid() == office._process.pid != os.getpid()


def test_an_exception_arrives_with_the_traceback_of_the_server(office):
    with pytest.raises(ZeroDivisionError) as caught:
        office.Counter().fail()
    assert "return 1 / 0" in str(caught.value.__cause__)


def test_an_exception_that_cannot_be_unpickled_is_told_as_text(office):
    with pytest.raises(RemoteError, match="one and two"):
        office.Counter().odd()


def test_a_method_that_exits_does_not_end_the_server(office):
    counter = office.Counter()
    with pytest.raises(RemoteError, match="SystemExit"):
        counter.exit()
    assert counter.up() == 1


def test_a_result_that_cannot_be_pickled_is_an_error_of_that_call_alone(office):
    counter = office.Counter()
    with pytest.raises(RemoteError, match="Unserializable"):
        counter.unpicklable()
    assert counter.up() == 1


def test_an_argument_that_cannot_be_pickled_is_an_error_of_the_caller_alone(office):
    counter = office.Counter()
    with pytest.raises((TypeError, pickle.PicklingError)):
        counter.up(threading.Lock())
    assert counter.up() == 1


def test_only_what_is_exposed_can_be_called(office):
    counter, seen = office.Counter(), office.Seen()
    assert not hasattr(counter, "_hidden")
    assert seen._hidden() == "hidden"
    assert not hasattr(seen, "fail")
    for proxy, name in ((counter, "_hidden"), (seen, "fail"), (seen, "__init__")):
        with pytest.raises(RemoteError, match="is not in exposed"):
            proxy._callmethod(name)


def test_a_proxy_class_of_ones_own(office):
    own = office.Own(1)
    assert type(own) is CounterProxy
    assert own.up(2) == 3
    assert own._callmethod("_hidden") == "hidden"


def test_a_method_with_a_type_returns_a_proxy(office):
    typed = office.Typed(7)
    same = typed.self()
    assert same.up() == 8
    assert typed.up() == 9
    numbers = typed.numbers()
    assert [numbers.__next__() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(StopIteration):
        numbers.__next__()


def test_a_type_without_a_method_that_creates(office):
    assert not hasattr(office, "Numbers")


def test_registering_with_bad_types_is_refused():
    with pytest.raises(TypeError, match="method_to_typeid"):
        Office.register("bad", Counter, method_to_typeid={"up": 1})


def test_a_subclass_registers_for_itself_alone():
    class Branch(Office):
        pass

    Branch.register("extra", Counter)
    assert "extra" in Branch._registry
    assert "extra" not in Office._registry


def test_a_lambda_can_be_registered(start_method):
    class Small(BaseManager):
        pass

    Small.register("thing", lambda: {"made": "here"}, exposed=("__getitem__",))
    with Small(ctx=mp.get_context(start_method)) as small:
        assert small.thing()["made"] == "here"


def test_big_values_go_there_and_back(shared):
    d = shared.dict()
    for value in (b"x" * 3_000_000, "ü" * 100_000, list(range(50_000)), bytearray(5000)):
        d["big"] = value
        assert d["big"] == value


def test_shared_objects_go_through_a_manager(manager, start_method):
    d, lock, q = manager.dict(), mp.Lock(), mp.Queue()
    d["lock"], d["queue"] = lock, q
    d["queue"].put("through")
    assert q.get(timeout=PATIENCE) == "through"
    with d["lock"]:
        assert not lock.acquire(False)


def test_each_thread_has_a_channel_of_its_own(shared):
    d, errors = shared.dict(), []

    def work(number):
        try:
            for i in range(200):
                d[number, i] = i
                assert d[number, i] == i
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not errors
    assert len(d) == 8 * 200


def test_a_method_that_waits_keeps_nobody_else_waiting(shared):
    lock, d = shared.Lock(), shared.dict()
    lock.acquire()
    waiting = threading.Thread(target=lock.acquire)
    waiting.start()
    d["meanwhile"] = 1
    assert d["meanwhile"] == 1
    lock.release()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    lock.release()


# --- the types of SyncManager ---


def test_a_list(shared):
    proxy, same = shared.list([3, 1, 2]), [3, 1, 2]
    for change in (
        lambda x: x.append(5),
        lambda x: x.extend((7, 8)),
        lambda x: x.insert(0, 9),
        lambda x: x.sort(),
        lambda x: x.reverse(),
        lambda x: x.pop(),
        lambda x: x.remove(5),
        lambda x: x.__setitem__(slice(0, 2), "ab"),
        lambda x: x.__delitem__(0),
    ):
        change(proxy)
        change(same)
        assert proxy[:] == same == list(proxy)
    assert (len(proxy), proxy[0], proxy.index(2), proxy.count(2)) == (len(same), same[0], same.index(2), same.count(2))
    assert proxy.__add__([1]) == [*same, 1]
    assert proxy * 2 == 2 * proxy == same * 2
    assert list(reversed(proxy)) == same[::-1]
    assert 2 in proxy
    before = proxy
    proxy += [1]
    proxy *= 2
    assert proxy is before
    assert proxy[:] == [*same, 1] * 2
    copied = proxy.copy()
    proxy.clear()
    assert (proxy[:], copied) == ([], [*same, 1] * 2)
    assert isinstance(proxy, collections.abc.MutableSequence)
    assert str(shared.list([1])) == "[1]"


def test_a_dict(shared):
    proxy = shared.dict({"a": 1}, b=2)
    assert sorted(proxy.items()) == [("a", 1), ("b", 2)]
    assert proxy.keys() == ["a", "b"]
    assert proxy.values() == [1, 2]
    assert list(proxy) == ["a", "b"]
    assert list(reversed(proxy.copy())) == ["b", "a"]
    assert proxy | {"c": 3} == {"a": 1, "b": 2, "c": 3}
    assert {"c": 3} | proxy == {"c": 3, "a": 1, "b": 2}
    before = proxy
    proxy |= {"d": 4}
    assert proxy is before
    assert proxy["d"] == 4
    assert proxy.pop("d") == 4
    assert proxy.setdefault("e", 5) == proxy.get("e") == 5
    assert proxy.fromkeys(["x"], 0) == {"x": 0}
    proxy.update({"a": 6})
    del proxy["e"]
    assert ("a" in proxy, "e" in proxy, len(proxy)) == (True, False, 2)
    assert proxy.popitem() == ("b", 2)
    proxy.clear()
    assert proxy.copy() == {}
    assert isinstance(proxy, collections.abc.MutableMapping)
    with pytest.raises(KeyError, match="missing"):
        proxy["missing"]


def test_a_set(shared):
    proxy = shared.set([1, 2, 3])
    assert (proxy & {1, 9}, proxy | {9}, proxy - {1}, proxy ^ {1, 9}) == ({1}, {1, 2, 3, 9}, {2, 3}, {2, 3, 9})
    assert ({1, 9} & proxy, {9} | proxy, {1, 9} - proxy, {1, 9} ^ proxy) == ({1}, {1, 2, 3, 9}, {9}, {2, 3, 9})
    assert (proxy >= {1}, proxy > {1}, proxy <= {1}, proxy < {1, 2, 3, 4}) == (True, True, False, True)
    before = proxy
    proxy |= {4}
    proxy &= {1, 2, 4}
    proxy -= {1}
    proxy ^= {5}
    assert proxy is before
    assert sorted(proxy) == [2, 4, 5]
    proxy.add(6)
    proxy.discard(2)
    proxy.remove(4)
    with pytest.raises(KeyError):
        proxy.remove(4)
    assert (len(proxy), 6 in proxy, proxy.isdisjoint({7}), proxy.issubset({5, 6}), proxy.issuperset({5})) == (
        2,
        True,
        True,
        True,
        True,
    )
    assert (proxy.union({1}), proxy.difference({5}), proxy.copy()) == ({1, 5, 6}, {6}, {5, 6})
    proxy.clear()
    assert len(proxy) == 0


def test_a_namespace_a_value_and_an_array(shared):
    space = shared.Namespace(x=1, _private=2)
    space.y = [1]
    assert (space.x, space.y, str(space)) == (1, [1], "Namespace(x=1, y=[1])")
    del space.x
    with pytest.raises(AttributeError):
        _ = space.x
    value = shared.Value("i", 4)
    value.value += 1
    assert (value.value, value.get(), str(value)) == (5, 5, "Value('i', 5)")
    array = shared.Array("i", range(4))
    array[1] = 9
    assert (len(array), list(array), array[1:3]) == (4, [0, 9, 2, 3], array[1:3])


def test_locks_tell_whether_they_are_held(shared):
    for lock in (shared.Lock(), shared.RLock(), shared.Semaphore(1), shared.BoundedSemaphore(1), shared.Condition()):
        assert not lock.locked()
        with lock:
            assert lock.locked()
        assert not lock.locked()


def test_a_lock_that_is_not_to_be_had_in_time(shared):
    lock = shared.Lock()
    assert lock.acquire()
    assert not lock.acquire(False)
    assert not lock.acquire(True, 0.01)
    lock.release()
    with pytest.raises(RuntimeError):
        lock.release()


def test_an_rlock_is_the_threads_that_acquired_it(shared):
    lock, got = shared.RLock(), []
    with lock, lock:
        thread = threading.Thread(target=lambda: got.append(lock.acquire(False)))
        thread.start()
        thread.join(PATIENCE)
    assert got == [False]


def test_a_condition_an_event_and_a_barrier(shared):
    condition, event, barrier, space = shared.Condition(), shared.Event(), shared.Barrier(2), shared.Namespace(n=0)

    def other():
        with condition:
            space.n = 1
            condition.notify()
        event.set()
        barrier.wait(PATIENCE)

    assert not event.wait(0.01)
    with condition:
        thread = threading.Thread(target=other)
        thread.start()
        assert condition.wait_for(lambda: space.n, PATIENCE)
    assert event.wait(PATIENCE)
    assert event.is_set()
    assert barrier.parties == 2
    barrier.wait(PATIENCE)
    thread.join(PATIENCE)
    assert not barrier.broken
    barrier.abort()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(0)
    assert condition.wait_for(lambda: False, 0.01) is False if condition.acquire() else None
    condition.release()


def test_a_queue(shared):
    q = shared.Queue(1)
    q.put("first")
    with pytest.raises(queue.Full):
        q.put("second", False)
    assert q.full()
    assert q.get() == "first"
    with pytest.raises(queue.Empty):
        q.get(timeout=0.01)
    joinable = shared.JoinableQueue()
    joinable.put(1)
    joinable.get()
    joinable.task_done()
    joinable.join()


# --- nesting ---


def test_proxies_in_proxies(manager):
    outer = manager.dict()
    outer["inner"] = manager.list([1])
    outer["inner"].append(2)
    outer["inner"].append(manager.dict(deep=True))
    assert outer["inner"][2]["deep"] is True
    assert copy.deepcopy(outer["inner"])[:2] == [1, 2]


def _append(proxies):
    proxies["list"].append(len(proxies["list"]))
    return list(proxies)


def _in_child(proxies, done):
    done.put(_append(proxies))


def test_a_grandchild_uses_a_proxy_that_it_found_in_another(manager, start_method):
    ctx = mp.get_context(start_method)
    proxies, done = manager.dict(), ctx.Queue()
    proxies["list"] = manager.list()
    child = ctx.Process(target=_start_another, args=(start_method, proxies, done))
    child.start()
    assert done.get(timeout=PATIENCE) == ["list"]
    child.join(PATIENCE)
    assert child.exitcode == 0
    assert proxies["list"][:] == [0]


def _start_another(start_method, proxies, done):
    child = mp.get_context(start_method).Process(target=_in_child, args=(proxies, done))
    child.start()
    child.join()


def test_an_iterator_of_a_dict_works_where_its_manager_is_not(manager, start_method):
    ctx = mp.get_context(start_method)
    d, done = manager.dict(a=1, b=2), ctx.Queue()
    child = ctx.Process(target=_iterate, args=(d, done))
    child.start()
    assert done.get(timeout=PATIENCE) == ["a", "b"]
    child.join(PATIENCE)


def _iterate(d, done):
    done.put(list(d))


# --- forks ---


def test_a_raw_fork_does_not_mix_up_its_parents_answers(shared):
    d = shared.dict(who="parent")
    assert d["who"] == "parent"
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if d["who"] == "parent" and d.update(child=1) is None else 1)
        finally:
            os._exit(2)
    for _ in range(100):
        assert d["who"] == "parent"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert d["child"] == 1


def test_a_manager_that_is_handed_to_a_child_makes_objects_there(manager, start_method):
    ctx = mp.get_context(start_method)
    done, seen = ctx.Queue(), ctx.Event()
    child = ctx.Process(target=_make, args=(manager, done, seen))
    child.start()
    made = done.get(timeout=PATIENCE)
    assert made["from"] == "child"
    seen.set()
    child.join(PATIENCE)
    assert child.exitcode == 0


def _make(manager, done, seen):
    made = manager.dict({"from": "child"})
    done.put(made)
    assert seen.wait(PATIENCE)
    del made


# --- references ---


def test_a_proxy_that_was_the_last_one_in_the_server_arrives_alive(manager):
    for _ in range(50):
        d, q = manager.dict(), manager.Queue()
        d["inner"] = manager.list([1])
        q.put(manager.list([2]))
        popped, got = d.pop("inner"), q.get(timeout=PATIENCE)
        popped.append(3)
        got.append(4)
        assert (popped[:], got[:]) == ([1, 3], [2, 4])
    del d, q, popped, got
    until(lambda: manager._number_of_objects() == 0)


def test_a_proxy_that_a_threads_last_answer_has_brought_is_alive(manager):
    d, found = manager.dict(), []
    for _ in range(20):
        d["inner"] = manager.list([1])
        thread = threading.Thread(target=lambda: found.append(d.pop("inner")))
        thread.start()
        thread.join()
        assert found[-1][:] == [1]


def test_an_object_goes_with_its_last_proxy(manager):
    assert manager._number_of_objects() == 0
    first, second = manager.list(), manager.dict()
    again = pickle.loads(pickle.dumps(first))
    assert manager._number_of_objects() == 2
    del first
    assert manager._number_of_objects() == 2
    assert again[:] == []
    del again
    assert manager._number_of_objects() == 1
    second["inner"] = manager.list()
    assert manager._number_of_objects() == 1  # to which processes refer
    del second
    assert manager._number_of_objects() == 0


class Noted:
    """Leaves a file behind."""

    def __init__(self, path):
        self.path, self.others = path, []

    def hold(self, other):
        self.others.append(other)

    def __del__(self):
        open(self.path, "w").close()


def _collect(*_):
    gc.collect()


Office.register("Noted", Noted)
Office.register("collect", _collect)


def test_what_only_the_gone_referred_to_goes_too_also_in_circles(office, tmp_path):
    paths = [tmp_path / str(n) for n in range(3)]
    outer, inner, last = (office.Noted(path) for path in paths)
    outer.hold(inner)
    inner.hold(last)
    last.hold(outer)
    del inner, last
    office.collect()
    assert not any(path.exists() for path in paths)
    del outer
    office.collect()
    until(lambda: all(path.exists() for path in paths))


def test_the_same_object_is_one_object_however_often_it_is_asked_for(start_method):
    class Single(BaseManager):
        pass

    Single.register("the", _the_one, exposed=("append", "__len__"))
    with Single(ctx=mp.get_context(start_method)) as single:
        first, second = single.the(), single.the()
        first.append(1)
        assert len(second) == 1
        assert single._number_of_objects() == 1
        del first
        assert len(second) == 1
        del second
        assert single._number_of_objects() == 0


_one: list[int] = []


def _the_one():
    return _one


def test_debug_info_lists_what_is_there(manager):
    kept = manager.list(["seen"])
    assert "refcount=1" in manager._debug_info()
    assert "['seen']" in manager._debug_info()
    assert kept[:] == ["seen"]


def test_what_a_proxy_shows_of_itself(manager):
    event = manager.Event()
    assert repr(event).startswith("<EventProxy object, typeid 'Event' at ")
    assert "Event" in str(event)


def _hold(manager, proxy, holding):
    kept = [manager.list() for _ in range(3)], proxy
    holding.put(len(kept))
    time.sleep(PATIENCE * 10)


def test_the_references_of_a_killed_process_end(manager, start_method):
    ctx = mp.get_context(start_method)
    mine, holding = manager.dict(), ctx.Queue()
    child = ctx.Process(target=_hold, args=(manager, mine, holding))
    child.start()
    holding.get(timeout=PATIENCE)
    assert manager._number_of_objects() == 4
    child.kill()
    child.join(PATIENCE)
    assert manager._number_of_objects() == 1
    del mine
    assert manager._number_of_objects() == 0


def test_a_proxy_without_an_object_says_so(shared):
    gone = pickle.dumps(shared.list())
    assert shared._number_of_objects() == 0
    orphan = pickle.loads(gone)
    with pytest.raises(RemoteError, match="no reference to it is left"):
        orphan.append(1)


# --- death ---


def _wait_for(lock, waiting):
    waiting.put(1)
    lock.acquire()


def test_a_lock_does_not_go_to_a_client_that_was_killed_while_it_waited(manager, start_method):
    ctx = mp.get_context(start_method)
    lock, waiting = manager.Lock(), ctx.Queue()
    lock.acquire()
    child = ctx.Process(target=_wait_for, args=(lock, waiting))
    child.start()
    waiting.get(timeout=PATIENCE)
    time.sleep(0.2)  # it cannot be seen whether it waits already; if not, this test shows less
    child.kill()
    child.join(PATIENCE)
    lock.release()
    assert lock.acquire(True, PATIENCE)


def _take_one(q, waiting):
    waiting.put(1)
    q.get()


def test_an_item_does_not_go_to_a_client_that_was_killed_while_it_waited(manager, start_method):
    ctx = mp.get_context(start_method)
    q, waiting = manager.Queue(), ctx.Queue()
    child = ctx.Process(target=_take_one, args=(q, waiting))
    child.start()
    waiting.get(timeout=PATIENCE)
    time.sleep(0.2)  # as above
    child.kill()
    child.join(PATIENCE)
    q.put("only one")
    assert q.get(timeout=PATIENCE) == "only one"


def test_a_killed_server_is_an_error_of_whoever_waits_for_it(start_method):
    manager = SyncManager(ctx=mp.get_context(start_method))
    manager.start()
    event, outcome = manager.Event(), []

    def wait():
        try:
            event.wait()
        except (EOFError, ConnectionError) as error:
            outcome.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    event.is_set()
    os.kill(manager._process.pid, signal.SIGKILL)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert "has ended" in str(outcome[0])
    for _ in range(2):
        with pytest.raises((EOFError, ConnectionError), match="has ended"):
            event.is_set()
    with pytest.raises((EOFError, ConnectionError), match="has ended"):
        manager.list()
    manager.shutdown()


def test_what_is_used_after_the_shutdown_says_so(start_method):
    with mp.get_context(start_method).Manager() as manager:
        d = manager.dict()
    with pytest.raises((EOFError, ConnectionError), match="has ended"):
        d["x"] = 1


def test_an_interrupted_call_does_not_leave_its_answer_to_the_next(shared):
    event, d = shared.Event(), shared.dict(x="mine")
    main = threading.main_thread().ident
    timer = threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        event.wait()
    timer.join()
    event.set()
    for _ in range(10):
        assert d["x"] == "mine"


def _storm(manager, counts, lock, seed, results):
    random = Random(seed)
    while True:
        mine = manager.dict({"n": seed})
        mine["inner"] = manager.list([seed])
        for _ in range(random.randrange(20)):
            assert mine["n"] == seed
            assert mine["inner"][0] == seed
            counts[seed] = counts.get(seed, 0) + 1
        results.put(seed)
        del mine


def _started(ctx, target, *args):
    process = ctx.Process(target=target, args=args)
    process.start()
    return process


def test_clients_that_are_killed_at_any_moment_leave_nothing_and_disturb_nobody(manager, start_method):
    ctx, random = mp.get_context(start_method), Random(1)
    counts, lock, results = manager.dict(), manager.Lock(), manager.Queue()

    clients = [_started(ctx, _storm, manager, counts, lock, seed, results) for seed in range(4)]
    try:
        for seed in range(4, 24):
            for _ in range(random.randrange(1, 6)):
                results.get(timeout=PATIENCE)
            victim = clients.pop(random.randrange(len(clients)))
            victim.kill()
            victim.join(PATIENCE)
            clients.append(_started(ctx, _storm, manager, counts, lock, seed, results))
    finally:
        for client in clients:
            client.kill()
            client.join(PATIENCE)
    until(lambda: manager._number_of_objects() == 3)  # the server learns of the last deaths a little later
    with lock:
        assert sum(counts.values()) > 0
    del counts, lock, results
    until(lambda: manager._number_of_objects() == 0)


def _noted_when_its_maker_is_forgotten(pid, begun, gone):
    """Takes as long as it takes the server to notice that the client has been killed."""
    known = mp.current_process()._manager_server._watch._known
    assert any(pid == watched for watched, _ in known)
    begun.touch()
    until(lambda: not any(pid == watched for watched, _ in tuple(known)))
    return Noted(gone)


Office.register("Late", _noted_when_its_maker_is_forgotten)


def _make_late(office, *paths):
    office.Late(os.getpid(), *paths)


def test_what_is_made_for_a_client_that_has_been_killed_meanwhile_is_nobodys(office, start_method, tmp_path):
    begun, gone = tmp_path / "begun", tmp_path / "gone"
    client = _started(mp.get_context(start_method), _make_late, office, begun, gone)
    until(begun.exists)
    client.kill()
    client.join(PATIENCE)
    until(gone.exists)
    assert office._number_of_objects() == 0


# --- beginning and end ---


def test_a_manager_is_started_once(start_method):
    with mp.get_context(start_method).Manager() as manager:
        with pytest.raises(mp.ProcessError, match="Already started"):
            manager.start()
        with pytest.raises(mp.ProcessError, match="Already started"):
            manager.get_server()
    with pytest.raises(mp.ProcessError, match="shut down"):
        manager.start()


def _fail():
    raise RuntimeError("not today")


def _set_up(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))


def test_an_initializer_runs_in_the_server_first(start_method, tmp_path):
    manager = SyncManager(ctx=mp.get_context(start_method))
    manager.start(_set_up, (tmp_path / "pid",))
    assert (tmp_path / "pid").read_text() == str(manager._process.pid)
    manager.shutdown()


def test_an_initializer_that_fails_is_an_error_of_start(start_method, capfd):
    manager = SyncManager(ctx=mp.get_context(start_method))
    with pytest.raises(EOFError, match="not today"):
        manager.start(_fail)
    with pytest.raises(TypeError, match="callable"):
        SyncManager().start(1)


def test_join_waits_for_the_server(start_method):
    manager = SyncManager(ctx=mp.get_context(start_method))
    manager.start()
    process = manager._process
    manager.shutdown()
    manager.join()
    assert process.exitcode == 0


def test_a_server_ignores_interrupts(shared):
    os.kill(shared._process.pid, signal.SIGINT)
    assert shared.list([1])[:] == [1]


def test_a_server_ends_with_a_manager_that_was_forgotten(start_method):
    manager = SyncManager(ctx=mp.get_context(start_method))
    manager.start()
    process = manager._process
    del manager
    process.join(PATIENCE)
    assert process.exitcode == 0


MAKES_ONE = """
import sys, time
import procession as mp
if __name__ == "__main__":
    manager = mp.get_context(sys.argv[1]).Manager()
    print(manager._process.pid, flush=True)
    time.sleep(1000)
"""


def test_a_server_ends_with_a_process_that_was_killed_before_it_could_say_so(start_method, tmp_path):
    (tmp_path / "program.py").write_text(MAKES_ONE)
    command = [sys.executable, str(tmp_path / "program.py"), start_method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        server = int(program.stdout.readline())
        program.kill()
    until(lambda: state(server) in "XZ")


def test_make_proxy_type_makes_the_same_class_once():
    first = MakeProxyType("Some", ("a", "b"))
    assert first is MakeProxyType("Some", ("a", "b"))
    assert first.a.__name__ == "a"
    assert Token("t", "address", "1").id == "1"


# --- named segments ---


def test_the_segments_of_a_manager_go_with_it(start_method):
    manager = SharedMemoryManager(ctx=mp.get_context(start_method))
    with pytest.raises(ValueError, match="not running"):
        manager.SharedMemory(10)
    with manager:
        segment, items = manager.SharedMemory(100), manager.ShareableList(["a", 1])
        segment.buf[:3] = b"abc"
        assert bytes(SharedMemory(segment.name).buf[:3]) == b"abc"
        assert list(ShareableList(name=items.shm.name)) == ["a", 1]
        assert manager._procession_remote.command("list_segments", (), {}) == sorted((segment.name, items.shm.name))
    for name in (segment.name, items.shm.name):
        with pytest.raises(FileNotFoundError):
            SharedMemory(name)
