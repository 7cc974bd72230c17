"""The whole surface of multiprocessing, as the running Python has it, is ours: modules, names, signatures, class names,
printed and pickled forms, errors, and the private names that programs in the wild reach for.

What differs on purpose is in a list, with the reason. A reason that has nothing to excuse any more fails as well.
"""

from __future__ import annotations

import array
import contextlib
import fnmatch
import importlib
import multiprocessing
import os
import pickle
import re
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import procession as mp
import surface
from programs import run

MODULES = surface.modules()

# What may differ, and why. A pattern covers what it matches, as in a shell.
ALLOWED = {
    "*Process": "kwargs=None: no dictionary that all processes share, as from 3.14 on",
    "connection.BUFSIZE": "of pipes on Windows",
    "connection.CONNECTION_TIMEOUT": "of pipes on Windows",
    "connection.MESSAGE_LENGTH": "3.12's challenge is longer; 3.11's answers it",
    "connection.deliver_challenge": "with the digest, as from 3.12 on",
    "connection.rebuild_connection": "the class goes along, as pickle's arguments do, so that a derived one stays one",
    "context.DefaultContext": "context=None, as in newer Pythons",
    "forkserver.*connect_to_new_process": "a child is asked for by the number of its seat in family memory",
    "forkserver.main": "what the server is started with: its seat in family memory, not pipes",
    "forkserver.MAXFDS_TO_SEND": "of the standard library's protocol with its fork server",
    "forkserver.read_signed": "of the standard library's protocol with its fork server",
    "forkserver.write_signed": "of the standard library's protocol with its fork server",
    "heap.Arena": "no file to be mapped: it is a block of family memory",
    "heap.Heap": "it has no first arena, whose size would be given",
    "heap.rebuild_arena": "an arena pickles as the handle that it is",
    "heap.reduce_arena": "an arena pickles as the handle that it is",
    "managers.MakeProxyType": "the cache is not the same",
    "managers.ProcessLocalSet": "how the standard library's proxies count; here the server knows the processes",
    "managers.BasePoolProxy": "called by its own name, and not by that of the class that derives from it",
    "managers.*Server.accepter": "how the standard library's server accepts clients",
    "managers.SharedMemoryManager": "the parameters are named",
    "managers.all_methods": "a helper of the standard library's server",
    "managers.reduce_array": "arrays are sent as what they are",
    "pool.*Result": "made by a pool alone",
    "pool.IMap*Iterator": "made by a pool alone",
    "pool.*Pool.join": "timeout=None by position, too, as the joins of processes and threads take it",
    "queues.SimpleQueue.get": "the compiled method is Queue's: it takes block and timeout as well",
    "queues.SimpleQueue.put": "the compiled method is Queue's: it takes block and timeout as well",
    "reduction.ForkingPickler": "it takes what pickle.Pickler takes, by keyword too",
    "resource_tracker.cleanup_noop": "a function of the standard library's own test",
    "resource_tracker.main": "what the watcher is started with",
    "sharedctypes.make_property": "how the standard library writes classes as text; ours are classes",
    "sharedctypes.prop_cache": "how the standard library writes classes as text; ours are classes",
    "sharedctypes.template": "how the standard library writes classes as text; ours are classes",
    "spawn.spawn_main": "what a child is started with: its seat in family memory, not a pipe",
    "synchronize.SemLock": "a class for isinstance; it is not to be instantiated in multiprocessing's either",
    "util.MAXFD": "a guess that nothing here needs",
}


def excuse(path: str) -> str | None:
    return next((pattern for pattern in ALLOWED if fnmatch.fnmatchcase(path, pattern)), None)


# --- modules and names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES, ids=lambda name: name or "the package")
def test_a_module_has_all_that_its_twin_has_and_takes_all_that_it_takes(name):
    unexcused = {path: what for path, what in surface.differences(name).items() if excuse(path) is None}
    assert not unexcused, "\n".join(f"{path}: {what}" for path, what in unexcused.items())


# Names that our modules have not, although multiprocessing's have them: what they define for themselves.
NOT_BORROWED = {
    "connection": "BUFSIZE CONNECTION_TIMEOUT _check_timeout _init_timeout _mmap_counter _winapi "  # named pipes
    # how the standard library puts the answer to a challenge together
    "_ALLOWED_DIGESTS _LEGACY_LENGTHS _MAX_DIGEST_LEN _MD5ONLY_MESSAGE_LENGTH _MD5_DIGEST_LEN "
    "_get_digest_name_and_payload",
    "context": "_tls",  # where it notes which process is being started
    "forkserver": "MAXFDS_TO_SEND SIGNED_STRUCT _serve_one read_signed write_signed",  # its server's protocol
    "heap": "rebuild_arena reduce_arena",  # its files
    "managers": "ProcessLocalSet _SharedMemoryTracker all_methods reduce_array",  # inside its server
    "pool": "_PoolCache _helper_reraises_exception job_counter worker",  # inside its pool
    "reduction": "_C _rebuild_partial _reduce_method _reduce_method_descriptor _reduce_partial",  # pickle does that
    "resource_tracker": "_HAVE_SIGMASK cleanup_noop",  # inside its tracker
    "shared_memory": "_SHM_SAFE_NAME_LENGTH _encoding",  # how it makes names
    "sharedctypes": "_new_value class_cache make_property prop_cache template",  # how it makes classes
    "util": "MAXFD _platform_supports_abstract_sockets",  # for other systems than Linux
}


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="what is borrowed was compared with 3.11 to 3.13")
@pytest.mark.parametrize("name", MODULES, ids=lambda name: name or "the package")
def test_a_module_has_what_its_twin_has_only_because_it_imports_it(name):
    theirs, ours = surface.module_of("multiprocessing", name), surface.module_of("procession", name)
    # modules below the package are there once somebody has imported them
    missing = {known for known in dir(theirs) if not hasattr(ours, known) and not known.startswith("__")}
    assert missing - set(NOT_BORROWED.get(name, "").split()) == set()


def test_what_a_module_has_borrowed_is_the_thing_itself():
    import selectors
    import time as time_module

    from procession import connection, context, managers, queues, util

    assert connection.BufferTooShort is context.BufferTooShort and managers.ProcessError is context.ProcessError
    assert queues.time is time_module and queues.Finalize is util.Finalize
    assert connection.selectors is selectors and connection._WaitSelector is selectors.PollSelector
    assert managers.get_context("fork") is mp.get_context("fork")
    for module in (connection, context, managers, queues, util):
        with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'no_such_name'"):
            module.no_such_name  # noqa: B018


def test_nothing_is_imported_for_names_that_nobody_asks_for():
    code = """
        import sys, procession as mp
        q = mp.Queue(); q.put(1); q.get()
        late = ("procession._process.stdlib_names", "socket", "selectors", "tempfile")
        print([name for name in late if name in sys.modules])
    """
    assert run("-c", textwrap.dedent(code)).well() == "[]\n"


def test_no_excuse_has_outlived_its_reason():
    used = {excuse(path) for name in MODULES for path in surface.differences(name)}
    # another version of multiprocessing has what this one has not
    known = {path for name in MODULES for path in surface.exported(surface.module_of("multiprocessing", name))}
    stale = [
        pattern
        for pattern in set(ALLOWED) - used
        if pattern.rpartition(".")[2] in known
        and pattern not in ("connection.MESSAGE_LENGTH", "connection.deliver_challenge")
    ]
    assert not stale


def test_the_finder_of_the_alias_knows_every_module():
    from procession._alias import INTERFACE

    assert set(surface.modules()) - {""} == INTERFACE


@pytest.mark.parametrize("name", [name for name in MODULES if name and "." not in name])
def test_a_module_is_there_without_an_import_of_its_own(name):
    # in multiprocessing it depends on what others have imported, and programs depend on that
    code = f"import procession; print(procession.{name}.__name__)"
    assert run("-c", code).well() == f"procession.{name}\n"


def test_only_what_the_package_lists_is_public_in_it():
    listed = {"annotations", "context", "process", "sys", "SUBDEBUG", "SUBWARNING", *mp.__all__}
    # a module of a package is an attribute of it once it was imported
    modules = {name.partition(".")[2] for name in sys.modules if name.startswith("procession.")}
    assert {name for name in vars(mp) if not name.startswith("_")} - modules <= listed


def test_whatever_the_package_has_is_found_by_completion_and_by_a_star():
    code = """
        import sys, procession
        assert set(procession.__all__) <= set(dir(procession)), "dir() lacks something"
        from procession import *
        print(ndarray.__name__, asarray.__name__, SharedDict.__name__, WorkerDiedError.__name__, "numpy" in sys.modules)
    """
    assert run("-c", textwrap.dedent(code)).well() == "ndarray asarray SharedDict WorkerDiedError False\n"


def test_a_queue_prints_how_full_it_is():
    queue = mp.Queue(2)
    queue.put(1)
    assert repr(queue).endswith(": 1 item of at most 2>")
    queue.shutdown()
    assert repr(queue).endswith(": 1 item of at most 2, shut down>")
    queue.get()
    queue.close()
    assert repr(queue).endswith(": closed>")
    assert repr(mp.queues.Queue.__new__(mp.queues.Queue)).endswith(": unknown>")


# --- what is printed --------------------------------------------------------------------------------------------------


def sub(package: Any, name: str) -> Any:
    return importlib.import_module(f"{package.__name__}.{name}")


def held(lock: Any) -> Any:
    lock.acquire()
    return lock


def broken(barrier: Any) -> Any:
    barrier.abort()
    return barrier


def ended(process: Any) -> Any:
    process.start()
    process.join()
    return process


PRINTED: dict[str, Callable[[Any], Any]] = {
    "lock": lambda package: package.Lock(),
    "held lock": lambda package: held(package.Lock()),
    "rlock": lambda package: package.RLock(),
    "held rlock": lambda package: held(package.RLock()),
    "semaphore": lambda package: package.Semaphore(3),
    "bounded semaphore": lambda package: package.BoundedSemaphore(3),
    "condition": lambda package: package.Condition(),
    "condition with a lock": lambda package: package.Condition(package.Lock()),
    "barrier": lambda package: package.Barrier(2),
    "broken barrier": lambda package: broken(package.Barrier(2)),
    "value": lambda package: package.Value("i", 3),
    "raw value": lambda package: package.RawValue("d", 3),
    "process": lambda package: package.Process(name="n"),
    "daemon": lambda package: package.get_context("spawn").Process(name="n", daemon=True),
    "ended process": lambda package: ended(package.get_context("fork").Process(name="n")),
    "failed process": lambda package: ended(package.get_context("fork").Process(name="n", target=os._exit, args=(3,))),
    "current process": lambda package: package.current_process(),
    "context": lambda package: package.get_context("fork"),
    "error": lambda package: package.AuthenticationError("why"),
    "authentication key": lambda package: type(package.current_process().authkey),
    "finalizer": lambda package: sub(package, "util").Finalize(KEPT, print, exitpriority=3),
    "thread lock": lambda package: sub(package, "util").ForkAwareThreadLock(),
    "pickler": lambda package: sub(package, "reduction").ForkingPickler,
}
KEPT = type("Kept", (), {})()

POOLS: dict[str, Callable[[Any, Any], Any]] = {
    "pool": lambda package, pool: pool,
    "closed pool": lambda package, pool: (pool.close(), pool)[1],
    "terminated pool": lambda package, pool: (pool.terminate(), pool)[1],
    "result": lambda package, pool: pool.apply_async(abs, (-1,)),
    "result of a map": lambda package, pool: pool.map_async(abs, [-1]),
    "iterator": lambda package, pool: pool.imap(abs, [-1]),
}
MANAGED: dict[str, Callable[[Any], Any]] = {
    "manager": lambda manager: manager,
    "list": lambda manager: manager.list([1, 2]),
    "dict": lambda manager: manager.dict(a=1),
    "namespace": lambda manager: manager.Namespace(a=1, b="x"),
    "value": lambda manager: manager.Value("i", 3),
    "array": lambda manager: manager.Array("i", [1, 2]),
    "lock": lambda manager: manager.Lock(),
    "queue": lambda manager: manager.Queue(),
    "event": lambda manager: manager.Event(),
    "condition": lambda manager: manager.Condition(),
    "barrier": lambda manager: manager.Barrier(2),
}

PRINTED_DIFFERENTLY = {
    "queue": (
        lambda package: package.Queue(3),
        "<procession.queues.Queue object at N: 0 items of at most 3>",
        "how full a queue is, is what one looks for",
    ),
    "joinable queue": (
        lambda package: package.JoinableQueue(),
        "<procession.queues.JoinableQueue object at N: 0 items>",
        "as for a queue",
    ),
    "simple queue": (
        lambda package: package.SimpleQueue(),
        "<procession.queues.SimpleQueue object at N: 0 items>",
        "as for a queue",
    ),
    "connection": (
        lambda package: package.Pipe()[0],
        "<Connection handle N>",
        "which descriptor is what one looks for",
    ),
    "array": (
        lambda package: package.RawArray("i", 4321),
        "<procession.sharedctypes.c_int_Array_4321 object at N, shared>",
        "whether an array is shared is seen",
    ),
}


@pytest.mark.parametrize("what", PRINTED)
def test_an_object_prints_as_its_twin(what):
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        ours, theirs = (surface.normalised(repr(PRINTED[what](package))) for package in (mp, multiprocessing))
    if what == "held lock" and sys.version_info < (3, 14):
        ours = theirs = ours if re.fullmatch(r"<Lock\(owner=MainProcess\)>", ours) else ours + theirs
    assert ours == theirs


@pytest.fixture
def managers() -> Iterator[dict[Any, Any]]:
    """A manager of each package."""
    with mp.get_context("fork").Manager() as ours, multiprocessing.get_context("fork").Manager() as theirs:
        yield {mp: ours, multiprocessing: theirs}


@pytest.mark.parametrize("what", POOLS)
def test_what_is_of_a_pool_prints_as_its_twin(what):
    printed = []
    for package in (mp, multiprocessing):
        with package.get_context("fork").Pool(1) as pool:
            printed.append(surface.normalised(repr(POOLS[what](package, pool))))
    # results and iterators say how far they are, too
    assert re.sub("(?<=at N): .*(?=>)", "", printed[0]) == printed[1]


@pytest.mark.parametrize("what", MANAGED)
def test_what_is_of_a_manager_prints_as_its_twin(what, managers):
    ours, theirs = (
        [surface.normalised(form(MANAGED[what](managers[package]))) for form in (repr, str)]
        for package in (mp, multiprocessing)
    )
    assert ours == theirs


@pytest.mark.parametrize("what", PRINTED_DIFFERENTLY)
def test_what_prints_differently_does_so_for_a_reason(what):
    make, expected, _reason = PRINTED_DIFFERENTLY[what]
    assert surface.normalised(repr(make(mp))) == expected != surface.normalised(repr(make(multiprocessing)))


# --- what is pickled --------------------------------------------------------------------------------------------------


def named_in(pickled: bytes) -> set[str]:
    """The modules and names that a pickle (of protocol 0) speaks of."""
    return set(re.findall(r"^c(\S+\n\S+)$", pickled.decode("ascii", "replace"), re.MULTILINE))


@pytest.mark.parametrize("name", MODULES, ids=lambda name: name or "the package")
def test_classes_and_functions_are_pickled_by_the_name_that_they_have_there(name):
    theirs = surface.exported(surface.module_of("multiprocessing", name))
    ours = surface.module_of("procession", name)
    for known, value in theirs.items():
        if getattr(value, "__module__", "").startswith("multiprocessing") and hasattr(value, "__qualname__"):
            if "." in value.__qualname__ or isinstance(value, type(KEPT.__init__)) or not hasattr(ours, known):
                continue  # a method of the default context, or excused above
            same = getattr(ours, known)
            with contextlib.suppress(pickle.PicklingError):  # a class whose pickles nobody makes
                text = pickle.dumps(value, 0, fix_imports=False)
                assert named_in(pickle.dumps(same, 0, fix_imports=False)) == {
                    part.replace("multiprocessing", "procession") for part in named_in(text)
                }, known


@pytest.mark.parametrize("error", ["ProcessError", "BufferTooShort", "TimeoutError", "AuthenticationError"])
def test_errors_pickle_and_derive_as_there(error):
    ours, theirs = getattr(mp, error), getattr(multiprocessing, error)
    assert [base.__name__ for base in ours.__mro__] == [base.__name__ for base in theirs.__mro__]
    assert ours.__module__ == "procession.context"
    copy = pickle.loads(pickle.dumps(ours("why", 3)))
    assert (type(copy), copy.args) == (ours, ("why", 3))


# --- what is raised ---------------------------------------------------------------------------------------------------


def twice(action: Callable[[], Any]) -> None:
    action()
    action()


def closed_queue(package: Any) -> Any:
    queue = package.Queue()
    queue.close()
    return queue


def closed_end(package: Any) -> Any:
    here, there = package.Pipe()
    there.close()
    here.close()
    return here


WRONG: dict[str, Callable[[Any], Any]] = {
    "release of a free lock": lambda package: package.Lock().release(),
    "release of a free rlock": lambda package: package.RLock().release(),
    "release beyond the bound": lambda package: package.BoundedSemaphore(1).release(),
    "notify without the lock": lambda package: package.Condition().notify(),
    "wait without the lock": lambda package: package.Condition().wait(0),
    "get from an empty queue": lambda package: package.Queue().get(block=False),
    "get from an empty queue in time": lambda package: package.Queue().get(timeout=0.01),
    "put into a full queue": lambda package: twice(partial(package.Queue(1).put, 1, block=False)),
    "put into a closed queue": lambda package: closed_queue(package).put(1),
    "task_done too often": lambda package: package.JoinableQueue().task_done(),
    "send to a closed connection": lambda package: closed_end(package).send(1),
    "poll of a closed connection": lambda package: closed_end(package).poll(),
    "fileno of a closed connection": lambda package: closed_end(package).fileno(),
    "receive from the sender": lambda package: package.Pipe(duplex=False)[1].recv(),
    "send into the receiver": lambda package: package.Pipe(duplex=False)[0].send(1),
    "receive after the end": lambda package: (lambda a, b: (b.close(), a.recv()))(*package.Pipe()),
    "send of text as bytes": lambda package: package.Pipe()[0].send_bytes("text"),
    "offset below zero": lambda package: package.Pipe()[0].send_bytes(b"x", -1),
    "offset beyond the end": lambda package: package.Pipe()[0].send_bytes(b"x", 2),
    "size beyond the end": lambda package: package.Pipe()[0].send_bytes(b"x", 0, 2),
    "a buffer too short": lambda package: (lambda a, b: (a.send_bytes(b"four"), b.recv_bytes_into(bytearray(2))))(
        *package.Pipe()
    ),
    "a message too long": lambda package: (lambda a, b: (a.send_bytes(b"four"), b.recv_bytes(2)))(*package.Pipe()),
    "an unknown family": lambda package: sub(package, "connection").Listener(family="AF_NONSENSE"),
    "a key that is text": lambda package: sub(package, "connection").deliver_challenge(None, "text"),
    "an unknown start method": lambda package: package.get_context("nonsense"),
    "an unknown method to set": lambda package: package.set_start_method("nonsense", force=True),
    "a context's method": lambda package: package.get_context("fork").set_start_method("spawn"),
    "a typecode that is none": lambda package: package.Array("x", 3),
    "an unstarted join": lambda package: package.Process().join(),
    "an unstarted is_alive in a child": lambda package: package.Process().close() or package.Process().terminate(),
    "a group": lambda package: package.Process(group=3),
    "a start twice": lambda package: twice(ended(package.get_context("fork").Process()).start),
    "exit code of a closed one": lambda package: (lambda p: (p.close(), p.exitcode))(package.Process()),
    "a name that is no text": lambda package: setattr(package.Process(), "name", 3),
    "daemon after the start": lambda package: setattr(ended(package.get_context("fork").Process()), "daemon", True),
    "a segment that is not there": lambda package: sub(package, "shared_memory").SharedMemory("no-such-segment"),
    "a segment without a size": lambda package: sub(package, "shared_memory").SharedMemory(create=True),
    "a segment of negative size": lambda package: sub(package, "shared_memory").SharedMemory(create=True, size=-1),
    "preloads that are no list": lambda package: package.set_forkserver_preload([3]),
    "an object that nobody can pickle": lambda package: sub(package, "reduction").ForkingPickler.dumps(sys),
    "bytes for the length": lambda package: package.RawArray("i", array),
    "a finalizer without priority": lambda package: sub(package, "util").Finalize(None, print),
    "a finalizer whose priority is text": lambda package: sub(package, "util").Finalize(KEPT, print, exitpriority="x"),
}


WRONG_POOL: dict[str, Callable[[Any], Any]] = {
    "a task for a closed pool": lambda pool: (pool.close(), pool.apply(abs, (-1,))),
    "a map on a closed pool": lambda pool: (pool.close(), pool.map(abs, [-1])),
    "an imap on a closed pool": lambda pool: (pool.close(), pool.imap(abs, [-1])),
    "a task for a terminated pool": lambda pool: (pool.terminate(), pool.apply_async(abs, (-1,))),
    "join of a running pool": lambda pool: pool.join(),
    "a result that takes too long": lambda pool: pool.apply_async(time.sleep, (30,)).get(timeout=0.01),
    "an iterator that takes too long": lambda pool: pool.imap(time.sleep, [30]).next(timeout=0.01),
    "an iterator at its end": lambda pool: (lambda results: (next(results), next(results)))(pool.imap(abs, [-1])),
    "asking for success too early": lambda pool: pool.apply_async(time.sleep, (30,)).successful(),
    "a task that raises": lambda pool: pool.apply(int, ("x",)),
    "an item that raises": lambda pool: pool.map(int, ["1", "x"]),
    "no iterable": lambda pool: pool.map(abs, 3),
    "arguments that are none": lambda pool: pool.starmap(pow, [3]),
    "a chunk of nothing": lambda pool: pool.imap(abs, [1], chunksize=0),
    "pickling a pool": pickle.dumps,
    "entering a closed pool": lambda pool: (pool.close(), pool.__enter__()),
}
WRONG_MANAGED: dict[str, Callable[[Any], Any]] = {
    "a key that is not there": lambda manager: manager.dict()["x"],
    "an index that is not there": lambda manager: manager.list()[3],
    "an attribute that is not there": lambda manager: manager.Namespace().x,
    "a method that is not exposed": lambda manager: manager.list()._callmethod("__class__"),
    "a method that does not exist": lambda manager: manager.dict().no_such_method(),
    "release of a managed lock that is free": lambda manager: manager.Lock().release(),
    "get from an empty managed queue": lambda manager: manager.Queue().get(block=False),
    "a type that is not registered": lambda manager: manager.no_such_type(),
    "a manager that is started again": lambda manager: manager.start(),
}
WRONG |= {
    "a pool of nobody": lambda package: package.Pool(0),
    "a pool whose workers do no task": lambda package: package.Pool(1, maxtasksperchild=0),
    "an initializer that is none": lambda package: package.Pool(1, initializer=3),
    "a manager that was not started": lambda package: sub(package, "managers").SyncManager().list(),
    "a manager with a key that is text": lambda package: sub(package, "managers").BaseManager(authkey="x"),
    "a serializer that is none": lambda package: sub(package, "managers").BaseManager(serializer="x"),
}


def raised(call: Callable[[Any], Any], subject: Any) -> tuple[str, ...]:
    """The error's class and those that it derives from, up to the first built-in one."""
    try:
        call(subject)
    except Exception as error:
        kinds = []
        for kind in type(error).__mro__:
            kinds.append(kind.__qualname__)
            if kind.__module__ == "builtins":
                return tuple(kinds)
    return ()


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_raises_the_same_error(what):
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        theirs = raised(WRONG[what], multiprocessing)
        assert theirs, "it is not wrong"
        assert raised(WRONG[what], mp) == theirs


@pytest.mark.parametrize("what", WRONG_POOL)
def test_what_is_wrong_with_a_pool_raises_the_same_error(what):
    errors = []
    for package in (multiprocessing, mp):
        with package.get_context("fork").Pool(1) as pool:
            errors.append(raised(WRONG_POOL[what], pool))
    assert errors[0], "it is not wrong"
    assert errors[0] == errors[1]


@pytest.mark.parametrize("what", WRONG_MANAGED)
def test_what_is_wrong_with_managed_objects_raises_the_same_error(what, managers):
    theirs = raised(WRONG_MANAGED[what], managers[multiprocessing])
    assert theirs, "it is not wrong"
    assert raised(WRONG_MANAGED[what], managers[mp]) == theirs


def test_a_semaphore_below_zero_is_a_value_error_as_in_threading():
    with pytest.raises(ValueError, match="-1"):
        mp.Semaphore(-1)
    with pytest.raises(OSError):  # "Invalid argument"
        multiprocessing.Semaphore(-1)


# What programs look for in an error's text is what multiprocessing says. Ours may say more.
OTHER_WORDS = {
    "a typecode that is none": "it says what a typecode may be",
    "an unstarted is_alive in a child": "not that None has no such attribute",
    "a chunk of nothing": "the same words",
    "bytes for the length": "of the built-in function that is called with it",
    "send of text as bytes": "of the built-in function that is called with it",
    "a segment that is not there": "the file that is not there",
    "a segment without a size": "it goes on",
    "notify without the lock": "one text for all methods",
    "put into a closed queue": "the queue in it says more",
}


@pytest.mark.parametrize("what", sorted({**WRONG, **WRONG_POOL}.keys() - OTHER_WORDS.keys()))
def test_an_error_says_what_its_twin_says(what):
    texts = []
    for package in (mp, multiprocessing):
        with (
            warnings.catch_warnings(action="ignore", category=DeprecationWarning),
            package.get_context("fork").Pool(1) if what in WRONG_POOL else contextlib.nullcontext(package) as subject,
            pytest.raises(Exception) as error,
        ):
            {**WRONG, **WRONG_POOL}[what](subject)
        texts.append(surface.normalised(str(error.value)))
    assert texts[1].rstrip(".") in texts[0].replace("is not ready", "not ready")


MESSAGES = {
    "put into a closed queue": "is closed",
    "send to a closed connection": "is closed",
    "poll of a closed connection": "is closed",
    "preloads that are no list": "module_names must be a list of strings",
    "a typecode that is none": "bad typecode",
}


@pytest.mark.parametrize("what", MESSAGES)
def test_messages_that_programs_look_for_are_there(what):
    with pytest.raises((OSError, TypeError, ValueError), match=MESSAGES[what]):
        WRONG[what](mp)


# --- private names in the wild ----------------------------------------------------------------------------------------


PRIVATE = """
connection: _CHALLENGE CHALLENGE answer_challenge deliver_challenge _create_response _verify_challenge families
connection: arbitrary_address address_type Connection
context: _force_start_method _default_context get_spawning_popen set_spawning_popen assert_spawning reduction
context: _concrete_contexts
forkserver: _forkserver ensure_running get_inherited_fds connect_to_new_process set_forkserver_preload _handle_preload
heap: BufferWrapper.create_memoryview BufferWrapper._heap Heap Arena
managers: dispatch RemoteError Token State listener_client convert_to_error public_methods MakeProxyType AutoProxy
managers: BaseManager._number_of_objects BaseManager._debug_info BaseManager._registry BaseManager._Server
managers: BaseManager._create BaseProxy._callmethod BaseProxy._getvalue
managers: RebuildProxy Namespace SharedMemoryManager DictProxy ListProxy BaseListProxy PoolProxy AcquirerProxy
pool: Pool._repopulate_pool RUN CLOSE TERMINATE INIT MaybeEncodingError RemoteTraceback ApplyResult
pool: ThreadPool AsyncResult MapResult IMapIterator IMapUnorderedIterator
process: _dangling _cleanup _children _current_process _process_counter _parent_process _MainProcess _ParentProcess
process: BaseProcess._bootstrap BaseProcess._Popen BaseProcess._check_closed AuthenticationString ORIGINAL_DIR
queues: Queue._on_queue_feeder_error Queue._terminate_broken Queue.close Queue.join_thread Queue.cancel_join_thread
queues: Full Empty
reduction: HAVE_SEND_HANDLE send_handle recv_handle sendfds recvfds DupFd ForkingPickler.register dump register
reduction: ForkingPickler.loads AbstractReducer
resource_sharer: stop DupFd _resource_sharer
resource_tracker: _resource_tracker _CLEANUP_FUNCS register unregister ensure_running getfd
resource_tracker: ResourceTracker._stop ResourceTracker._check_alive
shared_memory: _make_filename _SHM_NAME_PREFIX _USE_POSIX _O_CREX ShareableList._get_packing_format
sharedctypes: copy Value synchronized reduce_ctype rebuild_ctype typecode_to_type
spawn: get_preparation_data prepare get_executable set_executable get_command_line is_forking import_main_path
spawn: _fixup_main_from_name _fixup_main_from_path old_main_modules WINEXE WINSERVICE _main
synchronize: Lock Semaphore.get_value
util: Finalize _finalizer_registry _run_finalizers _exit_function ForkAwareThreadLock _afterfork_registry info DEBUG
util: debug abstract_sockets_supported spawnv_passfds _cleanup_tests get_temp_dir SUBWARNING _run_after_forkers
util: close_all_fds_except _flush_std_streams ForkAwareLocal is_exiting sub_debug sub_warning LOGGER_NAME _logger
util: register_after_fork _args_from_interpreter_flags _close_stdin close_fds is_abstract_socket_namespace
""".strip()


@pytest.mark.parametrize("line", PRIVATE.splitlines())
def test_the_names_that_programs_reach_for_are_there(line):
    module, _, names = line.partition(": ")
    missing = []
    for name in names.split():
        value = sub(mp, module)
        for part in name.split("."):
            value = getattr(value, part, missing)
            if value is missing:
                missing.append(name)
                break
    assert not missing


def test_the_attributes_of_objects_that_programs_reach_for_are_there():
    lock, semaphore, condition, queue, simple = mp.Lock(), mp.Semaphore(2), mp.Condition(), mp.Queue(), mp.SimpleQueue()
    assert hasattr(lock._semlock, "name") and lock._semlock._is_zero() is False
    assert semaphore._semlock._get_value() == semaphore.get_value() == 2
    assert condition._sleeping_count.get_value() == condition._woken_count.get_value() == 0
    condition._wait_semaphore.get_value()
    assert not queue._reader.closed and not queue._writer.closed and not simple._reader.poll()
    assert queue._maxsize > 0 and queue._ignore_epipe is False
    queue._ignore_epipe = True
    process = mp.Process(target=print, args=(1,), kwargs={"end": ""}, name="n", daemon=True)
    assert (process._target, process._args, process._kwargs) == (print, (1,), {"end": ""})
    assert process._name == "n" and process._config["daemon"] and process._parent_pid == os.getpid()
    assert process._popen is None and isinstance(process._identity, tuple)


def test_the_names_of_start_methods_begin_the_names_of_their_classes(start_method):
    context = mp.get_context(start_method)
    assert type(context).__name__.lower().startswith(start_method)
    assert context.Process.__name__.lower().startswith(start_method)
    assert context.Process._start_method == multiprocessing.get_context(start_method).Process._start_method


def test_all_names_come_without_what_clusters_need():
    code = """if True:
        import sys
        for name in ("cloudpickle", "cryptography", "distributed", "msgpack", "numpy", "tornado"):
            sys.modules[name] = None
        from procession import *
        print(Queue.__name__, cluster.__name__)
    """
    assert run("-c", code).well() == "Queue cluster\n"
