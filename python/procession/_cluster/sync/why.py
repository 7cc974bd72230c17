"""`procession why --cluster ADDRESS`: which processes of a cluster wait for each other, on whichever machine.

The scheduler answers one request, with who waits for what and who holds it. No process of the program is asked.
"""

from __future__ import annotations

import json
import sys

from .wire import IN_LOOP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    _Thread = tuple[str, int, int]  # as `hub.Owner`

__all__ = ["findings", "main", "told"]

_USAGE = "procession why --cluster ADDRESS [--json] [--insecure] [--timeout SECONDS]"
_NAMES = {
    "lock": "Lock",
    "rlock": "RLock",
    "semaphore": "Semaphore",
    "condition": "Condition",
    "event": "Event",
    "barrier": "Barrier",
}


def main(arguments: list[str]) -> int:
    """Runs the command. Returns its exit status: 0 nothing wrong, 1 it has found something, 2 no scheduler answers."""
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:  # in one line, as the other commands
            self.exit(2, f"procession: {message}: see `procession why --cluster ADDRESS --help`\n")

    parser = Parser(
        prog="procession why --cluster",
        allow_abbrev=False,
        usage=_USAGE,
        description="Explains which processes of a cluster wait for each other's locks.",
    )
    parser.add_argument("--cluster", metavar="ADDRESS", help="of the scheduler, for example tls://host:8786")
    parser.add_argument("--json", action="store_true", help="prints what the scheduler knows, as JSON")
    parser.add_argument("--insecure", action="store_true", help="allows plain tcp:// beyond this machine")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="SECONDS", help="how long to wait for the scheduler (10)"
    )
    asked = parser.parse_args(arguments)
    try:
        facts = _ask(asked.cluster, asked.insecure, asked.timeout)
    except (OSError, ValueError, ImportError) as error:
        print(f"procession: {error}", file=sys.stderr)
        return 2
    found = findings(facts)
    if asked.json:
        print(json.dumps({"cluster": facts, "findings": found}))
    else:
        print(told(asked.cluster, facts, found), end="")
    return int(bool(found))


def _ask(address: str, insecure: bool, timeout: float) -> dict[str, Any]:
    """Returns what `Hub.facts` returns. ConnectionError: no scheduler answers."""
    from .. import connect
    from .scheduler import FACTS

    client = connect.client_of(address, None, insecure, timeout)
    try:
        facts: dict[str, Any] | None = client.sync(getattr(client.scheduler, FACTS))
        return facts or {"processes": [], "objects": []}  # None: no program has made an object there
    finally:
        client.close(2)


class _Wait:
    """A thread that waits for an object."""

    def __init__(self, fact: dict[str, Any], waiter: list[Any]) -> None:
        self.fact = fact
        self.thread: _Thread = (waiter[0], waiter[1], waiter[2])
        self.who = _who(waiter)
        self.what, self.seconds, self.limited = waiter[7:10]
        self.holder: _Thread | None = None
        if self.what == "acquire" and fact["holders"]:
            node, process, thread = fact["holders"][0][:3]
            self.holder = node, process, thread


def findings(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns what is wrong: deadlocks, and locks that a process has left held."""
    waits = [_Wait(fact, waiter) for fact in facts["objects"] for waiter in fact["waiters"]]
    by_thread = {wait.thread: wait for wait in waits if wait.limited in (False, IN_LOOP)}
    found: list[dict[str, Any]] = []
    explained: set[_Thread] = set()
    for start in by_thread.values():
        circle: list[_Wait] = []
        at: _Wait | None = start
        while at is not None and at not in circle and at.thread not in explained:
            circle.append(at)
            at = None if at.holder is None else by_thread.get(at.holder)
        if at is None or at not in circle:
            continue
        circle = circle[circle.index(at) :]
        if len(circle) == 1 and at.limited == IN_LOOP:  # another task of this thread has the lock, and runs
            continue
        explained.update(wait.thread for wait in circle)
        found.append(_deadlock(circle, waits, by_thread))
    for fact in facts["objects"]:
        left = fact.get("left_by")
        if left is not None and fact["waiters"]:
            pid, process, node, code = left
            text = f"{process} {pid} on {node} has ended with {_called(fact)} held"
            lines = [f"it ended {'in an unknown way' if code is None else f'with exit code {code}'}"]
            lines += [f"{_who(waiter)}  waits for it, for {waiter[8]:.1f} s" for waiter in fact["waiters"]]
            lines.append("→ release the lock, also where the process returns early")
            found.append({"kind": "LEFT HELD", "suspected": False, "text": text, "lines": lines})
    return found


def _deadlock(circle: list[_Wait], waits: list[_Wait], by_thread: dict[_Thread, _Wait]) -> dict[str, Any]:
    # the thread before one in the circle waits for what that one holds
    lines = []
    for number, wait in enumerate(circle):
        held = _called(circle[number - 1].fact)
        lines.append((wait.who, f"holds {held} and waits for {_called(wait.fact)}, for {wait.seconds:.1f} s"))
    width = max(len(who) for who, _ in lines)
    shown = [f"{who:<{width}}  {text}" for who, text in lines]
    in_loop = any(wait.limited == IN_LOOP for wait in circle)
    suspected = in_loop or any(wait.fact["kind"] == "lock" for wait in circle)
    if in_loop:
        shown.append("another task of an event loop may release a lock; if none does, this is a deadlock")
    elif suspected:
        shown.append("any process that has a Lock may release it; if none does, this is a deadlock")
    else:
        shown.append("no other thread can release these locks")
    inside = {wait.thread for wait in circle}
    behind = [wait for wait in waits if wait.thread not in inside and _leads_to(wait, inside, by_thread)]
    if behind:
        shown.append("behind them: " + ", ".join(f"{wait.who} (waits for {_called(wait.fact)})" for wait in behind))
    if len(circle) == 1:
        shown.append("→ do not acquire a Lock again in the thread that holds it, or use an RLock")
        text = "1 thread waits for itself"
    else:
        shown.append("→ acquire these locks in the same order everywhere")
        text = f"{len(circle)} threads wait for each other"
    return {"kind": "DEADLOCK", "suspected": suspected, "text": text, "lines": shown}


def _leads_to(wait: _Wait, inside: set[_Thread], by_thread: dict[_Thread, _Wait]) -> bool:
    seen: set[_Thread] = set()
    at: _Wait | None = wait
    while at is not None and at.thread not in seen:
        if at.holder in inside:
            return True
        seen.add(at.thread)
        at = None if at.holder is None else by_thread.get(at.holder)
    return False


def told(address: str, facts: dict[str, Any], found: list[dict[str, Any]]) -> str:
    """Returns the text for people."""
    problems = _count(len(found), "problem") if found else "nothing wrong"
    processes, objects = _count(len(facts["processes"]), "process", "es"), _count(len(facts["objects"]), "object")
    lines = [f"cluster {address}: {processes}, {objects}, {problems}"]
    for finding in found:
        suspected = " (suspected)" if finding["suspected"] else ""
        lines += ["", f"{finding['kind']}{suspected}  {finding['text']}"]
        lines += [f"  {line}" for line in finding["lines"]]
    waited = [fact for fact in facts["objects"] if fact["waiters"]]
    if waited:
        lines += ["", "who waits:"]
    for fact in waited:
        holder = f", held by {_who(fact['holders'][0])}" if fact["holders"] else ""
        lines.append(f"  {_called(fact)}{holder}")
        for waiter in fact["waiters"]:
            limit = {True: ", with a limit", IN_LOOP: ", in an event loop"}.get(waiter[9], "")
            lines.append(f"    {_who(waiter)}  waits for {waiter[7]}, for {waiter[8]:.1f} s{limit}")
    return "\n".join(lines) + "\n"


def _count(number: int, noun: str, end: str = "s") -> str:
    return f"{number} {noun}{'' if number == 1 else end}"


def _who(thread: list[Any]) -> str:
    pid, process, node = thread[3], thread[5], thread[6]
    return f"{process} {pid} on {node}" if pid else "a process that has ended"


def _called(fact: dict[str, Any]) -> str:
    kind = _NAMES.get(fact["kind"], fact["kind"])
    return f'{kind} "{fact["name"]}"' if fact["name"] is not None else f"{kind} {fact['object']}"
