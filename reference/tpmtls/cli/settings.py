"""From options to configurations; what cannot be used is a CommandError that says what to do."""

from __future__ import annotations

import os
from argparse import Namespace
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpmtls import open_backend
from tpmtls.algorithms import SHA256, SUITES
from tpmtls.backends.references import open_key
from tpmtls.backends.software_signer import SoftwareSigner
from tpmtls.cli.exits import NOTHING_THERE, USAGE, CommandError
from tpmtls.config import (
    DEFAULT_SUITES,
    ClientConfig,
    Config,
    Credential,
    ExternalPsk,
    ServerConfig,
)
from tpmtls.keylog import VARIABLE, KeyLogFile, with_environment
from tpmtls.tickets import SessionCache
from tpmtls.violations import BackendError, ConfigurationError, TpmBusy, TpmError, TpmUnavailable

if TYPE_CHECKING:
    from tpmtls.backends.base import Backend
    from tpmtls.backends.tpm.signing import TpmSigner


def client_config(arguments: Namespace, early_data: bytes) -> ClientConfig:
    """What `tpmtls connect` was told."""
    credentials = _credentials(arguments)
    config = ClientConfig(
        **_common(arguments, len(early_data)),
        credentials=credentials,
        trust=arguments.ca,
        verify=not arguments.insecure,
        server_name=arguments.server_name,
        key_shares=arguments.key_shares,
        session_cache=_sessions(arguments),
        post_handshake_auth=bool(credentials),
    )
    if arguments.ca is not None:
        _ = config.trust_store  # read now, while a mistake is still one of usage
    return config


def server_config(arguments: Namespace) -> ServerConfig:
    """What `tpmtls serve` was told."""
    credentials = _credentials(arguments)
    if not credentials and not arguments.psk:
        raise CommandError("a server needs --cert and --key, or --psk", USAGE)
    if arguments.client_ca is None:
        for option in ("require_client_cert", "request_client_auth_after"):
            if getattr(arguments, option):
                raise CommandError(f"--{option.replace('_', '-')} needs --client-ca FILE", USAGE)
    after = arguments.request_client_auth_after
    if after and arguments.require_client_cert:
        raise CommandError(
            "a client certificate is asked for in the handshake (--require-client-cert) or after"
            " it (--request-client-auth-after), not both",
            USAGE,
        )
    config = ServerConfig(
        **_common(arguments, arguments.early_data),
        credentials=credentials,
        client_trust=arguments.client_ca,
        request_client_certificate=arguments.client_ca is not None and not after,
        require_client_certificate=arguments.require_client_cert,
        tickets=arguments.tickets,
        max_early_data=arguments.early_data,
    )
    _ = config.client_trust_store  # as above
    return config


def backend(arguments: Namespace, config: Config) -> Backend:
    """What --backend, --protect and --encrypt-bus mean; the caller closes it."""
    name = arguments.backend
    if name != "tpm":
        if arguments.protect is not None:
            raise CommandError("--protect needs --backend tpm", USAGE)
        if arguments.encrypt_bus is not False:
            raise CommandError("--encrypt-bus needs --backend tpm", USAGE)
    try:
        found = open_backend(
            name,
            tcti=arguments.tcti,
            protect=arguments.protect,
            encrypt_bus=arguments.encrypt_bus,
            owner_password=owner_password(arguments),
        )
    except (TpmUnavailable, TpmBusy) as error:
        raise CommandError(f"--backend {name}: {error}", NOTHING_THERE) from None
    except (TpmError, ConfigurationError) as error:
        raise CommandError(f"--backend {name}: {error}", USAGE) from None
    problem = _mismatch(config, found)
    if problem is not None:
        found.close()
        raise CommandError(problem, USAGE)
    try:
        _try_psks(config, found)
    except BaseException:
        found.close()
        raise
    return found


def _try_psks(config: Config, found: Backend) -> None:
    """Load the PSKs in a TPM once: what is wrong with them is known before the first peer."""
    for psk in config.psks:
        if psk.provisioned is not None:
            try:
                found.destroy(found.import_psk(psk.source, psk.hash))
            except (ConfigurationError, BackendError) as error:
                raise CommandError(f"--psk: {error}", USAGE) from None


def _mismatch(config: Config, found: Backend) -> str | None:
    """Why nothing can come of that configuration with that backend."""
    protect = getattr(found, "protect", ())
    if not found.reveals_secrets and with_environment(config).key_log is not None:
        level = next((each for each in ("hkdf", "chained") if each in protect), "")
        where = f"with {level} the secrets are in the TPM" if level else found.name
        less = f"leave out {level} (--protect)" if level else "use another --backend"
        return f"{where}, and no key log can have them: {less}, or --keylog and {VARIABLE}"
    for option, chosen, able in (
        ("--groups", config.groups, found.groups),
        ("--suites", config.suites, found.suites),
    ):
        if not any(each in able for each in chosen):
            has = ", ".join(each.name for each in able)
            return f"{option}: with --backend {found.name} there is: {has}"
    return None


def read_file(path: str, what: str) -> bytes:
    """The octets of a file."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"{what}: cannot read {path}: {error.strerror}", USAGE) from None


def save_sessions(cache: SessionCache, path: str) -> None:
    """Keep the sessions for the next time."""
    try:
        cache.save(path)
    except OSError as error:
        raise CommandError(f"--session: cannot write {path}: {error.strerror}", USAGE) from None


def _common(arguments: Namespace, early_data: int) -> dict[str, Any]:
    values: dict[str, Any] = {
        "alpn": arguments.alpn,
        "psks": _psks(arguments, early_data),
        "handshake_timeout": arguments.timeout,
        "key_log": _key_log(arguments),
    }
    if arguments.suites is not None:
        values["suites"] = arguments.suites
    if arguments.groups is not None:
        values["groups"] = arguments.groups
    if arguments.sigalgs is not None:
        values["signature_schemes"] = arguments.sigalgs
    return values


def _psks(arguments: Namespace, early_data: int) -> tuple[ExternalPsk, ...]:
    """Early data under a PSK goes with the first suite that fits it, and the first protocol."""
    suites = arguments.suites or DEFAULT_SUITES
    suite = next((suite for suite in suites if SUITES[suite].hash == SHA256), None)
    return tuple(
        _provisioned(psk)
        if isinstance(psk, str)
        else ExternalPsk(
            psk[0],
            psk[1],
            max_early_data=0 if suite is None else early_data,
            suite=suite if early_data else None,
            alpn=arguments.alpn[0] if arguments.alpn else None,
        )
        for psk in arguments.psk
    )


def _provisioned(path: str) -> ExternalPsk:
    try:
        return ExternalPsk.load(path)
    except ConfigurationError as error:
        raise CommandError(f"--psk {path}: {error}", USAGE) from None


def _credentials(arguments: Namespace) -> tuple[Credential, ...]:
    certificates, keys = arguments.cert, arguments.key
    if len(certificates) != len(keys):
        raise CommandError(
            f"{len(certificates)} --cert and {len(keys)} --key: each certificate needs its key",
            USAGE,
        )
    password = None if arguments.key_password is None else read_password(arguments.key_password)
    return tuple(
        _credential(certificate, key, password, arguments)
        for certificate, key in zip(certificates, keys, strict=True)
    )


def _credential(
    certificate: str, key: str, password: bytes | None, arguments: Namespace
) -> Credential:
    signer = find_key(key, password, arguments)
    try:
        return Credential.load(certificate, signer, lambda found: found)
    except ConfigurationError as error:
        raise CommandError(f"--cert {certificate} --key {key}: {error}", USAGE) from None


def find_key(key: str, password: bytes | None, arguments: Namespace) -> SoftwareSigner | TpmSigner:
    """The signer that --key means, with --tcti and --owner-auth."""
    owner = owner_password(arguments)
    try:
        return open_key(key, tcti=arguments.tcti, password=password, owner_password=owner)
    except TpmUnavailable as error:
        raise CommandError(f"--key {key}: {error}", NOTHING_THERE) from None
    except (ConfigurationError, TpmError) as error:
        raise CommandError(f"--key {key}: {error}", USAGE) from None


def owner_password(arguments: Namespace) -> bytes | None:
    """What --owner-auth says, which is asked for once."""
    if isinstance(arguments.owner_auth, tuple):
        arguments.owner_auth = read_password(
            arguments.owner_auth, prompt="password of the TPM's owner: "
        )
    password: bytes | None = arguments.owner_auth
    return password


def read_password(
    source: tuple[str, str], *, new: bool = False, prompt: str = "password of the key: "
) -> bytes:
    """A password, from where `options.password_source` says; a new one is asked for twice."""
    kind, where = source
    if kind == "file":
        return read_file(where, "password").partition(b"\n")[0].rstrip(b"\r")
    if kind == "env":
        if where not in os.environ:
            raise CommandError(f"password: the environment has no {where}", USAGE)
        return os.environb[where.encode()]
    first = getpass(prompt).encode()
    if new and getpass("once more: ").encode() != first:
        raise CommandError("password: the two differ", USAGE)
    return first


def _key_log(arguments: Namespace) -> KeyLogFile | None:
    if arguments.keylog is None:
        return None
    log = KeyLogFile(arguments.keylog)
    log.open()
    return log


def _sessions(arguments: Namespace) -> SessionCache | None:
    path = arguments.session
    if path is None:
        return None
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise CommandError(f"--session: there is no folder {folder} to keep {path} in", USAGE)
    try:
        return SessionCache.load(path)
    except OSError as error:
        raise CommandError(f"--session: cannot read {path}: {error.strerror}", USAGE) from None
