"""`progress`: bars, and functions that are told; `report_progress` of tasks."""

from __future__ import annotations

import os
import signal
import sys
import threading
import types
from pathlib import Path

import pytest

import procession as mp
from deadlines import PATIENCE, until
from procession.futures import ProcessPoolExecutor
from procession.pool import Pool, ThreadPool
from programs import run, write


class Bar:
    """Stands for a bar of tqdm, and remembers what happened to it."""

    made: list[Bar] = []  # noqa: RUF012 (of the test)

    def __init__(self, total=None, **options):
        if "wrong" in options:
            raise KeyError("wrong")
        self.total, self.options, self.n, self.seen, self.closed = total, options, 0, [], 0
        self.made.append(self)

    def update(self, n):
        self.n += n

    def set_description_str(self, text, refresh):
        self.text = text

    def refresh(self):
        self.seen.append((self.n, self.total, self.text))

    def close(self):
        self.closed += 1


@pytest.fixture
def bars(monkeypatch):
    """The bars that were made."""
    Bar.made = []
    auto = types.ModuleType("tqdm.auto")
    auto.tqdm = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", auto)
    return Bar.made


def same(n):
    return n


def fails_at_two(n):
    if n == 2:
        raise ValueError(n)
    return n


def dies_at_two(n):
    if n == 2:
        mp.report_progress(1, 2)
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def reports(n, m=None):
    for step in range(4):
        mp.report_progress(step, 3, f"item {n}")
    return n


def reports_and_waits(path):
    mp.report_progress(1, None)
    until(Path(path).exists)
    return os.getpid()


def raises(done, total):
    raise RuntimeError("no window")


def listeners():
    return [thread for thread in threading.enumerate() if thread.name == "PoolProgress"]


def check(pool, made):
    pairs = [(n, n) for n in range(10)]
    for chunksize in None, 1, 3:
        calls = [
            lambda **how: pool.map(same, range(10), chunksize, **how),  # noqa: B023
            lambda **how: pool.map_async(same, range(10), chunksize, **how).get(PATIENCE),  # noqa: B023
            lambda **how: pool.starmap(max, pairs, chunksize, **how),  # noqa: B023
            lambda **how: list(pool.imap(same, range(10), chunksize or 1, **how)),  # noqa: B023
            lambda **how: sorted(pool.imap_unordered(same, range(10), chunksize or 1, **how)),  # noqa: B023
        ]
        for call in calls:
            told: list[tuple[int, int | None]] = []
            assert call(progress=lambda *how: told.append(how)) == list(range(10))  # noqa: B023
            assert told[-1] == (10, 10)
            assert told == sorted(set(told))
            made.clear()
            assert call(progress={"desc": "work", "total": 10}) == list(range(10))
            assert [(bar.n, bar.total, bar.options, bar.closed > 0) for bar in made] == [
                (10, 10, {"desc": "work"}, True)
            ]
    made.clear()
    assert list(pool.imap(same, (n for n in range(4)), progress=True)) == [0, 1, 2, 3]
    assert [(bar.n, bar.total) for bar in made] == [(4, None)]
    assert pool.map(same, range(3), progress=False) == pool.map(same, range(3), progress=None) == [0, 1, 2]
    assert len(made) == 1


def test_each_way_to_call_shows_its_progress(context, bars):
    with context.Pool(2) as pool:
        check(pool, bars)
    assert not listeners()


def test_threads_show_their_progress(bars):
    with ThreadPool(2) as pool:
        check(pool, bars)


def test_an_executor_shows_the_progress_of_its_map(bars):
    told = []
    with ProcessPoolExecutor(2) as executor:
        assert list(executor.map(max, range(5), range(6), progress=True)) == list(range(5))
        assert list(executor.map(same, range(5), progress=lambda *how: told.append(how))) == list(range(5))
    assert [(bar.n, bar.total) for bar in bars] == [(5, 5)]
    assert told[-1] == (5, 5)


@pytest.mark.parametrize("how", ["raise", "return", "group"])
@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_failed_calls_count_as_done(bars, how, chunksize):
    with Pool(2) as pool:
        try:
            pool.map(fails_at_two, range(10), chunksize, on_error=how, progress=True)
        except (ValueError, ExceptionGroup):
            assert how != "return"
    assert [(bar.n, bar.closed > 0) for bar in bars] == [(10, True)]


def test_a_call_that_is_given_up_does_not_count_as_done(bars, tmp_path):
    with Pool(1) as pool:
        result = pool.map_async(reports_and_waits, [str(tmp_path / "go")] * 3, 1, progress=True)
        result.cancel()
        until(result.ready)
        until(lambda: bars[0].closed)
        assert bars[0].n == 0
    with Pool(1) as pool:
        result = pool.map_async(reports_and_waits, [str(tmp_path / "go")] * 3, 1, progress=True)
    until(result.ready)
    assert not listeners()


@pytest.mark.parametrize("method", ["map", "imap"])
def test_an_exception_of_the_function_that_is_told_is_printed_and_harms_no_result(method, capsys):
    with Pool(2) as pool:
        assert list(getattr(pool, method)(same, range(10), progress=raises)) == list(range(10))
        assert pool.map(same, range(3)) == [0, 1, 2]
    assert capsys.readouterr().err.count("RuntimeError: no window") == 1


def test_the_function_that_is_told_may_cancel_the_call():
    results = []
    made = threading.Event()

    def cancel(done, total):
        made.wait(PATIENCE)
        results[0].cancel()

    with Pool(1) as pool:
        results.append(pool.map_async(same, range(100000), 1, progress=cancel))
        made.set()
        until(results[0].ready)


@pytest.mark.parametrize(
    ("wanted", "error"), [(3, TypeError), ("bar", TypeError), ([1], TypeError), ({"wrong": 1}, KeyError)]
)
def test_what_shows_no_progress_is_refused_at_the_call(bars, wanted, error):
    with Pool(1) as pool:
        for call in pool.map, pool.imap:
            with pytest.raises(error):
                call(same, range(3), progress=wanted)


def test_without_tqdm_there_is_one_warning_that_names_the_line_of_the_program(tmp_path):
    program = write(
        tmp_path / "program.py",
        """
        import sys
        import warnings
        import procession as mp

        sys.modules["tqdm"] = None
        if __name__ == "__main__":
            with mp.Pool(1) as pool, warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                print(pool.map(abs, [-1], progress=True))  # line 10
                print(list(pool.imap(abs, [-2], progress={"desc": "x"})))
            print([(str(one.message), one.filename == __file__, one.lineno) for one in found])
        """,
    )
    warned = [
        ("progress needs tqdm, which is not installed (pip install procession[progress]): no bars are shown", True, 10)
    ]
    assert run(program).well() == f"[1]\n[2]\n{warned}\n"


@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_task_moves_a_bar_of_its_own(context, bars, chunksize):
    with context.Pool(2) as pool:
        assert pool.map(reports, range(4), chunksize, progress={"ncols": 70, "desc": "all"}) == [0, 1, 2, 3]
        main, *own = bars
        assert (main.n, main.options) == (4, {"ncols": 70, "desc": "all"})
        assert sorted(bar.seen[-1] for bar in own) == [(3, 3, f"item {n}") for n in range(4)]
        assert {(bar.options["leave"], bar.options["ncols"], bar.closed) for bar in own} == {(False, 70, 1)}
        bars.clear()
        assert pool.starmap(reports, [(1, 2)], progress=True) == [1]
        assert list(pool.imap(reports, [2], progress=True, on_error="group")) == [2]
        assert [bar.n for bar in bars] == [1, 3, 1, 3]
    assert not listeners()


def test_a_thread_moves_a_bar_of_its_own(bars):
    with ThreadPool(2) as pool:
        assert pool.map(reports, range(4), progress=True) == [0, 1, 2, 3]
    assert sorted(bar.seen[-1] for bar in bars[1:]) == [(3, 3, f"item {n}") for n in range(4)]


def test_the_bar_of_a_task_moves_while_the_task_runs(bars, tmp_path):
    with Pool(1) as pool:
        result = pool.map_async(reports_and_waits, [str(tmp_path / "go")], progress=True)
        until(lambda: len(bars) == 2 and bars[1].seen)
        (tmp_path / "go").touch()
        pid = result.get(PATIENCE)[0]
        assert bars[1].seen == [(1, None, f"process {pid}")]
        assert bars[1].closed


def test_a_worker_that_dies_leaves_no_bar(bars):
    with Pool(2) as pool:
        results = pool.map(dies_at_two, range(4), on_error="return", progress=True)
        assert isinstance(results[2], mp.WorkerDiedError)
    assert len(bars) == 2
    assert all(bar.closed for bar in bars)
    assert not listeners()


def test_an_iterator_that_is_dropped_leaves_no_thread(bars):
    with Pool(2) as pool:
        results = pool.imap(reports, range(10), progress=True)
        assert next(results) == 0
        del results
        until(lambda: not listeners())


def test_reports_do_nothing_where_none_listens():
    mp.report_progress(1, 2)
    with Pool(1) as pool, ThreadPool(1) as threads:
        assert pool.map(reports, range(3)) == threads.map(reports, range(3)) == [0, 1, 2]
        assert pool.apply(reports, (1,)) == 1
        assert pool.map(reports, range(3), progress=lambda done, total: None) == [0, 1, 2]
