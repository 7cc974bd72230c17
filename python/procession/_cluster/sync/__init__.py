"""Locks, queues and events that the processes of a cluster share.

The objects live in Dask's scheduler, in a *hub*. A call travels from a process through a Unix socket to the *relay* of
its machine, and from there through a comm of Dask to the scheduler; the answer takes the same way back. Nothing here is
imported before a program makes such an object or gets one. Only `scheduler` and `relay`, which run in processes of
Dask, import `distributed`.

In the scheduler:

- `hub`: the objects, who refers to them, whose calls wait. No I/O and no clock, so tests run it without Dask
- `hub_lock`, `hub_semaphore`, `hub_condition`, `hub_event`, `hub_barrier`, `hub_queue`: what each kind of object does
- `kinds`: the list of these classes
- `scheduler`: connects the hub to the comms of relays and to Dask's membership

In each Dask worker and in each client:

- `relay`: passes frames between the processes of a machine and the scheduler; tells which process has ended
- `big`: big messages of queues, which do not go through the scheduler

In each process that uses an object:

- `call`: sends a request and waits for the answer; cancels it on a timeout or Ctrl-C
- `call_async`: the same for an event loop
- `interrupts`: tells the exceptions of signal handlers from others
- `handle`: the base class of all objects here: pickling, references
- `local_class`: for `isinstance`
- `locks`, `condition`, `event`, `barrier`, `queues`: the classes that the methods of `ClusterContext` return
- `messages`: how the messages of queues are packed, unpacked and fetched

In the scheduler and in relays: `writer` writes to a comm. `why` is the command `procession why --cluster`.

The words of a request: see `hub`. How frames look between the parts: see `wire`.
"""

from __future__ import annotations

__all__ = ["relay_of_node"]

relay_of_node: str | None = None  # the address of the relay, in a process that a node has started
