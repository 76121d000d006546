"""The command `tpmtls`.

A command is a module with `SUMMARY`, `add_arguments(parser)` and `run(arguments)`, which returns
the exit status; its name below is all that it takes to add one. What a module imports on top, every
`tpmtls --help` loads: the rest is imported when it runs.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NoReturn

from tpmtls import __version__
from tpmtls.cli.exits import INTERRUPTED, PROTOCOL, SUCCESS, USAGE, CommandError, explain, say
from tpmtls.violations import ConfigurationError, TlsError

COMMANDS: Final = ("connect", "serve", "key", "audit", "bench")

_DESCRIPTION: Final = "TLS 1.3 (RFC 9846) for the command line."
_EPILOG: Final = """\
examples:
  tpmtls connect example.org:443 --alpn http/1.1
  tpmtls serve --listen 127.0.0.1:4433 --cert server.pem --key server.key
  tpmtls COMMAND --help

exit status:
  0 success    1 the peer or the protocol failed    2 usage    3 nothing to talk to
"""


class _Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message}; see {self.prog} --help", USAGE)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="tpmtls",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tpmtls {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name in COMMANDS:
        module = import_module(f"{__name__}.{name}")
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (`sys.argv` by default); returns the exit status."""
    verbose = False
    try:
        parser = make_parser()
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            parser.print_help(sys.stderr)
            return USAGE
        verbose = arguments.verbose
        status: int = arguments.run(arguments)
    except SystemExit as stop:  # --help and --version
        return SUCCESS if stop.code is None else int(stop.code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except CommandError as error:
        say(f"tpmtls: {error}")
        return error.status
    except ConfigurationError as error:
        say(f"tpmtls: {error}")
        return USAGE
    except (TlsError, OSError) as error:
        say(f"tpmtls: {explain(error)}")
        return PROTOCOL
    except Exception as error:  # noqa: BLE001 - the last resort of a program
        if verbose:
            traceback.print_exc()
        say(f"tpmtls: internal error, {type(error).__name__}: {error} (-v shows where)")
        return PROTOCOL
    return status
