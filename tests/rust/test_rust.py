"""Python and Rust in one family: the same queues, locks, events and arrays; each starts the other."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import procession
from deadlines import PATIENCE, scaled, until
from procession.rust import Program, from_bytes, to_bytes
from scenes import command, report

ROOT = Path(__file__).resolve().parents[2]
# The first test waits for a compiler, which on a busy machine takes longer than a test may.
pytestmark = pytest.mark.timeout(func_only=True)


def cross(first: Any, second: Any, together: Any) -> None:
    with first:
        together.wait()
        with second:
            pass


def test_a_circle_through_rust_and_python_is_a_deadlock(peer: str) -> None:
    first, second, together = procession.Lock(name="first"), procession.Lock(name="second"), procession.Barrier(2)
    program = Program([peer, "cross"], [first, second, together], daemon=True)
    child = procession.get_context("fork").Process(target=cross, args=(first, second, together), name="python")
    program.start()
    child.start()

    def deadlock() -> Any:
        found = [one for one in report(os.getpid())["findings"] if one["kind"] == "deadlock"]
        return next((one for one in found if program.pid in [member["pid"] for member in one["members"]]), None)

    finding = until(deadlock)
    assert {member["pid"] for member in finding["members"]} == {program.pid, child.pid}
    assert {named["name"] for named in finding["objects"]} == {"first", "second"}
    for process in (child, program):
        process.kill()
        process.join(PATIENCE)


def test_a_pool_of_rust_whose_tasks_report_no_progress_is_counted_by_its_tasks(peer: str) -> None:
    go = procession.Event()
    program = Program([peer, "pool"], [go], daemon=True)
    program.start()

    def running() -> Any:
        pools = [thing for thing in report(os.getpid())["family"]["objects"] if thing["kind"] == "Pool"]
        tasks = [worker["task"] for pool in pools for worker in pool["workers"] if worker.get("task")]
        waiting = [task for task in tasks if task["id"] > 3]
        return waiting if len(waiting) == 2 else None

    tasks = until(running)
    assert [task.get("progress") for task in tasks] == [None, None]
    assert all("work" in str(task) for task in tasks), tasks
    output, errors, status = command("progress", "--once", str(os.getpid()))
    assert (errors, status) == ("", 0)
    # One line for the pool, and none for its tasks. This process may still have pools of other tests.
    [line] = [line for line in output.splitlines() if line.startswith("Pool at peer.rs")]
    assert re.search(r" 37%\|.*\| 3/8 \[", line), output
    assert all(line.startswith("Pool ") for line in output.splitlines()), output
    go.set()
    program.join(PATIENCE)
    assert program.exitcode == 0


VALUES = [
    True,
    0,
    -(2**63),
    2**63 - 1,
    1.5,
    math.inf,
    "",
    "häßlich \U0001f600",
    "x" * 100_000,
    b"",
    b"bytes",
    b"\0" * 100_000,
    (),
    [],
    {},
    (1, [2.0, {"three": (b"4", None)}]),
    list(range(-5, 1000)),
    {str(n): [n, n / 2] for n in range(300)},
    ["again", ["again"], "again"],
    [[[[[[[[[[[[1]]]]]]]]]]]],
    [1 << n for n in range(63)],
    ("long " * 5000, "long " * 5000, (1, 2), (1, 2)),
]


def test_every_value_that_both_sides_know_comes_back_as_it_was(echo: tuple[Any, Any]) -> None:
    there, back = echo
    for value in VALUES:
        there.put(value)
        answer = back.get(timeout=PATIENCE)
        assert answer == value
        assert type(answer) is type(value)


def test_a_bytearray_arrives_as_bytes(echo: tuple[Any, Any]) -> None:
    there, back = echo
    there.put(bytearray(b"abc"))
    assert back.get(timeout=PATIENCE) == b"abc"


ITSELF: list[object] = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize("value", [len, int, "\ud800", [1, print], ITSELF, ...])
def test_what_the_rust_side_does_not_know_is_refused_in_words(value: object, echo: tuple[Any, Any]) -> None:
    there, back = echo
    there.put(value)
    assert back.get(timeout=PATIENCE).startswith("refused: a message is no procession::value::Value: it")
    there.put(1)
    assert back.get(timeout=PATIENCE) == 1


def test_locks_events_and_arrays_are_the_same_objects(peer: str) -> None:
    np = pytest.importorskip("numpy")
    lock, rlock = procession.Lock(), procession.RLock()
    event, done = procession.Event(), procession.Event()
    semaphore, barrier = procession.Semaphore(0), procession.Barrier(2)
    array = procession.ndarray((2, 3))
    program = Program([peer, "objects"], [lock, rlock, event, done, semaphore, barrier, array, 7], daemon=True)
    program.start()
    event.set()
    for _ in range(1000):
        with lock, rlock:
            array[0, 0] += 1
    semaphore.release()
    assert done.wait(PATIENCE)
    assert array[0, 0] == 2000
    barrier.wait(PATIENCE)
    program.join(PATIENCE)
    assert program.exitcode == 0
    assert isinstance(array, np.ndarray)


def test_blocks_arrive_as_arrays_of_the_very_memory(peer: str) -> None:
    np = pytest.importorskip("numpy")
    queue = procession.Queue()
    program = Program([peer, "blocks"], [queue], daemon=True)
    program.start()
    big = queue.get(timeout=PATIENCE)
    assert (big.dtype, big.shape, big[12345]) == (np.float32, (1 << 20,), 12345)
    assert not big.flags.owndata and not big.flags.writeable
    assert queue.get(timeout=PATIENCE).tolist() == [-1, 2]
    assert queue.get(timeout=PATIENCE).shape == (0,)
    assert queue.get(timeout=PATIENCE) == b"plain"
    with pytest.raises(ValueError, match=r"procession::Value"):
        queue.get(timeout=PATIENCE)
    program.join(PATIENCE)
    assert program.exitcode == 0
    assert big.sum() > 0  # it outlives who sent it


def test_the_death_of_a_rust_program_with_a_lock_is_told(peer: str) -> None:
    lock = procession.Lock()
    program = Program([peer, "die-with-the-lock"], [lock], name="unlucky")
    program.start()
    program.join(PATIENCE)
    assert program.exitcode == -signal.SIGABRT
    with pytest.raises(procession.OwnerDiedError, match="unlucky"):
        lock.acquire(timeout=PATIENCE)
    assert lock.acquire(timeout=PATIENCE)


def test_a_program_is_a_process_like_any_other(peer: str) -> None:
    program = Program([peer, "exit", "7"])
    assert program.name == "peer"
    program.start()
    assert program in procession.active_children() or program.exitcode == 7
    program.join(PATIENCE)
    assert program.exitcode == 7
    with pytest.raises(FileNotFoundError):
        Program(["/nonexistent/program"]).start()
    with pytest.raises(FileNotFoundError):
        Program(["nonexistent-program"]).start()
    with pytest.raises(TypeError, match="set"):
        Program([peer], [{1}]).start()
    with pytest.raises(ValueError, match="args"):
        Program([])


def test_a_rust_program_that_python_did_not_start_was_given_nothing(peer: str) -> None:
    subprocess.run([peer, "alone"], check=True, timeout=PATIENCE)


def test_a_rust_program_starts_python_functions(peer: str) -> None:
    pytest.importorskip("numpy")
    run = subprocess.run(
        [peer, "root", sys.executable, str(ROOT / "tests" / "helpers")],
        check=False, capture_output=True, text=True, timeout=3 * PATIENCE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout == "all well\n"


def test_a_daemonic_program_ends_with_its_parent(peer: str) -> None:
    script = f"""
import procession, time
from procession.rust import Program
there, back = procession.Queue(), procession.Queue()
program = Program([{peer!r}, "echo"], [there, back], daemon=True)
program.start()
there.put("here")
assert back.get(timeout=PATIENCE) == "here"
print(program.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", scaled(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait(PATIENCE)
    until(lambda: not Path(f"/proc/{pid}").exists() or ") Z" in Path(f"/proc/{pid}/stat").read_text())
    parent.stdout.close()


def test_bytes_name_shared_objects_and_are_read_back() -> None:
    event, queue = procession.Event(), procession.Queue()
    there = to_bytes({"objects": [event, queue], "n": 1})
    back = from_bytes(there)
    back["objects"][0].set()
    assert event.is_set()
    back["objects"][1].put("x")
    assert queue.get(timeout=PATIENCE) == "x"
    with pytest.raises(OverflowError):
        to_bytes(2**63)
    with pytest.raises(ValueError, match="255"):
        to_bytes([0] * 256)
    with pytest.raises(ValueError, match="deep"):
        to_bytes([[[[[[[[[[1]]]]]]]]]])
    with pytest.raises(ValueError):
        from_bytes(b"\x0c\x09\xff\xff\xff\xff")


def test_a_part_of_an_array_is_not_given_as_the_whole() -> None:
    pytest.importorskip("numpy")
    array = procession.ndarray((4, 4))
    to_bytes(array)
    for part in (array[1:], array.T, array[:, 0]):
        with pytest.raises(ValueError, match="whole"):
            to_bytes(part)


def test_connections_and_segments_are_the_same_on_both_sides(peer: str, tmp_path: Path) -> None:
    from procession.connection import Client, Listener
    from procession.shared_memory import SharedMemory

    value = {"n": [1, 2.5, None], "text": "häßlich"}
    path = str(tmp_path / "socket")
    with Listener(path, authkey=b"secret") as listener:
        client = subprocess.Popen([peer, "connect", path])
        with listener.accept() as connection:
            connection.send(value)
            assert connection.recv() == value
            connection.send_bytes(b"x" * 100_000)
            assert connection.recv_bytes() == b"x" * 100_000
        assert client.wait(PATIENCE) == 0
    server = subprocess.Popen([peer, "listen", path], stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()
    with pytest.raises(procession.AuthenticationError):
        Client(path, authkey=b"wrong")
    with Client(path, authkey=b"secret") as connection:
        connection.send(value)
        assert connection.recv() == value
    assert server.wait(PATIENCE) == 0
    server.stdout.close()
    segment = SharedMemory(create=True, size=4096)
    try:
        segment.buf[4095] = 41
        subprocess.run([peer, "segment", segment.name], check=True, timeout=PATIENCE)
        assert segment.buf[0] == 42
    finally:
        segment.close()
        segment.unlink()


def test_bytes_of_any_length_reach_queues_of_bytes_and_of_blocks(peer: str) -> None:
    there, back = procession.Queue(), procession.Queue()
    program = Program([peer, "bytes"], [there, back])
    program.start()
    lengths = [length for length in (0, 5, 3000, 100_000) for _ in range(2)]
    for length in lengths:
        there.put(b"x" * length)
    assert [back.get(timeout=PATIENCE) for _ in lengths] == lengths
    program.join(PATIENCE)
    assert program.exitcode == 0
