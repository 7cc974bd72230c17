"""The other end may be the standard library's multiprocessing, of any Python: its processes are real ones here."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator

import pytest

import procession as mp
from deadlines import PATIENCE
from interpreters import interpreter
from procession.connection import Client, Connection, Listener

KEY = b"known to both"
VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
OBJECTS = [{"a": [1, 2.5, "text"]}, b"x" * 100, b"y" * 200_000, list(range(50_000))]

# What the peer runs. It has the standard library and nothing of ours.
PEER = """
import sys
from multiprocessing.connection import Client, Connection, Listener, AuthenticationError

def converse(conn):
    while (message := conn.recv()) is not None:
        conn.send(message)
        conn.send_bytes(conn.recv_bytes())
    conn.close()

role, address, key = sys.argv[1], eval(sys.argv[2]), eval(sys.argv[3])
try:
    if role == "client":
        converse(Client(address, authkey=key))
    elif role == "listener":
        with Listener(address, authkey=key) as listener:
            print(repr(listener.address), flush=True)
            converse(listener.accept())
    else:
        converse(Connection(int(address)))
except AuthenticationError as error:
    print("refused:", error)
"""


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    found = interpreter(request.param)
    if found is None:
        pytest.skip(f"there is no Python {request.param} here")
    return found


@contextlib.contextmanager
def peer(python: str, *arguments: object, **options: object) -> Iterator[subprocess.Popen[str]]:
    command = [python, "-I", "-c", PEER, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def converse(conn: Connection, process: subprocess.Popen[str]) -> None:
    for obj in OBJECTS:
        conn.send(obj)
        assert conn.recv() == obj
        conn.send_bytes(b"raw")
        assert conn.recv_bytes() == b"raw"
    conn.send(None)
    with pytest.raises(EOFError):
        conn.recv()
    assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("key", [None, KEY])
def test_a_client_of_the_standard_library(python, key):
    with (
        Listener(authkey=key) as listener,
        peer(python, "client", repr(listener.address), repr(key)) as process,
        listener.accept() as conn,
    ):
        converse(conn, process)


@pytest.mark.parametrize("key", [None, KEY])
def test_a_listener_of_the_standard_library(python, key):
    with (
        peer(python, "listener", "('127.0.0.1', 0)", repr(key)) as process,
        Client(eval(process.stdout.readline()), authkey=key) as conn,
    ):
        converse(conn, process)


def test_a_socket_with_the_standard_library_at_the_other_end(python):
    left, right = socket.socketpair()
    with right, peer(python, "descriptor", right.fileno(), None, pass_fds=[right.fileno()]) as process:
        right.close()
        with Connection(left.detach()) as conn:
            converse(conn, process)


def test_keys_that_differ_are_found_out_by_both(python):
    with (
        Listener(authkey=KEY) as listener,
        peer(python, "client", repr(listener.address), repr(b"another")) as process,
    ):
        with pytest.raises(mp.AuthenticationError):
            listener.accept()
        assert process.communicate(timeout=PATIENCE)[0].startswith("refused")
    with peer(python, "listener", "('127.0.0.1', 0)", repr(b"another")) as process:
        with pytest.raises(mp.AuthenticationError):
            Client(eval(process.stdout.readline()), authkey=KEY)
        assert process.communicate(timeout=PATIENCE)[0].startswith("refused")
