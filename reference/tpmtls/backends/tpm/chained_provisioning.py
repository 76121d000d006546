"""Making and removing what `--protect chained` needs in a TPM: a parent and two NV indices.

`provision` draws the authValue A, and crosses it to the TPM in a salted session (`transit`). It is
in the memory of the process that does this, and of no other: so it is a command of its own,
`tpmtls key chain`, which ends when it is done. Nobody can find A out again but by asking the TPM
without encryption.

It can be stopped anywhere. The parent is made persistent last, and without it nothing else counts;
what is there besides is recognised, removed and made again. What is ours is found by what it is:
an index by its whole public area, which has a size and attributes that nobody else uses together,
and by the marker in it; the parent by its Name, since no other template makes that key. Anything
else at one of our places makes us take the next one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tpmtls.backends.ledger import Ledger
from tpmtls.backends.tpm import chained_layout as layout
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.chain import Chain, Parent
from tpmtls.backends.tpm.chained_layout import PLACES, Place
from tpmtls.backends.tpm.chained_lock import ChainLock, lock_for, read_names
from tpmtls.backends.tpm.constants import CommandCode as CC
from tpmtls.backends.tpm.constants import ResponseCode
from tpmtls.backends.tpm.frames import Command, Entity, Reader, sized
from tpmtls.backends.tpm.objects import TpmObject
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.backends.tpm.responses import TpmResponseError
from tpmtls.backends.tpm.storage import owner_refused
from tpmtls.backends.tpm.transit import Transit
from tpmtls.violations import TpmAuthError, TpmError, TpmLacks

_ABSENT: Final = (ResponseCode.HANDLE, ResponseCode.VALUE)


class Found(Enum):
    """What is at a place."""

    NOTHING = 0
    OURS = 1
    ANOTHERS = 2


@dataclass(frozen=True)
class Inventory:
    """What is at the three parts of a place."""

    place: Place
    parent: Found
    store: Found
    slots: Found
    parent_name: bytes = b""
    parent_qualified: bytes = b""

    @property
    def complete(self) -> bool:
        """Whether it can be used, as far as one can see from outside."""
        return (self.parent, self.store, self.slots) == (Found.OURS,) * 3

    @property
    def free(self) -> bool:
        """Whether nobody else has anything there."""
        return Found.ANOTHERS not in (self.parent, self.store, self.slots)


# -- looking ---------------------------------------------------------------------------------------


def look(tpm: Tpm, place: Place) -> Inventory:
    """What is at a place; asks for public areas, and changes nothing."""
    area, name, qualified = _public(tpm, place.parent)
    unique = 2 * (2 + 32)  # TPMS_ECC_POINT
    parent = Found.ANOTHERS
    if not area:
        parent = Found.NOTHING
    elif area[:-unique] == layout.parent_area()[: -(4 + 32)] and len(area) > unique:
        parent = Found.OURS
    store = _index(tpm, layout.store_area(place.store))
    slots = _index(tpm, layout.slots_area(place.slots))
    return Inventory(place, parent, store, slots, name, qualified)


def _public(tpm: Tpm, handle: int) -> tuple[bytes, bytes, bytes]:
    """Public area, Name and qualified Name of a persistent key; empty where there is none."""
    try:
        return tpm.run(read_names(handle))
    except TpmResponseError as failure:
        if failure.code in _ABSENT:
            return b"", b"", b""
        raise


def _index(tpm: Tpm, expected: bytes) -> Found:
    handle = int.from_bytes(expected[:4], "big")
    try:
        area = tpm.run(Command(CC.NV_ReadPublic, (Entity(handle, b""),), b"", _nv_public))
    except TpmResponseError as failure:
        if failure.code in _ABSENT:
            return Found.NOTHING
        raise
    return Found.OURS if layout.unwritten(area) == expected else Found.ANOTHERS


def _nv_public(parameters: bytes) -> bytes:
    reader = Reader(parameters)
    area = reader.sized()
    reader.sized()
    reader.end()
    return area


# -- opening ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Provisioned:
    """A chain over what is provisioned, and which provisioning that is."""

    chain: Chain
    generation: bytes


def recover(tpm: Tpm) -> None:
    """Flush what killed processes left of chained sessions; the TPM may be full of it."""
    lock = lock_for(tpm)
    try:
        lock.recover(tpm)
    finally:
        lock.close()


def open_chain(tpm: Tpm, ledger: Ledger) -> Provisioned | None:
    """The chain, ready for steps; None where nothing usable is provisioned."""
    for place in PLACES:
        found = look(tpm, place)
        if found.complete:
            opened = _open(tpm, found, ledger)
            if opened is not None:
                return opened
    return None


def _open(tpm: Tpm, found: Inventory, ledger: Ledger) -> Provisioned | None:
    lock = lock_for(tpm)
    chain = None
    try:
        parent = Parent(found.place.parent, found.parent_name, found.parent_qualified)
        chain = Chain(tpm, found.place, parent, ledger, lock)
        reader = Reader(chain.read_store())
        marker, generation = reader.take(len(layout.MARKER)), reader.take(layout.GENERATION)
        if (marker, reader.take(layout.NAME)) == (layout.MARKER, found.parent_name):
            chain.prepare_slots()
            return Provisioned(chain, generation)
    except TpmResponseError as failure:
        _let_go(chain, lock)
        if failure.code != ResponseCode.NV_UNINITIALIZED:
            raise
        return None
    except BaseException:
        _let_go(chain, lock)
        raise
    _let_go(chain, lock)
    return None


def _let_go(chain: Chain | None, lock: ChainLock) -> None:
    if chain is not None:
        chain.close()
    else:
        lock.close()


# -- making and removing ---------------------------------------------------------------------------


def provision(
    tcti: str | None = None, *, owner_password: bytes | None = None, replace: bool = False
) -> Place:
    """Provision a TPM, unless it is; `replace` removes what is there and draws a new A.

    Then nothing that was wrapped before is of use. Raises TpmError, and TpmAuthError without the
    password of the owner hierarchy, where that has one.
    """
    with open_tpm(tcti, owner_password=owner_password) as tpm:
        return provision_opened(tpm, replace=replace)


def provision_opened(tpm: Tpm, *, replace: bool = False) -> Place:
    """The same, for a TPM that is open."""
    recover(tpm)
    if not replace:
        present = open_chain(tpm, Ledger())
        if present is not None:
            present.chain.close()
            return present.chain.place
    with tpm.beside() as beside:
        Transit(beside)
        return _provision(beside)


def _provision(tpm: Tpm) -> Place:
    auth = os.urandom(layout.AUTH)
    lock = lock_for(tpm)
    try:
        with lock.exclusive(), tpm.device.lock, _parent(tpm, auth) as parent:
            inventories = [look(tpm, place) for place in PLACES]
            chosen = next(
                (each for each in inventories if Found.OURS in (each.parent, each.store)), None
            ) or next((each for each in inventories if each.free), None)
            if chosen is None or not chosen.free:
                raise TpmLacks("all places for chained keys are taken in this TPM: free one")
            _remove(tpm, chosen, parent.name)
            place = chosen.place
            _define(tpm, layout.store_area(place.store), auth)
            _define(tpm, layout.slots_area(place.slots), auth)
            _fill(tpm, layout.store_area(place.store), auth, parent.name)
            _evict(tpm, parent, place.parent)
            return place
    finally:
        lock.close()


def _parent(tpm: Tpm, auth: bytes) -> TpmObject:
    try:
        return tpm.load(
            commands.create_primary(
                layout.parent_area(), hierarchy=tpm.owner_hierarchy, password=auth
            )
        )
    except TpmAuthError:
        raise owner_refused(tpm, "nothing can be provisioned there") from None


def remove(tcti: str | None = None, *, owner_password: bytes | None = None) -> int:
    """Remove what `provision` made, wherever it is, and nothing else; how many parts there were."""
    with open_tpm(tcti, owner_password=owner_password) as tpm:
        return remove_opened(tpm)


def remove_opened(tpm: Tpm) -> int:
    """The same, for a TPM that is open."""
    with _parent(tpm, b"") as parent:
        name = parent.name
    return sum(_remove(tpm, look(tpm, place), name) for place in PLACES)


def _remove(tpm: Tpm, found: Inventory, parent_name: bytes) -> int:
    """The parent first: without it the rest does not count."""
    removed = 0
    if found.parent is Found.OURS:
        if found.parent_name != parent_name:  # of an owner seed before TPM2_Clear it cannot be
            raise TpmError(f"the key at 0x{found.place.parent:x} is not ours: remove it yourself")
        _evict(tpm, Entity(found.place.parent, found.parent_name), found.place.parent)
        removed += 1
    for state, index in ((found.store, found.place.store), (found.slots, found.place.slots)):
        if state is Found.OURS:
            entities = (tpm.owner_hierarchy, Entity(index, b""))
            tpm.run(Command(CC.NV_UndefineSpace, entities, b"", bytes, 1))
            removed += 1
    return removed


def _evict(tpm: Tpm, key: Entity, handle: int) -> None:
    """TPM2_EvictControl (Part 3 §28.5): to the handle, or from it."""
    entities = (tpm.owner_hierarchy, key)
    tpm.run(Command(CC.EvictControl, entities, handle.to_bytes(4, "big"), bytes, 1))


def _define(tpm: Tpm, area: bytes, auth: bytes) -> None:
    """TPM2_NV_DefineSpace (§31.3)."""
    parameters = sized(auth) + sized(area)
    try:
        tpm.run(Command(CC.NV_DefineSpace, (tpm.owner_hierarchy,), parameters, bytes, 1))
    except TpmResponseError as failure:
        if failure.code == ResponseCode.NV_SPACE:
            raise TpmLacks("the TPM has no room for another NV index: remove one") from None
        raise


def _fill(tpm: Tpm, area: bytes, auth: bytes, parent_name: bytes) -> None:
    """Write the store: the one write that its authValue allows."""
    index = Entity(int.from_bytes(area[:4], "big"), layout.nv_name(area), auth)
    octets = b"".join(
        (
            layout.MARKER,
            os.urandom(layout.GENERATION),
            parent_name,
            sized(auth),
            sized(b""),
        )
    )
    parameters = sized(octets) + b"\0\0"
    tpm.run(Command(CC.NV_Write, (index, index), parameters, bytes, 1))
