"""The handle-only backend: the whole protocol, no crossing, and what its model refuses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tpm.support import SCENARIOS, Ends
from tests.unit.commands import tpmtls
from tests.unit.replaying import BlackBox, replayed
from tests.unit.support import pki, server_config
from tpmtls import open_backend
from tpmtls.algorithms import GROUPS, SHA256, SHA384, SUITES, HashAlgorithm
from tpmtls.backends.base import Backend, KeyShare, Secret
from tpmtls.backends.handle_model import CHILDREN, HandleModel, Kind
from tpmtls.backends.handle_only import HandleOnlyBackend, LocalLink
from tpmtls.backends.handle_process import Status, execute
from tpmtls.backends.software import SoftwareBackend
from tpmtls.codepoints import CipherSuite, NamedGroup
from tpmtls.sockets import serve
from tpmtls.violations import BackendError, ConfigurationError, PeerViolation, StoredSecretError
from vectors.vectorlib.documents import OUTLINES
from vectors.vectorlib.names import PEER
from vectors.vectorlib.reference_replay.observation import Observation

REVEALED = {"exporters": {"exporter_value"}, "early_data": {"exporter_value"}}
"""What a scenario asks to have revealed; nothing else may stand in a ledger."""


@pytest.fixture(scope="module")
def backend() -> Iterator[HandleOnlyBackend]:
    made = HandleOnlyBackend()
    yield made
    made.close()


# -- the protocol ----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_crosses(backend: HandleOnlyBackend, scenario: str, role: str) -> None:
    backend.ledger.__init__()  # type: ignore[misc]
    software = SoftwareBackend()
    both = Ends(backend, software) if role == "client" else Ends(software, backend)
    SCENARIOS[scenario](both)
    crossed = {(c.secret, c.direction) for c in backend.ledger.crossings()}
    expected = {(secret, "out") for secret in REVEALED.get(scenario, ())}
    if scenario == "external_psk":
        expected = {("PSK", "in")}
    assert crossed == expected
    assert backend.live == 0


@pytest.mark.parametrize("suite", SUITES, ids=str)
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_every_group_and_suite(
    backend: HandleOnlyBackend, suite: CipherSuite, group: NamedGroup
) -> None:
    ours, theirs = secrets_of(backend, SoftwareBackend(), group, SUITES[suite].hash)
    row = SUITES[suite]
    sealing, opening = (
        each.aead(
            row,
            each.expand_label(secret, b"key", b"", row.key_length, "write_key"),
            each.expand_label(secret, b"iv", b"", row.iv_length, "write_iv"),
        )
        for each, secret in ((backend, ours), (SoftwareBackend(), theirs))
    )
    for number in 0, 1, 7:
        record = sealing.seal(number, b"header", b"text")
        assert opening.open(number, b"header", record) == b"text"
        assert sealing.open(number, b"header", record) == b"text"
        assert sealing.open(number, b"another", record) is None
    assert sealing.open(0, b"", opening.seal(0, b"", b"")) == b""
    sealing.close()
    backend.destroy(ours)
    assert backend.live == 0


def secrets_of(
    one: Backend, other: Backend, group: NamedGroup, algorithm: HashAlgorithm
) -> tuple[Secret, Secret]:
    """A traffic secret that both have."""
    share = one.key_share(group)
    public, theirs = other.respond(group, share.public)
    made = []
    for backend, shared in ((one, share.agree(public)), (other, theirs)):
        size = algorithm.digest_size
        early = backend.extract(algorithm, None, None, "early_secret")
        derived = backend.expand_label(early, b"derived", algorithm.empty_digest, size, "derived")
        stage = backend.extract(algorithm, derived, shared, "handshake_secret")
        made.append(backend.expand_label(stage, b"c hs traffic", bytes(size), size, "traffic"))
        backend.destroy(early, derived, shared, stage)
    return made[0], made[1]


class RecordedKeys(HandleOnlyBackend, BlackBox):
    """Over a model in this process, whose ephemeral keys are those recorded."""

    key = HandleModel(storage_key=bytes(32))

    def __init__(self, keys: list[bytes]) -> None:
        left = iter(keys)
        super().__init__(LocalLink(HandleModel(lambda _: next(left), bytes(32))))
        self.observed = Observation()


@pytest.mark.parametrize("name", [outline.name for outline in OUTLINES])
@pytest.mark.parametrize("role", PEER)
def test_rfc_8448(name: str, role: str) -> None:
    """Records, with all Finished values and binders in them, octet for octet."""
    assert replayed(name, role, RecordedKeys) == []


def test_a_wrong_label_fails_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    expand = HandleOnlyBackend.expand_label

    def another(self: HandleOnlyBackend, secret: Secret, label: bytes, *rest: object) -> Secret:
        label = b"s hs traffic" if label == b"c hs traffic" else label
        return expand(self, secret, label, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(HandleOnlyBackend, "expand_label", another)
    assert replayed("simple-1rtt", "client", RecordedKeys) != []


# -- what it refuses -------------------------------------------------------------------------------


@pytest.fixture
def model() -> HandleModel:
    return HandleModel()


def objects(model: HandleModel) -> dict[Kind, int]:
    """One of each kind."""
    made, group = {}, NamedGroup.x25519
    made[Kind.EPHEMERAL], public = model.create(group)
    made[Kind.SHARED], _ = model.respond(group, public)
    made[Kind.PSK] = model.import_psk(bytes(32), SHA256)
    made[Kind.STAGE] = model.extract(SHA256, 0, made[Kind.PSK], "early_secret")

    def child(parent: Kind, label: bytes, length: int = 32) -> int:
        return model.expand_label(made[parent], label, bytes(32), length, "a secret")

    made[Kind.SALT] = child(Kind.STAGE, b"derived")
    made[Kind.BINDER] = child(Kind.STAGE, b"res binder")
    made[Kind.TRAFFIC] = child(Kind.STAGE, b"c ap traffic")
    made[Kind.RESUMPTION] = child(Kind.STAGE, b"res master")
    made[Kind.EXPORTER] = child(Kind.STAGE, b"exp master")
    made[Kind.EXPORTER_LABEL] = child(Kind.EXPORTER, b"any label")
    made[Kind.EXPORTED] = child(Kind.EXPORTER_LABEL, b"exporter", 7)
    made[Kind.FINISHED] = child(Kind.TRAFFIC, b"finished")
    key, iv = child(Kind.TRAFFIC, b"key", 16), child(Kind.TRAFFIC, b"iv", 12)
    made[Kind.RECORDS] = model.load_records(CipherSuite.TLS_AES_128_CCM_SHA256, key, iv)
    other = model.expand_label(made[Kind.STAGE], b"s ap traffic", bytes(32), 32, "a secret")
    made[Kind.WRITE_KEY] = model.expand_label(other, b"key", b"", 16, "write_key")
    made[Kind.WRITE_IV] = model.expand_label(other, b"iv", b"", 12, "write_iv")
    return made


USES: dict[str, tuple[set[Kind], Callable[[HandleModel, int], object]]] = {
    "agree": ({Kind.EPHEMERAL}, lambda m, h: m.agree(h, m.create(NamedGroup.x25519)[1])),
    "extract, as salt": ({Kind.SALT}, lambda m, h: m.extract(SHA256, h, 0, "x")),
    "extract, as input": ({Kind.SHARED, Kind.PSK}, lambda m, h: m.extract(SHA256, 0, h, "x")),
    "expand, any label": (
        {Kind.EXPORTER},
        lambda m, h: m.expand_label(h, b"any other", b"", 32, "x"),
    ),
    "mac": ({Kind.FINISHED}, lambda m, h: m.mac(h, b"data")),
    "seal": ({Kind.RECORDS}, lambda m, h: m.seal(h, 0, b"", b"")),
    "open": ({Kind.RECORDS}, lambda m, h: m.open(h, 0, b"", bytes(20))),
    "read": ({Kind.EXPORTED}, lambda m, h: m.read(h)),
    "wrap": ({Kind.PSK}, lambda m, h: m.wrap(h)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_an_object_is_good_for_what_its_kind_says(model: HandleModel, use: str, kind: Kind) -> None:
    kinds, act = USES[use]
    handle = objects(model)[kind]
    if kind in kinds:
        act(model, handle)
        return
    with pytest.raises(BackendError, match="the handle-only model refuses"):
        act(model, handle)


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_only_the_labels_of_a_kind_expand_it(model: HandleModel, kind: Kind) -> None:
    labels = {label for row in CHILDREN.values() for label in row}
    handle = objects(model)[kind]
    done = set()
    for label in labels:
        length = 16 if label == b"key" and kind is Kind.TRAFFIC else 32
        try:
            model.expand_label(handle, label, b"another context", length, "x")
            done.add(label)
        except BackendError:
            pass
    expected = labels if kind is Kind.EXPORTER else set(CHILDREN.get(kind, ()))
    assert done == expected


def test_no_two_records_have_one_nonce(model: HandleModel) -> None:
    made = objects(model)
    model.seal(made[Kind.RECORDS], 5, b"", b"one")
    for number in 5, 4, 0:
        with pytest.raises(BackendError, match="sealed already"):
            model.seal(made[Kind.RECORDS], number, b"", b"another")
    traffic, stage = made[Kind.TRAFFIC], made[Kind.STAGE]
    model.expand_label(traffic, b"traffic upd", b"", 32, "x")
    for parent, label, context, length in (
        (traffic, b"key", bytes(32), 16),
        (traffic, b"iv", bytes(32), 12),
        (traffic, b"traffic upd", b"", 32),
        (stage, b"c ap traffic", bytes(32), 32),
        (stage, b"derived", bytes(32), 32),
    ):
        with pytest.raises(BackendError, match="once"):
            model.expand_label(parent, label, context, length, "x")
    model.extract(SHA256, made[Kind.SALT], 0, "main_secret")
    with pytest.raises(BackendError, match="no object with that handle"):
        model.extract(SHA256, made[Kind.SALT], 0, "main_secret")


def test_key_and_iv_belong_together(model: HandleModel) -> None:
    made = objects(model)
    other = model.expand_label(made[Kind.STAGE], b"c hs traffic", bytes(32), 32, "x")
    iv = model.expand_label(other, b"iv", b"", 12, "write_iv")
    suite = CipherSuite.TLS_AES_128_GCM_SHA256
    for key, wrong in ((made[Kind.WRITE_KEY], iv), (made[Kind.WRITE_IV], made[Kind.WRITE_KEY])):
        with pytest.raises(BackendError):
            model.load_records(suite, key, wrong)
    with pytest.raises(BackendError, match="as long as the suite's"):
        model.load_records(
            CipherSuite.TLS_AES_256_GCM_SHA384, made[Kind.WRITE_KEY], made[Kind.WRITE_IV]
        )


def test_lengths_are_bound(model: HandleModel) -> None:
    """A short one could be searched for, and then stand for the long one."""
    stage = objects(model)[Kind.STAGE]
    for length in 0, 1, 31, 33:
        with pytest.raises(BackendError, match="as long as the hash"):
            model.expand_label(stage, b"c ap traffic", bytes(32), length, "x")


def test_flushed_and_foreign_handles(backend: HandleOnlyBackend) -> None:
    secret = backend.import_psk(bytes(32), SHA256)
    backend.destroy(secret)
    backend.destroy(secret)
    with pytest.raises(BackendError, match="was destroyed"):
        backend.wrap(secret)
    other = HandleOnlyBackend(LocalLink(HandleModel()))
    for foreign in (
        other.import_psk(bytes(32), SHA256),
        SoftwareBackend().import_psk(bytes(32), SHA256),
    ):
        with pytest.raises(BackendError, match="belongs to another backend"):
            backend.wrap(foreign)


def test_secrets_are_not_revealed(backend: HandleOnlyBackend) -> None:
    secret = backend.extract(SHA256, None, None, "early_secret")
    with pytest.raises(BackendError, match="EXPORTED"):
        backend.reveal(secret, "key log")
    backend.destroy(secret)
    assert not backend.reveals_secrets
    assert backend.ledger.crossings("early_secret") == []


def test_a_peers_mistake_is_the_peers(backend: HandleOnlyBackend) -> None:
    share: KeyShare = backend.key_share(NamedGroup.secp256r1)
    with pytest.raises(PeerViolation, match="secp256r1"):
        share.agree(b"\4" + bytes(64))
    share.close()
    with pytest.raises(PeerViolation):
        backend.respond(NamedGroup.x25519, bytes(32))
    assert backend.live == 0


# -- stored sessions -------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [SHA256, SHA384], ids=lambda a: a.name)
def test_a_stored_psk_is_of_one_model(tmp_path: Path, algorithm: HashAlgorithm) -> None:
    blobs = []
    for file in "one", "one", "other":
        backend = open_backend("handle-only", tcti=f"model:{tmp_path / file}")
        psk = backend.import_psk(bytes(algorithm.digest_size), algorithm)
        blobs.append(backend.wrap(psk))
        if len(blobs) < 3:
            stored = backend.unwrap(blobs[0], "PSK", algorithm)
            assert (stored.name, stored.length, stored.hash) == ("PSK", psk.length, algorithm)
        wrong = [b"", blobs[0][:20], blobs[0][:-1], bytes(len(blobs[0])), bytes(32)]
        for blob in wrong + (blobs[:1] if len(blobs) == 3 else []):
            with pytest.raises(StoredSecretError):
                backend.unwrap(blob, "PSK", algorithm)
        backend.close()
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600


def test_names_of_models(tmp_path: Path) -> None:
    for name in "swtpm:", "model:":
        with pytest.raises(ConfigurationError, match="is no model"):
            open_backend("handle-only", tcti=name)
    (tmp_path / "short").write_bytes(b"short")
    for path in tmp_path, tmp_path / "short", tmp_path / "no folder" / "file":
        with pytest.raises(ConfigurationError, match="handle-only model"):
            open_backend("handle-only", tcti=f"model:{path}")


# -- its process -----------------------------------------------------------------------------------


def test_a_model_that_has_ended() -> None:
    backend = HandleOnlyBackend()
    secret = backend.import_psk(bytes(32), SHA256)
    backend.close()
    backend.close()
    backend.destroy(secret)
    with pytest.raises(BackendError, match="has ended"):
        backend.import_psk(bytes(32), SHA256)


def test_a_forked_child_leaves_it_alone(backend: HandleOnlyBackend) -> None:
    child = os.fork()
    if not child:
        try:
            backend.import_psk(bytes(32), SHA256)
        except BackendError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert backend.live == 0


def test_malformed_requests_are_refused() -> None:
    model = HandleModel()
    for operation in range(20):
        for fields in ([], [b""], [b"x", b"x"], [b"\xff" * 8] * 5, [b""] * 6):
            response = execute(model, operation, fields)
            assert response[4] in set(Status)
    assert model.count() == 0


# -- on the command line ---------------------------------------------------------------------------


def test_the_command_resumes(tmp_path: Path) -> None:
    options = [
        *("--backend", "handle-only", "--tcti", f"model:{tmp_path / 'model'}"),
        *("--session", str(tmp_path / "sessions"), "--ca", str(pki().ca), "--json"),
    ]
    with serve(("127.0.0.1", 0), server_config(), lambda s: s.sendall(s.recv())) as server:
        address = f"localhost:{server.address[1]}"
        first, second = (tpmtls("connect", address, *options, stdin=b"text") for _ in range(2))
    assert (first.status, first.stdout) == (second.status, second.stdout) == (0, b"text")
    assert first.report["psk"] is None
    assert second.report["psk"] == "resumption"


def test_what_the_command_cannot_do(tmp_path: Path) -> None:
    connect = ("connect", "localhost:1", "--insecure", "--backend", "handle-only")
    for more, said in (
        (("--protect", "hkdf"), "--protect needs --backend tpm"),
        (("--keylog", str(tmp_path / "log")), "handle-only, and no key log can have them"),
        (("--tcti", "swtpm:"), "is no model"),
    ):
        outcome = tpmtls(*connect, *more)
        assert outcome.status == 2
        assert said in outcome.stderr
