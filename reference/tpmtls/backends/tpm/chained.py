"""`--protect chained`: every secret in the TPM, from key exchange to records, by a `Chain`.

What it claims, exactly: no plaintext of a traffic secret, PSK, resumption secret, shared secret,
HMAC key or AES key in this process's memory or on the bus. Against whoever can only read those.
Not against code that can send commands to the TPM: it leaves out the flag that asks for
encryption, and reads everything. It is an experiment on libtpms and swtpm, tried on no chip.

In clear are: IVs; with GCM the hash key H, with which who has it can forge records; keystream, and
with it plaintext, which the host has anyway; exported values; external PSKs, where the host brings
them as octets.
"""

from __future__ import annotations

import hmac as constant_time
from collections.abc import Collection
from typing import Any, Final

from tpmtls.algorithms import SUITES, HashAlgorithm, SuiteParameters
from tpmtls.backends.base import (
    Aead,
    Backend,
    Kept,
    KeyShare,
    PskReference,
    Secret,
    Signer,
    hkdf_label,
)
from tpmtls.backends.ledger import Crossing, Direction, Ledger, Visibility
from tpmtls.backends.references import open_key
from tpmtls.backends.software import SoftwareBackend, SoftwareSecret
from tpmtls.backends.tpm import chained_layout as layout
from tpmtls.backends.tpm import chained_stored
from tpmtls.backends.tpm.agreement import TPM_CURVES, checked_point
from tpmtls.backends.tpm.agreement import groups as tpm_groups
from tpmtls.backends.tpm.chain import NO_SECRET, Chain, Digest
from tpmtls.backends.tpm.chained_probe import probe
from tpmtls.backends.tpm.chained_provisioning import open_chain, provision_opened, recover
from tpmtls.backends.tpm.chained_records import ChainedAead
from tpmtls.backends.tpm.chained_secrets import (
    ChainedKeyShare,
    ChainedPsk,
    ChainedSecret,
    ChainedShared,
)
from tpmtls.backends.tpm.chained_stored import LentChained
from tpmtls.backends.tpm.constants import HASHES, Alg
from tpmtls.backends.tpm.constants import CommandCode as CC
from tpmtls.backends.tpm.hkdf import PublicConstant
from tpmtls.backends.tpm.objects import TpmObject
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.psk import ProvisionedBinderKey, ProvisionedPsk, ProvisionedSecret
from tpmtls.codepoints import NamedGroup
from tpmtls.violations import (
    BackendError,
    ConfigurationError,
    TpmLacks,
)

CHAINED: Final = "chained"
CLAIM: Final = (
    "no plaintext of a secret in host memory or on the bus, against those who only read them;"
    " code that can send commands to the TPM can ask without encryption, and reads everything;"
    " experimental, unverified on chips"
)
_NEEDED: Final = (
    *(CC.StartAuthSession, CC.CreateLoaded, CC.ECDH_ZGen, CC.HMAC, CC.EncryptDecrypt2),
    *(CC.NV_DefineSpace, CC.NV_ReadPublic, CC.NV_Read, CC.NV_Write, CC.EvictControl),
)


class ChainLedger(Ledger):
    """What is `encrypted` here is so because we asked for it, and no longer than we do."""

    claim = CLAIM


class ChainedBackend(Backend):
    """A backend over an open TPM, which it closes.

    Raises TpmLacks where the TPM does not chain, and ConfigurationError where it is not provisioned
    (`tpmtls key chain`); libtpms in this process is provisioned here, as nothing is lost by it.
    """

    name = "tpm"
    reveals_secrets = False
    protect = frozenset({CHAINED})

    def __init__(self, tpm: Tpm) -> None:
        recover(tpm)  # before anything else: there may be no slot left to try anything out
        capabilities = tpm.capabilities
        modes = capabilities.modes(128)
        lacking = [code.name for code in _NEEDED if not capabilities.can(code)]
        if lacking or not modes:
            raise TpmLacks(f"this TPM cannot do {CHAINED}: it lacks {' '.join(lacking) or 'AES'}")
        self.tpm = tpm
        self.ledger: Ledger = ChainLedger()
        self._chain, self._generation = _opened(tpm, self.ledger)
        try:
            self._hashes = probe(self._chain, capabilities.hmac_hashes, 128, modes[0])
        except BaseException:
            self._chain.close()
            raise
        self.ledger = self._chain.ledger = ChainLedger()  # the probe had no secrets
        self._constants: dict[tuple[bytes, str], TpmObject] = {}
        self._host = SoftwareBackend()
        self.groups = tpm_groups(capabilities)
        self.suites = tuple(
            number
            for number, row in SUITES.items()
            if row.hash.name in self._hashes
            and row.aead != "chacha20-poly1305"
            and capabilities.modes(8 * row.key_length)
        )

    @property
    def stored(self) -> Kept:
        return Kept("early_secret", "tpm")

    # -- key exchange ------------------------------------------------------------------------------

    def key_share(self, group: NamedGroup) -> KeyShare:
        # req: 4.3.8-8 4.3.8-12
        return ChainedKeyShare(group, self._ephemeral(group))

    def respond(self, group: NamedGroup, client_share: bytes) -> tuple[bytes, Secret]:
        point = checked_point(group, client_share)
        share = ChainedKeyShare(group, self._ephemeral(group))
        return share.public, share.with_point(point)

    def _ephemeral(self, group: NamedGroup) -> TpmObject:
        chain, area = self._chain, layout.ecdh_area(TPM_CURVES[group])
        with chain.step():
            return chain.create(chain.sensitive_of_nothing(), area)

    # -- HKDF --------------------------------------------------------------------------------------

    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        if isinstance(ikm, ProvisionedSecret):
            return ikm.extract(salt, name)
        if isinstance(ikm, ChainedPsk):
            key, ikm.early_secret = ikm.early_secret, None
            if key is None or salt is not None:
                raise BackendError(f"{ikm!r} was used before, or is no input of this step")
            return ChainedSecret(name, algorithm.digest_size, algorithm, key)
        if salt is None and ikm is None:
            return PublicConstant.of(self._host.extract(algorithm, None, None, name))
        chain, number = self._chain, HASHES[algorithm.name]
        with chain.step():
            key = self._salt(salt, algorithm)
            if isinstance(ikm, ChainedShared):
                digest = self._extract_shared(key, ikm, number, name)
            else:
                data = bytes(algorithm.digest_size)
                if ikm is not None:
                    data = _host_octets(ikm)
                    self._record(ikm.name, "in", "TPM2_HMAC")
                digest = chain.hmac(key, data, number, name)
            return self._hmac_key(digest, name, algorithm)

    def _extract_shared(
        self, salt: TpmObject, shared: ChainedShared, number: Alg, name: str
    ) -> Digest:
        # req: 7.4.2-1
        chain, size = self._chain, TPM_CURVES[shared.group].size
        with shared.take() as ours:
            point = chain.ecdh_zgen(ours, shared.peer, shared.name)
            return chain.hmac(salt, chain.message(point, size), number, name)

    def expand_label(
        self, secret: Secret, label: bytes, context: bytes, length: int, name: str
    ) -> Secret:
        if isinstance(secret, ProvisionedSecret | ProvisionedBinderKey):
            return secret.expand_label(label, context, length, name)
        if isinstance(secret, PublicConstant):
            return PublicConstant.of(self._host.expand_label(secret, label, context, length, name))
        key, algorithm = _key(secret), _hash(secret)
        info = hkdf_label(length, label, context)
        if name in ("write_iv", "exporter_value"):
            return self._in_clear(key, info, length, name, algorithm)
        chain, number = self._chain, HASHES[algorithm.name]
        if name != "write_key" and length != algorithm.digest_size:
            raise BackendError(f"{name}: {length} octets are no HMAC key of this hash")
        with chain.step():
            if name == "PSK":
                return self._psk(key, info, name, algorithm)
            digest = chain.hmac(key, info + b"\x01", number, name)
            if name == "write_key":
                sensitive = chain.sensitive(digest, length, name)
                made_key = chain.create(sensitive, layout.aes_area(8 * length))
                return ChainedSecret(name, length, algorithm, made_key)
            return self._hmac_key(digest, name, algorithm)

    def _hmac_key(self, digest: Digest, name: str, algorithm: HashAlgorithm) -> ChainedSecret:
        chain, size = self._chain, algorithm.digest_size
        area = layout.hmac_area(HASHES[algorithm.name])
        key = chain.create(chain.sensitive(digest, size, name), area)
        return ChainedSecret(name, size, algorithm, key)

    def _psk(self, key: TpmObject, info: bytes, name: str, algorithm: HashAlgorithm) -> ChainedPsk:
        """At once the Early Secret, HMAC(0, PSK); the zeros are a key before there is a PSK."""
        number, zeros = HASHES[algorithm.name], self._salt(None, algorithm)
        psk = self._chain.hmac(key, info + b"\x01", number, name)
        digest = self._chain.hmac(zeros, psk, number, "early_secret")
        return ChainedPsk(name, algorithm, self._hmac_key(digest, "early_secret", algorithm).key)

    def _salt(self, salt: Secret | None, algorithm: HashAlgorithm) -> TpmObject:
        """The salt as an HMAC key; those that all know are kept."""
        if isinstance(salt, ChainedSecret):
            return salt.key
        octets = bytes(algorithm.digest_size) if salt is None else _host_octets(salt)
        key = self._constants.get((octets, algorithm.name))
        if key is None:
            chain, area = self._chain, layout.hmac_area(HASHES[algorithm.name])
            key = chain.create(chain.sensitive(octets, len(octets), NO_SECRET), area)
            self._constants[octets, algorithm.name] = key
        return key

    def _in_clear(
        self, key: TpmObject, info: bytes, length: int, name: str, algorithm: HashAlgorithm
    ) -> SoftwareSecret:
        """IVs, and what an exporter makes."""
        block = output = b""
        for counter in range(1, -(-length // algorithm.digest_size) + 1):
            if block:
                self._record(name, "in", "TPM2_HMAC")
            self._record(name, "out", "TPM2_HMAC")
            data = block + info + bytes((counter,))
            block = self._chain.hmac_in_clear(key, data, HASHES[algorithm.name])
            output += block
        return SoftwareSecret(name, output[:length], algorithm)

    def mac(self, key: Secret, data: bytes) -> bytes:
        number = HASHES[_hash(key).name]
        return self._chain.hmac_in_clear(_key(key), data, number)

    def verify_mac(self, key: Secret, data: bytes, tag: bytes) -> bool:
        return constant_time.compare_digest(self.mac(key, data), tag)

    # -- use ---------------------------------------------------------------------------------------

    def aead(self, suite: SuiteParameters, key: Secret, iv: Secret) -> Aead:
        aead = ChainedAead(self._chain, self.ledger, suite, _key(key), _host_octets(iv))
        self._host.destroy(iv)
        return aead

    def signer(self, key: Any) -> Signer:
        """As `open_key`, with this TPM for the keys that are in one."""
        return open_key(key, tpm=self.tpm)

    # -- secrets that come and go ------------------------------------------------------------------

    def import_psk(self, key: bytes | PskReference, algorithm: HashAlgorithm) -> Secret:
        self.check_psk(key)
        if isinstance(key, ProvisionedPsk):
            return chained_stored.load_psk(self._chain, self._generation, key)
        return self._host.import_psk(key, algorithm)

    def check_psk(self, key: bytes | PskReference) -> None:
        if not isinstance(key, ProvisionedPsk):
            super().check_psk(key)
        elif not key.chained:
            raise ConfigurationError(
                f"the PSK {key.identity!r} is in the TPM for the protection level hkdf: for"
                f" {CHAINED}, make it with `tpmtls key import-psk --chained`"
            )

    def provision_psk(
        self, identity: bytes, key: bytes, algorithm: HashAlgorithm
    ) -> ProvisionedPsk:
        """An external PSK as two keys in the TPM; its octets are in memory, and cross, this once.

        Raises ConfigurationError, TpmError.
        """
        if algorithm.name not in self._hashes:
            raise TpmLacks(f"this TPM cannot do {CHAINED} with {algorithm.name}")
        return chained_stored.provision(self._chain, self._generation, identity, key, algorithm)

    def wrap(self, secret: Secret) -> bytes:
        """A PSK as its Early Secret, wrapped by the TPM when it made that; nothing crosses."""
        if not isinstance(secret, ChainedPsk) or secret.early_secret is None:
            raise BackendError(f"{secret!r} cannot be stored")
        return chained_stored.encode(secret.early_secret, self._generation)

    def unwrap(self, blob: bytes, name: str, algorithm: HashAlgorithm) -> Secret:
        early = chained_stored.load(self._chain, self._generation, blob, algorithm)
        self._record("early_secret", "in", "TPM2_Load", encrypted=True)
        return ChainedPsk(name, algorithm, early)

    def reveal(self, secret: Secret, reason: str) -> bytes:
        if isinstance(secret, SoftwareSecret):
            return self._host.reveal(secret, reason)
        raise BackendError(f"{secret.name} is in the TPM, and cannot be had for: {reason}")

    def destroy(self, *secrets: Secret | None) -> None:
        for secret in secrets:
            if isinstance(secret, ProvisionedSecret):
                secret.destroy()
            elif isinstance(secret, ChainedSecret) and not isinstance(secret, LentChained):
                secret.key.flush()
            elif isinstance(secret, ChainedShared):
                secret.forget()
            elif isinstance(secret, ChainedPsk) and secret.early_secret is not None:
                secret.early_secret.flush()
            elif isinstance(secret, SoftwareSecret):
                self._host.destroy(secret)

    def close(self) -> None:
        """Flush everything, and close the TPM."""
        self.tpm.flush(*self._constants.values())
        self._constants.clear()
        self._chain.close()
        self.tpm.close()

    def _record(
        self, secret: str, direction: Direction, via: str, *, encrypted: bool = False
    ) -> None:
        visibility: Visibility = "encrypted" if encrypted else "clear"
        self.ledger.record(Crossing(secret, "tpm", direction, via, visibility))


def is_chained(protect: Collection[str] | None, encrypt_bus: bool | str) -> bool:
    """Whether `protect` asks for this backend; raises ConfigurationError where it asks for more."""
    if protect is None or CHAINED not in protect:
        return False
    others = set(protect) - {CHAINED, "sign"}
    if others:
        raise ConfigurationError(
            f"{CHAINED} stands in place of {', '.join(sorted(others))}: name it alone, or with sign"
        )
    if encrypt_bus is not False:
        raise ConfigurationError(f"{CHAINED} encrypts what crosses already, without encrypt_bus")
    return True


def _opened(tpm: Tpm, ledger: Ledger) -> tuple[Chain, bytes]:
    """The chain of a TPM, and the generation of its provisioning."""
    found = open_chain(tpm, ledger)
    if found is None and tpm.name.startswith("libtpms:"):
        provision_opened(tpm)
        found = open_chain(tpm, ledger)
    if found is None:
        raise ConfigurationError(
            f"{tpm.name} is not provisioned for {CHAINED}: run `tpmtls key chain` once, where you"
            " trust host and bus"
        )
    return found.chain, found.generation


def _key(secret: Secret) -> TpmObject:
    if not isinstance(secret, ChainedSecret):
        raise BackendError(f"{secret!r} is not a key in the TPM")
    return secret.key


def _host_octets(secret: Secret) -> bytes:
    if not isinstance(secret, SoftwareSecret) or len(secret.octets) != secret.length:
        raise BackendError(f"{secret!r} is not at hand")
    return bytes(secret.octets)


def _hash(secret: Secret) -> HashAlgorithm:
    if secret.hash is None:
        raise BackendError(f"{secret!r} is not tied to a hash")
    return secret.hash
