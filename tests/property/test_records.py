"""What is written is read back however it travels; what was not written so is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tpmtls.algorithms import SUITES
from tpmtls.backends.software import SoftwareBackend, SoftwareSecret
from tpmtls.codepoints import CipherSuite, ContentType
from tpmtls.record import (
    CHANGE_CIPHER_SPEC_RECORD,
    MAX_CIPHERTEXT,
    MAX_PLAINTEXT,
    RECORD_HEADER_SIZE,
    Epoch,
    MessageAssembler,
    Protection,
    Record,
    RecordReader,
    RecordWriter,
)
from tpmtls.violations import PeerViolation

T = ContentType
Content = tuple[ContentType, bytes]
PROOF = MessageAssembler().aligned()

suites = st.sampled_from(CipherSuite)
lengths = st.integers(0, 50) | st.sampled_from(
    [MAX_PLAINTEXT - 1, MAX_PLAINTEXT, MAX_PLAINTEXT + 1, 2 * MAX_PLAINTEXT + 1]
)
octets = st.builds(lambda length, seed: (seed * length)[:length], lengths, st.binary(min_size=1))
some_octets = octets.filter(len)
protected_contents = st.tuples(st.just(T.application_data), octets) | st.tuples(
    st.sampled_from([T.handshake, T.alert]), some_octets
)
plain_contents = st.tuples(st.sampled_from([T.handshake, T.alert]), some_octets)


def protection(suite: CipherSuite, epoch: Epoch = Epoch.APPLICATION) -> Protection:
    """Keys that depend on both."""
    row = SUITES[suite]
    key, iv = (
        SoftwareSecret(name, bytes((epoch,)) * length, None)
        for name, length in (("write_key", row.key_length), ("write_iv", row.iv_length))
    )
    return Protection(epoch, row, SoftwareBackend().aead(row, key, iv))


def a_reader(suite: CipherSuite) -> RecordReader:
    reader = RecordReader()
    reader.rekey(protection(suite), PROOF)
    return reader


def a_writer(suite: CipherSuite, padding: int = 0) -> RecordWriter:
    writer = RecordWriter(padding)
    writer.rekey(protection(suite))
    return writer


def read(reader: RecordReader, pieces: list[bytes]) -> list[Record]:
    """Every record of the pieces, which come one after another."""
    found = []
    for piece in pieces:
        reader.feed(piece)
        found += list(iter(reader.next_record, None))
        assert waiting(reader) < RECORD_HEADER_SIZE + MAX_CIPHERTEXT, "less than a record waits"
    return found


def waiting(reader: RecordReader) -> int:
    """Octets that the reader holds and has not used."""
    return len(reader._buffer) - reader._position


def cut(whole: bytes, points: list[int]) -> list[bytes]:
    """`whole` in pieces, some of them perhaps empty."""
    edges = [0, *sorted(point % (len(whole) + 1) for point in points), len(whole)]
    return [whole[start:stop] for start, stop in pairwise(edges)]


def expected(content: Content, size: int, epoch: Epoch) -> list[Record]:
    """The records that a content becomes."""
    kind, whole = content
    starts = range(0, len(whole), size) if whole else [0]
    return [Record(kind, whole[start : start + size], epoch) for start in starts]


# -- there and back --------------------------------------------------------------------------------


@settings(max_examples=150)
@given(
    suites,
    st.lists(plain_contents, max_size=4),
    st.lists(st.lists(protected_contents, max_size=4), max_size=3),
    st.sampled_from([0, 0, 16, 1000, MAX_PLAINTEXT]),
    st.sampled_from([64, 1000, MAX_PLAINTEXT + 1, 2**16 - 1]),
    st.booleans(),
    st.lists(st.integers(0, 2**20), max_size=6),
)
def test_contents_survive_their_journey(
    suite: CipherSuite,
    first: list[Content],
    flights: list[list[Content]],
    padding: int,
    limit: int,
    compatible: bool,
    points: list[int],
) -> None:
    """Through changes of keys, padding, a smaller record size and any cuts by the transport."""
    writer, reader = RecordWriter(padding), RecordReader()
    writer.plaintext_limit = limit
    reader.accepts_change_cipher_spec = compatible
    for flight, epoch in zip([first, *flights], Epoch, strict=False):
        if epoch is not Epoch.INITIAL:
            writer.rekey(protection(suite, epoch))
            reader.rekey(protection(suite, epoch), PROOF)
        size = min(MAX_PLAINTEXT, limit - 1) if epoch else MAX_PLAINTEXT
        sent = [writer.write(*content) for content in flight]
        whole = (CHANGE_CIPHER_SPEC_RECORD if compatible else b"").join(sent)
        assert read(reader, cut(whole, points)) == [
            record for content in flight for record in expected(content, size, epoch)
        ]
        assert waiting(reader) == 0


@settings(max_examples=30)
@given(suites, st.lists(protected_contents, min_size=2, max_size=5), st.data())
def test_records_out_of_order_twice_or_missing(
    suite: CipherSuite, contents: list[Content], data: st.DataObject
) -> None:
    writer = a_writer(suite)
    sent = [writer.write(kind, whole[:100]) for kind, whole in contents]
    other = data.draw(st.lists(st.sampled_from(sent), max_size=6))
    in_order = 0
    while other[in_order : in_order + 1] == sent[in_order : in_order + 1] != []:
        in_order += 1
    reader = a_reader(suite)
    assert len(read(reader, other[:in_order])) == in_order
    if other[in_order:]:
        with pytest.raises(PeerViolation):
            read(reader, other[in_order:])


# -- bent ------------------------------------------------------------------------------------------


@pytest.mark.req("5.2-3")
@pytest.mark.parametrize("suite", CipherSuite, ids=str)
@settings(max_examples=4)
@given(content=st.tuples(st.just(T.application_data), st.binary(max_size=30)))
def test_every_flipped_bit_is_noticed(suite: CipherSuite, content: Content) -> None:
    """In header, ciphertext and tag; enough follows for any length that the header may claim."""
    record = bytearray(a_writer(suite, padding=8).write(*content))
    for bit in range(8 * len(record)):
        record[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PeerViolation):
            read(a_reader(suite), [bytes(record) + bytes(2**16)])
        record[bit // 8] ^= 1 << bit % 8
    assert read(a_reader(suite), [bytes(record)]) == expected(content, 100, Epoch.APPLICATION)


@given(suites, octets, st.data())
def test_other_changes_are_noticed(suite: CipherSuite, whole: bytes, data: st.DataObject) -> None:
    record = a_writer(suite).write(T.application_data, whole[:1000])
    start = data.draw(st.integers(0, len(record)))
    stop = data.draw(st.integers(start, len(record)))
    bent = record[:start] + data.draw(st.binary(max_size=40)) + record[stop:]
    if not bent.startswith(record):
        with pytest.raises(PeerViolation):
            read(a_reader(suite), [bent + bytes(2**16)])


# -- anything --------------------------------------------------------------------------------------

headers = st.builds(
    lambda kind, version, length: bytes((kind,)) + version + length.to_bytes(2, "big"),
    st.sampled_from([20, 21, 22, 23]) | st.integers(0, 255),
    st.just(b"\3\3") | st.binary(min_size=2, max_size=2),
    st.integers(0, 40) | st.integers(0, 2**16 - 1),
)
likely = st.one_of(
    st.builds(lambda header, body: header + body, headers, st.binary(max_size=60)),
    st.builds(
        lambda kind, body: bytes((kind, 3, 3)) + len(body).to_bytes(2, "big") + body,
        st.sampled_from([20, 21, 22, 23]),
        st.binary(max_size=60),
    ),
    st.just(CHANGE_CIPHER_SPEC_RECORD),
    st.just(bytes(5000)),
    st.binary(max_size=100),
)


@settings(max_examples=300)
@given(
    st.lists(likely, max_size=8).map(b"".join),
    st.sampled_from([None, Epoch.EARLY, Epoch.HANDSHAKE, Epoch.APPLICATION]),
    st.booleans(),
    st.sampled_from([0, 100, 10**6]),
    st.lists(st.integers(0, 2**20), max_size=8),
)
@example(b"\x16\3\1\x40\0" + bytes(2**16), None, False, 0, [])
@example(b"\x17\3\3\x41\0" + bytes(2**16), Epoch.EARLY, True, 10**6, [1, 2, 3, 4, 5, 6])
def test_arbitrary_octets(
    whole: bytes, epoch: Epoch | None, compatible: bool, skip: int, points: list[int]
) -> None:
    """They are records, or a violation, or wait for more; and less than one record waits."""
    reader = RecordReader()
    if epoch is not None:
        reader.rekey(protection(CipherSuite.TLS_AES_128_GCM_SHA256, epoch), PROOF)
    reader.accepts_change_cipher_spec = compatible
    reader.early_data_to_skip = skip
    try:
        records = read(reader, cut(whole, points))
    except PeerViolation:
        return
    for record in records:
        assert record.epoch is Epoch.INITIAL, "nothing passes for protected"
        assert record.content_type in (T.handshake, T.alert)
        assert record.fragment in whole
    assert waiting(reader) < RECORD_HEADER_SIZE + MAX_CIPHERTEXT


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=40), max_size=10))
def test_arbitrary_handshake_octets(fragments: list[bytes]) -> None:
    """Messages are the octets as they came, cut where the headers say."""
    assembler, whole = MessageAssembler(), b""
    messages = []
    try:
        for fragment in fragments:
            assembler.add(fragment)
            whole += fragment
            messages += list(iter(assembler.next_message, None))
    except PeerViolation:
        assert whole.startswith(b"".join(messages))
        return
    joined = b"".join(messages)
    assert whole.startswith(joined)
    assert assembler.is_empty == (whole == joined)
    for message in messages:
        assert len(message) == 4 + int.from_bytes(message[1:4], "big")
