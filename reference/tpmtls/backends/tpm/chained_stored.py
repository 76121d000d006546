"""What `--protect chained` keeps on the disk: PSKs of tickets, and external ones, as wrapped keys.

Of a ticket's PSK it is the Early Secret, which the TPM wrapped when it made it. Of an external PSK
it is the two keys that `psk` is about: the TPM then gives out binders and secrets of connections,
and those encrypted. The host has the PSK once, when it is provisioned, and the two keys then cross
to the TPM in clear (TPM2_NV_Write): only who knows A could encrypt them for the chain's session.
"""

from __future__ import annotations

from typing import Final

from tpmtls.algorithms import HashAlgorithm
from tpmtls.backends.base import Secret
from tpmtls.backends.ledger import Crossing
from tpmtls.backends.software import SoftwareBackend
from tpmtls.backends.tpm import chained_layout as layout
from tpmtls.backends.tpm.chain import Chain
from tpmtls.backends.tpm.chained_secrets import ChainedSecret
from tpmtls.backends.tpm.constants import HASHES
from tpmtls.backends.tpm.frames import Reader, sized
from tpmtls.backends.tpm.hkdf import host_octets
from tpmtls.backends.tpm.objects import TpmObject
from tpmtls.backends.tpm.psk import ProvisionedPsk, ProvisionedSecret, check_input, two_keys
from tpmtls.violations import (
    BackendError,
    StoredSecretError,
    TpmBusy,
    TpmError,
    TpmUnavailable,
)

_WRAPPED: Final = b"\x03"


def encode(key: TpmObject, generation: bytes) -> bytes:
    """A key that a chain made, as its parent wrapped it, and which provisioning that was."""
    return _WRAPPED + generation + sized(key.private) + sized(key.public)


def load(chain: Chain, generation: bytes, blob: bytes, algorithm: HashAlgorithm) -> TpmObject:
    """The HMAC key that `encode` was given; raises StoredSecretError for anything else."""
    head = _WRAPPED + generation
    try:
        reader = Reader(blob)
        if reader.take(len(head)) != head:
            raise StoredSecretError("a stored secret was not wrapped under these chained keys")
        private, area = reader.sized(), reader.sized()
        reader.end()
    except TpmUnavailable:
        raise StoredSecretError("a stored secret is damaged") from None
    if area != layout.hmac_area(HASHES[algorithm.name])[:-2] + area[-34:]:
        raise StoredSecretError("a stored secret is damaged, or for another hash")
    try:
        key = chain.load(private, area)
    except (TpmBusy, TpmUnavailable):
        raise
    except TpmError as error:
        raise StoredSecretError(f"a stored secret is not of this TPM: {error}") from None
    key.private, key.public = private, area
    return key


# -- external PSKs ---------------------------------------------------------------------------------


class LentChained(ChainedSecret):
    """A key that its Early Secret lends: to destroy it does nothing."""

    __slots__ = ()


def _lend(name: str, algorithm: HashAlgorithm, key: TpmObject) -> LentChained:
    return LentChained(name, algorithm.digest_size, algorithm, key)


def provision(
    chain: Chain, generation: bytes, identity: bytes, key: bytes, algorithm: HashAlgorithm
) -> ProvisionedPsk:
    """Make the two keys of a PSK, and have them wrapped; nothing else of it is kept.

    What we compute is wiped; the copies that Python and OpenSSL make on the way last until the
    process ends.
    """
    check_input(identity, key)
    finished_key, derived = two_keys(key, algorithm)
    try:
        wrapped = (
            _wrap(chain, generation, finished_key, algorithm),
            _wrap(chain, generation, derived, algorithm),
        )
    finally:
        SoftwareBackend().destroy(finished_key, derived)
    return ProvisionedPsk(identity, algorithm, *wrapped, chained=True)


def _wrap(chain: Chain, generation: bytes, secret: Secret, algorithm: HashAlgorithm) -> bytes:
    chain.ledger.record(Crossing(secret.name, "tpm", "in", "TPM2_NV_Write"))
    area = layout.hmac_area(HASHES[algorithm.name])
    with chain.step():
        sensitive = chain.sensitive(host_octets(secret), secret.length, secret.name)
        with chain.create(sensitive, area) as made:
            return encode(made, generation)


def load_psk(chain: Chain, generation: bytes, psk: ProvisionedPsk) -> ProvisionedSecret:
    """Load both keys, which cross encrypted; raises BackendError where they are not of this TPM."""
    for name in ("finished_key", "derived"):
        chain.ledger.record(Crossing(name, "tpm", "in", "TPM2_Load", "encrypted"))
    try:
        finished_key = load(chain, generation, psk.finished_key, psk.hash)
        try:
            derived = load(chain, generation, psk.derived, psk.hash)
        except BaseException:
            finished_key.flush()
            raise
    except StoredSecretError:
        raise BackendError(
            f"the PSK {psk.identity!r} was provisioned in another TPM, or before `tpmtls key chain"
            " --replace`, or its file is damaged: provision it anew, with"
            " `tpmtls key import-psk --chained`"
        ) from None
    return ProvisionedSecret("PSK", psk.hash, (finished_key, derived), _lend)
