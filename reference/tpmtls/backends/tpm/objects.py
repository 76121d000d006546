"""More objects than the TPM has slots: the least recently used make room, and come back when used.

Those make room before them of which their user says that they `rest`.
An object that makes room is saved as a context, which the TPM encrypts for itself. The context
serves for every later return, so an object is saved once at most.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Final, TypeVar
from weakref import ref

from tpmtls.backends.base import Kept
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.constants import ResponseCode
from tpmtls.backends.tpm.device import Device
from tpmtls.backends.tpm.frames import Authorization, Command, Created, Creation, Entity
from tpmtls.backends.tpm.responses import SLOTS, TpmResponseError
from tpmtls.backends.tpm.tcti import SwtpmTransport
from tpmtls.violations import TpmBusy, TpmError, TpmUnavailable

T = TypeVar("T")
_AWAY: Final = 0
_GONE: Final = -1
_PERSISTENT: Final = 0x81
"""The first octet of handles of keys that stay in the TPM: one takes a slot while it is used."""
_ATTEMPTS: Final = 10
"""How often we ask again for a slot that is not ours to free: for about a second."""


class Owner:
    """On whose behalf objects are made: how many it has."""

    __slots__ = ("live",)

    def __init__(self) -> None:
        self.live = 0

    def release(self) -> None:
        """One less, unless all were given up when the owner closed."""
        self.live -= self.live > 0


class TpmObject(Entity):
    """A transient object, in the TPM or saved outside; a context manager that flushes it.

    `handle` is 0 while it is saved outside, and negative once it was flushed. An object that is
    dropped without `flush` is flushed when the table is next used.
    """

    __slots__ = ("__weakref__", "_table", "context", "owner", "private", "public")

    def __init__(self, table: ObjectTable, owner: Owner, handle: int, created: Created) -> None:
        self.handle = handle
        self.name = created.name
        self.auth = b""
        self.public = created.public
        self.private = created.private
        self.owner = owner
        self.context = b""
        self._table = table

    def flush(self) -> None:
        """Remove it from the TPM; does nothing the second time."""
        self._table.flush(self)

    def __repr__(self) -> str:
        if self.handle > _AWAY:
            return super().__repr__()
        return f"<{type(self).__name__}, {'saved' if self.handle == _AWAY else 'flushed'}>"

    def __enter__(self) -> TpmObject:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()

    def __del__(self) -> None:
        # This thread may be in the middle of a command: leave a note, and let the next one act.
        handle, self.handle = self.handle, _GONE
        if handle != _GONE:
            self._table.dropped.append((handle, self.owner))


def kept_by(key: TpmObject | None, name: str) -> tuple[Kept, ...]:
    """What an object keeps, while there is one."""
    return () if key is None or key.handle == _GONE else (Kept(name, "tpm"),)


class ObjectTable:
    """The transient objects of one device, the loaded ones in order of use.

    `slots` is how many it loads at a time. Others may use the TPM too: when it is full before that,
    ours make room first, and then we wait a moment.
    """

    def __init__(self, device: Device, slots: int) -> None:
        self.slots = slots
        self.dropped: deque[tuple[int, Owner]] = deque()
        self._device = device
        self._unflushed: list[int] = []
        self._loaded: OrderedDict[int, ref[TpmObject]] = OrderedDict()
        if isinstance(device.transport, SwtpmTransport):
            device.transport.leaving = self.evict_all
        patience = device.patience
        self._patience = replace(patience, attempts=min(_ATTEMPTS, patience.attempts))

    # -- use ---------------------------------------------------------------------------------------

    def run(self, command: Command[T], authorization: Authorization | None = None) -> T:
        """The result of a command, whose objects are loaded first; raises TpmError."""
        with self._device.lock:
            self._prepare(command.handles)
            try:
                return self._device.execute(command, authorization)
            except TpmResponseError as failure:
                again = partial(self._device.execute, command, authorization)
                return self._insist(failure, again, command.handles)

    def bring(self, *objects: TpmObject) -> None:
        """Have objects in the TPM, where they stay while the caller holds the device's lock."""
        with self._device.lock:
            self._prepare(objects)

    def load(
        self,
        command: Creation,
        owner: Owner,
        password: bytes = b"",
        authorization: Authorization | None = None,
    ) -> TpmObject:
        """A new object; `password` is what its use will need."""
        with self._device.lock:
            self._prepare(command.handles)
            handle, created = self._create(command, authorization, command.handles)
            made = TpmObject(self, owner, handle, created)
            made.auth = password
            self._loaded[handle] = ref(made)
            owner.live += 1
            return made

    def _prepare(self, entities: tuple[Entity, ...]) -> None:
        """Have the objects among `entities` loaded, as the most recently used."""
        if self.dropped:
            self._flush_dropped()
        if self._unflushed:
            unflushed, self._unflushed = self._unflushed, []
            for handle in unflushed:
                self._flush(handle)
        for entity in entities:
            if isinstance(entity, TpmObject):
                if entity.handle > _AWAY:
                    self._loaded.move_to_end(entity.handle)
                else:
                    self._bring_back(entity, entities)

    def _bring_back(self, away: TpmObject, pinned: tuple[Entity, ...]) -> None:
        if away.handle == _GONE:
            raise TpmError("a TPM object was used after it was flushed: load it again")
        away.handle, _ = self._create(commands.context_load(away.context), None, pinned)
        self._loaded[away.handle] = ref(away)

    def _create(
        self, command: Creation, authorization: Authorization | None, pinned: tuple[Entity, ...]
    ) -> tuple[int, Created]:
        room = self.slots
        for entity in pinned:
            room -= entity.handle >> 24 == _PERSISTENT
        while len(self._loaded) >= room and self._evict(pinned):
            pass
        try:
            return self._device.create(command, authorization)
        except TpmResponseError as failure:
            again = partial(self._device.create, command, authorization)
            return self._insist(failure, again, pinned)

    def _insist(
        self, failure: TpmResponseError, action: Callable[[], T], pinned: tuple[Entity, ...]
    ) -> T:
        """Do again what failed, if for lack of a slot: make room, or wait for others to."""
        pauses = self._patience.pauses()
        while failure.code in SLOTS:
            if not self._evict(pinned):
                pause = next(pauses, None)
                if pause is None:
                    break
                self._patience.sleep(pause)
            try:
                return action()
            except TpmResponseError as again:
                failure = again
        raise failure

    # -- making room -------------------------------------------------------------------------------

    def _evict(self, pinned: Iterable[Entity]) -> bool:
        """Save the object that was not used for longest; False where there is none to spare."""
        busy = [entity.handle for entity in pinned] if pinned else ()
        for handle, reference in self._loaded.items():  # noqa: B007 - the first that will do
            if handle not in busy:
                break
        else:
            return False
        evicted = reference()
        if evicted is not None and not evicted.context:
            evicted.context = self._device.execute(commands.context_save(evicted))
        self._remove(handle)
        if evicted is not None:
            evicted.handle = _AWAY
        return True

    def rest(self, resting: TpmObject) -> None:
        """Let an object make room before all others, until it is used again."""
        with self._device.lock:
            if resting.handle in self._loaded:
                self._loaded.move_to_end(resting.handle, last=False)

    def evict_all(self) -> None:
        """Leave all slots to somebody else."""
        with self._device.lock:
            while self._evict(()):
                pass

    def flush(self, *objects: TpmObject) -> None:
        """Remove objects from the TPM; those that are gone, or whose TPM is, are none the worse."""
        try:
            with self._device.lock:
                for each in objects:
                    handle, each.handle = each.handle, _GONE
                    if handle != _GONE:
                        each.owner.release()
                    if handle > _AWAY:
                        self._remove(handle)
        except TpmUnavailable:
            pass

    def _flush_dropped(self) -> None:
        while self.dropped:
            handle, owner = self.dropped.popleft()
            owner.release()
            dropped = self._loaded.get(handle)
            if dropped is None:
                continue  # saved, or evicted since
            successor = dropped()
            if successor is None or successor.handle != handle:
                self._remove(handle)

    def _remove(self, handle: int) -> None:
        del self._loaded[handle]
        self._flush(handle)

    def _flush(self, handle: int) -> None:
        """Flush a handle now, or with the next command where the TPM is too busy."""
        try:
            self._device.execute(commands.flush_context(handle))
        except TpmBusy:
            self._unflushed.append(handle)
        except TpmResponseError as failure:
            if failure.code not in (ResponseCode.HANDLE, ResponseCode.VALUE):
                raise  # those two: somebody else flushed it, or reset the TPM

    def close(self, owner: Owner | None = None) -> None:
        """Flush all objects of one owner, or of all."""
        with suppress(TpmUnavailable), self._device.lock:
            self._flush_dropped()
            loaded = [each for each in (r() for r in self._loaded.values()) if each is not None]
            self.flush(*(each for each in loaded if owner in (None, each.owner)))
            if owner is not None:
                owner.live = 0  # the saved ones need nothing
