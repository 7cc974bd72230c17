"""Pipes, listeners and clients, as a typed program of a user has them."""

from typing import reveal_type

import procession as mp
from procession.connection import Client, Connection, Listener, Pipe, wait

Command = tuple[str, int]


def serve(requests: "Connection[bytes, Command]") -> None:
    reveal_type(requests)
    reveal_type(requests.recv())
    name, number = requests.recv()
    requests.send(name.encode() * number)
    reveal_type(requests.recv_bytes())
    reveal_type(requests.recv_bytes(10))
    reveal_type(requests.recv_bytes_into(bytearray(10)))
    reveal_type(requests.poll(1.5))
    reveal_type(requests.fileno())
    reveal_type(requests.closed)
    reveal_type(requests.readable)
    reveal_type(requests.writable)
    requests.send_bytes(b"raw", 1, 2)
    with requests as entered:
        reveal_type(entered)
    # wrong messages
    requests.send("text")  # error
    requests.send_bytes("text")  # error
    wrong: int = requests.recv()  # error
    print(wrong)


def wide(anything: "Connection[object, bool]") -> None:
    # a connection that sends everything sends texts too, and what receives a bool receives an int
    narrower: Connection[str, int] = anything
    wider: Connection[object, str] = narrower  # error
    print(wider)


def ask(plain: Connection) -> None:
    reveal_type(plain.recv())
    plain.send(object())


def start() -> None:
    reveal_type(mp.Pipe())
    reveal_type(mp.Pipe(duplex=False))
    reveal_type(mp.get_context("spawn").Pipe())
    reveal_type(Pipe(False))
    here, there = mp.Pipe()
    reveal_type(here.recv())
    typed: Connection[bytes, Command] = there
    mp.Process(target=serve, args=(typed,)).start()
    serve(there)
    wide(there)
    ask(here)
    reveal_type(wait([here, there], timeout=1))
    for ready in wait([typed]):
        reveal_type(ready)
    with Listener("/tmp/socket", "AF_UNIX", 3, b"key") as listener:
        reveal_type(listener)
        reveal_type(listener.address)
        reveal_type(listener.accept())
        reveal_type(listener.accept().recv())
        accepted: Connection[str, str] = listener.accept()
        accepted.send(3)  # error
    reveal_type(Client(("localhost", 5000), authkey=b"key"))
    reveal_type(Client("/tmp/socket").recv())
    called: Connection[str, int] = Client("/tmp/socket")
    called.send(b"")  # error
    Client(3)  # error
    mp.Pipe(duplex="both")  # error
