"""Beside libraries that were written for multiprocessing, use it themselves, and reach for what is inside."""

from __future__ import annotations

import logging.config
import multiprocessing.connection
import multiprocessing.queues
import multiprocessing.reduction
import pickle
import sys
import zlib
from typing import Any

import pytest

import procession as mp
import procession.queues
from deadlines import PATIENCE, ended, running
from procession import process
from programs import run, write

# --- the main module --------------------------------------------------------------------------------------------------

MAIN = """
from __future__ import annotations
import multiprocessing  # whose import has __mp_main__ mean what __main__ means
from dataclasses import dataclass, fields
from typing import ClassVar
import sys
import procession as mp
import pickle

@dataclass
class Result:
    number: int
    shared: ClassVar[int] = 3

assert pickle.loads(pickle.dumps(Result(1))) == Result(1)  # also while the module is being imported

def make(number):
    return Result(number), [field.name for field in fields(Result)]

def put(q):
    q.put(make(1))

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    q, (here, there) = context.Queue(), context.Pipe()
    process = context.Process(target=put, args=(q,))
    process.start()
    expected = (Result(1), ["number"])
    assert q.get(timeout=PATIENCE) == expected
    process.join()
    with context.Pool(1) as pool:
        assert pool.apply(make, (1,)) == expected
    print("well")
"""


@pytest.mark.parametrize("how", [["main.py"], ["-m", "main"]])
def test_classes_of_the_main_module_are_found_beside_whoever_imports_multiprocessing(start_method, how, tmp_path):
    write(tmp_path / "main.py", MAIN)
    assert run(*how, start_method, cwd=tmp_path).well() == "well\n"


@pytest.mark.start_methods("spawn", "forkserver")
def test_a_main_module_that_fails_in_the_child_leaves_the_one_that_was_there(start_method, tmp_path):
    source = """
    import sys
    import procession as mp
    if __name__ != "__main__":
        sys.excepthook = lambda kind, error, trace: print(error, sys.modules["__main__"].__name__, flush=True)
        raise RuntimeError("no child can import this")
    if __name__ == "__main__":
        process = mp.get_context(sys.argv[1]).Process(target=print)
        process.start()
        process.join()
        print(process.exitcode)
    """
    out = run(write(tmp_path / "main.py", source), start_method).out
    assert "no child can import this" in out
    assert "__mp_main__" not in out
    assert out.splitlines()[-1] == "1"


# --- reducers that a library has registered with multiprocessing's pickler --------------------------------------------


class Tensor:
    def __init__(self, how: str) -> None:
        self.how = how


def rebuilt() -> Tensor:
    return Tensor("reduced")


REDUCERS = """
import sys
import procession as mp
from multiprocessing.reduction import ForkingPickler

class Tensor:
    def __init__(self, how): self.how = how

class Same(Tensor):
    pass

def rebuilt():
    return Tensor("reduced")

def send(q, connection):
    q.put(Tensor("plain"))
    connection.send(Tensor("plain"))

def make(_):
    return Tensor("plain")

def how(tensor):
    return tensor.how

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    q, (here, there), simple, several = context.Queue(), context.Pipe(), context.SimpleQueue(), context.Queue()
    q.put(Tensor("plain"))
    assert q.get().how == "plain"  # nobody has registered anything yet

ForkingPickler.register(Tensor, lambda tensor: (rebuilt, ()))

if __name__ == "__main__":
    process = context.Process(target=send, args=(q, there))
    process.start()
    got = [q.get(timeout=PATIENCE).how, here.recv().how]
    process.join()
    simple.put(Tensor("plain"))
    several.put_many([Tensor("plain"), [Tensor("plain")]])
    shared = mp.SharedDict()
    shared["a"] = Tensor("plain")
    got += [simple.get().how, several.get().how, several.get()[0].how, shared["a"].how]
    with context.Pool(1) as pool:
        got += [pool.apply(make, (0,)).how, pool.apply(how, (Tensor("plain"),)), pool.map(how, [Tensor("plain")])[0]]
    with mp.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        got += [executor.submit(how, Tensor("plain")).result()]
    assert got == ["reduced"] * 10, got
    q.put(Same("of exactly this type"))
    assert q.get().how == "of exactly this type"
    print("well")
"""


def test_reducers_registered_with_multiprocessing_are_used_wherever_objects_are_sent(start_method, tmp_path):
    script = REDUCERS.replace("import procession as mp\n", "import procession as mp\nimport procession.futures\n")
    assert run(write(tmp_path / "reducers.py", script), start_method).well() == "well\n"


def test_reducers_count_that_came_before_this_package_did(tmp_path):
    source = """
    from multiprocessing.reduction import ForkingPickler
    class Tensor: how = "plain"
    def rebuilt():
        tensor = Tensor()
        tensor.how = "reduced"
        return tensor
    ForkingPickler.register(Tensor, lambda tensor: (rebuilt, ()))
    import procession
    q = procession.SimpleQueue()
    q.put(Tensor())
    print(q.get().how)
    """
    assert run(write(tmp_path / "before.py", source)).well() == "reduced\n"


def test_reducers_that_were_taken_back_cost_nothing_from_then_on(tmp_path):
    source = """
    from multiprocessing.reduction import ForkingPickler
    import procession
    from procession import _core
    class Tensor: how = "plain"
    def rebuilt():
        tensor = Tensor()
        tensor.how = "reduced"
        return tensor
    def is_small():
        _core._encode_small(Tensor())  # a class is looked at once
        return _core._encode_small(Tensor()) is not None
    q = procession.SimpleQueue()
    for _ in range(2):
        ForkingPickler.register(Tensor, lambda tensor: (rebuilt, ()))
        q.put(Tensor())
        print(q.get().how, is_small())
        del ForkingPickler._extra_reducers[Tensor]
        q.put(Tensor())
        print(q.get().how, is_small())
    """
    assert run(write(tmp_path / "again.py", source)).well() == "reduced False\nplain True\n" * 2


def echo(ours, theirs):
    theirs.send(ours.recv())


def test_connections_of_multiprocessing_go_through_our_queues_and_pipes_as_through_its_own(start_method):
    context = mp.get_context(start_method)
    q, (here, there) = context.Queue(), context.Pipe()
    with running(context, (pass_on, q, there)) as processes:
        for send in (q.put, here.send):
            ours, theirs = multiprocessing.Pipe()
            send(theirs)
            ours.send("hello")
            assert ours.poll(PATIENCE)
            assert ours.recv() == "hello back"
        assert ended(*processes) == [0]


def pass_on(q, connection):
    for get in (q.get, connection.recv):
        theirs = get()
        theirs.send(theirs.recv() + " back")


# --- one key ----------------------------------------------------------------------------------------------------------

MANAGERS = """
import sys
import procession as mp

def add(items):
    items.append(1)
    return len(items)

def put(q, connection):
    q.put(add(connection.recv()))

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    with context.Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1  # it is there before multiprocessing is
        assert "multiprocessing" not in sys.modules
        q, (here, there) = context.Queue(), context.Pipe()
        early = context.Process(target=put, args=(q, there))
        early.start()
        import multiprocessing.managers
        manager = multiprocessing.managers.SyncManager(ctx=multiprocessing.get_context("spawn"))
        manager.start()
        items = manager.list()
        assert pool.apply_async(add, (items,)).get(PATIENCE) == 1
        here.send(items)
        assert q.get(timeout=PATIENCE) == 2
        early.join()
    multiprocessing.current_process().authkey = b"one of its own"
    with multiprocessing.managers.SyncManager(ctx=multiprocessing.get_context("spawn")) as other:
        items = other.list()
        with context.Pool(1) as pool:
            assert pool.apply_async(add, (items,)).get(PATIENCE) == 1
    assert bytes(mp.current_process().authkey) != b"one of its own"
    manager.shutdown()
    print("well")
"""


def test_proxies_of_multiprocessing_managers_reach_their_servers_from_all_our_processes(start_method, tmp_path):
    assert run(write(tmp_path / "managers.py", MANAGERS), start_method).well() == "well\n"


@pytest.mark.parametrize("first", ["multiprocessing", "procession"])
def test_both_packages_have_one_key_whichever_is_imported_first(first):
    second = {"multiprocessing": "procession", "procession": "multiprocessing"}[first]
    code = f"import {first}, {second}; print(*(bytes(p.current_process().authkey) for p in ({first}, {second})))"
    one, other = run("-c", code).well().split(" b")
    assert one == f"b{other.strip()}"


# --- the order of ends ------------------------------------------------------------------------------------------------

IMPORTED = ["connection", "queues", "synchronize", "heap", "sharedctypes", "resource_sharer", "spawn", "util", "pool"]


@pytest.mark.parametrize("module", IMPORTED)
def test_what_a_library_registers_for_the_exit_runs_before_children_are_joined(module, tmp_path):
    source = f"""
    import atexit
    import procession.{module}
    import procession as mp
    workers = []

    @atexit.register
    def stop():
        for event, process in workers:
            event.set()
            process.join()

    def work(event):
        event.wait(PATIENCE) or print("nobody has stopped this")

    if __name__ == "__main__":
        context = mp.get_context("fork")
        event = context.Event()
        process = context.Process(target=work, args=(event,))
        process.start()
        workers.append((event, process))
    """
    assert run(write(tmp_path / "library.py", source)).well() == ""


def test_the_farewell_can_be_unregistered_and_taken_early():
    code = """if True:
    import atexit
    import procession.connection
    from procession import util
    util.Finalize(None, print, ("not at exit",), exitpriority=1)
    atexit.unregister(util._exit_function)
    """
    assert run("-c", code).well() == ""


# --- private names ----------------------------------------------------------------------------------------------------


def test_a_process_has_the_private_names_that_libraries_touch():
    process_ = mp.get_context("fork").Process(target=int)
    assert not hasattr(process_, "_sentinel")
    process_.start()
    assert process_._sentinel == process_.sentinel
    process_._sentinel = None
    assert process_._sentinel is None
    process_.join()
    assert process._exitcode_to_name[-9] == "-SIGKILL"
    assert process._exitcode_to_name is process._exitcode_to_name


# --- a manager whose context has processes of its own -----------------------------------------------------------------


MANAGER = """
import threading
from procession import managers
from procession.context import BaseContext
from procession.process import BaseProcess

class ThreadAsProcess(BaseProcess):
    # as ansible has it: it takes what multiprocessing passes, and nothing else
    def __init__(self, *, target, args):
        super().__init__()
        self.thread = threading.Thread(target=target, args=args, daemon=True)

    def start(self):
        self.thread.start()
        assert told.wait(PATIENCE)  # the parent closes its end of the pipe afterwards, as if it were one of two

    def join(self, timeout=None):
        self.thread.join(timeout)

    def is_alive(self):
        return self.thread.is_alive()

told = threading.Event()

class Context(BaseContext):
    Process = ThreadAsProcess

class Manager(managers.BaseManager):
    @classmethod
    def _run_server(cls, registry, address, authkey, serializer, writer, initializer=None, initargs=()):
        server = cls._Server(registry, address, authkey, serializer)
        writer.send(server.address)
        writer.send(server.control_queue)
        told.set()
        server.serve_forever()

Manager.register("items", callable=lambda: [1, 2], exposed=["__len__", "append"])

if __name__ == "__main__":
    manager = Manager(ctx=Context())
    manager.start()
    items = manager.items()
    items.append(3)
    print(items.__len__())
"""


def test_the_process_of_a_managers_server_gets_what_multiprocessing_passes_and_no_more(tmp_path):
    assert run(write(tmp_path / "manager.py", MANAGER)).well() == "3\n"


# --- queues -----------------------------------------------------------------------------------------------------------


class Wrapper:
    """Around an end of a queue, as torch has it."""

    def __init__(self, end):
        self.end = end

    def send(self, obj):
        self.send_bytes(pickle.dumps(("wrapped", obj)))

    def recv(self):
        return pickle.loads(self.recv_bytes())

    def __getattr__(self, name):
        if "end" in self.__dict__:
            return getattr(self.end, name)
        raise AttributeError(name)


class Packing(Wrapper):
    """One that has ways of its own with the bytes."""

    packed = 0

    def send_bytes(self, data):
        self.packed += 1
        self.end.send_bytes(zlib.compress(data))

    def recv_bytes(self):
        return zlib.decompress(self.end.recv_bytes())


class Wraps:
    wrapper: type[Wrapper] = Wrapper

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._reader, self._writer = self.wrapper(self._reader), self.wrapper(self._writer)
        self._send, self._recv = self._writer.send, self._reader.recv


class WrappedQueue(Wraps, procession.queues.Queue):
    pass


class WrappedJoinableQueue(Wraps, procession.queues.JoinableQueue):
    pass


class WrappedSimpleQueue(Wraps, procession.queues.SimpleQueue):
    pass


class PackingQueue(WrappedQueue):
    wrapper = Packing

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._reset()


class PackingSimpleQueue(WrappedSimpleQueue):
    wrapper = Packing


def echo_wrapped(there, back):
    assert isinstance(there._reader, Wrapper)
    assert isinstance(back._writer, Wrapper)
    while (item := there.get()) is not None:
        back.put(item)
    back._writer.send(getattr(back._writer, "packed", "unknown"))


WRAPPED = [WrappedQueue, WrappedJoinableQueue, WrappedSimpleQueue, PackingQueue, PackingSimpleQueue]


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_derived_queue_may_wrap_its_ends(start_method, kind):
    context = mp.get_context(start_method)
    there, back = kind(ctx=context), kind(ctx=context)
    assert there.empty()
    items: list[Any] = [1, "two", {"three": [3.0]}, b"4" * 100_000]
    with running(context, (echo_wrapped, there, back)) as processes:
        for item in items:
            there.put(item)
            assert back.get() == item
        there.put(None)
        packs = issubclass(kind.wrapper, Packing)
        assert back._reader.poll(PATIENCE)
        # what is asked of a wrapper, the wrapper does
        assert back._recv() == ("wrapped", len(items) if packs else "unknown")
        assert ended(*processes) == [0]
    assert getattr(there._writer, "packed", 5) == 5


def test_a_wrapped_queue_waits_as_long_as_it_may():
    q = PackingQueue(1, ctx=mp.get_context())
    for get in (lambda: q.get(False), lambda: q.get(timeout=0.01)):
        with pytest.raises(procession.queues.Empty):
            get()
    q.put(1)
    for put in (lambda: q.put(2, False), lambda: q.put(2, timeout=0.01)):
        with pytest.raises(procession.queues.Full):
            put()
    assert q.get() == 1
    q._reader, q._writer = q._reader.end, q._writer.end
    q.put("as before")
    assert q.get() == "as before"
    assert type(q._reader) is type(mp.Queue()._reader)


def test_our_queues_are_multiprocessing_queues_for_those_who_ask():
    for name in ("Queue", "JoinableQueue", "SimpleQueue"):
        q, theirs = getattr(mp, name)(), getattr(multiprocessing.queues, name)
        assert isinstance(q, theirs)
        assert type(q) is getattr(procession.queues, name)
        assert isinstance(q, type(q))
        copy = pickle.loads(pickle.dumps(q))
        assert type(copy) is type(q)
        copy.put(1)
        assert q.get() == 1
    assert not isinstance(mp.SimpleQueue(), multiprocessing.queues.Queue)
    assert WrappedQueue(ctx=mp.get_context()).__class__ is WrappedQueue


def test_dict_config_takes_our_queues():
    q = mp.Queue()
    handler = {"class": "logging.handlers.QueueHandler", "queue": q}
    if sys.version_info >= (3, 12):
        handler["handlers"] = []  # which 3.12 itself asked for in its first releases
    try:
        multiprocessing_takes(handler)
    except ValueError:
        pytest.skip("dictConfig of this Python takes no queue of multiprocessing either")
    log = logging.getLogger("beside libraries")
    try:
        logging.config.dictConfig(configuration(handler))
        log.info("hello")
        assert q.get(timeout=PATIENCE).getMessage() == "hello"
    finally:
        log.handlers.clear()


def configuration(handler: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"q": handler},
        "loggers": {"beside libraries": {"handlers": ["q"], "level": "INFO"}},
    }


def multiprocessing_takes(handler: dict[str, Any]) -> None:
    q = multiprocessing.Queue()
    try:
        logging.config.dictConfig(configuration({**handler, "queue": q}))
    finally:
        q.close()
