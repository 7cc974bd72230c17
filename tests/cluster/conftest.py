"""Clusters for tests. Where `distributed` is missing, this says so at the end of the run."""

from __future__ import annotations

import copyreg
import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import procession as mp

HAS_DASK = importlib.util.find_spec("distributed") is not None
HERE = Path(__file__).parent

if HAS_DASK:
    registered = set(copyreg.dispatch_table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import distributed  # noqa: F401
    # Dask registers reducers for all exceptions (of tblib), which other tests, and the programs that they start, lack.
    for kind in set(copyreg.dispatch_table) - registered:
        del copyreg.dispatch_table[kind]

    import cluster_nodes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs Dask, with the reason."""
    for item in items:
        if HERE in item.path.parents:
            if not HAS_DASK:
                item.add_marker(pytest.mark.skip(reason="NOT TESTED: `distributed` is not installed here"))
            # Dask's own code warns of several things
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session", autouse=True)
def zygote() -> Iterator[None]:
    yield
    if HAS_DASK:
        cluster_nodes.end_zygote()


@pytest.fixture(scope="session")
def shared_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two nodes that no test ends."""
    with cluster_nodes.Nodes(tmp_path_factory.mktemp("nodes")) as nodes:
        yield nodes


@pytest.fixture(scope="session")
def lone_scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A scheduler that no test ends."""
    with cluster_nodes.Nodes(tmp_path_factory.mktemp("scheduler"), 0) as found:
        yield found


@pytest.fixture
def cluster(shared_nodes: Any) -> Iterator[Any]:
    """The context of two nodes that no test ends."""
    with mp.cluster(shared_nodes.address) as found:
        yield shared_nodes.ready(found)


@pytest.fixture
def nodes(tmp_path: Path, lone_scheduler: Any) -> Iterator[Any]:
    """Two nodes for this test alone. Their scheduler is not to be ended."""
    folder = tmp_path / "nodes"
    folder.mkdir()
    with cluster_nodes.Nodes(folder, of=lone_scheduler) as found:
        yield found


@pytest.fixture
def whole(tmp_path: Path, lone_scheduler: Any) -> Iterator[Any]:
    """A scheduler and two nodes for this test alone. (The other scheduler has started the process that forks all.)"""
    folder = tmp_path / "nodes"
    folder.mkdir()
    with cluster_nodes.Nodes(folder) as found:
        yield found
