"""What tests of a cluster's queues run on its nodes, which import this module by its name."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from queue import Empty

import procession as mp


def touch(path, text=""):
    part = Path(f"{path}.part")
    part.write_text(text or str(os.getpid()))
    part.rename(path)


def put_all(queue, items):
    queue.put_many(items)
    return os.getpid()


def put_each(queue, items):
    for item in items:
        queue.put(item)
    return os.getpid()


def take(queue, count):
    return [queue.get(timeout=60) for _ in range(count)]


def take_many(queue, count):
    found = []
    while len(found) < count:
        found += queue.get_many(count - len(found), timeout=60)
    return found


def answer(requests):
    """Answers requests, each of which brings the queue for its answer, until there is None."""
    while (request := requests.get(timeout=60)) is not None:
        number, answers = request
        answers.put(number * number)


def finish(queue, count):
    for _ in range(count):
        queue.get(timeout=60)
        queue.task_done()


def work_until_shut_down(tasks, results):
    while True:
        try:
            n = tasks.get(timeout=60)
        except mp.queues.ShutDown:
            return
        results.put(n)


def put_arrays(queue, count, length):
    import numpy

    for n in range(count):
        queue.put(numpy.full(length, n))


def change_first(inbox, outbox):
    array = inbox.get(timeout=60)
    array[0] = 7
    outbox.put((array.sum(), array.flags.writeable))


def hold(path, queue=None):
    touch(path)
    time.sleep(1000)


def put_big_and_wait(queue, sizes, path):
    for n, size in enumerate(sizes):
        queue.put((n, bytes(size)))
    touch(path)
    time.sleep(1000)


def take_and_note(queue, path, began=None):
    if began is not None:
        touch(began)
    touch(path, repr(queue.get()))


def take_for_ever(queue, results, began):
    touch(began)
    while True:
        results.put((os.getpid(), queue.get()))


class Killer:
    """Kills the process that unpickles it, if that is not the one that has made it."""

    def __init__(self):
        self.pid = os.getpid()

    def __reduce__(self):
        return _kill, (self.pid,)


def _kill(pid):
    if os.getpid() != pid:
        os.kill(os.getpid(), signal.SIGKILL)


class Fails:
    """Cannot be unpickled."""

    def __reduce__(self):
        return _fail, ()


def _fail():
    raise RuntimeError("not to be had")


def with_children(queue, count):
    """Uses a queue in children of all kinds."""
    for method in ("fork", "spawn", "forkserver"):
        context = mp.get_context(method)
        children = [context.Process(target=put_each, args=(queue, [(method, n)])) for n in range(count)]
        for child in children:
            child.start()
        for child in children:
            child.join()


def take_in_loop(queue, count):
    async def main():
        return await asyncio.gather(*(queue.get_async(timeout=60) for _ in range(count)))

    return asyncio.run(main())


def drain(queue):
    found = []
    while True:
        try:
            found.append(queue.get(timeout=0.5))
        except Empty:
            return found


def put_what_is_there(queue, results):
    results.put(drain(queue))


def produce(queue, producer, count):
    """Puts numbered messages, one by one and in batches; the last one is None."""
    n = 0
    while n < count:
        if n % 3:
            queue.put((producer, n))
            n += 1
        else:
            batch = range(n, min(count, n + 10))
            queue.put_many([(producer, each) for each in batch])
            n = batch.stop


def consume(queue, path):
    """Notes each message in a file, in the order in which they come."""
    with open(path, "a", buffering=1) as file:
        while (message := queue.get()) is not None:
            file.write(f"{message[0]} {message[1]}\n")


def touch_nothing(_=None):
    return None


def log(queue):
    import logging
    import logging.handlers

    logger = logging.getLogger("of.a.node")
    logger.addHandler(logging.handlers.QueueHandler(queue))
    logger.warning("number %d", 7)


def tell_error_of_get(queue, path):
    """Waits in a fork, since processes of a client that has lost the scheduler are killed."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    try:
        queue.get()
    except ConnectionError as error:
        touch(path, str(error))
    finally:
        os._exit(0)


def facts_of(cluster):
    """What the scheduler tells of all shared objects."""
    client = cluster.members()._client
    return client.sync(client.scheduler.procession_sync_facts)


def soak_produce(queue, stop, folder, number, _):
    """Puts messages until `stop` is set, and notes each when its `put` has returned. One in a hundred is big."""
    with open(Path(folder) / f"producer-{number}", "ab", buffering=0) as file:
        n = 0
        while not (n % 20 == 0 and stop.is_set()):
            n += 1
            queue.put((f"{number}/{n}", bytes(1_100_000 if n % 100 == 0 else 100)))
            file.write(b"%d/%d\n" % (number, n))


def soak_consume(queue, _, folder, number, batch):
    """Takes messages until the queue is shut down, and notes them."""
    with open(Path(folder) / f"consumer-{number}", "ab", buffering=0) as file:
        while True:
            try:
                names = [name for name, _ in queue.get_many(batch)]
            except mp.MessageLostError:
                names = ["lost"]
            except mp.queues.ShutDown:
                return
            file.write("".join(f"{name}\n" for name in names).encode())
