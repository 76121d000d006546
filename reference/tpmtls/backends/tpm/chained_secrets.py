"""What `--protect chained` gives out in place of secrets: keys in the TPM, and what will be one."""

from __future__ import annotations

from tpmtls.algorithms import HashAlgorithm
from tpmtls.backends.base import Kept, KeyShare, Secret
from tpmtls.backends.tpm.agreement import TPM_CURVES, checked_point
from tpmtls.backends.tpm.objects import TpmObject, kept_by
from tpmtls.backends.tpm.public import Point, parse_public
from tpmtls.codepoints import NamedGroup
from tpmtls.violations import BackendError


class ChainedSecret(Secret):
    """A secret that is a key in the TPM: an HMAC key, or write_key, an AES key."""

    __slots__ = ("key",)

    def __init__(self, name: str, length: int, algorithm: HashAlgorithm, key: TpmObject) -> None:
        super().__init__(name, length, algorithm)
        self.key = key

    @property
    def kept(self) -> tuple[Kept, ...]:
        return kept_by(self.key, self.name)


class ChainedShared(Secret):
    """A shared secret that is yet to be: our key and the peer's point.

    What ECDH gives must go into HKDF-Extract with the next commands, so it waits for that.
    """

    __slots__ = ("_key", "group", "peer")

    def __init__(self, group: NamedGroup, key: TpmObject, peer: Point) -> None:
        super().__init__("shared_secret", TPM_CURVES[group].size, None)
        self.group = group
        self.peer = peer
        self._key: TpmObject | None = key

    @property
    def kept(self) -> tuple[Kept, ...]:
        return kept_by(self._key, "ephemeral_key")

    def take(self) -> TpmObject:
        """Our key, once."""
        key, self._key = self._key, None
        if key is None:
            raise BackendError(f"{self!r} was used before, or destroyed")
        return key

    def forget(self) -> None:
        """Flush our key."""
        if self._key is not None:
            self.take().flush()


class ChainedPsk(Secret):
    """A PSK of which the TPM has the Early Secret: a PSK is HMAC data, and can be no key itself."""

    __slots__ = ("early_secret",)

    def __init__(self, name: str, algorithm: HashAlgorithm, early_secret: TpmObject) -> None:
        super().__init__(name, algorithm.digest_size, algorithm)
        self.early_secret: TpmObject | None = early_secret

    @property
    def kept(self) -> tuple[Kept, ...]:
        return kept_by(self.early_secret, "early_secret")


class ChainedKeyShare(KeyShare):
    """A client's ephemeral key, in the TPM until it has agreed."""

    def __init__(self, group: NamedGroup, key: TpmObject) -> None:
        self.group = group
        self.public = parse_public(key.public).point.uncompressed(TPM_CURVES[group].size)
        self._key: TpmObject | None = key

    @property
    def kept(self) -> tuple[Kept, ...]:
        return kept_by(self._key, "ephemeral_key")

    def agree(self, peer_share: bytes) -> Secret:
        return self.with_point(checked_point(self.group, peer_share))

    def with_point(self, peer: Point) -> ChainedShared:
        """What is to be the shared secret, from a point that was checked."""
        key, self._key = self._key, None
        if key is None:
            raise BackendError("an ephemeral key agrees once")
        return ChainedShared(self.group, key, peer)

    def close(self) -> None:
        if self._key is not None:
            self._key.flush()
            self._key = None
