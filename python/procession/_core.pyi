"""The Rust core, as the facade sees it. Private: the public names are those of the package's modules."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self, final

from typing_extensions import Buffer, disjoint_base

from ._core_bytes import PrivateBytes as PrivateBytes
from ._core_bytes import SharedBytes as SharedBytes
from ._core_bytes import Snapshot as Snapshot
from ._core_pool import PoolEngine as PoolEngine
from ._core_pool import PoolGroup as PoolGroup
from ._core_pool import PoolTask as PoolTask
from ._core_pool import work_in_pool as work_in_pool

__version__: str

# --- objects that processes share ------------------------------------------------------------------------------------

class Handle:
    """What the shared objects have in common. A handle names an object of family memory, in every member alike."""

    @property
    def handle(self) -> bytes: ...
    def _attach(self, handle: bytes, /) -> None: ...
    @property
    def _key(self) -> tuple[int, int]:
        """Which object of the family this is."""

    def _register_waker(self, address: int) -> bool:
        """Registers the mailbox with this address: it is notified from now on when this may be worth trying again.

        False if all places are taken."""

    def _unregister_waker(self, address: int) -> None:
        """Takes that mailbox away again."""

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
        """pid, thread id and process name of who holds the lock; None if it is free."""

    def _is_mine(self) -> bool:
        """Whether this thread has acquired it last, and it is held."""

    def _statistics(self) -> tuple[int, int, int, int]:
        """Waits under way now, acquisitions, acquisitions that had to wait, nanoseconds waited in all."""

@disjoint_base
class Array:
    """Bytes in family memory, zero at first. It has the buffer protocol, writable."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self, len: int) -> None:
        """MemoryError if the machine or its control group has less left."""

    def _attach(self, handle: bytes, len: int) -> None: ...
    @property
    def handle(self) -> bytes: ...
    @property
    def _key(self) -> tuple[int, int]: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@disjoint_base
class Guarded:
    """An object together with the lock that guards it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _guard(self, obj: Any, lock: Any) -> None: ...
    @property
    def _obj(self) -> Any: ...
    @property
    def _lock(self) -> Any: ...
    def get_obj(self) -> Any: ...
    def get_lock(self) -> Any: ...

guarded_value: Any
"""A descriptor: the attribute `value` of a Guarded's object, read and written while the lock is held. What takes more
than trying the lock once is done by the methods `_read(name)` and `_write(name, value)` of the class."""

@disjoint_base
class Dict:
    """A dictionary in family memory."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self) -> None: ...
    def _attach(self, handle: bytes) -> None: ...
    @property
    def handle(self) -> bytes: ...
    @property
    def _key(self) -> tuple[int, int]: ...
    def __len__(self) -> int: ...
    def __contains__(self, key: Any, /) -> bool: ...
    def __getitem__(self, key: Any, /) -> Any: ...
    def __setitem__(self, key: Any, value: Any, /) -> None: ...
    def __delitem__(self, key: Any, /) -> None: ...
    def get(self, key: Any, default: Any = None) -> Any: ...
    def clear(self) -> None: ...
    def _find(self, key: Any) -> tuple[Any, int] | None:
        """The value of a key and the stamp of the change that made it."""

    def _replace(self, key: Any, value: Any, stamp: int | None) -> bool:
        """Puts a value in the place of the one with this stamp (None: where there is none); whether it did."""

    def _remove(self, key: Any, stamp: int) -> bool: ...
    def _snapshot(self, values: bool) -> list[Any]:
        """What it holds at one moment: keys, or keys and values by turns."""

    def _lock_into(self, key: Any, shell: RLock) -> None:
        """Attaches a lock that was not initialised to the lock of that key."""

    def _locks(self) -> int: ...

@final
class RpcChannel:
    def __new__(cls, outgoing: Queue, incoming: Queue, slot: int, generation: int) -> Self: ...
    def call(self, ident: str | None, name: str, args: Any, kwds: Any) -> Any: ...
    def ask(self, proxy: Any, name: str, args: Any, kwds: Any) -> Any: ...
    @property
    def broken(self) -> bool: ...
    def hang_up(self) -> None: ...
    def serve(
        self, objects: dict[str, Any], handler: Any, control_queue: Queue, pinned_until_ack: list[Any]
    ) -> None: ...

def family_id() -> bytes | None: ...
def seat() -> tuple[int, int]: ...

@disjoint_base
class Queue(Handle):
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self, maxsize: int = 0, maxbytes: int = 0) -> None: ...
    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None: ...
    def get(self, block: bool = True, timeout: float | None = None) -> Any: ...
    def put_nowait(self, obj: Any) -> None: ...
    def get_nowait(self) -> Any: ...
    def _go_through_ends(self, yes: bool) -> None:
        """`put` and `get` call `_procession_put_through_end` and its twin from now on, or no more."""

    def _put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """`put` for the ends themselves."""

    def _get(self, block: bool = True, timeout: float | None = None) -> Any:
        """`get` for the ends themselves."""

    def _put_many(self, items: Iterable[Any], block: bool = True, timeout: float | None = None) -> None: ...
    def _get_many(self, most: int, block: bool = True, timeout: float | None = None) -> list[Any]: ...
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
        """How many bytes the messages in it have."""

    def _shut_down(self, immediate: bool = False) -> None: ...
    @property
    def is_shutdown(self) -> bool: ...
    def _task_done(self) -> bool:
        """Reports one of the messages put as dealt with; False if all of them were."""

    def _unfinished(self) -> int: ...
    def _join(self, timeout: float | None = None) -> bool:
        """Waits until all messages put were reported; False if that took longer than timeout seconds."""

    def _wait_for_item(self, timeout: float | None = None) -> bool:
        """Waits until there is a message, or the queue was shut down; False after timeout seconds."""

    def _ready(self) -> bool:
        """Whether there is a message, or the queue was shut down."""

    def _watch(self) -> int:
        """A descriptor that is readable while there are messages."""

    def _unwatch(self) -> None: ...

def _blocks() -> int:
    """For tests: how many blocks of family memory are given out."""

def _encode_small(obj: Any) -> bytes | None:
    """For tests: the message that a small tree of built-ins is; None if pickle has to do it."""

def _use_custom_reducers(yes: bool) -> None:
    """Whether the program has registered reducers of its own, which are to be asked."""

def _decode_small(message: bytes) -> Any:
    """For tests: the tree that such a message is. ValueError and the like for other bytes."""

def _collect_buffer(buffer: Any) -> bool:
    """For `buffer_callback`: copies a buffer into the memory of the queue that is being put into."""

def _forget_collected() -> None:
    """Pickling begins anew."""

def _dismantle(obj: Any) -> tuple[bytes, list[SharedBytes]]:
    """An object as its pickle and the buffers that it consists of, which are handed on where that is possible."""

@disjoint_base
class RLock(Handle):
    """As Lock, but the thread that has it may acquire it again. Owner: process and thread."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self, robust: bool = True) -> None: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None:
        """AssertionError if this thread does not have it."""

    def locked(self) -> bool: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def _holder(self) -> tuple[int, int, str] | None: ...
    def _is_mine(self) -> bool: ...
    def _count(self) -> int:
        """How often this thread has acquired it; 0 if it has not."""

    def _release_all(self) -> int:
        """Releases it however often this thread has acquired it; how often that was."""

    def _restore(self, count: int) -> None:
        """Right after acquire(): this thread has it so many times, not once."""

    def _statistics(self) -> tuple[int, int, int, int]: ...

@disjoint_base
class Semaphore(Handle):
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self, value: int, maximum: int) -> None: ...
    def _most(self) -> int: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self, n: int = 1) -> None:
        """ValueError if the value would exceed the maximum."""

    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def get_value(self) -> int: ...
    def _statistics(self) -> tuple[int, int, int, int]:
        """Waits under way now, acquisitions, acquisitions that had to wait, nanoseconds waited in all."""

@final
class Mailbox:
    """An event loop's: its socket is readable after an object that it was registered with has rung."""

    def __new__(cls) -> Mailbox: ...
    @property
    def address(self) -> int: ...
    def fileno(self) -> int: ...
    def empty(self) -> None: ...

@final
class Ticket:
    """A place among those who wait on a Condition."""

    @property
    def _key(self) -> tuple[int, int]: ...
    def _register_waker(self, address: int) -> bool: ...
    def _unregister_waker(self, address: int) -> None: ...
    def _called(self) -> bool:
        """Whether it has been called, without waiting."""

    def _drop(self) -> None:
        """Gives the place up at once; a call that had come goes to the next."""

    def _heard(self) -> None:
        """The call has been acted on (the lock is held again). Until then it goes to the next, should the ticket be
        dropped or the process die."""

    def wait(self, timeout: float | None = None) -> bool:
        """Waits to be called; False if that took longer than timeout seconds, and the place is then given up. Also
        given up if Ctrl-C raises."""

@disjoint_base
class Condition(Handle):
    """Who waits. The lock around it is the facade's."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self) -> None: ...
    def _enlist(self) -> Ticket:
        """Takes the last place. To be called with the lock held, which is then released, and the ticket waited for."""

    def _notify(self, lock: Handle, n: int) -> None:
        """Calls the first n who wait (fewer if there are fewer), the dead passed over. They go on when lock, which this
        thread must hold (AssertionError), is released."""

    def _wait(self, lock: Handle, timeout: float | None = None) -> bool:
        """Releases lock, which this thread must hold (AssertionError), waits to be called, and acquires it again as
        often as before, whatever happens. False if there was no call within timeout seconds."""

    def _waiting(self) -> int: ...
    def _statistics(self) -> tuple[int, int, int, int]: ...

@disjoint_base
class Event(Handle):
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self) -> None: ...
    def is_set(self) -> bool: ...
    def _generation(self) -> int:
        """Changes whenever the event is set that was clear."""

    def set(self) -> None: ...
    def clear(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def _statistics(self) -> tuple[int, int, int, int]: ...

@disjoint_base
class Barrier(Handle):
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _create(self, parties: int) -> None: ...
    def _arrive(self, acting: bool, timeout: float | None = None) -> tuple[int, int] | None:
        """Counts this thread in: (its index from 0, its round). Who arrives last (index parties - 1) has tripped the
        barrier, or, where acting is true, must call _tripped(round) after its action. None: the barrier is broken, or
        was all the time busy with the action of the round before."""

    def _give_up(self, round: int) -> bool:
        """Waits for this round no longer, which breaks it if it has not ended; whether it had tripped."""

    def _leave(self, round: int) -> None:
        """Counts a party out again that had arrived in this round."""

    def _tripped(self, round: int) -> bool:
        """The action is done: lets everybody go. False if the barrier was broken meanwhile."""

    def _pass(self, round: int, timeout: float | None = None) -> bool | None:
        """Waits for the end of the round: True if the barrier tripped, False if it was broken, None if that took longer
        than timeout seconds (the round is not broken by that: see _give_up). If Ctrl-C raises, this thread is
        counted out again."""

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
    """A seat in the family's registry of processes, held by the process that started its occupant."""

    @staticmethod
    def reserve(name: str, _method: str) -> Member:
        """A seat for a child that will be started by exec or by the fork server."""

    @staticmethod
    def forked(pid: int, name: str, _method: str) -> Member | None:
        """Right after os.fork() in the parent, same thread: the seat that the at-fork hook gave the child."""

    @property
    def slot(self) -> int: ...
    @property
    def generation(self) -> int: ...
    def started(self, pid: int) -> None:
        """Binds the pid of the process that was started for this seat."""

    def load(self, message: bytes) -> None:
        """Puts the child's start message into family memory, where adopt() finds it."""

    def report(self) -> bytes | None:
        """What the occupant left with leave_report()."""

    def discard(self) -> None:
        """The start failed: gives the seat, and all it holds, back."""

    def __enter__(self) -> Member:
        """Until __exit__, handles that this thread pickles are kept alive for the child until it has its own."""

    def __exit__(self, *exc: object) -> None: ...

def family_fd() -> int:
    """The descriptor of this process's family memory, which is made now if there was none."""

def adopt(fd: int, slot: int, generation: int) -> bytes:
    """In the child: joins the family whose memory is fd, takes the seat, and returns the start message."""

def carried_done() -> None:
    """In the child, once the start message is unpickled: lets go of what the seat was carrying for it."""

def describe(name: str) -> None:
    """This process's name, as the registry and errors show it."""

def declare_exit(code: int) -> None:
    """This process is about to end with this exit code: what it holds when it does so was left on purpose."""

def leave_report(report: bytes) -> bool:
    """Leaves a report in this process's seat, for its starter to read after its end. False if it has no seat."""

def sweep() -> int:
    """Looks for members that have died unnoticed and takes back what they held; how many there were."""

# --- processes -------------------------------------------------------------------------------------------------------

@final
class Child:
    """A started process, held by its pidfd: never mistaken for another one that got its number."""

    def __new__(cls, pid: int, member: Member | None, pidfd: int = -1, direct: bool = True) -> Child:
        """pidfd: an open one, which the Child then owns, or -1 to open one here. direct: it is a child of this process;
        otherwise the fork server waits for it and writes its exit code into the registry."""

    @property
    def pid(self) -> int: ...
    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the process ends."""

    def poll(self) -> int | None:
        """The exit code (-N: killed by signal N), or None while the process runs."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Like poll, but waits up to timeout seconds (None: without limit). Ctrl-C interrupts it."""

    def send_signal(self, signum: int) -> None:
        """Sends a signal; nothing happens if the process has ended."""

    def close(self) -> None: ...

def fork(name: str) -> tuple[int, Member | None, int]:
    """os.fork(), and the child's seat (called name) and pidfd in the same call: (pid, member or None, pidfd or -1) in
    the parent, (0, None, -1) in the child. OSError: the system refuses; then there is no seat either. In the child
    the signals that others send are blocked until release_signals()."""

def release_signals() -> None:
    """In a child of fork(), once what a signal handler raises can no longer reach the frames of its parent: lets the
    signals through."""

def fork_refused() -> None:
    """After an os.fork() in this thread that has failed: gives the seat back that was made for the child."""

def clear_of_streams(fd: int) -> int:
    """The descriptor, or a copy of it if it has the number of a standard stream: that one is then closed."""

def thread_count() -> int:
    """How many threads this process has; 1 where nobody can tell."""

def lifeline_reader() -> int:
    """The descriptor that a daemonic child of this process needs. It stays this process's."""

def lifeline_hold(fd: int) -> None:
    """In a daemonic child: binds this process's life to the parent's. Closes the descriptor that it was given."""

def lifeline_after_fork(bound: bool) -> None:
    """In a forked child: what `lifeline_hold` does, or if it is not bound, closes what it would have needed."""

@final
class Descriptor:
    """A descriptor that is kept for long, in a program that may close it and open something else under its number."""

    def __new__(cls, fd: int) -> Descriptor:
        """Takes the descriptor over."""

    def fileno(self) -> int:
        """The number. OSError: it is closed, or names something else by now."""

    def is_open(self) -> bool:
        """Whether the number still names what it did."""

    def close(self) -> None: ...

def spawn_held(executable: str | bytes, args: list[str | bytes], fds: list[int]) -> tuple[int, int]:
    """The same as `spawn`; returns (pid, pidfd or -1). No handler of the program's runs between the two."""

def spawn(executable: str | bytes, args: list[str | bytes], fds: list[int], numbers: list[int] | None = None) -> int:
    """posix_spawn: runs executable with args and this environment; returns the pid. The child has descriptors 0 to 2
    as they are here and fds[i] as 3 + i (as numbers[i]), and no other. SIGINT is blocked in it."""

@final
class ForkServer:
    """The server's side: a single-threaded loop in Rust around os.fork() in Python."""

    def __new__(cls, control: int) -> ForkServer:
        """control: this side's end of a control_pair()."""

    def next(self) -> tuple[int, int, int, list[int]] | None:
        """Waits for a request, reaping children meanwhile (their exit codes go to the registry). Returns (slot,
        generation, reply descriptor, passed descriptors), or None once every client has gone. A reply descriptor of -1
        means that a spare is to be forked. Requests that a spare can take are not seen here."""

    def keep_spares(self, count: int) -> None:
        """How many children to keep forked ahead, from the first request on."""

    def spare_forked(self, pid: int) -> None:
        """In the server, after the fork of a spare."""

    def wait_as_spare(self) -> tuple[int, int, list[int]] | None:
        """In the spare, first of all: leaves the server and waits to be told which child it is. Returns (slot,
        generation, passed descriptors), or None if it is not needed any more."""

    def forked(self, pid: int, slot: int, generation: int, reply: int) -> None:
        """In the server, after fork: answers the client with the pid and a pidfd; closes the request's descriptors."""

    def refused(self, error: str, reply: int, errno: int = 0) -> None:
        """In the server: answers the client that fork failed, and why (errno chooses the OSError that it gets)."""

    def leave(self) -> None:
        """In the child, first of all: undoes what the server set up for itself (signal mask, descriptors)."""

def control_pair() -> tuple[int, int]:
    """A pair of connected SOCK_SEQPACKET sockets (client's end, server's end), not inheritable."""

def request_fork(control: int, slot: int, generation: int, fds: list[int]) -> tuple[int, int]:
    """The client's side: asks the fork server for a child with that seat and these descriptors; returns (pid, pidfd or
    -1). Raises ConnectionError if the server has gone and OSError with its words if it could not fork."""

def process_is_alive(pid: int, start_time: int) -> bool: ...
def open_sentinel(pid: int, start_time: int) -> int:
    """A new descriptor that is readable when that process has ended; from the beginning, if the pid is nobody's or
    another's by now (start_time 0: whoever has it). OSError: a sandbox forbids pidfds."""

def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot (with its pid, that names it for ever); 0 if there is none."""

def cpu_count() -> int:
    """CPUs that this process can keep busy: its affinity mask, or its control groups' quota where that is less."""

def oom_kills() -> int | None:
    """How many processes of this process's control group were killed because memory ran out, if somebody counts."""

# --- connections -----------------------------------------------------------------------------------------------------

@disjoint_base
class Wire:
    """A descriptor through which messages go. See `procession.connection.Connection`."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _open(self, handle: int, readable: bool, writable: bool) -> None: ...
    def send(self, obj: Any) -> None: ...
    def send_bytes(self, buf: Buffer, offset: int = 0, size: int | None = None) -> None: ...
    def recv(self) -> Any: ...
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
    """What goes beside a pipe: big data and references that its messages speak of. Pickles by its handle."""

    def __len__(self) -> int: ...

def _side_channel() -> SideChannel | None:
    """A new one, for both ends of a pipe; None if there is no memory."""

def _fetch(handle: bytes, key: bytes, pickled: bytes) -> Any:
    """The object of a message whose data lies in the side channel. RuntimeError: it was fetched before."""

@final
class Handshake:
    """One side of a handshake. It sends and receives nothing itself."""

    def __new__(cls, key: bytes, listener: bool) -> Handshake: ...
    def outgoing(self) -> bytes:
        """What is to be sent now, possibly nothing."""

    def wants(self) -> int:
        """How many bytes may be fed in now; 0: the handshake is over."""

    def feed(self, bytes: bytes) -> None:
        """AuthenticationError: the other side is not to be talked to, but for what is outgoing."""

    @property
    def succeeded(self) -> bool: ...

def _respond(key: bytes, challenge: bytes) -> bytes:
    """AuthenticationError: the challenge names no digest that there is."""

def _verify(key: bytes, challenge: bytes, response: bytes) -> None:
    """AuthenticationError unless the response comes from somebody who knows the key."""

def _wait(objects: list[Any], timeout: float | None) -> list[Any] | None:
    """Those that are ready; None if one of them has to be asked (`_ready`) or calls (`_register_waker`)."""

def _poll(list: list[tuple[int, int]], timeout: float | None) -> list[int]:
    """Descriptors and what to wait for (POLLIN, POLLOUT); the places in the list of those that are ready."""

def _pipe() -> tuple[int, int]: ...
def _socket_pair() -> tuple[int, int]: ...

# --- the tracker of named segments -----------------------------------------------------------------------------------

def tracker() -> tuple[int, int, bool] | None:
    """The registered resource tracker: pid, the descriptor on which it listens, whether it lives."""

def tracker_pid() -> int:
    """The pid of the one that is listed, dead or alive; 0 if none is."""

def register_tracker(pid: int, fd: int) -> bool:
    """Lists it, unless another one is listed that lives."""

@final
class TrackerListing:
    """In the resource tracker itself, which is no member of the family: its place in the list."""

    def __new__(cls, family_fd: int, fd: int) -> Self: ...
    def register(self) -> bool: ...
    def unregister(self) -> None: ...

def memory_left() -> int | None:
    """Bytes that the machine or the control group has left; None if neither tells."""

def reserve_file(fd: int, size: int) -> None:
    """Reserves memory for the first size bytes of a file. OSError: there is no room, or a limit forbids it."""
