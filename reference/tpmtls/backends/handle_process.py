"""The handle-only model in a process of its own: requests on stdin, responses on stdout.

    python -m tpmtls.backends.handle_process [FILE]

FILE is where the model keeps the key that PSKs are wrapped with; without it, they are good for as
long as the process lives. `frame` says how requests and responses are laid out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, Final

from tpmtls.algorithms import SHA256, SHA384, HashAlgorithm
from tpmtls.backends.handle_model import STORAGE_KEY, HandleModel
from tpmtls.codepoints import CipherSuite, NamedGroup
from tpmtls.violations import BackendError, PeerViolation, StoredSecretError

MAX_FRAME: Final = 1 << 18
"""Octets of a request or response."""
_HASHES: Final[dict[str, HashAlgorithm]] = {row.name: row for row in (SHA256, SHA384)}


class Operation(IntEnum):
    """The commands; `HandleModel` has a method for each."""

    CREATE = 1
    AGREE = 2
    RESPOND = 3
    EXTRACT = 4
    EXPAND_LABEL = 5
    MAC = 6
    LOAD_RECORDS = 7
    SEAL = 8
    OPEN = 9
    READ = 10
    IMPORT_PSK = 11
    WRAP = 12
    UNWRAP = 13
    FLUSH = 14
    COUNT = 15


class Status(IntEnum):
    """How a command ended."""

    DONE = 0
    REFUSED = 1
    PEER_VIOLATION = 2
    NOT_STORED_HERE = 3


# -- as octets -------------------------------------------------------------------------------------

Field = bytes | int | str


def frame(head: int, fields: Sequence[Field]) -> bytes:
    """A request or response: size (4 octets), operation or status (1), fields after sizes (4)."""
    body = [bytes((head,))]
    for each in fields:
        octets = each.to_bytes(8, "big") if isinstance(each, int) else each
        octets = octets.encode() if isinstance(octets, str) else octets
        body += [len(octets).to_bytes(4, "big"), octets]
    octets = b"".join(body)
    return len(octets).to_bytes(4, "big") + octets


def read_frame(stream: BinaryIO) -> tuple[int, list[bytes]] | None:
    """Operation or status, and fields; None where there is no more. Raises BackendError."""
    size = int.from_bytes(stream.read(4), "big")
    if size == 0:
        return None
    body = stream.read(size) if size <= MAX_FRAME else b""
    if len(body) != size:
        raise BackendError("the handle-only model: a frame was cut off, or is too long")
    fields, offset = [], 1
    while offset < size:
        end = offset + 4 + int.from_bytes(body[offset : offset + 4], "big")
        if end > size:
            raise BackendError("the handle-only model: a frame is malformed")
        fields.append(body[offset + 4 : end])
        offset = end
    return body[0], fields


def execute(model: HandleModel, operation: int, fields: list[bytes]) -> bytes:
    """The response to a request."""
    try:
        return frame(Status.DONE, _perform(model, operation, fields))
    except PeerViolation as violation:
        return frame(Status.PEER_VIOLATION, (violation.violation.name, violation.detail))
    except StoredSecretError as error:
        return frame(Status.NOT_STORED_HERE, (str(error),))
    except BackendError as error:
        return frame(Status.REFUSED, (str(error),))
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError):
        return frame(Status.REFUSED, ("the handle-only model: a request is malformed",))


def _perform(model: HandleModel, operation: int, fields: list[bytes]) -> Sequence[Field]:  # noqa: C901 - one arm a command
    number = [int.from_bytes(each[:8], "big") for each in fields]
    match Operation(operation):
        case Operation.CREATE:
            return model.create(NamedGroup(number[0]))
        case Operation.AGREE:
            return (model.agree(number[0], fields[1]),)
        case Operation.RESPOND:
            return model.respond(NamedGroup(number[0]), fields[1])
        case Operation.EXTRACT:
            algorithm = _HASHES[fields[0].decode()]
            return (model.extract(algorithm, number[1], number[2], fields[3].decode()),)
        case Operation.EXPAND_LABEL:
            made = model.expand_label(
                number[0], fields[1], fields[2], number[3], fields[4].decode()
            )
            return (made,)
        case Operation.MAC:
            return (model.mac(number[0], fields[1]),)
        case Operation.LOAD_RECORDS:
            return (model.load_records(CipherSuite(number[0]), number[1], number[2]),)
        case Operation.SEAL:
            return (model.seal(number[0], number[1], fields[2], fields[3]),)
        case Operation.OPEN:
            plaintext = model.open(number[0], number[1], fields[2], fields[3])
            return () if plaintext is None else (plaintext,)
        case Operation.READ:
            return (model.read(number[0]),)
        case Operation.IMPORT_PSK:
            return (model.import_psk(fields[1], _HASHES[fields[0].decode()]),)
        case Operation.WRAP:
            return (model.wrap(number[0]),)
        case Operation.UNWRAP:
            return (model.unwrap(fields[1], _HASHES[fields[0].decode()]),)
        case Operation.FLUSH:
            model.flush(*number)
            return ()
        case Operation.COUNT:
            return (model.count(),)


# -- as a process ----------------------------------------------------------------------------------


def storage_key(path: str) -> bytes:
    """The key that PSKs are wrapped with: that of the file, which is made if there is none."""
    file = Path(path)
    with suppress(FileExistsError):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as made:
            made.write(os.urandom(STORAGE_KEY))
    key = file.read_bytes()
    if len(key) != STORAGE_KEY:
        raise ValueError(f"{path} is not the model's: it has not {STORAGE_KEY} octets")
    return key


def main() -> int:
    """Serve requests until there are none."""
    try:
        model = HandleModel(storage_key=storage_key(sys.argv[1]) if sys.argv[1:] else None)
    except (OSError, ValueError) as error:
        sys.stdout.buffer.write(frame(Status.REFUSED, (f"the handle-only model: {error}",)))
        return 1
    sys.stdout.buffer.write(frame(Status.DONE, ()))
    sys.stdout.buffer.flush()
    with suppress(BackendError, BrokenPipeError):
        while (request := read_frame(sys.stdin.buffer)) is not None:
            sys.stdout.buffer.write(execute(model, *request))
            sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
