"""One TPM: its commands one after another, retried where it asks for that, its errors by type."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from time import perf_counter, sleep
from types import TracebackType
from typing import Any, Final, NamedTuple, NoReturn, TypeVar
from weakref import WeakSet

from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.constants import ResponseCode
from tpmtls.backends.tpm.frames import (
    HEADER_SIZE,
    Authorization,
    Command,
    Created,
    Creation,
    decode,
    encode,
    malformed,
)
from tpmtls.backends.tpm.responses import PATIENCE, canonical, command_name, error, from_tpm
from tpmtls.backends.tpm.tcti import Transport, as_tcti, import_pytss
from tpmtls.violations import TpmError, TpmUnavailable

T = TypeVar("T")
_SUCCESS: Final = bytes(4)
_CLOSED: Final = "it was closed"


class Exchange(NamedTuple):
    """A command and its response, as they crossed to the TPM and back."""

    command: bytes
    response: bytes

    def __repr__(self) -> str:
        code = int.from_bytes(self.command[6:10], "big")
        return f"<Exchange {command_name(code)}, {len(self.command)} → {len(self.response)}>"


class Recorder:
    """Every octet that crossed, for tests to search: it holds the secrets that crossed in clear.

    With a `limit`, only the last that many exchanges.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.exchanges: deque[Exchange] = deque(maxlen=limit)

    def find(self, octets: bytes) -> list[tuple[str, str]]:
        """The crossings of `octets`: (TPM2_…, "in" or "out"), each frame once."""
        found = []
        for command, response in self.exchanges:
            name = command_name(int.from_bytes(command[6:10], "big"))
            found += [(name, "in")] * (octets in command) + [(name, "out")] * (octets in response)
        return found

    def __len__(self) -> int:
        return len(self.exchanges)

    def __repr__(self) -> str:
        return f"<Recorder of {len(self)} exchanges>"


@dataclass(slots=True)
class Statistics:
    """What went to the TPM; `seconds` is the time inside `Transport.transmit`."""

    commands: int = 0
    octets_in: int = 0
    octets_out: int = 0
    seconds: float = 0.0

    def __sub__(self, earlier: Statistics) -> Statistics:
        return Statistics(
            self.commands - earlier.commands,
            self.octets_in - earlier.octets_in,
            self.octets_out - earlier.octets_out,
            self.seconds - earlier.seconds,
        )


@dataclass(frozen=True)
class Patience:
    """How often, and after which pauses, a command is sent again; by default for ten seconds."""

    attempts: int = 30
    first: float = 0.001
    longest: float = 0.5
    sleep: Callable[[float], object] = field(default=sleep, repr=False)

    def pauses(self) -> Iterator[float]:
        """Pause before each further attempt."""
        pause = self.first
        for _ in range(self.attempts - 1):
            yield pause
            pause = min(2 * pause, self.longest)


class _ForkedLock:
    """In place of a device's lock in a forked child: whoever takes it learns why not."""

    def __enter__(self) -> NoReturn:
        raise TpmUnavailable(
            "this TPM was opened before the process forked: open it anew in the child"
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        raise AssertionError("unreachable")  # never entered


_devices: Final[WeakSet[Device]] = WeakSet()


class Device:
    """A TPM behind a transport; any thread may use it.

    `lock` is held for each command, and may be held for several that belong together.
    """

    def __init__(self, transport: Transport, *, patience: Patience | None = None) -> None:
        self.transport = transport
        self.patience = patience or Patience()
        self.lock: Any = threading.RLock()
        self.forked = False
        self._statistics = Statistics()
        self._recorders: list[Recorder] = []
        self._broken: str | None = None
        _devices.add(self)

    def start(self) -> None:
        """Start the TPM, unless somebody did."""
        with self.lock:
            try:
                self.execute(commands.startup())
            except TpmError as failure:
                if getattr(failure, "code", None) != ResponseCode.INITIALIZE:
                    raise

    def close(self) -> None:
        """Tell the TPM that we stop, so that it need not suspect an attack, and let go of it."""
        if self.forked:
            return
        with self.lock:
            if self._broken is None:
                with suppress(TpmError):
                    self.execute(commands.shutdown())
            if self._broken != _CLOSED:
                self._broken = _CLOSED
                self.transport.close()

    @property
    def broken(self) -> bool:
        """Whether nothing more can come of it."""
        return self._broken is not None

    def abandon(self) -> None:
        """In a forked child: from here on refuse, and leave the TPM to the parent."""
        self.forked = True
        self.lock = _ForkedLock()
        self.transport.abandon()

    # -- commands ----------------------------------------------------------------------------------

    def execute(self, command: Command[T], authorization: Authorization | None = None) -> T:
        """The result of a command; raises TpmError."""
        with self.lock:
            response = self._submit(command.code, encode(command, authorization))
            return command.parse(decode(command, authorization, response)[1])

    def submit_each(self, code: int, frames: Iterable[bytes]) -> list[bytes]:
        """The responses to frames of one command that succeeded; raises TpmError."""
        with self.lock:
            return [self._submit(code, frame) for frame in frames]

    def create(
        self, command: Creation, authorization: Authorization | None = None
    ) -> tuple[int, Created]:
        """The handle of a new object, which the caller flushes, and what the TPM says of it."""
        with self.lock:
            response = self._submit(command.code, encode(command, authorization))
            try:
                handle, parameters = decode(command, authorization, response)
                return handle, command.parse(parameters)
            except TpmError:  # it was altered on its way, but there is an object
                handle = int.from_bytes(response[HEADER_SIZE : HEADER_SIZE + 4], "big")
                with suppress(TpmError):
                    self.execute(commands.flush_context(handle))
                raise

    def _submit(self, code: int, frame: bytes) -> bytes:
        response = self._exchange(frame)
        if response[6:10] == _SUCCESS:
            return response
        pauses = self.patience.pauses()
        while canonical(raw := int.from_bytes(response[6:10], "big")) in PATIENCE:
            pause = next(pauses, None)
            if pause is None:
                break
            self.patience.sleep(pause)
            response = self._exchange(frame)
        if raw:
            raise error(code, raw)
        return response

    def transmit(self, command: bytes) -> bytes:
        """A response to raw octets, whatever its code: recorded, counted, never repeated."""
        with self.lock:
            return self._exchange(command)

    def _exchange(self, command: bytes) -> bytes:
        if self._broken is not None:
            raise TpmUnavailable(f"{self.transport.name} cannot be used: {self._broken}")
        started = perf_counter()
        try:
            response = self.transport.transmit(command)
        except BaseException as failure:
            self._broken = f"an earlier command failed ({type(failure).__name__})"
            raise
        statistics = self._statistics
        statistics.seconds += perf_counter() - started
        statistics.commands += 1
        statistics.octets_in += len(command)
        statistics.octets_out += len(response)
        for recorder in self._recorders:
            recorder.exchanges.append(Exchange(command, response))
        if len(response) < HEADER_SIZE or len(response) != int.from_bytes(response[2:6], "big"):
            self._broken = "a response was malformed"
            raise malformed()
        return response

    # -- around commands ---------------------------------------------------------------------------

    @property
    def statistics(self) -> Statistics:
        """What went to the TPM since it was opened."""
        with self.lock:
            return replace(self._statistics)

    @contextmanager
    def recording(self, limit: int | None = None) -> Iterator[Recorder]:
        """Record every command and response, of whichever thread, while the block runs."""
        recorder = Recorder(limit)
        with self.lock:
            self._recorders = [*self._recorders, recorder]
        try:
            yield recorder
        finally:
            with self.lock:
                self._recorders = [other for other in self._recorders if other is not recorder]

    @contextmanager
    def esapi(self) -> Iterator[Any]:
        """A tpm2_pytss.ESAPI for rare commands, with the TPM to itself while the block runs.

        Its exceptions become ours.
        """
        pytss = import_pytss()
        tcti = as_tcti(self.transmit)
        with self.lock, pytss.ESAPI(tcti) as esapi:
            try:
                yield esapi
            except pytss.TSS2_Exception as failure:
                if tcti.failure is not None:
                    raise tcti.failure from None
                if from_tpm(failure.rc):
                    code = int.from_bytes(tcti.command[6:10], "big")
                    raise error(code, failure.rc) from None
                raise TpmError(f"tpm2-tss: {failure}") from None


def _abandon_all() -> None:
    for device in list(_devices):
        device.abandon()


os.register_at_fork(after_in_child=_abandon_all)
