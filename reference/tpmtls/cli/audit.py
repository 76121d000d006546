"""Say what a TPM can do: what it was asked and tried for, which protection levels
are possible, and which groups and cipher suites each leaves on offer.

What the TPM lacks makes the offer smaller, and never a handshake fail.

examples:
  tpmtls audit --capabilities
  tpmtls audit --capabilities --tcti device:/dev/tpmrm0 --json
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from tpmtls.cli import options
from tpmtls.cli.exits import NOTHING_THERE, SUCCESS, CommandError

if TYPE_CHECKING:
    from tpmtls.backends.tpm.opening import Tpm

SUMMARY: Final = "say what a TPM can do"


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `tpmtls audit`."""
    parser.add_argument(
        "--capabilities",
        action="store_true",
        required=True,
        help="what the TPM can do, and what each protection level offers with it",
    )
    options.add_tcti(parser)
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    parser.add_argument("-v", "--verbose", action="store_true", help="say where an error came from")


def run(arguments: Namespace) -> int:
    """Print it; returns the exit status."""
    from tpmtls.backends.tpm.opening import open_tpm
    from tpmtls.violations import TpmUnavailable

    try:
        with open_tpm(arguments.tcti) as tpm:
            if arguments.json:
                print(json.dumps(_capabilities(tpm) | _offers(tpm), indent=1))
            else:
                print("\n".join([tpm.capabilities.describe(), *_table(tpm)]))
    except TpmUnavailable as error:
        raise CommandError(str(error), NOTHING_THERE) from None
    return SUCCESS


def _capabilities(tpm: Tpm) -> dict[str, Any]:
    """What it can do, under names that stay."""
    from tpmtls.backends.tpm.capabilities import AES_KEY_BITS
    from tpmtls.backends.tpm.constants import CommandCode, Curve

    can = tpm.capabilities
    return {
        "tpm": tpm.name,
        "manufacturer": can.manufacturer,
        "model": can.model,
        "firmware": can.firmware,
        "revision": can.revision,
        "commands": len(can.commands),
        "lacking": [code.name for code in CommandCode if not can.can(code)],
        "curves": [curve.name for curve in Curve if curve in can.curves],
        "hmac_hashes": sorted(can.hmac_hashes),
        "aes_modes": {str(bits): [mode.name for mode in can.modes(bits)] for bits in AES_KEY_BITS},
        "slots": can.slots,
        "loaded_sessions": can.loaded_sessions,
        "active_sessions": can.active_sessions,
        "input_buffer": can.input_buffer,
        "pss_salt": tpm.pss_salt().name.lower(),
    }


def _offers(tpm: Tpm) -> dict[str, Any]:
    """Each level alone, null where the TPM cannot do it; and all that it can do, together."""
    from tpmtls.backends.tpm.backend import LEVELS, possible_levels

    possible = possible_levels(tpm.capabilities)
    levels = {level: _offer(tpm, {level}) if level in possible else None for level in LEVELS}
    return {"levels": levels, "all": _offer(tpm, None)}


def _offer(tpm: Tpm, protect: Collection[str] | None) -> dict[str, list[str]]:
    from tpmtls.backends.tpm.backend import LEVELS, TpmBackend

    backend = TpmBackend(tpm, protect)  # not closed: the TPM is ours to close
    return {
        "protect": [level for level in LEVELS if level in backend.protect],
        "groups": [group.name for group in backend.groups],
        "suites": [suite.name for suite in backend.suites],
    }


def _table(tpm: Tpm) -> list[str]:
    """RSA-PSS, and the offers, for people."""
    offers = _offers(tpm)
    lines = [f"{'RSA-PSS':<10} salt: {tpm.pss_salt().value}"]
    for name, offer in [*offers["levels"].items(), ("all", offers["all"])]:
        if offer is None:
            lines += ["", f"--protect {name}: this TPM cannot do it"]
            continue
        lines += ["", f"--protect {','.join(offer['protect'])}" + ", the default" * (name == "all")]
        lines += [f"  {kind:<8} {' '.join(offer[kind])}" for kind in ("groups", "suites")]
    return lines
