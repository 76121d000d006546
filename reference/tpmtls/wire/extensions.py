"""Every extension that this implementation knows, and the table of where each may stand.

An extension's body is a structure of its own, which knows its `extension_type`; an extension block
is a tuple of bodies. Unknown extensions keep their octets (RFC 9846 §4.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from typing import Annotated, ClassVar, Final, TypeVar

from tpmtls.codepoints import (
    ExtensionType,
    NamedGroup,
    NameType,
    ProtocolVersion,
    PskKeyExchangeMode,
    SignatureScheme,
)
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire.codec import (
    Bounded,
    Code,
    Nested,
    Opaque,
    Opaque16,
    Reader,
    Rest,
    Struct,
    Uint16,
    Uint32,
    Vector,
)

MAX_EXTENSIONS: Final = 512
"""Extensions that one block may hold; no sane peer comes near, and lookups stay cheap."""

MAX_EXTENSION_BLOCK: Final = 2**16 - 1
EXTENSION_TYPE: Final = Code(ExtensionType, 2)
EXTENSION_DATA: Final = Opaque(0, 2**16 - 1)


class ExtensionBody(Struct):
    """The body of an extension in one message; it knows the type that it belongs to."""

    __slots__ = ()
    extension_type: ClassVar[ExtensionType]


@dataclass(frozen=True, slots=True)
class UnknownExtension(ExtensionBody):
    """An extension that we do not implement: its code point and its octets, kept."""

    type: ExtensionType
    data: bytes

    @property
    def extension_type(self) -> ExtensionType:  # type: ignore[override]
        """The code point, as it came."""
        return self.type

    def write(self, out: bytearray) -> None:
        out += self.data


# -- server_name (RFC 6066 §3) ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerName(Struct):
    """ServerName; of the name types only host_name was ever defined."""

    name_type: Annotated[NameType, Code(NameType, 1)]
    host_name: Annotated[bytes, Opaque(1, 2**16 - 1)]


@dataclass(frozen=True, slots=True)
class ServerNameList(ExtensionBody):
    """The names that the client asks for."""

    extension_type = ExtensionType.server_name
    server_name_list: Annotated[tuple[ServerName, ...], Vector(Nested(ServerName), 1, 2**16 - 1)]


@dataclass(frozen=True, slots=True)
class ServerNameAcknowledgement(ExtensionBody):
    """The server used the name: an empty body in EncryptedExtensions."""

    extension_type = ExtensionType.server_name


# -- algorithms ------------------------------------------------------------------------------------

GroupList = Annotated[tuple[NamedGroup, ...], Vector(Code(NamedGroup, 2), 2, 2**16 - 1)]
SchemeList = Annotated[tuple[SignatureScheme, ...], Vector(Code(SignatureScheme, 2), 2, 2**16 - 2)]


@dataclass(frozen=True, slots=True)
class SupportedGroups(ExtensionBody):
    """NamedGroupList (RFC 9846 §4.3.7)."""

    extension_type = ExtensionType.supported_groups
    named_group_list: GroupList


@dataclass(frozen=True, slots=True)
class SignatureAlgorithms(ExtensionBody):
    """SignatureSchemeList for CertificateVerify (RFC 9846 §4.3.3)."""

    extension_type = ExtensionType.signature_algorithms
    supported_signature_algorithms: SchemeList


@dataclass(frozen=True, slots=True)
class SignatureAlgorithmsCert(ExtensionBody):
    """SignatureSchemeList for signatures in certificates (RFC 9846 §4.3.3)."""

    extension_type = ExtensionType.signature_algorithms_cert
    supported_signature_algorithms: SchemeList


# -- application_layer_protocol_negotiation (RFC 7301 §3.1) ----------------------------------------


@dataclass(frozen=True, slots=True)
class ProtocolNameList(ExtensionBody):
    """The protocols offered, or the one selected."""

    extension_type = ExtensionType.application_layer_protocol_negotiation
    protocol_name_list: Annotated[tuple[bytes, ...], Vector(Opaque(1, 2**8 - 1), 2, 2**16 - 1)]


# -- padding (RFC 7685), record_size_limit (RFC 8449 §4) -------------------------------------------


@dataclass(frozen=True, slots=True)
class Padding(ExtensionBody):
    """Octets that mean nothing: a receiver ignores them."""

    extension_type = ExtensionType.padding
    padding: Annotated[bytes, Rest()]


@dataclass(frozen=True, slots=True)
class RecordSizeLimit(ExtensionBody):
    """The largest TLSInnerPlaintext, in octets, that the sender will accept."""

    extension_type = ExtensionType.record_size_limit
    limit: Uint16


# -- pre-shared keys and early data ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PskIdentity(Struct):
    """A label for a key, and for tickets its obfuscated age in milliseconds."""

    identity: Annotated[bytes, Opaque(1, 2**16 - 1)]
    obfuscated_ticket_age: Uint32


Binders = Annotated[tuple[bytes, ...], Vector(Opaque(32, 255), 33, 2**16 - 1)]


@dataclass(frozen=True, slots=True)
class OfferedPsks(ExtensionBody):
    """pre_shared_key in a ClientHello (RFC 9846 §4.3.11)."""

    extension_type = ExtensionType.pre_shared_key
    identities: Annotated[tuple[PskIdentity, ...], Vector(Nested(PskIdentity), 7, 2**16 - 1)]
    binders: Binders

    @property
    def binders_size(self) -> int:
        """Octets of the binders list with its length: what Truncate() removes."""
        return 2 + sum(1 + len(binder) for binder in self.binders)


@dataclass(frozen=True, slots=True)
class SelectedPsk(ExtensionBody):
    """pre_shared_key in a ServerHello: a 0-based index into the identities."""

    extension_type = ExtensionType.pre_shared_key
    selected_identity: Uint16


@dataclass(frozen=True, slots=True)
class PskKeyExchangeModes(ExtensionBody):
    """RFC 9846 §4.3.9."""

    extension_type = ExtensionType.psk_key_exchange_modes
    ke_modes: Annotated[tuple[PskKeyExchangeMode, ...], Vector(Code(PskKeyExchangeMode, 1), 1, 255)]


@dataclass(frozen=True, slots=True)
class EarlyDataIndication(ExtensionBody):
    """early_data in a ClientHello or EncryptedExtensions: empty (RFC 9846 §4.3.10)."""

    extension_type = ExtensionType.early_data


@dataclass(frozen=True, slots=True)
class MaxEarlyData(ExtensionBody):
    """early_data in a NewSessionTicket: octets that the ticket allows."""

    extension_type = ExtensionType.early_data
    max_early_data_size: Uint32


# -- versions, cookie ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SupportedVersions(ExtensionBody):
    """The client's versions (RFC 9846 §4.3.1)."""

    extension_type = ExtensionType.supported_versions
    versions: Annotated[tuple[ProtocolVersion, ...], Vector(Code(ProtocolVersion, 2), 2, 254)]


@dataclass(frozen=True, slots=True)
class SelectedVersion(ExtensionBody):
    """The server's choice."""

    extension_type = ExtensionType.supported_versions
    selected_version: Annotated[ProtocolVersion, Code(ProtocolVersion, 2)]


@dataclass(frozen=True, slots=True)
class Cookie(ExtensionBody):
    """RFC 9846 §4.3.2."""

    extension_type = ExtensionType.cookie
    cookie: Annotated[bytes, Opaque(1, 2**16 - 1)]


# -- certificates ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CertificateAuthorities(ExtensionBody):
    """Distinguished names, DER-encoded (RFC 9846 §4.3.4)."""

    extension_type = ExtensionType.certificate_authorities
    authorities: Annotated[tuple[bytes, ...], Vector(Opaque(1, 2**16 - 1), 3, 2**16 - 1)]


@dataclass(frozen=True, slots=True)
class OidFilter(Struct):
    """A certificate extension's OID and the values wanted, both DER-encoded."""

    certificate_extension_oid: Annotated[bytes, Opaque(1, 2**8 - 1)]
    certificate_extension_values: Opaque16


@dataclass(frozen=True, slots=True)
class OidFilters(ExtensionBody):
    """RFC 9846 §4.3.5."""

    extension_type = ExtensionType.oid_filters
    filters: Annotated[tuple[OidFilter, ...], Vector(Nested(OidFilter), 0, 2**16 - 1)]


@dataclass(frozen=True, slots=True)
class PostHandshakeAuth(ExtensionBody):
    """The client is willing (RFC 9846 §4.3.6)."""

    extension_type = ExtensionType.post_handshake_auth


# -- key_share (RFC 9846 §4.3.8) -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyShareEntry(Struct):
    """One group's public share."""

    group: Annotated[NamedGroup, Code(NamedGroup, 2)]
    key_exchange: Annotated[bytes, Opaque(1, 2**16 - 1)]


@dataclass(frozen=True, slots=True)
class KeyShareClientHello(ExtensionBody):
    """The client's shares, in the order of its preference."""

    extension_type = ExtensionType.key_share
    client_shares: Annotated[tuple[KeyShareEntry, ...], Vector(Nested(KeyShareEntry), 0, 2**16 - 1)]


@dataclass(frozen=True, slots=True)
class KeyShareServerHello(ExtensionBody):
    """The server's one share."""

    extension_type = ExtensionType.key_share
    server_share: KeyShareEntry


@dataclass(frozen=True, slots=True)
class KeyShareHelloRetryRequest(ExtensionBody):
    """The group that the server wants a share for."""

    extension_type = ExtensionType.key_share
    selected_group: Annotated[NamedGroup, Code(NamedGroup, 2)]


# -- placement -------------------------------------------------------------------------------------


class Place(Enum):
    """The messages that hold extensions, as Table 1 of RFC 9846 §4.3 abbreviates them."""

    CH = "ClientHello"
    SH = "ServerHello"
    HRR = "HelloRetryRequest"
    EE = "EncryptedExtensions"
    CR = "CertificateRequest"
    CT = "Certificate"
    NST = "NewSessionTicket"


# fmt: off
# req: 9.2-1
PLACEMENT: Final[dict[ExtensionType, dict[Place, type[ExtensionBody]]]] = {
    ExtensionType.server_name: {
        Place.CH: ServerNameList, Place.EE: ServerNameAcknowledgement, Place.CR: ServerNameList},
    ExtensionType.supported_groups: {Place.CH: SupportedGroups, Place.EE: SupportedGroups},
    ExtensionType.signature_algorithms: {
        Place.CH: SignatureAlgorithms, Place.CR: SignatureAlgorithms},
    ExtensionType.application_layer_protocol_negotiation: {
        Place.CH: ProtocolNameList, Place.EE: ProtocolNameList},
    ExtensionType.padding: {Place.CH: Padding},
    ExtensionType.record_size_limit: {Place.CH: RecordSizeLimit, Place.EE: RecordSizeLimit},
    ExtensionType.pre_shared_key: {Place.CH: OfferedPsks, Place.SH: SelectedPsk},
    ExtensionType.early_data: {
        Place.CH: EarlyDataIndication, Place.EE: EarlyDataIndication, Place.NST: MaxEarlyData},
    ExtensionType.supported_versions: {
        Place.CH: SupportedVersions, Place.SH: SelectedVersion, Place.HRR: SelectedVersion},
    ExtensionType.cookie: {Place.CH: Cookie, Place.HRR: Cookie},
    ExtensionType.psk_key_exchange_modes: {Place.CH: PskKeyExchangeModes},
    ExtensionType.certificate_authorities: {
        Place.CH: CertificateAuthorities, Place.CR: CertificateAuthorities},
    ExtensionType.oid_filters: {Place.CR: OidFilters},
    ExtensionType.post_handshake_auth: {Place.CH: PostHandshakeAuth},
    ExtensionType.signature_algorithms_cert: {
        Place.CH: SignatureAlgorithmsCert, Place.CR: SignatureAlgorithmsCert},
    ExtensionType.key_share: {
        Place.CH: KeyShareClientHello, Place.SH: KeyShareServerHello,
        Place.HRR: KeyShareHelloRetryRequest},
}
# fmt: on
"""Table 1 of RFC 9846 §4.3 for what we implement: where an extension may stand, and as what."""

E = TypeVar("E", bound=ExtensionBody)
_EXTENSION_TYPE_OF: Final[Callable[[ExtensionBody], ExtensionType]] = attrgetter("extension_type")


class Extensions(tuple[ExtensionBody, ...]):
    """An extension block, in the order of the wire."""

    __slots__ = ()

    def get(self, body: type[E]) -> E | None:
        """The extension whose body is a `body`, if the block has one."""
        for extension in self:
            if type(extension) is body:
                return extension
        return None

    @property
    def types(self) -> frozenset[ExtensionType]:
        """The types in the block."""
        return frozenset(map(_EXTENSION_TYPE_OF, self))

    @property
    def size(self) -> int:
        """Octets of the block on the wire, without its length; MAX_EXTENSION_BLOCK at most."""
        return sum(4 + len(body.encode()) for body in self)

    def replacing(self, body: ExtensionBody) -> Extensions:
        """The same block with the extension of that type replaced, in its place."""
        return Extensions(
            body if old.extension_type == body.extension_type else old for old in self
        )

    def without(self, *types: ExtensionType) -> Extensions:
        """The same block without the extensions of those types."""
        return Extensions(old for old in self if old.extension_type not in types)


class ExtensionBlock(Bounded[Extensions]):
    """Extension extensions<minimum..2^16-1>, parsed as its place demands."""

    __slots__ = ("place",)

    def __init__(self, place: Place, minimum: int = 0) -> None:
        super().__init__(minimum, MAX_EXTENSION_BLOCK)
        self.place = place

    def read(self, reader: Reader) -> Extensions:
        # req: 4.3-8 4.3-10
        inner = Reader(self.read_octets(reader))
        raw: dict[ExtensionType, bytes] = {}
        while inner.remaining:
            kind = EXTENSION_TYPE.read(inner)
            if kind in raw:
                raise PeerViolation(Violation.DUPLICATE_EXTENSION, str(kind))
            if len(raw) == MAX_EXTENSIONS:
                raise PeerViolation(Violation.TOO_MANY_EXTENSIONS, f"over {MAX_EXTENSIONS}")
            raw[kind] = EXTENSION_DATA.read(inner)
        return self.interpret(raw)

    def interpret(self, raw: dict[ExtensionType, bytes]) -> Extensions:
        """Parse each body by the placement table."""
        return Extensions(self._read_body(kind, data) for kind, data in raw.items())

    def _read_body(self, kind: ExtensionType, data: bytes) -> ExtensionBody:
        # req: 4.2.2-18 4.3-2 4.3-7 4.4.2-7 9.3-3 9.3-5 9.3-6
        places = PLACEMENT.get(kind)
        if places is None:
            return UnknownExtension(kind, data)
        body = places.get(self.place)
        if body is None:
            raise PeerViolation(Violation.EXTENSION_NOT_ALLOWED, f"{kind} in {self.place.value}")
        return body.decode(data, trailing=Violation.EXTENSION_TRAILING_DATA)

    def write(self, value: Extensions, out: bytearray) -> None:
        # req: 4.3-1
        block = bytearray()
        for body in value:
            EXTENSION_TYPE.write(body.extension_type, block)
            EXTENSION_DATA.write(body.encode(), block)
        self.write_octets(block, out)


class HelloExtensionBlock(ExtensionBlock):
    """The block of a Hello, which versions before TLS 1.3 share, and may leave out altogether.

    The version is looked up before anything else is judged (RFC 9846 §4.3.1): without
    supported_versions the message is an older one, whose extensions are not ours to interpret.
    """

    __slots__ = ()

    def read(self, reader: Reader) -> Extensions:
        # req: 4.3.1-15
        return super().read(reader) if reader.remaining else Extensions()

    def interpret(self, raw: dict[ExtensionType, bytes]) -> Extensions:
        if ExtensionType.supported_versions not in raw:
            return Extensions(UnknownExtension(kind, data) for kind, data in raw.items())
        return super().interpret(raw)

    def write(self, value: Extensions, out: bytearray) -> None:
        if value:
            super().write(value, out)
