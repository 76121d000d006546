"""Every command, on both TPMs, against what `cryptography` and hashlib make of the same inputs."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.tpm.conftest import transient
from tpmtls.backends.tpm import commands, public
from tpmtls.backends.tpm.constants import (
    HASHES,
    MODES,
    Alg,
    Attribute,
    Capability,
    CommandCode,
    Curve,
    ResponseCode,
)
from tpmtls.backends.tpm.frames import NULL_HIERARCHY, OWNER
from tpmtls.backends.tpm.objects import TpmObject
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.public import Point, parse_public
from tpmtls.backends.tpm.responses import TpmResponseError
from tpmtls.violations import TpmAuthError, TpmLacks

CURVES: dict[Curve, ec.EllipticCurve] = {
    Curve.NIST_P256: ec.SECP256R1(),
    Curve.NIST_P384: ec.SECP384R1(),
    Curve.NIST_P521: ec.SECP521R1(),
}
DIGESTS: dict[Alg, hashes.HashAlgorithm] = {
    Alg.SHA256: hashes.SHA256(),
    Alg.SHA384: hashes.SHA384(),
    Alg.SHA512: hashes.SHA512(),
}
SOFTWARE_MODES: dict[Alg, Callable[[bytes], modes.ECB | modes.CTR | modes.CBC]] = {
    Alg.ECB: lambda iv: modes.ECB(),
    Alg.CTR: modes.CTR,
    Alg.CBC: modes.CBC,
}


def software_public(curve: Curve, point: Point) -> ec.EllipticCurvePublicKey:
    octets = point.uncompressed(curve.size)
    return ec.EllipticCurvePublicKey.from_encoded_point(CURVES[curve], octets)


def point_of(key: ec.EllipticCurvePrivateKey, curve: Curve) -> Point:
    numbers = key.public_key().public_numbers()
    return Point(numbers.x.to_bytes(curve.size, "big"), numbers.y.to_bytes(curve.size, "big"))


# -- HMAC ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HASHES)
@pytest.mark.parametrize("key_size", [0, 1, 32, 48, 64])
@pytest.mark.parametrize("data_size", [0, 54, 1024])
def test_hmac(tpm: Tpm, name: str, key_size: int, data_size: int) -> None:
    secret, data = os.urandom(key_size), os.urandom(data_size)
    with tpm.load(commands.load_hmac_key(secret, HASHES[name])) as key:
        assert tpm.run(commands.hmac(key, data, HASHES[name])) == hmac.digest(secret, data, name)


def test_an_hmac_key_longer_than_the_block_is_refused(tpm: Tpm) -> None:
    with pytest.raises(TpmResponseError, match="TPM2_LoadExternal: TPM_RC_KEY_SIZE"):
        tpm.load(commands.load_hmac_key(bytes(65), Alg.SHA256))


def test_more_than_the_input_buffer_is_refused(tpm: Tpm) -> None:
    with tpm.load(commands.load_hmac_key(bytes(32), Alg.SHA256)) as key:
        with pytest.raises(TpmResponseError, match="TPM_RC_SIZE") as caught:
            tpm.run(commands.hmac(key, bytes(1025), Alg.SHA256))
        assert caught.value.command == CommandCode.HMAC


# -- AES -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("mode", SOFTWARE_MODES)
@pytest.mark.parametrize("length", [16, 1024])
def test_aes(tpm: Tpm, size: int, mode: Alg, length: int) -> None:
    secret, data = os.urandom(size), os.urandom(length)
    iv = b"" if mode is Alg.ECB else os.urandom(16)
    cipher = Cipher(algorithms.AES(secret), SOFTWARE_MODES[mode](iv))
    encryptor = cipher.encryptor()
    with tpm.load(commands.load_aes_key(secret)) as key:
        sealed, _ = tpm.run(commands.encrypt_decrypt2(key, data, mode, iv))
        assert sealed == encryptor.update(data) + encryptor.finalize()
        opened, _ = tpm.run(commands.encrypt_decrypt2(key, sealed, mode, iv, decrypt=True))
        assert opened == data


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode is not Alg.ECB])
def test_aes_goes_on_where_it_stopped(tpm: Tpm, mode: Alg) -> None:
    data, iv = os.urandom(64), os.urandom(16)
    with tpm.load(commands.load_aes_key(os.urandom(16))) as key:
        whole, _ = tpm.run(commands.encrypt_decrypt2(key, data, mode, iv))
        first, middle = tpm.run(commands.encrypt_decrypt2(key, data[:32], mode, iv))
        second, _ = tpm.run(commands.encrypt_decrypt2(key, data[32:], mode, middle))
        assert first + second == whole


# -- ECDH ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", CURVES)
def test_ecdh_zgen(tpm: Tpm, curve: Curve) -> None:
    peer = ec.generate_private_key(CURVES[curve])
    with tpm.load(commands.create_ecdh_key(curve)) as key:
        ours = software_public(curve, parse_public(key.public).point)
        shared = tpm.run(commands.ecdh_zgen(key, point_of(peer, curve)))
    assert shared.x.rjust(curve.size, b"\0") == peer.exchange(ec.ECDH(), ours)


@pytest.mark.parametrize("curve", CURVES)
def test_ecdh_keygen(tpm: Tpm, curve: Curve) -> None:
    peer = ec.generate_private_key(CURVES[curve])
    with tpm.load(commands.load_ecdh_peer(curve, point_of(peer, curve))) as loaded:
        shared, ours = tpm.run(commands.ecdh_keygen(loaded))
    expected = peer.exchange(ec.ECDH(), software_public(curve, ours))
    assert shared.x.rjust(curve.size, b"\0") == expected


def test_each_ephemeral_key_is_another(tpm: Tpm) -> None:
    with (
        tpm.load(commands.create_ecdh_key(Curve.NIST_P256)) as one,
        tpm.load(commands.create_ecdh_key(Curve.NIST_P256)) as two,
    ):
        assert parse_public(one.public).point != parse_public(two.public).point


def test_a_constant_template_gives_a_constant_key(tpm: Tpm) -> None:
    """Why `unique` is random: this is what happens when it is not."""
    area = public.ecdh_key(Curve.NIST_P256, Point(bytes(32), b""))
    with (
        tpm.load(commands.create_primary(area)) as one,
        tpm.load(commands.create_primary(area)) as two,
    ):
        assert parse_public(one.public).point == parse_public(two.public).point


def test_a_point_off_the_curve_is_refused(tpm: Tpm) -> None:
    off = Point(bytes(31) + b"\1", bytes(31) + b"\1")
    with pytest.raises(TpmResponseError) as caught:
        tpm.load(commands.load_ecdh_peer(Curve.NIST_P256, off))
    assert caught.value.code == ResponseCode.ECC_POINT
    with tpm.load(commands.create_ecdh_key(Curve.NIST_P256)) as key:
        with pytest.raises(TpmResponseError) as caught:
            tpm.run(commands.ecdh_zgen(key, off))
        assert caught.value.code == ResponseCode.ECC_POINT


def test_an_unknown_curve_is_lacking(tpm: Tpm) -> None:
    with pytest.raises(TpmLacks, match=r"TPM2_LoadExternal: TPM_RC_CURVE .*choose another"):
        tpm.load(commands.load_external(public.ecdh_peer(0x7F, Point(b"1", b"2"))))


# -- signatures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("algorithm", DIGESTS)
def test_ecdsa(tpm: Tpm, curve: Curve, algorithm: Alg) -> None:
    digest = os.urandom(DIGESTS[algorithm].digest_size)
    with tpm.load(commands.create_primary(public.ecdsa_key(curve))) as key:
        signature = tpm.run(commands.sign(key, digest, Alg.ECDSA, algorithm))
        verifier = software_public(curve, parse_public(key.public).point)
    assert (signature.scheme, signature.hash) == (Alg.ECDSA, algorithm)
    verifier.verify(signature.encoded(), digest, ec.ECDSA(Prehashed(DIGESTS[algorithm])))


@pytest.fixture(scope="session")
def rsa_private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def external_rsa(private: rsa.RSAPrivateKey) -> Any:
    numbers = private.private_numbers()
    modulus = numbers.public_numbers.n.to_bytes(256, "big")
    return commands.load_rsa_key(modulus, numbers.p.to_bytes(128, "big"))


def test_rsa_pss(tpm: Tpm, rsa_private: rsa.RSAPrivateKey) -> None:
    digest = os.urandom(32)
    with tpm.load(external_rsa(rsa_private)) as key:
        signature = tpm.run(commands.sign(key, digest, Alg.RSAPSS, Alg.SHA256))
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)
    rsa_private.public_key().verify(signature.encoded(), digest, scheme, Prehashed(hashes.SHA256()))


def test_rsa_decrypt_is_the_bare_operation(tpm: Tpm) -> None:
    """What a PSS signature over host padding needs."""
    with tpm.load(commands.create_primary(public.rsa_key(decrypt=True))) as key:
        area = parse_public(key.public)
        number = b"\0" + os.urandom(255)
        result = tpm.run(commands.rsa_decrypt(key, number))
    modulus = int.from_bytes(area.modulus, "big")
    assert pow(int.from_bytes(result, "big"), area.exponent, modulus) == int.from_bytes(number)


def test_a_restricted_key_signs_what_the_tpm_hashed(tpm: Tpm) -> None:
    restricted = _with(public.ecdsa_key(Curve.NIST_P256), Attribute.RESTRICTED)
    data = b"\x20" * 64 + b"TLS 1.3, server CertificateVerify\0" + os.urandom(32)
    with tpm.load(commands.create_primary(restricted, hierarchy=OWNER)) as key:
        digest, ticket = tpm.run(commands.hash_data(data, Alg.SHA256, OWNER))
        assert digest == hashlib.sha256(data).digest()
        with pytest.raises(TpmResponseError, match="TPM_RC_TICKET"):
            tpm.run(commands.sign(key, digest, Alg.ECDSA, Alg.SHA256))
        signature = tpm.run(commands.sign(key, digest, Alg.ECDSA, Alg.SHA256, ticket))
        verifier = software_public(Curve.NIST_P256, parse_public(key.public).point)
    verifier.verify(signature.encoded(), data, ec.ECDSA(hashes.SHA256()))


def _with(area: bytes, attribute: Attribute) -> bytes:
    """The same area with one attribute more; a restricted signing key also fixes its scheme."""
    attributes = int.from_bytes(area[4:8], "big") | attribute
    free = b"\0\x10\0\x10\0\3\0\x10"
    fixed = b"\0\x10\0\x18\0\x0b\0\3\0\x10"
    return area[:4] + attributes.to_bytes(4, "big") + area[8:].replace(free, fixed, 1)


# -- passwords -------------------------------------------------------------------------------------


def test_a_password_is_asked_for(tpm: Tpm) -> None:
    command = commands.create_primary(public.ecdsa_key(Curve.NIST_P256), password=b"open sesame")
    sign = commands.sign
    with tpm.load(command, password=b"open sesame") as key:
        tpm.run(sign(key, bytes(32), Alg.ECDSA, Alg.SHA256))
        key.auth = b"open barley"
        with pytest.raises(TpmAuthError, match=r"TPM2_Sign: TPM_RC_BAD_AUTH .*check the key's"):
            tpm.run(sign(key, bytes(32), Alg.ECDSA, Alg.SHA256))


def test_wrong_passwords_lock_nothing(tpm: Tpm) -> None:
    """NoDA: the owner's other keys must stay usable."""
    command = commands.create_primary(public.ecdsa_key(Curve.NIST_P256), password=b"right")
    with tpm.load(command, password=b"wrong") as key:
        for _ in range(40):
            with pytest.raises(TpmAuthError, match="BAD_AUTH"):
                tpm.run(commands.sign(key, bytes(32), Alg.ECDSA, Alg.SHA256))


def test_lockout_is_an_authorization_error(libtpms: Tpm) -> None:
    area = public.ecdsa_key(Curve.NIST_P256)
    attributes = int.from_bytes(area[4:8], "big") & ~Attribute.NO_DA
    protected = area[:4] + attributes.to_bytes(4, "big") + area[8:]
    command = commands.create_primary(protected, hierarchy=OWNER, password=b"right")
    sign = commands.sign
    with libtpms.load(command, password=b"wrong") as key:
        seen = set()
        for _ in range(5):
            with pytest.raises(TpmAuthError) as caught:
                libtpms.run(sign(key, bytes(32), Alg.ECDSA, Alg.SHA256))
            seen.add(str(caught.value))
        assert any("TPM_RC_AUTH_FAIL" in message for message in seen)
        assert any("TPM_RC_LOCKOUT" in message and "clear-lockout" in message for message in seen)


# -- objects ---------------------------------------------------------------------------------------


def make_hmac_key(tpm: Tpm) -> TpmObject:
    return tpm.load(commands.load_hmac_key(b"secret", Alg.SHA256))


def make_aes_key(tpm: Tpm) -> TpmObject:
    return tpm.load(commands.load_aes_key(bytes(16)))


def make_ecdh_key(tpm: Tpm) -> TpmObject:
    return tpm.load(commands.create_ecdh_key(Curve.NIST_P256))


@pytest.mark.parametrize("make", [make_hmac_key, make_aes_key, make_ecdh_key])
def test_a_saved_context_is_loaded(tpm: Tpm, make: Callable[[Tpm], TpmObject]) -> None:
    with make(tpm) as key:
        context = tpm.run(commands.context_save(key))
        with tpm.load(commands.context_load(context)) as again:
            assert again.handle != key.handle
            one, two = (tpm.run(commands.read_public(each)) for each in (key, again))
            assert one == two


def test_read_public_gives_the_area_and_the_name(tpm: Tpm) -> None:
    with tpm.load(commands.create_ecdh_key(Curve.NIST_P256)) as key:
        read = tpm.run(commands.read_public(key))
        assert (read.public, read.name) == (key.public, key.name)
        assert key.name == b"\0\x0b" + hashlib.sha256(key.public).digest()


def test_a_wrapped_key_is_loaded(tpm: Tpm) -> None:
    """What a TSS2 PEM file holds."""
    with tpm.load(commands.create_primary(_storage_key(), hierarchy=OWNER)) as parent:
        area = public.ecdsa_key(Curve.NIST_P256)
        wrapped = tpm.run(commands.create(parent, area, password=b"sesame"))
        command = commands.load(parent, wrapped.private, wrapped.public)
        with tpm.load(command, password=b"sesame") as key:
            assert key.name == b"\0\x0b" + hashlib.sha256(wrapped.public).digest()
            tpm.run(commands.sign(key, bytes(32), Alg.ECDSA, Alg.SHA256))


def test_octets_are_wrapped_as_a_key(tpm: Tpm) -> None:
    """What a secret at rest is: HMAC with it needs this TPM."""
    with tpm.load(commands.create_primary(_storage_key(), hierarchy=OWNER)) as parent:
        area = public.hmac_key(Alg.SHA256, name_algorithm=Alg.SHA256)
        wrapped = tpm.run(commands.create(parent, area, octets=b"secret"))
        with tpm.load(commands.load(parent, wrapped.private, wrapped.public)) as key:
            assert tpm.run(commands.hmac(key, b"data", Alg.SHA256)) == hmac.digest(
                b"secret", b"data", "sha256"
            )


def _storage_key() -> bytes:
    area = public.ecdh_key(Curve.NIST_P256, Point(b"", b""))
    attributes = int.from_bytes(area[4:8], "big") | Attribute.RESTRICTED
    cfb = b"\0\6\0\x80\0\x43\0\x10\0\3\0\x10"
    return area[:4] + attributes.to_bytes(4, "big") + b"\0\0" + cfb + b"\0\0\0\0"


# -- the rest --------------------------------------------------------------------------------------


def test_get_random(tpm: Tpm) -> None:
    one, two = tpm.run(commands.get_random(32)), tpm.run(commands.get_random(32))
    assert len(one) == len(two) == 32
    assert one != two


def test_get_capability_pages(tpm: Tpm) -> None:
    more, first = tpm.run(commands.get_capability(Capability.ECC_CURVES, 0, 1))
    assert more
    _, rest = tpm.run(commands.get_capability(Capability.ECC_CURVES, first[0][0] + 1, 100))
    assert (Curve.NIST_P256,) in [*first, *rest]


def test_flush_context(tpm: Tpm) -> None:
    handle, _ = tpm.device.create(commands.load_hmac_key(b"secret", Alg.SHA256))
    assert handle in transient(tpm)
    tpm.run(commands.flush_context(handle))
    assert handle not in transient(tpm)


def test_shutdown_and_startup(libtpms: Tpm) -> None:
    libtpms.run(commands.shutdown())
    with pytest.raises(TpmResponseError, match="TPM2_Startup: TPM_RC_INITIALIZE"):
        libtpms.run(commands.startup())


def test_the_null_hierarchy_has_no_password() -> None:
    assert NULL_HIERARCHY.name == bytes.fromhex("40000007")
