"""Queues, as a typed program of a user has them."""

from typing import reveal_type

import procession as mp
from procession.queues import JoinableQueue, Queue, SimpleQueue


class Job:
    number: int = 0


def consume(tasks: JoinableQueue[Job | None], results: "mp.Queue[tuple[int, str]]", log: SimpleQueue[bytes]) -> None:
    reveal_type(tasks.get())
    reveal_type(tasks.get(True, 1.5))
    reveal_type(tasks.get_nowait())
    for job in iter(tasks.get, None):
        reveal_type(job)
        results.put((job.number, "done"))
        results.put((1, "x"), False)
        results.put_nowait((2, "y"))
        tasks.task_done()
    reveal_type(results.qsize())
    reveal_type(results.empty())
    reveal_type(results.full())
    reveal_type(log.get())
    log.put(b"end")
    results.close()
    results.join_thread()
    results.cancel_join_thread()
    tasks.join()
    # wrong items
    results.put("no pair")  # error
    results.put((1, 2))  # error
    results.put_nowait(b"")  # error
    log.put("text")  # error
    tasks.put(3)  # error
    number: int = log.get()  # error
    print(number)


class Inbox(Queue[int]):
    def put_double(self, number: int) -> None:
        self.put(2 * number)
        self.put("x")  # error


def start() -> None:
    tasks: JoinableQueue[Job | None] = mp.JoinableQueue()
    results: Queue[tuple[int, str]] = mp.Queue(10)
    log: SimpleQueue[bytes] = mp.SimpleQueue()
    reveal_type(mp.Queue())
    reveal_type(mp.JoinableQueue(3))
    reveal_type(mp.SimpleQueue())
    context = mp.get_context("spawn")
    reveal_type(context.Queue())
    reveal_type(context.JoinableQueue())
    reveal_type(context.SimpleQueue())
    mp.Process(target=consume, args=(tasks, results, log)).start()
    child = context.Process(target=consume, args=(tasks, results, log), daemon=True)
    child.start()
    reveal_type(child.exitcode)
    reveal_type(Inbox(ctx=context).get())
    reveal_type(Queue[float](ctx=context).get())
    mp.Queue(maxsize="many")  # error
