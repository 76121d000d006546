"""Secrets at rest: wrapped by this TPM, of use to no other (Part 1 §23).

A blob is what TPM2_Create gave for a child of a primary storage key of the owner hierarchy. That
key is derived from the TPM's seed and from a fixed template, so that it is there again after a
restart, without a trace in the TPM.
"""

from __future__ import annotations

from typing import Final

from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.constants import Alg, Attribute, CommandCode
from tpmtls.backends.tpm.frames import Command, Created, Reader, only, sized
from tpmtls.backends.tpm.objects import TpmObject
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.public import keyed_hash, storage_key
from tpmtls.violations import StoredSecretError, TpmAuthError, TpmBusy, TpmError, TpmUnavailable

_SEALED: Final = b"\x01"
_HMAC_KEY: Final = b"\x02"


class Storage:
    """Wraps and unwraps with one TPM."""

    def __init__(self, tpm: Tpm) -> None:
        self._tpm = tpm
        self._parent: TpmObject | None = None

    def wrap_hmac_key(self, key: bytes, algorithm: Alg) -> bytes:
        """Wrap an HMAC key, which can then be used by this TPM and not be read."""
        attributes = Attribute.SIGN_ENCRYPT
        return _HMAC_KEY + self._create(key, keyed_hash(attributes, Alg.HMAC, algorithm))

    def load(self, blob: bytes) -> TpmObject:
        """The object of a wrapped HMAC key; raises StoredSecretError for anything else."""
        if blob[:1] != _HMAC_KEY:
            raise StoredSecretError("a stored secret was not wrapped for use inside a TPM")
        return self._load(blob[1:])

    def seal(self, data: bytes) -> bytes:
        """Wrap octets, which this TPM alone gives back."""
        return _SEALED + self._create(data, keyed_hash(0, Alg.NULL))

    def unseal(self, blob: bytes) -> bytes:
        """The octets that were sealed; raises StoredSecretError for anything else."""
        if blob[:1] != _SEALED:
            raise StoredSecretError("a stored secret was not sealed by a TPM")
        with self._load(blob[1:]) as sealed:
            return self._tpm.run(Command(CommandCode.Unseal, (sealed,), b"", only, 1))

    def close(self) -> None:
        """Flush the parent."""
        if self._parent is not None:
            self._parent.flush()
            self._parent = None

    # -- parts -------------------------------------------------------------------------------------

    @property
    def parent(self) -> TpmObject:
        """The storage key; made when first needed, and then kept."""
        if self._parent is None:
            self._parent = storage_parent(self._tpm)
        return self._parent

    def _create(self, data: bytes, area: bytes) -> bytes:
        created = self._tpm.run(create(self.parent, area, data))
        return sized(created.private) + sized(created.public)

    def _load(self, blob: bytes) -> TpmObject:
        try:
            reader = Reader(blob)
            private, area = reader.sized(), reader.sized()
            reader.end()
        except TpmError:
            raise StoredSecretError("a stored secret is damaged") from None
        try:
            return self._tpm.load(commands.load(self.parent, private, area))
        except (TpmBusy, TpmUnavailable):
            raise
        except TpmError as error:
            raise StoredSecretError(f"a stored secret is not of this TPM: {error}") from None


def storage_parent(tpm: Tpm) -> TpmObject:
    """The standard storage key of the owner hierarchy, made anew; raises TpmAuthError."""
    try:
        return tpm.load(commands.create_primary(storage_key(), hierarchy=tpm.owner_hierarchy))
    except TpmAuthError:
        raise owner_refused(tpm, "its storage key cannot be made") from None


def owner_refused(tpm: Tpm, consequence: str) -> TpmAuthError:
    """The error for a password of the owner hierarchy that is missing or wrong."""
    if tpm.owner_hierarchy.auth:
        return TpmAuthError(
            "the owner hierarchy of the TPM has another password than that given"
            f" (--owner-auth), so that {consequence}"
        )
    return TpmAuthError(
        f"the owner hierarchy of the TPM has a password, so that {consequence}:"
        " say where it is with --owner-auth"
    )


def create(parent: TpmObject, area: bytes, data: bytes) -> Command[Created]:
    """TPM2_Create, Part 3 §12.1, of an object with sensitive `data` from outside."""
    sensitive = b"\0\0" + sized(data)  # no password
    parameters = sized(sensitive) + sized(area) + b"\0\0\0\0\0\0"  # no outsideInfo, no PCRs
    return Command(CommandCode.Create, (parent,), parameters, _created, 1)


def _created(parameters: bytes) -> Created:
    reader = Reader(parameters)
    private, area = reader.sized(), reader.sized()
    return Created(b"", area, private)
