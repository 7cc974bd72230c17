"""Soft time limits: an exception in the call, before its worker is killed."""

from __future__ import annotations

import os
import pickle
import signal
import time
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE
from procession.futures import ProcessPoolExecutor
from procession.pool import Pool, ThreadPool

METHODS = ["fork", "spawn", "forkserver"]
SOFT = 0.05
LONG = 60.0


def pid(_: object = None) -> int:
    return os.getpid()


def cleans_up(seconds: float) -> tuple[str, int]:
    try:
        time.sleep(seconds)
    except mp.SoftTimeoutError as error:
        return str(error), os.getpid()
    return "in time", os.getpid()


def stays(_: object = None) -> None:
    while True:
        try:
            time.sleep(LONG)
        except mp.SoftTimeoutError:
            continue


def handles_alarms(seconds: float) -> Any:
    return signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL), time.sleep(seconds)


def own_alarm() -> None:
    signal.signal(signal.SIGALRM, count_alarm)
    signal.setitimer(signal.ITIMER_REAL, LONG * 10, LONG)


def count_alarm(number: int, frame: object) -> None: ...


def alarm_now(_: object = None) -> tuple[bool, bool]:
    return signal.getsignal(signal.SIGALRM) is count_alarm, signal.getitimer(signal.ITIMER_REAL)[0] > LONG


def once_late(path: str) -> str:
    if not os.path.exists(path):
        with open(path, "w"):
            time.sleep(LONG)
    return path


@pytest.mark.parametrize("method", METHODS)
def test_a_call_gets_an_exception_when_its_soft_limit_is_over_and_the_worker_goes_on(method):
    with mp.get_context(method).Pool(1) as pool:
        worker = pool.apply(pid)
        with pytest.raises(
            mp.SoftTimeoutError, match=r"sleep\(\) took longer than its soft limit of 0\.05 s"
        ) as caught:
            pool.apply_async(time.sleep, (LONG,), soft_timeout=SOFT).get(PATIENCE)
        assert isinstance(caught.value, mp.TaskTimeoutError) and caught.value.limit == SOFT
        text, same = pool.apply_async(cleans_up, (LONG,), soft_timeout=SOFT).get(PATIENCE)
        assert text.startswith("cleans_up() took longer") and same == worker == pool.apply(pid)
        assert pool.apply_async(cleans_up, (0,), soft_timeout=LONG).get(PATIENCE) == ("in time", worker)


@pytest.mark.parametrize("method", METHODS)
def test_the_soft_limit_of_a_pool_is_that_of_each_of_its_calls(method):
    with mp.get_context(method).Pool(2, soft_timeout=SOFT) as pool:
        with pytest.raises(mp.SoftTimeoutError):
            pool.apply(time.sleep, (LONG,))
        assert [text[:9] for text, _ in pool.map(cleans_up, [LONG, 0, LONG], chunksize=3)] == [
            "cleans_up",
            "in time",
            "cleans_up",
        ]
        assert [text[:9] for text, _ in pool.imap(cleans_up, [0, LONG])] == ["in time", "cleans_up"]
        values = pool.map(time.sleep, [0, LONG], on_error="return")
        assert values[0] is None and isinstance(values[1], mp.SoftTimeoutError)
        assert pool.map(cleans_up, [SOFT * 2], soft_timeout=float("inf"))[0][0] == "in time"


def test_a_call_that_goes_on_is_ended_by_its_time_limit():
    with mp.Pool(1) as pool:
        result = pool.apply_async(stays, soft_timeout=SOFT, timeout=SOFT * 4)
        with pytest.raises(mp.TaskTimeoutError) as caught:
            result.get(PATIENCE)
        assert not isinstance(caught.value, mp.SoftTimeoutError)


def test_a_soft_limit_never_reaches_the_next_call():
    """The limit is about as long as the calls, so it often ends in the last moment of one."""
    with mp.Pool(1) as pool:
        for _ in range(10):
            late = pool.map_async(cleans_up, [0.002] * 20, chunksize=1, soft_timeout=0.002, on_error="return")
            plain = pool.map_async(cleans_up, [0.002] * 5, chunksize=1)
            assert {text for text, _ in plain.get(PATIENCE)} == {"in time"}
            assert all(isinstance(value, (tuple, mp.SoftTimeoutError)) for value in late.get(PATIENCE))


def test_a_handler_and_a_timer_of_the_program_are_back_after_the_call():
    with mp.Pool(1, own_alarm) as pool:
        for limit in (SOFT, LONG):
            pool.apply_async(cleans_up, (0.1,), soft_timeout=limit).get(PATIENCE)
            assert pool.apply(alarm_now) == (True, True)


def test_each_attempt_of_a_call_has_the_whole_soft_limit(tmp_path):
    path = str(tmp_path / "first")
    with mp.Pool(1) as pool:
        result = pool.apply_async(
            once_late, (path,), soft_timeout=PATIENCE / 40, retries=1, retry_on=mp.SoftTimeoutError
        )
        assert result.get(PATIENCE) == path


def test_soft_limits_of_an_executor():
    with ProcessPoolExecutor(1, soft_timeout=SOFT) as executor:
        assert isinstance(executor.submit(time.sleep, LONG).exception(PATIENCE), mp.SoftTimeoutError)
        assert executor.submit(cleans_up, LONG).result(PATIENCE)[0].startswith("cleans_up")
        with pytest.raises(mp.SoftTimeoutError):
            list(executor.map(time.sleep, [0, LONG]))
        assert [text for text, _ in executor.map(cleans_up, [0, 0], soft_timeout=LONG)] == ["in time"] * 2


def test_wrong_soft_limits_are_refused_at_the_call():
    with pytest.raises(ValueError, match="less than timeout"):
        mp.Pool(1, soft_timeout=2, timeout=1)
    with mp.Pool(1, timeout=1) as pool:
        for wrong in (1, 2, 0, -1):
            with pytest.raises(ValueError, match="soft_timeout must be"):
                pool.apply_async(pid, soft_timeout=wrong)
            with pytest.raises(ValueError, match="soft_timeout must be"):
                pool.map(pid, [1], soft_timeout=wrong)
        with pytest.raises(TypeError, match="soft_timeout"):
            pool.imap(pid, [1], soft_timeout="1")  # type: ignore[arg-type]


def test_threads_have_no_soft_limits():
    with ThreadPool(1) as pool:
        with pytest.raises(ValueError, match="threads has no soft_timeout"):
            pool.apply_async(pid, soft_timeout=1)
        with pytest.raises(ValueError, match="threads has no soft_timeout"):
            pool.map(pid, [1], soft_timeout=1)
        assert pool.map(pid, [1]) == [os.getpid()]


class OwnQueues(Pool):
    def _setup_queues(self) -> None:
        super()._setup_queues()


def test_a_pool_with_its_own_queues_has_soft_limits_of_calls():
    with OwnQueues(1) as pool:
        text, _ = pool.apply_async(cleans_up, (LONG,), soft_timeout=SOFT).get(PATIENCE)
        assert text.startswith("cleans_up")


def test_the_error_of_a_soft_limit_can_be_pickled():
    error = mp.SoftTimeoutError("late", "f", 3, 0.5)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is mp.SoftTimeoutError and (str(again), again.task, again.limit) == ("late", 3, 0.5)
