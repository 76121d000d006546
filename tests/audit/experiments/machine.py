"""The victim's machine: a disk, perhaps a TPM, and a client that uses both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

from tests.audit.experiments.line import Line
from tests.audit.experiments.live import CLIENT, GCM, IDENTITY, PSK, Server
from tests.pki import Pki, PrivateKey
from tests.pki import Profile as CertificateProfile
from tpmtls import open_backend
from tpmtls.algorithms import SHA256
from tpmtls.audit.profiles import Profile
from tpmtls.backends.base import Backend
from tpmtls.backends.handle_only import HandleOnlyBackend, ProcessLink
from tpmtls.backends.handle_process import Field, Operation, frame
from tpmtls.backends.references import open_key
from tpmtls.backends.tpm.keyfile import KeyFile
from tpmtls.backends.tpm.keys import create_key, public_key
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.backends.tpm.psk import provision
from tpmtls.backends.tpm.public import parse_public
from tpmtls.codepoints import CipherSuite, NamedGroup
from tpmtls.config import ClientConfig, Credential, ExternalPsk
from tpmtls.tickets import SessionCache

LIBTPMS = "libtpms:"
"""A TPM in this process: once all who opened it have closed it, it is another one."""
SESSIONS, KEY, CHAIN, PROVISIONED = "sessions.json", "client.key", "client.pem", "client.psk"


def public(pki: Pki) -> dict[str, Any]:
    """The part of a client's configuration that everybody may know."""
    return {
        "trust": pki.ca,
        "server_name": "localhost",
        "groups": (NamedGroup.secp256r1,),
        "suites": (CipherSuite[GCM],),
    }


class Machine:
    """A client of one profile. What is in `disk` is all that a thief of the disk gets."""

    def __init__(
        self, profile: Profile, disk: Path, pki: Pki, *, psk_in_clear: bool = False
    ) -> None:
        """`psk_in_clear`: an external PSK in place of a certificate, and not in the TPM."""
        self.profile = profile
        self.disk = disk
        self.tpm = open_tpm(LIBTPMS) if profile.needs_tpm else None
        self.pipe: list[bytes] = []
        """All that passed to the handle-only model and back."""
        self.backend = self._open_backend()
        self.cache = SessionCache()
        self._pki = pki
        self._psk = ExternalPsk(IDENTITY.encode(), PSK) if psk_in_clear else None
        if profile.psk:
            made = provision(self._its_tpm, IDENTITY.encode(), PSK, SHA256)
            (disk / PROVISIONED).write_bytes(made.encode())
            self._psk = ExternalPsk.load(disk / PROVISIONED)
        elif profile.signs_in_tpm:
            key = create_key(self._its_tpm, "ecc-p256")
            (disk / KEY).write_bytes(key.pem())
            (disk / CHAIN).write_bytes(certify(pki, key))
        else:
            made_here = pki.client()
            (disk / KEY).write_bytes(made_here.key.read_bytes())
            (disk / CHAIN).write_bytes(made_here.chain.read_bytes())

    def _open_backend(self) -> Backend:
        if self.profile.backend == "tpm":
            return open_backend("tpm", tcti=LIBTPMS, protect=self.profile.protect)
        if self.profile.backend == "handle-only":
            return HandleOnlyBackend(_TappedLink(self.pipe))
        return open_backend(self.profile.backend)

    @property
    def _its_tpm(self) -> Tpm:
        assert self.tpm is not None
        return self.tpm

    def connect(
        self,
        server: Server,
        *,
        early_data: bytes = b"",
        meddle: Callable[[bytes], bytes] = lambda octets: octets,
        **changes: Any,
    ) -> Line:
        """A connection, with the session of the last one where there is one."""
        config: dict[str, Any] = public(self._pki)
        if self._psk is not None:
            config["psks"] = (self._psk,)
        else:
            config["credentials"] = (credential(self.disk, self.tpm),)
            config["session_cache"] = self.cache
        return Line(server, ClientConfig(**config | changes), self.backend, early_data, meddle)

    def store(self) -> None:
        """Keep the sessions on the disk."""
        self.cache.save(self.disk / SESSIONS)

    def close(self) -> None:
        """Switch it off. The TPM, which is in this process, is gone then, with all its keys."""
        self.backend.close()
        if self.tpm is not None:
            self.tpm.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def used(machine: Machine, server: Server) -> Machine:
    """After a connection, with what is kept of it on the disk."""
    with machine.connect(server) as line:
        assert line.ask(b"hello\n") == server.answer(b"hello\n")
        line.close()
    machine.store()
    return machine


class _TappedLink(ProcessLink):
    """What passes to the model, for who listens."""

    def __init__(self, pipe: list[bytes]) -> None:
        super().__init__()
        self._pipe = pipe

    def request(self, operation: Operation, fields: Sequence[Field]) -> tuple[int, list[bytes]]:
        status, made = super().request(operation, fields)
        self._pipe += (frame(operation, fields), frame(status, made))
        return status, made


def credential(disk: Path, tpm: Tpm | None) -> Credential:
    """The client's certificate and key, as whoever has its disk can load them, with that TPM.

    Raises ConfigurationError or TpmError.
    """
    return Credential.load(disk / CHAIN, disk / KEY, partial(open_key, tpm=tpm))


@dataclass(frozen=True)
class _Public:
    """What a certificate is made for, of a key that nobody can see."""

    key: Any

    def public_key(self) -> Any:
        return self.key


def certify(pki: Pki, key: KeyFile) -> bytes:
    """A certificate for a client, PEM, for a key in a TPM."""
    from cryptography.hazmat.primitives.serialization import Encoding

    about = cast("PrivateKey", _Public(public_key(parse_public(key.area))))
    profile = CertificateProfile(CLIENT, names=("client.example",))
    return pki.root.leaf(about, profile).public_bytes(Encoding.PEM)
