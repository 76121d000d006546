"""A trace as typed objects: what a replay and the checks walk."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import kdf
from .names import MESSAGE_HASH

Step = dict[str, Any]


@dataclass(frozen=True)
class Message:
    """A handshake message. `injected` names the fields that no computation gives, as a random."""

    id: str
    sender: str
    type: str
    octets: bytes
    fields: dict[str, Any]
    reproduce: str
    injected: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """A record: its plaintext, the complete octets, and the messages that it carries."""

    id: str
    sender: str
    epoch: str
    sequence: int | None
    content_type: str
    messages: tuple[str, ...]
    payload: bytes
    octets: bytes


@dataclass(frozen=True)
class KeyPair:
    """An ephemeral key pair; the private key as the raw scalar."""

    id: str
    owner: str
    group: str
    private_key: bytes
    public_key: bytes


@dataclass(frozen=True)
class TrafficKeys:
    """The write key and IV of one sender in one epoch."""

    key: bytes
    iv: bytes


class Trace:
    """One trace: `steps` as the JSON has them, in RFC 8448's order, and typed views of them."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.name: str = data["name"]
        self.steps: list[Step] = data["steps"]
        self._by_id: dict[str, Step] = {step["id"]: step for step in self.steps}

    def __repr__(self) -> str:
        return f"<Trace {self.name}: {len(self.steps)} steps>"

    def step(self, identifier: str) -> Step:
        """A step by its id; a step that is the `same_as` another gives that other one."""
        step = self._by_id[identifier]
        return self._by_id[step["same_as"]] if "same_as" in step else step

    def of_kind(self, kind: str) -> Iterator[Step]:
        """The steps of one kind that carry values themselves."""
        return (step for step in self.steps if step["kind"] == kind and "same_as" not in step)

    def messages(self, sender: str | None = None) -> list[Message]:
        """The handshake messages in transcript order."""
        return [
            Message(
                step["id"],
                step["by"],
                step["type"],
                bytes.fromhex(step["octets"]),
                step["fields"],
                step["reproduce"],
                tuple(step["injected"]),
            )
            for step in self.of_kind("message")
            if sender in (None, step["by"])
        ]

    def message(self, identifier: str) -> Message:
        """A message by its id, such as `client.client_hello`."""
        return {message.id: message for message in self.messages()}[identifier]

    def records(self, sender: str | None = None) -> list[Record]:
        """The records in the order in which they are sent."""
        return [
            Record(
                step["id"],
                step["by"],
                step["epoch"],
                step["sequence"],
                step["content_type"],
                tuple(step["messages"]),
                bytes.fromhex(step["payload"]),
                bytes.fromhex(step["record"]),
            )
            for step in self.of_kind("record")
            if sender in (None, step["by"])
        ]

    def flights(self) -> list[tuple[str, list[Record]]]:
        """The records grouped by sender, each time the sender changes: (sender, records)."""
        flights: list[tuple[str, list[Record]]] = []
        for record in self.records():
            if not flights or flights[-1][0] != record.sender:
                flights.append((record.sender, []))
            flights[-1][1].append(record)
        return flights

    def key_pairs(self, owner: str) -> list[KeyPair]:
        """A role's ephemeral key pairs in the order of their use."""
        return [
            KeyPair(
                step["id"],
                step["by"],
                step["group"],
                bytes.fromhex(step["private_key"]),
                bytes.fromhex(step["public_key"]),
            )
            for step in self.of_kind("key_pair")
            if step["by"] == owner
        ]

    def secrets(self) -> dict[str, bytes]:
        """Every secret of the trace by its RFC 9846 name; inputs and finished keys included."""
        found: dict[str, str] = {}
        for step in self.steps:
            if "same_as" in step:
                continue
            match step["kind"]:
                case "extract":
                    found[step["ikm"]["name"]] = step["ikm"]["value"]
                    found[step["secret"]] = step["value"]
                case "derive":
                    found[step["secret"]] = step["value"]
                case "finished":
                    found[f"{step['of']}_finished_key"] = step["finished_key"]
                case "binder":
                    found[step["prk"]["name"]] = step["prk"]["value"]
                    found["binder_finished_key"] = step["finished_key"]
                case "resumption_psk":
                    found["new_resumption_psk"] = step["value"]
        found.pop("zero", None)
        return {name: bytes.fromhex(value) for name, value in found.items()}

    def traffic_keys(self, writer: str, epoch: str) -> TrafficKeys:
        """The keys that `writer` protects its records with in an epoch."""
        for role in ("server", "client"):
            identifier = f"{role}.{writer}_{epoch}_keys"
            if identifier in self._by_id:
                step = self.step(identifier)
                return TrafficKeys(
                    bytes.fromhex(step["key"]["value"]), bytes.fromhex(step["iv"]["value"])
                )
        raise KeyError(f"{self.name} has no {epoch} keys of the {writer}")

    def transcript(self, through: str | None) -> bytes:
        """What Transcript-Hash hashes up to and with a message: RFC 9846 §4.1, message_hash too."""
        if through is None:
            return b""
        messages = self.messages()
        last = [message.id for message in messages].index(through)
        octets = [message.octets for message in messages[: last + 1]]
        if last > 0 and messages[1].type == "hello_retry_request":
            first = kdf.digest(self.hash, octets[0])
            octets[0] = bytes([MESSAGE_HASH, 0, 0, len(first)]) + first
        return b"".join(octets)

    def transcript_hash(self, through: str | None) -> bytes:
        """Transcript-Hash up to and with a message; of nothing where `through` is None."""
        return kdf.digest(self.hash, self.transcript(through))

    @property
    def hash(self) -> str:
        """The suite's hash, by the name that `hashlib` knows."""
        name: str = self.data["negotiated"]["hash"]
        return name
