"""Options of pools and of their calls, beyond multiprocessing's arguments: names, checks, defaults.

Their types and descriptions are in `option_types.pyi`. What a call does not say, its pool says.
"""

from __future__ import annotations

from .._arguments import count, seconds, size
from .._process import cpu_count as _cpu_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..context import BaseContext
    from .seeding import Seeds

__all__ = ["OfMap", "OfPool", "number_of_workers", "repeated", "repeats"]

# options of pools; those that `worker_options` checks
_OF_ENGINES = (
    "inner_threads",
    "name",
    "retries",
    "retry_delay",
    "retry_on",
    "seed",
    "soft_timeout",
    "timeout",
    "worker_memory_limit",
)
_OF_WORKERS = ("env", "exit_function", "logs", "output", "pin")
_OF_POOL = (*_OF_ENGINES, *_OF_WORKERS)
# options of `map` and its variants
_OF_MAP = ("on_error", "priority", "progress", "retries", "retry_delay", "retry_on", "soft_timeout", "timeout")
_ON_ERROR = ("raise", "stop", "return", "group")


class OfPool:
    """The options of a pool."""

    __slots__ = (*_OF_ENGINES, "of_workers")

    timeout: float | None
    soft_timeout: float | None
    worker_memory_limit: int | None
    inner_threads: Any
    seed: Seeds | None
    of_workers: dict[str, Any]  # what is set of `_OF_WORKERS`
    name: str | None
    retry_on: tuple[type[Exception], ...] | None

    def __init__(self, kind: str, given: dict[str, Any]) -> None:
        """Checks the options. kind: the class, for errors."""
        self.timeout = self.worker_memory_limit = self.inner_threads = self.name = self.soft_timeout = None
        self.retry_on = None
        self.of_workers = {}
        self.seed = None
        self.retries = 0
        self.retry_delay = 0.0
        if not given:
            return
        _check_names(kind, given, _OF_POOL)
        self.timeout = seconds("timeout", given.get("timeout"))
        self.soft_timeout = _soft(self, given, None)
        self.retries = count("retries", given.get("retries", 0), 0)
        self.retry_on, self.retry_delay = _repeats(self, given)
        if (memory := given.get("worker_memory_limit")) is not None:
            self.worker_memory_limit = size("worker_memory_limit", memory)
        if (threads := given.get("inner_threads")) is not None:
            if isinstance(threads, str):
                if threads != "auto":
                    raise ValueError(f'inner_threads must be a positive integer, "auto" or None, not {threads!r}')
            else:
                threads = count("inner_threads", threads, 1)
            self.inner_threads = threads
        if (seed := given.get("seed")) is not None:
            from .seeding import Seeds

            self.seed = Seeds(count("seed", seed, 0))
        if not given.keys().isdisjoint(_OF_WORKERS):
            from .worker_options import checked

            self.of_workers = checked(given, _OF_WORKERS)
        if (name := given.get("name")) is not None:
            self.name = str(name)

    @property
    def goes_directly(self) -> bool:
        """Whether the engine gets a single call as it is."""
        return self.timeout is None and self.soft_timeout is None and not self.retries and self.seed is None

    def divide_threads(self, context: BaseContext, workers: int) -> None:
        """Replaces "auto" by the CPUs divided by the number of workers."""
        if self.inner_threads == "auto":
            self.inner_threads = max(1, context.cpu_count() // workers)

    def for_workers(self) -> dict[str, Any] | None:
        """Returns the options that workers apply themselves (`worker_setup`); None if none is set."""
        if self.inner_threads is not None:
            return {"inner_threads": self.inner_threads, **self.of_workers}
        return self.of_workers or None

    def environment(self) -> dict[str, str | None] | None:
        """Returns the variables that a worker sets before it imports the main module; None: to be removed."""
        env: dict[str, str | None] | None = self.of_workers.get("env")
        if self.inner_threads is None:
            return env
        from .blas_threads import VARIABLES

        return {**dict.fromkeys(VARIABLES, str(self.inner_threads)), **(env or {})}

    def given(self) -> list[str]:
        """Returns the names of the options that are set, other than `name`."""
        of_engine = [option for option in _OF_ENGINES if option != "name" and getattr(self, option)]
        return [*of_engine, *self.of_workers]


class OfMap:
    """The options of one call of `map`, `imap` and their variants."""

    __slots__ = (
        "numbered",
        "on_error",
        "priority",
        "progress",
        "rare",
        "retries",
        "retry_delay",
        "retry_on",
        "soft_timeout",
        "timeout",
    )

    def __init__(self, pool: Any, method: str, given: dict[str, Any]) -> None:
        """Checks the options. method: for errors."""
        self.timeout: float | None = pool._timeout
        self.soft_timeout: float | None = pool._soft_timeout
        self.retries: int = pool._retries
        self.retry_on: tuple[type[Exception], ...] | None = pool._retry_on
        self.retry_delay: float = pool._retry_delay
        self.progress: Any = False
        self.priority = 0
        self.on_error: str = "raise"
        self.numbered = False  # whether an iterator returns the index of each item, too
        # whether an option is set that `prepared` looks at
        self.rare = self.retry_on is not None or self.soft_timeout is not None
        if not given:
            return
        _check_names(f"{method}()", given, _OF_MAP)
        if (limit := given.get("timeout")) is not None:
            self.timeout = seconds("timeout", limit)
        self.soft_timeout = _soft(self, given, self.soft_timeout)
        if (retries := given.get("retries")) is not None:
            self.retries = count("retries", retries, 0)
        self.retry_on, self.retry_delay = _repeats(self, given)
        progress = given.get("progress", False)
        self.progress = False if progress is None else progress  # {}: a bar with no options
        if (priority := given.get("priority")) is not None:
            from .priority import checked

            self.priority = checked(pool._engine, priority)
        self.on_error = given.get("on_error", "raise")
        if self.on_error not in _ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(map(repr, _ON_ERROR))}, not {self.on_error!r}")
        self.rare = (
            self.on_error != "raise"
            or self.retry_on is not None
            or self.progress is not False
            or self.soft_timeout is not None
        )

    def chunk(self, given: int | None) -> int | None:
        """Returns the number of items per task; None: the pool chooses. given: what the caller has given."""
        if given is not None:
            return count("chunksize", given, 1)
        # the limit is that of one item, and an item that kills its worker takes no other item along
        return 1 if self.timeout is not None or self.on_error in ("return", "group") else None

    def prepared(
        self, kind: Any, func: Any, starred: bool, chunk: int | None, bar: Any, engine: Any
    ) -> tuple[Any, Any]:
        """Returns what makes the result, in place of a class, and what workers call instead of `func`."""
        if self.soft_timeout is not None:
            from .soft_limit import limited

            func = limited(engine, func, self.soft_timeout)
        func, self.retries = repeated(engine, func, self.retries, self.retry_on, self.retry_delay)
        if bar is not None:
            listener = bar.listener(getattr(engine, "reports", "queue"))
            if listener is not None:
                from .reports import Reporting

                func = Reporting(func, listener)
        if self.on_error == "raise" and not self.numbered:
            return kind, func
        from .on_error import kind_of, wrapped

        return kind_of(kind, self.on_error, self.numbered), wrapped(func, self.on_error, starred, chunk, engine)

    def bar(self, length: int | None) -> Any:
        """Returns what shows the progress; None: none is asked for, or tqdm is not installed."""
        if self.progress is False:
            return None
        from .progress import progress_of

        return progress_of(self.progress, length)


def _soft(asked: OfPool | OfMap, given: dict[str, Any], of_pool: float | None) -> float | None:
    """Returns `soft_timeout`. of_pool: applies if it is not given."""
    limit = given.get("soft_timeout")
    if limit is None and of_pool is None:
        return None
    from .soft_limit import checked

    return checked(of_pool if limit is None else limit, asked.timeout)


def _repeats(asked: OfPool | OfMap, given: dict[str, Any]) -> tuple[tuple[type[Exception], ...] | None, float]:
    """Returns `retry_on` and `retry_delay`."""
    how = given.get("retry_on"), given.get("retry_delay")
    return repeats(asked.retries, *how, asked.retry_on, asked.retry_delay)


def repeats(
    retries: int, kinds: Any, delay: float | None, of_pool: tuple[type[Exception], ...] | None, delay_of_pool: float
) -> tuple[tuple[type[Exception], ...] | None, float]:
    """Checks `retry_on` and `retry_delay`, and returns them. of_pool, delay_of_pool: apply if they are None."""
    if kinds is None:
        kinds = of_pool
    else:
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                raise TypeError(f"retry_on must be a class of exceptions or a tuple of such classes, not {kind!r}")
        if kinds and not retries:
            raise ValueError("retry_on needs retries: how often a call is made again")
    if delay is None:
        delay = delay_of_pool
    elif not kinds:
        raise ValueError("retry_delay needs retry_on: the exceptions after which a call is made again")
    else:
        delay = seconds("retry_delay", delay)
    return (kinds or None) if retries else None, delay or 0.0


def repeated(engine: Any, func: Any, retries: int, kinds: Any, delay: float) -> tuple[Any, int]:
    """Returns what workers call instead of `func`, and how often the engine runs it again if its worker dies."""
    if kinds is None:
        return func, retries
    from .retrying import Retrying

    return Retrying(func, kinds, retries, delay), retries if getattr(engine, "workers_die", True) else 0


def _check_names(where: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise TypeError(f"{where} has no keyword argument {name!r}; beyond multiprocessing's: {', '.join(known)}")


def number_of_workers(context: BaseContext, processes: int | None, initializer: Any, maxtasksperchild: Any) -> int:
    """Checks multiprocessing's arguments of a pool. Returns the number of workers."""
    if processes is None:
        processes = _cpu_count.workers(context)
    if count("processes", processes, None) < 1:
        raise ValueError("Number of processes must be at least 1")
    if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
        raise ValueError("maxtasksperchild must be a positive int or None")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    return processes
