"""`tpmtls key import-psk`: a pre-shared key, as the two keys that a TPM needs of it."""

from __future__ import annotations

import argparse
import sys
from argparse import ArgumentParser, Namespace
from contextlib import closing
from getpass import getpass
from pathlib import Path
from typing import Any, Final

from tpmtls.cli import options
from tpmtls.cli.exits import USAGE, CommandError, say

SUMMARY: Final = "put a pre-shared key into the care of a TPM"
DESCRIPTION: Final = """\
Make of a pre-shared key (PSK) the two keys that TLS needs of it, and encrypt them
for this TPM alone, into a file. The host sees the PSK this once. Afterwards neither
the disk nor the host has it, nor its Early Secret, and the TPM gives out no more
than binders and the secrets of connections. The price is 0-RTT: there is none.

With --chained it is for the level chained, which `tpmtls key chain` prepares, and else
for hkdf. Then the two keys cross to the TPM in clear: do it where you trust the bus.

It does not help against code on this host that may use the TPM: that can make
binders, and so connect as this end, for as long as it runs here. And only psk_dhe_ke
(what serve and connect do) has secrets of one connection: with psk_ke, each has the
same Handshake Secret.

The PSK is ID:HEX, its identity as text and its octets in hexadecimal: the first line
of stdin or of --hex-file, or an argument, which every user of this host can read
while the command runs. Where it came from is left as it is: delete it yourself.

examples:
  export TPM2TOOLS_TCTI=device:/dev/tpmrm0
  tpmtls key import-psk --hex-file /media/usb/printer.txt --out printer.psk
  ssh admin@vault cat printer | tpmtls key import-psk --hash sha384 --out printer.psk
"""
MAX_LINE: Final = 2**18
"""Octets of the line that a PSK is read from: more than the longest identity has."""


def add_arguments(part: ArgumentParser) -> None:
    """The options of `tpmtls key import-psk`."""
    source = part.add_mutually_exclusive_group()
    source.add_argument(
        "psk", metavar="ID:HEX", type=options.psk, nargs="?", help="the PSK; others can read it"
    )
    source.add_argument(
        "--hex-file", metavar="FILE", help="ID:HEX is the first line of this file; else of stdin"
    )
    part.add_argument(
        "--hash",
        choices=("sha256", "sha384"),
        default="sha256",
        help="the hash of the suites that it is used with (%(default)s)",
    )
    part.add_argument(
        "--chained", action="store_true", help="for --protect chained, and for it alone"
    )
    part.add_argument("--out", metavar="FILE", required=True, help="where to keep the two keys")
    part.add_argument(
        "--force", action="store_true", help="replace the file that is there; it cannot be undone"
    )
    options.add_encrypt_bus(part)
    options.add_tpm(part)
    part.add_argument("-v", "--verbose", action="store_true", help="say where an error came from")


def run(arguments: Namespace) -> None:
    """Provision it."""
    from tpmtls.backends.tpm import psk
    from tpmtls.backends.tpm.chained import ChainedBackend
    from tpmtls.backends.tpm.opening import open_tpm
    from tpmtls.backends.tpm.transit import Transit, parse_salt_name
    from tpmtls.cli import key, settings

    if not arguments.force and Path(arguments.out).exists():
        raise CommandError(f"--out: there is {arguments.out} already; --force replaces it", USAGE)
    if arguments.chained and arguments.encrypt_bus is not False:
        raise CommandError("--encrypt-bus cannot help with --chained: leave out one", USAGE)
    with open_tpm(arguments.tcti, owner_password=settings.owner_password(arguments)) as tpm:
        key.refuse_ephemeral(tpm)
        if arguments.encrypt_bus is not False:
            pin = arguments.encrypt_bus
            Transit(tpm, parse_salt_name(pin) if isinstance(pin, str) else None)
        identity, octets = arguments.psk or _read(arguments.hex_file)
        algorithm = psk.HASHES[arguments.hash]
        if arguments.chained:
            with closing(ChainedBackend(tpm)) as backend:
                made = backend.provision_psk(identity, octets, algorithm)
        else:
            made = psk.provision(tpm, identity, octets, algorithm)
        key.write_private(arguments.out, made.encode(), replace=arguments.force)
        say(f"{arguments.out} has the PSK {identity.decode()!r}, of use in {tpm.name} only")


def _read(path: str | None) -> tuple[bytes, bytes]:
    """The PSK in the first line; nothing of it is in an error."""
    where = "stdin" if path is None else f"--hex-file {path}"
    try:
        return options.psk(_first_line(path).strip())
    except OSError as error:
        raise CommandError(f"{where}: cannot read it: {error.strerror}", USAGE) from None
    except (argparse.ArgumentTypeError, UnicodeDecodeError):
        raise CommandError(
            f"{where}: its first line is not ID:HEX, such as printer:00112233445566778899aabb",
            USAGE,
        ) from None


def _first_line(path: str | None) -> str:
    if path is not None:
        with Path(path).open("rb") as file:
            return file.readline(MAX_LINE).decode()
    stream: Any = sys.stdin
    if stream is None:
        return ""
    if stream.isatty():
        return getpass("the PSK, ID:HEX: ")
    line: bytes = getattr(stream, "buffer", stream).readline(MAX_LINE)
    return line.decode()
