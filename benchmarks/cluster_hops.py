"""What the way of a message costs without anything at its ends: a limit for the objects of a cluster.

A thread sends 32 bytes through a Unix socket to the loop of its process, this sends them over TCP to the loop of
another process, and they come back the same way. Nothing is packed, looked up or locked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
import time

MESSAGE = b"x" * 32


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Pass(asyncio.Protocol):
    """One side of a relay. `other` is the other one."""

    other = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.other.transport.write(data)


async def serve():
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def relay(address, port, ready, end):
    loop = asyncio.get_running_loop()
    _, far = await loop.create_connection(Pass, "127.0.0.1", port)

    def near():
        far.other = made = Pass()
        made.other = far
        return made

    await loop.create_unix_server(near, address)
    ready.set()
    await loop.run_in_executor(None, end.wait)


@contextlib.contextmanager
def hops():
    """Yields a function that sends a message there and back."""
    with subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        port = int(server.stdout.readline())
        address, ready, end = f"\0procession-hops-{secrets.token_hex(8)}", threading.Event(), threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(relay(address, port, ready, end)))
        thread.start()
        ready.wait()
        with socket.socket(socket.AF_UNIX) as ours:
            ours.connect(address)

            def there_and_back():
                ours.send(MESSAGE)
                ours.recv(1 << 16)

            yield there_and_back
        end.set()
        thread.join()


def message_through_hops(count=300):
    """Returns seconds for a message that is put and got: twice there and back."""
    with hops() as there_and_back:
        for _ in range(20):
            there_and_back()
        began = time.perf_counter()
        for _ in range(2 * count):
            there_and_back()
        return (time.perf_counter() - began) / count


if __name__ == "__main__":
    os.environ.pop("PYTHONASYNCIODEBUG", None)
    asyncio.run(serve())
