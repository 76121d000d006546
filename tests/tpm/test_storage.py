"""Secrets at rest: of use to the TPM that wrapped them, and to no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tpm.fakes import Restricted, command_code
from tests.tpm.support import LEVEL_SETS, Ends, Pair, backend_over, each_level, sessions
from tests.tpm.swtpm import Swtpm
from tpmtls import open_backend
from tpmtls.algorithms import SHA256
from tpmtls.backends.base import Backend
from tpmtls.backends.tpm.backend import TpmBackend
from tpmtls.backends.tpm.constants import CommandCode, ResponseCode
from tpmtls.backends.tpm.libtpms import LibtpmsTransport
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.tickets import SessionCache
from tpmtls.violations import (
    ConfigurationError,
    StoredSecretError,
    TpmBusy,
    TpmError,
    TpmUnavailable,
)

PSK = bytes(range(32))


def store(backend: Backend) -> bytes:
    secret = backend.import_psk(PSK, SHA256)
    blob = backend.wrap(secret)
    backend.destroy(secret)
    return blob


def use(backend: Backend, blob: bytes) -> bytes:
    stored = backend.unwrap(blob, "PSK", SHA256)
    early = backend.extract(SHA256, None, stored, "early_secret")
    tag = backend.mac(early, b"data")
    backend.destroy(stored, early)
    return tag


@each_level
@pytest.mark.usefixtures("need_libtpms")
def test_a_tpm_knows_its_own_after_a_restart(tmp_path: Path, levels: frozenset[str]) -> None:
    tcti = f"libtpms:{tmp_path}"
    first = open_backend("tpm", tcti=tcti, protect=levels)
    blob = store(first)
    tag = use(first, blob)
    first.close()
    again = open_backend("tpm", tcti=tcti, protect=levels)
    assert use(again, blob) == tag
    again.close()
    for kept in tmp_path.iterdir():
        assert PSK not in kept.read_bytes()


@pytest.fixture
def strangers(libtpms: Tpm, swtpm: Swtpm, levels: frozenset[str]) -> Iterator[list[TpmBackend]]:
    """Backends over two TPMs."""
    other = open_backend("tpm", tcti=swtpm.tcti, protect=levels)
    assert isinstance(other, TpmBackend)
    yield [TpmBackend(libtpms, levels), other]
    other.close()


@each_level
def test_another_tpm_can_do_nothing_with_it(strangers: list[TpmBackend]) -> None:
    for mine, theirs in (strangers, strangers[::-1]):
        blob = store(mine)
        before = theirs.tpm.live
        with pytest.raises(StoredSecretError, match="is not of this TPM: TPM2_Load"):
            theirs.unwrap(blob, "PSK", SHA256)
        assert theirs.tpm.live <= before + 1  # the parent
        assert use(mine, blob)


@each_level
@pytest.mark.req("4.7.1-7")
def test_a_copy_of_the_disk_resumes_nothing(strangers: list[TpmBackend], tmp_path: Path) -> None:
    """With another TPM, whoever has the session file is a stranger like any other."""
    mine, theirs = strangers
    file = tmp_path / "sessions.json"
    client, server = sessions()
    assert client.session_cache is not None
    Pair(Ends(mine, None), client, server).complete().end()
    client.session_cache.save(file)
    for backend, psk in (theirs, None), (mine, "resumption"):
        copy = client.replace(session_cache=SessionCache.load(file))
        pair = Pair(Ends(backend, None), copy, server).complete()
        assert pair.info.psk == psk
        pair.talk()
        pair.end()
    copy = client.replace(session_cache=SessionCache.load(file))
    with pytest.raises(ConfigurationError, match="early data needs a ticket"):
        Pair(Ends(theirs, None), copy, server, early_data=b"early")


@each_level
def test_ticket_keys_open_no_session_without_the_tpm(strangers: list[TpmBackend]) -> None:
    """A server's ticket holds what its TPM wrapped: who opens it has no PSK yet."""
    mine, theirs = strangers
    client, server = sessions()
    Pair(Ends(None, mine), client, server).complete().end()
    for backend, psk in (theirs, None), (mine, "resumption"):
        pair = Pair(Ends(None, backend), client, server.replace(tickets=0)).complete()
        assert pair.info.psk == psk
        pair.end()


@each_level
def test_nor_without_a_tpm(libtpms: Tpm, levels: frozenset[str]) -> None:
    """A session file or a ticket of a TPM is as good as none to the software backend."""
    backend = TpmBackend(libtpms, levels)
    for before in Ends(backend, None), Ends(None, backend):
        client, server = sessions()
        Pair(before, client, server).complete().end()
        pair = Pair(Ends(None, None), client, server).complete()
        assert pair.info.psk is None
        pair.end()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (ResponseCode.OBJECT_MEMORY, TpmBusy),
        (ResponseCode.RETRY, TpmBusy),
        (ResponseCode.FAILURE, TpmUnavailable),
    ],
)
@pytest.mark.usefixtures("need_libtpms")
def test_a_tpm_that_fails_is_no_other_tpm(code: int, expected: type[TpmError]) -> None:
    def verdict(frame: bytes) -> int | None:
        return code if command_code(frame) == CommandCode.Load else None

    backend = backend_over(Restricted(LibtpmsTransport(), verdict), LEVEL_SETS[-1])
    with pytest.raises(expected):
        backend.unwrap(store(backend), "PSK", SHA256)
    backend.close()
