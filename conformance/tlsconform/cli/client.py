"""Ask a client what RFC 9846 asks of it.

The client is a command, run anew for each test, unmodified. It is to connect to {host}:{port}, to
trust the authority in the PEM file {ca}, and to send what its stdin says. Where the command has
{session}, a file, the client can keep its tickets there; {cert} and {key} are a client certificate.
"""

from __future__ import annotations

import argparse
from typing import Final

from tlsconform.cli.exits import CommandError
from tlsconform.cli.targets import EXIT_EPILOG, add_run_arguments, run_suite
from tlsconform.targets.program import check_command

SUMMARY: Final = "test a client, given the command that runs it"
EPILOG: Final = (
    """\
examples:
  tlsconform client --command 'tpmtls connect {host}:{port} --ca {ca} --session {session}'
  tlsconform client --command 'openssl s_client -connect {host}:{port} -CAfile {ca} -quiet
      -verify_return_error -sess_out {session}' --resume-command 'openssl s_client
      -connect {host}:{port} -CAfile {ca} -quiet -sess_in {session}'
"""
    + EXIT_EPILOG
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `tlsconform client`."""
    command = "a command with {host} and {port}"
    parser.add_argument("--command", required=True, metavar="COMMAND", dest="program", help=command)
    parser.add_argument(
        "--resume-command", metavar="COMMAND", help="the one that resumes {session}"
    )
    parser.add_argument(
        "--early-data-command", metavar="COMMAND", help="… and sends {early_data}, a file, as 0-RTT"
    )
    add_run_arguments(parser, workers="auto")


def run(arguments: argparse.Namespace) -> int:
    """Test it; returns the exit status."""
    target: list[str] = []
    for option, value in (
        ("--tls-client", arguments.program),
        ("--tls-client-resume", arguments.resume_command),
        ("--tls-client-early-data", arguments.early_data_command),
    ):
        if value is not None:
            try:
                check_command(value)
            except ValueError as error:
                raise CommandError(str(error)) from None
            target += [option, value]
    return run_suite(arguments, target)
