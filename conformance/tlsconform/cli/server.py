"""Ask a server what RFC 9846 asks of it.

The server has to listen already, and can be any. First it is found out what it supports; tests that
need more are not applicable. The server should answer application data with application data (an
echo, a web server): some rules cannot be seen otherwise.
"""

from __future__ import annotations

import argparse
from typing import Final

from tlsconform.cli.exits import CommandError
from tlsconform.cli.targets import EXIT_EPILOG, add_run_arguments, run_suite
from tlsconform.targets.tcp import parse_address

SUMMARY: Final = "test a server that listens somewhere"
EPILOG: Final = (
    """\
examples:
  tlsconform server localhost:4433
  tlsconform server localhost:4433 --html report.html --junitxml junit.xml
  tlsconform server localhost:4433 -k key_share -n 1 --pcap-dir captures
  tlsconform server localhost:4433 --rfc 8446 --expect known.toml
"""
    + EXIT_EPILOG
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `tlsconform server`."""
    parser.add_argument("address", metavar="HOST:PORT", help="where it listens")
    parser.add_argument("--server-name", default="localhost", help="server_name to send")
    parser.add_argument("--alpn", default="", metavar="A,B", help="application protocols to try")
    parser.add_argument("--psk", metavar="ID:HEX", help="an external PSK that the server knows")
    add_run_arguments(parser, workers="1")


def run(arguments: argparse.Namespace) -> int:
    """Test it; returns the exit status."""
    try:
        parse_address(arguments.address)
    except ValueError as error:
        raise CommandError(str(error)) from None
    target = ["--tls-server", arguments.address, "--tls-server-name", arguments.server_name]
    target += ["--tls-alpn", arguments.alpn]
    if arguments.psk is not None:
        target += ["--tls-psk", arguments.psk]
    return run_suite(arguments, target)
