"""No file descriptor is free: each call that needs one says so, says what to do, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

from world_programs import program

FEW = '''
import errno, pickle, resource
import multiprocessing

import procession.connection, procession.forkserver, procession.futures, procession.managers, procession.pool
import procession.shared_memory, procession.sharedctypes
import procession._connection.acceptor, procession._connection.wait

SOFT, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)


def without_descriptors(call):
    """Calls it while no descriptor is free. Returns what it raised."""
    probe = os.dup(0)
    os.close(probe)
    holes = [number for number in range(probe) if not os.path.exists(f"/proc/self/fd/{number}")]
    assert not holes
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, HARD))
    try:
        call()
    except OSError as error:
        return error
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, HARD))


def nothing():
    pass
'''


def test_each_call_without_a_free_descriptor_says_what_failed_and_what_to_do(tmp_path: Path, start_method: str):
    done = program(
        tmp_path,
        FEW
        + """

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    ended = context.Process(target=nothing)
    ended.start()  # also starts the fork server, and imports what the calls need
    ended.join()
    with context.Pool(1), context.Manager():
        pass
    held = context.Queue()
    event = context.Event()
    connection, memory = mp.connection, mp.shared_memory
    here = connection.Listener()
    calls = {
        "making a pipe": context.Pipe,
        "making a pipe ": lambda: context.Pipe(duplex=False),
        "making a pool": lambda: context.Pool(1),
        "making a pool ": lambda: mp.futures.ProcessPoolExecutor(1, mp_context=context).submit(nothing),
        "making a pipe  ": context.Manager,
        "making a listener at": connection.Listener,
        "making a listener at ('localhost', 0)": lambda: connection.Listener(("localhost", 0)),
        "making a listener at ": lambda: mp.managers.SyncManager(authkey=b"k").get_server(),
        f"connecting to {here.address!r}": lambda: connection.Client(here.address),
        "connecting to ('localhost', 1)": lambda: connection.Client(("localhost", 1), authkey=b"k"),
        "connecting to ('localhost', 2)": lambda: mp.managers.SyncManager(("localhost", 2), b"k").connect(),
        "making a segment": lambda: memory.SharedMemory(create=True, size=10),
        "making a segment ": lambda: memory.ShareableList([1]),
        "opening a segment": lambda: memory.SharedMemory("procession-test-none"),
        "making a descriptor that tells of messages": lambda: connection.wait([held], 0),
        "making a mailbox": lambda: connection.wait([event], 0),
    }
    if sys.argv[1] == "forkserver":
        calls["starting"] = context.Process(target=nothing, name="Frank").start
    for doing, call in calls.items():
        error = without_descriptors(call)
        assert error is not None, doing
        for one in (error, pickle.loads(pickle.dumps(error))):
            text = str(one)
            assert type(one) is OSError and one.errno == errno.EMFILE, (doing, one)
            assert text.startswith("[Errno 24] "), text
            assert doing.strip() in text and "Too many open files" in text and "`ulimit -n`" in text, (doing, text)
            assert text.count("ulimit") == 1, text
    connection.Client(here.address).close()  # so that accept() has a client
    error = without_descriptors(here.accept)
    assert "accepting a client" in str(error) and "`ulimit -n`" in str(error)
    here.accept().close()  # it is still there
    # and now everything works
    with context.Pool(1) as pool, context.Manager() as manager:
        assert pool.apply(abs, (-1,)) == 1
        assert manager.list([1])[0] == 1
    print("well")
""",
        start_method,
    )
    assert done.well() == "well\n"


def test_a_server_of_a_manager_with_few_descriptors_ends_with_its_parent_or_is_not_started(
    tmp_path: Path, start_method: str
):
    done = program(
        tmp_path,
        FEW
        + """
from deadlines import state


def parent(limit, said):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, HARD))
    try:
        server = mp.get_context(sys.argv[1]).Manager()
    except (OSError, EOFError, mp.ProcessError) as error:
        os.write(said, f"refused: {type(error).__name__} {error}".encode())
    else:
        os.write(said, str(server._process.pid).encode())
    signal.pause()


if __name__ == "__main__":
    os.dup2(os.open(os.devnull, os.O_RDWR), 2)  # where servers that do not start say why
    started = refused = 0
    for limit in range(6, 24):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            parent(limit, writer)
        os.close(writer)
        text = os.read(reader, 10_000).decode()
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if text.startswith("refused"):
            refused += 1
            assert "`ulimit -n`" in text or "ended before it was ready" in text, text
        else:
            started += 1
            until(lambda: state(int(text)) in "XZ")
    assert started and refused, (started, refused)
    print("well")
""",
        start_method,
    )
    assert done.well() == "well\n"
