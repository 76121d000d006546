"""What the code points stand for: sizes and limits, checked against names and standards."""

from __future__ import annotations

import math

import pytest

from tpmtls.algorithms import (
    GROUPS,
    SCHEMES,
    SHA256,
    SHA384,
    SHA512,
    SUITES,
    HashAlgorithm,
    SuiteParameters,
)
from tpmtls.codepoints import CipherSuite, NamedGroup, SignatureScheme

S = SignatureScheme


@pytest.mark.parametrize(("algorithm", "size"), [(SHA256, 32), (SHA384, 48), (SHA512, 64)])
def test_hashes(algorithm: HashAlgorithm, size: int) -> None:
    assert algorithm.digest_size == size
    assert algorithm.empty_digest == algorithm.digest(b"")
    assert len(algorithm.digest(b"abc")) == size


def test_a_known_digest() -> None:
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert SHA256.digest(b"abc").hex() == known  # FIPS 180-4, B.1


def test_every_suite_has_parameters() -> None:
    assert set(SUITES) == set(CipherSuite)


@pytest.mark.parametrize("row", SUITES.values(), ids=str)
def test_a_suite_is_what_its_name_says(row: SuiteParameters) -> None:
    name = row.suite.name
    assert name.endswith(row.hash.name.upper())
    cipher = name.removeprefix("TLS_").rpartition("_")[0]
    if row.aead == "chacha20-poly1305":
        assert (cipher, row.key_length) == ("CHACHA20_POLY1305", 32)
    else:
        expected = f"AES_{row.key_length * 8}_{row.aead.removeprefix('aes-').upper()}"
        assert cipher == expected + ("_8" if row.tag_length == 8 else "")
    assert row.tag_length == (8 if name.endswith("_CCM_8_SHA256") else 16)
    assert row.iv_length == 12  # max(8, N_MIN) of each of these AEADs


@pytest.mark.req("5.5-1")
def test_limits_on_key_usage() -> None:
    limits = {row.aead: row.record_limit for row in SUITES.values()}
    assert limits["aes-gcm"] <= 2**24.5 < limits["aes-gcm"] + 1
    assert limits["aes-ccm"] < limits["aes-gcm"]
    assert math.log2(limits["chacha20-poly1305"] + 1) == 64


def test_groups() -> None:
    sizes = {
        row.group.name: (row.client_share, row.server_share, row.shared_secret)
        for row in GROUPS.values()
    }
    assert sizes == {
        # an uncompressed point: one octet and two coordinates (RFC 9846 §4.3.8.2)
        "secp256r1": (65, 65, 32),
        "secp384r1": (97, 97, 48),
        "secp521r1": (133, 133, 66),
        "x25519": (32, 32, 32),
        "x448": (56, 56, 56),
        # ML-KEM-768 (FIPS 203, table 3), then X25519
        "X25519MLKEM768": (1216, 1120, 64),
    }
    assert all(GROUPS[NamedGroup[name]].group.name == name for name in sizes)


@pytest.mark.req("4.3.3-21")
def test_no_scheme_rests_on_sha_1_or_on_dsa() -> None:
    assert set(SignatureScheme) - set(SCHEMES) == {S.rsa_pkcs1_sha1, S.ecdsa_sha1}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_is_what_its_name_says(scheme: SignatureScheme) -> None:
    row = SCHEMES[scheme]
    family, _, rest = scheme.name.partition("_")
    digest: str | None
    match family:
        case "rsa":
            padding, digest = rest.split("_")[0], rest.rpartition("_")[2]
            key_type = "rsa-pss" if rest.startswith("pss_pss") else "rsa"
            assert (row.padding, row.key_type) == (padding, key_type)
        case "ecdsa":
            curve, _, digest = rest.partition("_")
            assert (row.padding, row.key_type) == (None, curve)
        case _:
            digest = None
            assert (row.padding, row.key_type) == (None, scheme.name)
    assert (row.hash and row.hash.name) == digest


@pytest.mark.req("4.3.3-6")
def test_pkcs1_is_for_certificates_only() -> None:
    assert {s for s in SCHEMES if not SCHEMES[s].signs_handshakes} == {
        S.rsa_pkcs1_sha256,
        S.rsa_pkcs1_sha384,
        S.rsa_pkcs1_sha512,
    }
