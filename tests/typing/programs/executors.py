"""Executors and futures, as a typed program of a user has them."""

from typing import reveal_type

from procession.futures import Executor, Future, ProcessPoolExecutor, as_completed, wait


def ratio(first: int, second: int, *, scale: float = 1.0) -> float:
    return first / second * scale


def told(future: Future[float]) -> None:
    reveal_type(future.result())


def work(executor: ProcessPoolExecutor) -> None:
    future = executor.submit(ratio, 1, 2, scale=0.5)
    reveal_type(future)
    reveal_type(future.result())
    reveal_type(future.result(timeout=1))
    reveal_type(future.exception())
    reveal_type(future.cancel())
    reveal_type(future.running())
    future.add_done_callback(told)
    reveal_type(executor.map(ratio, [1, 2], [3, 4]))
    reveal_type(list(executor.map(len, ["a"], timeout=1, chunksize=2)))
    for done in as_completed([future]):
        reveal_type(done.result())
    finished, _ = wait([future])
    reveal_type(finished)
    plain: Executor = executor
    reveal_type(plain.submit(len, "a").result())
    # wrong arguments and results
    executor.submit(ratio, "1", 2)  # error
    executor.submit(ratio, 1)  # error
    executor.submit(ratio, 1, 2, scale="big")  # error
    executor.submit(ratio, 1, 2, size=1)  # error
    executor.map(ratio, 1)  # error
    text: Future[str] = executor.submit(ratio, 1, 2)  # error
    number: int = executor.submit(ratio, 1, 2).result()  # error
    print(text, number)


def start() -> None:
    with ProcessPoolExecutor(2, initializer=print, initargs=("ready",), max_tasks_per_child=3) as executor:
        reveal_type(executor)
        work(executor)
    ProcessPoolExecutor("two")  # error
