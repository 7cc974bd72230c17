"""Checks a trace as Perfetto and chrome://tracing read it: fields of each event, names of tracks, nesting of spans.

The rules are those of the Trace Event Format, and those by which Perfetto's importer drops an event (it drops a span
that overlaps another one on its track without being inside it, and counts times in whole nanoseconds).
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

# Of each phase that Procession writes: the fields that an event has besides those of all events.
PHASES = {"X": {"cat", "dur"}, "C": {"cat"}, "i": {"cat", "s"}, "M": set()}
EVERY = {"name", "ph", "ts", "pid", "tid", "args"}
# Of each kind of metadata: the field of `args` that says it, and its type.
METADATA = {
    "process_name": ("name", str),
    "thread_name": ("name", str),
    "process_sort_index": ("sort_index", int),
    "thread_sort_index": ("sort_index", int),
}
MOST = 2**32  # the importer takes numbers of processes and threads as 32 bits


def names(events: list[dict[str, Any]]) -> dict[tuple[str, int, int], str]:
    """The names of the processes and tracks: by "process" or "thread", process and thread."""
    found = {}
    for event in events:
        if event["ph"] == "M" and event["name"].endswith("_name"):
            kind = event["name"].removesuffix("_name")
            found[kind, event["pid"], event["tid"] if kind == "thread" else 0] = event["args"]["name"]
    return found


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def _check_event(event: dict[str, Any]) -> None:
    assert event["ph"] in PHASES, f"no event of this phase is written: {event}"
    assert set(event) == EVERY | PHASES[event["ph"]], event
    assert isinstance(event["name"], str) and event["name"].isprintable() and event["name"], event
    assert _is_number(event["ts"]) and event["ts"] >= 0, event
    for number in (event["pid"], event["tid"]):
        # 0 is the idle process or thread for Perfetto
        assert type(number) is int and 0 < number < MOST, event
    assert isinstance(event["args"], dict), event
    assert event.get("cat", "a") != "", event
    match event["ph"]:
        case "X":
            assert _is_number(event["dur"]) and event["dur"] >= 0, event
        case "C":
            assert event["args"] and all(map(_is_number, event["args"].values())), event
        case "i":
            assert event["s"] in ("t", "p", "g"), event
        case "M":
            key, kind = METADATA[event["name"]]
            assert set(event["args"]) == {key} and type(event["args"][key]) is kind, event
            assert event["args"][key] != "", event


def _check_nesting(events: list[dict[str, Any]]) -> None:
    """Checks the spans and marks of one track, in the order of their times."""
    open_spans: list[tuple[int, dict[str, Any]]] = []
    for event in events:
        began = round(event["ts"] * 1000)
        ended = began + round(event.get("dur", 0) * 1000)
        while open_spans:
            end, one = open_spans[-1]
            if end > began or (end == began == ended and not one.get("dur", 0)):
                break
            open_spans.pop()
        if open_spans:
            end, one = open_spans[-1]
            assert began == ended == end or ended <= end, f"these overlap: {one} {event}"
        open_spans.append((ended, event))


def check(trace: dict[str, Any]) -> None:
    """Fails if a reader of the format would refuse or drop an event, or show a track without a name."""
    assert set(trace) == {"displayTimeUnit", "traceEvents", "otherData"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    events: list[dict[str, Any]] = trace["traceEvents"]
    for event in events:
        _check_event(event)
    named = names(events)
    tracks = defaultdict(list)
    counters: dict[tuple[int, str], tuple[float, set[str]]] = {}
    for event in events:
        if event["ph"] == "M":
            continue
        assert ("process", event["pid"], 0) in named, event
        if event["ph"] == "C":
            key = event["pid"], event["name"]
            before, values = counters.get(key, (0.0, set(event["args"])))
            assert before < event["ts"], f"two counters have this name: {event}"
            assert values == set(event["args"]), event
            counters[key] = event["ts"], values
        else:
            assert ("thread", event["pid"], event["tid"]) in named, event
            tracks[event["pid"], event["tid"]].append(event)
    for on_track in tracks.values():
        _check_nesting(sorted(on_track, key=lambda event: event["ts"]))
