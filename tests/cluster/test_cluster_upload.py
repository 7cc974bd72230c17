"""Files that are sent to all nodes."""

from __future__ import annotations

import os

import pytest

import cluster_processes as work
import cluster_tasks as tasks
import procession as mp
from deadlines import PATIENCE, until


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that only this process has."""
    name = f"package_of_{os.getpid()}_{os.path.basename(tmp_path)}".replace("-", "_")
    folder = tmp_path / "only_here" / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "inner.py").write_text(
        "import pathlib\n\ndef answer(n):\n    return n, pathlib.Path(__file__).with_name('data.txt').read_text()\n"
    )
    (folder / "data.txt").write_text("data")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def test_an_uploaded_package_is_there_in_pools_and_processes(cluster, package, tmp_path):
    answer = __import__(f"{package.name}.inner").inner.answer
    cluster.upload(package)
    with cluster.Pool() as pool:
        assert pool.map(answer, range(4)) == [(n, "data") for n in range(4)]
    process = cluster.Process(target=work.note_result, args=(tmp_path / "note", answer, 3))
    process.start()
    process.join(PATIENCE)
    assert (tmp_path / "note").read_text() == "(3, 'data')"


def test_a_node_that_joins_later_gets_what_was_uploaded(nodes, package):
    answer = __import__(f"{package.name}.inner").inner.answer
    with mp.cluster(nodes.address) as cluster:
        nodes.ready(cluster)
        cluster.upload(package)
        nodes.add()
        nodes.ready(cluster)
        for node in cluster.nodes():
            process = cluster.Process(target=answer, args=(1,), node=node)
            process.start()
            process.join(PATIENCE)
            assert process.exitcode == 0, process.exception


def test_an_upload_that_is_refused_keeps_no_node_out(nodes, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    with mp.cluster(nodes.address) as cluster:
        nodes.ready(cluster)
        with pytest.raises(ValueError, match="neither a file nor a folder"):
            cluster.upload(folder)
        nodes.add()
        nodes.ready(cluster)


def test_a_missing_file_is_refused(cluster, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing_here"):
        cluster.upload(tmp_path / "nothing_here")


def test_a_running_pool_finds_what_is_uploaded_later(cluster, package):
    answer = __import__(f"{package.name}.inner").inner.answer
    with cluster.Pool() as pool:
        with pytest.raises(ModuleNotFoundError, match=package.name):
            pool.apply(answer, (1,))
        cluster.upload(package)
        until(lambda: _gives(pool, answer))


def _gives(pool, answer):
    try:
        return pool.apply(answer, (1,)) == (1, "data")
    except ModuleNotFoundError:
        return False


def test_two_clients_may_upload_different_versions_of_a_module(shared_nodes, cluster, tmp_path, monkeypatch):
    name = f"versions_of_{os.getpid()}"
    for version in (1, 2):
        (tmp_path / f"{version}").mkdir()
        (tmp_path / f"{version}" / f"{name}.py").write_text(f"VERSION = {version}\n")
    with mp.cluster(shared_nodes.address) as other:
        cluster.upload(tmp_path / "1" / f"{name}.py")
        other.upload(tmp_path / "2" / f"{name}.py")
        for context, version in ((cluster, 1), (other, 2)):
            with context.Pool() as pool:
                assert set(pool.starmap(tasks.attribute, [(name, "VERSION")] * 4)) == {version}


def test_uploads_go_when_their_client_closes_its_connection(shared_nodes, tmp_path):
    (tmp_path / "module_that_goes.py").write_text("")
    with mp.cluster(shared_nodes.address) as cluster:
        shared_nodes.ready(cluster)
        cluster.upload(tmp_path / "module_that_goes.py")
        with cluster.Pool() as pool:
            places = set(pool.starmap(tasks.attribute, [("module_that_goes", "__file__")] * 4))
        assert all(map(os.path.exists, places))
    until(lambda: not any(map(os.path.exists, places)))


def test_a_module_that_is_uploaded_anew_at_once_is_the_new_one(cluster, tmp_path):
    for version in range(1, 4):
        (tmp_path / "module_of_versions.py").write_text(f"VERSION = {version}\n")
        cluster.upload(tmp_path / "module_of_versions.py")
        with cluster.Pool() as pool:
            for _ in range(2):  # the second import finds compiled code
                assert set(pool.starmap(tasks.attribute, [("module_of_versions", "VERSION")] * 4)) == {version}


def test_a_folder_that_is_uploaded_anew_has_no_old_files(cluster, package):
    (package / "old.py").write_text("")
    cluster.upload(package)
    (package / "old.py").unlink()
    cluster.upload(package)
    with cluster.Pool() as pool:
        where = os.path.dirname(pool.apply(tasks.attribute, (package.name, "__file__")))
    assert "old.py" not in os.listdir(where)
    assert "inner.py" in os.listdir(where)


def test_a_node_that_joins_later_has_the_last_of_two_uploads_of_a_name(nodes, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    module = "module_from_two_places"
    with mp.cluster(nodes.address) as cluster:
        nodes.ready(cluster)
        for folder in ("a", "b", "a"):
            place = tmp_path / folder / f"{module}.py"
            place.write_text(f"VERSION = {folder!r}\n")
            cluster.upload(place)
        nodes.add()
        nodes.ready(cluster)
        with cluster.Pool() as pool:
            until(lambda: len({row.node for row in pool.statistics()}) == 3)
            found = pool.starmap(tasks.attribute, [(module, "VERSION")] * 30, chunksize=1)
        assert set(found) == {"a"}


def test_links_are_followed_once_and_broken_ones_left_out(cluster, package):
    (package / "broken.py").symlink_to("nothing_here.py")
    (package / "up").symlink_to("..")
    (package / "text.txt").symlink_to("data.txt")
    answer = __import__(f"{package.name}.inner").inner.answer
    cluster.upload(package)
    with cluster.Pool() as pool:
        where = os.path.dirname(pool.apply(tasks.attribute, (package.name, "__file__")))
        assert pool.apply(answer, (1,)) == (1, "data")
    found = sorted(name for name in os.listdir(where) if name != "__pycache__")
    assert found == ["__init__.py", "data.txt", "inner.py", "text.txt", "up"]
    assert not os.path.islink(os.path.join(where, "text.txt"))
