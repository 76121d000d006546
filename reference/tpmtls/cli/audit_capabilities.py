"""`tpmtls audit --capabilities`: what a TPM can do, and what each protection level offers with it.

It was asked and tried; what the TPM lacks makes the offer smaller, and never a handshake fail.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tpmtls.backends.tpm.opening import Tpm


def show(arguments: Namespace) -> None:
    """Print it; raises TpmUnavailable or TpmBusy."""
    from tpmtls.backends.tpm.opening import open_tpm

    with open_tpm(arguments.tcti) as tpm:
        if arguments.json:
            print(json.dumps(_capabilities(tpm) | _offers(tpm), indent=1))
        else:
            print("\n".join([tpm.capabilities.describe(), *_table(tpm)]))


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
