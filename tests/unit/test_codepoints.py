"""Code points: the values that the RFCs give them, and what becomes of values nobody listed."""

from __future__ import annotations

import copy
import pickle

import pytest

from tests import rfc
from tpmtls import codepoints
from tpmtls.codepoints import (
    AlertDescription,
    CipherSuite,
    CodePoint,
    ContentType,
    ExtensionType,
    HandshakeType,
    NamedGroup,
    NameType,
    ProtocolVersion,
    PskKeyExchangeMode,
    SignatureScheme,
)

LISTED_ELSEWHERE = {
    # what RFC 9846's Appendix B does not list, and which registry or RFC does
    HandshakeType: {"hello_retry_request": 6},  # reserved there
    NamedGroup: {"X25519MLKEM768": 0x11EC},  # IANA, TLS Supported Groups
    SignatureScheme: {"mldsa44": 0x0904, "mldsa65": 0x0905, "mldsa87": 0x0906},
    ExtensionType: {"signed_certificate_timestamp": 18},  # RFC 6962
}

GREASE = (
    *(0x0A0A, 0x1A1A, 0x2A2A, 0x3A3A, 0x4A4A, 0x5A5A, 0x6A6A, 0x7A7A),
    *(0x8A8A, 0x9A9A, 0xAAAA, 0xBABA, 0xCACA, 0xDADA, 0xEAEA, 0xFAFA),
)


@pytest.mark.parametrize(
    "name",
    [
        "ContentType",
        "AlertLevel",
        "AlertDescription",
        "HandshakeType",
        "ExtensionType",
        "PskKeyExchangeMode",
        "SignatureScheme",
        "NamedGroup",
        "KeyUpdateRequest",
        "CipherSuite",
    ],
)
def test_appendix_b(name: str) -> None:
    ours: type[CodePoint] = getattr(codepoints, name)
    reserved = {"OpenPGP_RESERVED"}
    theirs = {
        entry: value
        for entry, value in rfc.enumerations()[name].items()
        if not entry.endswith("_RESERVED") and entry not in reserved
    }
    assert {member.name: member.value for member in ours} == theirs | LISTED_ELSEWHERE.get(ours, {})


@pytest.mark.parametrize(
    ("member", "value"),
    [
        (NamedGroup.X25519MLKEM768, 0x11EC),
        (NamedGroup.secp256r1, 23),
        (NamedGroup.x25519, 29),
        (SignatureScheme.mldsa44, 0x0904),
        (SignatureScheme.mldsa65, 0x0905),
        (SignatureScheme.mldsa87, 0x0906),
        (ExtensionType.signed_certificate_timestamp, 18),
        (NameType.host_name, 0),
        (ProtocolVersion.TLS_1_2, 0x0303),
        (ProtocolVersion.TLS_1_3, 0x0304),
        (CipherSuite.TLS_AES_128_GCM_SHA256, 0x1301),
        (AlertDescription.general_error, 117),
        (HandshakeType.message_hash, 254),
    ],
)
def test_values_that_need_no_text(member: CodePoint, value: int) -> None:
    assert member == value
    assert type(member)(value) is member
    assert member.is_known


@pytest.mark.req("9.3-5")
@pytest.mark.parametrize("value", [0x0000, 0x00FF, 0x1306, 0xFFFF])
def test_an_unlisted_value_is_kept(value: int) -> None:
    unknown = CipherSuite(value)
    assert isinstance(unknown, CipherSuite)
    assert unknown == value
    assert not unknown.is_known
    assert str(unknown) == unknown.name == f"unknown_0x{value:04x}"
    assert unknown == CipherSuite(value)
    assert hash(unknown) == hash(CipherSuite(value))
    assert list(CipherSuite) == [s for s in CipherSuite if s.is_known], "it is not added"


def test_an_unlisted_value_can_be_copied() -> None:
    unknown = ExtensionType(0xFE0D + 1)
    for copied in (copy.deepcopy(unknown), pickle.loads(pickle.dumps(unknown))):
        assert copied == unknown
        assert copied.name == unknown.name
        assert isinstance(copied, ExtensionType)


@pytest.mark.parametrize("value", [-1, 0x10000, "x25519", None, b"\x00\x1d"])
def test_what_is_no_code_point_at_all_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="NamedGroup"):
        NamedGroup(value)  # type: ignore[arg-type]


@pytest.mark.req("9.3-5")
def test_grease_is_the_sixteen_values_of_rfc_8701() -> None:
    assert tuple(v for v in range(0x10000) if CipherSuite(v).is_grease) == GREASE


def test_no_listed_value_is_grease() -> None:
    listed = (CipherSuite, NamedGroup, SignatureScheme, ExtensionType, ProtocolVersion)
    assert not [member for kind in listed for member in kind if member.is_grease]


def test_names_read_as_in_the_rfc() -> None:
    assert str(ContentType.change_cipher_spec) == "change_cipher_spec"
    assert f"{PskKeyExchangeMode.psk_dhe_ke}" == "psk_dhe_ke"
