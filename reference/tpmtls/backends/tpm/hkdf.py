"""The key schedule in the TPM: every Extract, Expand and MAC is TPM2_HMAC (Part 3 §15.5).

No standard command makes an HMAC's result a key without passing it to the host. So each secret
crosses twice: out of the TPM in the response that computes it, and back in LoadExternal. Between
the two it is in this process's memory; after that it is an object of the TPM, and the host forgets
it. Against one who reads memory or bus at the wrong moment this does not help; against one who
reads memory later it does. What is no secret, because all know it, is computed on the host.
"""

from __future__ import annotations

import hmac
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
_WAIT: Final = frozenset(("exporter_secret", "early_exporter_secret"))
"""Secrets of which nothing is made before an application asks for it."""


def _rests(secret: str, made: str) -> bool:
    """Whether a secret is not used again soon when `made` was made of it.

    Its record keys are the last that is made of a traffic secret, but for Finished, and that comes
    a flight later; only the server's is the next step.
    """
    if made == "write_iv":
        return secret != "server_handshake_traffic_secret"
    return made == "finished_key"


class TpmSecret(Secret):
    """A secret that is an HMAC key in the TPM."""

    __slots__ = ("key",)

    def __init__(self, name: str, algorithm: HashAlgorithm, key: TpmObject) -> None:
        super().__init__(name, algorithm.digest_size, algorithm)
        self.key = key

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


class PublicConstant(SoftwareSecret):
    """Without a PSK, the Early Secret and what `derived` makes of it: everyone knows them.

    They are no secrets, and stand in no ledger.
    """

    __slots__ = ()

    @classmethod
    def of(cls, made: Secret) -> PublicConstant:
        """What the host has made, as what everyone knows."""
        return cls(made.name, host_octets(made), made.hash)


class TpmHkdf:
    """HKDF over HMAC keys of one TPM."""

    def __init__(self, tpm: Tpm, ledger: Ledger, storage: Storage) -> None:
        self._tpm = tpm
        self._ledger = ledger
        self._storage = storage
        self._constants: dict[tuple[bytes, str], TpmObject] = {}

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
        result = self._hmac(self._salt(salt, algorithm), message, algorithm)
        return self._load(name, algorithm, result)

    def expand_label(
        self, secret: Secret, label: bytes, context: bytes, length: int, name: str
    ) -> Secret:
        """HKDF-Expand-Label; what goes on as an HMAC key goes back in at once."""
        algorithm, key = _hash(secret), _key(secret)
        info = hkdf_label(length, label, context)
        block = output = self._hmac(key, info + b"\x01", algorithm)
        counter = 1
        while len(output) < length:  # of an exporter
            self._record(name, "out", "TPM2_HMAC")
            self._record(name, "in", "TPM2_HMAC")
            counter += 1
            block = self._hmac(key, block + info + bytes((counter,)), algorithm)
            output += block
        if _rests(secret.name, name):
            self._tpm.rest(key)
        if name in STAYS_OUTSIDE:
            self._record(name, "out", "TPM2_HMAC")
            return SoftwareSecret(name, output[:length], algorithm)
        return self._load(name, algorithm, output[:length])

    def mac(self, key: Secret, data: bytes) -> bytes:
        """HMAC(key, data): it goes on the wire."""
        return self._hmac(_key(key), data, _hash(key))

    def verify_mac(self, key: Secret, data: bytes, tag: bytes) -> bool:
        """Whether `tag` is HMAC(key, data); compared on the host, in constant time."""
        return hmac.compare_digest(self.mac(key, data), tag)

    def wrap(self, psk: Secret) -> bytes:
        """Store a PSK as its Early Secret: a key that this TPM alone can load."""
        algorithm = _hash(psk)
        early = self._hmac(self._salt(None, algorithm), host_octets(psk), algorithm)
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
        self._tpm.flush(*self._constants.values())
        self._constants.clear()

    # -- parts -------------------------------------------------------------------------------------

    def _hmac(self, key: TpmObject, data: bytes, algorithm: HashAlgorithm) -> bytes:
        return self._tpm.run(commands.hmac(key, data, ALGORITHMS[algorithm.name]))

    def _load(self, name: str, algorithm: HashAlgorithm, octets: bytes) -> Secret:
        """A secret that the TPM has just given out, as its key again."""
        self._record(name, "out", "TPM2_HMAC")
        self._record(name, "in", "TPM2_LoadExternal")
        key = self._tpm.load(commands.load_hmac_key(octets, ALGORITHMS[algorithm.name]))
        if name in _WAIT:
            self._tpm.rest(key)
        return TpmSecret(name, algorithm, key)

    def _salt(self, salt: Secret | None, algorithm: HashAlgorithm) -> TpmObject:
        """The salt as an HMAC key; those that all know are kept."""
        if salt is not None and not isinstance(salt, PublicConstant):
            return _key(salt)
        octets = bytes(algorithm.digest_size) if salt is None else host_octets(salt)
        key = self._constants.get((octets, algorithm.name))
        if key is None:
            key = self._tpm.load(commands.load_hmac_key(octets, ALGORITHMS[algorithm.name]))
            self._constants[octets, algorithm.name] = key
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
