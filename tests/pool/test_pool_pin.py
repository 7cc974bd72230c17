"""Workers that run on certain CPUs only (`pin`)."""

from __future__ import annotations

import os

import pytest

import procession as mp
from deadlines import PATIENCE, until
from procession.futures import ProcessPoolExecutor
from procession.pool import Pool

METHODS = ["fork", "spawn", "forkserver"]
CPUS = sorted(os.sched_getaffinity(0))


def cpus_of(pool: Pool) -> list[set[int]]:
    until(lambda: all(row.state in ("idle", "busy") for row in pool.statistics()))
    return [os.sched_getaffinity(row.pid) for row in pool.statistics()]


def seen_by_initializer() -> None:
    mp.worker_state()["cpus"] = os.sched_getaffinity(0)


def seen() -> set[int]:
    return mp.worker_state()["cpus"]


@pytest.mark.parametrize("method", METHODS)
def test_each_worker_has_a_cpu_of_its_own_and_more_workers_share_them(method):
    count = len(CPUS) + 1
    with mp.get_context(method).Pool(count, pin="cores") as pool:
        assert cpus_of(pool) == [{CPUS[number % len(CPUS)]} for number in range(count)]
        pool.resize(count + 1)
        until(lambda: len(pool._pool) == count + 1)
        assert cpus_of(pool)[-1] == {CPUS[count % len(CPUS)]}


@pytest.mark.parametrize("method", METHODS)
def test_a_list_names_the_cpus_of_each_worker(method):
    pin = [CPUS[-1], set(CPUS), [CPUS[0]]]
    with mp.get_context(method).Pool(4, pin=pin) as pool:
        assert cpus_of(pool) == [{CPUS[-1]}, set(CPUS), {CPUS[0]}, {CPUS[-1]}]
    assert os.sched_getaffinity(0) == set(CPUS)


def test_the_initializer_and_a_replaced_worker_run_there_too():
    with mp.Pool(1, seen_by_initializer, maxtasksperchild=1, pin=[CPUS[-1]]) as pool:
        assert [pool.apply_async(seen).get(PATIENCE) for _ in range(2)] == [{CPUS[-1]}] * 2


def test_the_workers_of_an_executor_are_pinned():
    with ProcessPoolExecutor(1, pin="cores") as executor:
        assert executor.submit(os.sched_getaffinity, 0).result(PATIENCE) == {CPUS[0]}


@pytest.mark.parametrize(
    ("pin", "error"),
    [
        ("core", ValueError),
        ([], ValueError),
        ([set()], ValueError),
        ([CPUS[0], 100_000], ValueError),
        ([-1], ValueError),
        ([1.5], TypeError),
        ([True], TypeError),
        (["0"], TypeError),
        (3, TypeError),
    ],
)
def test_wrong_cpus_are_refused_at_the_call(pin, error):
    with pytest.raises(error, match="pin"):
        mp.Pool(1, pin=pin)
