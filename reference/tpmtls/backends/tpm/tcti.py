"""How octets reach a TPM: transports, and the TCTI strings that name them.

Strings are tpm2-tss's, `device:/dev/tpmrm0` or `swtpm:host=localhost,port=2321`, and `libtpms:`
(ephemeral) or `libtpms:FOLDER`, a TPM in this process. swtpm is spoken to without tpm2-tss, which
would connect for every command.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from tpmtls.backends.tpm.frames import HEADER_SIZE, malformed
from tpmtls.violations import ConfigurationError, TpmError, TpmUnavailable

DEFAULT: Final = "libtpms:"
ENVIRONMENT: Final = "TPM2TOOLS_TCTI"
TIMEOUT: Final = 120.0
"""Seconds for one command: RSA keys take a chip that long."""
_FIRST_ANSWER: Final = 10.0
_TENURE: Final = 0.25
_MAXIMUM: Final = 4096
_SWTPM_PORT: Final = 2321


class Transport(Protocol):
    """Carries one command at a time; its caller sees to that."""

    name: str
    """The TCTI string."""

    def transmit(self, command: bytes) -> bytes:
        """The response to a command; raises TpmUnavailable, after which nothing more works."""

    def close(self) -> None:
        """Let go of the TPM."""

    def abandon(self) -> None:
        """In a forked child: let go of what it inherited, without a word to the TPM."""


def resolve(tcti: str | None) -> str:
    """The TCTI string meant: the one given, the one in TPM2TOOLS_TCTI, or libtpms.

    Two spellings of one TPM come out the same where we speak to it ourselves.
    """
    name = tcti or os.environ.get(ENVIRONMENT) or DEFAULT
    kind, _, where = name.partition(":")
    if kind == "libtpms":
        return f"libtpms:{Path(where).absolute() if where else ''}"
    if kind == "swtpm":
        host, port, path = _swtpm_address(where)
        return f"swtpm:path={path}" if path else f"swtpm:host={host},port={port}"
    return name


def open_transport(tcti: str, *, timeout: float = TIMEOUT) -> Transport:
    """The transport that a string which `resolve` gave names."""
    kind, _, where = tcti.partition(":")
    if kind == "libtpms":
        from tpmtls.backends.tpm.libtpms import LibtpmsTransport

        return LibtpmsTransport(Path(where) if where else None)
    if kind == "swtpm":
        return SwtpmTransport(where, timeout=timeout)
    return TctiTransport(kind, where, timeout=timeout)


# -- swtpm -----------------------------------------------------------------------------------------


def _swtpm_address(where: str) -> tuple[str, int, str]:
    """Host, port and path of the part after `swtpm:`."""
    fields = {"host": "localhost", "port": str(_SWTPM_PORT), "path": ""}
    for field in filter(None, where.split(",")):
        key, equals, value = field.partition("=")
        if key not in fields or not equals:
            raise ConfigurationError(f"swtpm:{where}: {field!r} is not host=…, port=… or path=…")
        fields[key] = value
    if not fields["port"].isdecimal():
        raise ConfigurationError(f"swtpm:{where}: the port {fields['port']!r} is not a number")
    return fields["host"], int(fields["port"]), fields["path"]


class SwtpmTransport:
    """The data port of a swtpm.

    swtpm serves one connection and lets the others wait, so we keep ours only for a moment: long
    enough for the commands of a handshake, short enough for other programs to have their turn.
    """

    def __init__(self, where: str, *, timeout: float = TIMEOUT) -> None:
        self._host, self._port, self._path = _swtpm_address(where)
        self.name = f"swtpm:{where}"
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._tenure: threading.Timer | None = None
        self.leaving: Callable[[], object] = lambda: None
        """Called before others have their turn: it leaves them the TPM's slots."""
        self._patience = min(timeout, _FIRST_ANSWER)

    def transmit(self, command: bytes) -> bytes:
        with self._lock:
            try:
                connection = self._socket or self._connect()
                connection.sendall(command)
                response = self._receive(connection)
            except (BlockingIOError, TimeoutError):
                self._drop()
                raise TpmUnavailable(
                    f"{self.name} did not answer in time: is it stopped, or is another program "
                    "holding its only connection?"
                ) from None
            except OSError as error:
                self._drop()
                raise TpmUnavailable(
                    f"{self.name}: {error.strerror or error}: is swtpm running there?"
                ) from None
            except BaseException:  # an answer that nobody waits for would be read as the next one
                self._drop()
                raise
            if self._patience != self._timeout:
                self._patience = self._timeout
                self._limit(connection)
            return response

    def _connect(self) -> socket.socket:
        if self._path:
            self._socket = connection = socket.socket(socket.AF_UNIX)
            self._limit(connection)
            connection.connect(self._path)
        else:
            connection = socket.create_connection((self._host, self._port), self._patience)
            self._socket = connection
            connection.setblocking(True)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._limit(connection)
        self._tenure = threading.Timer(_TENURE, self._leave)
        self._tenure.daemon = True
        self._tenure.start()
        return connection

    def _limit(self, connection: socket.socket) -> None:
        """Let the kernel keep the time: settimeout() would poll before every recv and send."""
        limit = struct.pack("ll", int(self._patience), int(self._patience % 1 * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    @staticmethod
    def _receive(connection: socket.socket) -> bytes:
        response = connection.recv(_MAXIMUM)
        while len(response) < HEADER_SIZE or len(response) < int.from_bytes(response[2:6], "big"):
            more = connection.recv(_MAXIMUM)
            if not more:
                raise ConnectionResetError("the connection ended without an answer")
            response += more
        return response

    def _leave(self) -> None:
        with suppress(TpmError):
            self.leaving()
        self._release()

    def _release(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._tenure is not None:
            self._tenure.cancel()
            self._tenure = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        self._release()

    def abandon(self) -> None:
        self._lock = threading.Lock()
        self._tenure = None
        self._drop()


# -- any TCTI of tpm2-tss --------------------------------------------------------------------------


def import_pytss() -> Any:
    """tpm2-pytss, which only these transports and ESAPI need."""
    try:
        import tpm2_pytss
    except ImportError as error:
        raise TpmUnavailable(
            f"tpm2-pytss is needed here: pip install 'tpmtls[tpm]' ({error.msg})"
        ) from None
    return tpm2_pytss


class TctiTransport:
    """A TCTI that tpm2-tss loads: device, tabrmd, mssim, cmd, …"""

    def __init__(self, kind: str, where: str, *, timeout: float = TIMEOUT) -> None:
        self.name = f"{kind}:{where}" if where else kind
        self._milliseconds = int(timeout * 1000)
        pytss = import_pytss()
        self._failure = pytss.TSS2_Exception
        try:
            self._tcti = pytss.TCTILdr(kind, where or None)
        except self._failure as error:
            raise TpmUnavailable(f"{self.name}: {_reason(kind, where, error)}") from None

    def transmit(self, command: bytes) -> bytes:
        try:
            self._tcti.transmit(command)
            response: bytes = self._tcti.receive(_MAXIMUM, self._milliseconds)
        except self._failure as error:
            raise TpmUnavailable(f"{self.name}: {error}") from None
        if len(response) < HEADER_SIZE:
            raise malformed()
        return response

    def close(self) -> None:
        with suppress(self._failure):
            self._tcti.close()

    def abandon(self) -> None:
        if self.name.partition(":")[0] == "device":  # which one program may have open at a time
            self.close()


def _reason(kind: str, where: str, error: Exception) -> str:
    """Why a TCTI did not open, as far as one can tell from here."""
    path = Path(where or "/dev/tpmrm0")
    if kind == "device" and not path.exists():
        return "no such device: is there a TPM, and is it enabled?"
    if kind == "device" and not os.access(path, os.R_OK | os.W_OK):
        return "this user may not read and write it: join its group (often `tss`)"
    return f"{error}: is the name right, and is what it names running?"


def as_tcti(transmit: Callable[[bytes], bytes]) -> Any:
    """A TCTI for ESAPI (tpm2_pytss.TCTI.PyTCTI) on top of `transmit`.

    It keeps the last command, and a failure of `transmit`: tpm2-tss makes all failures one.
    """

    class Adapter(import_pytss().PyTCTI):  # type: ignore[misc]
        command = response = b""
        failure: TpmError | None = None

        def do_transmit(self, command: bytes) -> None:
            self.command = command
            try:
                self.response = transmit(command)
            except TpmError as failure:
                self.failure = failure
                raise

        def do_receive(self, timeout: int) -> bytes:
            del timeout  # the transport has its own
            return self.response

    return Adapter()
