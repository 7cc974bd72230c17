"""`procession report` writes a page that shows what is wrong, to every reader, and asks no host for anything."""

from __future__ import annotations

import os
import stat
from html.parser import HTMLParser

import pytest

import browser
from deadlines import PATIENCE, until
from scenes import command, scene

MARKUP = "<img src=x onerror=\"document.title='broken'\">'&amp;"
NEEDS_BROWSER = pytest.mark.skipif(
    browser.COMMAND is None, reason="NOT TESTED IN A BROWSER: there is no chromium here (apt install chromium)"
)
VOID = ("meta", "link", "img", "br", "input", "path", "rect")
OPEN_ENDED = ("p", "li", "tr", "td", "th")  # HTML ends these by itself


class Parsed(HTMLParser):
    """The elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID and tag not in OPEN_ENDED:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in OPEN_ENDED and tag not in VOID:
            assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        self.texts.append(data)


def report(subject, path):
    output, errors, status = command("report", str(subject), "-o", str(path))
    assert status == 0, errors
    assert str(path) in output
    return path.read_text(encoding="utf-8")


def deadlock():
    return scene("crossed_locks", "fork", "RLock", "2")


def has_deadlock(program):
    program.finding("deadlock", lambda finding: finding["proof"] == "certain")


def test_the_page_is_whole_and_asks_no_host_for_anything(tmp_path):
    with deadlock() as program:
        has_deadlock(program)
        page = report(program.pid, tmp_path / "r.html")
    parsed = Parsed(page)
    assert parsed.open == []
    names = [name for name, _ in parsed.elements]
    assert "script" not in names and "link" not in names and "img" not in names
    assert not any(key in ("src", "style") or key.startswith("on") for _, keys in parsed.elements for key in keys)
    links = [keys["href"] for name, keys in parsed.elements if name == "a"]
    ids = {keys["id"] for _, keys in parsed.elements if "id" in keys}
    assert links and {link[1:] for link in links} <= ids and all(link[0] == "#" for link in links)
    labels = {keys["aria-labelledby"] for _, keys in parsed.elements if "aria-labelledby" in keys}
    assert labels <= ids
    text = "".join(parsed.texts)
    sections = [keys.get("id") for name, keys in parsed.elements if name == "section"]
    assert sections == [None, "f0-processes", "f0-queues", "f0-locks", "f0-memory", "f0-stacks"]
    assert "DEADLOCK" in text and "2 processes wait for each other" in text
    assert "default-src 'none'" in page and "http://" not in page and "https://" not in page


def test_the_page_of_a_pool_has_a_timeline_with_each_task(start_method, tmp_path):
    with scene("long_chunk", start_method) as program:

        def three_are_done():
            objects = program.report()["family"]["objects"]
            return [one for one in objects if one["kind"] == "Pool" and one["totals"]["returned"] == 3]

        until(three_are_done)
        parsed = Parsed(report(program.pid, tmp_path / "r.html"))
    bars = [keys for name, keys in parsed.elements if name == "rect" and "x" in keys]
    assert any((keys.get("aria-label") or "").startswith("Timeline of 4 tasks") for _, keys in parsed.elements)
    assert len([bar for bar in bars if "runs" in (bar["class"] or "")]) == 1
    text = "".join(parsed.texts)
    assert "3 of 4 tasks have ended (75 %)" in text
    assert "__main__.work, number 3: runs for" in text


def test_names_that_are_markup_are_shown_as_text(context, tmp_path):
    lock, queue = context.Lock(name=MARKUP), context.Queue(name=MARKUP)
    with lock:
        queue.put("message")
        page = report(os.getpid(), tmp_path / "r.html")
    parsed = Parsed(page)
    assert not [name for name, _ in parsed.elements if name in ("img", "script")]
    assert "".join(parsed.texts).count(MARKUP) >= 2
    queue.get(timeout=PATIENCE)


def test_a_dump_gives_the_same_page_later(tmp_path):
    with deadlock() as program:
        has_deadlock(program)
        dump = tmp_path / "family.dump"
        assert command("dump", str(program.pid), "-o", str(dump))[2] == 0
    text = "".join(Parsed(report(dump, tmp_path / "r.html")).texts)
    assert "DEADLOCK" in text and "from a dump" in text and "lock0" in text


def test_the_report_overwrites_no_file_and_only_its_user_reads_it(tmp_path):
    with deadlock() as program:
        has_deadlock(program)
        path = tmp_path / "r.html"
        report(program.pid, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        before = path.read_bytes()
        _, errors, status = command("report", str(program.pid), "-o", str(path))
        assert status == 2 and "exists" in errors
        assert path.read_bytes() == before
        output, _, status = command("report", str(program.pid), "-o", "-")
        assert status == 0 and output.startswith("<!doctype html>")


# --- in a browser -----------------------------------------------------------------------------------------------------


@NEEDS_BROWSER
@pytest.mark.parametrize("scripts", [True, False])
def test_a_browser_shows_the_findings_first_in_light_and_in_dark(tmp_path, scripts):
    with deadlock() as program:
        has_deadlock(program)
        path = tmp_path / "r.html"
        report(program.pid, path)
    grounds = []
    with browser.browser() as page:
        if not scripts:
            page.without_scripts()
        for scheme in ("light", "dark"):
            page.scheme(scheme)
            page.open(path.as_uri())
            text = page.text()
            assert "2 processes wait for each other" in text
            assert "acquire these locks in the same order everywhere" in text
            at = page.evaluate("document.querySelector('.finding').getBoundingClientRect().bottom")
            assert at < 900  # without scrolling
            colours = [
                page.evaluate(f"getComputedStyle(document.querySelector('{of}')).{which}")
                for of, which in [("body", "backgroundColor"), ("body", "color"), (".finding", "backgroundColor")]
            ]
            grounds.append(colours)
        assert page.errors == []
        assert set(page.requests) == {path.as_uri()}
    light, dark = grounds
    assert all(one != other for one, other in zip(light, dark, strict=True))


@NEEDS_BROWSER
def test_markup_in_names_does_nothing_in_a_browser(context, tmp_path):
    lock = context.Lock(name=MARKUP)
    path = tmp_path / "r.html"
    with lock:
        report(os.getpid(), path)
    with browser.browser() as page:
        page.open(path.as_uri())
        assert MARKUP in page.text()
        assert page.evaluate("document.images.length") == 0
        assert "broken" not in page.evaluate("document.title")
        assert page.errors == []
