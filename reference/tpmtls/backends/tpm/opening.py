"""Opening a TPM. Those in one process who open the same TPM share its device and its slots."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final, TypeVar
from weakref import WeakSet

from tpmtls.backends.tpm import tcti
from tpmtls.backends.tpm.capabilities import Capabilities, PssSalt, probe, probe_pss_salt, slots
from tpmtls.backends.tpm.device import Device
from tpmtls.backends.tpm.frames import OWNER, Authorization, Command, Creation, Entity, permanent
from tpmtls.backends.tpm.objects import ObjectTable, Owner, TpmObject
from tpmtls.backends.tpm.responses import TpmResponseError
from tpmtls.violations import ConfigurationError, TpmUnavailable

T = TypeVar("T")
MAX_OWNER_PASSWORD: Final = 64
"""Octets of the owner's password: TPMs differ, and take no more than their longest digest."""


class _Shared:
    """What all openings of one TPM have in common."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.users = 0
        self.openings: WeakSet[Tpm] = WeakSet()
        self.capabilities: Capabilities | None = None
        self.pss_salt: PssSalt | None = None
        try:
            device.start()
            self.table = ObjectTable(device, slots(device))
        except BaseException:
            device.close()
            raise


class Tpm:
    """An open TPM: runs commands, and keeps the objects they need.

    Any thread may use it, a forked child may not. `close` flushes what was loaded through this
    opening; the last opening to be closed shuts the TPM down.
    """

    def __init__(self, shared: _Shared, owner_password: bytes = b"") -> None:
        self._shared = shared
        self.owner_hierarchy: Final = permanent(OWNER.handle, owner_password)
        """Whose seed storage keys come from, and who may keep keys in the TPM."""
        self._table = shared.table
        self._owner = Owner()
        self._closed = False
        self.device = shared.device
        """Statistics, recordings, and the lock for commands that belong together."""
        self.authorize: Callable[[Command[Any]], Authorization | None] | None = None
        """How commands are authorized where the caller names no way; None: by password."""
        self.recover: Callable[[TpmResponseError], bool] | None = None
        """Whether a command that failed, as `authorize` authorized it, may be tried once more."""
        self.at_close: list[Callable[[], None]] = []
        """What to do before the TPM is closed; called once, and must not raise."""
        shared.users += 1
        shared.openings.add(self)

    @property
    def name(self) -> str:
        """The TCTI string."""
        return self.device.transport.name

    def beside(self) -> Tpm:
        """Another opening of the same TPM, which its caller closes."""
        with _registry.lock:
            return Tpm(self._shared, self.owner_hierarchy.auth)

    @property
    def live(self) -> int:
        """How many objects this opening has, loaded or saved."""
        return self._owner.live

    def run(self, command: Command[T], authorization: Authorization | None = None) -> T:
        """The result of a command, whose objects are loaded first; raises TpmError."""
        if self._closed or (authorization is None and self.authorize is not None):
            return self._authorized(partial(self._table.run, command), command, authorization)
        return self._table.run(command, authorization)

    @contextmanager
    def holding(self, key: TpmObject) -> Iterator[None]:
        """With the key in its slot while the block runs, and all others waiting."""
        if self._closed:
            raise TpmUnavailable(f"{self.name} was closed: open it again")
        with self.device.lock:
            self._table.bring(key)
            yield

    def load(
        self,
        command: Creation,
        authorization: Authorization | None = None,
        *,
        password: bytes = b"",
    ) -> TpmObject:
        """The object that a command creates; `password` is what its use will need."""
        if self._closed or (authorization is None and self.authorize is not None):
            load = partial(self._table.load, command, self._owner, password)
            return self._authorized(load, command, authorization)
        return self._table.load(command, self._owner, password, authorization)

    def _authorized(
        self, action: Callable[..., T], command: Command[Any], given: Authorization | None
    ) -> T:
        """Do it with the authorization given, or else with our own."""
        if self._closed:
            raise TpmUnavailable(f"{self.name} was closed: open it again")
        if given is not None or self.authorize is None:
            return action(authorization=given)
        with self.device.lock:
            authorization = self.authorize(command)
            try:
                return action(authorization=authorization)
            except TpmResponseError as failure:
                if authorization is None or self.recover is None or not self.recover(failure):
                    raise
            return action(authorization=self.authorize(command))

    def end(self) -> None:
        """Do what is to be done before the TPM is closed."""
        ends, self.at_close = self.at_close, []
        for act in ends:
            act()

    def flush(self, *objects: TpmObject) -> None:
        """Remove objects from the TPM; one that is gone already is none the worse."""
        self._table.flush(*objects)

    def rest(self, resting: TpmObject) -> None:
        """Let an object that is not used again soon make room before all others."""
        self._table.rest(resting)

    def evict(self) -> None:
        """Leave all slots to somebody else; what was in them comes back when it is used."""
        self._table.evict_all()

    @contextmanager
    def esapi(self) -> Iterator[Any]:
        """A tpm2_pytss.ESAPI for rare commands; the block has the TPM and all slots to itself.

        What it loads, it flushes.
        """
        with self.device.lock:
            self.evict()
            with self.device.esapi() as esapi:
                yield esapi

    @property
    def capabilities(self) -> Capabilities:
        """What this TPM can do; found out by trying, once."""
        with self.device.lock:
            if self._shared.capabilities is None:
                self._shared.capabilities = probe(self.device, self._table)
            return self._shared.capabilities

    def pss_salt(self, key: Entity | None = None) -> PssSalt:
        """How long a salt the TPM gives RSA-PSS signatures, found out by signing once.

        `key` is an RSA key that may sign, without a password; else one is made for it.
        """
        with self.device.lock:
            if self._shared.pss_salt is None:
                self._shared.pss_salt = probe_pss_salt(self._table, key)
            return self._shared.pss_salt

    def close(self) -> None:
        """Flush our objects; the last opening ends the use of the TPM."""
        with _registry.lock:
            if self._closed or self.device.forked:
                return
            self._closed = True
            self.end()
            self._table.close(self._owner)
            self._shared.users -= 1
            if not self._shared.users:
                _close(self._shared)

    def __enter__(self) -> Tpm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Tpm {self.name}>"


class _Registry:
    """What is open in this process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.open: dict[str, _Shared] = {}

    def forget(self) -> None:
        """In a forked child: the parent's TPMs are not ours."""
        self.lock = threading.RLock()
        self.open = {}

    def close_all(self) -> None:
        with self.lock:
            for shared in list(self.open.values()):
                _close(shared)


_registry: Final = _Registry()


def open_tpm(
    name: str | None = None, *, timeout: float = tcti.TIMEOUT, owner_password: bytes | None = None
) -> Tpm:
    """The TPM of that TCTI string, else of TPM2TOOLS_TCTI, else libtpms in this process.

    `owner_password` is that of the owner hierarchy, where it has one. Raises ConfigurationError,
    TpmUnavailable, and TpmBusy where another process has it. The caller closes it.
    """
    if len(owner_password or b"") > MAX_OWNER_PASSWORD:
        raise ConfigurationError(
            f"the password of a TPM's owner has at most {MAX_OWNER_PASSWORD} octets"
        )
    resolved = tcti.resolve(name)
    with _registry.lock:
        shared = _registry.open.get(resolved)
        if shared is not None and shared.device.broken:
            _close(shared)
            shared = None
        if shared is None:
            transport = tcti.open_transport(resolved, timeout=timeout)
            shared = _registry.open[resolved] = _Shared(Device(transport))
        return Tpm(shared, owner_password or b"")


def open_device(device: Device) -> Tpm:
    """A TPM that the caller found a way to, shared with nobody."""
    return Tpm(_Shared(device))


def _close(shared: _Shared) -> None:
    for name, other in list(_registry.open.items()):
        if other is shared:
            del _registry.open[name]
    for opening in list(shared.openings):
        opening.end()
    shared.table.close()
    shared.device.close()


# Objects that a program leaves behind stay in the TPM's slots when it ends.
atexit.register(_registry.close_all)
os.register_at_fork(after_in_child=_registry.forget)
