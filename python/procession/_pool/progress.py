"""The progress of a `map` or `imap` (`progress`): bars of tqdm, or a function of the program that is told."""

from __future__ import annotations

import sys
import threading
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .reports import Report

__all__ = ["progress_of"]

# options of tqdm that the bars of tasks have in common with the main bar
_COMMON = ("ascii", "disable", "dynamic_ncols", "file", "mininterval", "ncols")

_warned = False


def progress_of(wanted: Any, total: int | None) -> Bars | Told | None:
    """Returns what shows the progress, as `progress` says. None: tqdm is needed and not installed.

    Raises:
        TypeError: `wanted` is neither a bool, nor a dict, nor callable. Also what tqdm raises for wrong options.
    """
    if wanted is True or isinstance(wanted, dict):
        try:
            from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]
        except ImportError:
            _warn()
            return None
        return Bars(tqdm, total, {} if wanted is True else wanted)
    if callable(wanted):
        return Told(wanted, total)
    raise TypeError(f"progress must be True, a dict of tqdm's options or a callable(done, total), not {wanted!r}")


def _warn() -> None:
    """Warns, once in this process, that there are no bars. The warning names the line of the program."""
    global _warned  # noqa: PLW0603 (of this process)
    if _warned:
        return
    _warned = True
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("procession."):
        level, frame = level + 1, frame.f_back
    text = "progress needs tqdm, which is not installed (pip install procession[progress]): no bars are shown"
    warnings.warn(text, stacklevel=level)


class Told:
    """Calls call(done, total). What happens in `update` is told in `flush`, for which the caller holds no lock."""

    def __init__(self, call: Callable[[int, int | None], object], total: int | None) -> None:
        self._call: Callable[[int, int | None], object] | None = call
        self._total = total
        self._done = self._told = 0
        self._lock = threading.Lock()
        self._telling = False

    def listener(self, kind: str | None) -> None:
        """Returns None: reports of tasks are not told."""

    def update(self, items: int) -> None:
        self._done += items

    def close(self, whole: bool = False) -> None:
        """Ends it. whole: all items are done."""
        if whole and self._total is not None:
            self._done = self._total

    def flush(self) -> None:
        """Calls the function, unless another thread is calling it, which then calls it again."""
        while True:
            with self._lock:
                done, call = self._done, self._call
                if self._telling or done == self._told or call is None:
                    return
                self._telling = True
                self._told = done
            try:
                call(done, self._total)
            except BaseException as error:
                self._call = None
                if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                    raise  # most likely it is Ctrl-C
                # as an exception of a callback: it is printed, and affects no result
                sys.excepthook(type(error), error, error.__traceback__)
            finally:
                self._telling = False


class Bars:
    """A bar, and while tasks report their own progress one for each of them."""

    def __init__(self, make: Callable[..., Any], total: int | None, options: dict[str, Any]) -> None:
        """make: tqdm. options: of tqdm."""
        self._bar = make(**{"total": total, **options})
        self._total = total
        self._done = 0
        self._tasks = _TaskBars(make, {name: options[name] for name in _COMMON if name in options})
        self._queue: Any = None
        self._thread: threading.Thread | None = None

    def listener(self, kind: str | None) -> Any:
        """Returns what tasks put their reports into. kind: "queue", or "here" in threads; None: there is none."""
        if kind == "queue":
            from ..queues import SimpleQueue

            self._queue = SimpleQueue()
            # the thread has no reference to this object, so that it ends with it
            self._thread = threading.Thread(
                target=_listen, args=(self._queue, self._tasks), name="PoolProgress", daemon=True
            )
            self._thread.start()
            return self._queue
        return None if kind is None else self._tasks

    def update(self, items: int) -> None:
        self._done += items
        self._bar.update(items)

    def flush(self) -> None:
        """Does nothing: the bar has moved."""

    def close(self, whole: bool = False) -> None:
        """Removes the bars of tasks, and ends the bar. whole: all items are done."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(1.0)
        self._tasks.close()
        if whole and self._total is not None and self._done < self._total:
            self.update(self._total - self._done)
        self._bar.close()

    def __del__(self) -> None:
        if getattr(self, "_thread", None) is not None:  # an iterator was dropped
            self._queue.put(None)


class _TaskBars:
    """The bars of tasks that are running."""

    def __init__(self, make: Callable[..., Any], options: dict[str, Any]) -> None:
        self._make = make
        self._options = options
        self._bars: dict[tuple[int, int], Any] = {}
        self._lock = threading.Lock()
        self._closed = False

    def put(self, report: Report) -> None:
        """Shows a report."""
        key, done, total, text = report
        with self._lock:
            if self._closed:
                return
            if done is None:
                ended = self._bars.pop(key, None)
                if ended is not None:
                    ended.close()
                return
            bar = self._bars.get(key)
            if bar is None:
                bar = self._bars[key] = self._make(total=total, leave=False, **self._options)
            bar.total = total
            bar.n = done
            bar.set_description_str(text or f"process {key[0]}", refresh=False)
            bar.refresh()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for bar in self._bars.values():
                bar.close()
            self._bars.clear()


def _listen(queue: Any, tasks: _TaskBars) -> None:
    """Shows the reports that come through the queue, until None comes."""
    while (report := queue.get()) is not None:
        tasks.put(report)
