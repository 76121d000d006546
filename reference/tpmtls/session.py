"""What the blocking and the asyncio adapter share: a connection, and what is known of its peer."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import threading
from abc import ABC, abstractmethod
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from tpmtls.backends.base import Backend
from tpmtls.codepoints import CipherSuite, ContentType, NamedGroup
from tpmtls.config import ClientConfig, is_ip
from tpmtls.connection import ClientConnection, Connection, ServerConnection
from tpmtls.events import (
    ApplicationData,
    ClientAuthenticated,
    EarlyData,
    HandshakeCompleted,
    TicketReceived,
)
from tpmtls.keylog import with_environment
from tpmtls.violations import ConfigurationError, ConnectionStateError, TlsError

LINGER_SECONDS: Final = 1.0
"""How long a closing side waits for the peer to take an alert, before the transport goes."""
LINGER_OCTETS: Final = 2**20
"""How much it reads, and discards, meanwhile: a transport closed unread would lose the alert."""
REPLY_LIMIT: Final = 2**16
"""Octets of replies (KeyUpdate, Certificate) that may wait for a peer that does not read."""
CLOSED_EARLY: Final = "the connection was closed before the handshake was complete"


class Session(ABC):
    """A connection with its peer, for as long as an adapter carries it.

    Its properties raise ConnectionStateError before the handshake is complete.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        """The sans-IO connection; the adapter's own methods are what keeps it in order."""
        self.tickets_received = 0
        """How many tickets the server sent; they are in the session cache, if there is one."""
        self._lock = threading.RLock()
        self._early_data = bytearray()
        self._peer_chain: tuple[bytes, ...] = ()
        self._beginning = b""

    @abstractmethod
    def _flush(self) -> None:
        """Bring what the connection has to send on its way."""

    # -- what was negotiated --------------------------------------------------------------------

    @property
    def negotiated(self) -> HandshakeCompleted:
        """All that the handshake settled, in one value."""
        info = self.connection.info
        if info is None:
            raise ConnectionStateError("the handshake is not complete")
        return info

    @property
    def suite(self) -> CipherSuite:
        """The cipher suite."""
        return self.negotiated.suite

    @property
    def group(self) -> NamedGroup | None:
        """The group of the key exchange; None where a PSK alone was used."""
        return self.negotiated.group

    @property
    def alpn(self) -> str | None:
        """The application protocol; None where none was negotiated."""
        return self.negotiated.alpn

    @property
    def server_name(self) -> str | None:
        """The host name that the client asked for."""
        return self.negotiated.server_name

    @property
    def resumed(self) -> bool:
        """Whether a ticket stood in for certificates."""
        return self.negotiated.psk == "resumption"

    @property
    def early_data_accepted(self) -> bool | None:
        """Whether the server took the 0-RTT data; None where none was offered."""
        return self.negotiated.early_data_accepted

    @property
    def early_data(self) -> bytes:
        """Server: the 0-RTT data that was let in. It may be a replay (RFC 9846 §8).

        It is never among what is read from the stream, so that nobody takes it unawares.
        """
        return bytes(self._early_data)

    # -- the peer -------------------------------------------------------------------------------

    @property
    def peer_chain(self) -> tuple[bytes, ...]:
        """The peer's certificates, DER, leaf first; empty where it showed none."""
        return self._peer_chain or self.negotiated.peer_chain

    @property
    def peer_certificate(self) -> x509.Certificate | None:
        """The peer's own certificate."""
        chain = self.peer_chain
        return x509.load_der_x509_certificate(chain[0]) if chain else None

    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """The peer's certificate as the standard library's `ssl` gives it: a dictionary, or DER."""
        if binary_form:
            return self.peer_chain[0] if self.peer_chain else None
        certificate = self.peer_certificate
        return None if certificate is None else describe(certificate)

    # -- what can be asked of the connection ----------------------------------------------------

    def export_keying_material(self, label: str, length: int, context: bytes = b"") -> bytes:
        """`length` octets that both sides and nobody else can derive (RFC 9846 §7.5)."""
        with self._lock:
            return self.connection.export_keying_material(label, context, length)

    def update_keys(self, *, request_peer: bool = False) -> None:
        """Go on with fresh keys in our direction and, if asked for, in the peer's."""
        with self._lock:
            self.connection.update_keys(request_peer=request_peer)
        self._flush()

    def request_client_certificate(self) -> None:
        """Server: ask for a certificate now; `peer_chain` has it once it came and was verified.

        Raises ConnectionStateError where the client did not say that it can.
        """
        if not isinstance(self.connection, ServerConnection):
            raise ConnectionStateError("it is the server that asks for a certificate")
        with self._lock:
            self.connection.request_client_certificate()
        self._flush()

    # -- for the adapters -----------------------------------------------------------------------

    def _receive(self, octets: bytes) -> tuple[list[bytes], TlsError | None]:
        """Hand over what the transport delivered, or b"" at its end.

        Returns the application data in it, and the error that it ended with, if so.
        """
        if not self.connection.handshake_complete and len(self._beginning) < 64:
            self._beginning += octets[:64]
        failure: TlsError | None = None
        try:
            self.connection.receive_data(octets)
        except TlsError as error:
            failure = error
            self._note_plain_text(error)
        data = []
        for event in self.connection.events():
            match event:
                case ApplicationData(chunk):
                    data.append(chunk)
                case EarlyData(chunk):
                    self._early_data += chunk
                case ClientAuthenticated(chain):
                    self._peer_chain = chain or self._peer_chain
                case TicketReceived():
                    self.tickets_received += 1
                case _:
                    pass
        return data, failure

    def _note_plain_text(self, error: TlsError) -> None:
        """Say so where the peer does not talk TLS at all."""
        start = self._beginning
        if start and not ContentType(start[0]).is_known and start[:8].isascii():
            line = start.splitlines()[0].decode("ascii", "replace")
            if line and line.isprintable():
                error.add_note(f"the peer does not talk TLS, it began with {line!r}")


# -- making connections ----------------------------------------------------------------------------


def client_connection(
    config: ClientConfig, backend: Backend | None, host: str | None, early_data: bytes
) -> ClientConnection:
    """A client's connection, named after the host it goes to, its early data on the way.

    `early_data` is offered only where a ticket, or PSK, permits all of it.
    """
    config = with_environment(config)
    if config.server_name is None and host is not None:
        # what the caller's configuration has loaded is not loaded again for the copy
        trust = config.trust if config.trust is None or not config.verify else config.trust_store
        config = config.replace(server_name=name_of(host), trust=trust)
    if early_data and _permits(config, len(early_data)):
        with contextlib.suppress(ConfigurationError):
            connection = ClientConnection(config, backend, early_data=True)
            if len(early_data) <= connection.early_data_limit:
                connection.send_early_data(early_data)
                return connection
    return ClientConnection(config, backend)


def _permits(config: ClientConfig, octets: int) -> bool:
    """Whether the PSK that would be offered first permits so much early data."""
    if config.session_cache is not None:
        ticket = config.session_cache.take(config.server_name or "", config.clock())
        if ticket is not None:
            config.session_cache.put(ticket)
            return ticket.max_early_data >= octets
    return bool(config.psks) and config.psks[0].max_early_data >= octets


def name_of(host: str) -> str:
    """What a certificate calls the host: no zone, no final dot, A-labels (RFC 6066 §3)."""
    host = host.partition("%")[0]
    if is_ip(host):
        return host
    host = host.removesuffix(".")
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ConfigurationError(f"{host!r} is not a host name") from None


# -- certificates, as `ssl` shows them -------------------------------------------------------------

_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"


def _camel(constant: str) -> str:
    first, *rest = constant.lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


_ATTRIBUTES: Final = {
    oid: _camel(name)
    for name, oid in vars(NameOID).items()
    if isinstance(oid, x509.ObjectIdentifier)
}


def describe(certificate: x509.Certificate) -> dict[str, Any]:
    """A certificate as the dictionary of `ssl.SSLSocket.getpeercert`."""
    described: dict[str, Any] = {
        "subject": _name(certificate.subject),
        "issuer": _name(certificate.issuer),
        "version": certificate.version.value + 1,
        "serialNumber": _hexadecimal(certificate.serial_number),
        "notBefore": _time(certificate.not_valid_before_utc),
        "notAfter": _time(certificate.not_valid_after_utc),
    }
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return described
    described["subjectAltName"] = tuple(_alternative(name) for name in names)
    return described


def _name(name: x509.Name) -> tuple[tuple[tuple[str, str], ...], ...]:
    return tuple(
        tuple(
            (_ATTRIBUTES.get(entry.oid, entry.oid.dotted_string), str(entry.value)) for entry in rdn
        )
        for rdn in name.rdns
    )


def _hexadecimal(number: int) -> str:
    digits = f"{number:X}"
    return digits if len(digits) % 2 == 0 else "0" + digits


def _time(moment: datetime.datetime) -> str:
    month, clock = _MONTHS[3 * moment.month - 3 :][:3], moment.strftime("%H:%M:%S")
    return f"{month} {moment.day:2d} {clock} {moment.year} GMT"


def _alternative(name: x509.GeneralName) -> tuple[str, str]:
    match name:
        case x509.DNSName():
            return "DNS", name.value
        case x509.IPAddress() if isinstance(
            name.value, ipaddress.IPv4Address | ipaddress.IPv6Address
        ):
            return "IP Address", str(name.value)
        case x509.RFC822Name():
            return "email", name.value
        case x509.UniformResourceIdentifier():
            return "URI", name.value
        case _:
            return "othername", "<unsupported>"
