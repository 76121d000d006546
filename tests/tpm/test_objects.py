"""The resource manager: more objects than slots, other users of the slots, nothing left behind."""

from __future__ import annotations

import gc
import hmac
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.tpm.conftest import transient
from tests.tpm.fakes import Restricted, Scripted, command_code, response
from tests.tpm.swtpm import Swtpm
from tpmtls.backends.tpm import commands, tcti
from tpmtls.backends.tpm.constants import Alg, CommandCode, Curve, ResponseCode
from tpmtls.backends.tpm.device import Device, Patience
from tpmtls.backends.tpm.frames import Command
from tpmtls.backends.tpm.libtpms import LibtpmsTransport
from tpmtls.backends.tpm.objects import ObjectTable, Owner, TpmObject
from tpmtls.backends.tpm.opening import Tpm, open_device, open_tpm
from tpmtls.backends.tpm.tcti import open_transport
from tpmtls.violations import TpmBusy, TpmError, TpmUnavailable

KEY = commands.load_hmac_key(b"secret", Alg.SHA256)


@pytest.fixture(autouse=True)
def long_tenure(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a test may pause for longer than a swtpm's slots are kept from others."""
    if "tpm" in request.fixturenames:
        monkeypatch.setattr(tcti, "_TENURE", 60.0)


def use(tpm: Tpm, key: TpmObject) -> bytes:
    return tpm.run(commands.hmac(key, b"data", Alg.SHA256))


def hmac_keys(tpm: Tpm, number: int) -> tuple[list[TpmObject], list[bytes]]:
    """Keys of different secrets, and what each makes of `data`."""
    secrets = [os.urandom(32) for _ in range(number)]
    keys = [tpm.load(commands.load_hmac_key(secret, Alg.SHA256)) for secret in secrets]
    return keys, [hmac.digest(secret, b"data", "sha256") for secret in secrets]


# -- more objects than slots -----------------------------------------------------------------------


def test_ten_objects_in_three_slots(tpm: Tpm) -> None:
    keys, expected = hmac_keys(tpm, 10)
    for _ in range(2):
        for index in [*range(10), *range(9, -1, -1), 0, 5, 0, 5]:
            assert use(tpm, keys[index]) == expected[index]
            assert len(transient(tpm)) == 3
    assert tpm.live == 10
    tpm.flush(*keys)
    assert tpm.live == 0
    assert transient(tpm) == []


def test_the_least_recently_used_makes_room(tpm: Tpm) -> None:
    keys, _ = hmac_keys(tpm, 3)
    use(tpm, keys[0])  # so that the second is the oldest
    keys.append(tpm.load(KEY))
    assert [key.handle > 0 for key in keys] == [True, False, True, True]
    tpm.flush(*keys)


def test_one_that_rests_makes_room_first(tpm: Tpm) -> None:
    keys, expected = hmac_keys(tpm, 3)
    tpm.rest(keys[2])
    keys.append(tpm.load(KEY))
    assert [key.handle > 0 for key in keys] == [True, True, False, True]
    tpm.rest(keys[2])  # which does nothing to one that is saved
    assert use(tpm, keys[2]) == expected[2]
    assert [key.handle > 0 for key in keys] == [False, True, True, True]
    tpm.rest(keys[1])
    use(tpm, keys[1])  # so that it rests no more
    use(tpm, keys[0])
    assert [key.handle > 0 for key in keys] == [True, True, True, False]
    tpm.flush(*keys)
    tpm.rest(keys[0])  # nor to one that is flushed


def test_an_object_is_saved_once(tpm: Tpm) -> None:
    keys, expected = hmac_keys(tpm, 4)
    with tpm.device.recording() as recorder:
        for _ in range(3):
            assert [use(tpm, key) for key in keys] == expected
    sent = [command_code(exchange.command) for exchange in recorder.exchanges]
    assert sent.count(CommandCode.ContextLoad) == 12
    assert sent.count(CommandCode.ContextSave) == 3  # the first was saved before
    tpm.flush(*keys)


def test_an_object_in_use_does_not_make_room_for_itself(libtpms: Tpm) -> None:
    """A saved key and its saved parent: both must be loaded at a time."""
    table = ObjectTable(libtpms.device, slots=1)
    owner = Owner()
    one, two = table.load(KEY, owner), table.load(KEY, owner)
    assert [one.handle > 0, two.handle > 0] == [False, True]
    both: Command[bytes] = Command(CommandCode.ReadPublic, (one, two), b"", bytes)
    with pytest.raises(TpmError):
        table.run(both)  # which has no two handles, but they were there
    assert one.handle > 0
    assert two.handle > 0
    table.close(owner)
    assert transient(libtpms) == []


def test_a_flushed_object_is_refused(tpm: Tpm) -> None:
    key = tpm.load(KEY)
    key.flush()
    key.flush()
    with pytest.raises(TpmError, match="used after it was flushed: load it again"):
        use(tpm, key)
    assert tpm.live == 0


def test_a_saved_object_is_flushed_without_a_word(tpm: Tpm) -> None:
    keys, _ = hmac_keys(tpm, 4)
    with tpm.device.recording() as recorder:
        keys[0].flush()
    assert len(recorder) == 0
    assert tpm.live == 3
    with pytest.raises(TpmError, match="used after it was flushed"):
        use(tpm, keys[0])
    tpm.flush(*keys)


def test_what_an_object_shows(tpm: Tpm) -> None:
    keys, _ = hmac_keys(tpm, 4)
    keys[1].flush()
    assert repr(keys[0]) == "<TpmObject, saved>"
    assert repr(keys[1]) == "<TpmObject, flushed>"
    assert repr(keys[3]).startswith("<TpmObject 0x8000000")
    tpm.flush(*keys)


def test_random_use(tpm: Tpm) -> None:
    """Loads, uses and flushes in any order: every result is right, nothing is left."""
    chance = random.Random(8448)
    keys: list[tuple[TpmObject, bytes]] = []
    for _ in range(300):
        what = chance.random()
        if not keys or what < 0.2:
            [key], [expected] = hmac_keys(tpm, 1)
            keys.append((key, expected))
        elif what < 0.35:
            keys.pop(chance.randrange(len(keys)))[0].flush()
        elif what < 0.4:
            keys.pop(chance.randrange(len(keys)))  # and forget it
        else:
            key, expected = chance.choice(keys)
            assert use(tpm, key) == expected
    tpm.flush(*(key for key, _ in keys))
    assert transient(tpm) == []
    assert tpm.live == 0


# -- nothing left behind ---------------------------------------------------------------------------


def test_a_block_flushes(tpm: Tpm) -> None:
    with tpm.load(KEY) as key:
        assert transient(tpm) == [key.handle]
    assert transient(tpm) == []


def test_an_exception_leaves_nothing(tpm: Tpm) -> None:
    with pytest.raises(ZeroDivisionError), tpm.load(KEY), tpm.load(KEY):
        raise ZeroDivisionError
    assert transient(tpm) == []


def test_close_flushes_what_was_forgotten(tpm: Tpm) -> None:
    beside = open_tpm(tpm.name)
    kept = tpm.load(KEY)
    forgotten, _ = hmac_keys(beside, 4)
    assert (tpm.live, beside.live) == (1, 4)
    beside.close()
    assert beside.live == 0
    forgotten[0].flush()
    assert beside.live == 0
    use(tpm, kept)
    assert transient(tpm) == [kept.handle]
    del forgotten  # whose notes must not flush what took their handles
    use(tpm, kept)
    kept.flush()


def test_what_was_dropped_is_flushed_next(tpm: Tpm) -> None:
    keys, expected = hmac_keys(tpm, 4)
    kept = keys.pop(), expected.pop()
    keys.clear()
    gc.collect()
    assert len(transient(tpm)) == 1
    assert tpm.live == 1
    assert use(tpm, kept[0]) == kept[1]
    kept[0].flush()


def test_what_was_dropped_is_flushed_at_close(tpm: Tpm) -> None:
    beside = open_tpm(tpm.name)
    beside.load(KEY)
    beside.close()
    assert transient(tpm) == []


def test_an_error_in_creation_leaves_nothing(tpm: Tpm) -> None:
    with pytest.raises(TpmError):
        tpm.load(commands.load_hmac_key(bytes(65), Alg.SHA256))
    assert transient(tpm) == []
    assert tpm.live == 0


def test_an_object_that_somebody_else_flushed(tpm: Tpm) -> None:
    with tpm.load(KEY) as key:
        tpm.run(commands.flush_context(key.handle))
        with pytest.raises(TpmUnavailable, match=r"REFERENCE_H0 .*another program flushed"):
            use(tpm, key)
    assert tpm.live == 0


# -- others in the slots ---------------------------------------------------------------------------


@pytest.fixture
def others(tpm: Tpm) -> Iterator[ExitStack]:
    """Takes slots behind the table's back."""
    with ExitStack() as stack:
        yield stack


def take_slots(tpm: Tpm, stack: ExitStack, number: int) -> None:
    for _ in range(number):
        handle, _ = tpm.device.create(KEY)
        stack.callback(tpm.device.execute, commands.flush_context(handle))


@pytest.mark.parametrize("taken", [1, 2])
def test_ours_make_room_when_others_take_slots(tpm: Tpm, others: ExitStack, taken: int) -> None:
    take_slots(tpm, others, taken)
    keys, expected = hmac_keys(tpm, 5)
    for _ in range(2):
        assert [use(tpm, key) for key in keys] == expected
    tpm.flush(*keys)


def patient(transport: Any) -> tuple[Tpm, list[float]]:
    pauses: list[float] = []
    return open_device(Device(transport, patience=Patience(sleep=pauses.append))), pauses


@pytest.mark.usefixtures("need_libtpms")
def test_no_slot_at_all_is_busy() -> None:
    tpm, pauses = patient(LibtpmsTransport())
    with tpm, ExitStack() as stack:
        take_slots(tpm, stack, 3)
        with pytest.raises(TpmBusy, match=r"LoadExternal: TPM_RC_OBJECT_MEMORY .*slots are taken"):
            tpm.load(KEY)
        assert len(pauses) == 9
        assert sum(pauses) < 2


@pytest.mark.usefixtures("need_libtpms")
def test_another_error_ends_the_wait() -> None:
    codes = [ResponseCode.FAILURE, ResponseCode.OBJECT_MEMORY, ResponseCode.OBJECT_HANDLES]

    def verdict(frame: bytes) -> int | None:
        return codes.pop() if codes and command_code(frame) == CommandCode.LoadExternal else None

    tpm, pauses = patient(Restricted(LibtpmsTransport(), verdict))
    with tpm:
        with pytest.raises(TpmUnavailable, match="failure mode"):
            tpm.load(KEY)
        assert len(pauses) == 2


@pytest.mark.usefixtures("need_libtpms")
def test_a_slot_that_becomes_free_is_taken() -> None:
    tpm, pauses = patient(LibtpmsTransport())
    with tpm, ExitStack() as stack:
        take_slots(tpm, stack, 3)

        def sleep(_pause: float) -> None:
            pauses.append(_pause)
            if len(pauses) == 3:
                stack.close()

        object.__setattr__(tpm._table._patience, "sleep", sleep)
        with tpm.load(KEY) as key:
            use(tpm, key)
        assert len(pauses) == 3


@pytest.mark.usefixtures("need_libtpms")
def test_a_use_that_needs_a_slot_of_its_own() -> None:
    """Some chips need a free slot for what libtpms does without."""
    refusals = [ResponseCode.OBJECT_MEMORY] * 2

    def verdict(frame: bytes) -> int | None:
        return refusals.pop() if refusals and command_code(frame) == CommandCode.HMAC else None

    tpm, pauses = patient(Restricted(LibtpmsTransport(), verdict))
    with tpm:
        keys, expected = hmac_keys(tpm, 3)
        assert use(tpm, keys[0]) == expected[0]
        assert [key.handle > 0 for key in keys] == [True, False, False]
        assert pauses == []
        tpm.flush(*keys)


def test_another_program_takes_slots(swtpm: Swtpm, need_tools: None) -> None:
    """tpm2_createprimary leaves its key in the TPM, as it does where no resource manager is."""
    with open_tpm(swtpm.tcti) as tpm:
        keys, expected = hmac_keys(tpm, 3)
        tpm.flush(keys.pop())
        environment = {**os.environ, "TPM2TOOLS_TCTI": swtpm.tcti}
        made = subprocess.run(
            ["tpm2_createprimary", "-C", "o", "-G", "ecc", "-c", str(swtpm.folder / "primary")],
            env=environment,
            capture_output=True,
            check=True,
            text=True,
        )
        assert "value:" in made.stdout
        assert len(transient(tpm)) in (1, 3)  # ours made room, if we held still for long enough
        more, more_expected = hmac_keys(tpm, 4)
        assert [use(tpm, key) for key in keys + more] == expected[:2] + more_expected
        subprocess.run(["tpm2_flushcontext", "-t"], env=environment, check=True)


def test_two_users_of_one_swtpm(swtpm: Swtpm) -> None:
    """As two processes would: neither knows of the other's objects, and both come through."""
    with open_tpm(swtpm.tcti) as one, ExitStack() as stack:
        two = open_device(Device(open_transport(swtpm.tcti)))
        stack.callback(two.close)
        first, expected = hmac_keys(one, 2)
        second, expected_too = hmac_keys(two, 1)
        for _ in range(3):
            assert [use(one, key) for key in first] == expected
            assert [use(two, key) for key in second] == expected_too
            ephemeral = one.load(commands.create_ecdh_key(Curve.NIST_P256))
            ephemeral.flush()
        one.flush(*first)
        two.flush(*second)
        assert transient(one) == []


# -- a TPM that is gone ----------------------------------------------------------------------------


def test_flush_does_not_mind_a_tpm_that_is_gone() -> None:
    created = response(0, bytes.fromhex("80000001") + b"\0\0")
    device = Device(Scripted([created, TpmUnavailable("gone")]))
    table, owner = ObjectTable(device, slots=3), Owner()
    key = table.load(KEY, owner)
    with pytest.raises(TpmUnavailable, match="gone"):
        table.run(commands.get_random(2))
    key.flush()
    table.close(owner)
    assert owner.live == 0


def test_flush_says_what_went_wrong_otherwise() -> None:
    created = response(0, bytes.fromhex("80000001") + b"\0\0")
    device = Device(Scripted([created, ResponseCode.LOCALITY]))
    key = ObjectTable(device, slots=3).load(KEY, Owner())
    with pytest.raises(TpmError, match="TPM2_FlushContext: TPM_RC_LOCALITY"):
        key.flush()
