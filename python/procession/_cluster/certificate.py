"""A certificate for the servers of one program, made for the occasion.

The server of a manager listens on the client's machine, and nodes connect to it through the network. Both sides come
from one program: so the program makes a key and a certificate that it signs itself, keeps the key on its machine, and
sends the certificate with each proxy. A node that has the certificate accepts that server and no other.
"""

from __future__ import annotations

import os
import tempfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

__all__ = ["ClientSide", "ServerSide", "make"]

DAYS = 365  # a program that runs longer cannot be connected to any more


class ServerSide:
    """Makes the TLS context of the server. It is picklable, so that a spawned server can have it."""

    def __init__(self, certificate: str, key: str) -> None:
        """certificate, key: PEM texts."""
        self._certificate, self._key = certificate, key

    def __call__(self) -> ssl.SSLContext:
        """Returns the context of a server."""
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # OpenSSL reads a chain from files only. The folder is readable by this user alone, and is gone at once.
        with tempfile.TemporaryDirectory(prefix="procession-") as folder:
            paths = os.path.join(folder, "certificate"), os.path.join(folder, "key")
            for path, text in zip(paths, (self._certificate, self._key), strict=True):
                with open(path, "w", encoding="ascii") as file:
                    file.write(text)
            context.load_cert_chain(*paths)
        return context


class ClientSide:
    """Makes the TLS context of a client. It travels with proxies and contains no secret."""

    def __init__(self, certificate: str) -> None:
        """certificate: a PEM text."""
        self._certificate = certificate

    def __call__(self) -> ssl.SSLContext:
        """Returns the context of a client that accepts the server with this certificate, and no other."""
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=self._certificate)
        # The certificate is that of this one server, so the name under which a node reaches it proves nothing more.
        context.check_hostname = False
        return context


def make() -> tuple[ServerSide, ClientSide]:
    """Makes a key (P-256) and a certificate, signed with the key itself.

    Raises:
        ModuleNotFoundError: the package `cryptography` is not installed.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a Manager that nodes of a cluster reach needs the package cryptography, for its certificate: "
            "pip install procession[dask]",
            name=error.name,
        ) from None
    from datetime import UTC, datetime, timedelta

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "procession")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # the clocks of nodes may be behind
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return ServerSide(pem, secret), ClientSide(pem)
