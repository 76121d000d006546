"""Transports that misbehave: in front of a real TPM, or with a script and no TPM at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tpmtls.backends.tpm.constants import CommandCode
from tpmtls.backends.tpm.frames import Command
from tpmtls.backends.tpm.tcti import Transport


def response(code: int = 0, body: bytes = b"", tag: int = 0x8001) -> bytes:
    """A response frame."""
    return b"".join(
        (tag.to_bytes(2, "big"), (10 + len(body)).to_bytes(4, "big"), code.to_bytes(4, "big"), body)
    )


def command_code(frame: bytes) -> int:
    return int.from_bytes(frame[6:10], "big")


class Scripted:
    """Answers with the next of `answers`: a response code, a whole response, or an exception."""

    name = "scripted:"

    def __init__(self, answers: Iterable[int | bytes | BaseException]) -> None:
        self.answers = list(answers)
        self.frames: list[bytes] = []
        self.closed = False

    def transmit(self, command: bytes) -> bytes:
        self.frames.append(command)
        answer = self.answers.pop(0) if self.answers else 0
        if isinstance(answer, BaseException):
            raise answer
        return response(answer) if isinstance(answer, int) else answer

    def close(self) -> None:
        self.closed = True

    def abandon(self) -> None:
        """It has nothing to leave."""


class Restricted:
    """A TPM in front of which somebody answers some commands with a response code.

    `verdict` looks at a frame, and says the code, or None to let it pass.
    """

    def __init__(self, inner: Transport, verdict: Callable[[bytes], int | None]) -> None:
        self.name = f"restricted {inner.name}"
        self.inner = inner
        self.verdict = verdict

    def transmit(self, command: bytes) -> bytes:
        code = self.verdict(command)
        return self.inner.transmit(command) if code is None else response(code)

    def close(self) -> None:
        self.inner.close()

    def abandon(self) -> None:
        self.inner.abandon()


def without(*codes: CommandCode) -> Callable[[bytes], int | None]:
    """A verdict for `Restricted`: these commands do not exist."""
    return lambda frame: 0x143 if command_code(frame) in codes else None


class Noted:
    """An authorization that notes what it was asked for, and adds nothing."""

    def __init__(self) -> None:
        self.sealed: list[int] = []

    def seal(self, command: Command[object]) -> tuple[bytes, bytes]:
        self.sealed.append(command.code)
        return bytes.fromhex("40000009 0000 00 0000"), command.parameters

    def open(self, command: Command[object], parameters: bytes, area: bytes) -> bytes:
        return parameters
