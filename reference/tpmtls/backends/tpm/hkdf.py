"""The key schedule in the TPM: every Extract, Expand and MAC is TPM2_HMAC (Part 3 §15.5).

No standard command makes an HMAC's result a key without passing it to the host. So each secret
crosses twice: out of the TPM in the response that computes it, and back in LoadExternal. Between
the two it is in this process's memory; after that it is an object of the TPM, and the host forgets
it. Against one who reads memory or bus at the wrong moment this does not help; against one who
reads memory later it does.
"""

from __future__ import annotations

import hmac as constant_time
from typing import Final

from tpmtls.algorithms import HashAlgorithm
from tpmtls.backends.base import Kept, Secret, hkdf_label
from tpmtls.backends.ledger import Crossing, Direction, Ledger
from tpmtls.backends.software import SoftwareSecret
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.constants import Alg
from tpmtls.backends.tpm.objects import TpmObject, kept_by
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.storage import Storage
from tpmtls.violations import BackendError

ALGORITHMS: Final = {"sha256": Alg.SHA256, "sha384": Alg.SHA384}

STAYS_OUTSIDE: Final = frozenset(("write_key", "write_iv", "PSK", "exporter_value"))
"""Results that are no HMAC keys. By their names: a label of an exporter is what its user likes."""


class TpmSecret(Secret):
    """A secret that is an HMAC key in the TPM.

    Without a PSK, the Early Secret and what `derived` makes of it are the same for everyone: such a
    `constant` is no secret, and stands in no ledger.
    """

    __slots__ = ("constant", "key")

    def __init__(
        self, name: str, algorithm: HashAlgorithm, key: TpmObject, *, constant: bool = False
    ) -> None:
        super().__init__(name, algorithm.digest_size, algorithm)
        self.key = key
        self.constant = constant

    @property
    def kept(self) -> tuple[Kept, ...]:
        return kept_by(self.key, self.name)


class TpmPsk(Secret):
    """A PSK of which the TPM has the Early Secret: a PSK is HMAC data, and can be no key itself."""

    __slots__ = ("early_secret",)

    def __init__(self, name: str, algorithm: HashAlgorithm, early_secret: TpmObject) -> None:
        super().__init__(name, algorithm.digest_size, algorithm)
        self.early_secret: TpmObject | None = early_secret

    @property
    def kept(self) -> tuple[Kept, ...]:
        return kept_by(self.early_secret, "early_secret")


class TpmHkdf:
    """HKDF over HMAC keys of one TPM."""

    def __init__(self, tpm: Tpm, ledger: Ledger, storage: Storage) -> None:
        self._tpm = tpm
        self._ledger = ledger
        self._storage = storage
        self._zero_keys: dict[str, TpmObject] = {}

    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        """HKDF-Extract; the Early Secret of a stored PSK is there already, and is handed over."""
        if isinstance(ikm, TpmPsk):
            key, ikm.early_secret = ikm.early_secret, None
            if key is None or salt is not None:
                raise BackendError(f"{ikm!r} was used before, or is no input of this step")
            return TpmSecret(name, algorithm, key)
        message = bytes(algorithm.digest_size)
        if ikm is not None:
            message = host_octets(ikm)
            self._record(ikm.name, "in", "TPM2_HMAC")
        key = self._zero_key(algorithm) if salt is None else _key(salt)
        result = self._hmac(key, message, algorithm)
        return self._load(name, algorithm, result, constant=salt is None and ikm is None)

    def expand_label(
        self, secret: Secret, label: bytes, context: bytes, length: int, name: str
    ) -> Secret:
        """HKDF-Expand-Label; what goes on as an HMAC key goes back in at once."""
        algorithm = _hash(secret)
        info = hkdf_label(length, label, context)
        block = output = self._hmac(_key(secret), info + b"\x01", algorithm)
        counter = 1
        while len(output) < length:  # of an exporter
            self._record(name, "out", "TPM2_HMAC")
            self._record(name, "in", "TPM2_HMAC")
            counter += 1
            block = self._hmac(_key(secret), block + info + bytes((counter,)), algorithm)
            output += block
        if name in STAYS_OUTSIDE:
            self._record(name, "out", "TPM2_HMAC")
            return SoftwareSecret(name, output[:length], algorithm)
        constant = isinstance(secret, TpmSecret) and secret.constant
        return self._load(name, algorithm, output[:length], constant=constant)

    def mac(self, key: Secret, data: bytes) -> bytes:
        """HMAC(key, data): it goes on the wire."""
        return self._hmac(_key(key), data, _hash(key))

    def verify_mac(self, key: Secret, data: bytes, tag: bytes) -> bool:
        """Whether `tag` is HMAC(key, data); compared on the host, in constant time."""
        return constant_time.compare_digest(self.mac(key, data), tag)

    def wrap(self, psk: Secret) -> bytes:
        """Store a PSK as its Early Secret: a key that this TPM alone can load."""
        algorithm = _hash(psk)
        early = self._hmac(self._zero_key(algorithm), host_octets(psk), algorithm)
        self._record(psk.name, "in", "TPM2_HMAC")
        self._record("early_secret", "out", "TPM2_HMAC")
        self._record("early_secret", "in", "TPM2_Create")
        return self._storage.wrap_hmac_key(early, ALGORITHMS[algorithm.name])

    def unwrap(self, blob: bytes, name: str, algorithm: HashAlgorithm) -> Secret:
        """Load what `wrap` stored; nothing of it crosses in clear."""
        self._ledger.record(Crossing("early_secret", "tpm", "in", "TPM2_Load", "encrypted"))
        return TpmPsk(name, algorithm, self._storage.load(blob))

    def destroy(self, secret: Secret) -> None:
        """Flush the object of a secret."""
        if isinstance(secret, TpmSecret):
            secret.key.flush()
        elif isinstance(secret, TpmPsk) and secret.early_secret is not None:
            secret.early_secret.flush()

    def close(self) -> None:
        """Flush what is ours."""
        self._tpm.flush(*self._zero_keys.values())
        self._zero_keys.clear()

    # -- parts -------------------------------------------------------------------------------------

    def _hmac(self, key: TpmObject, data: bytes, algorithm: HashAlgorithm) -> bytes:
        return self._tpm.run(commands.hmac(key, data, ALGORITHMS[algorithm.name]))

    def _load(
        self, name: str, algorithm: HashAlgorithm, octets: bytes, *, constant: bool
    ) -> Secret:
        """A secret that the TPM has just given out, as its key again."""
        if not constant:
            self._record(name, "out", "TPM2_HMAC")
            self._record(name, "in", "TPM2_LoadExternal")
        key = self._tpm.load(commands.load_hmac_key(octets, ALGORITHMS[algorithm.name]))
        return TpmSecret(name, algorithm, key, constant=constant)

    def _zero_key(self, algorithm: HashAlgorithm) -> TpmObject:
        """The salt of Hash.length zeros: as an HMAC key the same as the empty one."""
        key = self._zero_keys.get(algorithm.name)
        if key is None:
            key = self._tpm.load(commands.load_hmac_key(b"", ALGORITHMS[algorithm.name]))
            self._zero_keys[algorithm.name] = key
        return key

    def _record(self, secret: str, direction: Direction, via: str) -> None:
        self._ledger.record(Crossing(secret, "tpm", direction, via))


def _key(secret: Secret) -> TpmObject:
    if not isinstance(secret, TpmSecret):
        raise BackendError(f"{secret!r} is not a key in the TPM")
    return secret.key


def host_octets(secret: Secret) -> bytes:
    """The octets of a secret that passes through the host on its way into the TPM."""
    if not isinstance(secret, SoftwareSecret) or len(secret.octets) != secret.length:
        raise BackendError(f"{secret!r} is not at hand")
    return bytes(secret.octets)


def _hash(secret: Secret) -> HashAlgorithm:
    if secret.hash is None:
        raise BackendError(f"{secret!r} is not tied to a hash")
    return secret.hash
