"""Ask tpmtls itself what RFC 9846 asks, in both roles, in this process."""

from __future__ import annotations

import argparse
from typing import Final

from tlsconform.cli.targets import EXIT_EPILOG, add_run_arguments, run_suite

SUMMARY: Final = "test tpmtls's own server and client, in process"
EPILOG: Final = (
    """\
examples:
  tlsconform self
  tlsconform self --backend tpm -k "finished or binder"
"""
    + EXIT_EPILOG
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `tlsconform self`."""
    parser.add_argument(
        "--backend", default="software", help="who holds the secrets: software, tpm"
    )
    add_run_arguments(parser, workers="auto")


def run(arguments: argparse.Namespace) -> int:
    """Test it; returns the exit status."""
    return run_suite(arguments, ["--tls-self", arguments.backend])
