"""What the use of a TPM tells those who are on the machine: they ask, and keep the answers."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from contextlib import suppress

from tests.audit.experiments.machine import Machine
from tpmtls.algorithms import SHA256
from tpmtls.backends.base import hkdf_label
from tpmtls.backends.handle_only import HandleOnlyBackend
from tpmtls.backends.ledger import Ledger
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.chained import ChainedBackend
from tpmtls.backends.tpm.chained_provisioning import open_chain
from tpmtls.backends.tpm.constants import Alg
from tpmtls.backends.tpm.frames import Reader
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.storage import Storage
from tpmtls.violations import BackendError, StoredSecretError

Secrets = set[tuple[str, bytes]]
"""Octets, and the RFC's name of what they are."""
Hmac = Callable[[bytes], bytes]


def info(label: bytes, context: bytes = SHA256.empty_digest) -> bytes:
    """What HKDF-Expand-Label feeds to the HMAC, for one block."""
    return hkdf_label(SHA256.digest_size, label, context) + b"\x01"


def two_constants(early_secret: Hmac, label: bytes) -> Secrets:
    """What is worth a PSK, of whoever computes HMACs under what should be its Early Secret."""
    finished_key = hmac.digest(early_secret(info(label)), info(b"finished", b""), "sha256")
    return {("finished_key", finished_key), ("derived", early_secret(info(b"derived")))}


def ask_about(machine: Machine, blob: bytes, label: bytes = b"res binder") -> Secrets:
    """All that the TPM of the machine, or its model, tells of a stored secret."""
    if isinstance(machine.backend, HandleOnlyBackend):
        return _of_model(machine.backend, blob, label)
    if machine.tpm is None:
        return set()
    if isinstance(machine.backend, ChainedBackend):
        return _without_encryption(machine.tpm, blob, label)
    return _of_tpm(machine.tpm, blob, label)


def _of_tpm(tpm: Tpm, blob: bytes, label: bytes) -> Secrets:
    storage = Storage(tpm)
    try:
        with storage.load(blob) as key:
            return two_constants(lambda data: tpm.run(commands.hmac(key, data, Alg.SHA256)), label)
    except StoredSecretError:  # it is no HMAC key, but sealed octets
        return {("PSK", storage.unseal(blob))}
    finally:
        storage.close()


def _without_encryption(tpm: Tpm, blob: bytes, label: bytes) -> Secrets:
    """What `chained` does, but for the flag that has responses encrypted."""
    found = open_chain(tpm, Ledger())
    assert found is not None
    chain = found.chain
    reader = Reader(blob[1 + len(found.generation) :])
    private, area = reader.sized(), reader.sized()
    try:
        with chain.load(private, area) as key:
            return two_constants(lambda data: chain.hmac_in_clear(key, data, Alg.SHA256), label)
    finally:
        chain.close()


def _of_model(model: HandleOnlyBackend, blob: bytes, label: bytes) -> Secrets:
    """An HMAC under the Early Secret, or its octets: the model gives neither."""
    psk = model.unwrap(blob, "PSK", SHA256)
    early = model.extract(SHA256, None, psk, "early_secret")
    told: Secrets = set()
    with suppress(BackendError):
        told |= two_constants(lambda data: model.mac(early, data), label)
    with suppress(BackendError):
        told.add((early.name, model.reveal(early, "whoever asks")))
    model.destroy(psk, early)
    return told
