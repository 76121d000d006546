"""TLS 1.3 (RFC 9846) that never touches a secret, only names it.

    with tpmtls.connect(("localhost", 4433), tpmtls.ClientConfig(trust="ca.pem")) as stream:
        stream.sendall(b"hello")
        print(stream.recv(100), stream.suite)

`ClientConnection` and `ServerConnection` are the same without IO. What a name stands for is loaded
when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # that of `typing`, whose import takes longer than all of this module
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any, Final

    from tpmtls.aio import TlsServer as TlsServer
    from tpmtls.aio import open_connection as open_connection
    from tpmtls.aio import start_server as start_server
    from tpmtls.backends.base import Backend as Backend
    from tpmtls.backends.software import SoftwareBackend as SoftwareBackend
    from tpmtls.certificates import TrustStore as TrustStore
    from tpmtls.codepoints import AlertDescription as AlertDescription
    from tpmtls.codepoints import CipherSuite as CipherSuite
    from tpmtls.codepoints import NamedGroup as NamedGroup
    from tpmtls.codepoints import PskKeyExchangeMode as PskKeyExchangeMode
    from tpmtls.codepoints import SignatureScheme as SignatureScheme
    from tpmtls.config import ClientConfig as ClientConfig
    from tpmtls.config import Credential as Credential
    from tpmtls.config import ExternalPsk as ExternalPsk
    from tpmtls.config import ServerConfig as ServerConfig
    from tpmtls.connection import ClientConnection as ClientConnection
    from tpmtls.connection import ServerConnection as ServerConnection
    from tpmtls.sockets import Server as Server
    from tpmtls.sockets import TlsStream as TlsStream
    from tpmtls.sockets import connect as connect
    from tpmtls.sockets import serve as serve
    from tpmtls.sockets import wrap_client as wrap_client
    from tpmtls.sockets import wrap_server as wrap_server
    from tpmtls.tickets import ReplayGuard as ReplayGuard
    from tpmtls.tickets import SessionCache as SessionCache
    from tpmtls.tickets import SessionTicket as SessionTicket
    from tpmtls.tickets import TicketKeys as TicketKeys
    from tpmtls.violations import BackendError as BackendError
    from tpmtls.violations import CertificateError as CertificateError
    from tpmtls.violations import ConfigurationError as ConfigurationError
    from tpmtls.violations import ConnectionStateError as ConnectionStateError
    from tpmtls.violations import HandshakeTimeoutError as HandshakeTimeoutError
    from tpmtls.violations import PeerAlert as PeerAlert
    from tpmtls.violations import PeerViolation as PeerViolation
    from tpmtls.violations import TlsError as TlsError
    from tpmtls.violations import TruncationError as TruncationError
    from tpmtls.violations import Violation as Violation

__version__: Final = "0.1.0"

_HOMES: Final = {
    "aio": ("TlsServer", "open_connection", "start_server"),
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


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})


def open_backend(
    name: str = "software",
    *,
    tcti: str | None = None,
    protect: Collection[str] | None = None,
    encrypt_bus: bool | str = False,
    owner_password: bytes | None = None,
) -> Backend:
    """A backend by its name, `software`, `tpm` or `handle-only`; the caller closes it.

    `tcti` names the TPM as tpm2-tss does; None stands for TPM2TOOLS_TCTI, or else for libtpms in
    this process. For handle-only, `model:FILE` keeps the key of stored sessions in that file.
    `protect` names the levels that the TPM has to hold; None stands for all that it can do,
    and `chained`, in place of the others but sign, for encrypted chaining (docs/chained.md).
    `encrypt_bus` encrypts what crosses to the TPM: True against those who read the bus, and the
    Name of the TPM's salt key, which `tpmtls key salt-name` prints, against those who alter it.
    `owner_password` is that of the TPM's owner hierarchy, where it has one.
    Raises ConfigurationError, TpmUnavailable, TpmLacks or TpmAuthError.
    """
    if encrypt_bus is not False and name != "tpm":
        from tpmtls.violations import ConfigurationError

        raise ConfigurationError(f"encrypt_bus is for the backend tpm, not for {name}")
    if name == "software":
        from tpmtls.backends.software import SoftwareBackend

        return SoftwareBackend()
    if name == "tpm":
        from tpmtls.backends.tpm.backend import TpmBackend
        from tpmtls.backends.tpm.chained import ChainedBackend, is_chained
        from tpmtls.backends.tpm.opening import open_tpm

        chained = is_chained(protect, encrypt_bus)
        tpm = open_tpm(tcti, owner_password=owner_password)
        try:
            if chained:
                return ChainedBackend(tpm)
            return TpmBackend(tpm, protect, encrypt_bus=encrypt_bus)
        except BaseException:
            tpm.close()
            raise
    if name == "handle-only":
        from tpmtls.backends.handle_only import open_model

        return open_model(tcti)
    from tpmtls.violations import ConfigurationError

    raise ConfigurationError(f"there is no backend {name!r}; there is: software, tpm, handle-only")
