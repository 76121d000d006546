"""A backend that has no PSK, but the two secrets that all handshakes with it are made of.

    Early Secret ── binder_key ── finished_key    makes binders
         └──────── derived                        makes Handshake Secrets

Both are the same for each connection, so that who has learnt them needs neither the PSK nor its
Early Secret (RFC 9846 §7.1); but for 0-RTT, whose keys come from the Early Secret itself.
"""

from __future__ import annotations

from tpmtls.algorithms import HashAlgorithm
from tpmtls.backends.base import PskReference, Secret
from tpmtls.backends.software import SoftwareBackend, SoftwareSecret
from tpmtls.violations import BackendError, StoredSecretError


class Constants(Secret):
    """What stands for the PSK, for its Early Secret, and for its binder_key."""

    __slots__ = ("pair",)

    def __init__(self, name: str, algorithm: HashAlgorithm, pair: tuple[bytes, bytes]) -> None:
        super().__init__(name, algorithm.digest_size, algorithm)
        self.pair = pair


class TwoConstants(SoftwareBackend):
    """Takes finished_key ‖ derived for a PSK."""

    def import_psk(self, key: bytes | PskReference, algorithm: HashAlgorithm) -> Secret:
        assert isinstance(key, bytes)
        return self.unwrap(key, "PSK", algorithm)

    def unwrap(self, blob: bytes, name: str, algorithm: HashAlgorithm) -> Secret:
        size = algorithm.digest_size
        if len(blob) != 2 * size:
            raise StoredSecretError("not two secrets of this hash")
        return Constants(name, algorithm, (blob[:size], blob[size:]))

    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        if isinstance(ikm, Constants):
            return Constants(name, algorithm, ikm.pair)
        return super().extract(algorithm, salt, ikm, name)

    def expand_label(
        self, secret: Secret, label: bytes, context: bytes, length: int, name: str
    ) -> Secret:
        if not isinstance(secret, Constants):
            return super().expand_label(secret, label, context, length, name)
        assert secret.hash is not None
        finished_key, derived = secret.pair
        match label:
            case b"ext binder" | b"res binder":
                return Constants(name, secret.hash, secret.pair)
            case b"finished":
                return SoftwareSecret(name, finished_key, secret.hash)
            case b"derived":
                return SoftwareSecret(name, derived, secret.hash)
        raise BackendError(f"nobody can make {name} of these two")
