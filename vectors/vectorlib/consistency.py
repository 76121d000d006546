"""Checks a trace without the RFC's text: every value is recomputed from others.

The checks go from cheap to dear, so that a caller who wants only the first problem gets it fast.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import kdf, names, wire
from .authentication import ecdh, public_key_of, verify_certificate, verify_signature
from .negotiated import negotiated
from .problems import Problem
from .trace import Record, Step, Trace

_Found = Iterator[tuple[str, str]]
_BROKEN: Final = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    InvalidTag,
    InvalidSignature,
)
CLOSE_NOTIFY: Final = "0100"


@dataclass(frozen=True)
class Context:
    """A trace, and the trace that it resumes."""

    trace: Trace
    resumed: Trace | None

    def known(self) -> dict[str, bytes]:
        """Every secret that another may be derived from, by name."""
        trace = self.trace
        known = trace.secrets() | {"zero": bytes(len(kdf.digest(trace.hash, b"")))}
        known.pop("resumption_psk", None)  # must come from the trace that is resumed
        if self.resumed is not None:
            known["resumption_psk"] = self.resumed.secrets()["new_resumption_psk"]
        return known


def trace_problems(trace: Trace, resumed: Trace | None) -> Iterator[Problem]:
    """What is wrong with a trace; nothing where all holds."""
    context = Context(trace, resumed)
    for check in _CHECKS:
        try:
            for path, what in check(context):
                yield Problem(trace.name, path, what)
        except _BROKEN as error:
            summary = str(error) or type(error).__name__
            yield Problem(
                trace.name,
                check.__name__.strip("_").replace("_", " "),
                f"cannot be computed: {summary}",
            )


def _must(path: str, holds: bool, what: str) -> _Found:
    if not holds:
        yield path, what


def _structure(context: Context) -> _Found:
    trace = context.trace
    identifiers = [step["id"] for step in trace.steps]
    yield from _must("steps", len(set(identifiers)) == len(identifiers), "two steps have one id")
    for position, step in enumerate(trace.steps):
        yield from _must(
            step["id"], step["id"].startswith(step["by"] + "."), "id and role disagree"
        )
        if "same_as" in step:
            twin = step["same_as"]
            known = twin in identifiers[:position] and twin.split(".")[0] == names.PEER[step["by"]]
            same = known and trace.step(twin)["kind"] == step["kind"]
            same = same and twin.split(".")[1] == step["id"].split(".")[1]
            yield from _must(
                f"{step['id']}.same_as", same, "is no earlier step of that name by the other role"
            )
    missing = _expected_secrets(trace) - trace.secrets().keys()
    yield from _must("steps", not missing, f"no {', '.join(sorted(missing))}")
    yield from _must(
        "negotiated", trace.data["negotiated"] == negotiated(trace), "not what the messages say"
    )
    resumes = "psk_resumption" in trace.data["negotiated"]["features"]
    tied = (trace.data["resumes"] is not None) == (context.resumed is not None) == resumes
    yield from _must("resumes", tied, "a PSK is used if and only if another trace is resumed")


def _expected_secrets(trace: Trace) -> set[str]:
    expected = (
        names.EXTRACTIONS.keys()
        | names.DERIVATIONS.keys()
        | {"server_finished_key", "client_finished_key"}
    )
    early = {"client_early_traffic_secret", "early_exporter_secret"}
    return expected if "early_data" in trace.data["negotiated"]["features"] else expected - early


def _messages(context: Context) -> _Found:
    for message in context.trace.messages():
        built = wire.encode_message(message.type, message.fields)
        yield from _must(
            f"{message.id}.octets", built == message.octets, "is not the encoding of the fields"
        )
        if message.type == "hello_retry_request":
            same = message.fields["random"] == names.RETRY_RANDOM
            yield from _must(f"{message.id}.fields.random", same, "is not HelloRetryRequest's")


def _records(context: Context) -> _Found:
    trace = context.trace
    octets = {message.id: message.octets for message in trace.messages()}
    carried: list[str] = []
    sequence: dict[tuple[str, str], int] = {}
    for record in trace.records():
        carried += record.messages
        if record.content_type == "handshake":
            joined = b"".join(octets[identifier] for identifier in record.messages)
            yield from _must(
                f"{record.id}.payload", joined == record.payload, "is not the messages it carries"
            )
        expected = None
        if record.epoch != "initial":
            expected = sequence.get((record.sender, record.epoch), 0)
            sequence[record.sender, record.epoch] = expected + 1
        yield from _must(
            f"{record.id}.sequence", record.sequence == expected, f"should be {expected}"
        )
        yield from _must(
            f"{record.id}.record",
            record.octets[:5] == _header(record),
            "has not the header it must have",
        )
        if record.epoch == "initial":
            yield from _must(
                f"{record.id}.record",
                record.octets[5:] == record.payload,
                "does not hold the payload",
            )
        yield from _fixed_payload(record)
    yield from _must(
        "steps", sorted(carried) == sorted(octets), "a message is not carried by exactly one record"
    )


def _header(record: Record) -> bytes:
    """RFC 9846 §5.1: the first ClientHello may say 0x0301, and does here; all else says 0x0303."""
    first_hello = record.id == "client.record_1"
    outer = "application_data" if record.epoch != "initial" else record.content_type
    version = b"\x03\x01" if first_hello else b"\x03\x03"
    return (
        bytes([names.CONTENT_TYPES[outer]]) + version + (len(record.octets) - 5).to_bytes(2, "big")
    )


def _fixed_payload(record: Record) -> _Found:
    if record.content_type == "change_cipher_spec":
        yield from _must(
            f"{record.id}.payload", record.payload == b"\x01", "is not the one octet 01"
        )
    if record.content_type == "alert":
        yield from _must(
            f"{record.id}.payload", record.payload.hex() == CLOSE_NOTIFY, "is not close_notify"
        )


def _key_schedule(context: Context) -> _Found:
    trace, known = context.trace, context.known()
    binder_key = kdf.expand_label(
        trace.hash, known["early_secret"], "res binder", _empty(trace), len(known["zero"])
    )
    known["binder_key"] = binder_key
    for step in trace.steps:
        if "same_as" in step:
            continue
        for role in ("salt", "ikm", "prk"):
            if role in step:
                source = known.get(step[role]["name"], b"")
                same = source.hex() == step[role]["value"]
                yield from _must(f"{step['id']}.{role}.value", same, f"is not {step[role]['name']}")
        recompute = _RECOMPUTE.get(step["kind"])
        if recompute:
            for path, what in recompute(trace, step):
                yield f"{step['id']}.{path}", what


def _empty(trace: Trace) -> bytes:
    return kdf.digest(trace.hash, b"")


def _extract(trace: Trace, step: Step) -> _Found:
    row = names.EXTRACTIONS[step["secret"]]
    yield from _must("salt.name", step["salt"]["name"] == row.salt, f"should be {row.salt}")
    yield from _must("ikm.name", step["ikm"]["name"] in row.ikm, f"should be one of {row.ikm}")
    value = kdf.extract(
        trace.hash, bytes.fromhex(step["salt"]["value"]), bytes.fromhex(step["ikm"]["value"])
    )
    yield from _must("value", value.hex() == step["value"], "is not what salt and IKM give")


def _derive(trace: Trace, step: Step) -> _Found:
    row = names.DERIVATIONS[step["secret"]]
    through = row.through
    if through == "client_hello":
        through = [message.id for message in trace.messages() if message.type == "client_hello"][-1]
    yield from _must("label", step["label"] == row.label, f"should be {row.label}")
    yield from _must("prk.name", step["prk"]["name"] == row.parent, f"should be {row.parent}")
    yield from _must(
        "transcript.through", step["transcript"]["through"] == through, f"should be {through}"
    )
    context = trace.transcript_hash(through)
    yield from _must(
        "transcript.hash",
        context.hex() == step["transcript"]["hash"],
        "is not that of the messages",
    )
    yield from _expanded(trace, step, row.label, context, step["length"])


def _expanded(
    trace: Trace, step: Step, label: str, context: bytes, length: int, value: str = "value"
) -> _Found:
    info = kdf.hkdf_label(length, label, context)
    yield from _must(
        "info", info.hex() == step["info"], "is not the HkdfLabel of label, context and length"
    )
    expanded = kdf.expand(trace.hash, bytes.fromhex(step["prk"]["value"]), info, length)
    yield from _must(value, expanded.hex() == step[value], "is not what PRK and info give")


def _traffic_keys(trace: Trace, step: Step) -> _Found:
    writer = step["by"] if step["direction"] == "write" else names.PEER[step["by"]]
    secret = names.TRAFFIC_SECRETS[writer, step["epoch"]]
    yield from _must("prk.name", step["prk"]["name"] == secret, f"should be {secret}")
    lengths = {
        "key": names.SUITES[trace.data["negotiated"]["cipher_suite"]].key_length,
        "iv": names.IV_LENGTH,
    }
    for label, length in lengths.items():
        part = {"prk": step["prk"]} | step[label]
        for path, what in _expanded(trace, part, label, b"", length):
            yield f"{label}.{path}", what


def _finished(trace: Trace, step: Step) -> _Found:
    message = trace.message(f"{step['of']}.finished")
    before = [other.id for other in trace.messages()]
    yield from _must(
        "prk.name",
        step["prk"]["name"] == names.TRAFFIC_SECRETS[step["of"], "handshake"],
        "wrong secret",
    )
    yield from _must(
        "through",
        step["through"] == before[before.index(message.id) - 1],
        "is not the message before",
    )
    yield from _must("context", step["context"] == "", "should be empty")
    yield from _expanded(trace, step, "finished", b"", len(_empty(trace)), "finished_key")
    transcript = trace.transcript_hash(step["through"])
    verify_data = kdf.mac(trace.hash, bytes.fromhex(step["finished_key"]), transcript)
    yield from _must(
        "verify_data", verify_data.hex() == step["verify_data"], "is not the MAC of the transcript"
    )
    same = message.fields["verify_data"] == step["verify_data"]
    yield from _must("verify_data", same, f"is not in {message.id}")


def _binder(trace: Trace, step: Step) -> _Found:
    hello = trace.message("client.client_hello")
    prefix = hello.octets[: -wire.binders_length(hello.fields)]
    yield from _must(
        "prefix", prefix.hex() == step["prefix"], "is not the ClientHello without its binders"
    )
    prefix_hash = kdf.digest(trace.hash, prefix)
    yield from _must(
        "prefix_hash", prefix_hash.hex() == step["prefix_hash"], "is not the hash of the prefix"
    )
    yield from _must("prk.name", step["prk"]["name"] == "binder_key", "should be binder_key")
    yield from _must("context", step["context"] == "", "should be empty")
    yield from _expanded(trace, step, "finished", b"", len(prefix_hash), "finished_key")
    value = kdf.mac(trace.hash, bytes.fromhex(step["finished_key"]), prefix_hash)
    yield from _must("value", value.hex() == step["value"], "is not the MAC of the prefix hash")
    yield from _must(
        "value", wire.psk_offer(hello.fields)[1] == [value], "is not the binder in the ClientHello"
    )


def _resumption_psk(trace: Trace, step: Step) -> _Found:
    ticket = trace.message("server.new_session_ticket").fields
    yield from _must(
        "ticket_nonce", step["ticket_nonce"] == ticket["ticket_nonce"], "is not the ticket's"
    )
    yield from _must(
        "prk.name", step["prk"]["name"] == "resumption_secret", "should be resumption_secret"
    )
    nonce = bytes.fromhex(step["ticket_nonce"])
    yield from _expanded(trace, step, "resumption", nonce, len(_empty(trace)))


_RECOMPUTE: Final[dict[str, Callable[[Trace, Step], _Found]]] = {
    "extract": _extract,
    "derive": _derive,
    "traffic_keys": _traffic_keys,
    "finished": _finished,
    "binder": _binder,
    "resumption_psk": _resumption_psk,
}


def _record_protection(context: Context) -> _Found:
    for record in context.trace.records():
        if record.sequence is None:
            continue
        keys = context.trace.traffic_keys(record.sender, record.epoch)
        nonce = int.from_bytes(keys.iv, "big") ^ record.sequence
        header, sealed = record.octets[:5], record.octets[5:]
        try:
            inner = AESGCM(keys.key).decrypt(nonce.to_bytes(names.IV_LENGTH, "big"), sealed, header)
        except InvalidTag:
            yield f"{record.id}.record", "cannot be opened with the keys of its epoch"
            continue
        wanted = record.payload + bytes([names.CONTENT_TYPES[record.content_type]])
        yield from _must(f"{record.id}.payload", inner == wanted, "is not what the record protects")


def _key_pairs(context: Context) -> _Found:
    trace = context.trace
    hellos = [message for message in trace.messages("client") if message.type == "client_hello"]
    server_share = wire.selected_share(trace.message("server.server_hello").fields)
    offered = [share for hello in hellos for share in wire.offered_shares(hello.fields).items()]
    for role, shares in (("client", offered), ("server", [server_share])):
        pairs = trace.key_pairs(role)
        named = [(names.GROUPS[pair.group], pair.public_key) for pair in pairs]
        yield from _must(f"{role}.key_pair", named == shares, "public keys are not the shares sent")
        for pair in pairs:
            derived = public_key_of(pair.group, pair.private_key)
            yield from _must(
                f"{pair.id}.public_key",
                derived == pair.public_key,
                "does not belong to the private key",
            )
    shared = trace.step("server.handshake_secret")["ikm"]["value"]
    for ours, theirs in (("client", "server"), ("server", "client")):
        mine, other = trace.key_pairs(ours)[-1], trace.key_pairs(theirs)[-1]
        agreed = ecdh(mine.group, mine.private_key, other.public_key)
        yield from _must(
            f"{mine.id}.private_key", agreed.hex() == shared, "does not give the shared secret"
        )


def _signatures(context: Context) -> _Found:
    for message in context.trace.messages():
        if message.type == "certificate":
            for entry in message.fields["certificate_list"]:
                verify_certificate(bytes.fromhex(entry["cert_data"]))
        if message.type == "certificate_verify":
            before = [other.id for other in context.trace.messages()]
            certificate = before[before.index(message.id) - 1]
            yield from _must(
                message.id,
                certificate == f"{message.sender}.certificate",
                "does not follow a certificate",
            )
            verify_signature(context.trace, message, certificate)


def _resumption(context: Context) -> _Found:
    if context.resumed is None:
        return
    ticket = context.resumed.message("server.new_session_ticket").fields
    identities, _ = wire.psk_offer(context.trace.message("client.client_hello").fields)
    offered = [identity.hex() for identity, _ in identities]
    yield from _must(
        "client.client_hello",
        offered == [ticket["ticket"]],
        "does not offer the resumed trace's ticket",
    )


_CHECKS: Final[tuple[Callable[[Context], _Found], ...]] = (
    _structure,
    _messages,
    _records,
    _key_schedule,
    _record_protection,
    _resumption,
    _key_pairs,
    _signatures,
)
