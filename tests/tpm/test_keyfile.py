"""TSS2 key files: what we write is what we read, and nothing malformed gets further than here."""

from __future__ import annotations

import base64
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpmtls.backends.tpm import public
from tpmtls.backends.tpm.constants import CommandCode, Curve
from tpmtls.backends.tpm.frames import sized
from tpmtls.backends.tpm.keyfile import BEGIN, END, KeyFile, PolicyStep, is_key_file
from tpmtls.backends.tpm.public import Point
from tpmtls.violations import ConfigurationError

AREA = public.ecdh_key(Curve.NIST_P256, Point(bytes(32), bytes(32)))
KEY = KeyFile(AREA, b"private", empty_auth=True)
STEP = PolicyStep(CommandCode.PolicyPCR, b"\0\0\0\0\0\1\0\x0b\3\1\0\0")


def element(tag: int, *parts: bytes) -> bytes:
    """DER, written another way than the reader's own writer."""
    content = b"".join(parts)
    size = len(content)
    head = bytes((size,)) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    if 128 <= size < 256:
        head = b"\x81" + bytes((size,))
    return bytes((tag,)) + head + content


OID = element(6, bytes.fromhex("6781050a0103"))
TRUE = element(0xA0, element(1, b"\xff"))
PARENT = element(2, bytes.fromhex("40000001"))
BLOBS = element(4, sized(AREA)) + element(4, sized(b"private"))


def pem(*fields: bytes, tag: int = 0x30) -> bytes:
    return BEGIN + b"\n" + base64.b64encode(element(tag, *fields)) + b"\n" + END + b"\n"


def test_a_file_has_the_structure_of_the_draft() -> None:
    assert KEY.der() == element(0x30, OID, TRUE, PARENT, BLOBS)
    policy = element(
        0x30,
        element(0xA0, element(2, b"\x01\x7f")),
        element(0xA1, element(4, STEP.parameters)),
    )
    guarded = KeyFile(AREA, b"private", 0x81000001, False, (STEP,))
    assert guarded.der() == element(
        0x30,
        OID,
        element(0xA0, element(1, b"\0")),
        element(0xA1, element(0x30, policy)),
        element(2, bytes.fromhex("0081000001")),
        BLOBS,
    )


@given(
    st.binary(max_size=300),
    st.sampled_from((0x40000001, 0x40000007, 0x4000000B, 0x81000001, 0x81FFFFFF)),
    st.sampled_from((None, False, True)),
    st.lists(st.builds(PolicyStep, st.just(CommandCode.PolicyPCR), st.binary(max_size=200))),
)
def test_what_is_written_is_read(
    private: bytes, parent: int, empty: bool | None, steps: list[PolicyStep]
) -> None:
    key = KeyFile(AREA, private, parent, empty, tuple(steps))
    assert KeyFile.parse(key.pem()) == key
    assert is_key_file(key.pem())


def test_text_around_the_pem_does_not_matter() -> None:
    assert KeyFile.parse(b"a comment\r\n" + KEY.pem().replace(b"\n", b"\r\n") + b"more") == KEY


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((element(0xA0, element(1, b"\x01")), PARENT), {"empty_auth": True}),  # as OpenSSL's i2d
        ((PARENT,), {"empty_auth": None}),
        ((element(2, b"\0"),), {"parent": 0x40000001}),
        ((element(0xA4, element(12, b"mine")), PARENT), {}),
        ((element(0xA5, element(1, b"\0")), PARENT), {}),
    ],
)
def test_what_others_write(fields: tuple[bytes, ...], expected: dict[str, Any]) -> None:
    read = KeyFile.parse(pem(OID, *fields, BLOBS))
    assert read.area == AREA
    for name, value in expected.items():
        assert getattr(read, name) == value


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (b"", "BEGIN line"),
        (BEGIN + b"\nMAA=\n", "END line"),
        (BEGIN + b"\n!\n" + END, "not Base64"),
        (BEGIN + b"\n" + END, "0x30"),
        (pem(), "no type"),
        (pem(PARENT), "no type"),
        (pem(OID, PARENT, BLOBS, tag=0x31), "0x30"),
        (pem(OID, PARENT), "not those of a TPMKey"),
        (pem(OID, TRUE, TRUE, PARENT, BLOBS), "not those of a TPMKey"),
        (pem(OID, element(0xA4), TRUE, PARENT, BLOBS), "not those of a TPMKey"),
        (pem(OID, PARENT, BLOBS, BLOBS), "not those of a TPMKey"),
        (pem(OID, element(2, b"\x02\0\0\0"), BLOBS), "neither a hierarchy"),
        (pem(OID, element(2, b"\x81\0\0\1"), BLOBS), "neither a hierarchy"),  # negative
        (pem(OID, element(0xA0, element(1, b"")), PARENT, BLOBS), "one octet"),
        (pem(OID, element(0xA0, element(2, b"\0")), PARENT, BLOBS), "0x01"),
        (pem(element(6, bytes.fromhex("6781050a0105")), PARENT, BLOBS), "sealed data"),
        (pem(element(6, bytes.fromhex("6781050a0104")), PARENT, BLOBS), "an importable key"),
        (pem(element(6, b"\x2a"), PARENT, BLOBS), "does not know"),
        (pem(OID, element(0xA3, b""), PARENT, BLOBS), "authPolicy"),
        (pem(OID, element(0xA2, b""), PARENT, BLOBS), "secret"),
        (pem(OID, element(0xA9, b""), PARENT, BLOBS), "field 0xa9"),
        (pem(OID, element(0xA5, element(1, b"\xff")), PARENT, BLOBS), "RSA parent"),
        (pem(OID, element(0xA1, element(0x30, TRUE)), PARENT, BLOBS), "list of TPMPolicy"),
        (pem(OID, PARENT, element(4, AREA), element(4, sized(b""))), "damaged"),
        (pem(OID, PARENT, element(4, sized(b"\0\x08")), element(4, sized(b""))), "damaged"),
        (pem(OID, PARENT, element(4, sized(AREA)), element(4, b"\0")), "damaged"),
    ],
)
def test_malformed_files_are_refused_in_one_line(file: bytes, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        KeyFile.parse(file)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_policy_is_refused_by_its_command() -> None:
    key = KeyFile(AREA, b"", policy=(PolicyStep(0x160, b""),))
    with pytest.raises(ConfigurationError, match=r"command 0x160, which is not supported; .*PCR"):
        KeyFile.parse(key.pem())


@given(st.data())
def test_no_cut_and_no_changed_octet_escapes_as_another_error(data: st.DataObject) -> None:
    der = bytearray(KeyFile(AREA, b"p" * 130, policy=(STEP,)).der())
    at = data.draw(st.integers(0, len(der) - 1))
    if data.draw(st.booleans()):
        del der[at:]
    else:
        der[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ConfigurationError):
        KeyFile.parse(BEGIN + base64.b64encode(der) + END)


def test_lengths_must_be_in_their_shortest_form() -> None:
    for length in (b"\x81\x05", b"\x82\x00\x85", b"\x80", b"\x85\0\0\0\0\x05"):
        octets = BEGIN + base64.b64encode(b"\x30" + length + bytes(200)) + END
        with pytest.raises(ConfigurationError, match="shortest form"):
            KeyFile.parse(octets)


def test_the_private_part_is_not_shown() -> None:
    assert "b'private'" not in repr(KEY)
