"""Certificates from files and from peers, and trust stores; hostile octets among them."""

from __future__ import annotations

import base64
import contextlib
import datetime
import re
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from hypothesis import given
from hypothesis import strategies as st

from tests.pki import KINDS
from tests.unit.certificate_builder import (
    ALL_SCHEMES,
    NOW,
    authority,
    issue,
    leaf,
    name,
    octets,
    pem,
)
from tpmtls.certificates import (
    TrustStore,
    chain_schemes,
    issued_by,
    key_type,
    load_chain,
    matches_name,
    parse_chain,
    schemes_for_key,
    trust,
    verify_client_chain,
    verify_server_chain,
    verify_signature,
)
from tpmtls.codepoints import AlertDescription as Alert
from tpmtls.violations import CertificateError, ConfigurationError

# -- from files ------------------------------------------------------------------------------------


def test_load_chain(tmp_path: Path) -> None:
    root = authority()
    middle = authority("middle", issuer=root, number=1)
    end = leaf(middle)
    text = pem(end.certificate, middle.certificate)
    file = tmp_path / "chain.pem"
    file.write_bytes(b"a comment before\n" + text)
    expected = (octets(end.certificate), octets(middle.certificate))
    assert load_chain(text) == load_chain(file) == load_chain(str(file)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no PEM certificate"),
        (b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n", "no PEM certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "malformed"),
        (b"-----BEGIN CERTIFICATE-----\nAA==\n", "malformed"),
    ],
)
def test_what_is_no_chain(text: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"certificate chain: .*{message}"):
        load_chain(text)
    file = tmp_path / "chain.pem"
    file.write_bytes(text)
    with pytest.raises(ConfigurationError, match=f"trust anchors: .*{message}.* in .*chain.pem"):
        TrustStore.load(file)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read .*missing\.pem: No such file"):
        load_chain(tmp_path / "missing.pem")
    with pytest.raises(ConfigurationError, match=r"cannot read .*: Is a directory"):
        TrustStore.load(str(tmp_path))


def test_a_malformed_extension_in_a_file() -> None:
    with pytest.raises(ConfigurationError, match="malformed certificate"):
        load_chain(pem(_malformed_extension()))


# -- trust stores ----------------------------------------------------------------------------------


def test_subjects_and_members(tmp_path: Path) -> None:
    one, two = authority("one"), authority("two", number=1)
    file = tmp_path / "ca.pem"
    file.write_bytes(pem(one.certificate, two.certificate, one.certificate))
    store = TrustStore.load(file)
    assert store.certificates == (one.certificate, two.certificate)
    assert store.subjects == (name("one").public_bytes(), name("two").public_bytes())
    assert one.certificate in store
    assert leaf(one).certificate not in store
    assert store.issuers(leaf(two).certificate) == (two.certificate,)
    assert store.issuers(leaf(authority("three", number=2)).certificate) == ()
    assert store == TrustStore.load([one.certificate, two.certificate])


def test_a_store_is_not_empty() -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        TrustStore.load([])


@pytest.fixture
def fresh_system(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    trust._system_store.cache_clear()
    monkeypatch.setattr(trust, "_BUNDLES", ())
    yield monkeypatch
    trust._system_store.cache_clear()


def _paths(cafile: Path | None = None, capath: Path | None = None) -> SimpleNamespace:
    return SimpleNamespace(cafile=cafile and str(cafile), capath=capath and str(capath))


def test_system_trust_from_a_bundle(fresh_system: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = authority()
    bundle = tmp_path / "bundle.crt"
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    bundle.write_bytes(broken + pem(root.certificate) + pem(_malformed_extension()))
    fresh_system.setattr(ssl, "get_default_verify_paths", lambda: _paths(cafile=bundle))
    assert TrustStore.system().certificates == (root.certificate,)
    bundle.unlink()
    assert TrustStore.system().certificates == (root.certificate,), "kept"


def test_system_trust_from_a_well_known_bundle(
    fresh_system: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(pem(authority().certificate))
    fresh_system.setattr(ssl, "get_default_verify_paths", lambda: _paths(cafile=None))
    fresh_system.setattr(trust, "_BUNDLES", (str(tmp_path / "none.pem"), str(bundle)))
    assert len(TrustStore.system().certificates) == 1


def test_system_trust_from_a_directory(fresh_system: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one, two = authority("one"), authority("two", number=1)
    (tmp_path / "inner").mkdir()
    (tmp_path / "12345678.0").write_bytes(pem(one.certificate))
    (tmp_path / "23456789.0").write_bytes(pem(two.certificate))
    (tmp_path / "README").write_bytes(b"no certificate")
    fresh_system.setattr(ssl, "get_default_verify_paths", lambda: _paths(capath=tmp_path))
    assert set(TrustStore.system().certificates) == {one.certificate, two.certificate}


def test_no_system_trust(fresh_system: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for paths in (_paths(), _paths(capath=tmp_path)):
        fresh_system.setattr(ssl, "get_default_verify_paths", lambda paths=paths: paths)
        with pytest.raises(ConfigurationError, match="no trust anchors"):
            TrustStore.system()


def test_an_anchor_with_an_odd_serial_number_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(TrustStore.load(pem(_negative_serial())).certificates) == 1


# -- from peers ------------------------------------------------------------------------------------


def _malformed_extension() -> x509.Certificate:
    bad = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.15"), b"\x03\x00")
    return leaf(None, key_usage=None, more=[(bad, False)]).certificate


def _negative_serial() -> x509.Certificate:
    der = octets(leaf(None, number=0x77).certificate)
    return _quietly(der.replace(b"\x02\x01\x78", b"\x02\x01\xf8", 1))


def _quietly(der: bytes) -> x509.Certificate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x509.load_der_x509_certificate(der)


def _unknown_key() -> bytes:
    """A certificate whose key has an OID nobody knows."""
    der = octets(issue("unknown", "ed25519").certificate)
    return der.replace(bytes.fromhex("06032b6570032100"), bytes.fromhex("06032b6563032100"))


def test_parse_chain() -> None:
    root = authority()
    end = leaf(root)
    der = [octets(end.certificate), octets(root.certificate)]
    assert parse_chain(der) == [end.certificate, root.certificate]
    assert parse_chain(der)[0] is parse_chain(der)[0], "what comes back is not parsed again"
    assert parse_chain([]) == []
    assert len(parse_chain(der * 8)) == 16


def test_a_large_certificate_is_not_kept() -> None:
    large = octets(leaf(None, names=[f"host{n}.example" for n in range(800)]).certificate)
    assert parse_chain([large])[0] is not parse_chain([large])[0]


def test_too_many_certificates() -> None:
    with pytest.raises(CertificateError, match="17 certificates") as caught:
        parse_chain([octets(authority().certificate)] * 17)
    assert caught.value.alert is Alert.bad_certificate


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\x30\x00",
        b"-----BEGIN CERTIFICATE-----",
        octets(authority().certificate)[:-1],
        octets(authority().certificate) + b"\0",
        octets(_malformed_extension()),
    ],
)
def test_malformed_certificates(entry: bytes) -> None:
    for chain in ([entry], [octets(authority().certificate), entry]):
        with pytest.raises(CertificateError) as caught:
            parse_chain(chain)
        assert (caught.value.check, caught.value.alert) == ("encoding", Alert.bad_certificate)


def test_a_certificate_that_the_library_warns_of() -> None:
    """With warnings as errors, a refusal; without, the verifier refuses it."""
    der = octets(_negative_serial())
    with pytest.raises(CertificateError) as caught:
        parse_chain([der])
    assert caught.value.check == "encoding"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chain = parse_chain([der])
    with pytest.raises(CertificateError):
        verify_server_chain(chain, authority().store, "host.example", NOW, ALL_SCHEMES)


@pytest.mark.req("4.5.1-12")
def test_a_key_of_an_unknown_kind_matters_in_the_leaf_alone() -> None:
    with pytest.raises(CertificateError) as caught:
        parse_chain([_unknown_key()])
    assert (caught.value.check, caught.value.alert) == ("algorithm", Alert.unsupported_certificate)
    root = authority()
    chain = parse_chain([octets(leaf(root).certificate), _unknown_key()])
    with pytest.raises(UnsupportedAlgorithm):
        chain[1].public_key()
    assert key_type(chain[1]) is None
    verify_server_chain(chain, root.store, "host.example", NOW, ALL_SCHEMES)


def test_an_issuer_whose_key_is_of_an_unknown_kind() -> None:
    root = authority()
    end = leaf(issue("unknown", "ed25519", ca=True), identifiers=False)
    chain = parse_chain([octets(end.certificate), _unknown_key()])
    with pytest.raises(CertificateError):
        verify_server_chain(chain, root.store, "host.example", NOW, ALL_SCHEMES)
    with pytest.raises(CertificateError) as caught:
        verify_server_chain(chain, TrustStore.load(chain[1:]), "host.example", NOW, ALL_SCHEMES)
    assert (caught.value.check, caught.value.alert) == ("algorithm", Alert.unsupported_certificate)


# -- hostile octets --------------------------------------------------------------------------------

STORE = authority().store


def _survive(entries: list[bytes]) -> None:
    """Everything that a handshake asks of a peer's chain: an answer, or a CertificateError."""
    with contextlib.suppress(CertificateError):
        chain = parse_chain(entries)
        if not chain:
            return
        end = chain[0]
        for scheme in schemes_for_key(end, ALL_SCHEMES):
            assert not verify_signature(end, scheme, b"\x30\x06\x02\x01\x01\x02\x01\x01", b"")
        chain_schemes(chain)
        matches_name(end, "host.example")
        issued_by(chain, STORE.subjects)
        for now in (NOW, datetime.datetime(1999, 1, 1, tzinfo=datetime.UTC)):
            with contextlib.suppress(CertificateError):
                verify_server_chain(chain, STORE, "host.example", now, ALL_SCHEMES)
            with contextlib.suppress(CertificateError):
                verify_client_chain(chain, STORE, now, ALL_SCHEMES)


@given(st.lists(st.binary(max_size=64), max_size=3))
def test_arbitrary_octets(entries: list[bytes]) -> None:
    _survive(entries)


GOOD = {kind: octets(leaf(authority(), kind).certificate) for kind in KINDS}
GOOD["authority"] = octets(authority("middle", issuer=authority(), number=1).certificate)


@given(st.sampled_from(sorted(GOOD)), st.lists(st.integers(0, 2**16), min_size=1, max_size=4))
def test_flipped_bits(kind: str, positions: list[int]) -> None:
    changed = bytearray(GOOD[kind])
    for position in positions:
        at = position % (8 * len(changed))
        changed[at // 8] ^= 1 << at % 8
    _survive([bytes(changed)])
    _survive([GOOD["p256"], bytes(changed)])


@given(st.sampled_from(sorted(GOOD)), st.integers(0, 2**13), st.binary(max_size=8))
def test_octets_replaced(kind: str, position: int, replacement: bytes) -> None:
    good = GOOD[kind]
    at = position % len(good)
    _survive([good[:at] + replacement + good[at + len(replacement) :]])
    _survive([good[:at] + replacement + good[at:]])


def _vectors() -> list[Path]:
    folder = Path(cryptography_vectors.__file__).parent / "x509"
    return sorted(p for p in folder.rglob("*") if p.suffix in (".pem", ".der", ".crt"))


def test_the_certificates_that_the_library_is_tested_with() -> None:
    pattern = re.compile(rb"-----BEGIN CERTIFICATE-----([^-]+)-----END")
    seen = 0
    for file in _vectors():
        text = file.read_bytes()
        found = [base64.b64decode(body) for body in pattern.findall(text)] or [text]
        for entry in found:
            seen += 1
            _survive([entry])
    assert seen > 500
