"""Lists of messages over a connection of Dask, of each kind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from deadlines import PATIENCE

pytest.importorskip("distributed")

import msgpack
from distributed.comm import connect, listen

from procession._cluster.sync.comm import over
from procession._cluster.sync.scheduler import Link

KINDS = pytest.mark.parametrize("scheme", ["tcp", "ws"])


def run(scheme: str, serve: Callable[[Any], Awaitable[None]], use: Callable[[Any], Awaitable[None]]) -> None:
    """Runs both sides of a connection, `serve` as the scheduler's."""

    async def both() -> None:
        served = asyncio.get_running_loop().create_future()

        async def handle(comm: Any) -> None:
            try:
                await serve(await over(comm, at_scheduler=True))
            except BaseException as error:
                served.set_exception(error)
            else:
                served.set_result(None)
            finally:
                comm.abort()

        async with listen(f"{scheme}://127.0.0.1:0", handle) as listener:
            comm = await connect(listener.contact_address)
            try:
                await use(await over(comm, at_scheduler=False))
                await served
            finally:
                comm.abort()

    asyncio.run(asyncio.wait_for(both(), PATIENCE))


async def said(messages: Any, answer: Any) -> None:
    work = messages.write(answer)
    if work is not None:
        await work


async def first(messages: Any, count: int) -> list[Any]:
    """Returns the first messages, and ends the connection."""
    found: list[Any] = []

    def take(some: list[Any]) -> None:
        found.extend(some)
        if len(found) >= count:
            raise StopAsyncIteration

    with pytest.raises((StopAsyncIteration, RuntimeError)):
        await messages.run(take)
    return found


@KINDS
def test_messages_arrive_in_order_whole_and_of_any_size(scheme: str) -> None:
    sent = [["hub", n, bytes([n % 256]) * size] for n, size in enumerate([0, 1, 70_000, 5 << 20, 3, 0])]

    async def serve(messages: Any) -> None:
        await said(messages, sent[:1])
        await said(messages, sent[1:4])
        await said(messages, sent[4:])
        with pytest.raises(OSError):
            await messages.run(lambda some: None)

    async def use(messages: Any) -> None:
        found = await first(messages, len(sent))
        assert [[kind, number, bytes(body)] for kind, number, body in found] == sent
        messages.abort()

    run(scheme, serve, use)


@KINDS
def test_the_end_of_the_other_side_is_an_error(scheme: str) -> None:
    async def serve(messages: Any) -> None:
        messages.abort()

    async def use(messages: Any) -> None:
        with pytest.raises(OSError):
            await messages.run(lambda some: None)

    run(scheme, serve, use)


@KINDS
def test_an_error_of_the_one_who_takes_messages_is_raised_there(scheme: str) -> None:
    async def serve(messages: Any) -> None:
        def refuse(some: list[Any]) -> None:
            raise KeyError("what")

        with pytest.raises(KeyError, match="what"):
            await messages.run(refuse)
        messages.abort()

    async def use(messages: Any) -> None:
        await said(messages, [["hub", 1, b""]])
        with pytest.raises(OSError):
            await messages.run(lambda some: None)

    run(scheme, serve, use)


def test_bytes_that_are_no_messages_end_the_connection() -> None:
    async def serve(messages: Any) -> None:
        with pytest.raises(msgpack.exceptions.FormatError):
            await messages.run(lambda some: None)

    async def use(messages: Any) -> None:
        messages._transport.write(b"\xc1")  # msgpack never uses it
        with pytest.raises(OSError):
            await messages.run(lambda some: None)

    run("tcp", serve, use)


def test_a_relay_that_gives_up_while_it_waits_leaves_no_connection() -> None:
    async def both() -> None:
        ended = asyncio.Event()

        async def handle(comm: Any) -> None:  # a scheduler that never begins
            with pytest.raises(OSError):
                await comm.read()
            ended.set()

        async with listen("tcp://127.0.0.1:0", handle) as listener:
            comm = await connect(listener.contact_address)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(over(comm, at_scheduler=False), 0.05)
            await ended.wait()

    asyncio.run(asyncio.wait_for(both(), PATIENCE))


def test_a_relay_that_was_ended_while_it_connected_is_not_heard() -> None:
    heard: list[str] = []

    class Hub:
        def process_began(self, *_: Any) -> None:
            heard.append("began")

    class Service:
        hub = Hub()

        def flush(self) -> None:
            pass

    async def both() -> None:
        served = asyncio.Event()

        async def handle(comm: Any) -> None:
            link = Link(Service(), comm, "node", "name")
            work = asyncio.ensure_future(link.run())
            await asyncio.sleep(0)  # it is taking the socket over
            link.end()
            await work
            served.set()

        async with listen("tcp://127.0.0.1:0", handle) as listener:
            comm = await connect(listener.contact_address)
            try:
                messages = await over(comm, at_scheduler=False)
                messages.write([["began", 1, 1, "process"]])
            except OSError:
                pass
            await served.wait()
            comm.abort()

    asyncio.run(asyncio.wait_for(both(), PATIENCE))
    assert heard == []
