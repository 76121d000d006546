"""The TPM backend: what `protect` names happens in the TPM, the rest in software.

Levels, each usable alone and together (they name where a secret is *used*; `hkdf.py` and
`agreement.py` say what passes through the host all the same):

    sign    CertificateVerify: by the credential's signer, whichever backend is used
    ecdhe   the ephemeral key and ECDH
    hkdf    every Extract, Expand and MAC with a secret
    aead    record protection
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any, Final, Literal, get_args

from tpmtls.algorithms import SUITES, HashAlgorithm, SuiteParameters
from tpmtls.backends.base import Aead, Backend, Kept, KeyShare, PskReference, Secret, Signer
from tpmtls.backends.ledger import Crossing
from tpmtls.backends.references import open_key
from tpmtls.backends.software import SoftwareBackend, SoftwareSecret
from tpmtls.backends.tpm.agreement import TpmAgreement
from tpmtls.backends.tpm.agreement import groups as tpm_groups
from tpmtls.backends.tpm.capabilities import Capabilities
from tpmtls.backends.tpm.constants import CommandCode
from tpmtls.backends.tpm.hkdf import (
    ALGORITHMS,
    PublicConstant,
    TpmHkdf,
    TpmPsk,
    TpmSecret,
    host_octets,
)
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.psk import (
    LentSecret,
    ProvisionedBinderKey,
    ProvisionedPsk,
    ProvisionedSecret,
)
from tpmtls.backends.tpm.psk import load as load_psk
from tpmtls.backends.tpm.records import TpmAead
from tpmtls.backends.tpm.storage import Storage
from tpmtls.backends.tpm.transit import Transit, parse_salt_name
from tpmtls.codepoints import NamedGroup
from tpmtls.violations import BackendError, ConfigurationError, TpmLacks

Level = Literal["sign", "ecdhe", "hkdf", "aead"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)


class TpmBackend(Backend):
    """A backend over an open TPM, which it closes.

    `protect` None stands for every level that the TPM can do; a level asked for by name that it
    cannot do raises TpmLacks. With `host_groups`, groups that the TPM lacks are agreed on the host
    beside those that it has, and the ledger says so; otherwise `ecdhe` leaves them out.

    `encrypt_bus` encrypts secrets on their way to the TPM and back: True against those who only
    read the bus, the Name of the TPM's salt key in hexadecimal against those who alter it, too;
    see `transit`.
    """

    name = "tpm"

    def __init__(
        self,
        tpm: Tpm,
        protect: Collection[str] | None = None,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
        host_groups: bool = False,
        encrypt_bus: bool | str = False,
    ) -> None:
        pin = parse_salt_name(encrypt_bus) if isinstance(encrypt_bus, str) else None
        self.tpm = tpm
        self.protect = _levels(protect, tpm.capabilities)
        self.reveals_secrets = "hkdf" not in self.protect
        self._host = SoftwareBackend(entropy)
        if encrypt_bus is not False:
            self._host.ledger = Transit(tpm, pin).ledger
        self.ledger = self._host.ledger
        self._storage = Storage(tpm)
        self._agreement = TpmAgreement(tpm, self.ledger)
        self._hkdf = TpmHkdf(tpm, self.ledger, self._storage)
        own_groups = tpm_groups(tpm.capabilities) if "ecdhe" in self.protect else ()
        keeps_host = host_groups or not own_groups
        self._tpm_groups = frozenset(own_groups)
        self.groups = tuple(
            dict.fromkeys((*own_groups, *(self._host.groups if keeps_host else ())))
        )
        self.suites = tuple(
            suite for suite in self._host.suites if _can_do(SUITES[suite], self.protect, tpm)
        )

    @property
    def stored(self) -> Kept:
        return Kept("early_secret" if "hkdf" in self.protect else "PSK", "tpm")

    # -- key exchange ------------------------------------------------------------------------------

    def key_share(self, group: NamedGroup) -> KeyShare:
        if group in self._tpm_groups:
            return self._agreement.key_share(group)
        return self._host.key_share(group)

    def respond(self, group: NamedGroup, client_share: bytes) -> tuple[bytes, Secret]:
        if group in self._tpm_groups:
            return self._agreement.respond(group, client_share)
        return self._host.respond(group, client_share)

    # -- HKDF --------------------------------------------------------------------------------------

    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        if isinstance(ikm, ProvisionedSecret):
            return ikm.extract(salt, name)
        if salt is None and ikm is None:
            return PublicConstant.of(self._host.extract(algorithm, None, None, name))
        engine = self._hkdf if "hkdf" in self.protect else self._host
        return engine.extract(algorithm, salt, ikm, name)

    def expand_label(
        self, secret: Secret, label: bytes, context: bytes, length: int, name: str
    ) -> Secret:
        if isinstance(secret, ProvisionedSecret | ProvisionedBinderKey):
            return secret.expand_label(label, context, length, name)
        if isinstance(secret, PublicConstant):
            return PublicConstant.of(self._host.expand_label(secret, label, context, length, name))
        return self._engine(secret).expand_label(secret, label, context, length, name)

    def mac(self, key: Secret, data: bytes) -> bytes:
        return self._engine(key).mac(key, data)

    def verify_mac(self, key: Secret, data: bytes, tag: bytes) -> bool:
        return self._engine(key).verify_mac(key, data, tag)

    def _engine(self, secret: Secret) -> TpmHkdf | SoftwareBackend:
        return self._hkdf if isinstance(secret, TpmSecret) else self._host

    # -- use ---------------------------------------------------------------------------------------

    def aead(self, suite: SuiteParameters, key: Secret, iv: Secret) -> Aead:
        if "aead" not in self.protect:
            return self._host.aead(suite, key, iv)
        aead = TpmAead(self.tpm, self.ledger, suite, host_octets(key), host_octets(iv))
        self.destroy(key, iv)
        return aead

    def signer(self, key: Any) -> Signer:
        """As `open_key`, with this TPM for the keys that are in one."""
        return open_key(key, tpm=self.tpm)

    # -- secrets that come and go ------------------------------------------------------------------

    def import_psk(self, key: bytes | PskReference, algorithm: HashAlgorithm) -> Secret:
        self.check_psk(key)
        if isinstance(key, ProvisionedPsk):
            return load_psk(key, self._storage, self.ledger)
        return self._host.import_psk(key, algorithm)

    def check_psk(self, key: bytes | PskReference) -> None:
        if isinstance(key, ProvisionedPsk):
            if key.chained:
                raise ConfigurationError(
                    f"the PSK {key.identity!r} is in the TPM for the protection level chained"
                )
            if "hkdf" not in self.protect:
                raise ConfigurationError(
                    f"the PSK {key.identity!r} is in the TPM: it needs the protection level hkdf"
                )
            return
        super().check_psk(key)

    def wrap(self, secret: Secret) -> bytes:
        """A blob that this TPM alone can use: with `hkdf` without giving it out again."""
        if "hkdf" in self.protect:
            return self._hkdf.wrap(secret)
        octets = host_octets(secret)
        self.ledger.record(Crossing(secret.name, "tpm", "in", "TPM2_Create"))
        return self._storage.seal(octets)

    def unwrap(self, blob: bytes, name: str, algorithm: HashAlgorithm) -> Secret:
        if "hkdf" in self.protect:
            return self._hkdf.unwrap(blob, name, algorithm)
        self.ledger.record(Crossing(name, "tpm", "in", "TPM2_Load", "encrypted"))
        self.ledger.record(Crossing(name, "tpm", "out", "TPM2_Unseal"))
        return SoftwareSecret(name, self._storage.unseal(blob), algorithm)

    def reveal(self, secret: Secret, reason: str) -> bytes:
        if isinstance(secret, TpmSecret | TpmPsk | ProvisionedSecret | ProvisionedBinderKey):
            raise BackendError(f"{secret.name} is in the TPM, and cannot be had for: {reason}")
        return self._host.reveal(secret, reason)

    def destroy(self, *secrets: Secret | None) -> None:
        for secret in secrets:
            if secret is not None:
                self._destroy(secret)

    def _destroy(self, secret: Secret) -> None:
        if isinstance(secret, SoftwareSecret):
            self._host.destroy(secret)
        elif isinstance(secret, ProvisionedSecret):
            secret.destroy()
        elif not isinstance(secret, LentSecret):
            self._hkdf.destroy(secret)

    def close(self) -> None:
        """Flush everything, and close the TPM."""
        self._hkdf.close()
        self._storage.close()
        self.tpm.close()


def possible_levels(capabilities: Capabilities) -> frozenset[Level]:
    """The levels that a TPM can do."""
    levels: set[Level] = set()
    if capabilities.can(CommandCode.Sign):
        levels.add("sign")
    if tpm_groups(capabilities):
        levels.add("ecdhe")
    if capabilities.can(CommandCode.HMAC) and "sha256" in capabilities.hmac_hashes:
        levels.add("hkdf")
    if capabilities.modes(128):
        levels.add("aead")
    return frozenset(levels)


def _levels(protect: Collection[str] | None, capabilities: Capabilities) -> frozenset[str]:
    possible = possible_levels(capabilities)
    if protect is None:
        return frozenset(possible)
    for level in protect:
        if level not in LEVELS:
            raise ConfigurationError(
                f"no protection level {level!r}; there is: {', '.join(LEVELS)}"
            )
        if level not in possible:
            raise TpmLacks(f"this TPM cannot do {level}; it can do: {', '.join(sorted(possible))}")
    return frozenset(protect)


def _can_do(suite: SuiteParameters, protect: frozenset[str], tpm: Tpm) -> bool:
    """Whether the TPM has the suite's hash and cipher, as far as they are its business."""
    capabilities = tpm.capabilities
    if "hkdf" in protect and not (
        suite.hash.name in ALGORITHMS and suite.hash.name in capabilities.hmac_hashes
    ):
        return False
    if "aead" not in protect:
        return True
    return suite.aead != "chacha20-poly1305" and bool(capabilities.modes(8 * suite.key_length))
