"""Random numbers of tasks: `seed=` and `task_rng`."""

from __future__ import annotations

import os
import random
import signal
import sys
import types
import warnings

import numpy
import pytest

import procession as mp
from procession import futures


def numbers(_=None):
    return random.random(), float(numpy.random.rand()), float(mp.task_rng().random()), float(mp.task_rng().random())


def starred(a, b):
    return a, b, *numbers()


def from_stream(_):
    return mp.task_rng().bit_generator.seed_seq.generate_state(2).tolist()


def dies_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        random.random()
        os.kill(os.getpid(), signal.SIGKILL)
    return numbers()


def raises_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        numbers()
        raise OSError
    return numbers()


def raising(item):
    raise LookupError(item)


def seed_of_torch(_):
    return sys.modules["torch"].seeds[-1]


def results(context, workers, seed):
    with context.Pool(workers, seed=seed) as pool:
        return [
            pool.map(numbers, range(12)),
            pool.map(numbers, range(12), chunksize=5),
            pool.apply(numbers),
            pool.starmap(starred, [(n, n + 1) for n in range(5)]),
            list(pool.imap(numbers, iter(range(7)), chunksize=2)),
            pool.apply_async(numbers).get(),
        ]


def test_numbers_depend_on_the_seed_and_not_on_the_workers(context):
    one = results(context, 1, 11)
    assert one == results(context, 2, 11)
    with context.Pool(1, seed=12) as pool:
        other = pool.map(numbers, range(12))
    flat = [one[0], one[1], [one[2]], one[4], [one[5]], other]
    every = [number for call in flat for row in call for number in row]
    assert len(set(every)) == len(every)  # each item of each call has its own


def test_chunks_do_not_change_the_numbers(context):
    with context.Pool(2, seed=0) as pool, context.Pool(2, seed=0) as other:
        assert pool.map(numbers, range(20), chunksize=1) == other.map(numbers, range(20), chunksize=7)
        assert list(pool.imap(numbers, range(20), 3)) == list(other.imap(numbers, range(20)))


def test_the_stream_of_an_item_is_that_which_numpy_spawns(context):
    with context.Pool(2, seed=5) as pool:
        pool.map(abs, [1])
        streams = pool.map(from_stream, range(4))
    call = numpy.random.SeedSequence(5).spawn(2)[1]
    assert streams == [child.generate_state(2).tolist() for child in call.spawn(4)]


def test_an_item_that_runs_again_has_the_same_numbers(context, tmp_path):
    done = tmp_path / "done"
    done.touch()
    with context.Pool(1, seed=3) as pool, context.Pool(1, seed=3) as other:
        again = pool.map(dies_once, [tmp_path / "a", tmp_path / "b"], retries=2)
        assert again == other.map(dies_once, [done, done])
        again = pool.map(raises_once, [tmp_path / "c"], retries=1, retry_on=OSError)
        assert again == other.map(raises_once, [done])


def test_executors_have_seeds_too(context):
    with futures.ProcessPoolExecutor(2, context, seed=4) as executor, context.Pool(1, seed=4) as pool:
        assert executor.submit(numbers).result() == pool.apply(numbers)
        assert list(executor.map(numbers, range(5), chunksize=2)) == pool.map(numbers, range(5))


def test_errors_name_the_item_and_the_function(context):
    with context.Pool(1, seed=1) as pool:
        with pytest.raises(LookupError) as raised:
            pool.map(raising, ["a", "b"])
        assert any("item 0: 'a'" in note for note in raised.value.__notes__)
        outcomes = pool.map(raising, ["a", "b"], on_error="return")
        assert [error.args[0] for error in outcomes] == ["a", "b"]


def test_torch_is_seeded_if_it_is_imported(monkeypatch):
    stand_in = types.ModuleType("torch")
    stand_in.seeds = []
    stand_in.manual_seed = stand_in.seeds.append
    monkeypatch.setitem(sys.modules, "torch", stand_in)
    found = []
    for workers in (1, 2):
        with mp.get_context("fork").Pool(workers, seed=1) as pool:
            found.append(pool.map(seed_of_torch, range(8)))
    assert found[0] == found[1]
    assert len(set(found[0])) == 8


def test_an_input_is_read_no_further_than_it_is_used():
    read = []

    def source():
        for number in range(6):
            read.append(number)
            yield number

    with mp.Pool(1, seed=1) as pool:
        assert len(list(pool.imap(numbers, source(), buffersize=2))) == 6
    assert read == list(range(6))


def test_without_a_seed_generators_differ():
    assert mp.task_rng().random() != mp.task_rng().random()
    with mp.Pool(1) as pool:
        assert len(set(pool.map(from_generator, range(4)))) == 4


def from_global(n):
    return float(numpy.random.rand(n).sum())


def from_global_with_seed(n):
    numpy.random.seed(os.getpid())
    return from_global(n)


def from_random(_):
    return random.random()


def together(barrier, function, n):
    """Runs in each worker once: no worker takes the second task before the other one has begun."""
    barrier.wait()
    return function(n)


def warnings_of(context, function, n=1, **options):
    barrier = context.Barrier(2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with context.Pool(2, **options) as pool:
            values = pool.starmap(together, [(barrier, function, n)] * 2, 1)
        pool.join()
    return values, [warning for warning in caught if "same random numbers" in str(warning.message)]


@pytest.mark.parametrize("n", [1, 700, 100_000])
def test_workers_that_draw_the_same_numbers_cause_one_warning(n):
    (one, other), caught = warnings_of(mp.get_context("fork"), from_global, n)
    assert one == other
    assert len(caught) == 1
    assert issubclass(caught[0].category, RuntimeWarning)
    assert "seed" in str(caught[0].message)


def test_other_uses_of_random_numbers_cause_no_warning():
    context = mp.get_context("fork")
    for function in (from_global_with_seed, from_random, from_generator, abs):
        (_, _), caught = warnings_of(context, function)
        assert not caught
    (one, other), caught = warnings_of(context, from_global, seed=1)
    assert one != other
    assert not caught


def test_workers_that_inherit_nothing_cause_no_warning(context):
    if context.get_start_method() != "fork":
        (one, other), caught = warnings_of(context, from_global)
        assert one != other
        assert not caught


def test_a_worker_in_the_place_of_another_has_its_numbers_too():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with mp.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
            one, other = pool.map(from_global, [1, 1], 1)
        pool.join()
    assert one == other
    assert any("same random numbers" in str(warning.message) for warning in caught)


def from_generator(_):
    return mp.task_rng().random()


def test_what_is_no_seed_is_refused():
    for seed in (-1, 0.5, "a"):
        with pytest.raises((TypeError, ValueError), match="seed"):
            mp.Pool(1, seed=seed)
        with pytest.raises((TypeError, ValueError), match="seed"):
            futures.ProcessPoolExecutor(1, seed=seed)
