"""The profiles that an audit compares: who holds which secrets of a client."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from tpmtls.backends.tpm.backend import LEVELS
from tpmtls.backends.tpm.chained import CHAINED

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
    Profile(
        "sign+ecdhe",
        "the certificate's key and the ephemeral key in the TPM",
        "tpm",
        ("sign", "ecdhe"),
    ),
    Profile(
        "sign+ecdhe+hkdf",
        "signing, key exchange and each step of the key schedule in the TPM",
        "tpm",
        ("sign", "ecdhe", "hkdf"),
    ),
    Profile(
        "all",
        "signing, key exchange, key schedule and record encryption in the TPM",
        "tpm",
        ("sign", "ecdhe", "hkdf", "aead"),
    ),
    Profile(
        "psk",
        "an external PSK that the TPM keeps as two keys, and else as `all`",
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


def with_levels(protect: Collection[str]) -> Profile:
    """The profile with these protection levels of the TPM; one of `PROFILES` where it is that."""
    chosen = tuple(level for level in (*LEVELS, CHAINED) if level in protect)
    for profile in PROFILES:
        if set(profile.protect) == set(chosen) and not profile.psk:
            return profile
    return Profile("+".join(chosen), "as asked for", "tpm", chosen, signs_in_tpm="sign" in chosen)
