"""Managers whose clients are not of the server's family: through connections, from this package and from the standard
library's, through TLS; and clients that mean harm.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import ssl
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import procession as mp
from deadlines import PATIENCE, ended, scaled, until
from interpreters import interpreter
from procession.connection import Client
from procession.managers import BaseManager, DictProxy, RemoteError, SyncManager
from programs import run

KEY = b"known to both"
TLS = Path(__file__).parents[1] / "helpers" / "tls"
VERSIONS = ("3.11", "3.12", "3.13")


def tls_server():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    return context


def tls_client():
    return ssl.create_default_context(cafile=str(TLS / "cert.pem"))


class Things:
    def __init__(self, error=None):
        if error is not None:
            raise error

    def fail(self):
        raise ValueError("there")

    def up(self, n):
        return n + 1


class Shop(SyncManager):
    pass


Shop.register("Things", Things)


@pytest.fixture(params=["unix", "tcp"])
def address(request):
    return None if request.param == "unix" else ("127.0.0.1", 0)


@pytest.fixture
def shop(address):
    with Shop(address, KEY, ctx=mp.get_context("fork")) as shop:
        yield shop


def program(python, code, *arguments, **options):
    """Runs a program in a stranger: an interpreter that is not of this family."""
    return subprocess.Popen(
        [python, "-c", scaled(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
        **options,
    )


def output_of(process):
    try:
        out, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, out
    return out


@pytest.fixture(params=["ours", *VERSIONS])
def stranger(request):
    """How to run a stranger's program: the interpreter, and the package that it uses."""
    if request.param == "ours":
        return sys.executable, "procession"
    python = interpreter(request.param)
    if python is None:
        pytest.skip(f"there is no Python {request.param} here")
    return python, "multiprocessing"


# --- strangers as clients ---

CLIENT = """
import sys, queue
package, address, key = sys.argv[1], eval(sys.argv[2]), eval(sys.argv[3])
exec(f"import {package} as mp; import {package}.managers as managers")
class Shop(managers.SyncManager): pass
Shop.register("Things")
mp.current_process().authkey = key  # which multiprocessing wants for proxies that come in others
shop = Shop(address, key)
shop.connect()
"""


def test_a_stranger_uses_every_kind_of_object(shop, stranger):
    code = (
        CLIENT
        + """
d, l, q, lock, space = shop.dict(a=1), shop.list([1]), shop.Queue(), shop.Lock(), shop.Namespace(x=1)
d["b"] = l[:]
q.put((d.copy(), 2.5, b"bytes"))
print(q.get())
try:
    q.get_nowait()
except queue.Empty:
    print("empty")
with lock:
    print(lock.acquire(False))
space.y = 3
print(space.x + space.y)
print(sorted(d), list(d.keys()), sorted(d.items(), key=str))
things = shop.Things()
print(things.up(4))
try:
    things.fail()
except ValueError as error:
    print(error)
try:
    things._callmethod("nothing")
except managers.RemoteError as error:
    print("not in exposed" in str(error))
# proxies in others, both ways
l.append(d)
print(l[1]["a"])
d["inner"] = shop.list(["deep"])
print(d["inner"][0])
print(str(l[0]), len(l))
last = d.pop("inner")
last.append("out")
print(last)
q.put(shop.list(["got"]))
print(q.get())
"""
    )
    python, package = stranger
    process = program(python, code, package, repr(shop.address), repr(KEY))
    assert output_of(process).splitlines() == [
        "({'a': 1, 'b': [1]}, 2.5, b'bytes')",
        "empty",
        "False",
        "4",
        "['a', 'b'] ['a', 'b'] [('a', 1), ('b', [1])]",
        "5",
        "there",
        "True",
        "1",
        "deep",
        "1 2",
        "['deep', 'out']",
        "['got']",
    ]


def test_all_proxies_in_an_answer_know_where_the_client_found_the_server():
    class Office(Shop):
        pass

    inner: dict[int, object] = {}
    Office.register("shared", lambda: inner, DictProxy)
    with Office(("127.0.0.1", 0), KEY, ctx=mp.get_context("fork")) as office:
        lists = [office.list([n]) for n in range(3)]
        office.shared().update(enumerate(lists))
        code = """
import sys
from procession.managers import DictProxy, SyncManager
class Office(SyncManager): pass
Office.register("shared", None, DictProxy)
office = Office(("localhost", int(sys.argv[1])), eval(sys.argv[2]))
office.connect()
print([found[:] for found in office.shared().values()])
"""
        process = program(sys.executable, code, office.address[1], repr(KEY))
        assert output_of(process) == "[[0], [1], [2]]\n"


def test_a_stranger_with_another_key_is_refused(shop, stranger):
    python, package = stranger
    code = CLIENT.replace("shop.connect()", "try: shop.connect()\nexcept mp.AuthenticationError: print('refused')")
    assert output_of(program(python, code, package, repr(shop.address), repr(b"wrong"))) == "refused\n"
    assert shop.list([1])[:] == [1]


def test_what_a_strangers_threads_do_at_the_same_time(shop, stranger):
    python, package = stranger
    code = (
        CLIENT
        + """
import threading
d = shop.dict()
def work(n):
    for i in range(100):
        d[n, i] = i
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(d))
"""
    )
    assert output_of(program(python, code, package, repr(shop.address), repr(KEY))) == "400\n"


def test_the_references_of_strangers_end_when_they_do(shop, stranger):
    python, package = stranger
    code = CLIENT + "kept = shop.list(), shop.dict(); print(len(kept), flush=True); import time; time.sleep(1000)"
    process = program(python, code, package, repr(shop.address), repr(KEY))
    with process:
        process.stdout.readline()
        assert shop._number_of_objects() == 2
        process.kill()
        process.wait(PATIENCE)
        if package == "procession" or isinstance(shop.address, (str, bytes)):
            # who is at the other end of a connection of the standard library's, only the kernel can tell, on this
            # machine
            until(lambda: shop._number_of_objects() == 0)


# --- strangers as servers ---

SERVER = """
import sys
package, address, key = sys.argv[1], eval(sys.argv[2]), eval(sys.argv[3])
exec(f"import {package} as mp; import {package}.managers as managers")
class Things:
    def fail(self): raise ValueError("there")
    def up(self, n): return n + 1
class Shop(managers.SyncManager): pass
Shop.register("Things", Things)
if __name__ == "__main__":
    with Shop(address, key, ctx=mp.get_context("fork")) as shop:
        print(repr(shop.address), flush=True)
        sys.stdin.readline()
        print(shop._number_of_objects())
"""


@contextlib.contextmanager
def foreign_shop(stranger, address):
    python, package = stranger
    process = program(python, SERVER, package, repr(address), repr(KEY), stdin=subprocess.PIPE, start_new_session=True)
    with process:
        try:
            shop = Shop(eval(process.stdout.readline()), KEY)
            shop.connect()
            yield shop, process
        finally:
            # the process is the manager; its server, which it has forked, would live on
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_a_strangers_server_holds_every_kind_of_object(stranger, address):
    with foreign_shop(stranger, address) as (shop, process):
        d, items, q, lock, space = shop.dict(a=1), shop.list([1]), shop.Queue(), shop.Lock(), shop.Namespace(x=1)
        d["b"] = items[:]
        q.put((d.copy(), 2.5))
        assert q.get() == ({"a": 1, "b": [1]}, 2.5)
        with pytest.raises(queue.Empty):
            q.get_nowait()
        with lock:
            assert not lock.acquire(False)
        space.y = 3
        assert space.x + space.y == 4
        assert list(d) == d.keys() == ["a", "b"]
        things = shop.Things()
        assert things.up(4) == 5
        with pytest.raises(ValueError, match="there"):
            things.fail()
        with pytest.raises(RemoteError, match="not in exposed"):
            things._callmethod("nothing")
        items.append(d)
        assert items[1]["a"] == 1
        d["inner"] = shop.list(["deep"])
        assert d["inner"][0] == "deep"
        copies = [shop.list() for _ in range(3)]
        del d, items, q, lock, space, things, copies
        process.stdin.write("\n")
        process.stdin.flush()
        left = int(process.stdout.readline())
        assert left <= 2  # those inside others: the standard library never lets go of them


def _child_of_a_client(proxy, done):
    proxy.append("from a child")
    done.put(len(proxy))


def test_a_childs_proxy_reaches_a_strangers_server(stranger, address, start_method):
    ctx = mp.get_context(start_method)
    with foreign_shop(stranger, address) as (shop, _):
        items, done = shop.list(), ctx.Queue()
        child = ctx.Process(target=_child_of_a_client, args=(items, done))
        child.start()
        assert done.get(timeout=PATIENCE) == 1
        assert ended(child) == [0]
        assert items[:] == ["from a child"]


def test_a_strangers_server_that_is_killed_is_an_error_at_once(stranger, address):
    with foreign_shop(stranger, address) as (shop, process):
        event, outcome = shop.Event(), []

        def wait():
            try:
                event.wait()
            except (EOFError, OSError) as error:
                outcome.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        event.is_set()
        # the server is a child of the process that started it
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(pid), 9)
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert outcome
        with pytest.raises((EOFError, OSError)):
            shop.list()


# --- in this process ---


@contextlib.contextmanager
def serving(server):
    """A thread that serves while the block runs."""

    def serve():
        with pytest.raises(SystemExit):
            server.serve_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    server.stop_event.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    del mp.current_process()._manager_server


def test_a_server_in_a_thread_serves_its_own_process_and_others(context):
    class Office(BaseManager):
        pass

    jobs = queue.Queue()
    Office.register("jobs", callable=lambda: jobs)
    server = Office(("127.0.0.1", 0), KEY).get_server()
    with serving(server):
        client = Office(server.address, KEY)
        client.connect()
        child = context.Process(target=_put, args=(server.address,))
        child.start()
        assert client.jobs().get(timeout=PATIENCE) == "work"
        assert ended(child) == [0]
    with pytest.raises((EOFError, OSError)):
        client.jobs()


SERVED_IN_A_THREAD = """
import os, sys, threading, time
from procession.managers import SyncManager

def serve_once():
    server = SyncManager(("127.0.0.1", 0) if sys.argv[1] == "tcp" else None, b"key").get_server()
    def serve():
        try:
            server.serve_forever()
        except SystemExit:
            pass
    thread = threading.Thread(target=serve)
    thread.start()
    client = SyncManager(server.address, b"key")
    client.connect()
    assert client.list([5]).pop() == 5
    server.stop_event.set()
    thread.join()

def kept():
    return threading.active_count(), len(os.listdir("/proc/self/fd"))

serve_once()
limit = time.monotonic() + PATIENCE
while threading.active_count() > 1:
    assert time.monotonic() < limit, threading.enumerate()
    time.sleep(0.01)
before = kept()  # with what a process opens for its first objects
serve_once()
while kept() != before:
    assert time.monotonic() < limit, (before, kept())
    time.sleep(0.01)
"""


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_server_in_a_thread_that_has_ended_keeps_no_thread_and_no_descriptor(family):
    run("-c", SERVED_IN_A_THREAD, family).well()


class Clerk(BaseManager):
    pass


Clerk.register("jobs")


def _put(address):
    clerk = Clerk(address, KEY)
    clerk.connect()
    clerk.jobs().put("work")


def test_where_nobody_serves_connect_says_so():
    with pytest.raises(OSError, match="refused"):
        SyncManager("\0procession-nobody-is-here", KEY).connect()


def test_xmlrpclib_carries_data_alone(address):
    class Plain(SyncManager):
        pass

    with Plain(address, KEY, "xmlrpclib", ctx=mp.get_context("fork")) as plain:
        other = Plain(plain.address, KEY, "xmlrpclib")
        other.connect()
        q = other.Queue()
        q.put(("text", 1, None))
        assert q.get() == ["text", 1, None]
        with pytest.raises(TypeError):
            q.put(time.sleep)
        assert q.empty()


def test_a_proxy_out_of_another_is_reached_as_that_one_was():
    with Shop(("127.0.0.1", 0), KEY, ctx=mp.get_context("fork")) as shop:
        code = """
import sys
sys.path[:0] = [".", "../helpers"]
from test_managers_remote import KEY, Shop
shop = Shop(("localhost", int(sys.argv[1])), KEY)
shop.connect()
outer = shop.list([shop.list()])
print(outer._token.address == outer[0]._token.address == ("localhost", int(sys.argv[1])))
"""
        assert output_of(program(sys.executable, code, shop.address[1])) == "True\n"


# --- TLS ---


def test_a_manager_through_tls(start_method):
    shop = Shop(("127.0.0.1", 0), KEY, ctx=mp.get_context(start_method), tls=tls_server)
    with shop:
        shared = shop.dict(of="the family")
        code = """
import sys
sys.path[:0] = [".", "../helpers"]
from test_managers_remote import Shop, tls_client
shop = Shop(eval(sys.argv[1]), eval(sys.argv[2]), tls=tls_client)
shop.connect()
d = shop.dict(a=1)
d["list"] = shop.list([1, 2])
print(d["a"], d["list"][:])
from procession import get_context
import test_managers_remote as tests
ctx = get_context("spawn")
done = ctx.Queue()
child = ctx.Process(target=tests._child_of_a_client, args=(d["list"], done))
child.start()
print(done.get(timeout=PATIENCE))
child.join()
"""
        process = program(sys.executable, code, repr(shop.address), repr(KEY))
        assert output_of(process) == "1 [1, 2]\n3\n"
        assert shared["of"] == "the family"


def test_a_context_serves_where_it_need_not_be_sent():
    with Shop(("127.0.0.1", 0), KEY, ctx=mp.get_context("fork"), tls=tls_server()) as shop:
        client = Shop(shop.address, KEY, tls=tls_client())
        client.connect()
        assert client.list([1])[:] == [1]


def test_a_client_without_the_certificate_is_told(start_method):
    with Shop(("127.0.0.1", 0), KEY, ctx=mp.get_context(start_method), tls=tls_server) as shop:
        with pytest.raises(ssl.SSLCertVerificationError):
            Shop(shop.address, KEY, tls=ssl.create_default_context).connect()
        assert shop.list([1])[:] == [1]


@pytest.mark.parametrize("error", [EOFError("mine"), FileNotFoundError("mine")])
def test_what_a_type_raises_is_not_taken_for_the_end_of_the_connection(shop, error):
    client = Shop(shop.address, KEY)
    client.connect()
    with pytest.raises(RemoteError, match="mine"):
        client.Things(error)
    with pytest.raises(RemoteError, match="mine"):
        shop.Things(error)
    assert client.list([1])[:] == [1]


# --- clients that mean harm ---


def raw(shop):
    family = socket.AF_INET if isinstance(shop.address, tuple) else socket.AF_UNIX
    sock = socket.socket(family)
    sock.connect(shop.address)
    return sock


def test_clients_that_stall_lie_or_leave_cost_nobody_anything(shop):
    kept = shop.dict(x=1)
    silent = [raw(shop) for _ in range(5)]
    liar = raw(shop)
    liar.sendall(struct.pack("!i", 0x7FFFFFF0) + b"x" * 100)
    raw(shop).close()
    client = Shop(shop.address, KEY)
    client.connect()
    assert client.list([1])[:] == [1]
    assert kept["x"] == 1
    for sock in (*silent, liar):
        sock.close()


def test_nonsense_after_the_handshake_costs_that_connection_alone(shop):
    kept = shop.dict(x=1)
    for nonsense in (b"no pickle", b"\x80\x04N.", b"\x80\x04]."):
        with Client(shop.address, authkey=KEY) as conn:
            conn.send_bytes(nonsense)
            kind, _ = conn.recv()
            assert kind == "#TRACEBACK"
    with Client(shop.address, authkey=KEY) as conn:
        conn.send((None, "__init__", (), {}))
        assert conn.recv()[0] == "#TRACEBACK"
    with Client(shop.address, authkey=KEY) as conn:
        conn.send((None, "accept_connection", ("someone",), {}))
        assert conn.recv() == ("#RETURN", None)
        for request in (1, (), ("a", "b", (), {}), (None, "shutdown", 1, 2), (kept._id, "clear", 1, 2)):
            conn.send(request)
            assert conn.recv()[0] in ("#TRACEBACK", "#ERROR")
        conn.send((kept._id, "get", ("x",), {}))
        assert conn.recv() == ("#RETURN", 1)
    assert kept["x"] == 1


def test_a_client_that_does_not_take_its_answers_keeps_nobody_waiting(shop):
    kept = shop.list([b"x" * 1_000_000])
    conn = Client(shop.address, authkey=KEY)
    conn.send((None, "accept_connection", ("greedy",), {}))
    conn.recv()
    for _ in range(50):
        conn.send((kept._id, "__getitem__", (0,), {}))
    assert len(kept) == 1
    conn.close()
    assert len(kept) == 1


def test_a_process_has_one_key_for_this_package_and_the_standard_librarys():
    code = """
        import multiprocessing.process, sys
        multiprocessing.process.current_process().authkey = b"given by a library"
        import procession
        print(procession.current_process().authkey.decode())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "given by a library\n"
