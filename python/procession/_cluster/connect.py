"""The connection to a cluster: Dask is imported here, and what may not be used is refused."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["VERSIONS", "client_of", "dask", "full_address", "host_of", "why_other", "why_plain"]

_SILENT = 3.0  # seconds without an answer after which the program is told that it waits
_TO_CLOSE = 2.0  # seconds for a client that could not be made to end

# An expression, since a node that lacks this package cannot be sent a function of it. (Nor can a function go by value:
# the byte code of another version of Python is not to be run.)
VERSIONS = """[[str(part) for part in __import__("sys").version_info[:2]], *(
    getattr(__import__(name), "__version__", "") if __import__("importlib.util").util.find_spec(name) else None
    for name in ("procession", "cloudpickle")
)]"""


def dask() -> Any:
    """Imports `distributed`, which takes a second or two. ImportError: it is not installed."""
    try:
        import distributed
    except ModuleNotFoundError as error:
        if error.name not in ("distributed", "dask"):
            raise
        text = "a cluster needs the package `distributed`, which is not installed: pip install procession[dask]"
        raise ModuleNotFoundError(text, name=error.name) from None
    return distributed


def client_of(where: Any, security: Any, insecure: bool, timeout: float) -> Any:
    """Returns a Dask client of our own for a cluster. where: an address, a `Client` or a `Cluster` of Dask.

    A client of the program is not used itself: it may be closed, and its handlers of events are the program's.

    Raises:
        ConnectionError: no scheduler answers there in `timeout` seconds, or the host of a plain address is not known.
        OSError: a file of `security` cannot be read.
        ValueError: the address has no port, is plain tcp beyond this machine, or is tls without certificates.
    """
    package = dask()
    if isinstance(where, package.Client):
        address, security = where.scheduler.address, security or where.security
    elif isinstance(where, str):
        address = full_address(where)
    elif hasattr(where, "scheduler_address"):
        address, security = where.scheduler_address, security or getattr(where, "security", None)
    else:
        kind = type(where).__qualname__
        raise TypeError(f"a cluster is an address (str), a Client or a Cluster of Dask, and not {kind}")
    why = why_plain(address, insecure)
    if why is not None:
        if not address.startswith("inproc://"):
            check_name(address)
        raise ValueError(why)
    if address.startswith("tls://"):
        check_certificates(security)
    from threading import Timer

    waits = Timer(min(_SILENT, timeout / 2), _tell_of_wait, (address, timeout))
    waits.daemon = True
    waits.start()
    # in two steps, so that there is something to close if the second one fails
    client = package.Client.__new__(package.Client)
    try:
        client.__init__(address, security=security, timeout=timeout, set_as_default=False)
    except BaseException as error:
        # Otherwise the interpreter closes it at its end, and waits for the thread of Dask's loop, which has ended.
        with suppress(Exception):
            client.close(_TO_CLOSE)
        if isinstance(error, (OSError, TimeoutError)):
            raise ConnectionError(f"no scheduler answers at {address}: {_reason(error)}") from None
        raise
    finally:
        waits.cancel()
    return client


def full_address(where: str) -> str:
    """Returns an address with its scheme. ValueError: it is none, or has no port."""
    address = where if "://" in where else f"tcp://{where}"
    scheme, _, rest = address.partition("://")
    if scheme == "inproc":
        return address
    host, _, port = rest.rpartition(":")
    like = "an address is like tls://host:8786"
    if scheme not in ("tcp", "tls", "ws", "wss", "ucx"):
        raise ValueError(f"{where!r} has the unknown scheme {scheme!r}: {like}")
    if ":" not in rest or port.endswith("]"):  # the colons in brackets are those of IPv6
        raise ValueError(f"{where!r} has no {'port' if rest else 'host'}: {like}")
    if not host:
        raise ValueError(f"{where!r} has no host: {like}")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{where!r} has the port {port!r}, which is not a number from 1 to 65535: {like}")
    return address


def check_name(address: str) -> None:
    """ConnectionError: the host of an address is not known."""
    import socket

    host = host_of(address)
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        raise ConnectionError(f"the host {host!r} of {address} is not known: {error}") from None


def check_certificates(security: Any) -> None:
    """Checks that there are certificates for `tls://`, in `security` or (None) in Dask's configuration.

    Raises:
        OSError: a file cannot be read.
        ValueError: there are none, or they are not valid.
    """
    import ssl

    from dask import config

    kind: Any = dask().Security
    if security is None and not config.get("distributed.client.security-loader", None):
        security = kind()
    checked: Any = security
    if not isinstance(checked, kind):
        return
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        path = getattr(checked, name)
        if path and "\n" not in path:  # otherwise a PEM text
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise type(error)(
                    error.errno, f"{error.strerror} ({name} of the certificates for tls://)", path
                ) from None
    try:
        made = checked.get_connection_args("client").get("ssl_context")
    except (ssl.SSLError, ValueError) as error:
        names = f"tls_ca_file={checked.tls_ca_file!r}, tls_client_cert={checked.tls_client_cert!r}"
        raise ValueError(f"the certificates for tls:// cannot be used ({names}): {error}") from None
    if made is None:
        raise ValueError(
            "tls:// needs certificates: give security=Security(tls_ca_file=..., tls_client_cert=...,"
            " tls_client_key=...), of distributed.security, or set distributed.comm.tls in Dask's configuration"
        )


def _tell_of_wait(address: str, timeout: float) -> None:
    text = f"no scheduler answers at {address} so far: procession.cluster() waits for {timeout:g} seconds in all"
    with suppress(Warning):  # the program makes errors of warnings; this thread is not the one to raise it
        warnings.warn(text, RuntimeWarning, stacklevel=1)


def _reason(error: BaseException) -> str:
    """Returns the first error of a chain that says something: Dask's own words are about its attempts."""
    said, each = str(error), error.__cause__ or error.__context__
    while isinstance(each, (OSError, TimeoutError)):
        said = str(each) or said
        each = each.__cause__ or each.__context__
    return said or type(error).__name__


def why_plain(address: str, insecure: bool) -> str | None:
    """Returns why an address may not be used: it is plain tcp, and not of the loopback network. None: it may."""
    scheme = address.partition("://")[0]
    if scheme == "inproc":
        return (
            f"{address} is inside this process, and nodes are processes of their own: use LocalCluster(processes=True)"
        )
    if insecure or scheme in ("tls", "wss"):
        return None
    host = host_of(address)
    if host == "localhost" or _is_loopback(host):
        return None
    return (
        f"{address} is not encrypted, and anyone who reaches it can run code: use tls:// with a `Security` of Dask"
        " (security=), or insecure=True in a network that you trust"
    )


def host_of(address: str) -> str:
    """Returns the host of an address such as `tcp://host:port`."""
    return address.rpartition("://")[2].rpartition(":")[0].strip("[]")


def _is_loopback(host: str) -> bool:
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def why_other(told: list[Any], node: str) -> str | None:
    """Returns why a node cannot be used with this program: its versions differ. told: the value of `VERSIONS`."""
    import cloudpickle  # type: ignore[import-untyped]

    from .. import __version__

    python = ".".join(told[0])
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    pairs = [("Python", python, ours), ("Procession", told[1], __version__)]
    pairs.append(("cloudpickle", told[2], cloudpickle.__version__))
    for name, there, here in pairs:
        if there is None:
            return f"the node at {node} has no {name}: install {name} {here} there"
        if there != here:
            return f"the node at {node} has {name} {there}, and this program {name} {here}: they must be the same"
    return None
