"""The transcript hash against the recorded ones, with its exception after a HelloRetryRequest."""

from __future__ import annotations

import hashlib

import pytest

from tpmtls.algorithms import SHA256, SHA384, HashAlgorithm
from tpmtls.transcript import Transcript
from vectors.vectorlib.library import TRACES, load_trace

FIRST, SECOND, THIRD = b"\1\0\0\1a", b"\2\0\0\1b", b"\x08\0\0\1c"


def started(*messages: bytes, algorithm: HashAlgorithm = SHA256) -> Transcript:
    transcript = Transcript()
    transcript.select(algorithm)
    for message in messages:
        transcript.add(message)
    return transcript


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


@pytest.mark.parametrize("name", TRACES)
def test_recorded_transcripts(name: str) -> None:
    trace = load_trace(name)
    transcript = Transcript()
    for position, message in enumerate(trace.messages()):
        if message.type == "hello_retry_request":
            transcript.select(SHA256)
            transcript.replace_client_hello()
        transcript.add(message.octets)
        if position:
            transcript.select(SHA256)
            assert transcript.digest() == trace.transcript_hash(message.id), message.id


@pytest.mark.parametrize("algorithm", [SHA256, SHA384], ids=lambda a: a.name)
def test_messages_wait_until_the_hash_is_known(algorithm: HashAlgorithm) -> None:
    transcript = Transcript()
    transcript.add(FIRST)
    transcript.add(SECOND)
    with pytest.raises(RuntimeError, match="not selected"):
        transcript.digest()
    transcript.select(algorithm)
    transcript.add(THIRD)
    assert transcript.digest() == algorithm.digest(FIRST + SECOND + THIRD)


def test_the_hash_is_selected_once() -> None:
    transcript = started(FIRST)
    transcript.select(SHA384)
    assert transcript.digest() == sha256(FIRST)


def test_nothing_hashes_to_the_empty_digest() -> None:
    assert started().digest() == SHA256.empty_digest


def test_a_partial_message_is_hashed_but_not_added() -> None:
    transcript = started(FIRST)
    assert transcript.digest(b"partial") == sha256(FIRST, b"partial")
    assert transcript.digest() == sha256(FIRST)


def test_message_hash_takes_the_place_of_the_first_client_hello() -> None:
    transcript = started(FIRST)
    transcript.replace_client_hello()
    transcript.add(SECOND)
    synthetic = b"\xfe\0\0\x20" + sha256(FIRST)
    assert transcript.digest() == sha256(synthetic, SECOND)


def test_message_hash_is_as_long_as_the_hash() -> None:
    transcript = started(FIRST, algorithm=SHA384)
    transcript.replace_client_hello()
    assert transcript.digest() == SHA384.digest(b"\xfe\0\0\x30" + SHA384.digest(FIRST))


def test_message_hash_needs_the_hash() -> None:
    transcript = Transcript()
    transcript.add(FIRST)
    with pytest.raises(RuntimeError, match="not selected"):
        transcript.replace_client_hello()


def test_a_preview_for_binders_uses_the_psks_hash_until_the_suite_is_known() -> None:
    transcript = Transcript()
    assert transcript.preview(SHA384, FIRST) == SHA384.digest(FIRST)
    transcript.add(FIRST)
    assert transcript.preview(SHA256, b"partial") == sha256(FIRST, b"partial")
    transcript.select(SHA256)
    assert transcript.preview(SHA256, b"partial") == sha256(FIRST, b"partial")
    assert transcript.digest() == sha256(FIRST)


def test_a_binder_covers_message_hash_and_retry() -> None:
    transcript = started(FIRST)
    transcript.replace_client_hello()
    transcript.add(SECOND)
    expected = sha256(b"\xfe\0\0\x20", sha256(FIRST), SECOND, b"partial")
    assert transcript.preview(SHA256, b"partial") == expected


@pytest.mark.parametrize("selected", [False, True])
def test_a_fork_goes_its_own_way(selected: bool) -> None:
    transcript = Transcript()
    transcript.add(FIRST)
    if selected:
        transcript.select(SHA256)
    fork = transcript.fork()
    fork.add(SECOND)
    transcript.add(THIRD)
    for either in (transcript, fork):
        either.select(SHA256)
    assert fork.digest() == sha256(FIRST, SECOND)
    assert transcript.digest() == sha256(FIRST, THIRD)
    fork.replace_client_hello()
    assert fork.digest() != transcript.digest()
