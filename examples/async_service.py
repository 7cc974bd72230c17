"""A service in asyncio, whose heavy work is done by a pool. Meanwhile the
event loop serves other clients.

    python examples/async_service.py

A client sends a number in a line, and gets its factors in a line. The
program starts the service and some clients, and stops both. A request that
takes too long is cancelled, and only its worker is replaced.
"""

import asyncio
import time

import procession as mp

LIMIT = 2.0  # seconds for a request


def factors(number: int) -> list[int]:
    """Runs in a worker."""
    if number < 1:
        time.sleep(600)  # a request that never ends
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found


def handler(pool: mp.pool.Pool):
    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async for line in reader:
            try:
                # a result of a pool can be awaited; `timeout` kills the
                # worker, so that nothing is left behind
                found = await pool.apply_async(
                    factors, (int(line),), timeout=LIMIT
                )
                writer.write(f"{' '.join(map(str, found))}\n".encode())
            except (ValueError, mp.TaskTimeoutError) as error:
                writer.write(
                    f"no answer: {type(error).__name__}\n".encode()
                )
            await writer.drain()
        writer.close()

    return answer


async def ask(port: int, request: str) -> str:
    reader, writer = await asyncio.open_connection("localhost", port)
    writer.write(f"{request}\n".encode())
    answer = (await reader.readline()).decode().strip()
    writer.close()
    return answer


async def main() -> None:
    async with mp.Pool(2) as pool:
        server = await asyncio.start_server(handler(pool), "localhost", 0)
        port = server.sockets[0].getsockname()[1]
        requests = ["0", "1234567890", "600851475143", "ten", "99999989"]
        for request, answer in zip(
            requests,
            await asyncio.gather(*(ask(port, r) for r in requests)),
            strict=True,
        ):
            print(f"{request}: {answer}")
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
