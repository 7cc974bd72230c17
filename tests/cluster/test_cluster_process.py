"""Processes on nodes: they are started, joined, ended and looked at as processes of this machine are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import cluster_nodes
import cluster_processes as work
import cluster_tasks as tasks
import procession as mp
from deadlines import PATIENCE, state, until
from procession._cluster import process as process_of_nodes
from procession._cluster import streams


def until_written(path):
    return until(lambda: path.exists() and path.read_text())


def test_a_process_runs_on_a_node_and_says_how_it_ended(cluster, tmp_path):
    process = cluster.Process(target=work.note_who, args=(tmp_path / "note",), name="Anna", daemon=True)
    assert process.exitcode is None
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 0 and process.exception is None and not process.is_alive()
    assert (tmp_path / "note").read_text() == f"Anna {process.pid} True"
    assert process.node in {node.name for node in cluster.nodes()}


def test_the_exception_of_a_process_arrives_with_its_traceback(cluster):
    process = cluster.Process(target=work.fail)
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 1
    assert isinstance(process.exception, KeyError)
    assert "in fail" in str(process.exception.__cause__)


def test_a_signal_that_ends_a_start_leaves_no_process_on_the_node(cluster, tmp_path, monkeypatch):
    class Interrupted:  # by Ctrl-C, when the answer of the node has come
        def __init__(self, begun):
            self.begun = begun

        def result(self):
            self.begun.result(PATIENCE)
            assert until_written(tmp_path / "pid")
            raise KeyboardInterrupt

        def cancel(self):
            return self.begun.cancel()

    members = cluster.members()
    begin = type(members).begin
    process = cluster.Process(target=work.sleep, args=(tmp_path / "pid",))
    with monkeypatch.context() as patch:
        patch.setattr(type(members), "begin", lambda self, work: Interrupted(begin(self, work)))
        with pytest.raises(KeyboardInterrupt):
            process.start()
    pid = int((tmp_path / "pid").read_text())
    assert until(lambda: state(pid) in "XZ")
    assert process.pid is None


@pytest.mark.parametrize("how", ["terminate", "kill", "interrupt"])
def test_a_signal_reaches_the_process(cluster, tmp_path, how):
    process = cluster.Process(target=work.sleep, args=(tmp_path / "pid",))
    process.start()
    assert int(until_written(tmp_path / "pid")) == process.pid
    assert process.is_alive()
    getattr(process, how)()
    process.join(PATIENCE)
    assert process.exitcode == {"terminate": -signal.SIGTERM, "kill": -signal.SIGKILL, "interrupt": 1}[how]
    if how == "kill":
        assert "SIGKILL" in str(process.exception) and process.node in str(process.exception)


def test_a_killed_process_says_so(cluster, tmp_path):
    process = cluster.Process(target=work.sleep, args=(tmp_path / "pid",))
    process.start()
    os.kill(int(until_written(tmp_path / "pid")), signal.SIGKILL)
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    assert isinstance(process.exception, mp.ProcessDiedError)


def test_a_node_can_be_chosen_by_name_address_and_object(cluster):
    for node in cluster.nodes():
        for wanted in (node, node.name, node.address):
            process = cluster.Process(target=tasks.pid, node=wanted)
            process.start()
            process.join(PATIENCE)
            assert process.node == node.name


def test_processes_spread_over_the_nodes(cluster, tmp_path):
    running = [cluster.Process(target=work.sleep, args=(tmp_path / str(n),)) for n in range(4)]
    for process in running:
        process.start()
    names = [process.node for process in running]
    assert sorted(names.count(name) for name in set(names)) == [2, 2]
    for process in running:
        process.kill()
        process.join(PATIENCE)


def test_what_a_process_writes_and_logs_arrives_in_whole_lines(cluster, capfd, caplog):
    process = cluster.Process(target=work.talk, forward_output=True)
    process.start()
    process.join(PATIENCE)
    out, err = capfd.readouterr()
    assert out == "first\nsecond\nno newline"
    assert "to stderr\n" in err
    assert [(r.name, r.getMessage(), r.process) for r in caplog.records if r.name == "my.log"] == [
        ("my.log", "number 7", process.pid)
    ]


def test_a_killed_process_loses_nothing_that_it_had_written(cluster, tmp_path, capfd):
    process = cluster.Process(target=work.write_many, args=(20_000, tmp_path / "done"), forward_output=True)
    process.start()
    until_written(tmp_path / "done")
    process.kill()
    process.join(PATIENCE)
    assert capfd.readouterr().out == "".join(f"{n}\n" for n in range(20_000))


def test_a_class_of_the_program_runs_with_its_own_attributes(cluster, tmp_path):
    class Writer(cluster.Process):
        def __init__(self, path):
            super().__init__()
            self.path = path

        def run(self):
            import procession

            with open(self.path, "w") as file:
                file.write(f"{self.name} {procession.current_process() is self}")

    writer = Writer(tmp_path / "note")
    writer.start()
    writer.join(PATIENCE)
    assert writer.exitcode == 0
    assert (tmp_path / "note").read_text() == f"{writer.name} True"
    assert writer.name.startswith("Writer-")


def test_a_process_may_have_children_there(cluster, tmp_path):
    process = cluster.Process(target=work.have_a_child, args=(tmp_path / "note",))
    process.start()
    process.join(PATIENCE)
    assert (tmp_path / "note").read_text() == "from a child"


def test_bad_arguments_are_refused_where_they_are_given(cluster):
    with pytest.raises(ValueError, match="there is no node 'elsewhere': there are node-0, node-1"):
        cluster.Process(target=tasks.pid, node="elsewhere").start()
    with pytest.raises(TypeError, match="node must be"):
        cluster.Process(target=tasks.pid, node=3)
    process = cluster.Process(target=tasks.square, args=(mp.Lock(),))
    with pytest.raises(TypeError, match="the Lock of the cluster's context"):
        process.start()
    assert process.pid is None and process not in mp.active_children()


def test_a_module_that_the_node_lacks_is_named(cluster, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def work():\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here

    process = cluster.Process(target=only_here.work)
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 1
    assert "only_here" in str(process.exception) and process.node in str(process.exception)


def test_waiting_for_sentinels_works(cluster, tmp_path):
    process = cluster.Process(target=work.sleep, args=(tmp_path / "pid",))
    process.start()
    assert mp.connection.wait([process.sentinel], 0) == []
    process.kill()
    assert mp.connection.wait([process.sentinel], PATIENCE) == [process.sentinel]
    process.join()
    process.close()
    with pytest.raises(ValueError):
        process.is_alive()


# --- who dies ---------------------------------------------------------------------------------------------------------


def test_processes_of_a_killed_node_end_and_say_so(nodes, tmp_path):
    with mp.cluster(nodes.address) as cluster:
        nodes.ready(cluster)
        process = cluster.Process(target=work.sleep, args=(tmp_path / "pid",), node="node-0")
        process.start()
        pid = int(until_written(tmp_path / "pid"))
        cluster_nodes.kill(nodes.nodes[0])
        process.join(PATIENCE)
        assert process.exitcode == 255
        assert isinstance(process.exception, mp.NodeDiedError) and "node-0" in str(process.exception)
        assert f"the process {process.name} (pid {process.pid} there)" in str(process.exception)
        until(lambda: not cluster_nodes.is_alive(pid))
        other = cluster.Process(target=tasks.pid)  # the other node goes on
        other.start()
        other.join(PATIENCE)
        assert other.exitcode == 0 and other.node == "node-1"


def test_a_process_starts_on_a_living_node_if_the_chosen_one_has_just_died(nodes, monkeypatch):
    with mp.cluster(nodes.address, node_timeout=PATIENCE) as cluster:
        nodes.ready(cluster)
        before = cluster.nodes()
        for node in before:  # from here on both are prepared
            first = cluster.Process(target=tasks.pid, node=node)
            first.start()
            first.join(PATIENCE)
        dead = next(node for node in before if node.name == "node-0")
        cluster_nodes.kill(nodes.nodes[0])
        # as if the news came between the choice of the node and the connection
        monkeypatch.setattr(cluster.members(), "wait_for_nodes", lambda: before)
        monkeypatch.setattr(process_of_nodes, "_running", {node.address: node is not dead for node in before})
        process = cluster.Process(target=tasks.pid)
        process.start()
        process.join(PATIENCE)
        assert process.exitcode == 0 and process.node == "node-1"
        named = cluster.Process(target=tasks.pid, node="node-0")
        with pytest.raises(mp.NodeDiedError, match="node-0") as caught:
            named.start()
        assert caught.value.node == "node-0" and caught.value.pid == dead.pid
        assert not named.is_alive() and named.exitcode is None


def test_a_stopped_node_is_given_up_after_the_timeout(nodes, tmp_path):
    with mp.cluster(nodes.address, node_timeout=2.0) as cluster:
        nodes.ready(cluster)
        process = cluster.Process(target=work.sleep, args=(tmp_path / "pid",), node="node-0")
        process.start()
        until_written(tmp_path / "pid")
        cluster_nodes.kill(nodes.nodes[0], signal.SIGSTOP)
        try:
            process.join(PATIENCE)
            assert process.exitcode == 255
            assert "silent" in str(process.exception)
        finally:
            cluster_nodes.kill(nodes.nodes[0], signal.SIGCONT)


def test_a_killed_client_leaves_no_process(shared_nodes, tmp_path):
    program = f"""
import procession as mp, time, os
def sleep(path):
    open(path, "w").write(str(os.getpid()))
    time.sleep(1000)
if __name__ == "__main__":
    c = mp.cluster({shared_nodes.address!r})
    p = c.Process(target=sleep, args=({str(tmp_path / "pid")!r},))
    p.start()
    p.join()
"""
    (tmp_path / "program.py").write_text(program)
    client = subprocess.Popen([sys.executable, "-W", "ignore", str(tmp_path / "program.py")])
    try:
        pid = int(until_written(tmp_path / "pid"))
    finally:
        client.kill()
        client.wait()
    until(lambda: not cluster_nodes.is_alive(pid))


def test_a_client_that_ends_joins_its_processes_and_ends_the_daemonic_ones(shared_nodes, tmp_path):
    program = f"""
import procession as mp, time, os
def work(path, seconds):
    open(path, "w").write(str(os.getpid()))
    time.sleep(seconds)
    open(path, "a").write(" done")
    print("printed at the end")
if __name__ == "__main__":
    c = mp.cluster({shared_nodes.address!r})
    c.Process(target=work, args=({str(tmp_path / "joined")!r}, 0.5), forward_output=True).start()
    c.Process(target=work, args=({str(tmp_path / "daemon")!r}, 1000), daemon=True).start()
    while not os.path.exists({str(tmp_path / "daemon")!r}):
        time.sleep(0.01)
"""
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, "-W", "ignore", str(tmp_path / "program.py")]
    done = subprocess.run(command, check=True, timeout=3 * PATIENCE, stdout=subprocess.PIPE, text=True)
    assert done.stdout == "printed at the end\n"
    assert (tmp_path / "joined").read_text().endswith(" done")
    pid = int((tmp_path / "daemon").read_text())
    until(lambda: not cluster_nodes.is_alive(pid))


def test_closing_the_cluster_ends_its_processes(shared_nodes, tmp_path):
    cluster = mp.cluster(shared_nodes.address)
    process = cluster.Process(target=work.sleep, args=(tmp_path / "pid",))
    process.start()
    pid = int(until_written(tmp_path / "pid"))
    cluster.close()
    process.join(PATIENCE)
    assert process.exitcode == 255
    until(lambda: not cluster_nodes.is_alive(pid))


def test_a_dead_scheduler_ends_its_processes(whole, tmp_path):
    with mp.cluster(whole.address) as cluster:
        whole.ready(cluster)
        process = cluster.Process(target=work.sleep, args=(tmp_path / "pid",))
        process.start()
        until_written(tmp_path / "pid")
        cluster_nodes.kill(whole.scheduler)
        process.join(PATIENCE)
        # the nodes of a dead scheduler end as well: either is noticed first
        assert process.exitcode == 255 and isinstance(process.exception, mp.NodeDiedError)


@pytest.mark.parametrize("text", ["€", "é", "a", "😀", "a€"])
def test_a_long_line_is_cut_between_characters(text):
    whole = (text * 9).encode()
    for length in range(5, len(whole)):
        cut = streams._end_of_text(whole[:length])
        assert whole[:cut].decode() == whole[:length].decode(errors="ignore")
    assert streams._end_of_text(b"\xff" * 9) >= 5
