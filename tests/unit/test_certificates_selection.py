"""Names, authorities and OID filters (RFC 9846 §4.3.4, §4.3.5, §4.5.1.2; RFC 9525 §6)."""

from __future__ import annotations

import contextlib

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.certificate_builder import CLIENT, NOW, SERVER, authority, leaf, usage
from tpmtls.certificates import (
    issued_by,
    matches_name,
    names_in,
    parse_server_name,
    satisfies_oid_filters,
)
from tpmtls.codepoints import AlertDescription as Alert
from tpmtls.violations import ConfigurationError, PeerViolation, Violation
from tpmtls.wire.extensions import OidFilter

# -- names -----------------------------------------------------------------------------------------


def test_names_in() -> None:
    end = leaf(None, names=("A.example", "*.b.example", "192.0.2.1", "2001:db8::1"))
    assert names_in(end.certificate) == ("a.example", "*.b.example", "192.0.2.1", "2001:db8::1")
    assert names_in(leaf(None, names=()).certificate) == ()


@pytest.mark.parametrize(
    ("pattern", "server_name", "expected"),
    [
        ("host.example", "host.example", True),
        ("host.example", "HOST.EXAMPLE.", True),
        ("host.example", "other.example", False),
        ("host.example", "host.example.org", False),
        ("*.example", "host.example", True),
        ("*.example", "example", False),
        ("*.example", "a.host.example", False),
        ("h*.example", "host.example", False),
        ("host.*.example", "host.a.example", False),
        ("*", "host", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:DB8:0:0::1", True),
        ("*.0.2.1", "192.0.2.1", False),
        ("host.example", "no name", False),
    ],
)
def test_matches_name(pattern: str, server_name: str, expected: bool) -> None:
    assert matches_name(leaf(None, names=(pattern,)).certificate, server_name) is expected


def test_a_name_in_text_is_no_address() -> None:
    text = x509.SubjectAlternativeName([x509.DNSName("192.0.2.1")])
    end = leaf(None, names=(), more=[(text, False)])
    assert not matches_name(end.certificate, "192.0.2.1")


LABEL = st.sampled_from(
    ["a", "B", "xn--a", "1", "a-b", "*", "", "-a", "a_b", "ä", "a" * 63, "b" * 64]
)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)


@given(NAME.filter(str.isascii), NAME)
@example("*.a", "b.a")
@example("a.", "a")
@example("a_b.a", "a_b.a")
def test_names_are_matched_as_the_verifier_matches_them(pattern: str, server_name: str) -> None:
    end = leaf(None, names=(pattern,), key_usage=None).certificate
    try:
        subject = parse_server_name(server_name)
    except ConfigurationError:
        return
    verifier = PolicyBuilder().store(Store([end])).time(NOW).build_server_verifier(subject)
    try:
        verifier.verify(end, [])
    except VerificationError:
        verified = False
    else:
        verified = True
    if verified:
        assert matches_name(end, server_name)
    elif matches_name(end, server_name):
        # ours is used to choose and to explain; it may be laxer about malformed patterns alone
        with pytest.raises(ConfigurationError):
            parse_server_name(pattern.replace("*", "a"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host.example", x509.DNSName("host.example")),
        ("host.example.", x509.DNSName("host.example")),
        ("1.2.3", x509.DNSName("1.2.3")),
        ("a." * 126 + "a", x509.DNSName("a." * 126 + "a")),
    ],
)
def test_parse_server_name(text: str, expected: x509.DNSName) -> None:
    assert parse_server_name(text) == expected


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "a b", "a_b", "-a", "a-", "a" * 64, "a." * 126 + "aa"]
)
def test_what_is_no_server_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match="neither a host name nor an IP address"):
        parse_server_name(text)


# -- authorities -----------------------------------------------------------------------------------


@pytest.mark.req("4.5.1.2-5")
def test_issued_by() -> None:
    root = authority()
    middle = authority("middle", issuer=root, number=1)
    chain = [leaf(middle).certificate, middle.certificate]
    names = {holder: holder.certificate.subject.public_bytes() for holder in (root, middle)}
    assert issued_by(chain, [names[root]])
    assert issued_by(chain, [b"other", names[middle]])
    assert not issued_by(chain[:1], [names[root]])
    assert not issued_by(chain, [])
    assert not issued_by([], [names[root]])


# -- OID filters -----------------------------------------------------------------------------------

KEY_USAGE = bytes.fromhex("0603551d0f")
EXTENDED_KEY_USAGE = bytes.fromhex("0603551d25")
POLICIES = bytes.fromhex("0603551d20")
SERVER_AUTH = "06082b06010505070301"
CLIENT_AUTH = "06082b06010505070302"
CODE_SIGNING = "06082b06010505070303"
ANY = "0604551d2500"


def satisfied(oid: bytes, values: str) -> bool:
    certificate = leaf(None, key_usage=usage(sign=True, certify=True), usages=(SERVER, CLIENT))
    return satisfies_oid_filters(certificate.certificate, [OidFilter(oid, bytes.fromhex(values))])


@pytest.mark.req("4.3.5-2")
@pytest.mark.req("4.3.5-3")
@pytest.mark.req("4.3.5-4")
@pytest.mark.parametrize(
    ("oid", "values", "expected"),
    [
        (KEY_USAGE, "03020780", True),  # digitalSignature
        (KEY_USAGE, "03020204", True),  # keyCertSign
        (KEY_USAGE, "03020284", True),  # both
        (KEY_USAGE, "030206c0", False),  # digitalSignature, nonRepudiation
        (KEY_USAGE, "0303070080", False),  # decipherOnly
        (KEY_USAGE, "030100", True),  # no bit at all
        (KEY_USAGE, "", True),
        (EXTENDED_KEY_USAGE, "300a" + CLIENT_AUTH, True),
        (EXTENDED_KEY_USAGE, "3014" + CLIENT_AUTH + SERVER_AUTH, True),
        (EXTENDED_KEY_USAGE, "3014" + CLIENT_AUTH + CODE_SIGNING, False),
        (EXTENDED_KEY_USAGE, "3000", True),
        (EXTENDED_KEY_USAGE, "", True),
    ],
)
def test_recognised_filters(oid: bytes, values: str, expected: bool) -> None:
    assert satisfied(oid, values) is expected


@pytest.mark.req("4.3.5-2")
def test_the_extension_itself_must_be_there() -> None:
    bare = leaf(None, key_usage=None, usages=None).certificate
    for oid in (KEY_USAGE, EXTENDED_KEY_USAGE):
        assert not satisfies_oid_filters(bare, [OidFilter(oid, b"")])


@pytest.mark.req("4.3.5-5")
@pytest.mark.parametrize("oid", [POLICIES, b"\x06\x03\x55\x1d\x7f", b"not DER at all"])
def test_other_filters_are_skipped(oid: bytes) -> None:
    assert satisfied(oid, "ffffff")


def test_every_filter_counts() -> None:
    end = leaf(None).certificate
    fits = OidFilter(KEY_USAGE, bytes.fromhex("03020780"))
    fails = OidFilter(EXTENDED_KEY_USAGE, bytes.fromhex("300a" + CODE_SIGNING))
    assert satisfies_oid_filters(end, [])
    assert satisfies_oid_filters(end, [fits])
    assert not satisfies_oid_filters(end, [fits, fails])


@pytest.mark.req("4.3.5-8")
def test_any_extended_key_usage_must_not_be_asked_for() -> None:
    with pytest.raises(PeerViolation) as caught:
        satisfied(EXTENDED_KEY_USAGE, "3010" + CLIENT_AUTH + ANY)
    assert caught.value.violation is Violation.OID_FILTER_ANY_USAGE
    assert caught.value.alert is Alert.illegal_parameter


@pytest.mark.parametrize(
    ("oid", "values"),
    [
        (KEY_USAGE, "03"),
        (KEY_USAGE, "0300"),
        (KEY_USAGE, "03020880"),  # eight unused bits
        (KEY_USAGE, "03020781ff"),  # something after the end
        (KEY_USAGE, "03020781"),  # an unused bit is set
        (KEY_USAGE, "030107"),  # unused bits, and no octet to hold them
        (KEY_USAGE, "030400808000"),  # too long
        (KEY_USAGE, "04020780"),  # an OCTET STRING
        (KEY_USAGE, "0381020780"),  # a length in two octets
        (EXTENDED_KEY_USAGE, "30"),
        (EXTENDED_KEY_USAGE, CLIENT_AUTH),  # no SEQUENCE
        (EXTENDED_KEY_USAGE, "300b" + CLIENT_AUTH),
        (EXTENDED_KEY_USAGE, "300a" + CLIENT_AUTH + "00"),
        (EXTENDED_KEY_USAGE, "30020600"),  # an empty OID
        (EXTENDED_KEY_USAGE, "30020500"),  # a NULL
        (EXTENDED_KEY_USAGE, "3003060355"),
        (EXTENDED_KEY_USAGE, "3080"),
        (EXTENDED_KEY_USAGE, "3085000000000a" + CLIENT_AUTH),
    ],
)
def test_malformed_filters(oid: bytes, values: str) -> None:
    with pytest.raises(PeerViolation) as caught:
        satisfied(oid, values)
    assert caught.value.violation is Violation.OID_FILTER_VALUES
    assert caught.value.alert is Alert.decode_error


@given(st.sampled_from([KEY_USAGE, EXTENDED_KEY_USAGE, POLICIES]), st.binary(max_size=24))
def test_any_filter_is_answered_or_refused(oid: bytes, values: bytes) -> None:
    with contextlib.suppress(PeerViolation):
        assert satisfied(oid, values.hex()) in (True, False)
