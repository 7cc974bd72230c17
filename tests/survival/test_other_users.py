"""What another user of the machine can reach: nothing. Run by root, these tests attack as uid 65534."""

from __future__ import annotations

import asyncio
import multiprocessing.connection as plain
import os
import pickle
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import procession as mp
import worlds
from deadlines import PATIENCE, until
from procession import connection, managers, shared_memory
from world_programs import program


def as_nobody(attack: Callable[[], Any]) -> Any:
    """What an attack by another user returns or raises."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            worlds.become_nobody()
            answer: Any = attack()
        except BaseException as error:
            answer = type(error)
        os.write(writer, pickle.dumps(answer))
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        answer = pickle.load(said)
    os.waitpid(pid, 0)
    return answer


@pytest.mark.root
def test_a_listener_without_an_address_is_out_of_reach():
    with connection.Listener() as listener:
        address = listener.address
        assert stat.S_IMODE(os.stat(os.path.dirname(address)).st_mode) == 0o700
        assert as_nobody(lambda: plain.SocketClient(address)) is PermissionError


@pytest.mark.root
def test_a_manager_without_an_address_is_out_of_reach():
    with managers.SyncManager() as manager:
        address = manager.address
        assert as_nobody(lambda: plain.SocketClient(address)) is PermissionError


@pytest.mark.root
def test_nobody_but_the_user_can_open_memory_or_segments():
    segment = shared_memory.SharedMemory(create=True, size=10)
    try:
        mine = f"/proc/{os.getpid()}/fd/{mp._core.family_fd()}"
        for path in (mine, f"/proc/{os.getpid()}/mem", f"/dev/shm/{segment.name}"):
            assert as_nobody(lambda: os.open(path, os.O_RDWR)) is PermissionError  # noqa: B023
        assert as_nobody(lambda: os.open(mine, os.O_RDONLY)) is PermissionError
    finally:
        segment.close()
        segment.unlink()


def _mailboxes() -> set[bytes]:
    names = (line.split() for line in Path("/proc/net/unix").read_bytes().splitlines())
    return {fields[7] for fields in names if len(fields) > 7 and fields[7].startswith(b"@procession/")}


async def _with_mailbox() -> set[bytes]:
    before = _mailboxes()
    task = asyncio.ensure_future(mp.Event().wait_async())
    await asyncio.sleep(0)
    found = _mailboxes() - before
    task.cancel()
    return found


def test_the_addresses_of_mailboxes_cannot_be_foreseen(tmp_path: Path):
    (name,) = asyncio.run(_with_mailbox())
    assert len(name) == len("@procession/") + 32
    assert not any(str(number).encode() in name for number in (os.getpid(),))
    # the same process number and count in another family: another name
    text = """
        import asyncio
        import test_other_users

        if __name__ == "__main__":
            print(asyncio.run(test_other_users._with_mailbox()))
    """
    names = {program(tmp_path, text).well() for _ in range(2)}
    assert len(names) == 2


@pytest.mark.root
def test_calls_from_another_user_are_hints_and_nothing_more():
    async def wait() -> Any:
        queue = mp.Queue()
        before = _mailboxes()
        getting = asyncio.ensure_future(queue.get_async())
        await asyncio.sleep(0)
        (name,) = _mailboxes() - before

        def call() -> None:
            caller = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            for _ in range(5):
                caller.sendto(b"x" * 1000, b"\0" + name[1:])

        await asyncio.to_thread(as_nobody, call)
        await asyncio.sleep(0)
        assert not getting.done()
        queue.put("real")
        return await asyncio.wait_for(getting, PATIENCE)

    assert asyncio.run(wait()) == "real"


@pytest.mark.root
def test_nobody_can_signal_or_trace_a_process_of_another_user():
    process = mp.get_context("fork").Process(target=until, args=(lambda: False,))
    process.start()
    try:
        assert as_nobody(lambda: os.kill(process.pid, 9)) is PermissionError
        assert as_nobody(lambda: os.listdir(f"/proc/{process.pid}/fd")) is PermissionError
    finally:
        process.kill()
        process.join(PATIENCE)


def test_without_the_key_nothing_of_a_client_is_unpickled():
    class Boom:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os._exit, (7,))

    with connection.Listener(authkey=b"right") as listener:
        client = socket.socket(socket.AF_UNIX)
        client.connect(listener.address)
        bomb = pickle.dumps(Boom())
        client.sendall(struct.pack("!i", len(bomb)) + bomb)
        with pytest.raises(mp.AuthenticationError):
            listener.accept()
        client.close()
