"""RFC 8448 through a TPM: every trace in both roles, octet for octet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.tpm.support import level_name
from tests.tpm.support_replay import ObservedTpmBackend, Stored
from tpmtls.backends.tpm.constants import CommandCode
from tpmtls.backends.tpm.hkdf import TpmHkdf
from tpmtls.backends.tpm.opening import Tpm
from vectors.vectorlib import library
from vectors.vectorlib.documents import OUTLINES
from vectors.vectorlib.names import PEER
from vectors.vectorlib.reference_replay import replay_role
from vectors.vectorlib.trace import Trace

REPLAYED: tuple[frozenset[str], ...] = (
    frozenset({"hkdf"}),
    frozenset({"hkdf", "aead"}),
    frozenset({"ecdhe", "hkdf", "aead"}),
)
NAMES = [outline.name for outline in OUTLINES]


def problems(tpm: Tpm, levels: frozenset[str], name: str, role: str) -> tuple[list[str], list[int]]:
    """What is different from the trace, and the commands that went to the TPM."""
    shelf = library.Library()
    trace = shelf.trace(name)
    resumes = trace.data["resumes"]
    resumed: Trace | None = shelf.trace(resumes) if resumes else None
    stored: Stored = {}
    _ = tpm.capabilities  # found out by trying: before, not while, we listen
    with tpm.device.recording() as sent, tpm.device.recording() as recorder:
        found = [
            str(problem)
            for problem in replay_role(
                trace,
                resumed,
                role,
                lambda keys: ObservedTpmBackend(tpm, levels, recorder, keys, stored),
            )
        ]
    return found, [int.from_bytes(each.command[6:10], "big") for each in sent.exchanges]


@pytest.mark.parametrize("levels", REPLAYED, ids=level_name)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("role", PEER)
def test_replay(
    tpm: Tpm,
    levels: frozenset[str],
    name: str,
    role: str,
    row: Callable[..., None],
) -> None:
    kind = tpm.name.partition(":")[0]
    row(
        what=f"RFC 8448 §3-7 replay, {role}, {level_name(levels)} on {kind}",
        against="RFC 8448",
    )
    found, sent = problems(tpm, levels, name, role)
    assert found == []
    assert CommandCode.HMAC in sent
    assert (CommandCode.EncryptDecrypt2 in sent) is ("aead" in levels)
    in_p256 = name == "hello-retry-request"  # the others agree in x25519, which no TPM has
    assert (CommandCode.ECDH_ZGen in sent) is (in_p256 and "ecdhe" in levels)


def another(original: Callable[..., bytes]) -> Callable[..., bytes]:
    def hmac(self: TpmHkdf, key: Any, data: bytes, algorithm: Any) -> bytes:
        return original(self, key, data.replace(b"tls13 c hs", b"tls12 c hs"), algorithm)

    return hmac


def test_a_wrong_label_fails_the_replay(libtpms: Tpm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TpmHkdf, "_hmac", another(TpmHkdf._hmac))
    found, _ = problems(libtpms, REPLAYED[0], "simple-1rtt", "client")
    assert found


def test_x25519_stays_on_the_host_and_the_ledger_shows_it(libtpms: Tpm) -> None:
    """Its shared secret goes into the TPM, and never came out of it."""
    shelf = library.Library()
    made: list[ObservedTpmBackend] = []
    with libtpms.device.recording() as recorder:

        def make(keys: list[bytes]) -> ObservedTpmBackend:
            made.append(ObservedTpmBackend(libtpms, {"ecdhe", "hkdf"}, recorder, keys, {}))
            return made[-1]

        assert list(replay_role(shelf.trace("simple-1rtt"), None, "client", make)) == []
    ways = [(c.direction, c.via) for c in made[0].ledger.crossings("shared_secret")]
    assert ways == [("in", "TPM2_HMAC")]
