"""RFC 8448's items → the steps of a trace; every rule about the RFC's wording is in `_RULES`."""

import re
from collections.abc import Callable
from typing import Final

from . import names, wire
from .rfc_text import Item, RfcTextError
from .trace import Step

# Fields that neither the key schedule nor a configuration determines, by message type
_INJECTED: Final = {
    "client_hello": ["random", "legacy_session_id"],
    "server_hello": ["random"],
    "hello_retry_request": ["extensions.cookie"],
    "certificate_verify": ["signature"],
    "new_session_ticket": ["ticket_lifetime", "ticket_age_add", "ticket_nonce", "ticket"],
}
# Kinds that both roles compute, so that the RFC prints or mentions them twice
_SHARED_KINDS: Final = {"extract", "derive", "traffic_keys", "finished", "binder", "resumption_psk"}


def build_steps(found: list[Item]) -> list[Step]:
    """The steps of one trace."""
    builder = _Builder()
    for item in found:
        builder.add(item)
    return builder.steps


class _Builder:
    """Turns items into steps; keeps the epochs, sequence numbers and pending messages."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._by_id: dict[str, Step] = {}
        self._epoch = {"client": "initial", "server": "initial"}
        self._sequence = {"client": 0, "server": 0}
        self._records = {"client": 0, "server": 0}
        self._pending: dict[str, list[Step]] = {"client": [], "server": []}

    def add(self, item: Item) -> None:
        """Add the step or steps that an item stands for."""
        for pattern, rule in _RULES:
            match = re.fullmatch(pattern, item.head)
            if match:
                step = rule(self, item, match)
                break
        else:
            raise RfcTextError(f"line {item.line}: unknown step")
        self._place(item, step)

    def _place(self, item: Item, step: Step) -> None:
        kind, name, lines = step["kind"], step.pop("name"), step.pop("lines")
        twin = self._by_id.get(f"{names.PEER[item.by]}.{name}") if kind in _SHARED_KINDS else None
        if twin is not None:
            step = self._sighting(item, kind, step, twin)
        elif "same as" in item.head:
            raise RfcTextError(f"line {item.line}: the same as nothing seen so far")
        values = {
            path: item.values[label].line for path, label in lines.items() if label in item.values
        }
        step |= {"source": {"page": item.page, "line": item.line, "values": values}}
        identifier = self._unused(f"{item.by}.{name}")
        step = {"id": identifier, "by": item.by, "kind": step.pop("kind")} | step
        self.steps.append(step)
        self._by_id[identifier] = step
        if kind == "message":
            self._pending[item.by].append(step)

    def _sighting(self, item: Item, kind: str, step: Step, twin: Step) -> Step:
        if item.values and any(
            step[key] != twin[key] for key in step.keys() - {"kind", "direction"}
        ):
            raise RfcTextError(f"line {item.line}: differs from what the other role computed")
        direction = {"direction": step["direction"]} if "direction" in step else {}
        printed = "value" if item.values else "reference"
        return {
            "kind": kind,
            **direction,
            "same_as": twin["id"],
            "printed": printed,
            "rfc9846": twin["rfc9846"],
        }

    def _unused(self, identifier: str) -> str:
        numbered, count = identifier, 1
        while numbered in self._by_id:
            count += 1
            numbered = f"{identifier}_{count}"
        return numbered

    def _last_message(self) -> str:
        identifiers: list[str] = [step["id"] for step in self.steps if step["kind"] == "message"]
        return identifiers[-1]

    def _through(self, end: str | None) -> str | None:
        """The id of the message that ends a transcript; `client_hello` is the last one sent."""
        return self._last_message() if end == "client_hello" else end

    # One method per rule. Each returns the step, plus `name` (its id without the role) and `lines`
    # (JSON path → RFC label).

    def key_pair(self, item: Item, match: re.Match[str]) -> Step:
        """An ephemeral key pair is made."""
        return {
            "kind": "key_pair",
            "name": "key_pair",
            "lines": {"private_key": "private key", "public_key": "public key"},
            "group": names.GROUP_NAMES[match["group"]],
            "private_key": _hex(item, "private key"),
            "public_key": _hex(item, "public key"),
            "rfc9846": names.KIND_SECTIONS["key_pair"],
        }

    def message(self, item: Item, match: re.Match[str]) -> Step:
        """A message is constructed; a ClientHello without binders is completed by its record."""
        octets = item.values[match["name"]].octets
        if int.from_bytes(octets[1:4], "big") + 4 == len(octets):
            name, fields = wire.decode_message(octets)
        else:
            name, fields = "client_hello", {}
        injected = list(_INJECTED.get(name, []))
        return {
            "kind": "message",
            "name": name,
            "lines": {"octets": match["name"]},
            "type": name,
            "reproduce": "injected-and-verified" if "signature" in injected else "exact",
            "injected": injected,
            "fields": fields,
            "octets": octets.hex(),
            "rfc9846": names.MESSAGE_SECTIONS[name],
        }

    def record(self, item: Item, match: re.Match[str]) -> Step:
        """A record is sent, with the messages that its sender has constructed and not sent."""
        content_type = match["type"]
        self._records[item.by] += 1
        payload, octets = item.values["payload"].octets, item.values["complete record"].octets
        epoch = "initial" if content_type == "change_cipher_spec" else self._epoch[item.by]
        sequence = None
        if epoch != "initial":
            sequence = self._sequence[item.by]
            self._sequence[item.by] += 1
        pending: list[Step] = []
        if content_type == "handshake":
            pending, self._pending[item.by] = self._pending[item.by], []
            _complete(pending, payload)
        return {
            "kind": "record",
            "name": f"record_{self._records[item.by]}",
            "lines": {"payload": "payload", "record": "complete record"},
            "content_type": content_type,
            "epoch": epoch,
            "sequence": sequence,
            "messages": [step["id"] for step in pending],
            "payload": payload.hex(),
            "record": octets.hex(),
            "rfc9846": names.RECORD_SECTIONS[epoch != "initial"],
        }

    def extract(self, item: Item, match: re.Match[str]) -> Step:
        """HKDF-Extract. Where the RFC's salt is zero, the JSON has Hash.length zeros."""
        secret = names.EXTRACTED_NAMES[match["name"]]
        step: Step = {
            "kind": "extract",
            "name": secret,
            "lines": {"salt.value": "salt", "ikm.value": "IKM", "value": "secret"},
            "secret": secret,
        }
        if item.values:
            row = names.EXTRACTIONS[secret]
            salt, ikm, value = (item.values[label].octets for label in ("salt", "IKM", "secret"))
            step |= {
                "salt": {"name": row.salt, "value": (salt or bytes(len(value))).hex()},
                "ikm": {"name": row.ikm[-1] if any(ikm) else "zero", "value": ikm.hex()},
                "value": value.hex(),
                "rfc9846": names.KIND_SECTIONS["extract"],
            }
        return step

    def derive(self, item: Item, match: re.Match[str]) -> Step:
        """Derive-Secret."""
        secret = _derived_name(match["label"], match["target"])
        row = names.DERIVATIONS[secret]
        step: Step = {
            "kind": "derive",
            "name": secret,
            "lines": {
                "prk.value": "PRK",
                "transcript.hash": "hash",
                "info": "info",
                "value": "expanded",
            },
            "secret": secret,
        }
        if item.values:
            step |= {
                "label": row.label,
                "prk": {"name": row.parent, "value": _hex(item, "PRK")},
                "transcript": {"through": self._through(row.through), "hash": _hex(item, "hash")},
                "info": _hex(item, "info"),
                "length": len(item.values["expanded"].octets),
                "value": _hex(item, "expanded"),
                "rfc9846": names.KIND_SECTIONS["derive"],
            }
        return step

    def traffic_keys(self, item: Item, match: re.Match[str]) -> Step:
        """Write key and IV; the epoch of their user changes here where they are for writing."""
        epoch = names.EPOCH_NAMES[match["epoch"]]
        writer = item.by if match["direction"] == "write" else names.PEER[item.by]
        if match["direction"] == "write":
            self._epoch[item.by], self._sequence[item.by] = epoch, 0
        step: Step = {
            "kind": "traffic_keys",
            "name": f"{writer}_{epoch}_keys",
            "lines": {
                "prk.value": "PRK",
                "key.info": "key info",
                "key.value": "key expanded",
                "iv.info": "iv info",
                "iv.value": "iv expanded",
            },
            "direction": match["direction"],
        }
        if item.values:
            step |= {
                "epoch": epoch,
                "prk": {"name": names.TRAFFIC_SECRETS[writer, epoch], "value": _hex(item, "PRK")},
                "key": {"info": _hex(item, "key info"), "value": _hex(item, "key expanded")},
                "iv": {"info": _hex(item, "iv info"), "value": _hex(item, "iv expanded")},
                "rfc9846": names.KIND_SECTIONS["traffic_keys"],
            }
        return step

    def finished(self, item: Item, match: re.Match[str]) -> Step:
        """The MAC of a Finished; whoever prints the values is its sender."""
        sender = item.by if item.values else names.PEER[item.by]
        step: Step = {
            "kind": "finished",
            "name": f"{sender}_verify_data",
            "lines": _MAC_LINES | {"context": "hash", "verify_data": "finished"},
            "of": sender,
        }
        if item.values:
            step |= {
                "prk": {
                    "name": names.TRAFFIC_SECRETS[sender, "handshake"],
                    "value": _hex(item, "PRK"),
                },
                "context": _hex(item, "hash"),
                "info": _hex(item, "info"),
                "finished_key": _hex(item, "expanded"),
                "through": self._last_message(),
                "verify_data": _hex(item, "finished"),
                "rfc9846": names.KIND_SECTIONS["finished"],
            }
        return step

    def binder(self, item: Item, _match: re.Match[str]) -> Step:
        """The binder of the only PSK offered."""
        step: Step = {
            "kind": "binder",
            "name": "binder",
            "lines": _MAC_LINES
            | {
                "prefix": "ClientHello prefix",
                "prefix_hash": "binder hash",
                "context": "hash",
                "value": "finished",
            },
        }
        if item.values:
            step |= {
                "prefix": _hex(item, "ClientHello prefix"),
                "prefix_hash": _hex(item, "binder hash"),
                "prk": {"name": "binder_key", "value": _hex(item, "PRK")},
                "context": _hex(item, "hash"),
                "info": _hex(item, "info"),
                "finished_key": _hex(item, "expanded"),
                "value": _hex(item, "finished"),
                "rfc9846": names.KIND_SECTIONS["binder"],
            }
        return step

    def resumption_psk(self, item: Item, _match: re.Match[str]) -> Step:
        """The PSK that goes with a ticket."""
        step: Step = {
            "kind": "resumption_psk",
            "name": "new_resumption_psk",
            "lines": {
                "prk.value": "PRK",
                "ticket_nonce": "hash",
                "info": "info",
                "value": "expanded",
            },
        }
        if item.values:
            step |= {
                "prk": {"name": "resumption_secret", "value": _hex(item, "PRK")},
                "ticket_nonce": _hex(item, "hash"),
                "info": _hex(item, "info"),
                "value": _hex(item, "expanded"),
                "rfc9846": names.KIND_SECTIONS["resumption_psk"],
            }
        return step


_MAC_LINES: Final = {"prk.value": "PRK", "info": "info", "finished_key": "expanded"}
_SAME: Final = r"(?: \(same as .+\):?|:)"
_Rule = Callable[[_Builder, Item, re.Match[str]], Step]
_RULES: Final[tuple[tuple[str, _Rule], ...]] = (
    (r"create an ephemeral (?P<group>\S+) key pair:", _Builder.key_pair),
    (r"construct an? (?P<name>\w+) handshake message:", _Builder.message),
    (r"send (?P<type>\w+) record:", _Builder.record),
    (r'extract secret "(?P<name>\w+)"' + _SAME, _Builder.extract),
    (r'derive secret (?:for (?P<target>\w+) )?"tls13 (?P<label>[a-z ]+)"' + _SAME, _Builder.derive),
    (
        r"derive (?P<direction>read|write) traffic keys for (?P<epoch>.+?) data" + _SAME,
        _Builder.traffic_keys,
    ),
    (r'calculate finished "tls13 finished"' + _SAME, _Builder.finished),
    (r"calculate PSK binder" + _SAME, _Builder.binder),
    (r'generate resumption secret "tls13 resumption"' + _SAME, _Builder.resumption_psk),
)


def _hex(item: Item, label: str) -> str:
    return item.values[label].octets.hex()


def _derived_name(label: str, target: str | None) -> str:
    if label == "derived":
        return "derived_for_handshake" if target == "handshake" else "derived_for_main"
    return next(name for name, row in names.DERIVATIONS.items() if row.label == label)


def _complete(pending: list[Step], payload: bytes) -> None:
    """Give a ClientHello that was constructed without its binders the octets of its record."""
    for step in pending:
        if not step["fields"] and step["type"] == "client_hello":
            if not payload.startswith(bytes.fromhex(step["octets"])):
                raise RfcTextError(
                    f"line {step['source']['line']}: not the start of the record that follows"
                )
            _, step["fields"] = wire.decode_message(payload)
            step["octets"] = payload.hex()
            step["injected"].append("extensions.pre_shared_key.identities")
