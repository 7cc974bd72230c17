"""What a cluster refuses, and with which words."""

from __future__ import annotations

import os
import socket
import sys
import threading

import pytest

import cluster_nodes
import cluster_tasks as tasks
import procession as mp
import programs
from deadlines import PATIENCE
from procession._cluster import connect, pickling
from procession._cluster.share import plan


@pytest.mark.parametrize(
    ("make", "instead"),
    [
        (mp.Lock, "Lock of the cluster's context"),
        (mp.RLock, "RLock of the cluster's context"),
        (mp.Semaphore, "Semaphore of the cluster's context"),
        (mp.BoundedSemaphore, "BoundedSemaphore of the cluster's context"),
        (mp.Condition, "Condition of the cluster's context"),
        (mp.Event, "Event of the cluster's context"),
        (lambda: mp.Barrier(2), "Barrier of the cluster's context"),
        (mp.Queue, "Queue of the cluster's context"),
        (mp.JoinableQueue, "JoinableQueue of the cluster's context"),
        (mp.SimpleQueue, "SimpleQueue of the cluster's context"),
        (lambda: mp.Pipe()[0], "Queue of the cluster's context"),
        (lambda: mp.Value("i"), "Value or Array of a Manager"),
        (lambda: mp.Array("i", 3), "Value or Array of a Manager"),
        (lambda: mp.RawValue("i"), "Value or Array of a Manager"),
        (lambda: mp.RawArray("i", 3), "Value or Array of a Manager"),
        (mp.SharedDict, "dict of a Manager"),
        (lambda: mp.ndarray((2,)), "a copy"),
    ],
)
def test_an_object_of_this_machine_is_refused_by_the_call_that_gets_it(make, instead):
    obj = make()
    for given in (obj, [{"deep": obj}]):
        with pytest.raises(TypeError, match="is an object of this machine") as caught:
            pickling.dumps(given)
        assert instead in str(caught.value)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (mp.RLock, "an RLock"),
        (mp.Event, "an Event"),
        (lambda: mp.Value("i"), "a Value"),
        (lambda: mp.Array("i", 3), "an Array"),
        (lambda: mp.Array("c", 3), "an Array"),
        (lambda: mp.RawValue("i"), "a RawValue"),
        (lambda: mp.RawArray("i", 3), "a RawArray"),
        (lambda: mp.ndarray((2,)), "an ndarray"),
        (mp.SharedDict, "a SharedDict"),
        (mp.JoinableQueue, "a JoinableQueue"),
        (lambda: mp.Pipe()[0], "a Connection"),
    ],
)
def test_an_object_that_is_refused_has_the_name_under_which_it_is_made(make, name):
    with pytest.raises(TypeError, match=f"^{name} is an object of this machine"):
        pickling.dumps(make())


_used_globally = mp.Lock()


def _uses_a_global(n):
    def inner():
        return _used_globally

    return n, inner


def test_the_error_says_where_a_refused_object_is(monkeypatch):
    lock = mp.Lock()

    class Holder:
        def __init__(self):
            self.held = [1, {"key": lock}]

    def enclosed():
        return lock

    plug = socket.socket()
    plug.close()
    monkeypatch.setattr(_uses_a_global, "__module__", "__main__")  # goes by value, with the globals that it names
    for given, place in (
        ({"a": [lock]}, "dict, because of what is at ['a'][0]: Lock"),
        (((1, lock), {}), "tuple, because of what is at [0][1]: Lock"),
        (Holder(), "because of what is at .held[1]['key']: Lock"),
        (enclosed, "because of what is at variable 'lock' of "),
        ([_uses_a_global], "because of what is at [0] global '_used_globally' of _uses_a_global(): Lock"),
        ({"s": plug}, "because of what is at ['s']: socket"),
    ):
        with pytest.raises(TypeError, match="is an object of this machine") as caught:
            pickling.dumps(given)
        assert place in caught.value.__notes__[0]
        assert caught.value.refused is None
    with pytest.raises(TypeError) as caught:
        pickling.dumps(lock)
    assert not hasattr(caught.value, "__notes__")


def test_objects_of_the_standard_library_are_refused_with_what_to_use():
    import multiprocessing as standard

    context = standard.get_context("spawn")
    for make, text in (
        (
            context.Queue,
            r"a Queue of the standard library's multiprocessing is .*: use the Queue of the cluster's context",
        ),
        (context.RLock, r"an RLock of the standard library's .*: use the RLock of the cluster's context"),
        (lambda: context.Value("i"), r"a Value of the standard library's .*: use the Value or Array of a Manager"),
        (
            lambda: context.Pipe()[0],
            r"a Connection of the standard library's .*: use the Queue of the cluster's context",
        ),
    ):
        with pytest.raises(TypeError, match=text) as caught:
            pickling.dumps([make()])
        assert "at [0]" in caught.value.__notes__[0]


def test_the_standard_executor_is_refused_with_the_one_to_use(cluster):
    from concurrent.futures import ProcessPoolExecutor

    with (
        pytest.raises(TypeError, match=r"use procession\.futures\.ProcessPoolExecutor"),
        ProcessPoolExecutor(1, mp_context=cluster) as executor,
    ):
        executor.submit(tasks.square, 1).result(timeout=PATIENCE)


def test_a_proxy_of_a_manager_without_its_key_says_which_manager_to_use(cluster):
    import multiprocessing as standard

    with standard.get_context("spawn").Manager() as manager, cluster.Pool() as pool:
        with pytest.raises(Exception, match="digest") as caught:
            pool.apply(len, (manager.list(),))
        assert any("use the Manager of the cluster's context" in note for note in caught.value.__notes__)


def test_objects_of_a_derived_class_are_refused_too():
    class Mine(type(mp.Queue())):
        pass

    with pytest.raises(TypeError, match="a Mine is an object of this machine"):
        pickling.dumps(Mine(ctx=mp.get_context()))


def test_named_shared_memory_is_refused():
    from procession.shared_memory import SharedMemory

    memory = SharedMemory(create=True, size=10)
    try:
        with pytest.raises(TypeError, match="use a copy of its bytes"):
            pickling.dumps(memory)
    finally:
        memory.close()
        memory.unlink()


def test_arrays_that_numpy_computes_from_shared_ones_are_sent():
    numpy = pytest.importorskip("numpy")
    shared = mp.ndarray((3,), dtype=float)
    shared[:] = 1
    pickled, buffers = pickling.dumps(shared + 1)
    assert (pickling.loads(pickled, buffers=buffers) == numpy.full(3, 2.0)).all()


def test_every_call_of_a_pool_refuses_them_at_once(cluster):
    with cluster.Pool() as pool:
        with pytest.raises(TypeError, match="Lock of the cluster's context"):
            pool.apply(tasks.square, (mp.Lock(),))
        with pytest.raises(TypeError, match="Lock of the cluster's context"):
            pool.map(tasks.square, [1, mp.Lock(), 3], chunksize=1)
        with pytest.raises(TypeError, match="Queue of the cluster's context"):
            pool.map(mp.Queue().put, [1])
        with pytest.raises(TypeError, match="Lock of the cluster's context"):
            cluster.Pool(initializer=tasks.begin, initargs=(mp.Lock(),))
        with pytest.raises(TypeError, match="cannot pickle"):
            pool.apply(tasks.square, (threading.Lock(),))
        assert pool.map(tasks.square, range(3)) == [0, 1, 4]


def test_a_result_that_cannot_be_sent_is_an_error_of_its_call(cluster):
    with cluster.Pool() as pool:
        with pytest.raises(mp.pool.MaybeEncodingError, match="is an object of this machine"):
            pool.apply(tasks.make_lock)
        assert pool.apply(tasks.square, (2,)) == 4


def test_a_module_that_a_node_lacks_is_named_and_so_is_the_node(cluster, tmp_path, monkeypatch):
    (tmp_path / "lacking_there.py").write_text("def f(n):\n    return n\n")
    monkeypatch.syspath_prepend(tmp_path)
    import lacking_there

    with cluster.Pool() as pool:
        with pytest.raises(ModuleNotFoundError, match=r"module 'lacking_there' is missing on node node-\d") as caught:
            pool.apply(lacking_there.f, (1,))
        assert "upload(path)" in str(caught.value)
        assert caught.value.name == "lacking_there"
        with pytest.raises(ModuleNotFoundError, match="lacking_there"):
            pool.map(lacking_there.f, range(10))


def test_a_task_cannot_harm_the_process_of_the_node(cluster):
    pids = {node.pid for node in cluster.nodes()}
    with cluster.Pool() as pool:
        for _ in range(3):
            with pytest.raises(mp.WorkerDiedError):
                pool.apply(tasks.Bomb())
            with pytest.raises(mp.WorkerDiedError):
                pool.apply(tasks.square, (tasks.Bomb(),))
        assert not pids & set(pool.map(tasks.pid, range(20), chunksize=1))
    assert {node.pid for node in cluster.nodes()} == pids


def test_nodes_inside_this_process_are_refused():
    assert "LocalCluster(processes=True)" in (connect.why_plain("inproc://10.0.0.1/1/1", True) or "")


def test_a_node_with_another_version_is_refused(lone_scheduler, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import cloudpickle\ncloudpickle.__version__ = '0.1'\n")
    path = os.pathsep.join([str(tmp_path), lone_scheduler.environment["PYTHONPATH"]])
    with cluster_nodes.Nodes(tmp_path, 1, of=lone_scheduler, PYTHONPATH=path) as nodes:
        with pytest.raises(RuntimeError, match=r"has cloudpickle 0\.1, and this program .*must be the same"):
            for _ in range(200):
                with mp.cluster(nodes.address):
                    pass
        nodes.nodes[0].kill()


def test_versions_are_compared_by_name():
    import cloudpickle

    ours = [str(part) for part in sys.version_info[:2]], mp.__version__, cloudpickle.__version__
    assert connect.why_other(list(ours), "here") is None
    assert "has Python 2.7, and this program Python 3" in str(connect.why_other([["2", "7"], *ours[1:]], "there"))
    assert "has no Procession: install Procession" in str(connect.why_other([ours[0], None, ours[2]], "there"))
    assert eval(connect.VERSIONS) == [ours[0], *ours[1:]]


def test_without_distributed_one_sentence_says_what_to_install():
    program = """
        import sys
        sys.modules["distributed"] = None
        import procession as mp
        try:
            mp.cluster("127.0.0.1:1")
        except ModuleNotFoundError as error:
            print(error)
    """
    import textwrap

    said = programs.run("-c", textwrap.dedent(program)).well()
    assert said.strip().endswith("pip install procession[dask]") and len(said.splitlines()) == 1


def test_a_context_without_an_address_says_where_it_is_read_from(monkeypatch):
    monkeypatch.delenv("PROCESSION_CLUSTER", raising=False)
    context = mp.get_context("dask")
    assert context is mp.get_context("dask")
    with pytest.raises(ValueError, match="PROCESSION_CLUSTER"):
        context.Pool()


def test_a_context_takes_the_address_from_the_environment(shared_nodes):
    program = """
        import procession as mp

        def square(n):
            return n * n

        if __name__ == "__main__":
            context = mp.get_context("dask")
            with context.Pool() as pool:
                print(pool.map(square, range(4)), context.cpu_count())
            context.close()
    """
    import textwrap

    said = programs.run("-c", textwrap.dedent(program), PROCESSION_CLUSTER=shared_nodes.address).well()
    assert said == "[0, 1, 4, 9] 2\n"


def test_a_client_and_a_cluster_of_dask_are_taken_and_stay_open(shared_nodes):
    from distributed import Client

    with Client(shared_nodes.address, set_as_default=False) as client:
        with mp.cluster(client) as cluster, cluster.Pool() as pool:
            assert pool.apply(tasks.square, (3,)) == 9
        assert client.submit(tasks.square, 4).result(timeout=PATIENCE) == 16


def test_the_workers_of_a_pool_are_shared_out_by_cores():
    assert plan(None, {"a": 2, "b": 3}, {}) == {"a": 2, "b": 3}
    assert plan(None, {"a": 2, "b": 3}, {"a": 2}) == {"b": 3}
    assert plan(5, {"a": 2, "b": 8}, {}) == {"a": 1, "b": 4}
    assert plan(1, {"a": 1, "b": 1}, {}) in ({"a": 1}, {"b": 1})
    assert plan(8, {"a": 2, "b": 2}, {}) == {"a": 4, "b": 4}
    assert plan(4, {"a": 4, "b": 4}, {"a": 4}) == {}
    assert plan(4, {"a": 4, "b": 4}, {"a": 1}) == {"b": 3}
    assert plan(4, {}, {}) == {}


def test_a_condition_of_this_machine_names_the_lock_of_a_cluster(cluster):
    with pytest.raises(TypeError, match=r"of a cluster: use the Condition of the cluster's context"):
        mp.Condition(cluster.Lock())
