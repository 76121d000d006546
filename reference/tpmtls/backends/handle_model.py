"""A model of the TPM that TLS 1.3 would need: operations take handles and give handles.

It holds every secret of the key schedule, and no command gives one out. What a command may do with
an object follows from the object's `Kind`, and the kind of a result from that of its parent and
from the label: `CHILDREN` is that rule. So even code that can send any command gets no more than
Finished values, records and exported values. docs/handle-only.md says what of this TPM 2.0 has.

It is a model and not a device: `handle_process` runs it in a process of its own, which the host's
operating system keeps apart, and no more than that does.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tpmtls.algorithms import SUITES, HashAlgorithm
from tpmtls.backends.base import Aead, KeyShare, Secret
from tpmtls.backends.software import Entropy, SoftwareBackend, SoftwareSecret
from tpmtls.codepoints import CipherSuite, NamedGroup
from tpmtls.violations import BackendError, StoredSecretError

MAX_OBJECTS: Final = 1 << 16
NO_HANDLE: Final = 0
"""In place of a handle: zeros, where HKDF-Extract has nothing else (RFC 9846 §7.1)."""
STORAGE_KEY: Final = 32
_NONCE: Final = 12


class Kind(IntEnum):
    """What an object is, and so what can be done with it."""

    EPHEMERAL = 1
    """A private key for one key agreement."""
    SHARED = 2
    """A shared secret: input of HKDF-Extract."""
    PSK = 3
    """Input of HKDF-Extract; the one kind that can be wrapped."""
    STAGE = 4
    """Early, Handshake or Main Secret."""
    SALT = 5
    """What "derived" makes: salt of HKDF-Extract."""
    BINDER = 6
    TRAFFIC = 7
    RESUMPTION = 8
    EXPORTER = 9
    EXPORTER_LABEL = 10
    EXPORTED = 11
    """The value of an exporter: the one kind that can be read."""
    FINISHED = 12
    """The one kind that makes MACs."""
    WRITE_KEY = 13
    WRITE_IV = 14
    RECORDS = 15
    """Key, IV and the number of the next record: seals or opens."""


CHILDREN: Final[dict[Kind, dict[bytes, Kind]]] = {
    Kind.STAGE: {
        b"derived": Kind.SALT,
        b"ext binder": Kind.BINDER,
        b"res binder": Kind.BINDER,
        b"c e traffic": Kind.TRAFFIC,
        b"c hs traffic": Kind.TRAFFIC,
        b"s hs traffic": Kind.TRAFFIC,
        b"c ap traffic": Kind.TRAFFIC,
        b"s ap traffic": Kind.TRAFFIC,
        b"e exp master": Kind.EXPORTER,
        b"exp master": Kind.EXPORTER,
        b"res master": Kind.RESUMPTION,
    },
    Kind.BINDER: {b"finished": Kind.FINISHED},
    Kind.TRAFFIC: {
        b"finished": Kind.FINISHED,
        b"key": Kind.WRITE_KEY,
        b"iv": Kind.WRITE_IV,
        b"traffic upd": Kind.TRAFFIC,
    },
    Kind.RESUMPTION: {b"resumption": Kind.PSK},
    Kind.EXPORTER_LABEL: {b"exporter": Kind.EXPORTED},
}
"""HKDF-Expand-Label: what kind of object a label makes of which (RFC 9846 §7.1, §7.3, §4.7.1).

Of an exporter secret any label makes an EXPORTER_LABEL (§7.5).
"""


@dataclass(slots=True)
class _Object:
    kind: Kind
    content: SoftwareSecret | KeyShare | Aead = field(repr=False)
    parent: int = 0
    """The number of the object that it was derived from."""
    number: int = 0
    made: set[tuple[bytes, bytes]] = field(default_factory=set)
    """Labels and contexts of what may be made of it once, and was."""
    next_record: int = 0


class HandleModel:
    """The objects, and the commands on them; raises BackendError for what the kinds forbid."""

    def __init__(self, entropy: Entropy = os.urandom, storage_key: bytes | None = None) -> None:
        self._software = SoftwareBackend(entropy)
        self._storage = AESGCM(storage_key or os.urandom(STORAGE_KEY))
        self._objects: dict[int, _Object] = {}
        self._last = 0

    # -- key agreement -----------------------------------------------------------------------------

    def create(self, group: NamedGroup) -> tuple[int, bytes]:
        """A fresh ephemeral key: its handle and its public part."""
        share = self._software.key_share(group)
        return self._add(Kind.EPHEMERAL, share), share.public

    def agree(self, key: int, peer_share: bytes) -> int:
        """The shared secret, once; the key is then gone."""
        share = self._take(key, Kind.EPHEMERAL).content
        if not isinstance(share, KeyShare):
            raise _refused("that is no ephemeral key")
        return self._add(Kind.SHARED, share.agree(peer_share))

    def respond(self, group: NamedGroup, client_share: bytes) -> tuple[int, bytes]:
        """The shared secret and our share, in one step, as encapsulation needs it."""
        public, shared = self._software.respond(group, client_share)
        return self._add(Kind.SHARED, shared), public

    # -- HKDF --------------------------------------------------------------------------------------

    def extract(self, algorithm: HashAlgorithm, salt: int, ikm: int, name: str) -> int:
        """HKDF-Extract; NO_HANDLE stands for zeros. A PSK stays, the others are used up."""
        if ikm != NO_HANDLE and self._get(ikm).kind not in (Kind.SHARED, Kind.PSK):
            raise _refused("only a shared secret or a PSK goes into HKDF-Extract")
        key = self._secret(salt, Kind.SALT) if salt != NO_HANDLE else None
        data = self._secret(ikm, Kind.SHARED, Kind.PSK) if ikm != NO_HANDLE else None
        made = self._add(Kind.STAGE, self._software.extract(algorithm, key, data, name))
        if data is not None and self._get(ikm).kind is Kind.SHARED:
            self.flush(ikm)
        self.flush(salt)
        return made

    def expand_label(
        self, secret: int, label: bytes, context: bytes, length: int, name: str
    ) -> int:
        """HKDF-Expand-Label; the label decides what the result is good for."""
        parent = self._get(secret)
        kind = CHILDREN.get(parent.kind, {}).get(label)
        if parent.kind is Kind.EXPORTER:
            kind = Kind.EXPORTER_LABEL
        if kind is None:
            raise _refused(f"no label {label.decode('ascii', 'replace')!r} for this object")
        content = self._secret(secret, parent.kind)
        if kind not in _FREE_LENGTH and length != _size(content):
            raise _refused("that object is as long as the hash")
        if kind in _ONCE:
            if (label, context) in parent.made:
                raise _refused("a traffic secret, its key and its IV, and a salt are made once")
            parent.made.add((label, context))
        made = self._software.expand_label(content, label, context, length, name)
        return self._add(kind, made, parent.number)

    def mac(self, key: int, data: bytes) -> bytes:
        """HMAC under a finished key."""
        return self._software.mac(self._secret(key, Kind.FINISHED), data)

    # -- records -----------------------------------------------------------------------------------

    def load_records(self, suite: CipherSuite, key: int, iv: int) -> int:
        """Record protection under a key and an IV of one traffic secret, both of which are gone."""
        row = SUITES.get(suite)
        write_key, write_iv = self._get(key), self._get(iv)
        if row is None or write_key.parent != write_iv.parent:
            raise _refused("a key and an IV that belong together, and a suite, make records")
        secrets = self._secret(key, Kind.WRITE_KEY), self._secret(iv, Kind.WRITE_IV)
        if [secret.length for secret in secrets] != [row.key_length, row.iv_length]:
            raise _refused("key and IV are not as long as the suite's")
        made = self._add(Kind.RECORDS, self._software.aead(row, *secrets))
        self.flush(key, iv)
        return made

    def seal(self, records: int, sequence: int, additional_data: bytes, plaintext: bytes) -> bytes:
        """A protected record; each number once, in order, so that no nonce comes twice."""
        held, aead = self._aead(records)
        if sequence < held.next_record:
            raise _refused("a record of that number was sealed already")
        held.next_record = sequence + 1
        return aead.seal(sequence, additional_data, plaintext)

    def open(
        self, records: int, sequence: int, additional_data: bytes, ciphertext: bytes
    ) -> bytes | None:
        """The plaintext, or None where the tag does not verify."""
        return self._aead(records)[1].open(sequence, additional_data, ciphertext)

    # -- what comes and goes -----------------------------------------------------------------------

    def read(self, value: int) -> bytes:
        """The octets of what an exporter made, and of nothing else."""
        return bytes(self._secret(value, Kind.EXPORTED).octets)

    def import_psk(self, octets: bytes, algorithm: HashAlgorithm) -> int:
        """A PSK that somebody else made."""
        return self._add(Kind.PSK, SoftwareSecret("PSK", octets, algorithm))

    def wrap(self, psk: int) -> bytes:
        """A PSK, encrypted for this model alone."""
        secret = self._secret(psk, Kind.PSK)
        if secret.hash is None:
            raise _refused("a PSK belongs to a hash")
        nonce, name = os.urandom(_NONCE), secret.hash.name.encode()
        return nonce + name + self._storage.encrypt(nonce, bytes(secret.octets), name)

    def unwrap(self, blob: bytes, algorithm: HashAlgorithm) -> int:
        """What `wrap` made; raises StoredSecretError for anything else."""
        name = algorithm.name.encode()
        nonce, named, ciphertext = blob[:_NONCE], blob[_NONCE:][:6], blob[_NONCE + 6 :]
        with suppress(InvalidTag, ValueError):
            if named == name:
                return self.import_psk(self._storage.decrypt(nonce, ciphertext, name), algorithm)
        raise StoredSecretError("a stored secret is damaged, or was not wrapped by this model")

    def flush(self, *handles: int) -> None:
        """Forget objects; those that are gone are none the worse."""
        for handle in handles:
            held = self._objects.pop(handle, None)
            if held is None:
                continue
            if isinstance(held.content, Secret):
                self._software.destroy(held.content)
            else:
                held.content.close()

    def count(self) -> int:
        """How many objects there are."""
        return len(self._objects)

    # -- objects -----------------------------------------------------------------------------------

    def _add(self, kind: Kind, content: Secret | KeyShare | Aead, parent: int = 0) -> int:
        if len(self._objects) >= MAX_OBJECTS:
            raise _refused("there is no room for another object")
        if isinstance(content, Secret) and not isinstance(content, SoftwareSecret):
            raise _refused("that is no secret of the model")
        self._last += 1
        self._objects[self._last] = _Object(kind, content, parent, self._last)
        return self._last

    def _get(self, handle: int) -> _Object:
        held = self._objects.get(handle)
        if held is None:
            raise _refused("there is no object with that handle: it was flushed, or is another's")
        return held

    def _take(self, handle: int, kind: Kind) -> _Object:
        held = self._get(handle)
        if held.kind is not kind:
            raise _refused(f"that takes an object of kind {kind.name}, not {held.kind.name}")
        return self._objects.pop(handle)

    def _secret(self, handle: int, *kinds: Kind) -> SoftwareSecret:
        held = self._get(handle)
        if held.kind not in kinds or not isinstance(held.content, SoftwareSecret):
            wanted = " or ".join(kind.name for kind in kinds)
            raise _refused(f"that takes an object of kind {wanted}, not {held.kind.name}")
        return held.content

    def _aead(self, handle: int) -> tuple[_Object, Aead]:
        held = self._get(handle)
        if not isinstance(held.content, Aead):
            raise _refused(f"that takes an object of kind RECORDS, not {held.kind.name}")
        return held, held.content


_ONCE: Final = (Kind.TRAFFIC, Kind.WRITE_KEY, Kind.WRITE_IV, Kind.SALT)
"""What would bring back a key, with a record counter at zero, were it made of an object again."""
_FREE_LENGTH: Final = (Kind.WRITE_KEY, Kind.WRITE_IV, Kind.EXPORTED)


def _size(secret: SoftwareSecret) -> int:
    if secret.hash is None:
        raise _refused("that object is not tied to a hash")
    return secret.hash.digest_size


def _refused(why: str) -> BackendError:
    return BackendError(f"the handle-only model refuses: {why}")
