"""Options that commands share, and how their values are read."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any, Final

from tpmtls.algorithms import GROUPS, SCHEMES, SUITES
from tpmtls.codepoints import CodePoint

BACKENDS: Final = ("software", "tpm", "handle-only")
LEVELS: Final = ("sign", "ecdhe", "hkdf", "aead")
"""Those of `backends.tpm.backend`, which takes its time to import."""
CHAINED: Final = "chained"
"""In place of the others: that of `backends.tpm.chained`."""
MAX_PORT: Final = 0xFFFF
MAX_OCTETS: Final = 2**32 - 1

SIGNATURE_SCHEMES: Final = tuple(s for s, row in SCHEMES.items() if row.signs_handshakes)


def host_and_port(text: str) -> tuple[str, int]:
    """HOST:PORT; an IPv6 address stands in brackets."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise argparse.ArgumentTypeError(f"put the IPv6 address of {text!r} in brackets: [::1]:443")
    if not colon or not host:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as localhost:4433")
    if not (port.isascii() and port.isdigit()) or int(port) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{port!r} is not a port, 0 to {MAX_PORT}")
    return host, int(port)


def names(what: str, valid: Iterable[CodePoint]) -> Callable[[str], tuple[Any, ...]]:
    """A reader of IANA names, separated by commas, in any case."""
    by_name = {point.name.lower(): point for point in valid}

    def read(text: str) -> tuple[Any, ...]:
        points = []
        for name in split(text):
            if name.lower() not in by_name:
                known = ", ".join(point.name for point in by_name.values())
                raise argparse.ArgumentTypeError(f"there is no {what} {name!r}; there are {known}")
            points.append(by_name[name.lower()])
        return tuple(points)

    return read


def key_shares(text: str) -> tuple[Any, ...]:
    """Groups, or the word `none`."""
    return () if text.lower() == "none" else names("group", GROUPS)(text)


def split(text: str) -> tuple[str, ...]:
    """Words separated by commas."""
    words = tuple(word.strip() for word in text.split(","))
    if not all(words):
        raise argparse.ArgumentTypeError(f"{text!r} has nothing before, after or between commas")
    return words


def psk(text: str) -> tuple[bytes, bytes]:
    """ID:HEX; the last colon separates."""
    identity, _, digits = text.rpartition(":")
    try:
        key = bytes.fromhex(digits)
    except ValueError:
        key = b""
    if not identity or not key:
        raise argparse.ArgumentTypeError(
            "a PSK is ID:HEX, such as printer:00112233445566778899aabb"
        )
    return identity.encode(), key


def psk_or_file(text: str) -> tuple[bytes, bytes] | str:
    """ID:HEX, or the name of a file that holds a PSK in a TPM."""
    try:
        return psk(text)
    except argparse.ArgumentTypeError as error:
        if os.path.isfile(text):  # noqa: PTH113 - it survives names that are none
            return text
        raise argparse.ArgumentTypeError(
            f"{error}, or a file that `tpmtls key import-psk` made"
        ) from None


def octets(text: str) -> int:
    """A number of octets."""
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_OCTETS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of octets, 0 to {MAX_OCTETS}")
    return int(text)


def seconds(text: str) -> float:
    """A positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


PASSWORD_SOURCES: Final = "env:NAME, file:PATH (its first line), or prompt"


def password_source(text: str) -> tuple[str, str]:
    """Where a password is; never the password itself, which `ps` would show to everybody."""
    kind, _, where = text.partition(":")
    if text != "prompt" and (kind not in ("env", "file") or not where):
        # not quoted: it may be the password
        raise argparse.ArgumentTypeError(f"say where the password is: {PASSWORD_SOURCES}")
    return kind, where


def add_tcti(group: argparse._ActionsContainer) -> None:
    """--tcti."""
    group.add_argument(
        "--tcti",
        metavar="TCTI",
        help="the TPM, as tpm2-tools name it: device:/dev/tpmrm0, swtpm:host=localhost,port=2321,"
        " or libtpms:FOLDER, a TPM in this process; without it TPM2TOOLS_TCTI, else libtpms:",
    )


def add_tpm(group: argparse._ActionsContainer) -> None:
    """--tcti, and --owner-auth for what is done in the name of the TPM's owner."""
    add_tcti(group)
    group.add_argument(
        "--owner-auth",
        metavar="WHERE",
        type=password_source,
        help="the password of the TPM's owner hierarchy, if it has one: " + PASSWORD_SOURCES,
    )


def add_credentials(parser: argparse.ArgumentParser, purpose: str) -> None:
    """--cert and --key."""
    group = parser.add_argument_group("certificates")
    group.add_argument(
        "--cert",
        metavar="FILE",
        action="append",
        default=[],
        help=f"certificate chain, PEM, own certificate first{purpose}",
    )
    group.add_argument(
        "--key",
        metavar="KEY",
        action="append",
        default=[],
        help="its private key: a PEM file, of software or of a TPM (TSS2), or handle:0x81000001;"
        " the first --key belongs to the first --cert",
    )
    group.add_argument(
        "--key-password",
        metavar="WHERE",
        type=password_source,
        help="the password of the keys that have one: " + PASSWORD_SOURCES,
    )


def add_protocol(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """What both sides negotiate with."""
    group = parser.add_argument_group("protocol, each list in order of preference")
    group.add_argument("--alpn", metavar="A,B", type=split, default=(), help="such as h2,http/1.1")
    group.add_argument(
        "--suites",
        metavar="A,B",
        type=names("cipher suite", SUITES),
        help=_listed(SUITES) + "; all but the last by default",
    )
    group.add_argument("--groups", metavar="A,B", type=names("group", GROUPS), help=_listed(GROUPS))
    group.add_argument(
        "--sigalgs",
        metavar="A,B",
        type=names("signature scheme", SIGNATURE_SCHEMES),
        help=_listed(SIGNATURE_SCHEMES),
    )
    group.add_argument(
        "--psk",
        metavar="ID:HEX|FILE",
        type=psk_or_file,
        action="append",
        default=[],
        help="external pre-shared key, for SHA-256: its identity as text, its octets in"
        " hexadecimal; or, with --backend tpm and hkdf or chained, a file that"
        " `tpmtls key import-psk` made; repeat it for more",
    )
    return group


_PROTECTION: Final = """\
Each level of --protect names what happens in the TPM:

  sign    the certificate's private key, where `tpmtls key create` made it, never
          leaves the TPM: no reader of disk, memory or bus gets it
  ecdhe   nor does the ephemeral private key; the shared secret that it agrees on
          comes out in clear: who reads memory or bus then has the session
  hkdf    each secret of the key schedule crosses memory and bus in clear when it
          is made, and is then kept in the TPM. A snapshot of memory taken later
          has at most what this process has not overwritten yet
  aead    likewise the records' keys, but GCM's hash key stays in memory, with
          which records can be forged (CCM has none); so does the data itself

In place of ecdhe, hkdf and aead, and an experiment, unverified on chips:

  chained no plaintext of a secret in host memory or on the bus, but for IVs, GCM's
          hash key and exported values: the TPM encrypts what leaves it, and gets
          it back as it is. Whoever sends commands to the TPM asks it not to, and
          reads everything. `tpmtls key chain` makes in the TPM what it needs

With --backend tpm, tickets and session files can be resumed with this TPM alone:
who steals the disk without the machine has nothing in them. No level stops a
program on this host that may use the TPM: it can do what this one does, only not
take the TPM's keys along. libtpms: is this process's memory, and protects nothing.
"""


def levels(text: str) -> tuple[str, ...]:
    """Protection levels, separated by commas."""
    chosen = split(text)
    for level in chosen:
        if level not in (*LEVELS, CHAINED):
            known = ", ".join((*LEVELS, CHAINED))
            raise argparse.ArgumentTypeError(f"there is no level {level!r}; there are {known}")
    return chosen


def salt_name(text: str) -> str:
    """The Name that --encrypt-bus pins."""
    from tpmtls.backends.tpm.transit import parse_salt_name
    from tpmtls.violations import ConfigurationError

    try:
        parse_salt_name(text)
    except ConfigurationError as error:
        # not quoted: it may be the PSK, where --encrypt-bus stands before it
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def add_encrypt_bus(group: argparse._ActionsContainer, condition: str = "") -> None:
    """--encrypt-bus, which may have a condition."""
    group.add_argument(
        "--encrypt-bus",
        metavar="NAME",
        nargs="?",
        const=True,
        default=False,
        type=salt_name,
        help=f"{condition}encrypt secrets between host and TPM, against those who read the"
        " bus; with the NAME that `tpmtls key salt-name` prints, against those who alter it, too."
        " Without NAME put it last",
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """--backend, --tcti, --protect and --encrypt-bus."""
    group = parser.add_argument_group("who holds the secrets", _PROTECTION)
    group.add_argument(
        "--backend",
        choices=BACKENDS,
        default=BACKENDS[0],
        help="this process's memory, a TPM 2.0, or a model of the TPM that TLS would need, in a"
        " process of its own: for study, and no protection (%(default)s)",
    )
    group.add_argument(
        "--protect",
        metavar="A,B",
        type=levels,
        help=f"with --backend tpm: of {', '.join(LEVELS)}, by default all that the TPM can do;"
        f" or {CHAINED}",
    )
    add_encrypt_bus(group, "with --backend tpm: ")
    add_tpm(group)


def add_general(parser: argparse.ArgumentParser, timeout: str) -> None:
    """What has nothing to do with the protocol."""
    group = parser.add_argument_group("general")
    group.add_argument(
        "--keylog",
        metavar="FILE",
        help="append the secrets, for Wireshark and the like; SSLKEYLOGFILE does the same",
    )
    group.add_argument("--timeout", metavar="SECONDS", type=seconds, default=10.0, help=timeout)
    group.add_argument("--json", action="store_true", help="say on stderr in JSON what -v says")
    group.add_argument("-v", "--verbose", action="store_true", help="say what was negotiated")


def _listed(points: Iterable[CodePoint]) -> str:
    return "of " + ", ".join(point.name for point in points)
