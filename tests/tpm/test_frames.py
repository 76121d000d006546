"""Frames: octet for octet what tpm2-tss sends, the seam for sessions, responses taken apart."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.tpm.fakes import Scripted, response
from tpmtls.backends.tpm import commands, public
from tpmtls.backends.tpm.constants import Alg, Attribute, Capability, Curve
from tpmtls.backends.tpm.device import Device
from tpmtls.backends.tpm.frames import (
    NULL_HIERARCHY,
    OWNER,
    Command,
    Entity,
    Reader,
    decode,
    encode,
    only,
    permanent,
    sized,
)
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.public import Point, Public, parse_public
from tpmtls.violations import TpmUnavailable

KEY = Entity(0x80000001, b"a name", b"a password")


# -- against tpm2-tss ------------------------------------------------------------------------------


@pytest.mark.usefixtures("need_pytss")
def test_our_frames_are_those_of_tpm2_tss(libtpms: Tpm) -> None:
    from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2_CAP

    area = public.ecdsa_key(Curve.NIST_P256)
    with libtpms.device.recording() as recorder, libtpms.esapi() as esapi:
        esapi.get_random(20)
        esapi.get_capability(TPM2_CAP.ECC_CURVES, 0, 10)
        esapi.hash(b"data", TPM2_ALG.SHA384, ESYS_TR.OWNER)
        key, *_ = esapi.create_primary(_sensitive(b"password"), _theirs(area), ESYS_TR.OWNER)
        esapi.tr_set_auth(key, b"password")
        esapi.read_public(key)
        esapi.context_save(key)
        esapi.flush_context(key)
        esapi.shutdown(0)
    key_entity = Entity(0x80000000, b"")
    expected: list[Command[Any]] = [
        commands.get_random(20),
        commands.get_capability(Capability.ECC_CURVES, 0, 10),
        commands.hash_data(b"data", Alg.SHA384, OWNER),
        commands.create_primary(area, hierarchy=OWNER, password=b"password"),
        commands.read_public(key_entity),
        commands.context_save(key_entity),
        commands.flush_context(0x80000000),
        commands.shutdown(),
    ]
    sent = [exchange.command for exchange in recorder.exchanges]
    for command in expected:
        assert encode(command, None) in sent, command


@pytest.mark.usefixtures("need_pytss")
def test_our_uses_of_keys_are_those_of_tpm2_tss(libtpms: Tpm) -> None:
    from tpm2_pytss import TPM2B_ECC_POINT, TPM2B_SENSITIVE_CREATE, TPMS_ECC_POINT

    area = public.ecdh_key(Curve.NIST_P256, Point(b"unique", b""))
    with libtpms.device.recording() as recorder, libtpms.esapi() as esapi:
        key, theirs, *_ = esapi.create_primary(TPM2B_SENSITIVE_CREATE(), _theirs(area))
        point = theirs.publicArea.unique.ecc
        esapi.ecdh_zgen(key, TPM2B_ECC_POINT(TPMS_ECC_POINT(x=point.x, y=point.y)))
        esapi.ecdh_key_gen(key)
        esapi.flush_context(key)
    peer = Point(bytes(point.x.buffer), bytes(point.y.buffer))
    ours = Entity(0x80000000, b"")
    sent = [exchange.command for exchange in recorder.exchanges]
    assert encode(commands.create_primary(area, hierarchy=OWNER), None) in sent
    assert encode(commands.ecdh_zgen(ours, peer), None) in sent
    assert encode(commands.ecdh_keygen(ours), None) in sent


def _sensitive(password: bytes) -> Any:
    from tpm2_pytss import TPM2B_SENSITIVE_CREATE, TPMS_SENSITIVE_CREATE

    return TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(userAuth=password))


def _theirs(area: bytes) -> Any:
    from tpm2_pytss import TPM2B_PUBLIC, TPMT_PUBLIC

    public_area, _ = TPMT_PUBLIC.unmarshal(area)
    return TPM2B_PUBLIC(publicArea=public_area)


TEMPLATES = [
    public.hmac_key(Alg.SHA384),
    public.aes_key(256),
    public.ecdh_peer(Curve.NIST_P384, Point(b"x", b"y")),
    public.ecdh_key(Curve.NIST_P521, Point(b"unique", b"")),
    public.ecdsa_key(Curve.NIST_P256),
    public.rsa_key(),
    public.rsa_key(3072, decrypt=True),
    public.rsa_external(bytes(256)),
]


@pytest.mark.usefixtures("need_pytss")
@pytest.mark.parametrize("area", TEMPLATES, ids=range(len(TEMPLATES)))
def test_our_templates_survive_tpm2_pytss(area: bytes) -> None:
    assert _theirs(area).publicArea.marshal() == area


@pytest.mark.parametrize("area", TEMPLATES, ids=range(len(TEMPLATES)))
def test_every_template_sets_no_da(area: bytes) -> None:
    assert int.from_bytes(area[4:8], "big") & Attribute.NO_DA


# -- public areas ----------------------------------------------------------------------------------


def test_parse_an_ecc_area() -> None:
    area = parse_public(public.ecdh_key(Curve.NIST_P256, Point(b"x", b"y")))
    assert area == Public(
        Alg.ECC, Alg.SHA256, area.attributes, b"", None, None, 3, Point(b"x", b"y"), 0, b""
    )
    assert area.has(Attribute.NO_DA)
    assert not area.has(Attribute.RESTRICTED)


def test_parse_an_rsa_area() -> None:
    area = parse_public(public.rsa_external(b"m" * 256))
    assert (area.kind, area.exponent, area.modulus) == (Alg.RSA, 65537, b"m" * 256)
    assert area.curve is None


def _rsa_with(scheme: bytes) -> bytes:
    head = public.rsa_key()[:10]
    return head + b"\0\x10" + scheme + (2048).to_bytes(2, "big") + bytes(4) + b"\0\0"


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        (b"\0\x16\0\x0b", (Alg.RSAPSS, Alg.SHA256)),
        (b"\0\x14\0\x0c", (Alg.RSASSA, Alg.SHA384)),
        (b"\0\x15", (Alg.RSAES, None)),
        (b"\0\x10", (None, None)),
    ],
)
def test_parse_the_scheme_that_a_key_insists_on(
    scheme: bytes, expected: tuple[int | None, int | None]
) -> None:
    area = parse_public(_rsa_with(scheme))
    assert (area.scheme, area.scheme_hash) == expected


def test_parse_a_storage_key() -> None:
    head = public.ecdsa_key(Curve.NIST_P256)[:10]
    area = parse_public(head + b"\0\6\0\x80\0\x43\0\x10\0\3\0\x10\0\1x\0\1y")
    assert area.point == Point(b"x", b"y")


@pytest.mark.parametrize(
    ("area", "reason"),
    [
        (public.hmac_key(Alg.SHA256), "neither an ECC nor an RSA key"),
        (_rsa_with(b"\0\x1a\0\x0b\0\0"), "ECDAA"),
    ],
)
def test_refuse_other_areas(area: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_public(area)


def test_refuse_an_area_cut_short() -> None:
    area = public.rsa_external(b"m" * 256)
    for length in range(len(area)):
        with pytest.raises((TpmUnavailable, ValueError)):
            parse_public(area[:length])
    with pytest.raises(TpmUnavailable):
        parse_public(area + b"\0")


def test_points_are_padded() -> None:
    assert Point(b"\1", b"\2\3").uncompressed(3) == b"\4\0\0\1\0\2\3"
    assert Point.from_uncompressed(b"\4\0\0\1\0\2\3") == Point(b"\0\0\1", b"\0\2\3")


# -- authorizations --------------------------------------------------------------------------------


def test_a_command_without_authorization() -> None:
    frame = encode(commands.read_public(KEY), None)
    assert frame == bytes.fromhex("8001 0000000e 00000173 80000001")


def test_a_password() -> None:
    frame = encode(commands.hmac(KEY, b"d", Alg.SHA256), None)
    assert frame == bytes.fromhex(
        "8002 0000002a 00000155 80000001 00000013 40000009 0000 00 000a"
    ) + b"a password" + bytes.fromhex("0001 64 000b")


def test_two_passwords_one_empty() -> None:
    command = Command(0x137, (KEY, OWNER), b"parameters", bytes, authorized=2)
    area = bytes.fromhex("40000009 0000 00 000a") + b"a password"
    area += bytes.fromhex("40000009 0000 00 0000")
    assert encode(command, None).endswith(len(area).to_bytes(4, "big") + area + b"parameters")


class Reversed:
    """A session as a test sees one: what it sends and what it takes is written backwards."""

    def __init__(self) -> None:
        self.areas: list[bytes] = []

    def seal(self, command: Command[Any]) -> tuple[bytes, bytes]:
        return b"area", command.parameters[::-1]

    def open(self, command: Command[Any], parameters: bytes, area: bytes) -> bytes:
        self.areas.append(area)
        return parameters[::-1]


def test_an_authorization_sees_parameters_both_ways() -> None:
    session = Reversed()
    command = commands.get_random(2)
    assert encode(command, session) == bytes.fromhex("8002 00000014 0000017b 00000004") + (
        b"area" + b"\2\0"
    )
    answer = response(0, bytes.fromhex("00000004") + b"ba\2\0" + b"their area", tag=0x8002)
    assert decode(command, session, answer) == (0, b"\0\2ab")
    assert session.areas == [b"their area"]


def test_an_authorization_reaches_the_tpm_by_way_of_the_device() -> None:
    answer = response(0, bytes.fromhex("00000004") + b"ba\2\0" + b"their area", tag=0x8002)
    device = Device(Scripted([answer]))
    assert device.execute(commands.get_random(2), Reversed()) == b"ab"


# -- responses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [b"", b"\0", b"\0\2a", b"\0\1ab"])
def test_only_one_buffer(parameters: bytes) -> None:
    with pytest.raises(TpmUnavailable, match="malformed"):
        only(parameters)


def test_reader() -> None:
    reader = Reader(b"\1" + sized(b"ab") + b"rest")
    assert (reader.integer(1), reader.sized(), reader.rest) == (1, b"ab", b"rest")
    with pytest.raises(TpmUnavailable, match="malformed"):
        reader.end()
    with pytest.raises(TpmUnavailable, match="malformed"):
        reader.take(5)


@pytest.mark.parametrize(
    "command",
    [
        commands.startup(),
        commands.context_load(b"context"),
        commands.get_capability(Capability.ALGS, 0, 1),
        commands.create_primary(b""),
        commands.create(OWNER, b""),
        commands.read_public(KEY),
        commands.ecdh_zgen(KEY, Point(b"", b"")),
        commands.sign(KEY, b"", Alg.ECDSA, Alg.SHA256),
        commands.encrypt_decrypt2(KEY, b"", Alg.ECB),
        commands.hmac(KEY, b"", Alg.SHA256),
    ],
    ids=repr,
)
def test_a_malformed_response_is_no_answer(command: Command[Any]) -> None:
    with pytest.raises(TpmUnavailable, match="malformed"):
        command.parse(b"\x7f" + os.urandom(4))


def test_an_unknown_capability_is_no_answer() -> None:
    with pytest.raises(TpmUnavailable, match="malformed"):
        commands.get_capability(Capability.ALGS, 0, 1).parse(b"\0\0\0\0\x63\0\0\0\0")


# -- what is shown ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "thing",
    [
        commands.load_hmac_key(b"SECRET", Alg.SHA256),
        commands.hmac(KEY, b"SECRET", Alg.SHA256),
        Entity(0x80000000, b"", b"SECRET"),
        permanent(0x40000001, b"SECRET"),
    ],
    ids=repr,
)
def test_no_secret_is_shown(thing: object) -> None:
    for shown in (repr(thing), str(thing)):
        assert "SECRET" not in shown
        assert "0x" in shown or "TPM2_" in shown


def test_the_hierarchies_are_named_by_their_handles() -> None:
    assert NULL_HIERARCHY.name == bytes.fromhex("40000007")
    assert OWNER.name == bytes.fromhex("40000001")
