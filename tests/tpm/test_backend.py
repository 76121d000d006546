"""The TPM backend against the software backend: the same results at each protection level."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from tests.tpm.conftest import transient
from tests.tpm.fakes import Restricted, without
from tests.tpm.support import (
    P256,
    P384,
    Ends,
    Pair,
    at_rest,
    backend_over,
    client_config,
    each_level,
)
from tests.unit.support import pki
from tpmtls import open_backend
from tpmtls.algorithms import SHA256, SHA384, SUITES, HashAlgorithm
from tpmtls.backends.base import Backend, Secret
from tpmtls.backends.software import SoftwareBackend
from tpmtls.backends.tpm.backend import LEVELS, TpmBackend, possible_levels
from tpmtls.backends.tpm.constants import Alg, CommandCode, Curve
from tpmtls.backends.tpm.keys import create_key, persist
from tpmtls.backends.tpm.libtpms import LibtpmsTransport
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.backends.tpm.signing import TpmSigner
from tpmtls.certificates import verify_signature
from tpmtls.codepoints import CipherSuite, NamedGroup
from tpmtls.config import Credential
from tpmtls.violations import (
    BackendError,
    ConfigurationError,
    PeerViolation,
    TpmError,
    TpmLacks,
    Violation,
)

HASHES = pytest.mark.parametrize("algorithm", [SHA256, SHA384], ids=lambda a: a.name)
NIST = (NamedGroup.secp256r1, NamedGroup.secp384r1, NamedGroup.secp521r1)


@pytest.fixture
def backend(tpm: Tpm, levels: frozenset[str]) -> Iterator[TpmBackend]:
    made = TpmBackend(tpm, levels)
    before = at_rest(made)
    yield made
    assert tpm.live == before


# -- HKDF ------------------------------------------------------------------------------------------


def early_secret(backend: Backend, algorithm: HashAlgorithm) -> Secret:
    """That of a PSK: without one it is no secret, and in no TPM."""
    psk = backend.import_psk(b"a pre-shared key", algorithm)
    return backend.extract(algorithm, None, psk, "early_secret")


def chain(backend: Backend, algorithm: HashAlgorithm) -> list[bytes]:
    """What can be seen of secrets: their MACs of known data."""
    psk = backend.import_psk(b"a pre-shared key, such as it is", algorithm)
    size = algorithm.digest_size
    seen = []
    for ikm in psk, None:
        early = backend.extract(algorithm, None, ikm, "early_secret")
        empty = algorithm.empty_digest
        derived = backend.expand_label(early, b"derived", empty, size, "derived")
        shared = backend.import_psk(b"as if it had been agreed", algorithm)
        handshake = backend.extract(algorithm, derived, shared, "handshake_secret")
        salt = backend.expand_label(handshake, b"derived", b"context", size, "derived")
        main = backend.extract(algorithm, salt, None, "main_secret")
        made = (early, derived, handshake, salt, main)
        seen += [backend.mac(secret, b"known data") for secret in made]
        assert all(repr(secret).count("octets>") for secret in made)
        backend.destroy(shared, *made, None)
    backend.destroy(psk)
    return seen


@each_level
@HASHES
def test_hkdf_is_what_software_makes(backend: TpmBackend, algorithm: HashAlgorithm) -> None:
    assert chain(backend, algorithm) == chain(SoftwareBackend(), algorithm)


@each_level
@HASHES
@pytest.mark.parametrize("length", [12, 32, 48, 64, 65, 255])
def test_expansions_of_any_length(
    backend: TpmBackend, algorithm: HashAlgorithm, length: int
) -> None:
    def expand(by: Backend) -> bytes:
        prk = early_secret(by, algorithm)
        value = by.expand_label(prk, b"exporter", b"context", length, "exporter_value")
        assert value.length == length
        octets = by.reveal(value, "exporter")
        by.destroy(prk, value)
        return octets

    assert expand(backend) == expand(SoftwareBackend())


@each_level
@HASHES
def test_macs_are_verified(backend: TpmBackend, algorithm: HashAlgorithm) -> None:
    key = early_secret(backend, algorithm)
    tag = backend.mac(key, b"data")
    assert backend.verify_mac(key, b"data", tag)
    for wrong in (bytes((tag[0] ^ 1,)) + tag[1:], tag[:-1], b""):
        assert not backend.verify_mac(key, b"data", wrong)
    backend.destroy(key)


# -- key agreement ---------------------------------------------------------------------------------


@each_level
@pytest.mark.parametrize("group", NIST)
def test_both_halves_agree_with_software(backend: TpmBackend, group: NamedGroup) -> None:
    software = SoftwareBackend()
    for client, server in ((backend, software), (software, backend), (backend, backend)):
        share = client.key_share(group)
        public, theirs = server.respond(group, share.public)
        ours = share.agree(public)
        share.close()
        assert tag_of(client, ours) == tag_of(server, theirs)


def tag_of(backend: Backend, shared: Secret) -> bytes:
    secret = backend.extract(SHA256, None, shared, "handshake_secret")
    tag = backend.mac(secret, b"data")
    backend.destroy(shared, secret)
    return tag


@each_level
@pytest.mark.parametrize("group", NIST)
def test_points_that_are_none_are_the_peers_fault(backend: TpmBackend, group: NamedGroup) -> None:
    share = SoftwareBackend().key_share(group)
    off_curve = share.public[:-1] + bytes((share.public[-1] ^ 1,))
    for wrong in (off_curve, b"\x02" + share.public[1:], b"\x04" + bytes(len(off_curve) - 1)):
        with pytest.raises(PeerViolation) as caught:
            backend.respond(group, wrong)
        assert caught.value.violation is Violation.INVALID_POINT
        with pytest.raises(PeerViolation):
            backend.key_share(group).agree(wrong)


@each_level
def test_groups_of_the_host_are_agreed_there_if_at_all(
    libtpms: Tpm, levels: frozenset[str]
) -> None:
    assert (NamedGroup.x25519 in TpmBackend(libtpms, levels).groups) is ("ecdhe" not in levels)
    backend = TpmBackend(libtpms, levels, host_groups=True)
    assert set(backend.groups) == set(SoftwareBackend.groups)
    share = backend.key_share(NamedGroup.x25519)
    public, theirs = backend.respond(NamedGroup.x25519, share.public)
    assert backend.ledger.crossings("shared_secret") == []
    assert tag_of(backend, share.agree(public)) == tag_of(backend, theirs)


# -- secrets at rest -------------------------------------------------------------------------------


@each_level
@HASHES
def test_a_stored_psk_is_the_same_psk(backend: TpmBackend, algorithm: HashAlgorithm) -> None:
    psk = backend.import_psk(bytes(algorithm.digest_size), algorithm)
    blob = backend.wrap(psk)
    stored = backend.unwrap(blob, "PSK", algorithm)
    assert (stored.name, stored.length, stored.hash) == ("PSK", psk.length, algorithm)
    tags = []
    for each in psk, stored:
        early = backend.extract(algorithm, None, each, "early_secret")
        tags.append(backend.mac(early, b"data"))
        backend.destroy(each, early)
    assert tags[0] == tags[1]
    assert bytes(algorithm.digest_size) not in blob


@each_level
def test_a_stored_psk_that_nobody_uses_goes(backend: TpmBackend) -> None:
    psk = backend.import_psk(bytes(32), SHA256)
    backend.destroy(psk, backend.unwrap(backend.wrap(psk), "PSK", SHA256))


@each_level
def test_damaged_blobs_are_errors(backend: TpmBackend) -> None:
    psk = backend.import_psk(bytes(32), SHA256)
    blob = backend.wrap(psk)
    wrong = [
        *(b"", blob[:1], blob[:-1], blob + b"\0", blob[:40], b"\x07" + blob[1:]),
        SoftwareBackend().wrap(SoftwareBackend().import_psk(bytes(32), SHA256)),
        blob[:60] + bytes((blob[60] ^ 1,)) + blob[61:],
    ]
    for octets in wrong:
        with pytest.raises(BackendError, match="stored secret"):
            backend.unwrap(octets, "PSK", SHA256)


# -- handles ---------------------------------------------------------------------------------------


def test_secrets_in_the_tpm_are_not_revealed(libtpms: Tpm) -> None:
    backend = TpmBackend(libtpms, {"hkdf"})
    secret = early_secret(backend, SHA256)
    stored = backend.unwrap(backend.wrap(backend.import_psk(bytes(32), SHA256)), "PSK", SHA256)
    for each in secret, stored:
        with pytest.raises(BackendError, match=r"in the TPM, and cannot be had for: key log"):
            backend.reveal(each, "key log")


@each_level
def test_a_destroyed_secret_is_good_for_nothing(backend: TpmBackend) -> None:
    constant = backend.extract(SHA256, None, None, "early_secret")
    for secret in constant, early_secret(backend, SHA256):
        backend.destroy(secret)
        backend.destroy(secret)
        with pytest.raises(BackendError):
            backend.mac(secret, b"data")


def test_destroy_flushes(libtpms: Tpm) -> None:
    with open_tpm("libtpms:") as beside:
        backend = TpmBackend(libtpms, {"ecdhe", "hkdf"})
        at_rest(backend)
        before = backend.tpm.live, transient(beside)
        secret = early_secret(backend, SHA256)
        share = backend.key_share(P256)
        assert backend.tpm.live == before[0] + 2
        backend.destroy(secret)
        share.close()
        assert backend.tpm.live == before[0]
        backend.close()
        assert backend.tpm.live == 0
        assert transient(beside) == []


def test_secrets_of_another_backend_are_refused(libtpms: Tpm) -> None:
    backend, software = TpmBackend(libtpms, {"hkdf"}), SoftwareBackend()
    early, theirs = early_secret(backend, SHA256), early_secret(software, SHA256)
    shared = software.respond(P256, software.key_share(P256).public)[1]
    psk = backend.unwrap(backend.wrap(backend.import_psk(bytes(32), SHA256)), "PSK", SHA256)
    with pytest.raises(BackendError, match="not a key in the TPM"):
        backend.extract(SHA256, theirs, None, "handshake_secret")
    with pytest.raises(BackendError, match="not at hand"):
        backend.extract(SHA256, early, early, "handshake_secret")
    with pytest.raises(BackendError, match="not tied to a hash"):
        backend.wrap(shared)
    with pytest.raises(BackendError, match="no input of this step"):
        backend.extract(SHA256, early, psk, "handshake_secret")


def test_a_stored_psk_is_extracted_once(libtpms: Tpm) -> None:
    backend = TpmBackend(libtpms, {"hkdf"})
    psk = backend.unwrap(backend.wrap(backend.import_psk(bytes(32), SHA256)), "PSK", SHA256)
    backend.extract(SHA256, None, psk, "early_secret")
    with pytest.raises(BackendError, match="was used before"):
        backend.extract(SHA256, None, psk, "early_secret")


def test_keys_of_the_host_sign(libtpms: Tpm) -> None:
    made = pki().server()
    signer = TpmBackend(libtpms, {"hkdf"}).signer(made.key.read_bytes())
    credential = Credential.load(made.chain, made.key, lambda _: signer)
    signature = signer.sign(credential.schemes[0], b"data")
    assert verify_signature(credential.leaf, credential.schemes[0], signature, b"data")


@pytest.mark.parametrize("encrypt_bus", [False, True])
def test_keys_of_the_tpm_sign_in_the_backends_own(libtpms: Tpm, encrypt_bus: bool) -> None:
    made = create_key(libtpms, "ecc-p256")
    persist(libtpms, made, 0x81000042)
    with closing(TpmBackend(open_tpm("libtpms:"), {"hkdf"}, encrypt_bus=encrypt_bus)) as backend:
        for reference in (made.pem(), "handle:0x81000042"):
            before = backend.tpm.live
            signer = backend.signer(reference)
            assert isinstance(signer, TpmSigner)
            scheme = signer.schemes[0]
            with backend.tpm.device.recording() as recorder:
                assert signer.sign(scheme, b"data")
            assert [int.from_bytes(e.command[6:10], "big") for e in recorder.exchanges][-1] == (
                CommandCode.Sign
            )
            signer.close()
            assert backend.tpm.live == before
            at_rest(backend)  # it has its TPM still


def test_a_key_that_cannot_be_opened_leaves_the_backend_its_tpm(libtpms: Tpm) -> None:
    backend = TpmBackend(libtpms, {"hkdf"})
    guarded = create_key(libtpms, "ecc-p256", password="secret").pem()
    before = libtpms.live
    for reference, error in ((guarded, ConfigurationError), ("handle:0x81000777", TpmError)):
        with pytest.raises(error):
            backend.signer(reference)
    assert libtpms.live == before
    at_rest(backend)  # it has its TPM still


# -- levels, and what the chip can do --------------------------------------------------------------


def test_a_level_that_does_not_exist(libtpms: Tpm) -> None:
    with pytest.raises(ConfigurationError, match="no protection level 'hkfd'; there is: sign, "):
        TpmBackend(libtpms, {"hkfd"})


def test_all_levels_by_default(libtpms: Tpm) -> None:
    assert TpmBackend(libtpms).protect == set(LEVELS)


@pytest.mark.parametrize(
    ("level", "command"),
    [
        ("sign", CommandCode.Sign),
        ("ecdhe", CommandCode.ECDH_ZGen),
        ("ecdhe", CommandCode.CreatePrimary),
        ("hkdf", CommandCode.HMAC),
        ("aead", CommandCode.EncryptDecrypt2),
    ],
)
def test_a_level_that_the_tpm_cannot_do(libtpms: Tpm, level: str, command: CommandCode) -> None:
    able = libtpms.capabilities
    less = fewer(
        libtpms,
        commands=able.commands - {command},
        aes_modes=frozenset() if level == "aead" else able.aes_modes,
    )
    assert possible_levels(less.capabilities) == set(LEVELS) - {level}
    with pytest.raises(TpmLacks, match=f"cannot do {level}; it can do: "):
        TpmBackend(less, {level})
    assert TpmBackend(less).protect == set(LEVELS) - {level}


def fewer(tpm: Tpm, **changes: Any) -> Tpm:
    """The TPM, as if it could do less."""
    tpm._shared.capabilities = replace(tpm.capabilities, **changes)
    return tpm


def test_curves_that_the_tpm_lacks_are_not_offered(libtpms: Tpm) -> None:
    tpm = fewer(libtpms, curves=frozenset({Curve.NIST_P384}))
    assert TpmBackend(tpm, {"ecdhe"}).groups == (P384,)
    pair = Pair(Ends(TpmBackend(tpm, {"ecdhe", "hkdf"}), None), client_config()).complete()
    assert pair.info.group == P384
    pair.end()
    with pytest.raises(TpmLacks):
        TpmBackend(fewer(tpm, curves=frozenset()), {"ecdhe"})


def test_hashes_that_the_tpm_lacks_are_not_offered(libtpms: Tpm) -> None:
    tpm = fewer(libtpms, hmac_hashes=frozenset({"sha256"}))
    suites = TpmBackend(tpm, {"hkdf"}).suites
    assert suites == tuple(suite for suite in SUITES if SUITES[suite].hash == SHA256)
    assert TpmBackend(tpm, {"ecdhe"}).suites == tuple(SUITES)
    pair = Pair(Ends(None, TpmBackend(tpm, {"ecdhe", "hkdf"})))
    assert pair.complete().info.suite is not CipherSuite.TLS_AES_256_GCM_SHA384
    pair.end()
    with pytest.raises(TpmLacks):
        TpmBackend(fewer(tpm, hmac_hashes=frozenset({"sha384"})), {"hkdf"})


def test_ciphers_that_the_tpm_lacks_are_not_offered(libtpms: Tpm) -> None:
    tpm = fewer(libtpms, aes_modes=frozenset({(128, Alg.CFB)}))
    offered = TpmBackend(tpm, {"aead"}).suites
    assert offered == (
        CipherSuite.TLS_AES_128_GCM_SHA256,
        CipherSuite.TLS_AES_128_CCM_SHA256,
        CipherSuite.TLS_AES_128_CCM_8_SHA256,
    )
    assert TpmBackend(tpm, {"hkdf"}).suites == tuple(SUITES)


@pytest.mark.usefixtures("need_libtpms")
def test_a_chip_without_a_command_offers_less() -> None:
    """Not only as its list of commands has it: one that refuses to do what it lists, too."""
    refuses = without(CommandCode.EncryptDecrypt2, CommandCode.HMAC)
    backend = backend_over(Restricted(LibtpmsTransport(), refuses), None)
    assert backend.protect == {"sign", "ecdhe"}
    Pair(Ends(backend, backend)).complete().end()
    backend.close()


# -- opening ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("need_libtpms")
def test_open_backend() -> None:
    backend = open_backend("tpm", tcti="libtpms:", protect=("hkdf",))
    assert isinstance(backend, TpmBackend)
    assert backend.name == "tpm"
    assert backend.protect == {"hkdf"}
    backend.close()
    backend.close()


@pytest.mark.usefixtures("need_libtpms")
def test_a_backend_that_cannot_be_had_leaves_the_tpm_closed() -> None:
    with pytest.raises(ConfigurationError):
        open_backend("tpm", tcti="libtpms:", protect=("all",))
    LibtpmsTransport().close()  # nobody holds the only one
