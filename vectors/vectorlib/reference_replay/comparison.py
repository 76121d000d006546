"""Compares what the reference computed and sent with every step of a trace."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from tpmtls.record import RECORD_HEADER_SIZE

from .. import kdf, names, wire
from ..trace import Record, Step, Trace
from .observation import Expansion, Observation, Protected

_Compared = Iterator[tuple[str, Any, Any]]
"""A path, what the trace has there, and what the reference has."""


def differences(trace: Trace, role: str, observed: Observation) -> Iterator[tuple[str, str]]:
    """What is different, and where; what the reference computed besides, too.

    Takes out of `observed` what it has compared.
    """
    for path, recorded, produced in _everything(trace, role, observed):
        if recorded != produced:
            yield path, "not computed" if produced is None else f"has {_text(produced)}"
    for left in (observed.extractions, observed.expansions, observed.macs):
        for key in left:
            yield "steps", f"computes {key} besides"


def _everything(trace: Trace, role: str, observed: Observation) -> _Compared:
    yield from _key_pairs(trace, role, observed)
    for step in trace.steps:
        compare = _COMPARE.get(step["kind"])
        if step["by"] == role and compare is not None:
            try:
                for path, recorded, produced in compare(trace, trace.step(step["id"]), observed):
                    yield f"{step['id']}.{path}", recorded, produced
            except KeyError as missing:
                yield step["id"], missing, None
    yield from _records(trace, role, observed)


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


# -- the key schedule ------------------------------------------------------------------------------


def _key_pairs(trace: Trace, role: str, observed: Observation) -> _Compared:
    recorded = [(pair.group, pair.public_key.hex()) for pair in trace.key_pairs(role)]
    produced = [(group, public.hex()) for group, public in observed.shares]
    yield f"{role}.key_pair", recorded, produced


def _extract(_: Trace, step: Step, observed: Observation) -> _Compared:
    made = observed.extractions.pop(step["secret"])
    for name, produced in (("salt", made.salt), ("ikm", made.ikm)):
        yield f"{name}.name", step[name]["name"], produced.name
        yield f"{name}.value", step[name]["value"], produced.octets.hex()
    yield "value", step["value"], made.value.hex()


def _expansion(
    step: Step, label: str, observed: Observation, value: str = "value"
) -> tuple[Expansion, list[tuple[str, Any, Any]]]:
    """An HKDF-Expand-Label and what is the same of it in all steps that have one."""
    made = observed.expansions.pop((step["prk"]["name"], label))
    return made, [
        ("prk.value", step["prk"]["value"], made.prk.octets.hex()),
        ("info", step["info"], made.info.hex()),
        (value, step[value], made.value.octets.hex()),
    ]


def _derive(_: Trace, step: Step, observed: Observation) -> _Compared:
    made, compared = _expansion(step, step["label"], observed)
    yield from compared
    yield "secret", step["secret"], made.value.name
    yield "transcript.hash", step["transcript"]["hash"], made.context.hex()
    yield "length", step["length"], made.length


def _traffic_keys(_: Trace, step: Step, observed: Observation) -> _Compared:
    for label in ("key", "iv"):
        made, compared = _expansion({"prk": step["prk"]} | step[label], label, observed)
        for path, recorded, produced in compared:
            yield path if path == "prk.value" else f"{label}.{path}", recorded, produced
        yield f"{label}.length", len(step[label]["value"]) // 2, made.length


def _finished(trace: Trace, step: Step, observed: Observation) -> _Compared:
    made, compared = _expansion(step, "finished", observed, "finished_key")
    yield from compared
    yield "context", step["context"], made.context.hex()
    mac = observed.macs.pop(made.value.name)
    yield "through", trace.transcript_hash(step["through"]), mac.data
    yield "verify_data", step["verify_data"], mac.tag.hex()


def _binder(trace: Trace, step: Step, observed: Observation) -> _Compared:
    key = observed.expansions.pop(("early_secret", "res binder"))
    yield "prk.value", step["prk"]["value"], key.value.octets.hex()
    made, compared = _expansion(step, "finished", observed, "finished_key")
    yield from compared
    yield "context", step["context"], made.context.hex()
    mac = observed.macs.pop(made.value.name)
    yield "prefix", kdf.digest(trace.hash, bytes.fromhex(step["prefix"])), mac.data
    yield "prefix_hash", step["prefix_hash"], mac.data.hex()
    yield "value", step["value"], mac.tag.hex()


def _resumption_psk(_: Trace, step: Step, observed: Observation) -> _Compared:
    made, compared = _expansion(step, "resumption", observed)
    yield from compared
    yield "ticket_nonce", step["ticket_nonce"], made.context.hex()


_COMPARE: Final[dict[str, Callable[[Trace, Step, Observation], _Compared]]] = {
    "extract": _extract,
    "derive": _derive,
    "traffic_keys": _traffic_keys,
    "finished": _finished,
    "binder": _binder,
    "resumption_psk": _resumption_psk,
}


# -- records and messages --------------------------------------------------------------------------

_CONTENT_TYPES: Final = {code: name for name, code in names.CONTENT_TYPES.items()}


def _records(trace: Trace, role: str, observed: Observation) -> _Compared:
    ours, theirs = trace.records(role), trace.records(names.PEER[role])
    yield from _protected(ours, observed.sealed)
    yield from _protected(theirs, observed.opened)
    plaintexts = [
        (octets[0], octets[RECORD_HEADER_SIZE:])
        for record, octets in zip(ours, observed.sent, strict=True)
        if record.epoch == "initial"
    ]
    unprotected = [record for record in ours if record.epoch == "initial"]
    for record, (content_type, payload) in zip(unprotected, plaintexts, strict=True):
        yield f"{record.id}.content_type", record.content_type, _CONTENT_TYPES.get(content_type)
        yield f"{record.id}.payload", record.payload, payload
    plaintexts += [(one.inner[-1], one.inner[:-1]) for one in observed.sealed]
    handshake = [p for t, p in plaintexts if _CONTENT_TYPES.get(t) == "handshake"]
    yield from _messages(trace, role, b"".join(handshake))


def _protected(records: list[Record], passed: list[Protected]) -> _Compared:
    """The records that went through an AEAD; padding would be seen as another content type."""
    recorded = [record for record in records if record.epoch != "initial"]
    for record, one in zip(recorded, passed, strict=True):
        secret = names.TRAFFIC_SECRETS.get((record.sender, record.epoch))
        yield f"{record.id}.epoch", secret, one.secret
        yield f"{record.id}.sequence", record.sequence, one.sequence
        yield f"{record.id}.content_type", record.content_type, _CONTENT_TYPES.get(one.inner[-1])
        yield f"{record.id}.payload", record.payload, one.inner[:-1]


def _messages(trace: Trace, role: str, stream: bytes) -> _Compared:
    """The messages that the role sent, as one stream."""
    for message in trace.messages(role):
        length = 4 + int.from_bytes(stream[1:4], "big")
        octets, stream = stream[:length], stream[length:]
        yield f"{message.id}.octets", message.octets, octets
        kind, fields = wire.decode_message(octets)
        yield f"{message.id}.type", message.type, kind
        yield f"{message.id}.fields", message.fields, fields
    yield f"{role} messages", b"", stream
