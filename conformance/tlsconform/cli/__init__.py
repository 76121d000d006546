"""The command `tlsconform`.

A command is a module with `SUMMARY`, `EPILOG`, `add_arguments(parser)` and `run(arguments)`, which
returns the exit status; its name in `COMMANDS` is all that it takes to add one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Final, NoReturn

from tlsconform.cli.exits import INTERRUPTED, SUCCESS, USAGE, CommandError, say

COMMANDS: Final = ("server", "client", "self", "vectors", "requirements", "report")

EXTRA: Final = frozenset(("jsonschema", "pytest", "xdist"))
"""What the extra `conformance` brings."""

_DESCRIPTION: Final = "Ask an implementation of TLS 1.3 what RFC 9846 asks of it."
_EPILOG: Final = """\
examples:
  tlsconform server localhost:4433 --html report.html
  tlsconform self
  tlsconform requirements --section 4.3.8
  tlsconform COMMAND --help

exit status:
  0 success    1 a requirement is violated    2 usage    3 nothing to talk to
"""


class _Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message}; see {self.prog} --help")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="tlsconform",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tlsconform {version('tpmtls')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name in COMMANDS:
        module = import_module(f"{__name__}.{name}")
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.__doc__,
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (`sys.argv` by default); returns the exit status."""
    try:
        parser = make_parser()
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            parser.print_help(sys.stderr)
            return USAGE
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except SystemExit as stop:  # --help and --version
        return SUCCESS if stop.code is None else int(stop.code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # `| head` has seen enough; Python must not try again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SUCCESS
    except CommandError as error:
        say(f"tlsconform: {error}")
        return error.status
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        say(f"tlsconform needs {error.name}: install tpmtls with the extra, tpmtls[conformance]")
        return USAGE
    return status
