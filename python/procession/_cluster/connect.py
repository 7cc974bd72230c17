"""The connection to a cluster: Dask is imported here, and what may not be used is refused."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["VERSIONS", "client_of", "dask", "host_of", "why_other", "why_plain"]

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
        ConnectionError: no scheduler answers there in `timeout` seconds.
        ValueError: the address is plain tcp beyond this machine.
    """
    package = dask()
    if isinstance(where, package.Client):
        address, security = where.scheduler.address, security or where.security
    elif isinstance(where, str):
        address = where if "://" in where else f"tcp://{where}"
    elif hasattr(where, "scheduler_address"):
        address, security = where.scheduler_address, security or getattr(where, "security", None)
    else:
        kind = type(where).__qualname__
        raise TypeError(f"a cluster is an address (str), a Client or a Cluster of Dask, and not a {kind}")
    why = why_plain(address, insecure)
    if why is not None:
        raise ValueError(why)
    try:
        return package.Client(address, security=security, timeout=timeout, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ConnectionError(f"no scheduler answers at {address}: {error}") from error


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
