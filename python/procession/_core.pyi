"""The Rust core, as the facade uses it. Private: the modules of the package have the public names."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, final, overload

from typing_extensions import Buffer, disjoint_base

from ._core_bytes import PrivateBytes as PrivateBytes
from ._core_bytes import SharedBytes as SharedBytes
from ._core_bytes import Snapshot as Snapshot
from ._core_pool import PoolEngine as PoolEngine
from ._core_pool import PoolGroup as PoolGroup
from ._core_pool import PoolTask as PoolTask
from ._core_pool import _report_progress as _report_progress
from ._core_pool import work_in_pool as work_in_pool

__version__: str

_C = TypeVar("_C")
_T = TypeVar("_T")
_K = TypeVar("_K")
_V = TypeVar("_V")
_D = TypeVar("_D")
_S = TypeVar("_S", contravariant=True)
_R = TypeVar("_R", covariant=True)

# --- objects that processes share ------------------------------------------------------------------------------------

class Handle:
    """The common base of shared objects. A handle names an object of family memory, the same in every member."""

    @property
    def handle(self) -> bytes: ...
    def _attach(self, handle: bytes, /) -> None: ...
    @property
    def _key(self) -> tuple[int, int]:
        """Identifies the object in the family."""

    def _label(self, name: str) -> None:
        """Gives the object a label that observers read: the name, and the place in the program that calls this."""

    def _register_waker(self, address: int) -> bool:
        """Registers the mailbox with this address: it is notified when trying again may succeed. False if there are too
        many."""

    def _unregister_waker(self, address: int) -> None:
        """Removes the registration of a mailbox."""

    def _task_waits(self, what: str, timeout: float | None = None, detail: int = 0) -> TaskWait | None:
        """Records that a task of this thread's event loop waits, until the result is dropped. what: "acquire", "item",
        "room", "set" or "barrier"; detail: the round of a barrier. None: too many tasks wait."""

@disjoint_base
class Lock(Handle):
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self, robust: bool = True) -> None: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def _holder(self) -> tuple[int, int, str] | None:
        """Process id, thread id and process name of the holder; None if the lock is free."""

    def _is_mine(self) -> bool:
        """Returns whether this thread was the last to acquire it, and it is held."""

    def _statistics(self) -> tuple[int, int, int, int]:
        """Waits in progress, acquisitions, acquisitions that had to wait, nanoseconds of all waits together."""

@disjoint_base
class Array:
    """Bytes in family memory, zero at first. It has the buffer protocol, writable."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self, len: int) -> None:
        """MemoryError: the machine or its control group has not enough memory left."""

    def _label(self, name: str) -> None: ...
    def _attach(self, handle: bytes, len: int) -> None: ...
    @property
    def handle(self) -> bytes: ...
    @property
    def _key(self) -> tuple[int, int]: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@disjoint_base
class Guarded(Generic[_C]):
    """An object together with the lock that guards it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _guard(self, obj: Any, lock: Any) -> None: ...
    @property
    def _obj(self) -> Any: ...
    @property
    def _lock(self) -> Any: ...
    def get_obj(self) -> _C: ...
    def get_lock(self) -> Any: ...

guarded_value: Any
"""A descriptor: the attribute `value` of a Guarded's object, read and written with the lock held. If trying the lock
once is not enough, the methods `_procession_read(name)` and `_procession_write(name, value)` of the class do it."""
guarded_get_item: Any
guarded_set_item: Any
"""Descriptors: the methods `__getitem__` and `__setitem__` of a Guarded's object, with the lock held. The methods
`_procession_get` and `_procession_set` of the class do what they do not: slices, and a wait for the lock."""

@disjoint_base
class Dict(Generic[_K, _V]):
    """A dictionary in family memory."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self) -> None: ...
    @property
    def name(self) -> str | None: ...
    def _label(self, name: str) -> None: ...
    def _attach(self, handle: bytes) -> None: ...
    @property
    def handle(self) -> bytes: ...
    @property
    def _key(self) -> tuple[int, int]: ...
    def __len__(self) -> int: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __getitem__(self, key: _K, /) -> _V: ...
    def __setitem__(self, key: _K, value: _V, /) -> None: ...
    def __delitem__(self, key: _K, /) -> None: ...
    @overload
    def get(self, key: _K, default: None = None) -> _V | None: ...
    @overload
    def get(self, key: _K, default: _V) -> _V: ...
    @overload
    def get(self, key: _K, default: _D) -> _V | _D: ...
    def clear(self) -> None: ...
    def _find(self, key: _K) -> tuple[_V, int] | None:
        """Returns the value of a key and the stamp of the change that made it; None if the key has none."""

    def _replace(self, key: _K, value: _V, stamp: int | None) -> bool:
        """Replaces the value with this stamp (None: adds a value if the key has none). Returns whether it did."""

    def _remove(self, key: _K, stamp: int) -> bool: ...
    def _snapshot(self, values: bool) -> list[Any]:
        """Returns the content at one moment: keys, or alternately keys and values."""

    def _lock_into(self, key: Any, shell: RLock) -> None:
        """Attaches a lock that was not initialised to the lock of that key."""

    def _locks(self) -> int: ...

@final
class RpcChannel:
    def __new__(cls, outgoing: Queue[Any], incoming: Queue[Any], slot: int, generation: int) -> Self: ...
    def call(self, ident: str | None, name: str, args: Any, kwds: Any) -> Any: ...
    def ask(self, proxy: Any, name: str, args: Any, kwds: Any) -> Any: ...
    @property
    def broken(self) -> bool: ...
    def hang_up(self) -> None: ...
    def serve(
        self,
        objects: dict[str, Any],
        handler: Any,
        control_queue: Queue[Any],
        undoable: dict[str, Any],
        pinned_until_ack: list[Any],
    ) -> None: ...

def family_id() -> bytes | None: ...
def seat() -> tuple[int, int]: ...

@disjoint_base
class Queue(Handle, Generic[_T]):
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self, maxsize: int = 0, maxbytes: int = 0) -> None: ...
    def put(self, obj: _T, block: bool = True, timeout: float | None = None) -> None: ...
    def get(self, block: bool = True, timeout: float | None = None) -> _T: ...
    def put_nowait(self, obj: _T) -> None: ...
    def get_nowait(self) -> _T: ...
    def _go_through_ends(self, yes: bool) -> None:
        """Makes `put` and `get` call `_procession_put_through_end` and `_procession_get_through_end`, or not."""

    def _put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """`put` for the ends."""

    def _get(self, block: bool = True, timeout: float | None = None) -> Any:
        """`get` for the ends."""

    def _put_many(self, items: Iterable[_T], block: bool = True, timeout: float | None = None) -> None: ...
    def _get_many(self, most: int, block: bool = True, timeout: float | None = None) -> list[_T]: ...
    def qsize(self) -> int: ...
    def empty(self) -> bool: ...
    def full(self) -> bool: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def maxsize(self) -> int: ...
    @property
    def maxbytes(self) -> int: ...
    def _bytes(self) -> int:
        """Returns how many bytes the messages in the queue have."""

    def _shut_down(self, immediate: bool = False) -> None: ...
    @property
    def is_shutdown(self) -> bool: ...
    def _task_done(self) -> bool:
        """Reports one message as done; False if all messages were reported already."""

    def _unfinished(self) -> int: ...
    def _join(self, timeout: float | None = None) -> bool:
        """Waits until all messages were reported done; False after `timeout` seconds."""

    def _wait_for_item(self, timeout: float | None = None) -> bool:
        """Waits until there is a message, or the queue was shut down; False after `timeout` seconds."""

    def _ready(self) -> bool:
        """Returns whether there is a message, or the queue was shut down."""

    def _watch(self) -> int:
        """Returns a descriptor that is readable while there are messages."""

    def _unwatch(self) -> None: ...

def _blocks() -> int:
    """For tests: returns how many blocks of family memory are allocated."""

def _inspect_command(arguments: list[str], own_signals: bool = False) -> tuple[str, str, int]:
    """Runs the command `procession`. Returns its output, its errors and its exit status. `own_signals`: it handles
    signals itself, as the process does nothing else."""

def _inspect_family(pid: int) -> tuple[str, str]:
    """Looks at a family once. Returns the model with the findings as JSON, and the text of `why`."""

def _place() -> str:
    """Returns the place in the program that is executed, `file:line function`; "" if there is none."""

def _report_stalls(seconds: float) -> None:
    """Reports waits of this process that last longer on standard error, from the thread that waits. 0: no more."""

def _encode_small(obj: Any) -> bytes | None:
    """For tests: returns the message for a small tree of built-ins; None if pickle has to do it."""

def _use_custom_reducers(yes: bool) -> None:
    """Says whether the program has registered its own reducers, which then have to be asked."""

def _decode_small(message: bytes) -> Any:
    """For tests: returns the tree of a message. ValueError and others: the bytes are no message."""

def _collect_buffer(buffer: Any) -> bool:
    """For `buffer_callback`: copies a buffer into the memory of the queue into which this thread is putting."""

def _forget_collected() -> None:
    """Drops the collected buffers, before pickling starts again."""

def _dismantle(obj: Any) -> tuple[bytes, list[SharedBytes]]:
    """Returns the pickle of an object and its buffers; buffers of family memory are handed on without a copy."""

@disjoint_base
class RLock(Handle):
    """As Lock, but the thread that holds it may acquire it again. The owner is process and thread."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self, robust: bool = True) -> None: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None:
        """AssertionError: this thread does not hold it."""

    def locked(self) -> bool: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def _holder(self) -> tuple[int, int, str] | None: ...
    def _is_mine(self) -> bool: ...
    def _count(self) -> int:
        """Returns how often this thread has acquired it; 0 if it does not hold it."""

    def _release_all(self) -> int:
        """Releases it as often as this thread has acquired it. Returns how often that was."""

    def _restore(self, count: int) -> None:
        """Called right after acquire(): this thread has acquired it `count` times, not once."""

    def _statistics(self) -> tuple[int, int, int, int]: ...

@disjoint_base
class Semaphore(Handle):
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self, value: int, maximum: int) -> None: ...
    def _most(self) -> int: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self, n: int = 1) -> None:
        """ValueError: the value would exceed the maximum."""

    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def get_value(self) -> int: ...
    def _statistics(self) -> tuple[int, int, int, int]:
        """Waits in progress, acquisitions, acquisitions that had to wait, nanoseconds of all waits together."""

@final
class Mailbox:
    """Belongs to an event loop: its socket is readable after an object that has its registration has called."""

    def __new__(cls) -> Mailbox: ...
    @property
    def address(self) -> int: ...
    def fileno(self) -> int: ...
    def empty(self) -> None: ...

@final
class TaskWait:
    """While it lives, observers see that a task of an event loop waits."""

@final
class Ticket:
    """A place in the line of waiters of a Condition."""

    @property
    def _key(self) -> tuple[int, int]: ...
    def _register_waker(self, address: int) -> bool: ...
    def _unregister_waker(self, address: int) -> None: ...
    def _task_waits(self, what: str, timeout: float | None = None, detail: int = 0) -> TaskWait | None: ...
    def _called(self) -> bool:
        """Returns whether it has been called, without waiting."""

    def _drop(self) -> None:
        """Gives the place up at once; if it was called, the next waiter is called instead."""

    def _heard(self) -> None:
        """Says that the call was acted on (the lock is held again). Until then, if the ticket is dropped or the process
        dies, the next waiter is called instead."""

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the call. False after `timeout` seconds; then the place is given up, also if Ctrl-C raises."""

@disjoint_base
class Condition(Handle):
    """The line of waiters. The facade has the lock."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self) -> None: ...
    def _enlist(self) -> Ticket:
        """Takes the last place. Call it with the lock held; then release the lock and wait for the ticket."""

    def _notify(self, lock: Handle, n: int) -> None:
        """Calls the first n waiters (all if there are fewer), without dead ones. They go on when `lock` is released,
        which this thread must hold (AssertionError)."""

    def _wait(self, lock: Handle, timeout: float | None = None) -> bool:
        """Releases `lock`, which this thread must hold (AssertionError), waits for the call, and acquires the lock as
        often as before, also if it raises. False if there was no call within `timeout` seconds."""

    def _waiting(self) -> int: ...
    def _statistics(self) -> tuple[int, int, int, int]: ...

@disjoint_base
class Event(Handle):
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self) -> None: ...
    def is_set(self) -> bool: ...
    def _generation(self) -> int:
        """Changes each time that an event which is not set is set."""

    def set(self) -> None: ...
    def clear(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def _statistics(self) -> tuple[int, int, int, int]: ...

@disjoint_base
class Barrier(Handle):
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self, parties: int) -> None: ...
    def _arrive(self, acting: bool, timeout: float | None = None) -> tuple[int, int] | None:
        """Counts this thread in. Returns its index from 0 and its round. The last one (index parties - 1) has tripped
        the barrier, or, if `acting` is true, must call _tripped(round) after its action. None: the barrier is broken,
        or the action of the round before took all the time."""

    def _give_up(self, round: int) -> bool:
        """Stops waiting for this round, which breaks it if it has not ended. Returns whether it had tripped."""

    def _leave(self, round: int) -> None:
        """Takes a party out of this round again."""

    def _tripped(self, round: int) -> bool:
        """Lets all parties go after the action. False if the barrier was broken meanwhile."""

    def _pass(self, round: int, timeout: float | None = None) -> bool | None:
        """Waits for the end of the round. True: the barrier has tripped. False: it was broken. None: `timeout` seconds
        have passed, which does not break the round (see _give_up). If Ctrl-C raises, this thread is taken out of the
        round."""

    def reset(self) -> None: ...
    def abort(self) -> None: ...
    @property
    def parties(self) -> int: ...
    @property
    def n_waiting(self) -> int: ...
    @property
    def broken(self) -> bool: ...
    def _statistics(self) -> tuple[int, int, int, int]: ...

# --- the registry of processes ---------------------------------------------------------------------------------------

@final
class Member:
    """A seat in the family's registry of processes, held by the process that started the seat's process."""

    @staticmethod
    def reserve(name: str, _method: str) -> Member:
        """Reserves a seat for a child that will be started by exec or by the fork server."""

    @staticmethod
    def forked(pid: int, name: str, _method: str) -> Member | None:
        """Called in the parent right after os.fork(), in the same thread: returns the seat that the at-fork hook made
        for the child."""

    @property
    def slot(self) -> int: ...
    @property
    def generation(self) -> int: ...
    def started(self, pid: int) -> None:
        """Binds the pid of the process that was started for this seat."""

    def load(self, message: bytes) -> None:
        """Puts the start message of the child into family memory, where adopt() finds it."""

    def report(self) -> bytes | None:
        """Returns what the process of the seat has left with leave_report()."""

    def discard(self) -> None:
        """Gives the seat back, with all that it holds, after a failed start."""

    def __enter__(self) -> Member:
        """Until __exit__, objects whose handles this thread pickles stay alive for the child until it has its own."""

    def __exit__(self, *exc: object) -> None: ...

def family_fd() -> int:
    """Returns the descriptor of this process's family memory, and founds a family if there is none."""

def adopt(fd: int, slot: int, generation: int) -> bytes:
    """Called in the child. Joins the family whose memory is fd, takes the seat, and returns the start message."""

def carried_done() -> None:
    """Called in the child when the start message is unpickled. Drops what the seat was holding for it."""

def describe(name: str) -> None:
    """Sets the name of this process in the registry and in errors."""

def explain_limit(error: OSError, doing: str, *, starts: bool = False) -> None:
    """Adds to the text of an error what failed and what to do, if a limit of the system was reached (EMFILE, ENFILE,
    ENOMEM, ENOSPC; with `starts` also EAGAIN). doing: what failed, as a phrase."""

def _has_role(role: int) -> None:
    """Says what this process is for, to observers: 4 is the server of a manager."""

def declare_exit(code: int) -> None:
    """Says that this process is about to end with this exit code: locks that it holds then are left intentionally."""

def leave_report(report: bytes) -> bool:
    """Leaves a report in this process's seat, for the process that started it. False if it has no seat."""

def sweep() -> int:
    """Looks for members that have died unnoticed, and reclaims what they held. Returns how many there were."""

# --- processes -------------------------------------------------------------------------------------------------------

@final
class Child:
    """A started process, held by its pidfd, so a later process with the same pid is not mistaken for it."""

    def __new__(cls, pid: int, member: Member | None, pidfd: int = -1, direct: bool = True) -> Child:
        """pidfd: an open one, which the Child then owns, or -1 to open one here. direct: it is a child of this process;
        otherwise the fork server waits for it and writes its exit code into the registry."""

    @property
    def pid(self) -> int: ...
    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the process ends."""

    def poll(self) -> int | None:
        """Returns the exit code (-N: signal N killed it); None while the process runs."""

    @staticmethod
    def ended(items: list[tuple[_T, Any]]) -> list[_T]:
        """Returns the items whose Child may have ended, and those with another object than a Child. One system call
        looks at all children. items: pairs of the item to return and its Child."""

    def wait(self, timeout: float | None = None) -> int | None:
        """As poll, but waits up to `timeout` seconds (None: without limit). Ctrl-C interrupts it."""

    def send_signal(self, signum: int) -> None:
        """Sends a signal. Does nothing if the process has ended."""

    def close(self) -> None: ...

def fork(name: str) -> tuple[int, Member | None, int]:
    """Calls os.fork(), and gets the child's seat (named name) and pidfd in the same call. Returns (pid, member or None,
    pidfd or -1) in the parent, (0, None, -1) in the child. OSError: the system refuses; then there is no seat either.
    In the child, signals of other processes are blocked until release_signals()."""

def release_signals() -> None:
    """Called in a child of fork(), when an exception of a signal handler cannot reach the frames of the parent any
    more. Unblocks the signals."""

def fork_refused() -> None:
    """Gives the seat back that was made for the child, after an os.fork() in this thread that has failed."""

def clear_of_streams(fd: int) -> int:
    """Returns the descriptor, or a copy if it has the number of a standard stream; then the original is closed."""

def thread_count() -> int:
    """Returns how many threads this process has; 1 if that is unknown."""

def lifeline_reader() -> int:
    """Returns the descriptor that a daemonic child of this process needs. This process goes on owning it."""

def lifeline_hold(fd: int) -> None:
    """Called in a daemonic child. Binds its life to that of the parent. Closes the given descriptor."""

def lifeline_after_fork(bound: bool) -> None:
    """Called in a forked child. If it is bound, does the work of `lifeline_hold`; else closes what that would need."""

@final
class Descriptor:
    """A descriptor that is kept for long, in a program that may close it and open another file under its number."""

    def __new__(cls, fd: int) -> Descriptor:
        """Takes the descriptor over."""

    def fileno(self) -> int:
        """Returns the number. OSError: it is closed, or names another file by now."""

    def is_open(self) -> bool:
        """Returns whether the number still names the same file."""

    def close(self) -> None: ...

def spawn_held(executable: str | bytes, args: list[str | bytes], fds: list[int]) -> tuple[int, int]:
    """As `spawn`, but returns (pid, pidfd or -1). No signal handler of the program runs between the two."""

def spawn(executable: str | bytes, args: list[str | bytes], fds: list[int], numbers: list[int] | None = None) -> int:
    """Runs executable with args and this environment, by posix_spawn. Returns the pid. The child has descriptors 0 to 2
    of this process and fds[i] as 3 + i (or as numbers[i]), and no others. SIGINT is blocked in it."""

@final
class ForkServer:
    """The server's side: a loop in Rust, in one thread, around os.fork() in Python."""

    def __new__(cls, control: int) -> ForkServer:
        """control: the server's end of a control_pair()."""

    def next(self) -> tuple[int, int, int, list[int]] | None:
        """Waits for a request, and reaps children meanwhile (their exit codes go to the registry). Returns (slot,
        generation, reply descriptor, passed descriptors), or None when every client has gone. A reply descriptor of -1
        means that a spare is to be forked. It does not return requests that a spare can take."""

    def keep_spares(self, count: int) -> None:
        """Sets how many children to keep forked in advance, from the first request on."""

    def spare_forked(self, pid: int) -> None:
        """Called in the server, after the fork of a spare."""

    def wait_as_spare(self) -> tuple[int, int, list[int]] | None:
        """Called first in the spare. Leaves the server and waits until it becomes a child. Returns (slot, generation,
        passed descriptors), or None if it is not needed any more."""

    def forked(self, pid: int, slot: int, generation: int, reply: int) -> None:
        """Called in the server after the fork. Sends pid and pidfd to the client; closes the request's descriptors."""

    def refused(self, error: str, reply: int, errno: int = 0) -> None:
        """Called in the server. Answers the client that the fork failed, and why (errno chooses the OSError)."""

    def leave(self) -> None:
        """Called first in the child. Undoes what the server has set up for itself (signal mask, descriptors)."""

def control_pair() -> tuple[int, int]:
    """Makes a pair of connected SOCK_SEQPACKET sockets (client's end, server's end), not inheritable."""

def request_fork(control: int, slot: int, generation: int, fds: list[int]) -> tuple[int, int]:
    """The client's side: asks the fork server for a child with that seat and these descriptors. Returns (pid, pidfd or
    -1). ConnectionError: the server has gone. OSError: it could not fork."""

def process_is_alive(pid: int, start_time: int) -> bool: ...
def open_sentinel(pid: int, start_time: int) -> int:
    """Opens a descriptor that is readable when that process has ended; at once, if no process or another one has the
    pid by now (start_time 0: any process with that pid). OSError: a sandbox forbids pidfds."""

def start_time(pid: int) -> int:
    """Returns when a process started, in clock ticks since boot; with its pid that identifies it. 0: there is none."""

def cpu_count() -> int:
    """Returns how many CPUs this process can keep busy: its affinity mask, or the quota of its control groups."""

def oom_kills() -> int | None:
    """Returns how many processes of this control group were killed because memory ran out; None if unknown."""

# --- connections -----------------------------------------------------------------------------------------------------

@disjoint_base
class Wire(Generic[_S, _R]):
    """A descriptor that sends and receives messages. See `procession.connection.Connection`."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _open(self, handle: int, readable: bool, writable: bool) -> None: ...
    def send(self, obj: _S) -> None: ...
    def send_bytes(self, buf: Buffer, offset: int = 0, size: int | None = None) -> None: ...
    def recv(self) -> _R: ...
    def recv_bytes(self, maxlength: int | None = None) -> bytes: ...
    def recv_bytes_into(self, buf: Buffer, offset: int = 0) -> int: ...
    def poll(self, timeout: float | None = 0.0) -> bool: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def readable(self) -> bool: ...
    @property
    def writable(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    _handle: int | None
    _readable: bool
    _writable: bool
    _side_channel: SideChannel | None

@final
class SideChannel:
    """The side channel of a pipe: big data and references of its messages. It is pickled as its handle."""

    def __len__(self) -> int: ...

def _side_channel() -> SideChannel | None:
    """Makes a side channel, for both ends of a pipe; None if there is no memory."""

def _fetch(handle: bytes, key: bytes, pickled: bytes) -> Any:
    """Returns the object of a message whose data is in a side channel. RuntimeError: it was fetched before."""

@final
class Handshake:
    """One side of a handshake. It does no input or output."""

    def __new__(cls, key: bytes, listener: bool) -> Handshake: ...
    def outgoing(self) -> bytes:
        """Returns the bytes to send now, possibly none."""

    def wants(self) -> int:
        """Returns how many bytes may be fed now; 0: the handshake has ended."""

    def feed(self, bytes: bytes) -> None:
        """AuthenticationError: the handshake has failed; only the outgoing bytes may still be sent."""

    @property
    def succeeded(self) -> bool: ...

def _respond(key: bytes, challenge: bytes) -> bytes:
    """AuthenticationError: the challenge names an unknown digest."""

def _verify(key: bytes, challenge: bytes, response: bytes) -> None:
    """AuthenticationError: the other side does not know the key."""

def _wait(objects: list[Any], timeout: float | None) -> list[Any] | None:
    """Waits for the objects. Returns those that are ready; None if one needs `_ready` or `_register_waker`."""

def _poll(list: list[tuple[int, int]], timeout: float | None) -> list[int]:
    """Waits for descriptors, with events (POLLIN, POLLOUT). Returns the indexes of those that are ready."""

def _pipe() -> tuple[int, int]: ...
def _socket_pair() -> tuple[int, int]: ...

# --- the resource tracker of named segments --------------------------------------------------------------------------

def tracker() -> tuple[int, int, bool] | None:
    """Returns the tracker that family memory lists: pid, the descriptor on which it listens, whether it lives."""

def tracker_pid() -> int:
    """Returns the pid of the listed tracker, dead or alive; 0 if none is listed."""

def register_tracker(pid: int, fd: int) -> bool:
    """Lists a tracker, unless another one is listed that lives. Returns whether it did."""

@final
class TrackerListing:
    """Used by the tracker, which is no member of the family: its entry in the list."""

    def __new__(cls, family_fd: int, fd: int) -> Self: ...
    def register(self) -> bool: ...
    def unregister(self) -> None: ...

def memory_left() -> int | None:
    """Returns how many bytes of memory the machine or the control group has left; None if unknown."""

def reserve_file(fd: int, size: int) -> None:
    """Reserves memory for the first `size` bytes of a file. OSError: there is not enough, or a limit forbids it."""
