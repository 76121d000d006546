"""The device: retries, what ends it, threads, forks, recordings, statistics."""

from __future__ import annotations

import hmac
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.tpm.fakes import Scripted, response
from tests.tpm.swtpm import Swtpm
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.constants import Alg, Curve, ResponseCode
from tpmtls.backends.tpm.device import Device, Exchange, Patience, Recorder, Statistics
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.violations import TpmBusy, TpmError, TpmLacks, TpmUnavailable

RANDOM = response(0, b"\0\2ab")


def impatient(scripted: Scripted, attempts: int = 5) -> tuple[Device, list[float]]:
    """A device that notes its pauses instead of making them."""
    pauses: list[float] = []
    patience = Patience(attempts=attempts, first=1, longest=4, sleep=pauses.append)
    return Device(scripted, patience=patience), pauses


# -- retries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["RETRY", "YIELDED", "TESTING", "NV_RATE", "NV_UNAVAILABLE"])
def test_a_tpm_that_asks_for_time_gets_it(code: str) -> None:
    scripted = Scripted([ResponseCode[code], ResponseCode[code], RANDOM])
    device, pauses = impatient(scripted)
    assert device.execute(commands.get_random(2)) == b"ab"
    assert pauses == [1, 2]
    assert len(set(scripted.frames)) == 1


def test_a_retry_storm_ends() -> None:
    scripted = Scripted([ResponseCode.RETRY] * 100)
    device, pauses = impatient(scripted)
    with pytest.raises(TpmBusy, match=r"TPM2_GetRandom: TPM_RC_RETRY \(0x922\): it stayed busy"):
        device.execute(commands.get_random(2))
    assert pauses == [1, 2, 4, 4]
    assert len(scripted.frames) == 5


def test_a_storm_that_turns_into_an_error() -> None:
    device, _ = impatient(Scripted([ResponseCode.TESTING, ResponseCode.FAILURE]))
    with pytest.raises(TpmUnavailable, match="TPM_RC_FAILURE"):
        device.execute(commands.get_random(2))


def test_patience_is_bounded_by_default() -> None:
    assert 5 < sum(Patience().pauses()) < 20


def test_a_single_attempt_makes_no_pause() -> None:
    device, pauses = impatient(Scripted([ResponseCode.RETRY, RANDOM]), attempts=1)
    with pytest.raises(TpmBusy):
        device.execute(commands.get_random(2))
    assert pauses == []


# -- start and end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [0, ResponseCode.INITIALIZE])
def test_start_where_somebody_did_or_nobody(answer: int) -> None:
    scripted = Scripted([answer])
    Device(scripted).start()
    assert scripted.frames == [bytes.fromhex("80010000000c000001440000")]


def test_a_tpm_that_does_not_start() -> None:
    with pytest.raises(TpmUnavailable, match="TPM2_Startup: TPM_RC_FAILURE"):
        Device(Scripted([ResponseCode.FAILURE])).start()


def test_close_says_so_and_ends() -> None:
    scripted = Scripted([])
    device = Device(scripted)
    device.close()
    assert scripted.frames == [bytes.fromhex("80010000000c000001450000")]
    assert scripted.closed
    assert device.broken
    with pytest.raises(TpmUnavailable, match="scripted: cannot be used: it was closed"):
        device.transmit(b"")
    device.close()
    assert len(scripted.frames) == 1


def test_close_does_not_mind_a_refusal() -> None:
    scripted = Scripted([ResponseCode.LOCALITY])
    Device(scripted).close()
    assert scripted.closed


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x80\x01", response(0, b"\0\2ab")[:-1], response(0, b"\0\2ab") + b"\0"],
    ids=["empty", "no header", "cut", "too long"],
)
def test_a_malformed_response_ends_it(answer: bytes) -> None:
    device = Device(Scripted([answer, RANDOM]))
    with pytest.raises(TpmUnavailable, match="malformed"):
        device.execute(commands.get_random(2))
    with pytest.raises(TpmUnavailable, match="cannot be used: a response was malformed"):
        device.execute(commands.get_random(2))


@pytest.mark.parametrize("failure", [TpmUnavailable("gone"), KeyboardInterrupt()], ids=repr)
def test_a_transport_that_failed_is_not_used_again(failure: BaseException) -> None:
    scripted = Scripted([failure, RANDOM])
    device = Device(scripted)
    with pytest.raises(type(failure)):
        device.execute(commands.get_random(2))
    assert device.broken
    with pytest.raises(TpmUnavailable, match="an earlier command failed"):
        device.execute(commands.get_random(2))
    device.close()
    assert len(scripted.frames) == 1
    assert scripted.closed


# -- threads and forks -----------------------------------------------------------------------------


def test_threads_take_turns(tpm: Tpm) -> None:
    """More objects than slots, from more threads than one: every result is the right one."""
    barrier = threading.Barrier(4)

    def work(seed: int) -> bool:
        secrets = [bytes([seed, number]) * 16 for number in range(3)]
        keys = [tpm.load(commands.load_hmac_key(secret, Alg.SHA256)) for secret in secrets]
        barrier.wait()
        right = True
        for _ in range(20):
            for secret, key in zip(secrets, keys, strict=True):
                result = tpm.run(commands.hmac(key, b"data", Alg.SHA256))
                right &= result == hmac.digest(secret, b"data", "sha256")
        tpm.flush(*keys)
        return right

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert tpm.live == 0


def in_child(work: Callable[[], object]) -> str:
    """What `work` says in a forked child: its result, or its exception."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = f"{work()}"
        except BaseException as error:  # noqa: BLE001 - the parent judges it
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(pid, 0)
    return said


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 on fork beside threads
class TestFork:
    def test_a_child_is_refused(self, tpm: Tpm) -> None:
        key = tpm.load(commands.load_hmac_key(b"secret", Alg.SHA256))
        command = commands.hmac(key, b"data", Alg.SHA256)
        expected = tpm.run(command)
        said = in_child(lambda: tpm.run(command))
        assert said == (
            "TpmUnavailable: this TPM was opened before the process forked: open it anew in the "
            "child"
        )
        assert in_child(tpm.close) == "None"
        assert in_child(key.flush) == "None"
        assert in_child(lambda: tpm.device.transmit(b"")).startswith("TpmUnavailable")
        assert tpm.run(command) == expected
        key.flush()

    def test_a_child_is_refused_while_another_thread_is_at_it(self, libtpms: Tpm) -> None:
        """The lock that was held in the parent must not hang the child."""
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with libtpms.device.lock:
                held.set()
                done.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        try:
            said = in_child(lambda: libtpms.run(commands.get_random(2)))
        finally:
            done.set()
            thread.join()
        assert said.startswith("TpmUnavailable: this TPM was opened before")

    def test_a_child_opens_its_own(self, libtpms: Tpm) -> None:
        parents = libtpms.load(commands.load_hmac_key(b"parent", Alg.SHA256))

        def work() -> str:
            command = commands.load_hmac_key(b"child", Alg.SHA256)
            with open_tpm("libtpms:") as tpm, tpm.load(command) as key:
                return tpm.run(commands.hmac(key, b"", Alg.SHA256)).hex()

        assert in_child(work) == hmac.digest(b"child", b"", "sha256").hex()
        result = libtpms.run(commands.hmac(parents, b"", Alg.SHA256))
        assert result == hmac.digest(b"parent", b"", "sha256")
        parents.flush()

    def test_a_child_opens_the_same_swtpm(self, shared_swtpm: Swtpm) -> None:
        def work() -> int:
            with open_tpm(shared_swtpm.tcti) as own:
                return len(own.run(commands.get_random(8)))

        with open_tpm(shared_swtpm.tcti) as parents:
            assert in_child(work) == "8"
            assert len(parents.run(commands.get_random(8))) == 8


# -- recordings and statistics ---------------------------------------------------------------------


def test_a_recording_finds_what_crossed(libtpms: Tpm) -> None:
    secret = os.urandom(32)
    command = commands.load_hmac_key(secret, Alg.SHA256)
    with libtpms.device.recording() as recorder, libtpms.load(command) as key:
        result = libtpms.run(commands.hmac(key, b"data", Alg.SHA256))
    assert recorder.find(secret) == [("TPM2_LoadExternal", "in")]
    assert recorder.find(result) == [("TPM2_HMAC", "out")]
    assert recorder.find(os.urandom(32)) == []
    assert len(recorder) == 3
    libtpms.run(commands.get_random(2))
    assert len(recorder) == 3  # LoadExternal, HMAC, FlushContext, and no more


def test_a_recording_may_be_bounded(libtpms: Tpm) -> None:
    with libtpms.device.recording(limit=2) as last, libtpms.device.recording() as every:
        for number in range(5):
            libtpms.run(commands.get_random(number))
    assert list(last.exchanges) == list(every.exchanges)[-2:]
    assert len(every) == 5


def test_a_recording_keeps_responses_that_are_errors(libtpms: Tpm) -> None:
    with libtpms.device.recording() as recorder, pytest.raises(TpmError):
        libtpms.load(commands.load_hmac_key(bytes(65), Alg.SHA256))
    assert recorder.exchanges[0].response == bytes.fromhex("80010000000a000001c7")


def test_a_recording_does_not_show_what_it_holds() -> None:
    recorder = Recorder()
    recorder.exchanges.append(Exchange(b"\x80\1\0\0\0\x0c\0\0\1\x55SECRET", b"SECRET"))
    assert repr(recorder) == "<Recorder of 1 exchanges>"
    assert repr(recorder.exchanges[0]) == "<Exchange TPM2_HMAC, 16 → 6>"


def test_statistics() -> None:
    device = Device(Scripted([RANDOM, RANDOM]))
    assert device.statistics == Statistics()
    device.execute(commands.get_random(2))
    before = device.statistics
    device.execute(commands.get_random(2))
    made = device.statistics - before
    assert (made.commands, made.octets_in, made.octets_out) == (1, 12, 14)
    assert made.seconds > 0


def test_retries_are_counted_and_recorded() -> None:
    device, _ = impatient(Scripted([ResponseCode.RETRY, RANDOM]))
    with device.recording() as recorder:
        device.execute(commands.get_random(2))
    assert (device.statistics.commands, len(recorder)) == (2, 2)


# -- ESAPI -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("need_pytss")
def test_esapi_has_all_slots_to_itself(tpm: Tpm) -> None:
    keys = [tpm.load(commands.create_ecdh_key(Curve.NIST_P256)) for _ in range(3)]
    with tpm.esapi() as esapi:
        assert len(bytes(esapi.get_random(8))) == 8
        theirs = [esapi.create_primary(None, "ecc")[0] for _ in range(3)]
        for handle in theirs:
            esapi.flush_context(handle)
    for key in keys:
        tpm.run(commands.read_public(key))
    tpm.flush(*keys)


@pytest.mark.usefixtures("need_pytss")
@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (TpmUnavailable("gone"), TpmUnavailable, "gone"),
        (ResponseCode.COMMAND_CODE, TpmLacks, "TPM2_GetRandom: TPM_RC_COMMAND_CODE"),
        (response(0, b"\xff"), TpmError, "tpm2-tss: "),
    ],
    ids=["transport", "response", "nonsense"],
)
def test_esapi_fails_like_a_command_of_ours(
    answer: int | bytes | BaseException, kind: type[TpmError], words: str
) -> None:
    with pytest.raises(kind, match=words), Device(Scripted([answer])).esapi() as esapi:
        esapi.get_random(8)
