"""What tests run on the nodes of a cluster, which import this module by its name."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path


def square(n):
    return n * n


def random_number(_=None):
    return random.random()


def add(a, b=0):
    return a + b


def fail_at(bad, n, text=None):
    if n == bad:
        raise ValueError(text or f"{n} is bad")
    return n


def first_of(array):
    return float(array[0])


def incremented(array):
    array += 1
    return array


def die_and_kill_the_node(folder, node, n):
    """Kills its worker when it runs first, its node when it runs again."""
    logged(folder, n)
    count = runs(folder)[n]
    if count == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    elif count == 2:
        os.kill(node, signal.SIGKILL)
        time.sleep(1000)
    return count


def pid(_=None):
    return os.getpid()


def logged(folder, n, seconds=0.0):
    """Notes that it runs: the item, in a line of a file of its worker."""
    with open(Path(folder) / f"{os.getpid()}", "a") as file:
        file.write(f"{n}\n")
    time.sleep(seconds)
    return n


def runs(folder):
    """How often each item was run, by the notes of `logged`."""
    found: dict[int, int] = {}
    for path in Path(folder).iterdir():
        for line in path.read_text().split():
            found[int(line)] = found.get(int(line), 0) + 1
    return found


def die_once(folder, n):
    """Kills its worker when it is run for the first time."""
    path = Path(folder) / f"first-{n}"
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def fail_once(folder, n):
    """Fails when it is run for the first time."""
    path = Path(folder) / f"first-{n}"
    if not path.exists():
        path.touch()
        raise OSError(n)
    return n


def wait_for(path, value=None):
    """Waits until a file exists."""
    while not os.path.exists(path):
        time.sleep(0.005)
    return value


def touch_and_wait(began, path):
    Path(began).touch()
    return wait_for(path, os.getpid())


def sleep(seconds):
    time.sleep(seconds)
    return seconds


begun: list[object] = []


def begin(what):
    begun.append(what)


def what_begun(_=None):
    return list(begun), os.getpid()


def slow_what_begun(_=None):
    time.sleep(0.005)
    return what_begun()


class TellsWhereItIsRead(Exception):
    """Notes, where it is unpickled, in which thread that was."""

    def __reduce__(self):
        return _read, self.args


def _read(*args):
    error = TellsWhereItIsRead(*args)
    error.thread = threading.current_thread().name
    return error


def begin_with_an_error_that_tells():
    raise TellsWhereItIsRead("begun badly")


def begin_badly():
    raise RuntimeError("no licence")


def double(array):
    return array * 2


def make_lock():
    import procession

    return procession.Lock()


def explode():
    os.kill(os.getpid(), signal.SIGKILL)


class Bomb:
    """Kills the process that unpickles it."""

    def __reduce__(self):
        return explode, ()

    def __call__(self):
        """Is never reached."""


def total(array, n):
    return array.sum() + n


def attribute(module, name):
    """Returns an attribute of a module, which is imported here."""
    return getattr(__import__(module), name)


def big(n, folder):
    """Returns some megabytes, and notes that it ran."""
    logged(folder, n)
    return bytes(5_000_000)


def raise_named(name):
    """Raises an exception of a class with this name."""
    raise type("Odd", (Exception,), {"__module__": __name__, "__qualname__": name})("text")


class EndsItsReader:
    """Ends the thread that unpickles it."""

    def __reduce__(self):
        return sys.exit, ()


def return_what_ends_its_reader(_=None):
    return EndsItsReader()


# --- objects that the processes of a cluster share ---


def try_lock(lock):
    return lock.acquire(False)


_inside = 0


def add_under_lock(lock, n):
    """Returns whether another call of this process was inside at the same time."""
    global _inside  # noqa: PLW0603
    with lock:
        _inside += 1
        time.sleep(0.001)
        _inside -= 1
    return _inside


def hold_lock(lock, ready):
    """Acquires a lock and stays so until it is killed."""
    lock.acquire()
    ready.set()
    time.sleep(1000)


def names_in_hub(cluster):
    """Returns the names of all objects that the scheduler keeps."""
    client = cluster.members()._client
    return [found["name"] for found in client.sync(client.scheduler.procession_sync_facts)["objects"]]


def leave_held(lock, how=None):
    """Acquires a lock and ends: well, or by a signal."""
    lock.acquire()
    if how is not None:
        os.kill(os.getpid(), how)


def wait_for_lock(lock, ready, outcome):
    ready.set()
    lock.acquire()
    outcome.set()
    lock.release()


def give_back(obj):
    return obj


def make_in_child(lock):
    """Uses a lock in a forked child of the task."""
    lock.acquire()
    pid = os.fork()
    if pid == 0:
        ok = not lock.acquire(False)  # the parent has it
        lock.release()  # any process may
        os._exit(0 if ok and lock.acquire(timeout=10) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def meet(barrier, timeout=None):
    try:
        return barrier.wait(timeout)
    except threading.BrokenBarrierError:
        return "broken"


def wait_notified(condition, ready):
    with condition:
        ready.release()
        return condition.wait(60)


def acquire_outcome(lock, ready):
    """Returns the name of the error of an acquire that does not succeed, and its text."""
    ready.set()
    try:
        lock.acquire()
    except Exception as error:
        return type(error).__name__, str(error)
    return None


def note_under_lock(lock, path):
    """Notes that it has the lock and that it releases it, until there is a file to end it; "!": a holder has died."""
    from procession import OwnerDiedError

    with open(path, "ab", buffering=0) as file:
        told = b""
        while not path.with_suffix(".end").exists():
            try:
                lock.acquire()
            except OwnerDiedError:
                told = b"! "
                continue
            file.write(told + b"%d( " % os.getpid())
            told = b""
            file.write(b"%d) " % os.getpid())
            lock.release()


def two_locks(first, second, has_first, other_has):
    """Acquires two locks; the second one when another process has it."""
    with first:
        has_first.set()
        other_has.wait()
        with second:
            pass


def take_and_give(lock, queue):
    """Puts an item with the lock held, and takes it."""
    with lock:
        queue.put(7)
    return queue.get()
