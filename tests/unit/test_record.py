"""The record protocol: limits, protection, padding, compatibility records, assembly of messages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tpmtls.algorithms import SUITES, SuiteParameters
from tpmtls.backends.base import Aead
from tpmtls.backends.software import SoftwareBackend, SoftwareSecret
from tpmtls.codepoints import AlertDescription, CipherSuite, ContentType, ProtocolVersion
from tpmtls.record import (
    CHANGE_CIPHER_SPEC_RECORD,
    MAX_CIPHERTEXT,
    MAX_HANDSHAKE_MESSAGE,
    MAX_PLAINTEXT,
    MAX_SEQUENCE,
    Aligned,
    Epoch,
    MessageAssembler,
    Protection,
    Record,
    RecordReader,
    RecordWriter,
)
from tpmtls.violations import PeerViolation, Violation
from vectors.vectorlib.library import TRACES, load_trace

T = ContentType
TAG = 16
SUITE = SUITES[CipherSuite.TLS_AES_128_GCM_SHA256]
PROOF = MessageAssembler().aligned()


def aead_of(key: bytes, iv: bytes) -> Aead:
    secrets = (SoftwareSecret("write_key", key, None), SoftwareSecret("write_iv", iv, None))
    return SoftwareBackend().aead(SUITE, *secrets)


def aead(key: int = 0) -> Aead:
    return aead_of(bytes([key]) * 16, bytes(12))


def protection(epoch: Epoch = Epoch.APPLICATION, key: int = 0) -> Protection:
    return Protection(epoch, SUITE, aead(key))


def reader(epoch: Epoch = Epoch.APPLICATION) -> RecordReader:
    """A reader with keys."""
    made = RecordReader()
    made.rekey(protection(epoch), PROOF)
    return made


def writer(epoch: Epoch = Epoch.APPLICATION, padding: int = 0) -> RecordWriter:
    """A writer with the same keys."""
    made = RecordWriter(padding)
    made.rekey(protection(epoch))
    return made


def plain(content_type: int, body: bytes, version: int = 0x0303) -> bytes:
    return bytes((content_type,)) + version.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


def protected(inner: bytes, sequence: int = 0) -> bytes:
    """A record with any TLSInnerPlaintext."""
    header = b"\x17\3\3" + (len(inner) + TAG).to_bytes(2, "big")
    return header + aead().seal(sequence, header, inner)


def opened(record: bytes, sequence: int = 0) -> bytes:
    """The TLSInnerPlaintext of a record."""
    inner = aead().open(sequence, record[:5], record[5:])
    assert inner is not None
    return inner


def all_records(source: RecordReader, octets: bytes = b"") -> list[Record]:
    source.feed(octets)
    return list(iter(source.next_record, None))


def refusal(source: RecordReader, octets: bytes) -> Violation:
    source.feed(octets)
    with pytest.raises(PeerViolation) as caught:
        list(iter(source.next_record, None))
    return caught.value.violation


class Counting(Aead):
    """Protects nothing, and notes what it was asked for."""

    def __init__(self) -> None:
        self.sequences: list[int] = []
        self.closed = False

    def seal(self, sequence: int, additional_data: bytes, plaintext: bytes) -> bytes:
        self.sequences.append(sequence)
        return plaintext + bytes(TAG)

    def open(self, sequence: int, additional_data: bytes, ciphertext: bytes) -> bytes | None:
        self.sequences.append(sequence)
        return ciphertext[:-TAG]

    def close(self) -> None:
        self.closed = True


# -- framing ---------------------------------------------------------------------------------------


def test_records_come_out_whole_however_they_arrive() -> None:
    octets = plain(22, b"one") + plain(21, b"\2\x32") + plain(22, b"three")
    expected = [
        Record(T.handshake, b"one", Epoch.INITIAL),
        Record(T.alert, b"\2\x32", Epoch.INITIAL),
        Record(T.handshake, b"three", Epoch.INITIAL),
    ]
    assert all_records(RecordReader(), octets) == expected
    slow = RecordReader()
    assert [record for n in octets for record in all_records(slow, bytes((n,)))] == expected


def test_nothing_comes_of_nothing() -> None:
    source = RecordReader()
    assert source.next_record() is None
    assert all_records(source, b"\x16\3\1\0") == []
    assert all_records(source, b"\1") == []
    assert all_records(source, b"x") == [Record(T.handshake, b"x", Epoch.INITIAL)]


@pytest.mark.req("5.1-17", "E-1")
@pytest.mark.parametrize("version", [0x0000, 0x0300, 0x0301, 0x0304, 0xFFFF])
def test_the_version_of_an_unprotected_record_means_nothing(version: int) -> None:
    assert all_records(RecordReader(), plain(22, b"x", version))[0].fragment == b"x"


@pytest.mark.req("5.1-15", "5.1-20", "5.1-21")
def test_the_version_that_is_written() -> None:
    sink = RecordWriter()
    assert sink.write(T.handshake, b"x").hex() == "160301000178"
    sink.unprotected_version = ProtocolVersion.TLS_1_2
    assert sink.write(T.handshake, b"x").hex() == "160303000178"
    sink.unprotected_version = ProtocolVersion.TLS_1_0
    sink.rekey(protection())
    assert sink.write(T.handshake, b"x")[:5].hex() == "1703030012"


@pytest.mark.parametrize("name", TRACES)
def test_recorded_records(name: str) -> None:
    """Both ways: the recorded octets are read, and written again."""
    trace = load_trace(name)
    for role in ("client", "server"):
        source, sink = RecordReader(), RecordWriter()
        source.accepts_change_cipher_spec = True
        for record in trace.records(role):
            if record.content_type == "change_cipher_spec":
                assert record.octets == CHANGE_CIPHER_SPEC_RECORD
                assert all_records(source, record.octets) == []
                continue
            epoch = Epoch[record.epoch.upper()]
            if epoch is not source.epoch:
                keys = trace.traffic_keys(role, record.epoch)
                source.rekey(Protection(epoch, SUITE, aead_of(keys.key, keys.iv)), PROOF)
                sink.rekey(Protection(epoch, SUITE, aead_of(keys.key, keys.iv)))
            kind = ContentType[record.content_type]
            assert all_records(source, record.octets) == [Record(kind, record.payload, epoch)]
            sink.unprotected_version = ProtocolVersion(int.from_bytes(record.octets[1:3], "big"))
            assert sink.write(kind, record.payload) == record.octets


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.req("5.1-18", "5.1-19")
def test_the_longest_unprotected_record() -> None:
    longest = plain(22, bytes(MAX_PLAINTEXT))
    assert len(all_records(RecordReader(), longest)[0].fragment) == 2**14
    assert refusal(RecordReader(), plain(22, bytes(MAX_PLAINTEXT + 1))) is Violation.RECORD_OVERFLOW


@pytest.mark.req("5.2-1", "5.2-2", "5.2-5")
def test_the_longest_protected_record() -> None:
    header = b"\x17\3\3" + MAX_CIPHERTEXT.to_bytes(2, "big")
    assert refusal(reader(), header + bytes(MAX_CIPHERTEXT)) is Violation.BAD_RECORD_MAC
    header = b"\x17\3\3" + (MAX_CIPHERTEXT + 1).to_bytes(2, "big")
    assert refusal(reader(), header) is Violation.CIPHERTEXT_OVERFLOW
    assert MAX_CIPHERTEXT == 2**14 + 256


def test_a_length_is_judged_before_the_record_is_there() -> None:
    for header, violation in (
        (b"\x16\3\1\x40\1", Violation.RECORD_OVERFLOW),
        (b"\x15\3\1\xff\xff", Violation.RECORD_OVERFLOW),
        (b"\x17\3\3\x41\1", Violation.CIPHERTEXT_OVERFLOW),
        (b"GET /", Violation.UNEXPECTED_RECORD),
    ):
        assert refusal(RecordReader(), header) is violation


@pytest.mark.req("5.4-7")
def test_the_longest_inner_plaintext() -> None:
    longest = bytes(MAX_PLAINTEXT) + b"\x17"
    assert len(all_records(reader(), protected(longest))[0].fragment) == 2**14
    for longer in (b"\0" + longest, longest + b"\0", b"\x17" + bytes(MAX_PLAINTEXT + 1)):
        assert refusal(reader(), protected(longer)) is Violation.RECORD_OVERFLOW


@pytest.mark.req("5.4-7")
def test_our_record_size_limit_counts_type_and_padding() -> None:
    for inner, fits in (
        (bytes(63) + b"\x17", True),
        (bytes(64) + b"\x17", False),
        (b"x\x17" + bytes(62), True),
        (b"x\x17" + bytes(63), False),
    ):
        source = reader()
        source.plaintext_limit = 64
        if fits:
            assert len(all_records(source, protected(inner))) == 1
        else:
            assert refusal(source, protected(inner)) is Violation.RECORD_OVERFLOW


def test_our_record_size_limit_is_not_for_early_data_nor_in_the_clear() -> None:
    """RFC 8449 §4: it is not in force before the handshake keys are."""
    for source, octets in (
        (reader(Epoch.EARLY), protected(bytes(1000) + b"\x17")),
        (RecordReader(), plain(22, bytes(1000))),
    ):
        source.plaintext_limit = 64
        assert len(all_records(source, octets)[0].fragment) == 1000


# -- content types ---------------------------------------------------------------------------------


@pytest.mark.req("5-5")
@pytest.mark.parametrize("kind", sorted(set(range(256)) - {20, 21, 22, 23}))
def test_unknown_content_types(kind: int) -> None:
    assert refusal(RecordReader(), plain(kind, b"x")) is Violation.UNEXPECTED_RECORD
    assert refusal(reader(), plain(kind, b"x")) is Violation.UNEXPECTED_RECORD
    if kind:
        inner = b"x" + bytes((kind,))
        assert refusal(reader(), protected(inner)) is Violation.UNEXPECTED_RECORD


@pytest.mark.req("5-5", "2-2")
def test_application_data_before_there_are_keys() -> None:
    for body in (b"", b"x", bytes(100)):
        refused = refusal(RecordReader(), plain(23, body))
        assert refused is Violation.PREMATURE_APPLICATION_DATA


@pytest.mark.req("5-5")
@pytest.mark.parametrize("epoch", [Epoch.EARLY, Epoch.HANDSHAKE, Epoch.APPLICATION])
def test_handshake_messages_without_protection(epoch: Epoch) -> None:
    assert refusal(reader(epoch), plain(22, b"\x14\0\0\0")) is Violation.UNEXPECTED_RECORD


@pytest.mark.req("A.1-1")
@pytest.mark.parametrize("epoch", [Epoch.EARLY, Epoch.HANDSHAKE])
def test_an_alert_without_protection_may_answer_our_first_flight(epoch: Epoch) -> None:
    alert = plain(21, b"\2\x28")
    source = reader(epoch)
    source.accepts_early_alerts = True
    assert all_records(source, alert) == [Record(T.alert, b"\2\x28", Epoch.INITIAL)]
    assert len(all_records(source, protected(b"x\x16"))) == 1
    assert refusal(source, alert) is Violation.UNEXPECTED_RECORD, "the peer has keys"
    assert refusal(reader(epoch), alert) is Violation.UNEXPECTED_RECORD, "a server always has"


def test_no_alert_without_protection_after_the_handshake() -> None:
    assert refusal(reader(), plain(21, b"\1\0")) is Violation.UNEXPECTED_RECORD


@pytest.mark.req("5.1-9", "5.4-3", "5.4-4")
@pytest.mark.parametrize("kind", [T.handshake, T.alert])
def test_empty_fragments(kind: ContentType) -> None:
    assert refusal(RecordReader(), plain(kind, b"")) is Violation.EMPTY_FRAGMENT
    for padding in (b"", bytes(50)):
        inner = bytes((kind,)) + padding
        assert refusal(reader(), protected(inner)) is Violation.EMPTY_FRAGMENT


@pytest.mark.req("5.1-13")
def test_application_data_may_be_empty() -> None:
    expected = [Record(T.application_data, b"", Epoch.APPLICATION)]
    assert all_records(reader(), protected(b"\x17")) == expected
    assert all_records(reader(), writer().write(T.application_data, b"")) == expected


# -- change_cipher_spec ----------------------------------------------------------------------------


@pytest.mark.req("5-1")
@pytest.mark.parametrize("make", [RecordReader, reader], ids=["without keys", "with keys"])
def test_the_compatibility_record_is_dropped_while_it_may_come(
    make: Callable[[], RecordReader],
) -> None:
    source = make()
    source.accepts_change_cipher_spec = True
    assert all_records(source, CHANGE_CIPHER_SPEC_RECORD * 3) == []
    assert plain(20, b"\1") == CHANGE_CIPHER_SPEC_RECORD


@pytest.mark.req("5-1")
def test_it_does_not_count_as_a_record() -> None:
    source = reader()
    source.accepts_change_cipher_spec = True
    octets = protected(b"0\x17", 0) + CHANGE_CIPHER_SPEC_RECORD + protected(b"1\x17", 1)
    assert [record.fragment for record in all_records(source, octets)] == [b"0", b"1"]


@pytest.mark.req("5-3")
def test_it_is_refused_before_the_client_hello_and_after_finished() -> None:
    for source in (RecordReader(), reader()):
        assert not source.accepts_change_cipher_spec
        assert refusal(source, CHANGE_CIPHER_SPEC_RECORD) is Violation.LATE_CHANGE_CIPHER_SPEC


@pytest.mark.req("5-2")
@pytest.mark.parametrize("body", [b"", b"\0", b"\2", b"\1\1", b"\1\0"])
def test_any_other_value_is_refused(body: bytes) -> None:
    source = RecordReader()
    source.accepts_change_cipher_spec = True
    assert refusal(source, plain(20, body)) is Violation.BAD_CHANGE_CIPHER_SPEC


@pytest.mark.req("5-2")
@pytest.mark.parametrize("accepted", [True, False])
def test_a_protected_one_is_refused(accepted: bool) -> None:
    source = reader()
    source.accepts_change_cipher_spec = accepted
    assert refusal(source, protected(b"\1\x14")) is Violation.BAD_CHANGE_CIPHER_SPEC


# -- protection ------------------------------------------------------------------------------------


@pytest.mark.req("5.2-3")
def test_a_record_under_other_keys() -> None:
    other = RecordWriter()
    other.rekey(protection(key=1))
    assert refusal(reader(), other.write(T.application_data, b"x")) is Violation.BAD_RECORD_MAC


@pytest.mark.req("5.2-3")
@pytest.mark.parametrize("size", [0, 1, TAG - 1, TAG])
def test_a_record_too_short_for_a_tag_and_a_type(size: int) -> None:
    assert refusal(reader(), plain(23, bytes(size))) is Violation.BAD_RECORD_MAC


@pytest.mark.req("E-2", "E-3")
def test_the_header_is_authenticated_as_it_came() -> None:
    record = bytearray(protected(b"x\x17"))
    record[1:3] = b"\3\1"
    assert refusal(reader(), bytes(record)) is Violation.BAD_RECORD_MAC


@pytest.mark.req("5.3-1")
def test_records_are_numbered_from_zero_and_in_order() -> None:
    records = [protected(b"x\x17", number) for number in range(3)]
    assert len(all_records(reader(), b"".join(records))) == 3
    for wrong in ((1,), (0, 0), (0, 2), (0, 1, 0)):
        octets = b"".join(records[number] for number in wrong)
        assert refusal(reader(), octets) is Violation.BAD_RECORD_MAC


@pytest.mark.req("5.3-1", "4.7.3-7")
def test_new_keys_start_from_zero() -> None:
    source, sink = reader(Epoch.HANDSHAKE), writer(Epoch.HANDSHAKE)
    assert len(all_records(source, sink.write(T.handshake, b"a"))) == 1
    source.rekey(protection(key=9), PROOF)
    sink.rekey(protection(key=9))
    (record,) = all_records(source, sink.write(T.application_data, b"b"))
    assert (record.fragment, record.epoch) == (b"b", Epoch.APPLICATION)
    assert source.epoch is sink.epoch is Epoch.APPLICATION


@pytest.mark.req("5.3-1")
def test_no_sequence_number_is_used_twice() -> None:
    for epochs in ((Epoch.HANDSHAKE,), (Epoch.HANDSHAKE, Epoch.APPLICATION)):
        sink, source = RecordWriter(), RecordReader()
        for epoch in epochs:
            sealing, opening = Counting(), Counting()
            sink.rekey(Protection(epoch, SUITE, sealing))
            source.rekey(Protection(epoch, SUITE, opening), PROOF)
            for size in (1, 0, MAX_PLAINTEXT * 2 + 1, 5):
                all_records(source, sink.write(T.application_data, bytes(size)))
            assert sealing.sequences == opening.sequences == list(range(6))


@pytest.mark.req("5.3-2")
def test_sequence_numbers_never_wrap() -> None:
    sink, source = writer(), reader()
    sink._sequence = source._sequence = MAX_SEQUENCE
    assert MAX_SEQUENCE == 2**64 - 1
    assert len(all_records(source, sink.write(T.application_data, b"last"))) == 1
    with pytest.raises(RuntimeError, match="used up"):
        sink.write(T.application_data, b"one too many")
    assert refusal(source, protected(b"x\x17")) is Violation.SEQUENCE_EXHAUSTED


@pytest.mark.req("7.2-1", "6-4")
def test_keys_that_are_replaced_are_given_up() -> None:
    sink, source = RecordWriter(), RecordReader()
    sink.forget()
    source.forget()
    ends = [Counting() for _ in range(4)]
    sink.rekey(Protection(Epoch.HANDSHAKE, SUITE, ends[0]))
    source.rekey(Protection(Epoch.HANDSHAKE, SUITE, ends[1]), PROOF)
    assert not any(end.closed for end in ends)
    sink.rekey(Protection(Epoch.APPLICATION, SUITE, ends[2]))
    source.rekey(Protection(Epoch.APPLICATION, SUITE, ends[3]), PROOF)
    assert [end.closed for end in ends] == [True, True, False, False]
    sink.forget()
    source.forget()
    assert all(end.closed for end in ends)


def test_a_writer_can_go_back_to_no_keys() -> None:
    """A client whose early data was rejected by a HelloRetryRequest sends its next one so."""
    sink = writer(Epoch.EARLY)
    sink.rekey(None)
    assert sink.epoch is Epoch.INITIAL
    assert sink.write(T.handshake, b"x")[0] == T.handshake


# -- padding ---------------------------------------------------------------------------------------


@pytest.mark.req("5.4-1", "5.4-2")
@pytest.mark.parametrize("size", [0, 1, 62, 63, 64, 200])
def test_padding_fills_up_to_a_multiple(size: int) -> None:
    record = writer(padding=64).write(T.application_data, b"x" * size)
    inner = opened(record)
    assert len(inner) % 64 == 0
    assert len(inner) - size - 1 < 64
    assert inner == b"x" * size + b"\x17" + bytes(len(inner) - size - 1)
    assert all_records(reader(), record)[0].fragment == b"x" * size


def test_padding_is_for_every_protected_content_and_no_other() -> None:
    sink = RecordWriter(padding=64)
    assert len(sink.write(T.handshake, b"x")) == 6
    sink.rekey(protection())
    for kind in (T.handshake, T.alert, T.application_data):
        assert len(sink.write(kind, b"xy")) == 5 + 64 + TAG


@pytest.mark.req("5.4-7")
@pytest.mark.parametrize("limit", [64, 1000, MAX_PLAINTEXT + 1, 2**16 - 1])
@pytest.mark.parametrize("padding", [0, 7, 4096, 2**15])
@pytest.mark.parametrize("size", [0, 5, 100, 999, MAX_PLAINTEXT, MAX_PLAINTEXT + 1])
def test_neither_content_nor_padding_goes_past_the_peers_limit(
    limit: int, padding: int, size: int
) -> None:
    sink = writer(padding=padding)
    sink.plaintext_limit = limit
    octets, number, fragments = sink.write(T.application_data, b"x" * size), 0, b""
    while octets:
        length = 5 + int.from_bytes(octets[3:5], "big")
        inner = opened(octets[:length], number)
        assert len(inner) <= min(limit, MAX_PLAINTEXT + 1)
        fragments += inner.rstrip(b"\0")[:-1]
        octets, number = octets[length:], number + 1
    assert fragments == b"x" * size


@pytest.mark.req("5.4-5", "5.4-6")
@pytest.mark.parametrize("size", [0, 1, 100])
def test_nothing_but_padding(size: int) -> None:
    assert refusal(reader(), protected(bytes(size))) is Violation.PADDING_ONLY


def test_zeros_in_the_content_are_not_padding() -> None:
    (record,) = all_records(reader(), protected(b"a\0\0\x17\0\0"))
    assert record.fragment == b"a\0\0"


# -- writing ---------------------------------------------------------------------------------------


@pytest.mark.req("5.1-14", "5.1-18")
def test_long_content_is_cut() -> None:
    content = bytes(range(256)) * 200
    for sink, source in ((RecordWriter(), RecordReader()), (writer(), reader())):
        kind = T.handshake if sink.epoch is Epoch.INITIAL else T.application_data
        fragments = [record.fragment for record in all_records(source, sink.write(kind, content))]
        assert [len(f) for f in fragments] == [MAX_PLAINTEXT] * 3 + [len(content) % MAX_PLAINTEXT]
        assert b"".join(fragments) == content


def test_the_size_of_a_fragment() -> None:
    sink = RecordWriter()
    sink.plaintext_limit = 64
    assert sink.fragment_size == MAX_PLAINTEXT, "in the clear the peer's limit does not hold"
    sink.rekey(protection())
    assert sink.fragment_size == 63
    sink.plaintext_limit = 2**16 - 1
    assert sink.fragment_size == MAX_PLAINTEXT


@pytest.mark.req("5.5-1")
@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda row: row.suite.name)
def test_how_often_a_key_may_still_be_used(suite: SuiteParameters) -> None:
    sink = RecordWriter()
    assert sink.records_left(None) == MAX_SEQUENCE
    assert sink.records_left(1) == MAX_SEQUENCE, "there is no key to wear out"
    sink.rekey(Protection(Epoch.APPLICATION, suite, Counting()))
    most = suite.record_limit
    assert sink.records_left(None) == sink.records_left(2**65) == most
    sink.write(T.application_data, bytes(3 * MAX_PLAINTEXT))
    assert sink.records_left(None) == most - 3
    assert sink.records_left(10) == 7
    sink.rekey(Protection(Epoch.APPLICATION, suite, Counting()))
    assert sink.records_left(None) == most


# -- rejected early data ---------------------------------------------------------------------------


@pytest.mark.req("4.3.10-6", "4.3.10-11")
def test_rejected_early_data_is_passed_over_until_a_record_opens() -> None:
    early = RecordWriter()
    early.rekey(protection(Epoch.EARLY, key=1))
    source = reader(Epoch.HANDSHAKE)
    source.early_data_to_skip = 1000
    octets = early.write(T.application_data, b"early" * 20) * 2 + protected(b"finished\x16")
    assert [record.fragment for record in all_records(source, octets)] == [b"finished"]
    rest = early.write(T.application_data, b"late")
    assert refusal(source, rest) is Violation.BAD_RECORD_MAC


@pytest.mark.req("4.3.10-6")
def test_early_data_before_a_second_client_hello_is_passed_over() -> None:
    source = RecordReader()
    source.early_data_to_skip = 100
    octets = plain(23, bytes(50)) + plain(22, b"hello")
    assert [record.fragment for record in all_records(source, octets)] == [b"hello"]


@pytest.mark.req("4.3.10-6")
@pytest.mark.parametrize("make", [RecordReader, reader], ids=["without keys", "with keys"])
def test_there_is_an_end_to_passing_over(make: Callable[[], RecordReader]) -> None:
    source = make()
    source.early_data_to_skip = 10
    assert all_records(source, plain(23, bytes(17 + 10))) == []
    with pytest.raises(PeerViolation):
        all_records(source, plain(23, bytes(17 + 10)))
    source = make()
    source.early_data_to_skip = 10
    assert all_records(source, plain(23, bytes(17)) * 10) == [], "each counts as one octet at least"
    with pytest.raises(PeerViolation):
        all_records(source, plain(23, bytes(17)))


@pytest.mark.req("4.3.10-13")
def test_accepted_early_data_is_not_passed_over() -> None:
    assert refusal(reader(Epoch.EARLY), plain(23, bytes(50))) is Violation.BAD_RECORD_MAC


def test_new_keys_end_the_passing_over() -> None:
    """After a HelloRetryRequest, nothing under the handshake keys can be early data."""
    source = RecordReader()
    source.early_data_to_skip = 100
    source.rekey(protection(Epoch.HANDSHAKE), PROOF)
    assert refusal(source, plain(23, bytes(50))) is Violation.BAD_RECORD_MAC


# -- messages --------------------------------------------------------------------------------------


def message(size: int) -> bytes:
    return b"\x14" + size.to_bytes(3, "big") + bytes(size)


@pytest.mark.req("5.1-2")
def test_messages_are_joined_and_told_apart() -> None:
    assembler = MessageAssembler()
    octets = message(3) + message(0) + message(7)
    assembler.add(octets)
    assert list(iter(assembler.next_message, None)) == [message(3), message(0), message(7)]
    found = []
    for octet in octets:
        assembler.add(bytes((octet,)))
        found += list(iter(assembler.next_message, None))
    assert found == [message(3), message(0), message(7)]
    assert assembler.is_empty


@pytest.mark.req("5.1-6", "5.1-7")
def test_keys_change_between_messages_only() -> None:
    assembler = MessageAssembler()
    assert isinstance(assembler.aligned(), Aligned)
    assembler.add(message(3) + b"\x14")
    assembler.next_message()
    assert not assembler.is_empty
    with pytest.raises(PeerViolation) as caught:
        assembler.aligned()
    assert caught.value.violation is Violation.NOT_ALIGNED
    assert caught.value.alert is AlertDescription.unexpected_message
    assembler.add(message(0)[1:])
    with pytest.raises(PeerViolation):
        assembler.aligned()
    assembler.next_message()
    assert isinstance(assembler.aligned(), Aligned)


def test_messages_have_a_longest_size() -> None:
    assembler = MessageAssembler()
    assembler.add(message(MAX_HANDSHAKE_MESSAGE - 4))
    assert assembler.next_message() == message(MAX_HANDSHAKE_MESSAGE - 4)
    assembler.add(message(MAX_HANDSHAKE_MESSAGE - 3)[:4])
    with pytest.raises(PeerViolation) as caught:
        assembler.next_message()
    assert caught.value.violation is Violation.MESSAGE_TOO_LONG, "at once, not when it is there"
