"""The fork server: when it is replaced, and the children that it forks ahead."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, asleep, ended, running, state, until
from programs import run, write

pytestmark = pytest.mark.start_methods("forkserver")


def tell(log, name=None):
    log.put((os.getppid(), os.environ.get(name) if name else None, os.getcwd(), list(sys.path)))


def tell_pid(log):
    log.put(os.getpid())


def have_a_child(context, log, change):
    if change:
        os.environ["CHANGED_IN_A_CHILD"] = "yes"
    with running(context, (tell, log, "CHANGED_IN_A_CHILD")) as [process]:
        ended(process)


def wait(log, gate):
    log.put(os.getpid())
    gate.wait()


def children_of(pid: int) -> set[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return {int(word) for word in file.read().split()}


def server() -> Any:
    from procession import forkserver

    return forkserver._forkserver


@pytest.fixture
def fresh(monkeypatch) -> Any:
    """The server, with few preloads, and no variable in the environment that changes between two starts."""
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    # what every child would import again, to find the functions that are defined here
    monkeypatch.setattr(server(), "_preload_modules", ["pytest", "deadlines", "programs"])
    yield server()
    server()._stop()


def ask(context, name=None):
    log = context.Queue()
    with running(context, (tell, log, name)) as [process]:
        answer = log.get(timeout=PATIENCE)
        assert ended(process) == [0]
    return answer


# --- when it is out of date -------------------------------------------------------------------------------------------


def test_what_has_changed_is_found_in_the_next_child(context, fresh, monkeypatch, tmp_path):
    first, *_ = ask(context)
    assert ask(context)[0] == first
    monkeypatch.setenv("A_VARIABLE", "of this test")
    second, value, *_ = ask(context, "A_VARIABLE")
    assert value == "of this test"
    monkeypatch.syspath_prepend(str(tmp_path))
    third, _, _, path = ask(context)
    assert path[0] == str(tmp_path)
    monkeypatch.chdir(tmp_path)
    fourth, _, folder, _ = ask(context)
    assert folder == str(tmp_path)
    mp.set_forkserver_preload(["colorsys"])
    fifth, *_ = ask(context)
    assert len({first, second, third, fourth, fifth}) == 5
    assert ask(context)[0] == fifth
    until(lambda: all(state(pid) == "X" for pid in (first, second, third, fourth)) or mp.active_children())


def test_children_of_a_server_that_was_replaced_live_on_and_are_known(context, fresh, monkeypatch):
    log, gate = context.Queue(), context.Event()
    with running(context, (wait, log, gate)) as [process]:
        assert log.get(timeout=PATIENCE) == process.pid
        before = server()._forkserver_pid
        monkeypatch.setenv("A_VARIABLE", "another")
        assert ask(context)[0] != before
        assert process.is_alive()
        assert state(before) != "X"
        gate.set()
        assert ended(process) == [0]
    until(lambda: not mp.active_children() and state(before) == "X")


def test_a_child_that_has_changed_something_starts_a_server_of_its_own(context, fresh):
    for change in (False, True):
        log = context.Queue()
        with running(context, (have_a_child, context, log, change)) as [process]:
            pid, value, *_ = log.get(timeout=PATIENCE)
            assert (pid == server()._forkserver_pid, value) == (not change, "yes" if change else None)
            assert ended(process) == [0]


# --- spares -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def spares(fresh, monkeypatch) -> Any:
    monkeypatch.setattr(fresh, "_spares", fresh._spares)
    mp.set_forkserver_spares(3)
    return fresh


def test_children_are_forked_ahead_and_used(context, spares):
    ask(context)
    pid = spares._forkserver_pid
    until(lambda: len(children_of(pid)) == 3)
    ahead = children_of(pid)
    log = context.Queue()
    with running(context, *[(tell_pid, log)] * 6) as processes:
        pids = {log.get(timeout=PATIENCE) for _ in processes}
        assert {process.pid for process in processes} == pids
        assert ended(*processes) == [0] * 6
    assert ahead <= pids
    until(lambda: len(children_of(pid)) == 3)


def test_a_spare_that_was_killed_is_not_missed(context, spares):
    ask(context)
    pid = spares._forkserver_pid
    until(lambda: len(children_of(pid)) == 3)
    ahead = children_of(pid)
    for spare in ahead:
        os.kill(spare, signal.SIGKILL)
    until(lambda: all(state(spare) in "XZ" for spare in ahead))
    for _ in range(4):
        assert ask(context)[0] == pid
    until(lambda: len(children_of(pid)) == 3)
    assert "Z" not in {state(spare) for spare in children_of(pid)}


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_spares_end_with_their_server(context, spares, end):
    ask(context)
    pid = spares._forkserver_pid
    until(lambda: len(children_of(pid)) == 3)
    ahead = children_of(pid)
    if end == "stop":
        spares._stop()
    else:
        os.kill(pid, signal.SIGKILL)
    until(lambda: all(state(spare) in "XZ" for spare in ahead))


def test_ctrl_c_does_not_end_spares(context, spares):
    ask(context)
    until(lambda: len(children_of(spares._forkserver_pid)) == 3)
    ahead = children_of(spares._forkserver_pid)
    for pid in (*ahead, spares._forkserver_pid):  # the whole group, as a terminal does
        os.kill(pid, signal.SIGINT)
    for spare in ahead:
        asleep(spare)


def test_a_child_is_not_interrupted_by_a_ctrl_c_that_came_before_its_start(context, spares):
    ask(context)
    until(lambda: len(children_of(spares._forkserver_pid)) == 3)
    for pid in (*children_of(spares._forkserver_pid), spares._forkserver_pid):
        os.kill(pid, signal.SIGINT)
    for _ in range(8):  # which asserts that the child ends well
        ask(context)


def test_without_spares_there_are_none(context, fresh, monkeypatch):
    monkeypatch.setattr(fresh, "_spares", fresh._spares)
    mp.set_forkserver_spares(0)
    for _ in range(3):
        ask(context)
    until(lambda: not children_of(fresh._forkserver_pid))
    with pytest.raises(ValueError, match="0 or more"):
        mp.set_forkserver_spares(-1)


def test_a_spare_has_the_exit_code_and_the_descriptors_of_any_child(context, spares):
    import socket

    ask(context)
    until(lambda: len(children_of(spares._forkserver_pid)) == 3)
    for _ in range(3):
        ours, theirs = socket.socketpair()
        with running(context, (send_and_leave, theirs)) as [process]:
            theirs.close()
            assert ours.recv(100) == b"hello"
            assert ended(process) == [5]
        ours.close()


def send_and_leave(sock):
    sock.send(b"hello")
    sys.exit(5)


# --- what it is for ---------------------------------------------------------------------------------------------------


def test_a_start_does_not_grow_with_the_memory_of_the_parent(tmp_path):
    script = write(
        tmp_path / "big.py",
        """
        import procession as mp
        def size():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[0])
        def tell(q):
            q.put(size())
        if __name__ == "__main__":
            context = mp.get_context("forkserver")
            q = context.Queue()
            sizes = []
            for ballast in (None, bytearray(300 << 20)):
                process = context.Process(target=tell, args=(q,))
                process.start()
                sizes.append(q.get(timeout=PATIENCE))
                process.join()
            assert abs(sizes[1] - sizes[0]) < 10000, sizes
        """,
    )
    run(script).well()
