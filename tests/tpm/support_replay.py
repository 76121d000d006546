"""The TPM backend with recorded ephemeral keys: what it computed is read from the TPM's responses.

Secrets are noted under the names that the vectors give them.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable

from cryptography.hazmat.primitives.asymmetric import ec

from tests.tpm.fakes import command_code
from tpmtls.algorithms import HashAlgorithm, SuiteParameters
from tpmtls.backends.base import Aead, KeyShare, Secret, hkdf_label
from tpmtls.backends.software import CURVES, SoftwareBackend, SoftwareSecret
from tpmtls.backends.tpm import commands, public
from tpmtls.backends.tpm.agreement import TPM_CURVES, TpmKeyShare
from tpmtls.backends.tpm.backend import TpmBackend
from tpmtls.backends.tpm.constants import CommandCode
from tpmtls.backends.tpm.device import Recorder
from tpmtls.backends.tpm.frames import HEADER_SIZE
from tpmtls.backends.tpm.hkdf import PublicConstant
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.public import Point
from tpmtls.codepoints import NamedGroup
from vectors.vectorlib.reference_replay.difference import Difference
from vectors.vectorlib.reference_replay.observation import (
    Expansion,
    Extraction,
    Mac,
    Named,
    Observation,
    Observed,
    ObservedAead,
    name_in_vectors,
    note,
)

Stored = dict[bytes, tuple[bytes, bytes]]
"""For each stored PSK: the PSK, and the Early Secret that the TPM made of it."""


class ObservedTpmBackend(TpmBackend, Observed):
    """Computes as the TPM backend does, since it is one, and takes notes."""

    def __init__(
        self,
        tpm: Tpm,
        protect: Collection[str],
        recorder: Recorder,
        private_keys: Iterable[bytes],
        stored: Stored,
    ) -> None:
        super().__init__(tpm, protect, entropy=self._next_private_key, host_groups=True)
        self.suites = SoftwareBackend.suites  # offered as recorded; AES is what servers choose
        self.observed = Observation()
        self._recorder = recorder
        self._private_keys = iter(private_keys)
        self._stored = stored
        self._names: dict[Secret, Named] = {}
        self._early = b""

    # -- recorded keys -----------------------------------------------------------------------------

    def _next_private_key(self, size: int) -> bytes:
        key = next(self._private_keys, None)
        if key is None or len(key) != size:
            raise Difference("steps", f"no private key of {size} octets is recorded here")
        return key

    def key_share(self, group: NamedGroup) -> KeyShare:
        share = self._in_tpm(group) if group in self._tpm_groups else super().key_share(group)
        self.observed.shares.append((group.name, share.public))
        return share

    def respond(self, group: NamedGroup, client_share: bytes) -> tuple[bytes, Secret]:
        if group in self._tpm_groups:
            share = self._in_tpm(group)
            public, shared = share.public, share.agree(client_share)
        else:
            public, shared = super().respond(group, client_share)
        self.observed.shares.append((group.name, public))
        return public, shared

    def _in_tpm(self, group: NamedGroup) -> KeyShare:
        curve = TPM_CURVES[group]
        scalar = self._next_private_key(curve.size)
        key = ec.derive_private_key(int.from_bytes(scalar, "big"), CURVES[group])
        numbers = key.public_key().public_numbers()
        size = curve.size
        point = Point(numbers.x.to_bytes(size, "big"), numbers.y.to_bytes(size, "big"))
        loaded = self.tpm.load(commands.load_ecdh_key(curve, point, scalar))
        loaded.public = public.ecdh_peer(curve, point)
        return TpmKeyShare(self._agreement, group, loaded)

    # -- what the TPM computes ---------------------------------------------------------------------

    def _heard(self) -> bytes:
        """What TPM2_HMAC has given out since the last time."""
        results = b""
        for command, response in self._recorder.exchanges:
            if command_code(command) == CommandCode.HMAC and response[6:10] == bytes(4):
                start = HEADER_SIZE + 4 + 2  # after the sizes of parameters and of the result
                results += response[start : start + int.from_bytes(response[start - 2 : start])]
        self._recorder.exchanges.clear()
        return results

    def _octets(self, secret: Secret) -> bytes:
        """Those of a secret just made."""
        heard = self._heard()
        if isinstance(secret, SoftwareSecret):
            of_host = "hkdf" not in self.protect or isinstance(secret, PublicConstant)
            if not of_host and heard[: secret.length] != secret.octets:
                raise Difference("steps", f"{secret.name} did not come from the TPM")
            return bytes(secret.octets)
        return heard[: secret.length]

    def _named(self, secret: Secret | None, algorithm: HashAlgorithm) -> Named:
        if secret is None:
            return Named("zero", bytes(algorithm.digest_size))
        if secret not in self._names and isinstance(secret, SoftwareSecret):
            return Named(secret.name, bytes(secret.octets))
        return self._names[secret]

    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        inputs = self._named(salt, algorithm), self._named(ikm, algorithm)
        self._heard()
        result = super().extract(algorithm, salt, ikm, name)
        octets = self._octets(result) or self._early
        self._names[result] = Named(name, octets)
        note(self.observed.extractions, name, Extraction(*inputs, octets))
        return result

    def expand_label(
        self, secret: Secret, label: bytes, context: bytes, length: int, name: str
    ) -> Secret:
        prk = self._names[secret]
        self._heard()
        result = super().expand_label(secret, label, context, length, name)
        value = Named(name_in_vectors(prk.name, label, name), self._octets(result))
        self._names[result] = value
        info = hkdf_label(length, label, context)
        expansion = Expansion(prk, info, context, length, value)
        note(self.observed.expansions, (prk.name, label.decode("ascii")), expansion)
        return result

    def mac(self, key: Secret, data: bytes) -> bytes:
        tag = super().mac(key, data)
        note(self.observed.macs, self._names[key].name, Mac(data, tag))
        return tag

    def verify_mac(self, key: Secret, data: bytes, tag: bytes) -> bool:
        return hmac.compare_digest(self.mac(key, data), tag)

    def aead(self, suite: SuiteParameters, key: Secret, iv: Secret) -> Aead:
        secret = self._names[key].name.partition(" of ")[2]
        return ObservedAead(super().aead(suite, key, iv), secret, self.observed)

    def wrap(self, secret: Secret) -> bytes:
        self._heard()
        blob = super().wrap(secret)
        self._stored[blob] = self._names[secret].octets, self._heard()
        return blob

    def unwrap(self, blob: bytes, name: str, algorithm: HashAlgorithm) -> Secret:
        result = super().unwrap(blob, name, algorithm)
        octets, self._early = self._stored[blob]
        self._names[result] = Named("resumption_psk", octets)
        return result
