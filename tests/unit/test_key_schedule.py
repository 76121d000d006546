"""The key schedule, walked through the recorded handshakes; and the table against the RFC."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tpmtls import key_schedule as ks
from tpmtls.algorithms import SHA256, SHA384, SUITES, HashAlgorithm
from tpmtls.backends.base import Secret
from tpmtls.backends.software import SoftwareBackend, SoftwareSecret
from tpmtls.codepoints import CipherSuite
from tpmtls.key_schedule import Derivation, KeySchedule, Point, Stage
from tpmtls.violations import BackendError
from vectors.vectorlib import kdf
from vectors.vectorlib.library import TRACES, load_trace
from vectors.vectorlib.trace import Trace

AES = SUITES[CipherSuite.TLS_AES_128_GCM_SHA256]


class Watched(SoftwareBackend):
    """A software backend that remembers every secret it makes, by name, and its handle."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, bytes]] = []
        self.handles: list[SoftwareSecret] = []

    def _remember(self, made: Secret) -> Secret:
        assert isinstance(made, SoftwareSecret)
        self.made.append((made.name, bytes(made.octets)))
        self.handles.append(made)
        return made

    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        return self._remember(super().extract(algorithm, salt, ikm, name))

    def expand_label(
        self, secret: Secret, label: bytes, context: bytes, length: int, name: str
    ) -> Secret:
        return self._remember(super().expand_label(secret, label, context, length, name))

    @property
    def alive(self) -> list[str]:
        """Names of the secrets that were not destroyed."""
        return [secret.name for secret in self.handles if secret.octets]


def secret(octets: bytes, name: str = "a secret") -> SoftwareSecret:
    return SoftwareSecret(name, octets, SHA256)


@dataclass
class Walk:
    """A recorded handshake's key schedule, walked from top to bottom."""

    trace: Trace
    backend: Watched = field(default_factory=Watched)
    secrets: dict[str, Secret] = field(default_factory=dict)

    def __post_init__(self) -> None:
        recorded = self.trace.secrets()
        psk = recorded.get("resumption_psk")
        self.psk = None if psk is None else secret(psk, "PSK")
        schedule = KeySchedule(self.backend, SHA256, self.psk)
        self._derive(schedule)
        schedule.add_shared_secret(secret(recorded["shared_secret"], "shared_secret"))
        self._derive(schedule)
        schedule.add_nothing()
        self._derive(schedule)
        schedule.close()

    def _derive(self, schedule: KeySchedule) -> None:
        for row in ks.SCHEDULE:
            if row.parent is schedule.stage and row is not ks.EXTERNAL_BINDER_KEY:
                transcript = self.transcript_hash(row)
                self.secrets[row.secret] = schedule.derive(row, transcript)

    def transcript_hash(self, row: Derivation) -> bytes | None:
        for step in self.trace.of_kind("derive"):
            if step["secret"] == row.secret:
                return bytes.fromhex(step["transcript"]["hash"])
        return None

    def octets(self, name: str) -> bytes:
        return self.backend.reveal(self.secrets[name], "test")


@pytest.fixture(params=TRACES)
def walk(request: pytest.FixtureRequest) -> Walk:
    return Walk(load_trace(request.param))


# -- recorded handshakes ---------------------------------------------------------------------------


def test_every_recorded_secret_is_derived(walk: Walk) -> None:
    """Those on the left of Figure 5 too, and both of those called Derived."""
    recorded = walk.trace.secrets()
    made = dict(walk.backend.made)
    names = {row.secret for row in ks.SCHEDULE} | {stage.value for stage in Stage}
    for name in names & recorded.keys():
        assert made[name] == recorded[name], name
    derived = [octets for name, octets in walk.backend.made if name == "derived"]
    assert derived == [recorded["derived_for_handshake"], recorded["derived_for_main"]]


def test_labels_are_those_of_the_traces(walk: Walk) -> None:
    labels = {row.secret: row.label.decode() for row in ks.SCHEDULE if row.secret != "binder_key"}
    for step in walk.trace.of_kind("derive"):
        if step["secret"] in labels:
            assert step["label"] == labels[step["secret"]]


def test_recorded_verify_data(walk: Walk) -> None:
    for step in walk.trace.of_kind("finished"):
        base_key = walk.secrets[step["prk"]["name"]]
        digest = walk.trace.transcript_hash(step["through"])
        expected = bytes.fromhex(step["verify_data"])
        assert ks.verify_data(walk.backend, base_key, digest) == expected
        assert ks.check_verify_data(walk.backend, base_key, digest, expected)
        bent = bytes((expected[0] ^ 1,)) + expected[1:]
        for wrong in (bent, expected[:-1], expected + b"\0", b""):
            assert not ks.check_verify_data(walk.backend, base_key, digest, wrong)
        assert not ks.check_verify_data(walk.backend, base_key, bytes(32), expected)
    assert "finished_key" not in walk.backend.alive


def test_the_recorded_binder() -> None:
    walk = Walk(load_trace("resumed-0rtt"))
    (step,) = walk.trace.of_kind("binder")
    binder_key, digest = walk.secrets["binder_key"], bytes.fromhex(step["prefix_hash"])
    assert ks.verify_data(walk.backend, binder_key, digest).hex() == step["value"]


def test_recorded_traffic_keys(walk: Walk) -> None:
    """By what they seal: the recorded records come out."""
    opened = 0
    for step in walk.trace.of_kind("traffic_keys"):
        writer = step["prk"]["name"].partition("_")[0]
        aead = ks.traffic_aead(walk.backend, AES, walk.secrets[step["prk"]["name"]])
        key, iv = (dict(walk.backend.made)[name] for name in ("write_key", "write_iv"))
        assert [key.hex(), iv.hex()] == [step["key"]["value"], step["iv"]["value"]]
        for record in walk.trace.records(writer):
            if record.epoch == step["epoch"]:
                assert record.sequence is not None
                header, body = record.octets[:5], record.octets[5:]
                inner = aead.open(record.sequence, header, body)
                assert inner is not None
                assert inner[:-1] == record.payload
                assert aead.seal(record.sequence, header, inner) == body
                opened += 1
    assert opened >= 4
    assert not {"write_key", "write_iv"} & set(walk.backend.alive), "the AEAD took them over"


def test_recorded_ticket_psk() -> None:
    walk = Walk(load_trace("simple-1rtt"))
    (step,) = walk.trace.of_kind("resumption_psk")
    nonce = bytes.fromhex(step["ticket_nonce"])
    psk = ks.ticket_psk(walk.backend, walk.secrets["resumption_secret"], nonce)
    assert walk.backend.reveal(psk, "test").hex() == step["value"]
    assert psk.name == "PSK"
    other = ks.ticket_psk(walk.backend, walk.secrets["resumption_secret"], b"\1")
    assert walk.backend.reveal(other, "test").hex() != step["value"]


# -- the table -------------------------------------------------------------------------------------


def test_figure_5() -> None:
    """Secret, parent, label and last message, as §7.1 draws them."""
    E, H, M = Stage
    nothing, hello, server_hello, server_finished, client_finished = Point
    assert [(row.secret, row.parent, row.label, row.point) for row in ks.SCHEDULE] == [
        ("binder_key", E, b"ext binder", nothing),
        ("binder_key", E, b"res binder", nothing),
        ("client_early_traffic_secret", E, b"c e traffic", hello),
        ("early_exporter_secret", E, b"e exp master", hello),
        ("client_handshake_traffic_secret", H, b"c hs traffic", server_hello),
        ("server_handshake_traffic_secret", H, b"s hs traffic", server_hello),
        ("client_application_traffic_secret_0", M, b"c ap traffic", server_finished),
        ("server_application_traffic_secret_0", M, b"s ap traffic", server_finished),
        ("exporter_secret", M, b"exp master", server_finished),
        ("resumption_secret", M, b"res master", client_finished),
    ]


def test_key_log_labels() -> None:
    """Those that SSLKEYLOGFILE knows, and of the secrets that it is for."""
    logged = {row.key_log: row.secret for row in ks.SCHEDULE if row.key_log}
    assert logged == {
        "CLIENT_EARLY_TRAFFIC_SECRET": "client_early_traffic_secret",
        "EARLY_EXPORTER_SECRET": "early_exporter_secret",
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET": "client_handshake_traffic_secret",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET": "server_handshake_traffic_secret",
        "CLIENT_TRAFFIC_SECRET_0": "client_application_traffic_secret_0",
        "SERVER_TRAFFIC_SECRET_0": "server_application_traffic_secret_0",
        "EXPORTER_SECRET": "exporter_secret",
    }


def test_names_in_rfc_8448_are_the_labels() -> None:
    for row in ks.SCHEDULE:
        if row is not ks.EXTERNAL_BINDER_KEY:
            assert row.rfc8448 == "tls13 " + row.label.decode()


# -- walking it ------------------------------------------------------------------------------------


def test_a_secret_comes_from_its_stage_only() -> None:
    schedule = KeySchedule(SoftwareBackend(), SHA256)
    with pytest.raises(RuntimeError, match="exporter_secret does not come from early_secret"):
        schedule.derive(ks.EXPORTER_SECRET, bytes(32))
    schedule.add_shared_secret(None)
    assert schedule.stage is Stage.HANDSHAKE
    with pytest.raises(RuntimeError, match="binder_key does not come from handshake_secret"):
        schedule.derive(ks.RESUMPTION_BINDER_KEY)


@pytest.mark.req("7.1-1")
def test_what_is_above_is_forgotten() -> None:
    backend = Watched()
    psk, shared = secret(bytes(32), "PSK"), secret(bytes(32), "shared_secret")
    schedule = KeySchedule(backend, SHA256, psk)
    assert backend.alive == ["early_secret"]
    assert psk.octets, "the caller's: another binder may need it"
    schedule.add_shared_secret(shared)
    assert backend.alive == ["handshake_secret"]
    assert not shared.octets
    schedule.add_nothing()
    assert backend.alive == ["main_secret"]
    schedule.close()
    assert backend.alive == []


def test_a_closed_schedule_derives_nothing() -> None:
    schedule = KeySchedule(SoftwareBackend(), SHA256)
    schedule.close()
    schedule.close()
    with pytest.raises(RuntimeError, match="closed"):
        schedule.derive(ks.EXTERNAL_BINDER_KEY)
    with pytest.raises(RuntimeError, match="closed"):
        schedule.add_shared_secret(None)


def test_the_observer_sees_each_secret_that_is_derived() -> None:
    seen: list[tuple[Derivation, Secret]] = []
    schedule = KeySchedule(
        SoftwareBackend(), SHA256, observer=lambda row, made: seen.append((row, made))
    )
    binder_key = schedule.derive(ks.EXTERNAL_BINDER_KEY)
    early = schedule.derive(ks.CLIENT_EARLY_TRAFFIC_SECRET, bytes(32))
    assert seen == [
        (ks.EXTERNAL_BINDER_KEY, binder_key),
        (ks.CLIENT_EARLY_TRAFFIC_SECRET, early),
    ]


@pytest.mark.parametrize("algorithm", [SHA256, SHA384], ids=lambda a: a.name)
def test_the_two_binder_keys_differ_and_bind_no_messages(algorithm: HashAlgorithm) -> None:
    backend = SoftwareBackend()
    early = kdf.extract(algorithm.name, bytes(algorithm.digest_size), b"psk")
    for row in (ks.EXTERNAL_BINDER_KEY, ks.RESUMPTION_BINDER_KEY):
        schedule = KeySchedule(backend, algorithm, SoftwareSecret("PSK", b"psk", algorithm))
        made = schedule.derive(row)
        size, label = algorithm.digest_size, row.label.decode()
        assert backend.reveal(made, "test") == kdf.expand_label(
            algorithm.name, early, label, algorithm.empty_digest, size
        )
        assert made.hash is algorithm


# -- what is derived from its secrets --------------------------------------------------------------


@pytest.mark.req("7.2-1")
def test_generations_of_traffic_secrets() -> None:
    backend = SoftwareBackend()
    first = secret(bytes(range(32)), "client_application_traffic_secret_0")
    second = ks.next_generation(backend, first)
    assert second.name == "client_application_traffic_secret_1"
    expected = kdf.expand_label("sha256", bytes(range(32)), "traffic upd", b"", 32)
    assert backend.reveal(second, "test") == expected
    assert not first.octets, "the old one is gone"
    for _ in range(9):
        second = ks.next_generation(backend, second)
    assert second.name == "client_application_traffic_secret_10"


@pytest.mark.req("7.5-1")
@pytest.mark.parametrize("length", [1, 32, 100])
def test_exporters(length: int) -> None:
    backend = Watched()
    exporter = SoftwareSecret("exporter_secret", bytes(range(48)), SHA384)
    value = ks.export(backend, exporter, b"EXPORTER-label", b"context", length)
    derived = kdf.expand_label(
        "sha384", bytes(range(48)), "EXPORTER-label", SHA384.empty_digest, 48
    )
    assert value == kdf.expand_label(
        "sha384", derived, "exporter", SHA384.digest(b"context"), length
    )
    assert backend.alive == []
    assert exporter.octets, "it can export again"
    (crossing,) = backend.ledger.crossings()
    assert (crossing.secret, crossing.via) == ("exporter_value", "reveal: exporter")


def test_what_an_exported_value_depends_on() -> None:
    backend, exporter = SoftwareBackend(), secret(bytes(32), "exporter_secret")
    values = {
        ks.export(backend, other, label, context, 16)
        for other in (exporter, secret(b"\1" * 32))
        for label in (b"EXPORTER-a", b"EXPORTER-b")
        for context in (b"", b"x")
    }
    assert len(values) == 8


def test_secrets_without_a_hash_have_no_place_here() -> None:
    backend, shared = SoftwareBackend(), SoftwareSecret("shared_secret", bytes(32), None)
    with pytest.raises(RuntimeError, match="not tied to a hash"):
        ks.verify_data(backend, shared, bytes(32))
    with pytest.raises(RuntimeError, match="not tied to a hash"):
        ks.export(backend, shared, b"EXPORTER-a", b"", 16)
    with pytest.raises(BackendError, match="not tied to a hash"):
        ks.traffic_aead(backend, AES, shared)


def test_no_stage_is_left_out():
    schedule = KeySchedule(SoftwareBackend(), SHA256)
    with pytest.raises(RuntimeError, match="main_secret does not come from early_secret"):
        schedule.add_nothing()
    schedule.add_shared_secret(None)
    with pytest.raises(RuntimeError, match="handshake_secret does not come from"):
        schedule.add_shared_secret(None)
