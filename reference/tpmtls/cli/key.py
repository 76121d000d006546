"""Make keys that live in a TPM, and certificates for them.

A key in a TPM cannot be copied. Who steals the disk or a backup has no key; who
reads the server's memory, by a bug or a core dump, sees none. It does not help
against code on this host that may use the TPM: that cannot take the key away, but
can sign with it for as long as it runs here. A password that is not on the host,
and PCRs (what was booted), narrow down who can. Neither hides the traffic of a
server that is compromised: only the key stays out of reach.

examples, with a server's key in a file that is of no use without this TPM:
  export TPM2TOOLS_TCTI=device:/dev/tpmrm0
  tpmtls key create --out server.key
  tpmtls key csr --key server.key --name www.example.org --out server.csr
  tpmtls serve --listen 0.0.0.0:443 --cert server.pem --key server.key

with the key in the TPM itself, with a password, and bound to what was booted:
  tpmtls key create --handle 0x81000001
  tpmtls key create --out client.key --password prompt --algorithm ecc-p384
  tpmtls key create --out server.key --pcrs sha256:0,2,4,7

to try it out without a TPM, in a folder that plays one:
  tpmtls key create --tcti libtpms:mytpm --out my.key
  tpmtls key cert --tcti libtpms:mytpm --key my.key --name localhost --out my.pem
  tpmtls serve --tcti libtpms:mytpm --listen localhost:4433 --cert my.pem --key my.key
"""

from __future__ import annotations

import argparse
import os
import sys
from argparse import ArgumentParser, Namespace
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tpmtls.cli import key_chain, key_psk, options
from tpmtls.cli.exits import NOTHING_THERE, SUCCESS, USAGE, CommandError, say

if TYPE_CHECKING:
    from cryptography import x509

    from tpmtls.backends.software_signer import SoftwareSigner
    from tpmtls.backends.tpm.opening import Tpm
    from tpmtls.backends.tpm.signing import TpmSigner

SUMMARY: Final = "make keys that live in a TPM, and certificates for them"
ALGORITHMS: Final = ("ecc-p256", "ecc-p384", "rsa-2048")

_CREATE: Final = """\
Make a signing key in a TPM. With --out it is kept in a file, which only this TPM
can read (TSS2 PEM, as tpm2-openssl and tpm2-tools have it); with --handle in the
TPM, whose room for such keys is small. The private key is never outside the TPM.

No such key counts wrong passwords (noDA): guessing must be hard by itself. With
--pcrs the key is usable as long as these PCRs are what they are now; an update of
firmware or boot loader changes some of them, and then the key is lost."""
_CSR: Final = """\
Make a certificate request (PKCS #10), signed with the key, for an authority to
sign. At least one name is needed."""
_CERT: Final = """\
Make a certificate that nobody vouches for, to try things out: the key signs its
own. A peer accepts it with --ca FILE."""
_SALT_NAME: Final = """\
Print the Name of the key with which secrets are encrypted on their way to the TPM:
the owner's storage key, the same until the TPM is cleared. Who can alter what passes
between host and TPM could have a key of his own named here: run it where nobody can,
such as when the machine is set up, and give the Name to --encrypt-bus."""


# -- options ---------------------------------------------------------------------------------------


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `tpmtls key`."""
    parts = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    create = _part(parts, "create", "make a key in the TPM", _CREATE, _create)
    create.add_argument(
        "--algorithm",
        choices=ALGORITHMS,
        default=ALGORITHMS[0],
        help="the kind of key (%(default)s)",
    )
    place = create.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", metavar="FILE", help="keep it in this file")
    place.add_argument(
        "--handle", metavar="0x8100xxxx", type=_handle, help="keep it in the TPM, at this handle"
    )
    create.add_argument(
        "--password",
        metavar="WHERE",
        type=options.password_source,
        help="its password is asked for at each use; where it is: " + options.PASSWORD_SOURCES,
    )
    create.add_argument(
        "--pcrs", metavar="BANK:N,…", help="bind it to what these PCRs are now, as in sha256:0,7"
    )
    create.add_argument(
        "--parent",
        metavar="0x81xxxxxx",
        type=_handle,
        help="the storage key that encrypts the file, if not the owner's standard one",
    )
    create.add_argument(
        "--force", action="store_true", help="replace the key that is there; it cannot be undone"
    )
    _add_general(create)
    for name, summary, description, run in (
        ("csr", "make a certificate request", _CSR, _csr),
        ("cert", "make a self-signed certificate", _CERT, _cert),
    ):
        part = _part(parts, name, summary, description, run)
        _add_subject(part)
        if name == "cert":
            part.add_argument(
                "--days", type=_days, default=30, help="how long it is valid (%(default)s)"
            )
        part.add_argument("--out", metavar="FILE", help="where to; stdout without it")
        _add_general(part)
    _add_general(
        _part(parts, "salt-name", "print what --encrypt-bus can pin", _SALT_NAME, _salt_name)
    )
    key_psk.add_arguments(
        _part(parts, "import-psk", key_psk.SUMMARY, key_psk.DESCRIPTION, key_psk.run)
    )
    chain = _part(parts, "chain", key_chain.SUMMARY, key_chain.DESCRIPTION, key_chain.run)
    key_chain.add_arguments(chain)
    _add_general(chain)


def _part(parts: Any, name: str, summary: str, description: str, run: Any) -> ArgumentParser:
    part: ArgumentParser = parts.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    part.set_defaults(part=run)
    return part


def _add_subject(part: ArgumentParser) -> None:
    part.add_argument(
        "--key", metavar="KEY", required=True, help="a key file, or handle:0x81000001"
    )
    part.add_argument(
        "--key-password",
        metavar="WHERE",
        type=options.password_source,
        help="its password, if it has one: " + options.PASSWORD_SOURCES,
    )
    part.add_argument(
        "--name",
        metavar="NAME",
        action="append",
        default=[],
        help="a host name or IP address; repeat it for more. The first is the common name, too",
    )
    part.add_argument(
        "--san",
        metavar="KIND:VALUE",
        action="append",
        default=[],
        help="another name: DNS:…, IP:…, email:… or URI:…",
    )
    part.add_argument("--subject", metavar="CN=…", help="the subject, as in CN=localhost,O=Example")


def _add_general(part: ArgumentParser) -> None:
    options.add_tpm(part)
    part.add_argument("-v", "--verbose", action="store_true", help="say where an error came from")


def _handle(text: str) -> int:
    try:
        handle = int(text, 16)
    except ValueError:
        handle = 0
    if handle >> 24 != 0x81:
        raise argparse.ArgumentTypeError(f"{text!r} is not a persistent handle, as 0x81000001 is")
    return handle


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) <= 36_500:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return int(text)


# -- create ----------------------------------------------------------------------------------------


def run(arguments: Namespace) -> int:
    """Do what was asked for; returns the exit status."""
    from tpmtls.violations import ConfigurationError, TpmError, TpmUnavailable

    try:
        arguments.part(arguments)
    except TpmUnavailable as error:
        raise CommandError(str(error), NOTHING_THERE) from None
    except (ConfigurationError, TpmError) as error:
        raise CommandError(str(error), USAGE) from None
    return SUCCESS


def _create(arguments: Namespace) -> None:
    from tpmtls.backends.tpm.opening import open_tpm
    from tpmtls.cli import settings

    if arguments.out is not None and not arguments.force and Path(arguments.out).exists():
        raise CommandError(f"--out: there is {arguments.out} already; --force replaces it", USAGE)
    password = None
    if arguments.password is not None:
        password = settings.read_password(arguments.password, new=True)
        if not password:
            raise CommandError("password: it is empty", USAGE)
    with open_tpm(arguments.tcti, owner_password=settings.owner_password(arguments)) as tpm:
        refuse_ephemeral(tpm)
        _make(tpm, arguments, password)


def refuse_ephemeral(tpm: Tpm) -> None:
    """What it keeps has to be of use after the command."""
    if tpm.name == "libtpms:":
        raise CommandError(
            "libtpms: without a folder forgets its keys when the command ends: name a TPM with"
            " --tcti, such as device:/dev/tpmrm0 or libtpms:FOLDER",
            USAGE,
        )


def _make(tpm: Tpm, arguments: Namespace, password: bytes | None) -> None:
    from tpmtls.backends.tpm import keys

    key = keys.create_key(
        tpm,
        arguments.algorithm,
        password=password,
        pcrs=arguments.pcrs,
        parent=keys.STANDARD_PARENT if arguments.parent is None else arguments.parent,
    )
    if arguments.handle is None:
        write_private(arguments.out, key.pem(), replace=arguments.force)
        say(f"{arguments.out} has a new {arguments.algorithm} key, of use in {tpm.name} only")
        return
    keys.persist(tpm, key, arguments.handle, replace=arguments.force)
    reference = f"handle:0x{arguments.handle:x}"
    if arguments.pcrs:
        reference += f"@{arguments.pcrs}"
    say(f"{tpm.name} has a new {arguments.algorithm} key: --key {reference}")


def write_private(path: str, octets: bytes, *, replace: bool) -> None:
    """A file that only we may read, whole or not at all."""
    scratch = f"{path}.{os.getpid()}.new" if replace else path
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
        if replace:
            Path(scratch).replace(path)
    except FileExistsError:
        raise CommandError(f"--out: there is {scratch} already", USAGE) from None
    except OSError as error:
        raise CommandError(f"--out: cannot write {path}: {error.strerror}", USAGE) from None


def _salt_name(arguments: Namespace) -> None:
    from tpmtls.backends.tpm.opening import open_tpm
    from tpmtls.backends.tpm.transit import salt_name
    from tpmtls.cli import settings

    with open_tpm(arguments.tcti, owner_password=settings.owner_password(arguments)) as tpm:
        refuse_ephemeral(tpm)
        print(salt_name(tpm).hex())


# -- csr, cert -------------------------------------------------------------------------------------


def _csr(arguments: Namespace) -> None:
    from tpmtls.certificates.issuing import certificate_request

    subject, names = _names(arguments)
    with _signer(arguments) as signer:
        made = certificate_request(signer, subject, names)
    _write(arguments.out, made)


def _cert(arguments: Namespace) -> None:
    from datetime import UTC, datetime

    from tpmtls.certificates.issuing import self_signed

    subject, names = _names(arguments)
    now = datetime.now(UTC).replace(microsecond=0)
    with _signer(arguments) as signer:
        made = self_signed(signer, subject, names, now=now, days=arguments.days)
    _write(arguments.out, made)


def _signer(arguments: Namespace) -> closing[SoftwareSigner | TpmSigner]:
    from tpmtls.cli import settings

    source = arguments.key_password
    password = None if source is None else settings.read_password(source)
    return closing(settings.find_key(arguments.key, password, arguments))


def _names(arguments: Namespace) -> tuple[x509.Name, list[x509.GeneralName]]:
    from tpmtls.certificates import issuing

    names = [issuing.parse_name(name) for name in arguments.name]
    names += [issuing.parse_alternative(name) for name in arguments.san]
    if arguments.subject is not None:
        return issuing.parse_subject(arguments.subject), names
    if not names:
        raise CommandError("whose certificate? Give --name, --san or --subject", USAGE)
    return issuing.subject_for(names[0]), names


def _write(path: str | None, made: x509.CertificateSigningRequest | x509.Certificate) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    pem = made.public_bytes(Encoding.PEM)
    if path is None:
        sys.stdout.write(pem.decode())
        return
    try:
        Path(path).write_bytes(pem)
    except OSError as error:
        raise CommandError(f"--out: cannot write {path}: {error.strerror}", USAGE) from None
