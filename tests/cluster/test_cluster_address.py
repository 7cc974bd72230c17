"""What `cluster()` says about an address, its certificates, and a scheduler that does not answer."""

from __future__ import annotations

import socket
import textwrap

import pytest

import procession as mp
import programs
from procession._cluster import connect


@pytest.fixture
def names(monkeypatch):
    """Names that are known whatever the network of this machine says."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])


def test_plain_tcp_beyond_this_machine_is_refused(names):
    for address in ("tcp://10.1.2.3:8786", "scheduler.example.org:8786", "tcp://[2001:db8::1]:8786"):
        with pytest.raises(ValueError, match=r"is not encrypted.*insecure=True"):
            mp.cluster(address)
    for address in ("tcp://127.0.0.1:1", "tcp://[::1]:1", "localhost:1", "tls://10.1.2.3:1"):
        assert connect.why_plain(address, False) is None
    assert connect.why_plain("tcp://10.1.2.3:8786", True) is None


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "has no port: an address is like tls://host:8786"),
        ("nonsense", "has no port"),
        ("tcp://[::1]", "has no port"),
        ("tcp://127.0.0.1:", "has the port '', which is not a number from 1 to 65535"),
        ("localhost:http", "has the port 'http'"),
        ("localhost:70000", "has the port '70000'"),
        ("tls://:8786", "has no host"),
        ("", "has no host"),
        ("http://127.0.0.1:8786", "has the unknown scheme 'http'"),
    ],
)
def test_an_address_that_is_none_is_refused_with_what_it_lacks(address, why):
    with pytest.raises(ValueError) as caught:
        mp.cluster(address)
    assert why in str(caught.value)


def test_a_host_that_is_not_known_is_told_before_what_is_not_encrypted(monkeypatch):
    def unknown(*_):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConnectionError, match=r"the host 'nohost\.invalid' of .* is not known: .*Name or service"):
        mp.cluster("tcp://nohost.invalid:8786")


def test_a_command_line_with_a_wrong_address_is_refused_at_once():
    done = programs.run("-m", "procession", "--cluster", "127.0.0.1", "-c", "print(1)")
    assert done.code == 2 and "--cluster: '127.0.0.1' has no port" in done.err and not done.out


def test_a_wrong_address_says_that_no_scheduler_answers():
    with (
        pytest.warns(RuntimeWarning, match=r"no scheduler answers at tcp://127\.0\.0\.1:1 so far.*waits for 1 seconds"),
        pytest.raises(ConnectionError, match=r"at tcp://127\.0\.0\.1:1: .*(Connection refused|Timed out)") as caught,
    ):
        mp.cluster("127.0.0.1:1", node_timeout=1)
    assert caught.value.__suppress_context__  # Dask's attempts, some fifty lines
    with pytest.raises(TypeError, match="a Client or a Cluster of Dask, and not int"):
        mp.cluster(3)
    with pytest.raises(ValueError, match="node_timeout"):
        mp.cluster("127.0.0.1:1", node_timeout=0)


def test_tls_without_certificates_says_what_to_give():
    from distributed.security import Security

    for security in (None, Security()):
        with pytest.raises(ValueError, match=r"tls:// needs certificates: give security=.*distributed\.comm\.tls"):
            mp.cluster("tls://127.0.0.1:1", security=security)


def test_a_file_of_certificates_that_is_not_there_is_named(tmp_path):
    from distributed.security import Security

    good = tmp_path / "good.pem"
    good.write_text("nothing\n")
    paths = {"tls_ca_file": str(good), "tls_client_cert": str(good), "tls_client_key": str(good)}
    for name in paths:
        with pytest.raises(FileNotFoundError, match=f"{name} of the certificates") as caught:
            mp.cluster("tls://127.0.0.1:1", security=Security(**{**paths, name: str(tmp_path / "lacking.pem")}))
        assert caught.value.filename == str(tmp_path / "lacking.pem")
    with pytest.raises(ValueError, match=r"the certificates for tls:// cannot be used \(tls_ca_file='.*good\.pem'"):
        mp.cluster("tls://127.0.0.1:1", security=Security(**paths))


FAILS = """
    import signal, sys
    from distributed import Client
    from distributed.security import Security
    import procession as mp

    def fail(*_):
        raise KeyboardInterrupt("while it waits")

    wait = 1000  # seconds, which a client that is left to the interpreter's end waits twice
    try:
        if sys.argv[1] == "refused":  # by Dask: this address is not encrypted
            mp.cluster("tcp://127.0.0.1:1", security=Security(require_encryption=True), node_timeout=wait)
        else:
            signal.signal(signal.SIGALRM, fail)
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            mp.cluster("tcp://127.0.0.1:1", node_timeout=wait)
    except (RuntimeError, KeyboardInterrupt) as error:
        kept = error  # with its traceback
        print(type(error).__name__)
"""


@pytest.mark.parametrize(("how", "error"), [("refused", "RuntimeError"), ("interrupted", "KeyboardInterrupt")])
def test_a_program_ends_after_a_connection_that_failed(how, error):
    assert programs.run("-c", textwrap.dedent(FAILS), how).well() == f"{error}\n"


def test_a_context_that_was_closed_is_of_no_more_use(shared_nodes):
    with mp.cluster(shared_nodes.address) as cluster:
        assert shared_nodes.ready(cluster).nodes()
    assert repr(cluster) == "<cluster, closed>"
    for use in (cluster.Pool, cluster.nodes, cluster.cpu_count, cluster.Process(target=print).start):
        with pytest.raises(ValueError, match=r"is closed: make another one with cluster\(\)"):
            use()
    cluster.close()
