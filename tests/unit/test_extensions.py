"""Extensions: the placement table against Table 1, blocks, and what a Hello may leave out."""

from __future__ import annotations

import pytest

from tests import rfc
from tpmtls.codepoints import (
    ExtensionType,
    NamedGroup,
    NameType,
    ProtocolVersion,
    PskKeyExchangeMode,
    SignatureScheme,
)
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire import extensions as x
from tpmtls.wire.codec import Bounded, Reader, Struct, fields_of
from tpmtls.wire.extensions import (
    MAX_EXTENSIONS,
    PLACEMENT,
    ExtensionBlock,
    Extensions,
    HelloExtensionBlock,
    Place,
    UnknownExtension,
)

T = ExtensionType

# The body of each extension, as its RFC writes it.
BODIES: list[tuple[Struct, str]] = [
    (
        x.ServerNameList((x.ServerName(NameType.host_name, b"ab"),)),
        "0005 00 0002 6162",
    ),
    (x.ServerNameAcknowledgement(), ""),
    (x.SupportedGroups((NamedGroup.x25519, NamedGroup(0x0A0A))), "0004 001d 0a0a"),
    (x.SignatureAlgorithms((SignatureScheme.ed25519,)), "0002 0807"),
    (x.SignatureAlgorithmsCert((SignatureScheme.rsa_pkcs1_sha256,)), "0002 0401"),
    (x.ProtocolNameList((b"h2", b"x")), "0005 02 6832 01 78"),
    (x.Padding(b"\0\0"), "0000"),
    (x.RecordSizeLimit(2**14 + 1), "4001"),
    (
        x.OfferedPsks((x.PskIdentity(b"i", 7),), (bytes(32),)),
        "0007 0001 69 00000007 0021 20" + "00" * 32,
    ),
    (x.SelectedPsk(1), "0001"),
    (
        x.PskKeyExchangeModes((PskKeyExchangeMode.psk_dhe_ke, PskKeyExchangeMode.psk_ke)),
        "02 01 00",
    ),
    (x.EarlyDataIndication(), ""),
    (x.MaxEarlyData(2**32 - 1), "ffffffff"),
    (x.SupportedVersions((ProtocolVersion.TLS_1_3, ProtocolVersion.TLS_1_2)), "04 0304 0303"),
    (x.SelectedVersion(ProtocolVersion.TLS_1_3), "0304"),
    (x.Cookie(b"c"), "0001 63"),
    (x.CertificateAuthorities((b"\x30\0",)), "0004 0002 3000"),
    (x.OidFilters((x.OidFilter(b"\6\0", b""),)), "0005 02 0600 0000"),
    (x.OidFilters(()), "0000"),
    (x.PostHandshakeAuth(), ""),
    (
        x.KeyShareClientHello((x.KeyShareEntry(NamedGroup.x25519, b"k"),)),
        "0005 001d 0001 6b",
    ),
    (x.KeyShareClientHello(()), "0000"),
    (x.KeyShareServerHello(x.KeyShareEntry(NamedGroup.x25519, b"k")), "001d 0001 6b"),
    (x.KeyShareHelloRetryRequest(NamedGroup.X25519MLKEM768), "11ec"),
]

NAMES_IN_APPENDIX_B = {
    "SignatureSchemeList": ("SignatureAlgorithms", "SignatureAlgorithmsCert"),
    "NamedGroupList": ("SupportedGroups",),
    "CertificateAuthoritiesExtension": ("CertificateAuthorities",),
    "OIDFilter": ("OidFilter",),
    "OIDFilterExtension": ("OidFilters",),
    **{
        name: (name,)
        for name in (
            "KeyShareEntry",
            "KeyShareClientHello",
            "PskKeyExchangeModes",
            "PskIdentity",
            "OfferedPsks",
            "SupportedVersions",
            "Cookie",
        )
    },
}

VERSIONS = x.SupportedVersions((ProtocolVersion.TLS_1_3,))


def block(*bodies: x.ExtensionBody) -> bytes:
    ExtensionBlock(Place.CH).write(Extensions(bodies), out := bytearray())
    return bytes(out)


def read(place: Place, octets: bytes) -> Extensions:
    return ExtensionBlock(place).read(Reader(octets))


def label(parameter: object) -> str:
    """A test's name: the structure's, and how its octets start."""
    return parameter[:14] if isinstance(parameter, str) else type(parameter).__name__


def refusal(codec: ExtensionBlock, octets: bytes) -> PeerViolation:
    with pytest.raises(PeerViolation) as caught:
        codec.read(Reader(octets))
    return caught.value


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("body", "octets"), BODIES, ids=label)
def test_bodies(body: Struct, octets: str) -> None:
    assert body.encode() == bytes.fromhex(octets)
    assert type(body).decode(bytes.fromhex(octets)) == body


@pytest.mark.parametrize("name", NAMES_IN_APPENDIX_B)
def test_bounds_are_those_of_appendix_b(name: str) -> None:
    for ours in NAMES_IN_APPENDIX_B[name]:
        bounds = {
            field: (codec.minimum, codec.maximum)
            for field, codec in fields_of(getattr(x, ours))
            if isinstance(codec, Bounded)
        }
        assert bounds == rfc.vectors()[name]


@pytest.mark.req("6-9")
@pytest.mark.parametrize(
    ("body", "octets"),
    [
        # a binder of 31 octets: PskBinderEntry starts at 32
        (x.OfferedPsks, "0007 0001 69 00000007 0021 1f" + "00" * 31 + "00"),
        (x.OfferedPsks, "0007 0000 00000007 00" + "0021 20" + "00" * 32),  # an empty identity
        (x.ProtocolNameList, "0004 02 6832 00"),  # an empty name
        (x.CertificateAuthorities, "0004 0000 0000"),
        (x.OidFilters, "0003 00 0000"),
        (x.KeyShareClientHello, "0004 001d 0000"),
        (x.KeyShareServerHello, "001d 0000"),
        (x.ServerNameList, "0003 00 0000"),
    ],
    ids=range(8),
)
def test_items_shorter_than_their_bounds(body: type[Struct], octets: str) -> None:
    with pytest.raises(PeerViolation) as caught:
        body.decode(bytes.fromhex(octets))
    assert caught.value.violation is Violation.VECTOR_LENGTH


def test_what_truncate_removes() -> None:
    psks = x.OfferedPsks((x.PskIdentity(b"a", 0), x.PskIdentity(b"b", 0)), (bytes(32), bytes(48)))
    octets = psks.encode()
    without = octets[: -psks.binders_size]
    assert psks.binders_size == 2 + 33 + 49
    assert without == bytes.fromhex("000e 0001 61 00000000 0001 62 00000000")


# -- placement -------------------------------------------------------------------------------------


def test_the_table_is_table_1() -> None:
    theirs = rfc.placement()
    ours = {
        kind.name: frozenset(place.name for place in places) for kind, places in PLACEMENT.items()
    }
    assert ours == {name: theirs[name] for name in ours}


def test_a_body_knows_the_type_that_it_is_listed_under() -> None:
    for kind, places in PLACEMENT.items():
        assert {body.extension_type for body in places.values()} == {kind}


# -- blocks ----------------------------------------------------------------------------------------


@pytest.mark.req("4.3-8")
def test_a_block_keeps_the_order_of_the_wire() -> None:
    bodies = (x.Cookie(b"c"), VERSIONS, UnknownExtension(T(0x2A2A), b"\1"), x.Padding(b""))
    octets = block(*bodies)
    fields = "0017 002c 0003 000163  002b 0003 020304  2a2a 0001 01  0015 0000"
    assert octets == bytes.fromhex(fields)
    assert read(Place.CH, octets) == bodies
    assert isinstance(read(Place.CH, octets), Extensions)


@pytest.mark.req("4.3-10")
def test_an_extension_type_appears_once() -> None:
    for body in (x.Cookie(b"c"), UnknownExtension(T(0x2A2A), b"")):
        other = UnknownExtension(body.extension_type, b"\0\1\0")
        error = refusal(ExtensionBlock(Place.CH), block(body, VERSIONS, other))
        assert error.violation is Violation.DUPLICATE_EXTENSION
        assert error.detail == str(body.extension_type)


@pytest.mark.req("4.3-7")
@pytest.mark.parametrize(
    ("kind", "place"),
    [(kind, place) for kind, places in PLACEMENT.items() for place in Place if place not in places],
    ids=lambda p: p.name,
)
def test_an_extension_that_is_not_specified_for_its_message(
    kind: ExtensionType, place: Place
) -> None:
    error = refusal(ExtensionBlock(place), block(UnknownExtension(kind, b"")))
    assert error.violation is Violation.EXTENSION_NOT_ALLOWED
    assert error.detail == f"{kind} in {place.value}"


@pytest.mark.req("4.3-2")
def test_octets_left_over_in_an_extension() -> None:
    for data in (b"\x03\x04\0", b"\x03\x04\x03\x04"):
        octets = block(UnknownExtension(T.supported_versions, data))
        error = refusal(ExtensionBlock(Place.SH), octets)
        assert error.violation is Violation.EXTENSION_TRAILING_DATA
    for kind in (T.early_data, T.server_name):
        error = refusal(ExtensionBlock(Place.EE), block(UnknownExtension(kind, b"\0")))
        assert error.violation is Violation.EXTENSION_TRAILING_DATA


@pytest.mark.req("6-9")
@pytest.mark.parametrize(
    ("octets", "violation"),
    [
        ("", Violation.TRUNCATED),
        ("0001 00", Violation.TRUNCATED),
        ("0003 002c00", Violation.TRUNCATED),
        ("0004 002c0001", Violation.TRUNCATED),
        ("0005 002c0002 0000", Violation.TRUNCATED),  # the block ends within the extension
        ("0006 002c0002 0000", Violation.VECTOR_LENGTH),  # an empty cookie
        ("0006 002c0002 0001", Violation.TRUNCATED),  # the cookie ends outside its extension
        ("0005 002b000103", Violation.TRUNCATED),
    ],
)
def test_malformed_blocks(octets: str, violation: Violation) -> None:
    assert refusal(ExtensionBlock(Place.CH), bytes.fromhex(octets)).violation is violation


def test_a_block_holds_a_bounded_number_of_extensions() -> None:
    unknown = [UnknownExtension(T(0x4000 + n), b"") for n in range(MAX_EXTENSIONS + 1)]
    assert len(read(Place.CH, block(*unknown[1:]))) == MAX_EXTENSIONS
    error = refusal(ExtensionBlock(Place.CH), block(*unknown))
    assert error.violation is Violation.TOO_MANY_EXTENSIONS


def test_what_is_malformed_is_malformed_each_time() -> None:
    octets = bytes.fromhex("0006 002b 0002 02 03")
    for _ in range(2):
        assert refusal(ExtensionBlock(Place.CH), octets).violation is Violation.TRUNCATED
    assert read(Place.SH, bytes.fromhex("0006 002b 0002 0304")) == (
        x.SelectedVersion(ProtocolVersion.TLS_1_3),
    ), "the same octets elsewhere are another body"


def test_an_extension_or_a_block_too_long_to_be_written() -> None:
    with pytest.raises(ValueError, match="65536 octets"):
        block(UnknownExtension(T(0x4000), bytes(2**16)))
    with pytest.raises(ValueError, match="65538 octets"):
        block(UnknownExtension(T(0x4000), bytes(2**16 - 2)))


# -- the block of a Hello --------------------------------------------------------------------------


@pytest.mark.req("4.3.1-15")
def test_a_hello_without_supported_versions_is_left_alone() -> None:
    hello = HelloExtensionBlock(Place.SH)
    malformed = (UnknownExtension(T.key_share, b"?"), UnknownExtension(T.oid_filters, b"?"))
    assert hello.read(Reader(block(*malformed))) == malformed
    selected = x.SelectedVersion(ProtocolVersion.TLS_1_3)
    error = refusal(hello, block(*malformed, selected))
    assert error.violation is Violation.TRUNCATED
    error = refusal(hello, block(*malformed[1:], selected))
    assert error.violation is Violation.EXTENSION_NOT_ALLOWED


def test_a_hello_may_end_before_its_extensions() -> None:
    hello = HelloExtensionBlock(Place.CH)
    assert hello.read(Reader(b"")) == Extensions()
    assert hello.read(Reader(b"\0\0")) == Extensions()
    assert refusal(hello, b"\0").violation is Violation.TRUNCATED
    hello.write(Extensions(), out := bytearray())
    assert not out
    hello.write(Extensions((VERSIONS,)), out)
    assert out == block(VERSIONS)
    assert hello.read(Reader(bytes(out))) == (VERSIONS,)


# -- looking things up -----------------------------------------------------------------------------

BLOCK = Extensions((x.Cookie(b"c"), VERSIONS, UnknownExtension(T(0x2A2A), b"")))


def test_get_looks_for_a_body() -> None:
    assert BLOCK.get(x.Cookie) == x.Cookie(b"c")
    assert BLOCK.get(x.SelectedVersion) is None, "another body of the same type"
    assert BLOCK.get(UnknownExtension) == UnknownExtension(T(0x2A2A), b"")


def test_types() -> None:
    assert BLOCK.types == {T.cookie, T.supported_versions, T(0x2A2A)}


def test_replacing_keeps_the_place_and_without_takes_out() -> None:
    other = x.Cookie(b"d")
    assert BLOCK.replacing(other) == (other, *BLOCK[1:])
    assert BLOCK.replacing(x.Padding(b"")) == BLOCK
    assert BLOCK.without(T.cookie, T(0x2A2A)) == (VERSIONS,)
    assert BLOCK.without() == BLOCK
    for changed in (BLOCK.replacing(other), BLOCK.without(T.cookie)):
        assert isinstance(changed, Extensions)
