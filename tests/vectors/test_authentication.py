"""The asymmetric checks refuse what they should, with no transcript to catch it before them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidSignature

from vectors.vectorlib import library
from vectors.vectorlib.authentication import (
    ecdh,
    public_key_of,
    verify_certificate,
    verify_signature,
)
from vectors.vectorlib.keys import key_problems, public_key_parameters
from vectors.vectorlib.trace import Message, Trace

SIGNED = [
    (name, role)
    for name in library.TRACES
    for role, scheme in library.load(name)["negotiated"]["signature_schemes"].items()
    if scheme
]
CERTIFICATES = {
    row["id"]: bytes.fromhex(row["der"]) for row in library.load("keys")["certificates"]
}


def verify_message(trace: Trace, role: str, **changes: str) -> Message:
    """A CertificateVerify with fields changed."""
    message = trace.message(f"{role}.certificate_verify")
    return replace(message, fields=message.fields | changes)


@pytest.mark.parametrize(("name", "role"), SIGNED)
def test_certificate_verify(name: str, role: str) -> None:
    trace = library.load_trace(name)
    good = verify_message(trace, role)
    verify_signature(trace, good, f"{role}.certificate")
    spoiled = bytearray.fromhex(good.fields["signature"])
    spoiled[-1] ^= 1
    bad = verify_message(trace, role, signature=spoiled.hex())
    with pytest.raises(InvalidSignature):
        verify_signature(trace, bad, f"{role}.certificate")
    bad = verify_message(trace, role, algorithm="0807")
    with pytest.raises(ValueError, match="does not go with"):
        verify_signature(trace, bad, f"{role}.certificate")
    other = "client" if role == "server" else "server"
    with pytest.raises(InvalidSignature):
        verify_signature(trace, replace(good, sender=other), f"{role}.certificate")


@pytest.mark.parametrize("name", CERTIFICATES)
def test_certificate_is_signed_by_itself(name: str) -> None:
    der = CERTIFICATES[name]
    verify_certificate(der)
    with pytest.raises(InvalidSignature):
        verify_certificate(der.replace(b"160730", b"160731", 1))
    assert public_key_parameters(der)["type"] == name.split("-")[1]


@pytest.mark.parametrize("name", library.TRACES)
def test_key_agreement(name: str) -> None:
    trace = library.load_trace(name)
    client, server = trace.key_pairs("client")[-1], trace.key_pairs("server")[-1]
    shared = trace.secrets()["shared_secret"]
    for mine, other in ((client, server), (server, client)):
        assert public_key_of(mine.group, mine.private_key) == mine.public_key
        assert ecdh(mine.group, mine.private_key, other.public_key) == shared
        wrong = bytes([mine.private_key[0] ^ 0x40]) + mine.private_key[1:]
        assert ecdh(mine.group, wrong, other.public_key) != shared


@pytest.mark.parametrize(
    ("name", "blamed"),
    [
        ("prime2", "modulus"),
        ("private_exponent", "private_exponent"),
        ("exponent1", "exponent1"),
        ("exponent2", "exponent2"),
        ("coefficient", "coefficient"),
    ],
)
def test_rsa_key_must_add_up(name: str, blamed: str) -> None:
    keys = library.load("keys")
    key = keys["rsa_private_key"]
    key[name] = f"{int(key[name], 16) + 1:0{len(key[name])}x}"
    paths = [problem.path for problem in key_problems(keys, library.Library().traces())]
    assert f"rsa_private_key.{blamed}" in paths
