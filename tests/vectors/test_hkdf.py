"""RFC 5869's cases against HKDF implementations that are not the vectors' own."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from tpmtls.algorithms import SHA256
from tpmtls.backends.software import SoftwareBackend, SoftwareSecret
from vectors.vectorlib import library

HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha1": hashes.SHA1(),
}
CASES = library.load("hkdf")["cases"]


@pytest.fixture(params=CASES, ids=lambda case: f"case-{case['id']}")
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    """One of the seven."""
    found: dict[str, Any] = request.param
    return found


def octets(case: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(case[name] or "")


@pytest.mark.row(what="HKDF, 7 cases", against="cryptography")
def test_cryptography(case: dict[str, Any]) -> None:
    algorithm = HASHES[case["hash"]]
    extract = hmac.HMAC(octets(case, "salt") or bytes(algorithm.digest_size), algorithm)
    extract.update(octets(case, "ikm"))
    assert extract.finalize() == octets(case, "prk")
    expand = HKDFExpand(algorithm, case["length"], octets(case, "info"))
    assert expand.derive(octets(case, "prk")) == octets(case, "okm")
    salt = None if case["salt"] is None else octets(case, "salt")
    both = HKDF(algorithm, case["length"], salt, octets(case, "info"))
    assert both.derive(octets(case, "ikm")) == octets(case, "okm")


@pytest.mark.row(what="HKDF-Extract, cases with SHA-256", against="RFC 5869")
@pytest.mark.parametrize("number", [case["id"] for case in CASES if case["hash"] == "sha256"])
def test_reference(number: int) -> None:
    """The reference has no bare HKDF-Expand: the replay sees to HKDF-Expand-Label."""
    case = next(case for case in CASES if case["id"] == number)
    ikm = SoftwareSecret("ikm", octets(case, "ikm"), None)
    salt = SoftwareSecret("salt", octets(case, "salt"), None) if case["salt"] else None
    backend = SoftwareBackend()
    prk = backend.extract(SHA256, salt, ikm, "prk")
    assert backend.reveal(prk, "test") == octets(case, "prk")
