"""Pipes: messages one way, to and fro, large ones; and waiting for many connections."""

from __future__ import annotations

import importlib
import time
from typing import Any

from benchmarks.measure import Rows, main, pin_child

rows = Rows()


def produce(conn: Any, method: str, message: Any, count: int) -> None:
    pin_child()
    send = getattr(conn, method)
    send(b"ready")
    conn.recv_bytes() if conn.readable else None
    for _ in range(count):
        send(message)


def answer(conn: Any) -> None:
    pin_child()
    while (message := conn.recv()) is not None:
        conn.send(message)


def flow(mp: Any, kind: str, message: Any, count: int, duplex: bool = True) -> float:
    """Seconds from the word to start to the parent's last message. kind: "" for objects, "_bytes"."""
    context = mp.get_context("fork")
    ours, theirs = context.Pipe(duplex)
    child = context.Process(target=produce, args=(theirs, "send" + kind, message, count))
    child.start()
    receive = getattr(ours, "recv" + kind)
    receive()
    began = time.perf_counter()
    if duplex:
        ours.send_bytes(b"start")
    for _ in range(count):
        receive()
    seconds = time.perf_counter() - began
    child.join()
    return seconds


@rows.row("pipe: round trip between two processes", target=1.5, first=1000)
def pipe_round_trip(mp: Any, count: int) -> float:
    context = mp.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=answer, args=(theirs,))
    child.start()
    ours.send(0)
    ours.recv()
    began = time.perf_counter()
    for number in range(count):
        ours.send(number)
        ours.recv()
    seconds = time.perf_counter() - began
    ours.send(None)
    child.join()
    return seconds


@rows.row("pipe: small tuples one way, duplex pipe", target=1.6, first=5000)  # its limit says why not twice
def pipe_small_duplex(mp: Any, count: int) -> float:
    return flow(mp, "", (12345, "task", 0.5), count)


@rows.row("pipe: small tuples one way, one-way pipe", target=2.0, first=5000)
def pipe_small_one_way(mp: Any, count: int) -> float:
    return flow(mp, "", (12345, "task", 0.5), count, duplex=False)


@rows.row("pipe: numpy arrays of 8 MiB, duplex pipe", target=2.0, first=10)
def pipe_arrays(mp: Any, count: int) -> float:
    import numpy as np

    return flow(mp, "", np.zeros(1 << 20), count)


@rows.row("pipe: 1 MiB with send_bytes, duplex pipe", target=1.5, first=50)
def pipe_1m_bytes(mp: Any, count: int) -> float:
    return flow(mp, "_bytes", b"x" * 1048576, count)


@rows.row("pipe: 1 MiB with send_bytes, one-way pipe", target=1.5, first=50)
def pipe_1m_bytes_one_way(mp: Any, count: int) -> float:
    return flow(mp, "_bytes", b"x" * 1048576, count, duplex=False)


@rows.row("pipe: 1 MiB of bytes with send, duplex pipe", target=1.5, first=50)
def pipe_1m_object(mp: Any, count: int) -> float:
    return flow(mp, "", b"x" * 1048576, count)


@rows.row("wait on 100 connections, one of them ready", target=2.0, first=200)
def wait_100(mp: Any, count: int) -> float:
    wait = importlib.import_module(f"{mp.__name__}.connection").wait
    pipes = [mp.Pipe() for _ in range(100)]
    pipes[57][1].send(0)
    receivers = [ours for ours, _ in pipes]
    began = time.perf_counter()
    for _ in range(count):
        wait(receivers)
    seconds = time.perf_counter() - began
    for ends in pipes:
        for conn in ends:
            conn.close()
    return seconds


if __name__ == "__main__":
    main(rows)
