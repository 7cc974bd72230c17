"""Makes the pictures of docs/pictures from a real run: the page of `procession report`, and a trace.

    .venv/bin/python tools/pictures.py

The picture of the page needs Chromium; without it only the trace is drawn.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

PROGRAM = """
import random, time
import procession as mp

def resize(number):
    time.sleep(random.uniform(0.02, 0.12))

def encode(number):
    time.sleep(random.uniform(0.05, 0.3))

def transfer(first, second, together):
    with first:
        together.wait()
        with second:
            pass

def main():
    accounts, ledger = mp.Lock(name="accounts"), mp.RLock(name="ledger")
    jobs, together = mp.Queue(name="jobs"), mp.Barrier(2)
    for number in range(40):
        jobs.put(f"job {number}")
    with mp.Pool(4) as pool:
        small = pool.map_async(resize, range(160), chunksize=1)
        big = pool.map_async(encode, range(120), chunksize=1)
        time.sleep(4)
        for name, locks in ("left", (accounts, ledger)), ("right", (ledger, accounts)):
            mp.Process(target=transfer, args=(*locks, together), name=name, daemon=True).start()
        print("ready", flush=True)
        time.sleep(600)

if __name__ == "__main__":
    main()
"""
COLOURS = ("#3b6fb6", "#c4661f", "#2f8f5b", "#a3428f", "#7a6a1f", "#b23b4e", "#1f8a99")
WIDTH, NAMES, ROW = 1100, 260, 20


def procession(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "procession.inspect", *arguments], check=True)


def wait_for_family(pid: int) -> None:
    """Waits until the program has made its first object."""
    command = [sys.executable, "-m", "procession.inspect", "ps", str(pid)]
    while subprocess.run(command, capture_output=True, check=False).returncode != 0:
        time.sleep(0.02)


def draw(trace: dict[str, Any]) -> str:
    """The tracks of a trace as SVG, as a viewer of traces shows them."""
    events = trace["traceEvents"]
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    order = {e["pid"]: e["args"]["sort_index"] for e in events if e["name"] == "process_sort_index"}
    spans = [event for event in events if event["ph"] == "X"]
    began = min(event["ts"] for event in spans if event["cat"] == "wait")
    ended = max(event["ts"] + event["dur"] for event in spans)
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(dict.fromkeys(e["name"] for e in spans))}
    rows, top, last = [], 0, None
    for track in sorted({(e["pid"], e["tid"]) for e in spans}, key=lambda track: (order[track[0]], track[1])):
        if track[0] != last:
            last = track[0]
            rows.append(f'<text x="4" y="{top + 14}" font-weight="bold">{escape(processes[last])}</text>')
            top += ROW
        rows.append(f'<text x="16" y="{top + 14}">{escape(threads[track])}</text>')
        for event in spans:
            if (event["pid"], event["tid"]) == track:
                scale = (WIDTH - NAMES) / (ended - began)
                x = NAMES + max(0, event["ts"] - began) * scale
                width = max(1, (event["ts"] + event["dur"] - max(began, event["ts"])) * scale - 0.6)
                rows.append(
                    f'<rect x="{x:.1f}" y="{top + 2}" width="{width:.1f}" height="{ROW - 4}" '
                    f'fill="{colours[event["name"]]}"><title>{escape(event["name"])}</title></rect>'
                )
                room = int(width / 7)
                if room > 6:
                    name = event["name"] if len(event["name"]) <= room else event["name"][: room - 1] + "…"
                    rows.append(f'<text x="{x + 4:.1f}" y="{top + 14}" fill="#fff">{escape(name)}</text>')
        top += ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 4}" width="{WIDTH}" '
        'font-family="sans-serif" font-size="11.5" fill="#1c2024">\n'
        f'<rect width="{WIDTH}" height="{top + 4}" fill="#fff"/>\n' + "\n".join(rows) + "\n</svg>\n"
    )


def main() -> None:
    import browser

    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        script, page, trace = (Path(folder) / name for name in ("photos.py", "r.html", "t.json"))
        script.write_text(PROGRAM)
        program = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
        try:
            wait_for_family(program.pid)
            procession("trace", str(program.pid), "--seconds", "6", "-o", str(trace))
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            procession("report", str(program.pid), "-o", str(page))
            (PICTURES / "trace.svg").write_text(draw(json.loads(trace.read_text())), encoding="utf-8")
            if browser.COMMAND is None:
                print("the page: SKIPPED, there is no chromium here")
                return
            with browser.browser() as shown:
                shown.open(page.as_uri())
                shown.picture(PICTURES / "page.png", 1120)
        finally:
            program.kill()
            program.wait()


if __name__ == "__main__":
    main()
