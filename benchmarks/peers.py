"""The packages that Procession is compared with, each as a row expects one: a module with the names of multiprocessing.

A peer that is not installed is left out, and it is said. What a peer cannot do at all is an AttributeError of its row.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BASELINE = "multiprocessing"

# Forks of multiprocessing, which have all of its names.
WHOLE = ("billiard", "multiprocess")
QUEUES = ("faster-fifo", *WHOLE)
POOLS = ("concurrent.futures", "loky", "mpire", "pebble", *WHOLE)

# Where the name to install and the name to import differ.
IMPORTED_AS = {"faster-fifo": "faster_fifo"}


def version(name: str) -> str | None:
    """Of an installed package; None if it is not installed."""
    import importlib.metadata
    import platform

    if name.partition(".")[0] in sys.stdlib_module_names:
        return platform.python_version()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def load(name: str) -> Any:
    """The package, or what makes it look like one."""
    from importlib import import_module

    adapter = ADAPTERS.get(name)
    return adapter() if adapter else import_module(IMPORTED_AS.get(name, name))


class FasterFifo:
    """Its queues, and the standard library's processes."""

    def get_context(self, method: str) -> Any:
        import multiprocessing

        context: Any = multiprocessing.get_context(method)

        class Context(type(context)):
            def Queue(self, maxsize: int = 0) -> Any:
                import faster_fifo

                # Its buffer is made in advance, and full means full.
                return faster_fifo.Queue(max_size_bytes=64 << 20)

        return Context()


class Pools:
    """A package that has pools and nothing else: `get_context(method).Pool(processes)`."""

    def __init__(self, pool: type[Any]) -> None:
        self._pool = pool

    def get_context(self, method: str) -> Any:
        pool = self._pool

        class Context:
            def Pool(self, processes: int) -> Any:
                return pool(processes, method)

        return Context()

    def Pool(self, processes: int) -> Any:
        return self._pool(processes, "fork")


class Pool:
    """The methods of a pool that rows use. They end as multiprocessing's do: `with` terminates."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: object) -> None:
        self.terminate()

    def terminate(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def join(self) -> None:
        self.terminate()


class FuturesPool(Pool):
    def __init__(self, processes: int, method: str) -> None:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        self._executor: Any = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context(method))

    def map(self, function: Any, items: Any, chunksize: int | None = None) -> list[Any]:
        return list(self._executor.map(function, items, chunksize=chunksize or 1))

    imap = imap_unordered = map

    def apply(self, function: Any, args: Any = ()) -> Any:
        return self._executor.submit(function, *args).result()

    def terminate(self) -> None:
        self._executor.shutdown(cancel_futures=True)


class LokyPool(FuturesPool):
    def __init__(self, processes: int, method: str) -> None:
        import loky

        self._executor = loky.ProcessPoolExecutor(processes)  # it has a start method of its own

    def terminate(self) -> None:
        self._executor.shutdown(kill_workers=True)


class MpirePool(Pool):
    """Of one pool only one of its methods may be used: its workers mistake the next one's tasks."""

    def __init__(self, processes: int, method: str) -> None:
        from mpire import WorkerPool

        self._workers = WorkerPool(n_jobs=processes, start_method=method, keep_alive=True)

    def map(self, function: Any, items: Any, chunksize: int | None = None) -> Any:
        # single arguments in tuples: else it takes tuples apart
        return self._workers.map(function, ((item,) for item in items), iterable_len=len(items), chunk_size=chunksize)

    def imap(self, function: Any, items: Any, chunksize: int | None = None) -> Any:
        arguments = ((item,) for item in items)
        return self._workers.imap(function, arguments, iterable_len=len(items), chunk_size=chunksize or 1)

    def imap_unordered(self, function: Any, items: Any, chunksize: int | None = None) -> Any:
        arguments = ((item,) for item in items)
        return self._workers.imap_unordered(function, arguments, iterable_len=len(items), chunk_size=chunksize or 1)

    def apply(self, function: Any, args: Any = ()) -> Any:
        return self._workers.apply(function, args)

    def terminate(self) -> None:
        self._workers.terminate()


class PebblePool(Pool):
    def __init__(self, processes: int, method: str) -> None:
        import multiprocessing

        from pebble import ProcessPool

        self._pool = ProcessPool(max_workers=processes, context=multiprocessing.get_context(method))

    def map(self, function: Any, items: Any, chunksize: int | None = None) -> list[Any]:
        return list(self._pool.map(function, items, chunksize=chunksize or 1).result())

    imap = imap_unordered = map

    def apply(self, function: Any, args: Any = ()) -> Any:
        return self._pool.schedule(function, args=args).result()

    def terminate(self) -> None:
        self._pool.stop()
        self._pool.join()


ADAPTERS = {
    "concurrent.futures": lambda: Pools(FuturesPool),
    "faster-fifo": FasterFifo,
    "loky": lambda: Pools(LokyPool),
    "mpire": lambda: Pools(MpirePool),
    "pebble": lambda: Pools(PebblePool),
}
