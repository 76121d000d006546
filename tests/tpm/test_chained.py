"""`--protect chained`: the whole protocol; what crosses; what is used out of order."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.tpm.conftest import loaded_sessions, transient
from tests.tpm.support import P256, SCENARIOS, Ends, Pair, client_config, ends, server_config
from tests.tpm.test_ledger import Telling, found
from tests.unit.replaying import BlackBox, replayed
from tpmtls import open_backend
from tpmtls.algorithms import SHA256, SHA384, HashAlgorithm
from tpmtls.backends.base import KeyShare, Secret
from tpmtls.backends.software import CURVES, SoftwareBackend, SoftwareSecret
from tpmtls.backends.tpm import chained_layout as layout
from tpmtls.backends.tpm import commands, public
from tpmtls.backends.tpm.agreement import TPM_CURVES
from tpmtls.backends.tpm.chain import ChainOrderError
from tpmtls.backends.tpm.chained import CLAIM, ChainedBackend
from tpmtls.backends.tpm.chained_secrets import ChainedKeyShare, ChainedShared
from tpmtls.backends.tpm.constants import Alg
from tpmtls.backends.tpm.keys import create_key
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.backends.tpm.public import Point
from tpmtls.codepoints import CipherSuite, NamedGroup, SignatureScheme
from tpmtls.violations import BackendError, ConfigurationError, PeerViolation, StoredSecretError
from vectors.vectorlib.documents import OUTLINES
from vectors.vectorlib.names import PEER
from vectors.vectorlib.reference_replay.observation import Observation

CLEAR = {
    ("write_iv", "out", "TPM2_HMAC"),
    ("write_iv", "in", "TPM2_EncryptDecrypt2"),
    ("ghash_key", "out", "TPM2_EncryptDecrypt2"),
}
"""What a scenario may have crossing in clear."""
BESIDES: dict[str, set[tuple[str, str, str]]] = {
    "exporters": {("exporter_value", d, "TPM2_HMAC") for d in ("in", "out")},
    "early_data": {("exporter_value", "out", "TPM2_HMAC")},
    "external_psk": {("PSK", "in", "TPM2_HMAC")},
}


@pytest.fixture
def backend(provisioned: Tpm) -> ChainedBackend:
    return ChainedBackend(provisioned)


@pytest.fixture
def local(libtpms: Tpm) -> ChainedBackend:
    return ChainedBackend(libtpms)


# -- the protocol ----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["client", "server", "both"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_is_found_is_what_the_ledger_says(
    local: ChainedBackend, scenario: str, role: str
) -> None:
    """Every secret, as software at the other end has it, is searched for in the TPM's traffic."""
    peer = Telling()
    with local.tpm.device.recording() as recorder:
        SCENARIOS[scenario](ends(role, local, peer))
    if role == "both":
        return  # nobody tells
    crossed = set(found(recorder.exchanges, peer.secrets))
    clear = {
        (c.secret, c.direction, c.via)
        for c in local.ledger.crossings()
        if c.boundary == "tpm" and c.visibility == "clear"
    }
    if scenario == "rejected_early_data":  # the peer has no cause to derive its keys
        assert crossed <= clear <= CLEAR
    else:
        assert crossed == clear
        assert clear <= CLEAR | BESIDES.get(scenario, set())


@pytest.mark.parametrize("role", ["client", "server"])
def test_on_both_tpms(backend: ChainedBackend, role: str) -> None:
    for scenario in "full", "sha384", "key_updates", "resumption", "early_data":
        SCENARIOS[scenario](ends(role, backend, SoftwareBackend()))


@pytest.mark.parametrize("suite", ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"])
def test_with_ccm_ivs_alone_are_in_clear(local: ChainedBackend, suite: str) -> None:
    suites = (CipherSuite[suite],)
    configs = client_config(suites=suites), server_config(suites=suites)
    Pair(Ends(local, None), *configs).complete().end()
    clear = {c.secret for c in local.ledger.crossings() if c.visibility == "clear"}
    assert clear == {"write_iv"}


@pytest.mark.parametrize("group", TPM_CURVES, ids=str)
def test_every_group(local: ChainedBackend, group: NamedGroup) -> None:
    for role in "client", "server":
        configs = client_config(groups=(group,)), server_config(groups=(group,))
        pair = Pair(ends(role, local), *configs).complete()
        assert pair.info.group is group
        pair.talk()
        pair.end()


def test_the_schedule_crosses_encrypted(local: ChainedBackend) -> None:
    SCENARIOS["resumption"](Ends(local, None))
    encrypted = {c.secret for c in local.ledger.crossings() if c.visibility == "encrypted"}
    assert encrypted >= {
        *("shared_secret", "handshake_secret", "main_secret", "derived", "finished_key"),
        *("client_handshake_traffic_secret", "server_handshake_traffic_secret"),
        *("client_application_traffic_secret_0", "server_application_traffic_secret_0"),
        *("exporter_secret", "resumption_secret", "PSK", "early_secret", "binder_key"),
        *("write_key", "authValue"),
    }
    assert local.ledger.claim == CLAIM
    assert "reads everything" in CLAIM


def test_two_handshakes_have_different_keys(local: ChainedBackend) -> None:
    shares = [local.key_share(P256) for _ in range(2)]
    assert shares[0].public != shares[1].public
    for share in shares:
        share.close()
        share.close()


class RecordedChained(ChainedBackend, BlackBox):
    """With recorded ephemeral keys, which no TPM would make again."""

    def __init__(self, tpm: Tpm, keys: list[bytes]) -> None:
        super().__init__(tpm)
        self.observed = Observation()
        self._keys = iter(keys)
        self._software = SoftwareBackend(lambda _: next(self._keys))
        self.groups = SoftwareBackend.groups
        self.suites = SoftwareBackend.suites  # offered as recorded

    def key_share(self, group: NamedGroup) -> KeyShare:
        if group not in TPM_CURVES:
            return self._software.key_share(group)
        curve = TPM_CURVES[group]
        key = ec.derive_private_key(int.from_bytes(next(self._keys), "big"), CURVES[group])
        numbers = key.public_key().public_numbers()
        point = Point(*(n.to_bytes(curve.size, "big") for n in (numbers.x, numbers.y)))
        loaded = self.tpm.load(
            commands.load_ecdh_key(curve, point, key.private_numbers().private_value.to_bytes(32))
        )
        loaded.public = public.ecdh_peer(curve, point)
        return ChainedKeyShare(group, loaded)

    def respond(self, group: NamedGroup, client_share: bytes) -> tuple[bytes, Secret]:
        if group not in TPM_CURVES:
            return self._software.respond(group, client_share)
        share = self.key_share(group)
        return share.public, share.agree(client_share)

    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        """The one secret whose key has no authValue A: so its point comes out in clear."""
        if isinstance(ikm, ChainedShared):
            with ikm.take() as key:
                x = self.tpm.run(commands.ecdh_zgen(key, ikm.peer)).x
            ikm = SoftwareSecret("shared_secret", x, None)
        return super().extract(algorithm, salt, ikm, name)


@pytest.mark.parametrize("name", [outline.name for outline in OUTLINES])
@pytest.mark.parametrize("role", PEER)
def test_rfc_8448(libtpms: Tpm, name: str, role: str) -> None:
    """Records, with all Finished values and binders in them, octet for octet.

    The key exchange is recorded and in x25519, so that its result has to come from the host: after
    that all is chained.
    """
    assert replayed(name, role, lambda keys: RecordedChained(libtpms, keys)) == []


def test_a_wrong_label_fails_the_replay(libtpms: Tpm, monkeypatch: pytest.MonkeyPatch) -> None:
    expand = ChainedBackend.expand_label

    def another(self: Any, secret: Secret, label: bytes, *rest: Any) -> Secret:
        return expand(self, secret, label.replace(b"c hs", b"x hs"), *rest)

    monkeypatch.setattr(ChainedBackend, "expand_label", another)
    assert replayed("simple-1rtt", "client", lambda keys: RecordedChained(libtpms, keys)) != []


# -- order and alignment ---------------------------------------------------------------------------


@pytest.fixture
def key(local: ChainedBackend) -> Iterator[Any]:
    chain = local._chain
    with chain.create(chain.sensitive(bytes(32), 32, "x"), layout.hmac_area(Alg.SHA256)) as key:
        yield key


def other_command(backend: ChainedBackend, key: Any) -> None:
    backend._chain.hmac_in_clear(key, b"data", Alg.SHA256)


def digest_of(backend: ChainedBackend, key: Any) -> Any:
    return backend._chain.hmac(key, b"data", Alg.SHA256, "a secret")


def sensitive_of(backend: ChainedBackend, key: Any) -> Any:
    return backend._chain.sensitive(digest_of(backend, key), 32, "a secret")


USES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "digest as message": (
        digest_of,
        lambda backend, key, it: backend._chain.hmac(key, it, Alg.SHA256, "x"),
    ),
    "digest into a slot": (digest_of, lambda backend, _, it: backend._chain.sensitive(it, 32, "x")),
    "sensitive as a key": (
        sensitive_of,
        lambda backend, _, it: backend._chain.create(it, layout.hmac_area(Alg.SHA256)),
    ),
}


@pytest.mark.parametrize("use", USES)
def test_a_ciphertext_is_good_for_the_next_command_only(
    local: ChainedBackend, key: Any, use: str
) -> None:
    make, consume = USES[use]
    consume(local, key, make(local, key))  # in order it works
    late = make(local, key)
    other_command(local, key)
    with pytest.raises(ChainOrderError, match="out of order"):
        consume(local, key, late)
    twice = make(local, key)
    consume(local, key, twice)
    with pytest.raises(ChainOrderError, match="out of order"):
        consume(local, key, twice)


def test_a_digest_makes_no_longer_key(local: ChainedBackend, key: Any) -> None:
    with pytest.raises(BackendError, match="an HMAC of 32 octets makes no key of 48"):
        local._chain.sensitive(digest_of(local, key), 48, "x")


def test_out_of_order_nothing_is_asked_of_the_tpm(local: ChainedBackend, key: Any) -> None:
    late = digest_of(local, key)
    other_command(local, key)
    with local.tpm.device.recording() as recorder, pytest.raises(ChainOrderError):
        local._chain.sensitive(late, 32, "x")
    assert len(recorder) == 0
    assert "a secret" in repr(late)


def test_what_the_tpm_would_make_of_it_out_of_order(local: ChainedBackend, key: Any) -> None:
    """The rule is not ours alone: the TPM deciphers it into something else."""
    chain, made = local._chain, []
    for between in (lambda: None, lambda: other_command(local, key)):
        digest = digest_of(local, key)
        between()
        digest._position = chain._position
        with chain.create(chain.sensitive(digest, 32, "x"), layout.hmac_area(Alg.SHA256)) as child:
            made.append(chain.hmac_in_clear(child, b"data", Alg.SHA256))
    assert made[0] != made[1]


def test_threads_do_not_come_between_the_commands_of_a_step(local: ChainedBackend) -> None:
    with ThreadPoolExecutor(4) as pool:
        scenarios = ["full", "key_updates", "sha384", "resumption"] * 3
        done = [pool.submit(SCENARIOS[name], Ends(local, None)) for name in scenarios]
        for each in done:
            each.result()


MISALIGNED = """
from tpmtls.backends.tpm.chain import Chain, Digest, Message, Sensitive, SharedPoint
from tpmtls.backends.tpm.chained_secrets import ChainedKeyShare, ChainedShared
from tpmtls.backends.tpm.constants import Alg
from tpmtls.backends.tpm.objects import TpmObject

def use(chain: Chain, key: TpmObject, d: Digest, m: Message, s: Sensitive, p: SharedPoint) -> None:
    chain.hmac(key, d, Alg.SHA256, "")  # in place
    chain.hmac(key, m, Alg.SHA256, "")  # in place
    chain.hmac(key, s, Alg.SHA256, "")
    chain.hmac(key, p, Alg.SHA256, "")
    chain.sensitive(d, 32, "")  # in place
    chain.sensitive(m, 32, "")
    chain.sensitive(s, 32, "")
    chain.sensitive(p, 32, "")
    chain.create(s, b"")  # in place
    chain.create(d, b"")
    chain.create(m, b"")
    chain.create(p, b"")
    chain.message(p, 32)  # in place
    chain.message(d, 32)
    chain.message(m, 32)
    chain.message(s, 32)
    chain.hmac_in_clear(key, d, Alg.SHA256)
"""


def test_what_is_not_aligned_does_not_type_check(tmp_path: Path) -> None:
    file = tmp_path / "misaligned.py"
    file.write_text(MISALIGNED)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary"]
    command += ["--config-file", str(root / "pyproject.toml"), str(file)]
    checked = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    wrong = {int(line.split(":")[1]) for line in checked.stdout.splitlines()}
    lines = MISALIGNED.splitlines()
    uses = [n for n, line in enumerate(lines, 1) if line.startswith("    chain.")]
    assert wrong == {n for n in uses if not lines[n - 1].endswith("# in place")}, checked.stdout


# -- secrets ---------------------------------------------------------------------------------------


def test_secrets_are_not_revealed(local: ChainedBackend) -> None:
    stored = stored_psk(local, SHA256)
    early = local.extract(SHA256, None, local.unwrap(stored, "PSK", SHA256), "early_secret")
    for each in early, local.unwrap(stored, "PSK", SHA256):
        with pytest.raises(BackendError, match="is in the TPM, and cannot be had for: key log"):
            local.reveal(each, "key log")
        local.destroy(each, each)


def stored_psk(backend: ChainedBackend, algorithm: HashAlgorithm) -> bytes:
    """A ticket's PSK, as it is stored."""
    size = algorithm.digest_size
    psk = backend.import_psk(bytes(range(size)), algorithm)
    early = backend.extract(algorithm, None, psk, "early_secret")
    main = backend.expand_label(early, b"res master", bytes(size), size, "resumption_secret")
    ticket = backend.expand_label(main, b"resumption", b"\0", size, "PSK")
    blob = backend.wrap(ticket)
    backend.destroy(psk, early, main, ticket)
    return blob


def binder(backend: Any, psk: Secret, algorithm: HashAlgorithm) -> bytes:
    early = backend.extract(algorithm, None, psk, "early_secret")
    tag: bytes = backend.mac(early, b"data")
    backend.destroy(early)
    return tag


@pytest.mark.parametrize("algorithm", [SHA256, SHA384], ids=lambda a: a.name)
def test_a_stored_psk_is_the_same_psk(local: ChainedBackend, algorithm: HashAlgorithm) -> None:
    stored = local.unwrap(stored_psk(local, algorithm), "PSK", algorithm)
    assert (stored.name, stored.length, stored.hash) == ("PSK", algorithm.digest_size, algorithm)
    software = SoftwareBackend()
    size = algorithm.digest_size
    early = software.extract(
        algorithm, None, software.import_psk(bytes(range(size)), algorithm), "early_secret"
    )
    main = software.expand_label(early, b"res master", bytes(size), size, "resumption_secret")
    psk = software.expand_label(main, b"resumption", b"\0", size, "PSK")
    assert binder(local, stored, algorithm) == binder(software, psk, algorithm)
    with pytest.raises(BackendError, match="used before"):
        local.extract(algorithm, None, stored, "early_secret")


def test_damaged_blobs_are_errors(local: ChainedBackend) -> None:
    blob = stored_psk(local, SHA256)
    wrong = [
        *(b"", blob[:1], blob[:-1], blob + b"\0", blob[:40], b"\x02" + blob[1:], bytes(32)),
        *(blob[:place] + bytes((blob[place] ^ 1,)) + blob[place + 1 :] for place in (5, 60, -40)),
    ]
    for octets in wrong:
        with pytest.raises(StoredSecretError):
            local.unwrap(octets, "PSK", SHA256)
    with pytest.raises(StoredSecretError):
        local.unwrap(blob, "PSK", SHA384)


def test_wrong_uses(local: ChainedBackend) -> None:
    software = SoftwareBackend()
    theirs = software.import_psk(bytes(32), SHA256)
    share = local.key_share(P256)
    peer = software.key_share(P256)
    shared = share.agree(peer.public)
    with pytest.raises(BackendError, match="agrees once"):
        share.agree(peer.public)
    with pytest.raises(PeerViolation):
        local.respond(P256, b"\4" + bytes(64))
    for wrong in (
        lambda: local.wrap(theirs),
        lambda: local.wrap(shared),
        lambda: local.mac(theirs, b""),
        lambda: local.mac(shared, b""),
        lambda: local.expand_label(theirs, b"key", b"", 16, "write_key"),
        lambda: local.extract(SHA256, shared, None, "x"),
    ):
        with pytest.raises(BackendError):
            wrong()
    local.destroy(shared, shared)
    with pytest.raises(BackendError, match="used before, or destroyed"):
        local.extract(SHA256, None, shared, "x")


def test_keys_and_nothing_shorter(local: ChainedBackend) -> None:
    early = local.extract(SHA256, None, local.import_psk(os.urandom(32), SHA256), "early_secret")
    with pytest.raises(BackendError, match="no HMAC key of this hash"):
        local.expand_label(early, b"derived", b"", 31, "derived")


def test_a_signing_key_in_this_tpm(local: ChainedBackend) -> None:
    with closing(local.signer(create_key(local.tpm, "ecc-p256").pem())) as signer:
        assert list(signer.schemes) == [SignatureScheme.ecdsa_secp256r1_sha256]
        SCENARIOS["full"](Ends(local, None))  # it comes between the steps of no chain
        assert signer.sign(signer.schemes[0], b"data")


# -- opening ---------------------------------------------------------------------------------------


def test_open_backend() -> None:
    with open_tpm("libtpms:") as beside:
        before = transient(beside), loaded_sessions(beside)
        for protect in ({"chained"}, {"sign", "chained"}):
            backend = open_backend("tpm", tcti="libtpms:", protect=protect)
            assert isinstance(backend, ChainedBackend)
            SCENARIOS["full"](Ends(backend, None))
            backend.close()
            backend.close()
            assert (transient(beside), loaded_sessions(beside)) == before
    with pytest.raises(ConfigurationError, match="in place of hkdf"):
        open_backend("tpm", tcti="libtpms:", protect={"chained", "hkdf"})
    with pytest.raises(ConfigurationError, match="encrypts what crosses already"):
        open_backend("tpm", tcti="libtpms:", protect={"chained"}, encrypt_bus=True)


def test_a_closed_backend(local: ChainedBackend) -> None:
    early = local.extract(SHA256, None, local.import_psk(os.urandom(32), SHA256), "early_secret")
    local.close()
    with pytest.raises(BackendError, match="was closed"):
        local.mac(early, b"")
