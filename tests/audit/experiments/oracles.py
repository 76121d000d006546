"""What the use of a TPM tells those who are on the machine: they ask, and keep the answers."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from contextlib import suppress

from tests.audit.experiments.line import Line
from tests.audit.experiments.machine import Machine
from tpmtls.algorithms import SHA256
from tpmtls.backends.base import hkdf_label
from tpmtls.backends.handle_only import HandleOnlyBackend
from tpmtls.backends.ledger import Ledger
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.chained import ChainedBackend
from tpmtls.backends.tpm.chained_provisioning import open_chain
from tpmtls.backends.tpm.chained_secrets import ChainedSecret
from tpmtls.backends.tpm.constants import Alg
from tpmtls.backends.tpm.frames import Reader
from tpmtls.backends.tpm.hkdf import TpmSecret
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.storage import Storage
from tpmtls.handshake.post_handshake import connected_in
from tpmtls.key_schedule import CLIENT_EARLY_TRAFFIC_SECRET
from tpmtls.violations import BackendError, StoredSecretError

Secrets = set[tuple[str, bytes]]
"""Octets, and the RFC's name of what they are."""
Hmac = Callable[[bytes], bytes]
Questions = Callable[[Hmac], Secrets]


def info(label: bytes, context: bytes = SHA256.empty_digest, size: int = 32) -> bytes:
    """What HKDF-Expand-Label feeds to the HMAC, for one block."""
    return hkdf_label(size, label, context) + b"\x01"


def two_constants(early_secret: Hmac, label: bytes) -> Secrets:
    """What is worth a PSK, of whoever computes HMACs under what should be its Early Secret."""
    finished_key = hmac.digest(early_secret(info(label)), info(b"finished", b""), "sha256")
    return {("finished_key", finished_key), ("derived", early_secret(info(b"derived")))}


def ask_about(
    machine: Machine, blob: bytes, label: bytes = b"res binder", hello: bytes | None = None
) -> Secrets:
    """All that the TPM of the machine, or its model, tells of a stored secret.

    `hello`: and of early data that was sent under this ClientHello.
    """

    def questions(early_secret: Hmac) -> Secrets:
        told = two_constants(early_secret, label)
        if hello is not None:
            name = CLIENT_EARLY_TRAFFIC_SECRET
            told.add((name.secret, early_secret(info(name.label, SHA256.digest(hello)))))
        return told

    if isinstance(machine.backend, HandleOnlyBackend):
        return _of_model(machine.backend, blob, questions)
    if machine.tpm is None:
        return set()
    if isinstance(machine.backend, ChainedBackend):
        return _without_encryption(machine.tpm, blob, questions)
    return _of_tpm(machine.tpm, blob, questions)


def _of_tpm(tpm: Tpm, blob: bytes, questions: Questions) -> Secrets:
    storage = Storage(tpm)
    try:
        with storage.load(blob) as key:
            return questions(lambda data: tpm.run(commands.hmac(key, data, Alg.SHA256)))
    except StoredSecretError:  # it is no HMAC key, but sealed octets
        return {("PSK", storage.unseal(blob))}
    finally:
        storage.close()


def _without_encryption(tpm: Tpm, blob: bytes, questions: Questions) -> Secrets:
    """What `chained` does, but for the flag that has responses encrypted."""
    found = open_chain(tpm, Ledger())
    assert found is not None
    chain = found.chain
    reader = Reader(blob[1 + len(found.generation) :])
    private, area = reader.sized(), reader.sized()
    try:
        with chain.load(private, area) as key:
            return questions(lambda data: chain.hmac_in_clear(key, data, Alg.SHA256))
    finally:
        chain.close()


def _of_model(model: HandleOnlyBackend, blob: bytes, questions: Questions) -> Secrets:
    """An HMAC under the Early Secret, or its octets: the model gives neither."""
    psk = model.unwrap(blob, "PSK", SHA256)
    early = model.extract(SHA256, None, psk, "early_secret")
    told: Secrets = set()
    with suppress(BackendError):
        told |= questions(lambda data: model.mac(early, data))
    with suppress(BackendError):
        told.add((early.name, model.reveal(early, "whoever asks")))
    model.destroy(psk, early)
    return told


def ask_for_keys(machine: Machine, line: Line) -> dict[str, bytes]:
    """The write_keys of an open connection, by the names of their traffic secrets."""
    connected = connected_in(line.client._state)
    assert connected is not None
    told = {}
    for secret in connected.write_secret, connected.read_secret:
        question = info(b"key", b"", 16)
        if isinstance(secret, TpmSecret) and machine.tpm is not None:
            answer = machine.tpm.run(commands.hmac(secret.key, question, Alg.SHA256))
        elif isinstance(secret, ChainedSecret) and isinstance(machine.backend, ChainedBackend):
            answer = machine.backend._chain.hmac_in_clear(secret.key, question, Alg.SHA256)
        else:
            continue
        told[secret.name] = answer[:16]
    return told
