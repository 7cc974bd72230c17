"""Listeners and clients: addresses, keys, TLS, hostile clients."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import signal
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from test_connection import no_free_descriptors

import procession as mp
from deadlines import PATIENCE, ended, open_descriptors, running, until
from procession import connection
from procession._connection import connector
from procession.connection import Client, Listener, wait

KEY = b"the key"
TLS = Path(__file__).parents[1] / "helpers" / "tls"


@pytest.fixture(params=["AF_UNIX", "AF_INET", "AF_INET6"])
def family(request):
    if request.param == "AF_INET6":
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    return request.param


@pytest.fixture
def thread() -> Iterator[Callable[..., Future[Any]]]:
    """Runs a function in another thread."""
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit


@pytest.fixture(scope="module")
def server_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    return context


@pytest.fixture(scope="module")
def client_context():
    return ssl.create_default_context(cafile=str(TLS / "cert.pem"))


def connect_raw(listener):
    sock = socket.socket(getattr(socket, listener._listener._family))
    sock.connect(listener.address)
    return sock


def greet(address, family, authkey):
    with Client(address, family, authkey) as conn:
        conn.send(("greetings", conn.recv()))


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("authkey", [None, KEY, b""])
def test_a_process_connects_to_a_listener(start_method, family, authkey):
    context = mp.get_context(start_method)
    with Listener(family=family, authkey=authkey) as listener:
        assert listener.last_accepted is None
        with running(context, (greet, listener.address, family, authkey)) as [process]:
            with listener.accept() as conn:
                conn.send("hello")
                assert conn.recv() == ("greetings", "hello")
            assert ended(process) == [0]
        assert (listener.last_accepted is not None) is (family != "AF_UNIX") or listener.last_accepted == ""


def test_a_path_is_there_while_the_listener_is(tmp_path):
    path = str(tmp_path / "socket")
    with Listener(path) as listener:
        assert listener.address == path
        with pytest.raises(OSError, match="in use"):
            Listener(path)
        assert os.path.exists(path)
    assert not os.path.exists(path)
    with pytest.raises(FileNotFoundError):
        Client(path)


def test_what_address_is_of_what_family():
    assert [connection.address_type(a) for a in ("path", b"\0abstract", ("host", 1), ("::1", 1), ("::1", 1, 0, 0))] == [
        "AF_UNIX", "AF_UNIX", "AF_INET", "AF_INET6", "AF_INET6",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="unrecognized"):
        connection.address_type(5)
    with pytest.raises(ValueError, match="not recognized"):
        Listener(family="AF_PIPE", address="x")
    with pytest.raises(ValueError, match="AF_PIPE is not recognized"):
        Listener(r"\\.\pipe\name")
    with pytest.raises(ValueError, match="AF_NONE"):
        connection.arbitrary_address("AF_NONE")
    for maker in (lambda: Listener(authkey="text"), lambda: Client("nowhere", authkey="text")):
        with pytest.raises(TypeError, match="byte string"):
            maker()


def test_a_closed_listener_says_so():
    listener = Listener(authkey=KEY)
    listener.close()
    listener.close()
    for operation in (listener.accept, lambda: listener.address, lambda: listener.last_accepted):
        with pytest.raises(OSError, match="listener is closed"):
            operation()


def test_a_timeout_of_the_socket_is_one_of_accept():
    for authkey in (None, KEY):
        with Listener(authkey=authkey) as listener:
            listener._listener._socket.settimeout(0.05)
            with pytest.raises(TimeoutError):
                listener.accept()


def test_sockets_default_timeout_does_not_reach_connections(thread):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.05)
    try:
        with Listener(authkey=KEY) as listener:
            client = thread(Client, listener.address, authkey=KEY)
            with listener.accept() as ours, client.result(PATIENCE) as theirs:
                thread(lambda: (time.sleep(0.2), theirs.send(1)))
                assert ours.recv() == 1
    finally:
        socket.setdefaulttimeout(before)


def test_processes_that_share_a_listener_accept_in_turn():
    context = mp.get_context("fork")
    with Listener(authkey=KEY, backlog=10) as listener, running(context, *[(serve_one, listener)] * 3) as processes:
        pids = set()
        for _ in processes:
            with Client(listener.address, authkey=KEY) as conn:
                pids.add(conn.recv())
        assert pids == {process.pid for process in processes}
        assert ended(*processes) == [0, 0, 0]


def serve_one(listener):
    with listener.accept() as conn:
        conn.send(os.getpid())


def test_objects_travel_as_xml(thread):
    with connection.XmlListener(authkey=KEY) as listener:
        client = thread(connection.XmlClient, listener.address, authkey=KEY)
        ours, theirs = listener.accept(), client.result(PATIENCE)
        ours.send({"a": [1, "two", 2.5, None]})
        assert theirs.recv_bytes().startswith(b"<params>")
        ours.send([True])
        assert theirs.poll(PATIENCE)
        assert theirs.recv() == [True]
        ours.close()
        theirs.close()


# --- keys -------------------------------------------------------------------------------------------------------------


class Scripted:
    """A connection that says what it was told to say."""

    def __init__(self, *messages):
        self.messages = list(messages)
        self.sent = []

    def recv_bytes(self, maxlength=None):
        return self.messages.pop(0)

    def send_bytes(self, message):
        self.sent.append(message)


def test_challenges_are_answered_and_answers_judged():
    for asked in (b"{sha256}" + bytes(40), b"{md5}" + bytes(20), b"{sha3_384}" + bytes(40), bytes(20)):
        peer = Scripted(b"#CHALLENGE#" + asked, b"#WELCOME#")
        connection.answer_challenge(peer, KEY)
        connection._verify_challenge(KEY, asked, peer.sent[0])
        with pytest.raises(mp.AuthenticationError, match="digest received was wrong"):
            connection._verify_challenge(b"other", asked, peer.sent[0])
    for messages in [[b"bogus"], [b"#CHALLENGE#"], [b"#CHALLENGE#{sha1}" + bytes(40)], [b"#CHALLENGE#" + asked, b"no"]]:
        with pytest.raises(mp.AuthenticationError):
            connection.answer_challenge(Scripted(*messages), KEY)
    for response in (b"bogus", b"", b"{sha256}", b"{sha256}" + bytes(32), bytes(16)):
        peer = Scripted(response)
        with pytest.raises(mp.AuthenticationError):
            connection.deliver_challenge(peer, KEY)
        assert peer.sent[1] == b"#FAILURE#"
    for function in (connection.answer_challenge, connection.deliver_challenge):
        with pytest.raises(ValueError, match="must be bytes"):
            function(Scripted(), "text")


def test_whoever_has_another_key_is_refused_on_both_sides(thread):
    with Listener(authkey=KEY) as listener:
        client = thread(Client, listener.address, authkey=b"another")
        with pytest.raises(mp.AuthenticationError, match="wrong"):
            listener.accept()
        with pytest.raises(mp.AuthenticationError, match="rejected"):
            client.result(PATIENCE)
        accepted(listener, thread)


def accepted(listener, thread, **options):
    """A good client is accepted at once."""
    client = thread(Client, listener.address, authkey=listener._authkey, **options)
    began = time.monotonic()
    with listener.accept() as ours, client.result(PATIENCE) as theirs:
        theirs.send("good")
        assert ours.recv() == "good"
    assert time.monotonic() - began < PATIENCE


# --- slow and hostile listeners ---------------------------------------------------------------------------------------


def too_slow(address, **options):
    """A client does not wait for longer than it was told to."""
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"within 0.3 s: it hangs or is busy"):
        Client(address, timeout=0.3, **options)
    assert 0.2 < time.monotonic() - began < PATIENCE


def test_a_client_does_not_wait_for_ever_for_a_listener_that_does_not_accept(family):
    with Listener(family=family, authkey=KEY) as listener:
        before = open_descriptors()
        too_slow(listener.address, authkey=KEY)
        assert open_descriptors() == before


@pytest.mark.parametrize("says", [b"", struct.pack("!i", 51)[:3], struct.pack("!i", 51) + b"#CHALLENGE#"])
def test_a_client_does_not_wait_for_ever_for_a_listener_that_falls_silent(thread, says):
    with socket.create_server(("localhost", 0)) as server:
        accepting = thread(server.accept)
        address = server.getsockname()
        accepting.add_done_callback(lambda accepted: accepted.result()[0].sendall(says))
        too_slow(address, authkey=KEY)
        accepting.result()[0].close()


def test_a_client_does_not_wait_for_ever_for_tls(client_context):
    with socket.create_server(("localhost", 0)) as server:
        too_slow(server.getsockname(), tls=client_context)


def test_a_client_does_not_wait_for_ever_while_the_backlog_is_full(tmp_path):
    with Listener(str(tmp_path / "full"), backlog=0) as listener:
        clients = [Client(listener.address)]
        too_slow(listener.address)
        clients[0].close()
        listener.accept().close()
        Client(listener.address, timeout=PATIENCE).close()


def test_a_listener_that_accepts_late_is_waited_for_also_while_signals_come(tmp_path, thread):
    with Listener(str(tmp_path / "late"), backlog=0) as listener:
        first = Client(listener.address)
        came = threading.Event()
        before = signal.signal(signal.SIGALRM, lambda *_: came.set())

        def accept_two():
            assert came.wait(PATIENCE)
            listener.accept().close()
            return listener.accept()

        try:
            ours = thread(accept_two)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with Client(listener.address) as second, ours.result(PATIENCE) as conn:
                second.send("after a signal")
                assert conn.recv() == "after a signal"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        first.close()


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_where_the_system_loses_patience_first_the_error_is_its_own(monkeypatch, timeout):
    def connect(*_):
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(connector, "connected", connect)
    with pytest.raises(TimeoutError) as caught:
        Client(("localhost", 1), authkey=b"key", timeout=timeout)
    assert caught.value.errno == errno.ETIMEDOUT


def test_the_timeout_of_a_client_is_not_one_of_its_connection(family, thread):
    with Listener(family=family, authkey=KEY) as listener:
        client = thread(Client, listener.address, authkey=KEY, timeout=5.0)
        with listener.accept() as ours, client.result(PATIENCE) as theirs:
            with socket.socket(fileno=os.dup(theirs.fileno())) as sock:
                assert os.get_blocking(sock.fileno())
                for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                    assert not any(sock.getsockopt(socket.SOL_SOCKET, option, 16))
            big = bytes(8 << 20)
            sending = thread(theirs.send_bytes, big)
            assert ours.recv_bytes() == big
            sending.result(PATIENCE)
        with pytest.raises(ValueError, match="negative"):
            Client(listener.address, timeout=-1)


# --- hostile clients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "says",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("!i", 0x7FFFFFFF) + b"x" * 100,
        struct.pack("!iQ", -1, 1 << 62),
        struct.pack("!i", -5),
        struct.pack("!i", 257) + b"x" * 257,
        struct.pack("!i", 9) + b"#WELCOME#",
        struct.pack("!i", 16) + bytes(16),
    ],
)
def test_nonsense_costs_its_sender_the_connection_and_nobody_else_anything(thread, says):
    before = open_descriptors()
    with Listener(authkey=KEY) as listener, connect_raw(listener) as bad:
        bad.sendall(says)
        with pytest.raises(mp.AuthenticationError):
            listener.accept()
        bad.settimeout(PATIENCE)
        with contextlib.suppress(ConnectionResetError):
            while bad.recv(1000):
                pass
        accepted(listener, thread)
    until(lambda: open_descriptors() <= before)  # those of earlier tests may go meanwhile


def test_one_that_leaves_midway_costs_its_connection_only(thread):
    with Listener(authkey=KEY, backlog=5) as listener:
        for says in (b"", b"\0\0", b"\0\0\0\x20half"):
            with connect_raw(listener) as bad:
                bad.sendall(says)
            with pytest.raises(mp.AuthenticationError):
                listener.accept()
        accepted(listener, thread)


def test_those_who_fall_silent_keep_nobody_waiting(thread):
    with Listener(authkey=KEY, backlog=50) as listener, contextlib.ExitStack() as stack:
        for number in range(20):
            bad = stack.enter_context(connect_raw(listener))
            bad.sendall(b"\0\0\0\x20half"[:number])
        for _ in range(3):
            accepted(listener, thread)
        listener.HANDSHAKE_TIMEOUT = 0.01
        for _ in range(20):
            with pytest.raises(mp.AuthenticationError, match=r"more than 0\.01 s"):
                listener.accept()
        listener.HANDSHAKE_TIMEOUT = 20
        accepted(listener, thread)


def test_there_are_never_more_handshakes_under_way_than_a_bound(thread):
    from procession._connection import acceptor

    with Listener(authkey=KEY, backlog=200) as listener, contextlib.ExitStack() as stack:
        for _ in range(acceptor.MOST + 3):
            stack.enter_context(connect_raw(listener))
        for _ in range(3):
            with pytest.raises(mp.AuthenticationError, match="others came"):
                listener.accept()
        # who comes now may take the place of one more, and is accepted
        client = thread(Client, listener.address, authkey=KEY)
        try:
            conn = listener.accept()
        except mp.AuthenticationError:
            conn = listener.accept()
        with conn, client.result(PATIENCE):
            pass


def test_a_message_right_after_the_handshake_is_not_lost(thread):
    def client():
        conn = Client(listener.address, authkey=KEY)
        conn.send("eager")
        return conn

    with Listener(authkey=KEY) as listener:
        future = thread(client)
        with listener.accept() as ours, future.result(PATIENCE):
            assert ours.recv() == "eager"


def test_without_free_descriptors_a_client_waits_and_is_accepted_later(thread):
    for authkey in (None, KEY):
        with Listener(authkey=authkey) as listener, connect_raw(listener) as sock:
            with no_free_descriptors(), pytest.raises(OSError, match="Too many open files"):
                listener.accept()
            conn = connection.Connection(sock.detach())
            future = thread(listener.accept)
            if authkey:
                connection.answer_challenge(conn, authkey)
                connection.deliver_challenge(conn, authkey)
            conn.send("patient")
            with future.result(PATIENCE) as ours:
                assert ours.recv() == "patient"
            conn.close()


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["with a key", "without a key"])
def secured(request, thread, server_context, client_context):
    authkey = KEY if request.param == "with a key" else None
    with Listener(("127.0.0.1", 0), authkey=authkey, tls=server_context) as listener:
        client = thread(Client, listener.address, authkey=authkey, tls=client_context)
        with listener.accept() as ours, client.result(PATIENCE) as theirs:
            yield ours, theirs


def test_messages_of_any_size_go_through_tls_both_ways(secured, thread):
    ours, theirs = secured
    for size in (0, 1, 1000, 70_000, 3_000_000):
        data = os.urandom(size)
        sending = thread(lambda data=data: (ours.send(data), ours.send_bytes(data), theirs.send([data])))
        assert theirs.recv() == data
        buffer = bytearray(size + 2)
        assert theirs.recv_bytes_into(buffer, 1) == size
        assert buffer[1:-1] == data
        assert ours.recv() == [data]
        sending.result(PATIENCE)
    ours.send_bytes(b"too long")
    with pytest.raises(mp.BufferTooShort):
        theirs.recv_bytes_into(bytearray(3))
    ours.send_bytes(b"12345")
    with pytest.raises(OSError, match="bad message length"):
        theirs.recv_bytes(4)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_a_tcp_connection_sends_at_once_and_notices_a_peer_whose_machine_has_gone(
    thread, server_context, client_context, encrypted
):
    with Listener(("127.0.0.1", 0), authkey=KEY, tls=server_context if encrypted else None) as listener:
        client = thread(Client, listener.address, authkey=KEY, tls=client_context if encrypted else None)
        with listener.accept() as ours, client.result(PATIENCE) as theirs:
            for end in (ours, theirs):
                with socket.socket(fileno=os.dup(end.fileno())) as sock:
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                    idle = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                    between = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
                    assert idle + between * sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) <= 120


def test_waiting_knows_what_tls_has_already_decrypted(secured, thread):
    ours, theirs = secured
    receiver, sender = mp.Pipe()
    with receiver, sender:
        assert not theirs.poll()
        assert wait([receiver, theirs], 0.05) == []
        ours.send(1)
        ours.send(2)
        assert wait([receiver, theirs], PATIENCE) == [theirs]
        assert theirs.recv() == 1
        assert theirs.poll(PATIENCE)  # whether or not it is in the same record
        sender.send(1)
        assert wait([receiver, theirs]) == [receiver, theirs]
        assert theirs.recv() == 2
        assert wait([theirs, receiver]) == [receiver]
        threading.Timer(0.05, ours.close).start()
        assert wait([theirs], PATIENCE) == [theirs]
        with pytest.raises(EOFError):
            theirs.recv()
    with pytest.raises(TypeError, match="TLS"):
        pickle.dumps(theirs)


def test_who_does_not_speak_tls_or_stays_silent_keeps_nobody_waiting(thread, server_context, client_context):
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(Listener(("127.0.0.1", 0), authkey=KEY, backlog=10, tls=server_context))
        _, plain, leaving = (stack.enter_context(connect_raw(listener)) for _ in range(3))
        accepted(listener, thread, tls=client_context)
        plain.sendall(b"\0\0\0\x09#WELCOME#")
        leaving.close()
        for _ in range(2):
            with pytest.raises(mp.AuthenticationError, match=r"handshake"):
                listener.accept()
        accepted(listener, thread, tls=client_context)


def test_a_certificate_that_is_not_trusted_or_of_another_host_is_refused(thread, server_context, client_context):
    with Listener(("127.0.0.1", 0), authkey=KEY, tls=server_context) as listener:
        for options in (
            {"tls": ssl.create_default_context()},
            {"tls": client_context, "server_hostname": "elsewhere.example"},
        ):
            client = thread(Client, listener.address, authkey=KEY, **options)
            with pytest.raises(mp.AuthenticationError):
                listener.accept()
            with pytest.raises(ssl.SSLCertVerificationError):
                client.result(PATIENCE)
