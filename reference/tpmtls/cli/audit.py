"""Show who could read which secret of a client, and what that is good for, measured.

For each profile, from all secrets in this process's memory to all of them in a TPM, a client makes
two connections to a server in the same process: a full handshake with client authentication, and
the resumption of that session with 0-RTT, each with data and KeyUpdate both ways. What is printed
is where each secret was born, which TPM commands carried it and whether in clear, where it was
kept, and when it was in host memory; then, for each attacker and goal, the verdict that follows,
and why. Nothing is left in the TPM, and nothing goes over a network.

examples:
  tpmtls audit
  tpmtls audit --profile chained --profile handle-only --suite TLS_AES_128_CCM_SHA256
  tpmtls audit --tcti device:/dev/tpmrm0 --html audit.html
  tpmtls audit --protect ecdhe,hkdf --json
  tpmtls audit --capabilities --tcti device:/dev/tpmrm0
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tpmtls.algorithms import SUITES
from tpmtls.cli import audit_capabilities, options
from tpmtls.cli.exits import NOTHING_THERE, SUCCESS, USAGE, CommandError, say
from tpmtls.codepoints import CipherSuite

if TYPE_CHECKING:
    from tpmtls.audit.model import Audit
    from tpmtls.audit.profiles import Profile

SUMMARY: Final = "show who could read which secret, and what that is good for"
PROFILES: Final = (
    *("software", "sign", "sign+ecdhe", "sign+ecdhe+hkdf", "all", "psk", "chained"),
    "handle-only",
)
"""Those of `audit.profiles`, which takes its time to import."""


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `tpmtls audit`."""
    parser.add_argument(
        "--profile",
        metavar="NAME",
        choices=PROFILES,
        action="append",
        default=[],
        help="of " + ", ".join(PROFILES) + "; repeat it for more; all of them by default",
    )
    parser.add_argument(
        "--protect",
        metavar="A,B",
        type=options.levels,
        action="append",
        default=[],
        help="another profile, with these protection levels of the TPM; repeat it for more",
    )
    parser.add_argument(
        "--suite",
        metavar="NAME",
        choices=[suite.name for suite in SUITES],
        default=CipherSuite.TLS_AES_128_GCM_SHA256.name,
        help="of " + ", ".join(suite.name for suite in SUITES) + " (%(default)s)",
    )
    options.add_tpm(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print all of it as one JSON object, under the schema audit.schema.json",
    )
    parser.add_argument("--html", metavar="FILE", help="write it as a page, too")
    parser.add_argument(
        "--capabilities",
        action="store_true",
        help="only what the TPM can do, and what each protection level offers with it",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say where an error came from")


def run(arguments: Namespace) -> int:
    """Conduct it, and print it; returns the exit status."""
    from tpmtls.violations import TpmBusy, TpmUnavailable

    try:
        if arguments.capabilities:
            if arguments.profile or arguments.protect or arguments.html:
                raise CommandError("--capabilities goes with --tcti and --json only", USAGE)
            audit_capabilities.show(arguments)
            return SUCCESS
        if arguments.html is not None and not Path(arguments.html).absolute().parent.is_dir():
            raise CommandError(f"--html: there is no folder for {arguments.html}", USAGE)
        audit = _conduct(arguments)
    except (TpmUnavailable, TpmBusy) as error:
        raise CommandError(str(error), NOTHING_THERE) from None
    if arguments.html is not None:
        _write_page(audit, arguments.html)
    _print(audit, as_json=arguments.json)
    return SUCCESS


def _conduct(arguments: Namespace) -> Audit:
    from tpmtls.audit.conduct import conduct
    from tpmtls.cli import settings

    return conduct(
        _profiles(arguments),
        CipherSuite[arguments.suite],
        tcti=arguments.tcti,
        owner_password=settings.owner_password(arguments),
        progress=lambda text: say(f"tpmtls audit: {text}"),
    )


def _profiles(arguments: Namespace) -> list[Profile]:
    """Each once, in the order of the table, those of --protect behind."""
    from tpmtls.audit import profiles

    wanted = dict.fromkeys(profiles.with_levels(levels) for levels in arguments.protect)
    if not arguments.profile and wanted:
        return list(wanted)
    named = arguments.profile or PROFILES
    return list(dict.fromkeys((*(p for p in profiles.PROFILES if p.key in named), *wanted)))


def _write_page(audit: Audit, path: str) -> None:
    from tpmtls.audit.html import page

    try:
        Path(path).write_text(page(audit), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"--html: cannot write {path}: {error.strerror}", USAGE) from None


def _print(audit: Audit, *, as_json: bool) -> None:
    if as_json:
        from tpmtls.audit.document import to_document

        print(json.dumps(to_document(audit), indent=1))
        return
    from tpmtls.audit.table import render

    print("\n".join(render(audit)))
