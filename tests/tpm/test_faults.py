"""When the TPM fails: a clear error and an alert, or a handshake; and nothing is left behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from tests.tpm.conftest import transient
from tests.tpm.fakes import Restricted, command_code
from tests.tpm.support import LEVEL_SETS, ROLES, SCENARIOS, Pair, at_rest, backend_over, ends
from tests.tpm.swtpm import Swtpm
from tpmtls import open_backend
from tpmtls.backends.tpm import commands, public
from tpmtls.backends.tpm.backend import TpmBackend
from tpmtls.backends.tpm.constants import Alg, Attribute, Curve, ResponseCode
from tpmtls.backends.tpm.constants import CommandCode as CC
from tpmtls.backends.tpm.frames import OWNER
from tpmtls.backends.tpm.libtpms import LibtpmsTransport
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.codepoints import AlertDescription
from tpmtls.violations import (
    BackendError,
    PeerAlert,
    TlsError,
    TpmAuthError,
    TpmBusy,
    TpmError,
    TpmLacks,
    TpmUnavailable,
)

ALL = LEVEL_SETS[-1]


class Mood:
    """What a TPM does, until somebody says otherwise: it answers some commands with a code."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.commands: frozenset[int] | None = None
        self.passes = 0
        """How many of these commands go through before."""
        self.lasts: int | None = None
        """How often it answers so; None for ever."""

    def __call__(self, frame: bytes) -> int | None:
        if self.code is None:
            return None
        if self.commands is not None and command_code(frame) not in self.commands:
            return None
        if self.passes:
            self.passes -= 1
            return None
        if self.lasts is not None:
            if not self.lasts:
                return None
            self.lasts -= 1
        return self.code

    def turn(self, code: int | None, *of: CC, passes: int = 0, lasts: int | None = None) -> None:
        self.code, self.commands = code, frozenset(map(int, of)) or None
        self.passes, self.lasts = passes, lasts


@pytest.fixture
def mood() -> Mood:
    return Mood()


@pytest.fixture
def moody(need_libtpms: None, mood: Mood) -> Iterator[TpmBackend]:
    """All levels on a TPM whose mood the test makes."""
    with closing(backend_over(Restricted(LibtpmsTransport(), mood), ALL)) as backend:
        before = at_rest(backend)
        yield backend
        mood.turn(None)
        gc.collect()  # what a failed step had in hand goes with the next command after that
        SCENARIOS["full"](ends("both", backend))  # it can go on as if nothing had been
        assert backend.tpm.live == before
        assert len(transient(backend.tpm)) <= before


def run(pair: Pair) -> TlsError | None:
    """A handshake; what ended it at the end that has the TPM.

    The peer hears of nothing but internal_error, if the alert can still be protected.
    """
    failure: TlsError | None = None
    try:
        pair.exchange()
    except TlsError as error:
        failure = error
    if failure is not None:
        assert failure.alert is AlertDescription.internal_error
        for step in pair.to_server, pair.to_client:
            with suppress(BackendError), told_of_internal_error():
                step()
    pair.forget()
    return failure


@contextmanager
def told_of_internal_error() -> Iterator[None]:
    try:
        yield
    except PeerAlert as alert:
        if alert.description is not AlertDescription.internal_error:
            raise


USED = (
    CC.LoadExternal,
    CC.HMAC,
    CC.CreatePrimary,
    CC.ECDH_ZGen,
    CC.ECDH_KeyGen,
    CC.EncryptDecrypt2,
)


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("command", USED)
def test_a_command_that_is_not_there_after_all(
    moody: TpmBackend, mood: Mood, role: str, command: CC
) -> None:
    """At each point where the handshake uses it."""
    failures = 0
    for passes in range(40):
        mood.turn(ResponseCode.COMMAND_CODE, command, passes=passes)
        try:
            failure: TlsError | None = run(Pair(ends(role, moody)))
        except TlsError as early:  # there is no connection yet
            failure = early
        if failure is None:
            break
        failures += 1
        assert isinstance(failure, TpmLacks)
        assert f"TPM2_{command.name}: TPM_RC_COMMAND_CODE" in str(failure)
    uses_it = command not in {"client": (CC.ECDH_KeyGen,), "server": (CC.ECDH_ZGen,)}[role]
    if command is CC.CreatePrimary:
        uses_it = role == "client"
    assert (failures > 0) is uses_it
    assert failures < 40


@pytest.mark.parametrize("role", ROLES)
def test_retries_that_end(moody: TpmBackend, mood: Mood, role: str) -> None:
    for code in ResponseCode.RETRY, ResponseCode.YIELDED, ResponseCode.TESTING:
        for passes in range(0, 60, 7):
            mood.turn(code, passes=passes, lasts=20)
            assert run(Pair(ends(role, moody))) is None


@pytest.mark.parametrize("role", ["client", "server"])
def test_retries_that_do_not_end(moody: TpmBackend, mood: Mood, role: str) -> None:
    """Flushing is then not possible either, and made up for."""
    failures = 0
    for passes in range(0, 200, 9):
        mood.turn(None)
        pair = Pair(ends(role, moody))
        mood.turn(ResponseCode.RETRY, passes=passes)
        failure = run(pair)
        if failure is not None:
            failures += 1
            assert isinstance(failure, TpmBusy)
            assert "try again later" in str(failure)
    assert failures > 3


@pytest.mark.parametrize(
    ("code", "expected", "says"),
    [
        (ResponseCode.LOCKOUT, TpmAuthError, "--clear-lockout"),
        (ResponseCode.FAILURE, TpmUnavailable, "failure mode"),
        (ResponseCode.INITIALIZE, TpmUnavailable, "was reset"),
        (ResponseCode.OBJECT_MEMORY, TpmBusy, "slots are taken"),
    ],
)
@pytest.mark.parametrize("role", ["client", "server"])
def test_what_the_tpm_says_is_what_the_user_hears(
    moody: TpmBackend, mood: Mood, role: str, code: int, expected: type[TpmError], says: str
) -> None:
    pair = Pair(ends(role, moody))
    mood.turn(code, CC.HMAC, passes=3)
    failure = run(pair)
    assert isinstance(failure, expected)
    assert says in str(failure)


# -- a real TPM, in real trouble -------------------------------------------------------------------


def lock_out(tpm: Tpm) -> None:
    """Guess a password once too often."""
    area = bytearray(public.ecdsa_key(Curve.NIST_P256))
    attributes = int.from_bytes(area[4:8], "big") & ~Attribute.NO_DA
    area[4:8] = attributes.to_bytes(4, "big")
    command = commands.create_primary(bytes(area), hierarchy=OWNER, password=b"the password")
    with tpm.load(command, password=b"a guess") as key:
        for _ in range(100):
            try:
                tpm.run(commands.sign(key, bytes(32), Alg.ECDSA, Alg.SHA256))
            except TpmError as error:
                if getattr(error, "code", None) == ResponseCode.LOCKOUT:
                    return
    raise AssertionError("it did not lock out")


@pytest.mark.parametrize("role", ROLES)
def test_in_lockout_our_keys_go_on(libtpms: Tpm, role: str) -> None:
    """They have noDA, so that nobody's guesses keep a server from its work, nor ours others'."""
    lock_out(libtpms)
    backend = TpmBackend(libtpms, ALL)
    for scenario in "full", "resumption":
        SCENARIOS[scenario](ends(role, backend))


def take(tpm: Tpm, slots: int) -> list[int]:
    """Objects of a program that knows nothing of ours."""
    command = commands.load_hmac_key(b"theirs", Alg.SHA256)
    return [tpm.device.create(command)[0] for _ in range(slots)]


def give_back(tpm: Tpm, handles: list[int]) -> None:
    for handle in handles:
        tpm.device.execute(commands.flush_context(handle))


@pytest.mark.parametrize("role", ROLES)
def test_one_slot_is_enough_for_a_handshake(libtpms: Tpm, role: str) -> None:
    taken = take(libtpms, 2)
    SCENARIOS["full"](ends(role, TpmBackend(libtpms, ALL)))
    give_back(libtpms, taken)


@pytest.mark.parametrize("role", ["client", "server"])
def test_without_a_slot_the_tpm_is_busy(moody: TpmBackend, role: str) -> None:
    moody.tpm._table.evict_all()
    taken = take(moody.tpm, 3)
    try:
        failure: TlsError | None = run(Pair(ends(role, moody)))
    except TlsError as early:
        failure = early
    assert isinstance(failure, TpmBusy)
    assert "slots are taken: end other programs" in str(failure)
    give_back(moody.tpm, taken)


@pytest.mark.parametrize("tcti", ["swtpm:port=1", "swtpm:path=/nowhere", "device:/dev/nowhere"])
@pytest.mark.usefixtures("need_pytss")
def test_there_is_no_tpm(tcti: str) -> None:
    with pytest.raises(TpmUnavailable):
        open_backend("tpm", tcti=tcti)


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("when", ["before the handshake", "in its middle"])
def test_the_tpm_is_killed(swtpm: Swtpm, role: str, when: str) -> None:
    backend = TpmBackend(open_tpm(swtpm.tcti), ALL)
    at_rest(backend)
    pair = Pair(ends(role, backend))
    if when == "in its middle":
        pair.to_server()
    swtpm.kill()
    failure = run(pair)
    assert isinstance(failure, TpmUnavailable)
    assert failure.alert is AlertDescription.internal_error
    with pytest.raises(BackendError):
        Pair(ends("both", backend)).exchange()
    backend.close()
    swtpm.start()
    again = TpmBackend(open_tpm(swtpm.tcti), ALL)
    SCENARIOS["full"](ends(role, again))
    again.close()


def test_a_reset_ends_what_was_open_and_nothing_more(swtpm: Swtpm) -> None:
    backend = TpmBackend(open_tpm(swtpm.tcti), ALL)
    pair = Pair(ends("both", backend)).complete()
    swtpm.stop()
    swtpm.start()
    for act in pair.client.update_keys, lambda: pair.client.send_data(b"data" * 1000):
        with pytest.raises(BackendError):
            act()
    pair.forget()
    backend.close()
