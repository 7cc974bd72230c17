"""`procession serve` shows the programs of this user, live, in a browser on this machine."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

import browser
from deadlines import PATIENCE, until
from scenes import command, scene

pytestmark = pytest.mark.skipif(
    "without the feature `serve`" in command("--version")[0],
    reason="built without the feature `serve`, which the wheel has",
)
NEEDS_BROWSER = pytest.mark.skipif(
    browser.COMMAND is None, reason="NOT TESTED IN A BROWSER: there is no chromium here (apt install chromium)"
)


@contextlib.contextmanager
def serving():
    """Serves until Ctrl-C, at the end of the block; the value is the address."""
    arguments = [sys.executable, "-m", "procession.inspect", "serve"]
    server = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), server.communicate()
        yield url
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=PATIENCE)
        assert (server.returncode, errors) == (0, "")
    finally:
        server.kill()
        server.communicate()


def of_program(states, program):
    """The family of a program in a state; other programs may run on this machine."""
    wanted = f"family of {program.pid} "
    return next((family for family in states["families"] if family["title"].startswith(wanted)), None)


def events(url):
    """The states that come as events, until the connection is closed."""
    with urllib.request.urlopen(url + "events", timeout=PATIENCE) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        for line in answer:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))


def test_events_show_how_a_pool_goes_on_and_then_a_deadlock(start_method, tmp_path):
    go = tmp_path / "go"
    with serving() as url, scene("falls_into_deadlock", start_method, str(go)) as program:
        ended = []
        for state in events(url):
            family = of_program(state, program)
            if family is None or not family["pools"]:
                continue
            ended.append(family["pools"][0]["ended"])
            assert family["pools"][0]["submitted"] == 100_000
            kinds = {finding["kind"] for finding in family["findings"]}
            if not go.exists():
                assert "deadlock" not in kinds
                if ended[-1] > ended[0]:
                    go.touch()
            elif "deadlock" in kinds:
                assert "2 processes wait for each other" in state["html"]
                break
        assert ended == sorted(ended)


def test_an_address_without_the_token_shows_nothing():
    with serving() as url:
        root, token = url.rstrip("/").rsplit("/", 1)
        assert len(token) == 32
        for wrong in ("/", "/events", f"/{'0' * 32}/", f"/{token}"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(root + wrong, timeout=PATIENCE)
            assert caught.value.code == 403
            caught.value.close()


@NEEDS_BROWSER
def test_a_browser_shows_progress_and_then_the_banner_of_a_deadlock(tmp_path):
    go = tmp_path / "go"
    with serving() as url, scene("falls_into_deadlock", "fork", str(go)) as program, browser.browser() as page:
        page.open(url)

        def progress():
            article = (
                "[...document.querySelectorAll('article')]"
                f".find(one => one.textContent.includes('family of {program.pid} '))"
            )
            return page.evaluate(f"({article})?.querySelector('progress')?.value ?? 0")

        first = until(progress)
        until(lambda: progress() > first)
        mine = f"document.getElementById('banner').innerText.includes('family of {program.pid} ')"
        assert not page.evaluate(mine)
        go.touch()
        until(lambda: page.evaluate(mine))
        assert "DEADLOCK: 2 processes wait for each other" in page.text()
        assert "<b>accounts</b>" in page.text()
        assert page.errors == []
        assert all(request.startswith((url, "data:")) for request in page.requests), page.requests
