"""Keeps some processes running, and starts one again when it has died. Says
why it died.

    python examples/supervisor.py

Each process serves requests of one queue. A request that kills its process
costs only that request. A message that a process had put before it died is
not lost.
"""

import os
import signal

import procession as mp
from procession.connection import wait

PROCESSES = 2


def serve(requests, answers) -> None:
    while (request := requests.get()) is not None:
        if request == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        answers.put(1 / int(request))


def hire(requests, answers, number: int):
    process = mp.Process(
        target=serve, args=(requests, answers), name=f"server-{number}"
    )
    process.start()
    return process


def why(process) -> str:
    # `process.exception` is the exception itself, with its traceback, or a
    # `ProcessDiedError` that says how it died
    return (
        f"{type(process.exception).__name__}, exit code {process.exitcode}"
    )


def main() -> None:
    requests, answers = mp.Queue(), mp.Queue()
    jobs = ["1", "2", "crash", "4", "0", "5", "8", "crash", "10"]
    requests.put_many([*jobs, *[None] * PROCESSES])
    running = {
        p.sentinel: p
        for p in (hire(requests, answers, n) for n in range(PROCESSES))
    }
    reasons, hired = [], PROCESSES
    while running:
        for sentinel in wait(running):
            process = running.pop(sentinel)
            process.join()
            if process.exitcode != 0:
                reasons.append(why(process))
                replacement = hire(requests, answers, hired)
                running[replacement.sentinel] = replacement
                hired += 1
    print("answers:", sorted(answers.get_many(len(jobs))))
    for reason in sorted(reasons):
        print("replaced:", reason)
    print(f"{hired} processes were started for {PROCESSES} places")


if __name__ == "__main__":
    main()
