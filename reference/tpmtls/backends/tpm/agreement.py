"""ECDHE in the TPM: a fresh key for every handshake, and the point it agrees on (Part 3 §14).

The shared point is in the response, so the shared secret passes through the host on its way into
the key schedule; the private key never does.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from tpmtls.backends.base import Kept, KeyShare, Secret
from tpmtls.backends.ledger import Crossing, Ledger
from tpmtls.backends.software import CURVES, SoftwareSecret
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.capabilities import Capabilities
from tpmtls.backends.tpm.constants import CommandCode, Curve
from tpmtls.backends.tpm.objects import TpmObject, kept_by
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.public import Point, parse_public
from tpmtls.codepoints import NamedGroup
from tpmtls.violations import PeerViolation, Violation

TPM_CURVES: Final = {
    NamedGroup.secp256r1: Curve.NIST_P256,
    NamedGroup.secp384r1: Curve.NIST_P384,
    NamedGroup.secp521r1: Curve.NIST_P521,
}
"""The groups of TLS that a TPM 2.0 can have at all: it knows no X25519 and no X448."""


def groups(capabilities: Capabilities) -> tuple[NamedGroup, ...]:
    """The groups that this TPM can agree a key in."""
    if not capabilities.can(CommandCode.ECDH_ZGen, CommandCode.CreatePrimary):
        return ()
    return tuple(group for group, curve in TPM_CURVES.items() if curve in capabilities.curves)


class TpmKeyShare(KeyShare):
    """A client's ephemeral key, in the TPM until it has agreed."""

    def __init__(self, agreement: TpmAgreement, group: NamedGroup, key: TpmObject) -> None:
        self.group = group
        self.public = parse_public(key.public).point.uncompressed(TPM_CURVES[group].size)
        self._agreement = agreement
        self._key = key

    @property
    def kept(self) -> tuple[Kept, ...]:
        return kept_by(self._key, "ephemeral_key")

    def agree(self, peer_share: bytes) -> Secret:
        try:
            return self._agreement.agree(self.group, self._key, peer_share)
        finally:
            self.close()

    def close(self) -> None:
        self._key.flush()


class TpmAgreement:
    """Key agreement with keys of one TPM."""

    def __init__(self, tpm: Tpm, ledger: Ledger) -> None:
        self._tpm = tpm
        self._ledger = ledger

    def key_share(self, group: NamedGroup) -> KeyShare:
        """CreatePrimary under NULL, with a random `unique`: a new key each time."""
        # req: 4.3.8-8 4.3.8-12
        key = self._tpm.load(commands.create_ecdh_key(TPM_CURVES[group]))
        return TpmKeyShare(self, group, key)

    def agree(self, group: NamedGroup, key: TpmObject, peer_share: bytes) -> Secret:
        """ECDH_ZGen with the server's share."""
        peer = checked_point(group, peer_share)
        shared = self._tpm.run(commands.ecdh_zgen(key, peer))
        return self._shared(group, shared, "TPM2_ECDH_ZGen")

    def respond(self, group: NamedGroup, client_share: bytes) -> tuple[bytes, Secret]:
        """ECDH_KeyGen on the client's share: the server's key is made and used in one step."""
        curve = TPM_CURVES[group]
        point = checked_point(group, client_share)
        with self._tpm.load(commands.load_ecdh_peer(curve, point)) as peer:
            result = self._tpm.run(commands.ecdh_keygen(peer))
        public = result.public.uncompressed(curve.size)
        return public, self._shared(group, result.shared, "TPM2_ECDH_KeyGen")

    def _shared(self, group: NamedGroup, point: Point, command: str) -> Secret:
        """Z: the x-coordinate, with its leading zeros (RFC 9846 §7.4.2)."""
        # req: 7.4.2-1
        self._ledger.record(Crossing("shared_secret", "tpm", "out", command))
        octets = point.x.rjust(TPM_CURVES[group].size, b"\0")
        return SoftwareSecret("shared_secret", octets, None)


def checked_point(group: NamedGroup, share: bytes) -> Point:
    """The peer's point. It is public: the host checks it, so that no TPM need be trusted to."""
    # req: 4.3.8.2-1
    if share[0] != 4:
        raise PeerViolation(Violation.INVALID_POINT, "legacy_form is not 4")
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(CURVES[group], share)
    except ValueError:
        raise PeerViolation(Violation.INVALID_POINT, str(group)) from None
    return Point.from_uncompressed(share)
