"""TLS 1.3 (RFC 9846) that never touches a secret, only names it.

    with tpmtls.connect(("localhost", 4433), tpmtls.ClientConfig(trust="ca.pem")) as stream:
        stream.sendall(b"hello")
        print(stream.recv(100), stream.suite)

`ClientConnection` and `ServerConnection` are the same without IO. What a name stands for is loaded
when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tpmtls.aio import open_connection, start_server
    from tpmtls.backends.base import Backend
    from tpmtls.backends.software import SoftwareBackend
    from tpmtls.certificates import TrustStore
    from tpmtls.codepoints import (
        AlertDescription,
        CipherSuite,
        NamedGroup,
        PskKeyExchangeMode,
        SignatureScheme,
    )
    from tpmtls.config import ClientConfig, Credential, ExternalPsk, ServerConfig
    from tpmtls.connection import ClientConnection, ServerConnection
    from tpmtls.sockets import Server, TlsStream, connect, serve, wrap_client, wrap_server
    from tpmtls.tickets import ReplayGuard, SessionCache, SessionTicket, TicketKeys
    from tpmtls.violations import (
        BackendError,
        CertificateError,
        ConfigurationError,
        ConnectionStateError,
        HandshakeTimeoutError,
        PeerAlert,
        PeerViolation,
        TlsError,
        TruncationError,
        Violation,
    )

__version__: Final = "0.1.0"

_HOMES: Final = {
    "aio": ("open_connection", "start_server"),
    "backends.base": ("Backend",),
    "backends.software": ("SoftwareBackend",),
    "certificates": ("TrustStore",),
    "codepoints": (
        "AlertDescription",
        "CipherSuite",
        "NamedGroup",
        "PskKeyExchangeMode",
        "SignatureScheme",
    ),
    "config": ("ClientConfig", "Credential", "ExternalPsk", "ServerConfig"),
    "connection": ("ClientConnection", "ServerConnection"),
    "sockets": ("Server", "TlsStream", "connect", "serve", "wrap_client", "wrap_server"),
    "tickets": ("ReplayGuard", "SessionCache", "SessionTicket", "TicketKeys"),
    "violations": (
        "BackendError",
        "CertificateError",
        "ConfigurationError",
        "ConnectionStateError",
        "HandshakeTimeoutError",
        "PeerAlert",
        "PeerViolation",
        "TlsError",
        "TruncationError",
        "Violation",
    ),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: PLE0604, RUF022 - the names of _HOMES, and no others
    "__version__",
    "open_backend",
    *_HOME_OF,
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})


def open_backend(name: str = "software") -> Backend:
    """The backend of that name; raises ConfigurationError where there is none.

    The caller closes it.
    """
    if name == "software":
        from tpmtls.backends.software import SoftwareBackend

        return SoftwareBackend()
    from tpmtls.violations import ConfigurationError

    raise ConfigurationError(f"there is no backend {name!r}; there is: software")
