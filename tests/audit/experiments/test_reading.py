"""What a recording of the network shows to who has one secret or the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.experiments.follow import Recording, follow
from tests.audit.experiments.live import OpenSsl, Ours
from tests.audit.experiments.machine import Machine
from tests.audit.experiments.run import Run, run
from tests.pki import Pki
from tpmtls.audit.profiles import BY_KEY

FIRST = {b"1 data", b"1 data again"}
EARLY = {b"2 early data"}
SECOND = {b"2 data", b"2 data again"}
C, S = "client_application_traffic_secret", "server_application_traffic_secret"


@pytest.fixture(scope="module")
def recorded(ours: Ours, pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("recorded")
    disk = folder / "disk"
    disk.mkdir()
    with Machine(BY_KEY["software"], disk, pki) as machine:
        yield run(machine, ours, folder / "copy")


@pytest.mark.parametrize(
    ("secrets", "data"),
    [
        ((f"1/{C}_0",), FIRST),
        ((f"1/{S}_0",), FIRST),
        ((f"1/{C}_0/write_key",), {b"1 data"}),
        ((f"1/{C}_1",), {b"1 data again"}),  # there is no way back over a KeyUpdate
        ((f"1/{C}_0/ghash_key", f"1/{C}_0/write_iv"), set[bytes]()),
        # without a PSK the shared secret is all: the PSK of the ticket comes with it
        (("1/shared_secret",), FIRST | EARLY),
        (("1/handshake_secret",), FIRST | EARLY),
        # what binds the transcript takes the transcript, and that is encrypted
        (("1/main_secret",), set[bytes]()),
        (("1/main_secret", "1/server_handshake_traffic_secret"), FIRST),
        (("1/client_handshake_traffic_secret", "1/server_handshake_traffic_secret"), set[bytes]()),
        # the ticket's nonce is encrypted, but few come into question
        (("1/resumption_secret",), EARLY),
        (("1/resumption_secret", f"1/{S}_0"), FIRST | EARLY),
        # with psk_dhe_ke neither PSK nor shared secret is enough; but for 0-RTT
        (("1/PSK",), EARLY),
        (("2/early_secret/derived",), set[bytes]()),
        (("2/shared_secret",), set[bytes]()),
        (("1/PSK", "2/shared_secret"), EARLY | SECOND),
        (("2/early_secret/derived", "2/shared_secret"), SECOND),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_can_be_read(recorded: Run, secrets: tuple[str, ...], data: set[bytes]) -> None:
    known = {secret: recorded.told[secret] for secret in secrets}
    followed = follow(recorded.recordings, known)
    assert followed.data == data
    computed = followed.have.keys() & recorded.told.keys()
    assert {secret: followed.have[secret] for secret in computed} == {
        secret: recorded.told[secret] for secret in computed
    }


@pytest.mark.parametrize(
    ("label", "secret"),
    [("CLIENT_TRAFFIC_SECRET_0", C), ("SERVER_TRAFFIC_SECRET_0", S)],
)
def test_traffic_of_openssl(
    label: str, secret: str, openssl: OpenSsl, pki: Pki, tmp_path: Path
) -> None:
    with (
        Machine(BY_KEY["software"], tmp_path, pki) as machine,
        machine.connect(openssl) as line,
    ):
        assert line.ask(b"abc\n") == b"cba\n"
        known = {f"1/{secret}_0": openssl.logged(label, line.random)}
        followed = follow({1: Recording(line.sent, line.received)}, known)
    assert followed.data == {b"abc\n" if secret == C else b"cba\n"}
