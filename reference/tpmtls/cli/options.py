"""Options that commands share, and how their values are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any, Final

from tpmtls.algorithms import GROUPS, SCHEMES, SUITES
from tpmtls.codepoints import CodePoint

BACKENDS: Final = ("software",)
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
        metavar="ID:HEX",
        type=psk,
        action="append",
        default=[],
        help="external pre-shared key, for SHA-256: its identity as text, its octets in"
        " hexadecimal; repeat it for more",
    )
    return group


def add_general(parser: argparse.ArgumentParser, timeout: str) -> None:
    """What has nothing to do with the protocol."""
    group = parser.add_argument_group("general")
    group.add_argument(
        "--backend", choices=BACKENDS, default=BACKENDS[0], help="who holds the secrets"
    )
    add_tcti(group)
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
