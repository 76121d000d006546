"""From what users write for a key to the signer that holds it: in software, or in a TPM."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from tpmtls.backends.software_signer import SoftwareSigner
from tpmtls.violations import ConfigurationError, TpmAuthError

if TYPE_CHECKING:
    from tpmtls.backends.tpm.keys import TpmKey
    from tpmtls.backends.tpm.opening import Tpm
    from tpmtls.backends.tpm.signing import TpmSigner

    Find = Callable[[Tpm], TpmKey]

HANDLE: Final = "handle:"
_PEM: Final = b"-----BEGIN "
_TSS2: Final = b"-----BEGIN TSS2 PRIVATE KEY-----"
_NO_PASSWORD: Final = "the key has a password, and none was given (--key-password)"


def open_key(
    reference: Any,
    *,
    tcti: str | None = None,
    password: str | bytes | None = None,
    tpm: Tpm | None = None,
    owner_password: bytes | None = None,
) -> SoftwareSigner | TpmSigner:
    """The signer for a key, whoever holds it.

    `reference` is a path, or PEM octets, PKCS#8 or TSS2; `handle:0x81000001` for a key that stays
    in the TPM, `handle:0x81000001@sha256:0,7` where PCRs guard it; or a private key object. A key
    in a TPM signs once here: what is wrong with it or its password is found before the first peer.
    It is in the TPM of that TCTI string, opened with `owner_password` and closed with the signer;
    or in `tpm`, which stays open.
    Raises ConfigurationError, TpmError.
    """
    open_it = partial(_open, tcti=tcti, owner_password=owner_password, given=tpm)
    if isinstance(reference, str) and reference.startswith(HANDLE):
        handle, pcrs = _parse_handle(reference)

        def find(tpm: Tpm) -> TpmKey:
            from tpmtls.backends.tpm.keys import persistent_key

            return persistent_key(tpm, handle, password, pcrs)

        return open_it(find)
    octets = _octets(reference)
    if octets is None:
        return SoftwareSigner(reference)
    if is_tpm_key(octets):
        return _open_file(octets, password, open_it)
    return SoftwareSigner(_software_key(octets, password))


def is_tpm_key(reference: str | bytes) -> bool:
    """Whether a handle, or the PEM octets of a key file, mean a key in a TPM."""
    if isinstance(reference, str):
        return reference.startswith(HANDLE)
    return _TSS2 in reference


def _parse_handle(reference: str) -> tuple[int, str | None]:
    number, at, pcrs = reference.removeprefix(HANDLE).partition("@")
    try:
        handle = int(number, 16)
    except ValueError:
        handle = 0
    if handle >> 24 != 0x81:
        raise ConfigurationError(
            f"{reference!r} is not the handle of a persistent key, such as handle:0x81000001"
        )
    return handle, pcrs if at else None


def _octets(reference: Any) -> bytes | None:
    """The octets of a file or of PEM; None for an object."""
    if isinstance(reference, bytes | bytearray):
        return bytes(reference)
    if isinstance(reference, str) and reference.encode().startswith(_PEM):
        return reference.encode()
    if not isinstance(reference, str | os.PathLike):
        return None
    try:
        return Path(reference).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {reference}: {error.strerror}") from None


def _open_file(
    octets: bytes, password: str | bytes | None, open_it: Callable[[Find], TpmSigner]
) -> TpmSigner:
    from tpmtls.backends.tpm.constants import Attribute
    from tpmtls.backends.tpm.keyfile import KeyFile
    from tpmtls.backends.tpm.keys import load_key
    from tpmtls.backends.tpm.public import parse_public

    key = KeyFile.parse(octets)
    claims_password = key.empty_auth is False and password is None
    # tpm2_encodeobject says of every key that it has a password; to find out may cost an attempt.
    if claims_password and not parse_public(key.area).has(Attribute.NO_DA):
        raise ConfigurationError(_NO_PASSWORD)
    try:
        return open_it(lambda tpm: load_key(tpm, key, password))
    except TpmAuthError:
        if claims_password:
            raise ConfigurationError(_NO_PASSWORD) from None
        raise


def _open(
    find: Find, tcti: str | None, owner_password: bytes | None, given: Tpm | None
) -> TpmSigner:
    from tpmtls.backends.tpm.opening import open_tpm
    from tpmtls.backends.tpm.signing import TpmSigner

    tpm = open_tpm(tcti, owner_password=owner_password) if given is None else given
    try:
        key = find(tpm)
        try:
            signer = TpmSigner(tpm, key, closes_tpm=given is None)
            signer.check()
        except BaseException:
            key.flush()
            raise
    except BaseException:
        if given is None:
            tpm.close()
        raise
    return signer


def _software_key(octets: bytes, password: str | bytes | None) -> Any:
    secret = password.encode() if isinstance(password, str) else password
    if b"ENCRYPTED" not in octets:
        secret = None  # one password for several keys, of which some have none
    elif not secret:
        raise ConfigurationError("the key is encrypted, and no password was given (--key-password)")
    try:
        return serialization.load_pem_private_key(octets, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(
            "not a private key in PEM that this version can read"
            if secret is None
            else "not a private key in PEM, or another password encrypts it"
        ) from None
