"""Connect to a TLS 1.3 server.

stdin goes to the peer, what the peer sends goes to stdout. At the end of stdin
the peer is told so (close_notify); it then has --timeout seconds, from the last
octet that it sent, to end its own side. A transport that just ends is an error:
data may be missing.

examples:
  tpmtls connect localhost:4433 --ca ca.pem
  printf 'GET / HTTP/1.0\\r\\n\\r\\n' | tpmtls connect example.org:443 -v

keep session tickets in a file, and send 0-RTT data with the next one:
  tpmtls connect localhost:4433 --ca ca.pem --session tickets.json </dev/null
  tpmtls connect localhost:4433 --ca ca.pem --session tickets.json \\
      --early-data request.bin </dev/null

a pre-shared key; a client certificate; a HelloRetryRequest, provoked:
  tpmtls connect localhost:4433 --psk printer:00112233445566778899aabbccddeeff
  tpmtls connect '[::1]:4433' --ca ca.pem --cert client.pem --key client.key
  tpmtls connect localhost:4433 --insecure --key-shares none

the key exchange and the key schedule in a TPM:
  tpmtls connect localhost:4433 --ca ca.pem --backend tpm --tcti device:/dev/tpmrm0 \\
      --protect ecdhe,hkdf

With --json, one object on stderr at the end says what was negotiated, how many
octets and tickets came, and the error if there was one. stdout has the peer's
data and nothing else.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from tpmtls.cli import options
from tpmtls.cli.exits import NOTHING_THERE, PROTOCOL, SUCCESS, CommandError, explain, say

if TYPE_CHECKING:
    from tpmtls.backends.base import Backend
    from tpmtls.config import ClientConfig
    from tpmtls.sockets import TlsStream

SUMMARY: Final = "connect to a TLS 1.3 server"
CHUNK: Final = 2**16


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `tpmtls connect`."""
    parser.add_argument(
        "address",
        metavar="HOST:PORT",
        type=options.host_and_port,
        help="the server; an IPv6 address in brackets, [::1]:4433",
    )
    trust = parser.add_argument_group("trust").add_mutually_exclusive_group()
    trust.add_argument(
        "--ca", metavar="FILE", help="trust these certificates, PEM, not the system's"
    )
    trust.add_argument("--insecure", action="store_true", help="accept any certificate")
    parser.add_argument(
        "--server-name", metavar="NAME", help="ask for this name, and expect it, instead of HOST"
    )
    parser.add_argument("--session", metavar="FILE", help="resume from here, and keep tickets here")
    parser.add_argument(
        "--early-data",
        metavar="FILE",
        help="send this before stdin: as 0-RTT data, which can be replayed, if a ticket or --psk"
        " permits all of it, or else in the ordinary way",
    )
    options.add_credentials(parser, "; for servers that ask for one")
    group = options.add_protocol(parser)
    group.add_argument(
        "--key-shares",
        metavar="A,B",
        type=options.key_shares,
        help="groups to send key shares for, or none; the first by default",
    )
    options.add_backend(parser)
    options.add_general(
        parser,
        "for the TCP connection, for the handshake, and for the peer's end after ours"
        " (%(default)s)",
    )


def run(arguments: Namespace) -> int:
    """Connect, and carry octets both ways; returns the exit status."""
    from tpmtls.cli import report, settings
    from tpmtls.violations import TlsError

    early_data = b""
    if arguments.early_data is not None:
        early_data = settings.read_file(arguments.early_data, "--early-data")
    config = settings.client_config(arguments, early_data)
    said: dict[str, Any] = {}
    failure: str | None = None
    with closing(settings.backend(arguments, config)) as backend:
        sock = _dial(arguments)
        said["peer"] = report.place(sock.getpeername())
        try:
            _converse(sock, arguments, config, backend, early_data, said)
        except (TlsError, OSError) as error:
            failure = explain(error)
            if arguments.cert and said.get("authenticated") is False:
                failure += "; no certificate of ours was sent, as none suits the server's request"
        finally:
            if config.session_cache is not None:
                settings.save_sessions(config.session_cache, arguments.session)
    if arguments.json:
        report.say_json(**said, error=failure)
    elif failure is not None:
        say(f"tpmtls: {said['peer']}: {failure}")
    return SUCCESS if failure is None else PROTOCOL


def _dial(arguments: Namespace) -> socket.socket:
    host, port = arguments.address
    try:
        sock = socket.create_connection((host, port), arguments.timeout)
    except OSError as error:
        where = f"{host}:{port}"
        raise CommandError(f"cannot connect to {where}: {explain(error)}", NOTHING_THERE) from None
    sock.settimeout(None)
    return sock


def _converse(
    sock: socket.socket,
    arguments: Namespace,
    config: ClientConfig,
    backend: Backend,
    early_data: bytes,
    said: dict[str, Any],
) -> None:
    from tpmtls.cli import report
    from tpmtls.sockets import wrap_client

    host = arguments.address[0]
    with wrap_client(sock, config, host=host, backend=backend, early_data=early_data) as stream:
        described = report.describe(stream) | {"authenticated": stream.negotiated.authenticated}
        said |= described
        if arguments.verbose and not arguments.json:
            say(f"{said['peer']} {report.one_line(described)}")
        relay = _Relay(stream, arguments.timeout)
        try:
            relay.run(b"" if stream.early_data_accepted else early_data)
        finally:
            said |= {
                "sent": relay.sent,
                "received": relay.received,
                "tickets": stream.tickets_received,
            }


class _Relay:
    """Carries octets between a stream and this process's stdin and stdout."""

    def __init__(self, stream: TlsStream, patience: float) -> None:
        """`patience`: seconds for the peer to end after us."""
        self.sent = 0
        self.received = 0
        self._stream = stream
        self._patience = patience
        self._last = time.monotonic()
        self._done = threading.Event()
        self._gave_up = False

    def run(self, first: bytes) -> None:
        """Until the peer's end; `first` is sent before stdin."""
        threading.Thread(target=self._send, args=(first,), daemon=True).start()
        try:
            while data := self._stream.recv(CHUNK):
                self._last = time.monotonic()
                self.received += len(data)
                _write(data)
        except BrokenPipeError:
            return  # nobody wants to read any more of it
        except Exception:
            if self._gave_up:
                raise TimeoutError(
                    f"the peer did not end its side within {self._patience:g} s of ours"
                ) from None
            raise
        finally:
            self._done.set()

    def _send(self, first: bytes) -> None:
        from tpmtls.violations import TlsError

        try:
            chunk = first or _read()
            while chunk:
                self._stream.sendall(chunk)
                self.sent += len(chunk)
                chunk = _read()
            self._stream.shutdown(socket.SHUT_WR)
        except (TlsError, OSError):
            return  # the reading side meets the same, and says it
        self._last = time.monotonic()
        while not self._done.wait(left := self._last + self._patience - time.monotonic()):
            if left <= 0:
                self._gave_up = True
                self._stream.interrupt()
                return


def _read() -> bytes:
    """What is at hand on stdin; b"" at its end. Not through Python's buffers: they hold locks."""
    if sys.stdin is None:
        return b""
    return os.read(sys.stdin.fileno(), CHUNK)


def _write(data: bytes) -> None:
    """Put all of it on stdout, if that is open."""
    view = memoryview(data)
    while view and sys.stdout is not None:
        view = view[os.write(sys.stdout.fileno(), view) :]
