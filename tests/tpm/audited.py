"""An audit's scenario in a process of its own, whose memory is then the client's alone.

    python -m tests.tpm.audited all swtpm:host=…,port=…

The server is here, too, but its secrets are with whoever started this, as with a handle-only model.
To stdout go `R` and a request to that model, `M` and the name of a moment that begins, each of
which waits for its answer on stdin; and at the end `E` and what was observed.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence

from tpmtls.audit.profiles import BY_KEY
from tpmtls.audit.scenario import observe
from tpmtls.backends.handle_only import HandleOnlyBackend
from tpmtls.backends.handle_process import Field, Operation, frame, read_frame


class PipeLink:
    """The model behind stdin and stdout."""

    def request(self, operation: Operation, fields: Sequence[Field]) -> tuple[int, list[bytes]]:
        _write(b"R" + frame(operation, fields))
        response = read_frame(sys.stdin.buffer)
        assert response is not None
        return response

    def close(self) -> None:
        """There is nothing to let go of."""


def _write(octets: bytes) -> None:
    sys.stdout.buffer.write(octets)
    sys.stdout.buffer.flush()


def _moment(name: str) -> None:
    _write(f"M{name}\n".encode())
    assert sys.stdin.buffer.readline() == b"\n"


def main() -> None:
    key, tcti = sys.argv[1:]
    server = HandleOnlyBackend(PipeLink())
    seen = observe(BY_KEY[key], tcti=tcti, server=server, watch=_moment)
    _write(b"E" + pickle.dumps(seen))


if __name__ == "__main__":
    main()
