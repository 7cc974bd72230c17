"""Start methods, processes, locks and connections, as a typed program of a user has them."""

from typing import reveal_type

import procession as mp
from procession.context import BaseContext, SpawnContext


def work(context: BaseContext) -> None:
    reveal_type(context.Lock())
    reveal_type(context.RLock())
    reveal_type(context.Semaphore(2))
    reveal_type(context.BoundedSemaphore())
    reveal_type(context.Event().wait(1.5))
    reveal_type(context.Barrier(2).wait())
    reveal_type(context.Condition().wait_for(lambda: True))
    reveal_type(context.get_start_method())
    reveal_type(context.get_start_method(allow_none=True))
    reveal_type(context.cpu_count())


def start() -> None:
    reveal_type(mp.get_context())
    reveal_type(mp.get_context("spawn"))
    reveal_type(mp.get_context("fork"))
    reveal_type(mp.get_context("forkserver"))
    reveal_type(mp.get_start_method())
    reveal_type(mp.get_all_start_methods())
    reveal_type(mp.current_process().name)
    reveal_type(mp.parent_process())
    reveal_type(mp.active_children())
    process = mp.Process(target=work, args=(mp.get_context(),), name="worker", daemon=True)
    reveal_type(process.pid)
    reveal_type(process.exitcode)
    reveal_type(process.is_alive())
    reveal_type(process.sentinel)
    reveal_type(process.join(1.5))
    spawned: SpawnContext = mp.get_context("spawn")
    work(spawned)
    with mp.Lock() as held:
        reveal_type(held)
    mp.set_start_method("spawn", force=True)
    reveal_type(mp.get_logger())
    mp.Process(name=3)  # error
    mp.Semaphore("two")  # error
    method: int = mp.get_start_method()  # error
    print(method)
