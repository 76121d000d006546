"""Provisioning for chained: repeatable, interrupted anywhere, and nothing of others touched.

A process that is killed is played here by a transport that fails at one command, before or after
the TPM took it, and by an end of its file locks; some are killed in earnest, on swtpm.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.tpm.conftest import loaded_sessions, nv_and_persistent, transient
from tests.tpm.fakes import Restricted, command_code, without
from tests.tpm.support import SCENARIOS, Ends, Pair, sessions
from tests.tpm.swtpm import Swtpm
from tests.unit.commands import tpmtls
from tpmtls.backends.tpm import chained_layout as layout
from tpmtls.backends.tpm import chained_lock, chained_provisioning, commands
from tpmtls.backends.tpm.chain import Ciphertext, start_session
from tpmtls.backends.tpm.chained import ChainedBackend
from tpmtls.backends.tpm.chained_lock import ChainLock, resets
from tpmtls.backends.tpm.chained_provisioning import (
    Found,
    look,
    provision,
    provision_opened,
    remove,
    remove_opened,
)
from tpmtls.backends.tpm.constants import CommandCode as CC
from tpmtls.backends.tpm.device import Device, Patience
from tpmtls.backends.tpm.frames import Command, sized
from tpmtls.backends.tpm.libtpms import LibtpmsTransport
from tpmtls.backends.tpm.opening import Tpm, open_device, open_tpm
from tpmtls.backends.tpm.public import storage_key
from tpmtls.backends.tpm.tcti import Transport
from tpmtls.violations import (
    ConfigurationError,
    StoredSecretError,
    TpmBusy,
    TpmError,
    TpmLacks,
    TpmUnavailable,
)

FIRST = layout.PLACES[0]
MADE = ([FIRST.store, FIRST.slots], [FIRST.parent])


# -- once, again, and away -------------------------------------------------------------------------


def test_provisioning_is_repeatable(libtpms: Tpm) -> None:
    before = nv_and_persistent(libtpms)
    assert remove_opened(libtpms) == 0
    for _ in range(3):
        assert provision_opened(libtpms) == FIRST
        assert nv_and_persistent(libtpms) == MADE
    assert remove_opened(libtpms) == 3
    assert nv_and_persistent(libtpms) == before
    assert transient(libtpms) == []
    assert loaded_sessions(libtpms) == []


def test_the_first_provisioning_stays_until_it_is_replaced(libtpms: Tpm) -> None:
    """A PSK that was stored before is of use after the same, and of none after another one."""
    backend = ChainedBackend(libtpms.beside())
    client, server = sessions()
    Pair(Ends(backend, None), client, server).complete().end()
    backend.close()
    provision_opened(libtpms)
    backend = ChainedBackend(libtpms.beside())
    pair = Pair(Ends(backend, None), client, server).complete()
    assert pair.info.psk == "resumption"
    pair.end()
    backend.close()
    provision_opened(libtpms, replace=True)
    backend = ChainedBackend(libtpms.beside())
    pair = Pair(Ends(backend, None), client, server).complete()
    assert pair.info.psk is None
    pair.end()
    backend.close()
    assert nv_and_persistent(libtpms) == MADE


def test_the_auth_value_does_not_cross_in_clear(libtpms: Tpm) -> None:
    """It is drawn by os.urandom, and known here for that."""
    drawn: list[bytes] = []

    def urandom(size: int) -> bytes:
        drawn.append(os.getrandom(size))
        return drawn[-1]

    with mock.patch("os.urandom", urandom), libtpms.device.recording() as recorder:
        provision_opened(libtpms)
        SCENARIOS["full"](Ends(ChainedBackend(libtpms), None))
    secret = next(octets for octets in drawn if len(octets) == layout.AUTH)
    assert recorder.find(secret) == []
    assert recorder.find(layout.MARKER) != []


def test_an_active_reader_has_everything(libtpms: Tpm) -> None:
    """What no claim is made against, shown."""
    backend = ChainedBackend(libtpms)
    chain = backend._chain
    header = chain._read(chain._store, layout.AUTH + 4, layout.STORE_A, 0)
    assert header[:2] == layout.AUTH.to_bytes(2, "big")
    assert header[-2:] == b"\0\0"
    in_slot = chain._read(chain._slots, layout.AUTH + 2, 0, 0)
    assert in_slot == header[: layout.AUTH + 2]
    assert len(set(header[2:-2])) > layout.AUTH // 2


# -- what is not ours ------------------------------------------------------------------------------


def define(tpm: Tpm, index: int, attributes: int, size: int, policy: bytes = b"") -> None:
    area = b"".join(
        (
            *(index.to_bytes(4, "big"), b"\0\x0b", attributes.to_bytes(4, "big")),
            *(sized(policy), size.to_bytes(2, "big")),
        )
    )
    parameters = sized(b"") + sized(area)
    tpm.run(Command(CC.NV_DefineSpace, (tpm.owner_hierarchy,), parameters, bytes, 1))


def persist_foreign(tpm: Tpm, handle: int) -> None:
    with tpm.load(commands.create_primary(storage_key(), hierarchy=tpm.owner_hierarchy)) as key:
        chained_provisioning._evict(tpm, key, handle)


OWNER_READ_WRITE = 1 << 1 | 1 << 17

FOREIGN: dict[str, Callable[[Tpm], None]] = {
    "a key": lambda tpm: persist_foreign(tpm, FIRST.parent),
    "an index for the store": lambda tpm: define(tpm, FIRST.store, OWNER_READ_WRITE, 94),
    "an index for the slots": lambda tpm: define(tpm, FIRST.slots, OWNER_READ_WRITE, 272),
    "one with our policy": lambda tpm: define(
        tpm, FIRST.slots, 1 << 3 | 1 << 19 | 1 << 25, layout.SLOTS_SIZE, bytes(32)
    ),
}


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_others_made_is_left_alone(libtpms: Tpm, foreign: str) -> None:
    FOREIGN[foreign](libtpms)
    before = nv_and_persistent(libtpms)
    assert provision_opened(libtpms) == layout.PLACES[1]
    assert provision_opened(libtpms, replace=True) == layout.PLACES[1]
    handshake(libtpms.beside())
    assert remove_opened(libtpms) == 3
    assert nv_and_persistent(libtpms) == before


def test_when_all_places_are_taken(libtpms: Tpm) -> None:
    for place in layout.PLACES:
        define(libtpms, place.slots, OWNER_READ_WRITE, 8)
    before = nv_and_persistent(libtpms)
    with pytest.raises(TpmLacks, match="all places"):
        provision_opened(libtpms)
    assert nv_and_persistent(libtpms) == before
    assert transient(libtpms) == []


def test_objects_and_sessions_of_others_are_left_alone(libtpms: Tpm, tmp_path: Path) -> None:
    provision_opened(libtpms)
    session = libtpms.run(start_session())
    theirs = libtpms.load(commands.load_hmac_key(bytes(32), 0x0B))  # type: ignore[arg-type]
    dead = ChainLock(tmp_path / "locks")
    dead.started(0x03000007, resets(libtpms), look(libtpms, FIRST).parent_qualified)
    assert dead._mine is not None
    os.close(dead._mine)
    dead._mine = None
    lock = ChainLock(tmp_path / "locks")
    lock.recover(libtpms)
    assert loaded_sessions(libtpms) == [session]
    assert transient(libtpms) == [theirs.handle]
    lock.close()
    libtpms.run(commands.flush_context(session))


def test_a_session_that_took_the_place_of_ours_is_left_alone(libtpms: Tpm, tmp_path: Path) -> None:
    """Killed after ours was flushed, and before the file was removed."""
    provision_opened(libtpms)
    dead = ChainLock(tmp_path / "locks")
    session = libtpms.run(start_session())
    dead.started(session, resets(libtpms), look(libtpms, FIRST).parent_qualified)
    dead.ending(libtpms.device)
    libtpms.run(commands.flush_context(session))
    theirs = libtpms.run(start_session())
    assert theirs == session
    assert dead._mine is not None
    os.close(dead._mine)
    dead._mine = None
    lock = ChainLock(tmp_path / "locks")
    lock.recover(libtpms)
    assert loaded_sessions(libtpms) == [theirs]
    assert list((tmp_path / "locks").glob("process-*")) == [lock._path]
    lock.close()
    libtpms.run(commands.flush_context(theirs))


def test_a_session_that_cannot_be_marked_is_noted_no_more(libtpms: Tpm, tmp_path: Path) -> None:
    lock = ChainLock(tmp_path / "locks")
    lock.started(0x03000007, resets(libtpms), b"")
    (note,) = (tmp_path / "locks").glob("process-*")
    assert note.stat().st_size > 0
    lock.ending(libtpms.device)  # there is no such session
    assert note.stat().st_size == 0
    lock.close()


# -- killed ----------------------------------------------------------------------------------------


class Killed(BaseException):
    """This process is no more."""


class Deadly:
    """A transport that ends its process at one command: before, or after the TPM took it."""

    def __init__(self, inner: Transport, index: int | None = None, *, after: bool = False) -> None:
        self.name = inner.name
        self.inner = inner
        self.index = index
        self.after = after
        self.sent: list[int] = []
        self.killed = False

    def transmit(self, command: bytes) -> bytes:
        self.sent.append(command_code(command))
        if len(self.sent) - 1 == self.index:
            if self.after:
                self.inner.transmit(command)
            self.killed = True
            raise Killed
        return self.inner.transmit(command)

    def close(self) -> None:
        """The TPM goes on."""

    def abandon(self) -> None:
        """It has nothing to leave."""


@pytest.fixture
def machine(need_libtpms: None) -> Iterator[Transport]:
    """A TPM that outlives the processes which use it."""
    transport = LibtpmsTransport()
    yield transport
    transport.close()


class Process:
    """One user of the machine's TPM, with locks of its own."""

    def __init__(self, machine: Transport, locks: Path, index: int | None, *, after: bool) -> None:
        self.transport = Deadly(machine, index, after=after)
        self.locks = locks
        self.mine: list[ChainLock] = []

    def _lock(self, _tpm: Tpm) -> ChainLock:
        self.mine.append(ChainLock(self.locks))
        return self.mine[-1]

    def run(self, act: Callable[[Tpm], object]) -> bool:
        """Whether it came to its end; if not, its locks are gone and its files stay."""
        with (
            mock.patch.object(chained_provisioning, "lock_for", self._lock),
            mock.patch.object(chained_lock.ChainLock, "close", self._alive(ChainLock.close)),
            mock.patch.object(chained_lock.ChainLock, "ending", self._alive(ChainLock.ending)),
        ):
            try:
                act(open_device(Device(self.transport, patience=Patience(sleep=lambda _: None))))
            except BaseException:  # whatever it would still have done, and failed at
                if not self.transport.killed:
                    raise
                self._die()
                return False
        return True

    def _alive(self, act: Callable[..., None]) -> Callable[..., None]:
        """A process that is killed does not clean up after itself: only `_die` does."""

        def unless_dead(lock: ChainLock, *rest: Device) -> None:
            if not self.transport.killed:
                act(lock, *rest)

        return unless_dead

    def _die(self) -> None:
        for lock in self.mine:
            for descriptor in lock._mine, lock._steps:
                if descriptor is not None:
                    os.close(descriptor)
            lock._mine = lock._steps = None


def handshake(tpm: Tpm) -> None:
    backend = ChainedBackend(tpm)
    SCENARIOS["full"](Ends(backend, None))
    backend.close()


def indices(machine: Transport, locks: Path, act: Callable[[Tpm], object]) -> list[int]:
    """The commands of one run that nothing interrupts."""
    process = Process(machine, locks, None, after=False)
    assert process.run(act)
    return process.transport.sent


def state(machine: Transport) -> tuple[Any, ...]:
    tpm = open_device(Device(Deadly(machine)))
    return nv_and_persistent(tpm), transient(tpm), loaded_sessions(tpm)


PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_command_of_a_handshake(
    machine: Transport, tmp_path: Path, part: int, *, after: bool
) -> None:
    """The next start finds its way, and leaves nothing but what was provisioned.

    Except where the kill came while the TPM started the session, or had a key of the probe of its
    capabilities: nobody can tell whose these are. They are one slot each, until a reset.
    """
    locks = tmp_path / "locks"
    indices(machine, locks, provision_opened)
    sent = indices(machine, locks, handshake)
    assert CC.StartAuthSession in sent
    assert len(sent) > 100
    probing = [index for index, code in enumerate(sent) if code == CC.LoadExternal]
    for index in range(part, len(sent), PARTS):
        assert not Process(machine, locks, index, after=after).run(handshake)
        assert Process(machine, locks, None, after=False).run(handshake)
        made, objects, open_sessions = state(machine)
        assert made == MADE, index
        assert len(objects) <= int(probing[0] <= index <= probing[-1] + MODES_TRIED), index
        lost = after and sent[index] == CC.StartAuthSession
        assert len(open_sessions) == int(lost), index
        device = Device(Deadly(machine))
        for handle in (*objects, *open_sessions):  # as a reset would
            device.execute(commands.flush_context(handle))
        assert [path.name for path in locks.glob("process-*")] == []


MODES_TRIED = 6
"""Commands with the last key of the probe of capabilities, which has five modes to try."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("replace", [False, True], ids=["first", "again"])
def test_killed_at_every_command_of_provisioning(
    machine: Transport, tmp_path: Path, *, after: bool, replace: bool
) -> None:
    locks = tmp_path / "locks"

    def act(tpm: Tpm) -> None:
        provision_opened(tpm, replace=replace)

    def clean(tpm: Tpm) -> None:
        remove_opened(tpm)
        for handle in transient(tpm):
            tpm.device.execute(commands.flush_context(handle))
        for handle in loaded_sessions(tpm):
            tpm.device.execute(commands.flush_context(handle))

    if replace:
        indices(machine, locks, provision_opened)
    sent = indices(machine, locks, act)
    if not replace:
        indices(machine, locks, clean)
    for index in range(len(sent)):
        assert not Process(machine, locks, index, after=after).run(act)
        # objects and the salted session of the dead are not told apart from others': as after a
        # reset, they are gone
        device = Device(Deadly(machine))
        tpm = open_device(device)
        for handle in (*transient(tpm), *loaded_sessions(tpm)):
            device.execute(commands.flush_context(handle))
        assert Process(machine, locks, None, after=False).run(provision_opened), index
        assert Process(machine, locks, None, after=False).run(handshake), index
        assert state(machine) == (MADE, [], []), index
        if not replace:
            indices(machine, locks, clean)
            assert state(machine) == (([], []), [], [])


def test_two_hundred_handshakes(libtpms: Tpm) -> None:
    """They leave nothing, and each leaves what the one before it left: zeros as a key."""
    provision_opened(libtpms)
    backend = ChainedBackend(libtpms.beside())
    client, server = sessions()
    live = set()
    for number in range(200):
        if not number % 4:
            client, server = sessions()
        both = Ends(backend, None) if number % 2 else Ends(None, backend)
        if number % 2:
            Pair(both, client, server).complete().end()
        else:
            SCENARIOS["full"](both)
        live.add(backend.tpm.live)
    assert max(live) == 2
    backend.close()
    assert transient(libtpms) == []
    assert loaded_sessions(libtpms) == []
    assert nv_and_persistent(libtpms) == MADE


# -- on swtpm, in earnest --------------------------------------------------------------------------

VICTIM = """
import sys
from tests.tpm.support import SCENARIOS, Ends
from tpmtls import open_backend
backend = open_backend("tpm", tcti=sys.argv[1], protect={"chained"})
print("ready", flush=True)
while True:
    SCENARIOS["resumption"](Ends(backend, None))
"""


@pytest.mark.parametrize("delay", [0.05, 0.21, 0.33])
def test_a_process_that_was_killed(swtpm: Swtpm, delay: float) -> None:
    provision(swtpm.tcti)
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, swtpm.tcti], stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"ready\n"
    with pytest.raises(subprocess.TimeoutExpired):
        victim.wait(delay)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    with open_tpm(swtpm.tcti) as beside:
        assert loaded_sessions(beside) != []
        with open_tpm(swtpm.tcti) as tpm:
            handshake(tpm)
        assert transient(beside) == []
        assert loaded_sessions(beside) == []
        assert nv_and_persistent(beside) == MADE


def test_a_tpm_that_lost_its_memory(swtpm: Swtpm) -> None:
    """After a reset without a shutdown the orderly index is empty."""
    provision(swtpm.tcti)
    for end in swtpm.kill, swtpm.stop:
        client, server = sessions()
        with open_tpm(swtpm.tcti) as tpm:
            backend = ChainedBackend(tpm)
            Pair(Ends(backend, None), client, server).complete().end()
        end()
        assert swtpm.start()
        with open_tpm(swtpm.tcti) as tpm:
            backend = ChainedBackend(tpm)
            pair = Pair(Ends(backend, None), client, server).complete()
            assert pair.info.psk == "resumption"
            pair.end()
            backend.close()


def test_two_processes_take_turns(swtpm: Swtpm) -> None:
    provision(swtpm.tcti)
    other = subprocess.Popen(
        [sys.executable, "-c", VICTIM, swtpm.tcti], stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"ready\n"
    with open_tpm(swtpm.tcti) as tpm:
        backend = ChainedBackend(tpm)
        for _ in range(3):
            SCENARIOS["resumption"](Ends(backend, None))
        assert other.poll() is None
        backend.close()
    other.kill()
    other.wait()
    other.stdout.close()


# -- refusals --------------------------------------------------------------------------------------


def test_a_tpm_that_is_not_provisioned(swtpm: Swtpm) -> None:
    with open_tpm(swtpm.tcti) as tpm, pytest.raises(ConfigurationError, match="tpmtls key chain"):
        ChainedBackend(tpm)


LACKING = [CC.CreateLoaded, CC.NV_Read, CC.ECDH_ZGen]


@pytest.mark.parametrize("code", LACKING, ids=lambda code: code.name)
def test_a_tpm_that_lacks_a_command(machine: Transport, code: CC) -> None:
    provision_opened(open_device(Device(Deadly(machine))))
    less = Restricted(machine, without(code))
    tpm = open_device(Device(less, patience=Patience(sleep=lambda _: None)))
    with pytest.raises(TpmError):
        handshake(tpm)


class Otherwise:
    """A TPM whose answers to one command are different, or in clear."""

    def __init__(self, inner: Transport, bend: Callable[[bytes], bytes]) -> None:
        self.name = "libtpms:"
        self.inner = inner
        self.bend = bend

    def transmit(self, command: bytes) -> bytes:
        return self.inner.transmit(self.bend(command))

    def close(self) -> None:
        """The TPM goes on."""

    def abandon(self) -> None:
        """It has nothing to leave."""


def never_encrypting(command: bytes) -> bytes:
    """As one that ignores the encrypt and decrypt flags would: all in clear, and all agrees."""
    start = 10 + 4 * (2 if command_code(command) in (CC.NV_Read, CC.NV_Write) else 1)
    chained = (
        command[start + 4 : start + 5] == b"\x03" and command[start + 8 : start + 10] == b"\0\0"
    )
    if command[:2] != b"\x80\x02" or not chained:
        return command
    flags = start + 4 + 4 + 2
    return command[:flags] + b"\x01" + command[flags + 1 :]


def losing_the_flag(command: bytes) -> bytes:
    """As one that does not encrypt responses: deciphering what was clear makes something else."""
    start = 10 + 4 * (2 if command_code(command) in (CC.NV_Read, CC.NV_Write) else 1)
    flags = start + 4 + 4 + 2
    if command[:2] != b"\x80\x02" or command[start + 4 : start + 5] != b"\x03":
        return command
    return command[:flags] + bytes((command[flags] & ~0x40,)) + command[flags + 1 :]


def in_clear(which: CC) -> Callable[[bytes], bytes]:
    """As one that does not encrypt what this command gives, and takes that next as it is."""
    clear = False

    def bend(command: bytes) -> bytes:
        nonlocal clear
        code, before = command_code(command), clear
        clear = code == which
        start = 10 + 4 * (2 if code in (CC.NV_Read, CC.NV_Write) else 1)
        flags = start + 4 + 4 + 2
        if command[:2] != b"\x80\x02" or command[start + 4 : start + 5] != b"\x03":
            return command
        without = 0x40 * clear | 0x20 * before
        return command[:flags] + bytes((command[flags] & ~without,)) + command[flags + 1 :]

    return bend


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (never_encrypting, "can be read"),
        (losing_the_flag, "can be read"),
        (in_clear(CC.HMAC), "can be read"),
        (in_clear(CC.NV_Read), "can be read"),
        (in_clear(CC.ECDH_ZGen), "can be read"),
    ],
    ids=["never", "no response", "HMAC", "NV_Read", "ECDH_ZGen"],
)
def test_a_tpm_that_behaves_otherwise(
    machine: Transport, bend: Callable[[bytes], bytes], said: str
) -> None:
    provision_opened(open_device(Device(machine_like(machine))))
    with pytest.raises(TpmLacks, match=f"which no standard promises.*{said}"):
        ChainedBackend(open_device(Device(Otherwise(machine, bend))))
    tpm = open_device(Device(machine_like(machine)))
    assert (transient(tpm), loaded_sessions(tpm)) == ([], [])


def test_an_empty_auth_value_is_refused(libtpms: Tpm) -> None:
    """So is a TPM that leaves A out: all chains and is encrypted, by what all know."""

    def urandom(size: int) -> bytes:
        return bytes(size) if size == layout.AUTH else os.getrandom(size)

    with mock.patch("os.urandom", urandom):
        provision_opened(libtpms)
    with pytest.raises(TpmLacks, match="can be read"):
        ChainedBackend(libtpms)


def test_a_tpm_whose_nonces_repeat_is_refused(
    libtpms: Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    provision_opened(libtpms)
    monkeypatch.setattr(Ciphertext, "repeats", lambda *_: True)
    with pytest.raises(TpmLacks, match="does not become a key"):
        ChainedBackend(libtpms)


def machine_like(machine: Transport) -> Transport:
    return Otherwise(machine, lambda command: command)


def test_wraps_of_another_tpm_are_refused(libtpms: Tpm) -> None:
    from tests.tpm.test_chained import stored_psk
    from tpmtls.algorithms import SHA256

    backend = ChainedBackend(libtpms)
    blob = stored_psk(backend, SHA256)
    generation = backend._generation
    other = bytes(layout.GENERATION)
    with pytest.raises(StoredSecretError, match="not wrapped under these"):
        backend.unwrap(blob.replace(generation, other), "PSK", SHA256)


def test_locks_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(PermissionError):
        ChainLock(folder)
    link = tmp_path / "link"
    folder.chmod(0o700)
    link.symlink_to(folder)
    with pytest.raises(PermissionError):
        ChainLock(link)


def test_an_unusable_folder_for_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    tpm = mock.Mock()
    tpm.name = "swtpm:host=localhost,port=1"
    with pytest.raises(TpmUnavailable, match="the lock of swtpm"):
        chained_lock.lock_for(tpm)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    lock = chained_lock.lock_for(tpm)
    (steps,) = (tmp_path / f"tpmtls-{os.getuid()}").glob("*/steps")
    with lock.exclusive(), lock.exclusive(), steps.open() as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        monkeypatch.setattr(chained_lock, "_PATIENCE", 0.01)
        another = chained_lock.lock_for(tpm)
        with pytest.raises(TpmBusy, match="does not end its use"), another.exclusive():
            pass
        another.close()
    lock.close()


# -- the command -----------------------------------------------------------------------------------


def test_the_command(need_libtpms: None, tmp_path: Path) -> None:
    tcti = f"libtpms:{tmp_path / 'tpm'}"
    first = tpmtls("key", "chain", "--tcti", tcti)
    assert first.status == 0
    assert "is ready for --protect chained: storage key at 0x81007a00" in first.stderr
    assert tpmtls("key", "chain", "--tcti", tcti).stderr == first.stderr
    assert tpmtls("key", "chain", "--tcti", tcti, "--replace").stderr == first.stderr
    assert "removed 3 parts" in tpmtls("key", "chain", "--tcti", tcti, "--remove").stderr
    assert "there was nothing" in tpmtls("key", "chain", "--tcti", tcti, "--remove").stderr
    refused = tpmtls("key", "chain", "--tcti", "libtpms:")
    assert (refused.status, "forgets everything" in refused.stderr) == (2, True)
    both = tpmtls("key", "chain", "--remove", "--replace")
    assert both.status == 2


def test_removing_by_name(need_libtpms: None, tmp_path: Path) -> None:
    tcti = f"libtpms:{tmp_path / 'tpm'}"
    provision(tcti)
    with open_tpm(tcti) as tpm:
        assert look(tpm, FIRST).parent is Found.OURS
    assert remove(tcti) == 3


def test_the_help_says_what_is_claimed() -> None:
    for command in (("connect",), ("serve",), ("key", "chain")):
        said = " ".join(tpmtls(*command, "--help").stdout.decode().split())
        assert "no plaintext of a secret in" in said
        assert "reads everything" in said
        assert "experiment" in said
