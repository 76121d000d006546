"""The profiles that an audit compares: who holds which secrets of a client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

BackendName = Literal["software", "tpm", "handle-only"]


@dataclass(frozen=True, slots=True)
class Profile:
    """One way of keeping a client's secrets."""

    key: str
    title: str
    backend: BackendName
    protect: tuple[str, ...] = ()
    """The protection levels, where the backend is the TPM's."""
    signs_in_tpm: bool = True
    """Whether the key of the client's certificate is in the TPM."""
    psk: bool = False
    """Whether it connects with an external PSK in the TPM, and without certificates."""

    @property
    def needs_tpm(self) -> bool:
        """Whether there is anything to do for a TPM."""
        return self.backend == "tpm" or self.signs_in_tpm


PROFILES: Final = (
    Profile("software", "all in the process's memory", "software", signs_in_tpm=False),
    Profile("sign", "the certificate's key in the TPM", "tpm", ("sign",)),
    Profile("sign+ecdhe", "and the ephemeral key", "tpm", ("sign", "ecdhe")),
    Profile(
        "sign+ecdhe+hkdf", "and the key schedule, step by step", "tpm", ("sign", "ecdhe", "hkdf")
    ),
    Profile("all", "and the records' keys", "tpm", ("sign", "ecdhe", "hkdf", "aead")),
    Profile(
        "psk",
        "the same, with an external PSK that the TPM keeps as two keys",
        "tpm",
        ("sign", "ecdhe", "hkdf", "aead"),
        signs_in_tpm=False,
        psk=True,
    ),
    Profile(
        "chained", "no secret leaves the TPM but encrypted for itself", "tpm", ("sign", "chained")
    ),
    Profile(
        "handle-only",
        "a model of the TPM that TLS would need; the certificate's key in a TPM of today",
        "handle-only",
    ),
)
"""From the weakest to the strongest, but for `psk`, which stands beside."""

BY_KEY: Final = {profile.key: profile for profile in PROFILES}
