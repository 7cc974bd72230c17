"""Fetches web pages and works on them: threads wait for the network,
processes do what needs the CPU.

    python examples/fetch_and_parse.py

The program starts a web server of its own with some pages, so that it works
without a network. One of the addresses does not exist.
"""

import threading
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import urlopen

import procession as mp
from procession.pool import ThreadPool


class Words(HTMLParser):
    """Collects the words and the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.links = [], []

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        self.links += [
            value for name, value in attrs if (tag, name) == ("a", "href")
        ]


def parse(page: bytes) -> tuple[int, int]:
    """Runs in a worker process. Returns the numbers of words and links."""
    parser = Words()
    parser.feed(page.decode())
    return len(parser.words), len(parser.links)


def fetch(address: str) -> bytes:
    """Runs in a thread, which waits most of the time."""
    with urlopen(address, timeout=10) as answer:
        return answer.read()


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        number = int(self.path.removeprefix("/"))
        self.send_response(200 if number < 8 else 404)
        self.end_headers()
        self.wfile.write(
            b"<p>one of the <a href='/0'>pages</a></p>" * 100 * number
        )

    def log_message(self, *_args: object) -> None:
        pass


def main(site: str) -> None:
    with ThreadPool(4) as threads, mp.Pool(2) as pool:
        parsed = {}
        addresses = [f"{site}/{number}" for number in range(1, 9)]
        for address, page in zip(
            addresses,
            threads.imap(fetch, addresses, on_error="return"),
            strict=True,
        ):
            # while the threads fetch the next pages, the workers parse
            # those that have come
            parsed[address] = (
                page
                if isinstance(page, HTTPError)
                else pool.apply_async(parse, (page,))
            )
        for address, result in parsed.items():
            path = address.removeprefix(site)
            if isinstance(result, HTTPError):
                print(f"{path}: {result}")
            else:
                words, links = result.get()
                print(f"{path}: {words} words, {links} links")


if __name__ == "__main__":
    with ThreadingHTTPServer(("localhost", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        main(f"http://localhost:{server.server_port}")
        server.shutdown()
