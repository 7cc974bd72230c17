"""Wrong arguments are refused by the call that gets them, as a TypeError or ValueError that names the parameter; and a
program that does what only a program should do is told so once.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable
from typing import Any

import pytest

import procession as mp
from procession import _arguments, futures, queues
from programs import run, write

WHO = Callable[[Any], Any]


# --- numbers of bytes -------------------------------------------------------------------------------------------------

SIZES: list[tuple[Any, int]] = [
    (0, 0),
    (4096, 4096),
    (True, 1),
    ("0", 0),
    ("1234", 1234),
    ("12 B", 12),
    ("4GB", 4 * 1000**3),
    ("4 gb", 4 * 1000**3),
    (" 4G ", 4 * 1000**3),
    ("4GiB", 4 * 1024**3),
    ("4gi", 4 * 1024**3),
    ("512MiB", 512 * 1024**2),
    ("1.5 KiB", 1536),
    (".5K", 500),
    ("2TB", 2 * 1000**4),
    ("1e3", 1000),
    ("9007199254740993", 9007199254740993),
]


@pytest.mark.parametrize(("said", "meant"), SIZES, ids=repr)
def test_a_number_of_bytes_may_be_a_text_with_a_unit(said, meant):
    assert _arguments.size("room", said) == meant


@pytest.mark.parametrize("said", ["", " ", "GB", "4X", "4GBB", "4 4", "four", "nan", "inf GB", "-1GB", -1, "4,5GB"])
def test_what_says_no_number_of_bytes_is_a_value_error(said):
    with pytest.raises(ValueError, match=r"^room must"):
        _arguments.size("room", said)


@pytest.mark.parametrize("said", [None, [], 1.5, b"4GB", {}])
def test_what_is_neither_a_number_nor_a_text_is_a_type_error(said):
    with pytest.raises(TypeError, match=r"^room must"):
        _arguments.size("room", said)


def test_whatever_of_ours_is_a_number_of_bytes_takes_a_text():
    queue = mp.Queue(maxbytes="64 KiB")
    joinable = mp.JoinableQueue(maxbytes="1MB")
    assert (queue.maxbytes, joinable.maxbytes) == (65536, 1_000_000)
    assert queues.Queue(ctx=mp.get_context(), maxbytes="10").maxbytes == 10
    with mp.get_context("fork").Pool(1, worker_memory_limit="4GB") as pool:
        assert pool.apply(abs, (-1,)) == 1
    with futures.ProcessPoolExecutor(1, mp_context=mp.get_context("fork"), worker_memory_limit="4GiB") as executor:
        assert executor.submit(abs, -1).result() == 1


# --- refusals ---------------------------------------------------------------------------------------------------------


def none_of(*kinds: type) -> list[Any]:
    """Values that are of none of these kinds."""
    return [value for value in (None, "3", 1.5, [], object()) if not isinstance(value, kinds)]


FORK = mp.get_context("fork")
NUMBER, TIME, BYTES = (int,), (int, float, type(None)), (int, str, type(None))

# parameter -> the call with a value for it, the kinds that are not refused, values that are
CALLS: dict[str, tuple[WHO, tuple[type, ...], list[Any]]] = {
    "processes": (FORK.Pool, (int, type(None)), [0, -1]),
    "timeout": (lambda v: FORK.Pool(1, timeout=v), TIME, [-1, float("nan")]),
    "retries": (lambda v: FORK.Pool(1, retries=v), NUMBER, [-1]),
    "worker_memory_limit": (lambda v: FORK.Pool(1, worker_memory_limit=v), BYTES, [-1, "x"]),
    "inner_threads": (lambda v: FORK.Pool(1, inner_threads=v), (int, type(None)), [0, "many"]),
    "max_workers": (futures.ProcessPoolExecutor, (int, type(None)), [0]),
    "mp_context": (lambda v: futures.ProcessPoolExecutor(1, mp_context=v), (type(None),), ["spawn"]),
    "timeout of futures": (lambda v: futures.ProcessPoolExecutor(1, timeout=v), TIME, [-1]),
    "retries of futures": (lambda v: futures.ProcessPoolExecutor(1, retries=v), NUMBER, [-1]),
    "worker_memory_limit of futures": (
        lambda v: futures.ProcessPoolExecutor(1, worker_memory_limit=v),
        BYTES,
        [-1, "x"],
    ),
    "maxsize": (mp.Queue, NUMBER, []),
    "maxbytes": (lambda v: mp.Queue(maxbytes=v), (int, str), ["x"]),
    "count": (lambda v: mp.get_context().set_forkserver_spares(v), NUMBER, [-1]),
    "grace": (lambda v: never_started().terminate(grace=v), TIME, [-1]),
}
POOL_CALLS: dict[str, tuple[Callable[[Any, Any], Any], tuple[type, ...], list[Any]]] = {
    "args": (lambda pool, v: pool.apply(abs, v), (str, list, tuple), [3]),
    "args of apply_async": (lambda pool, v: pool.apply_async(abs, v), (str, list, tuple), [3]),
    "kwds": (lambda pool, v: pool.apply(pow, (2, 3), v), (dict,), [3, [1]]),
    "kwds of apply_async": (lambda pool, v: pool.apply_async(pow, (2, 3), v), (dict,), [3]),
    "timeout": (lambda pool, v: pool.apply_async(abs, (1,), timeout=v), TIME, [-1]),
    "retries": (lambda pool, v: pool.apply_async(abs, (1,), retries=v), (int, type(None)), [-1]),
    "chunksize": (lambda pool, v: pool.map(abs, [1, 2], v), (int, type(None)), [0, -1, [3, 4]]),
    "chunksize of starmap": (lambda pool, v: pool.starmap(pow, [(1, 2)], v), (int, type(None)), [0]),
    "timeout of map": (lambda pool, v: pool.map(abs, [1], timeout=v), TIME, [-1]),
    "retries of map": (lambda pool, v: pool.map_async(abs, [1], retries=v), (int, type(None)), [-1]),
    "chunksize of imap": (lambda pool, v: pool.imap(abs, [1], v), (int,), []),
    "buffersize": (lambda pool, v: pool.imap(abs, [1], buffersize=v), (int, type(None)), [0]),
    "timeout of imap": (lambda pool, v: pool.imap_unordered(abs, [1], timeout=v), TIME, [-1]),
}


def never_started() -> Any:
    return FORK.Process(target=abs)


def cases(calls: dict[str, Any]) -> list[Any]:
    return [
        pytest.param(parameter, value, id=f"{parameter}-{type(value).__name__}-{str(value)[:7]}")
        for parameter, (_, kinds, values) in calls.items()
        for value in (*none_of(*kinds), *values)
    ]


def refused(parameter: str, value: Any, call: Callable[[], Any]) -> None:
    name = parameter.partition(" ")[0]
    expected = ValueError if name == "processes" and value in (0, -1) else (TypeError, ValueError)
    with pytest.raises(expected) as error:
        call()
    told = "processes" if name == "processes" else name
    assert told in str(error.value).lower()


@pytest.mark.parametrize(("parameter", "value"), cases(CALLS))
def test_a_wrong_argument_is_refused_with_its_name(parameter, value):
    made = []
    try:
        refused(parameter, value, lambda: made.append(CALLS[parameter][0](value)))
    finally:
        for one in made:  # it was not refused
            with contextlib.suppress(AttributeError):
                one.terminate()


@pytest.mark.parametrize(("parameter", "value"), cases(POOL_CALLS))
def test_a_wrong_argument_of_a_call_is_refused_by_that_call(parameter, value):
    with FORK.Pool(1) as pool:
        refused(parameter, value, lambda: POOL_CALLS[parameter][0](pool, value))
        assert pool.apply(abs, (-1,)) == 1


def test_arguments_may_be_of_any_kind_that_a_call_takes():
    with FORK.Pool(1) as pool:
        assert pool.apply(pow, [2, 3]) == pool.apply(pow, iter((2, 3))) == 8
        assert pool.apply_async(int, "7").get() == 7
        assert pool.apply(int, ("11",), types.MappingProxyType({"base": 2})) == 3


# --- a program without its guard --------------------------------------------------------------------------------------

UNGUARDED = {
    "a pool": "pool = mp.Pool(3)\nprint(pool.map(abs, [-1]))",
    "a pool below set_start_method": "mp.set_start_method({method!r})\npool = mp.Pool(3)\nprint(pool.map(abs, [-1]))",
    "processes": "for _ in range(3):\n    p = mp.Process(target=abs, args=(1,))\n    p.start()\n    p.join()\n"
    "sys.exit(p.exitcode)",
    "an executor": "from procession.futures import ProcessPoolExecutor as E\nprint(list(E(3).map(abs, [-1])))",
    "a manager": "mp.Manager()",
}


@pytest.mark.start_methods("spawn", "forkserver")
@pytest.mark.parametrize("what", UNGUARDED)
def test_a_program_without_its_guard_is_told_so_once_and_in_few_lines(what, start_method, tmp_path):
    head = "import sys, procession as mp\n"
    if "set_start_method" not in what:
        head += f"if __name__ == '__main__':\n    mp.set_start_method({start_method!r})\n"
    script = write(tmp_path / "program.py", head + UNGUARDED[what].format(method=start_method))
    outcome = run(script)
    assert outcome.code == 1, outcome
    assert outcome.err.count('if __name__ == "__main__":') == 1
    assert len((outcome.out + outcome.err).splitlines()) <= 60
    assert "spawn_main" not in outcome.err and "_run_as_main" not in outcome.err


@pytest.mark.parametrize(
    "text", ["x = (1\ny = = 2\n", "def f():\n  return\n x", "print('a'\n", "return 1"], ids=range(4)
)
def test_a_program_that_is_no_python_is_shown_as_by_python_itself(text, tmp_path):
    script = write(tmp_path / "program.py", "")
    script.write_text(text)
    ours, theirs = run("-m", "procession", script), run(script)
    assert (ours.code, ours.out, ours.err) == (theirs.code, theirs.out, theirs.err)


def test_an_error_of_a_package_that_is_to_be_run_is_shown_from_the_package_on(tmp_path):
    write(tmp_path / "broken" / "__init__.py", "1 / 0")
    write(tmp_path / "broken" / "__main__.py", "")
    outcome = run("-m", "procession", "-m", "broken", cwd=tmp_path)
    assert outcome.code == 1 and "ZeroDivisionError" in outcome.err
    assert "main_script.py" not in outcome.err and "__init__.py" in outcome.err
