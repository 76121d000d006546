"""External PSKs in a TPM: not the PSK but the two keys made of it (RFC 9846 §7.1, §4.3.11.2).

    Early Secret = HKDF-Extract(0, PSK)
    finished_key = HKDF-Expand-Label(Derive-Secret(Early Secret, "ext binder", ""), "finished", …)
    derived      = Derive-Secret(Early Secret, "derived", "")

The first makes binders, the second is the salt of the Handshake Secret, and no handshake without
0-RTT needs more. `provision` wraps both as HMAC keys that this TPM alone can use and nobody can
read; PSK and Early Secret are forgotten. Were the Early Secret the key in the TPM, one HMAC of a
label would give out either of the two, each as good as the PSK.

What this does not do: code on this host that can use the TPM can have binders and Handshake Secrets
made while it is there. And with psk_ke, without a key exchange, the Handshake Secret is the same in
each connection, and passes through the host: whoever reads it there can read all other psk_ke
connections, and play the server in new ones. With psk_dhe_ke it is of one connection.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tpmtls.algorithms import SHA256, SHA384, HashAlgorithm
from tpmtls.backends.base import Kept, PskReference, Secret
from tpmtls.backends.ledger import Crossing, Ledger
from tpmtls.backends.software import SoftwareBackend, SoftwareSecret
from tpmtls.backends.tpm.hkdf import ALGORITHMS, TpmSecret, host_octets
from tpmtls.backends.tpm.objects import TpmObject, kept_by
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.storage import Storage
from tpmtls.violations import BackendError, ConfigurationError, StoredSecretError, TpmLacks

KIND: Final = "tpmtls PSK in a TPM"
CHAINED_KIND: Final = "tpmtls PSK in a TPM, chained"
VERSION: Final = 1
HASHES: Final = {algorithm.name: algorithm for algorithm in (SHA256, SHA384)}


# -- the file --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProvisionedPsk(PskReference):
    """A provisioned PSK: its identity, its hash, and the two wrapped keys; none of it is secret.

    Its file is a JSON object: `kind`, `version`; `identity` in hexadecimal; `hash`, sha256 or
    sha384; `finished_key` and `derived` in Base64, each as `Storage.wrap_hmac_key` makes it, or,
    where it is for the level `chained`, as `chained_stored.encode` does.
    """

    identity: bytes
    hash: HashAlgorithm
    finished_key: bytes = field(repr=False)
    derived: bytes = field(repr=False)
    chained: bool = False

    def encode(self) -> bytes:
        """The file."""
        values = {
            "kind": CHAINED_KIND if self.chained else KIND,
            "version": VERSION,
            "identity": self.identity.hex(),
            "hash": self.hash.name,
            "finished_key": base64.b64encode(self.finished_key).decode("ascii"),
            "derived": base64.b64encode(self.derived).decode("ascii"),
        }
        return json.dumps(values, indent=1).encode("ascii") + b"\n"

    @classmethod
    def parse(cls, octets: bytes) -> ProvisionedPsk:
        """From a file; raises ConfigurationError for anything else, or of a later version."""
        try:
            values = json.loads(octets)
            if values["kind"] not in (KIND, CHAINED_KIND):
                raise ValueError
            if values["version"] != VERSION:
                raise ConfigurationError("the PSK file is of a later version of tpmtls")
            return cls(
                bytes.fromhex(values["identity"]),
                HASHES[values["hash"]],
                _blob(values["finished_key"]),
                _blob(values["derived"]),
                chained=values["kind"] == CHAINED_KIND,
            )
        except ConfigurationError:
            raise
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ConfigurationError(
                "not a PSK file, as `tpmtls key import-psk` makes them, or a damaged one"
            ) from None


def _blob(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError from None


# -- provisioning ----------------------------------------------------------------------------------


def provision(
    tpm: Tpm, identity: bytes, key: bytes, algorithm: HashAlgorithm, ledger: Ledger | None = None
) -> ProvisionedPsk:
    """Make the two keys of a PSK, and wrap them; nothing else of it is kept.

    The host sees the PSK here, this once. What we compute is wiped; the copies that Python and
    OpenSSL make on the way last until the process ends.
    """
    check_input(identity, key)
    if algorithm.name not in tpm.capabilities.hmac_hashes:
        raise TpmLacks(f"this TPM has no HMAC with {algorithm.name}")
    finished_key, derived = two_keys(key, algorithm)
    host, storage = SoftwareBackend(), Storage(tpm)
    ledger = Ledger() if ledger is None else ledger
    try:
        wrapped = (
            _wrap(storage, finished_key, algorithm, ledger),
            _wrap(storage, derived, algorithm, ledger),
        )
    finally:
        host.destroy(finished_key, derived)
        storage.close()
    return ProvisionedPsk(identity, algorithm, *wrapped)


def check_input(identity: bytes, key: bytes) -> None:
    """Raises ConfigurationError for what is no PSK."""
    if not 0 < len(identity) < 2**16 or not key:
        raise ConfigurationError("a PSK needs an identity and a key, neither of them empty")


def two_keys(key: bytes, algorithm: HashAlgorithm) -> tuple[Secret, Secret]:
    """finished_key and `derived` of a PSK, on the host."""
    host, size, empty = SoftwareBackend(), algorithm.digest_size, algorithm.empty_digest
    psk = SoftwareSecret("PSK", key, algorithm)
    early = host.extract(algorithm, None, psk, "early_secret")
    binder_key = host.expand_label(early, b"ext binder", empty, size, "binder_key")
    finished_key = host.expand_label(binder_key, b"finished", b"", size, "finished_key")
    derived = host.expand_label(early, b"derived", empty, size, "derived")
    host.destroy(psk, early, binder_key)
    return finished_key, derived


def _wrap(storage: Storage, secret: Secret, algorithm: HashAlgorithm, ledger: Ledger) -> bytes:
    ledger.record(Crossing(secret.name, "tpm", "in", "TPM2_Create"))
    return storage.wrap_hmac_key(host_octets(secret), ALGORITHMS[algorithm.name])


# -- use -------------------------------------------------------------------------------------------


class LentSecret(TpmSecret):
    """A key that its Early Secret lends: to destroy it does nothing."""

    __slots__ = ()


Lend = Callable[[str, HashAlgorithm, TpmObject], Secret]


class ProvisionedBinderKey(Secret):
    """What stands for binder_key: the TPM has its finished_key only."""

    __slots__ = ("_finished_key", "_lend")

    def __init__(
        self, name: str, algorithm: HashAlgorithm, finished_key: TpmObject, lend: Lend
    ) -> None:
        super().__init__(name, algorithm.digest_size, algorithm)
        self._finished_key = finished_key
        self._lend = lend

    @property
    def kept(self) -> tuple[Kept, ...]:
        return kept_by(self._finished_key, "finished_key")

    def expand_label(self, label: bytes, context: bytes, length: int, name: str) -> Secret:
        """HKDF-Expand-Label, of the one label there is."""
        if self.hash is None or (label, context, length) != (b"finished", b"", self.length):
            raise _lacking(label)
        return self._lend(name, self.hash, self._finished_key)


class ProvisionedSecret(Secret):
    """What stands for a PSK, and then for its Early Secret: the TPM has the two keys only.

    `lend` makes of either what the backend takes for a secret, and does not flush when it destroys.
    """

    __slots__ = ("_keys", "_lend")

    def __init__(
        self,
        name: str,
        algorithm: HashAlgorithm,
        keys: tuple[TpmObject, TpmObject],
        lend: Lend = LentSecret,
    ) -> None:
        super().__init__(name, algorithm.digest_size, algorithm)
        self._lend = lend
        self._keys: tuple[TpmObject, TpmObject] | None = keys

    @property
    def kept(self) -> tuple[Kept, ...]:
        finished_key, derived = self._keys or (None, None)
        return kept_by(finished_key, "finished_key") + kept_by(derived, "derived")

    def extract(self, salt: Secret | None, name: str) -> ProvisionedSecret:
        """HKDF-Extract(0, PSK), which was done when the PSK was provisioned."""
        keys, self._keys = self._keys, None
        if self.hash is None or keys is None or salt is not None:
            raise BackendError(f"{self!r} was used before, or is no input of this step")
        return ProvisionedSecret(name, self.hash, keys, self._lend)

    def expand_label(self, label: bytes, context: bytes, length: int, name: str) -> Secret:
        """HKDF-Expand-Label, of the two labels there are."""
        if self.hash is None or self._keys is None:
            raise BackendError(f"{self!r} was destroyed")
        finished_key, derived = self._keys
        if (context, length) != (self.hash.empty_digest, self.length):
            raise _lacking(label)
        if label == b"ext binder":
            return ProvisionedBinderKey(name, self.hash, finished_key, self._lend)
        if label == b"derived":
            return self._lend(name, self.hash, derived)
        raise _lacking(label)

    def destroy(self) -> None:
        """Flush the two keys."""
        keys, self._keys = self._keys, None
        for key in keys or ():
            key.flush()


def _lacking(label: bytes) -> TpmLacks:
    return TpmLacks(f"no {label.decode('ascii', 'replace')!r} with a PSK provisioned as two keys")


def load(psk: ProvisionedPsk, storage: Storage, ledger: Ledger) -> ProvisionedSecret:
    """Load both keys, which cross encrypted; raises BackendError where they are not of this TPM."""
    for name in ("finished_key", "derived"):
        ledger.record(Crossing(name, "tpm", "in", "TPM2_Load", "encrypted"))
    try:
        finished_key = storage.load(psk.finished_key)
        try:
            derived = storage.load(psk.derived)
        except BaseException:
            finished_key.flush()
            raise
    except StoredSecretError:
        raise BackendError(
            f"the PSK {psk.identity!r} was provisioned in another TPM, or its file is damaged:"
            " provision it in this one, with `tpmtls key import-psk`"
        ) from None
    return ProvisionedSecret("PSK", psk.hash, (finished_key, derived))
