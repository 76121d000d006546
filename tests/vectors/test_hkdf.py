"""RFC 5869's cases against HKDF implementations that are not the vectors' own."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

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
