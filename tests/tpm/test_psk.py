"""External PSKs in a TPM, as the two keys that are made of them: in use, on the bus, at rest."""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest

from tests.tpm.support import (
    P384,
    ROLES,
    Ends,
    Pair,
    at_rest,
    client_config,
    ends,
    server_config,
)
from tests.tpm.swtpm import Swtpm
from tests.tpm.test_ledger import Telling, assert_told, found, listed
from tpmtls.algorithms import SHA256, SHA384, HashAlgorithm
from tpmtls.backends.base import PskReference, Secret, hkdf_label
from tpmtls.backends.ledger import Crossing, Ledger
from tpmtls.backends.software import SoftwareBackend
from tpmtls.backends.tpm.backend import LEVELS, TpmBackend
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.backends.tpm.psk import ProvisionedPsk, provision
from tpmtls.codepoints import AlertDescription, CipherSuite, PskKeyExchangeMode
from tpmtls.config import ExternalPsk
from tpmtls.connection import ClientConnection
from tpmtls.tickets import SessionCache
from tpmtls.violations import BackendError, ConfigurationError, PeerViolation, TpmLacks

IDENTITY = b"an identity"
KEY = bytes(range(100, 132))
SUITES = {
    SHA256: CipherSuite.TLS_AES_128_GCM_SHA256,
    SHA384: CipherSuite.TLS_AES_256_GCM_SHA384,
}
DHE, KE = PskKeyExchangeMode.psk_dhe_ke, PskKeyExchangeMode.psk_ke

each_hash = pytest.mark.parametrize("algorithm", [SHA256, SHA384], ids=lambda a: a.name)


def in_tpm(tpm: Tpm, algorithm: HashAlgorithm = SHA256) -> ExternalPsk:
    return ExternalPsk.load(provision(tpm, IDENTITY, KEY, algorithm).encode())


def known(algorithm: HashAlgorithm = SHA256) -> ExternalPsk:
    """The same PSK, for those who have its octets."""
    return ExternalPsk(IDENTITY, KEY, algorithm)


def pair(backends: Ends, psk: ExternalPsk, mode: PskKeyExchangeMode = DHE, **server: Any) -> Pair:
    """Two ends: the TPM's has the provisioned PSK, the other its octets."""
    common = {"suites": (SUITES[psk.hash],), "psk_modes": (mode,)}
    psks = [
        (psk if isinstance(b, TpmBackend) else known(psk.hash),)
        for b in (backends.client, backends.server)
    ]
    return Pair(
        backends,
        client_config(psks=psks[0], **common),
        server_config(credentials=(), psks=psks[1], **common, **server),
    )


# -- in use ----------------------------------------------------------------------------------------


@each_hash
@pytest.mark.parametrize("levels", [{"hkdf"}, set(LEVELS)], ids=["hkdf", "all"])
@pytest.mark.parametrize("mode", [DHE, KE])
@pytest.mark.parametrize("role", ROLES)
def test_a_handshake(
    libtpms: Tpm, role: str, mode: PskKeyExchangeMode, levels: set[str], algorithm: HashAlgorithm
) -> None:
    psk = in_tpm(libtpms, algorithm)
    backend = TpmBackend(libtpms, levels)
    before = at_rest(backend)
    for _ in range(2):  # it is not used up
        done = pair(ends(role, backend), psk, mode).complete()
        done.talk()
        assert done.info.psk == "external"
        assert (done.info.group is None) == (mode is KE)
        done.end()
        assert libtpms.live == before


@each_hash
@pytest.mark.parametrize("role", ROLES)
def test_a_second_client_hello_has_new_binders(
    tpm: Tpm, role: str, algorithm: HashAlgorithm
) -> None:
    psk = in_tpm(tpm, algorithm)
    backend = TpmBackend(tpm, {"hkdf", "ecdhe"})
    before = at_rest(backend)
    done = pair(ends(role, backend), psk, groups=(P384,), retry_with_cookie=True).complete()
    done.talk()
    assert (done.info.psk, done.info.group) == ("external", P384)
    done.end()
    assert tpm.live == before


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_peer_with_another_key_is_refused(libtpms: Tpm, role: str) -> None:
    psk = in_tpm(libtpms)
    backend = TpmBackend(libtpms, {"hkdf"})
    before = at_rest(backend)
    other = (ExternalPsk(IDENTITY, bytes(32)),)
    theirs = (
        {"client": (psk,), "server": other}
        if role == "client"
        else {"client": other, "server": (psk,)}
    )
    both = Pair(
        ends(role, backend),
        client_config(psks=theirs["client"]),
        server_config(credentials=(), psks=theirs["server"]),
    )
    with pytest.raises(PeerViolation, match="binder"):
        both.complete()
    both.forget()
    assert libtpms.live == before


def test_tickets_follow_as_usual(libtpms: Tpm) -> None:
    backend = TpmBackend(libtpms, {"hkdf"})
    client = client_config(psks=(in_tpm(libtpms),), session_cache=SessionCache())
    server = server_config(psks=(known(),))
    for expected in "external", "resumption":
        done = Pair(Ends(backend, None), client, server).complete()
        done.talk()
        assert done.info.psk == expected
        done.end()


# -- on the bus ------------------------------------------------------------------------------------


def constant_secrets(algorithm: HashAlgorithm) -> set[tuple[str, bytes]]:
    """What of a PSK is the same in every connection, by the RFC's formulas (§7.1, §4.5.3)."""
    size, empty = algorithm.digest_size, algorithm.empty_digest

    def expand(secret: bytes, label: bytes, context: bytes) -> bytes:
        return hmac.digest(secret, hkdf_label(size, label, context) + b"\1", algorithm.name)

    early = hmac.digest(bytes(size), KEY, algorithm.name)
    binder_key = expand(early, b"ext binder", empty)
    return {
        ("PSK", KEY),
        ("early_secret", early),
        ("binder_key", binder_key),
        ("finished_key", expand(binder_key, b"finished", b"")),
        ("derived", expand(early, b"derived", empty)),
    }


@each_hash
def test_provisioning_gives_the_tpm_two_keys_and_nothing_else(
    libtpms: Tpm, algorithm: HashAlgorithm
) -> None:
    ledger = Ledger()
    before = libtpms.live
    with libtpms.device.recording() as recorder:
        psk = provision(libtpms, IDENTITY, KEY, algorithm, ledger)
    crossed = {(name, "in", "TPM2_Create"): 1 for name in ("finished_key", "derived")}
    assert found(recorder.exchanges, constant_secrets(algorithm)) == crossed
    assert listed(ledger) == crossed
    assert libtpms.live == before
    file = psk.encode()
    for _, octets in constant_secrets(algorithm):
        assert octets not in file
        assert octets not in psk.finished_key + psk.derived
        assert octets.hex().encode() not in file


@each_hash
@pytest.mark.parametrize("mode", [DHE, KE])
@pytest.mark.parametrize("role", ["client", "server"])
def test_after_provisioning_nothing_lasting_crosses(
    libtpms: Tpm, role: str, mode: PskKeyExchangeMode, algorithm: HashAlgorithm
) -> None:
    psk = in_tpm(libtpms, algorithm)
    backend, peer = TpmBackend(libtpms, {"hkdf"}), Telling()
    with libtpms.device.recording() as recorder:
        pair(
            ends(role, backend, peer), psk, mode, retry_with_cookie=True, tickets=0
        ).complete().end()
    assert recorder.exchanges
    assert found(recorder.exchanges, constant_secrets(algorithm)) == {}
    assert_told(backend, recorder, peer)
    crossed = {name for name, _, _ in listed(backend.ledger)}
    assert crossed.isdisjoint({"PSK", "early_secret", "binder_key"})
    loaded = {c: number for c, number in backend.ledger if c.visibility == "encrypted"}
    assert loaded == {
        Crossing(name, "tpm", "in", "TPM2_Load", "encrypted"): 1
        for name in ("finished_key", "derived")
    }


@pytest.mark.parametrize("role", ["client", "server"])
def test_on_an_encrypted_bus_nothing_crosses(libtpms: Tpm, role: str) -> None:
    psk = in_tpm(libtpms)
    backend, peer = TpmBackend(libtpms, {"hkdf"}, encrypt_bus=True), Telling()
    with libtpms.device.recording() as recorder:
        pair(ends(role, backend, peer), psk, tickets=0).complete().end()
    assert found(recorder.exchanges, peer.secrets | constant_secrets(SHA256)) == {}
    assert listed(backend.ledger) == {}


def test_with_psk_ke_the_handshake_secret_is_always_the_same(libtpms: Tpm) -> None:
    """What the documentation warns of; with psk_dhe_ke it is of one connection.

    Who reads it once has it for all: the ledger says that it crosses, and it does.
    """
    psk = in_tpm(libtpms)
    for mode, different in (KE, 1), (DHE, 2):
        seen = set()
        for _ in range(2):
            backend, peer = TpmBackend(libtpms, {"hkdf"}), Telling()
            with libtpms.device.recording() as recorder:
                pair(Ends(backend, peer), psk, mode).complete().end()
            (secret,) = (octets for name, octets in peer.secrets if name == "handshake_secret")
            seen.add(secret)
            told = [(c.via, c.direction) for c in backend.ledger.crossings("handshake_secret")]
            assert told == [("TPM2_HMAC", "out"), ("TPM2_LoadExternal", "in")]
            assert recorder.find(secret) == told
        assert len(seen) == different


# -- at rest ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["client", "server"])
def test_the_file_is_of_no_use_with_another_tpm(libtpms: Tpm, swtpm: Swtpm, role: str) -> None:
    psk = in_tpm(libtpms)
    with open_tpm(swtpm.tcti) as other:
        backend = TpmBackend(other, {"hkdf"})
        before = at_rest(backend)
        message = "b'an identity' was provisioned in another TPM.*tpmtls key import-psk"
        with pytest.raises(BackendError, match=message):
            pair(ends(role, backend), psk).complete()
        assert other.live == before


def test_the_peer_gets_an_alert(libtpms: Tpm, swtpm: Swtpm) -> None:
    psk = in_tpm(libtpms)
    with open_tpm(swtpm.tcti) as other:
        both = pair(Ends(None, TpmBackend(other, {"hkdf"})), psk)
        with pytest.raises(BackendError) as failure:
            both.to_server()
        assert failure.value.alert is AlertDescription.internal_error
        assert both.server.data_to_send()


def test_of_two_keys_one_may_be_damaged(libtpms: Tpm) -> None:
    psk = provision(libtpms, IDENTITY, KEY, SHA256)
    backend = TpmBackend(libtpms, {"hkdf"})
    before = at_rest(backend)
    damaged = psk.derived[:20] + bytes((psk.derived[20] ^ 1,)) + psk.derived[21:]
    with pytest.raises(BackendError, match="or its file is damaged"):
        backend.import_psk(ProvisionedPsk(IDENTITY, SHA256, psk.finished_key, damaged), SHA256)
    assert libtpms.live == before


def test_the_file_says_what_it_is(libtpms: Tpm, tmp_path: Any) -> None:
    psk = provision(libtpms, b"\xff\x00 any octets", KEY, SHA384)
    values = json.loads(psk.encode())
    assert values.keys() == {"kind", "version", "identity", "hash", "finished_key", "derived"}
    assert bytes.fromhex(values["identity"]) == psk.identity
    assert ProvisionedPsk.parse(psk.encode()) == psk
    assert repr(psk) == (
        "ProvisionedPsk(identity=b'\\xff\\x00 any octets', hash=HashAlgorithm(name='sha384'),"
        " chained=False)"
    )
    file = tmp_path / "a.psk"
    file.write_bytes(psk.encode())
    assert ExternalPsk.load(file) == ExternalPsk(psk.identity, hash=SHA384, provisioned=psk)
    with pytest.raises(ConfigurationError, match=r"cannot read .*nothing.psk'?: No such file"):
        ExternalPsk.load(tmp_path / "nothing.psk")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "another"},
        {"version": 2},
        {"identity": "zz"},
        {"identity": 1},
        {"hash": "sha512"},
        {"hash": []},
        {"derived": "?"},
        {"derived": None},
        {"derived": "\xff"},
    ],
    ids=str,
)
def test_a_file_that_is_none(change: dict[str, Any]) -> None:
    values = json.loads(ProvisionedPsk(IDENTITY, SHA256, b"1", b"2").encode()) | change
    with pytest.raises(ConfigurationError, match=r"not a PSK file|later version"):
        ExternalPsk.load(json.dumps(values).encode())


@pytest.mark.parametrize("octets", [b"", b"{}", b"[]", b"\xff", b"1", b"null", b"[" * 100_000])
def test_octets_that_are_no_file(octets: bytes) -> None:
    with pytest.raises(ConfigurationError, match="not a PSK file"):
        ProvisionedPsk.parse(octets)


# -- what it cannot do -----------------------------------------------------------------------------

PSK = ProvisionedPsk(IDENTITY, SHA256, b"1", b"2")


def test_it_needs_a_tpm_backend_with_hkdf(libtpms: Tpm) -> None:
    config = client_config(psks=(ExternalPsk(IDENTITY, provisioned=PSK),))
    for backend in None, SoftwareBackend():
        with pytest.raises(ConfigurationError, match="needs the backend tpm, not software"):
            ClientConnection(config, backend)
    with pytest.raises(ConfigurationError, match="it needs the backend tpm"):
        SoftwareBackend().import_psk(PSK, SHA256)
    with pytest.raises(ConfigurationError, match="needs the protection level hkdf"):
        ClientConnection(config, TpmBackend(libtpms, {"sign", "ecdhe"}))

    class Elsewhere(PskReference):
        identity = IDENTITY

    with pytest.raises(ConfigurationError, match="is in a TPM"):
        TpmBackend(libtpms, {"hkdf"}).import_psk(Elsewhere(), SHA256)


def test_no_early_data() -> None:
    with pytest.raises(ConfigurationError, match="a PSK in a TPM permits no early data"):
        ExternalPsk(IDENTITY, max_early_data=1, suite=SUITES[SHA256], provisioned=PSK)


def test_either_octets_or_a_reference() -> None:
    with pytest.raises(ConfigurationError, match="has no octets here"):
        ExternalPsk(IDENTITY, KEY, provisioned=PSK)


def test_identity_and_hash_are_those_it_was_provisioned_for() -> None:
    for identity, algorithm in (b"another", SHA256), (IDENTITY, SHA384):
        with pytest.raises(ConfigurationError, match="for another identity or hash"):
            ExternalPsk(identity, hash=algorithm, provisioned=PSK)


@pytest.mark.parametrize(("identity", "key"), [(b"", KEY), (IDENTITY, b""), (bytes(2**16), KEY)])
def test_a_psk_has_an_identity_and_a_key(libtpms: Tpm, identity: bytes, key: bytes) -> None:
    with pytest.raises(ConfigurationError, match="a PSK needs an identity and a key"):
        provision(libtpms, identity, key, SHA256)


def test_a_tpm_without_the_hash(libtpms: Tpm) -> None:
    with pytest.raises(TpmLacks, match="no HMAC with md5"):
        provision(libtpms, IDENTITY, KEY, HashAlgorithm("md5"))  # type: ignore[arg-type]


def test_nothing_else_comes_of_it(libtpms: Tpm) -> None:
    backend = TpmBackend(libtpms, {"hkdf"})
    psk = backend.import_psk(provision(libtpms, IDENTITY, KEY, SHA256), SHA256)
    early = backend.extract(SHA256, None, psk, "early_secret")
    empty = SHA256.empty_digest
    binder_key = backend.expand_label(early, b"ext binder", empty, 32, "binder_key")

    def refused(secret: Secret, label: bytes, context: bytes, length: int) -> None:
        message = f"no {label.decode()!r} with a PSK provisioned as two keys"
        with pytest.raises(TpmLacks, match=message):
            backend.expand_label(secret, label, context, length, "a name")

    for label in b"res binder", b"c e traffic", b"e exp master", b"ext binders":
        refused(early, label, empty, 32)
    for label in b"ext binder", b"derived":
        refused(early, label, b"", 32)
        refused(early, label, empty, 16)
    refused(binder_key, b"key", b"", 32)
    refused(binder_key, b"finished", b"1", 32)
    for secret in psk, early, binder_key:
        with pytest.raises(BackendError, match="is in the TPM, and cannot be had for: a test"):
            backend.reveal(secret, "a test")
        with pytest.raises(BackendError):
            backend.wrap(secret)
        with pytest.raises(BackendError):
            backend.mac(secret, b"data")
    with pytest.raises(BackendError, match="was used before"):
        backend.extract(SHA256, None, psk, "early_secret")
    backend.destroy(psk, early, early, binder_key)
    with pytest.raises(BackendError, match="was destroyed"):
        backend.expand_label(early, b"derived", empty, 32, "derived")
