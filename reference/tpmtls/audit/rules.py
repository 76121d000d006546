"""What follows from what: the key schedule, the AEADs and the TPM's commands as Horn clauses.

The clauses are made from the tables that the protocol runs by (`key_schedule`, `algorithms`,
`handle_model.CHILDREN`), for the connections of one observation. `facts` says what they are about.

Where nothing but a guess of a few bits is in the way, it is taken for made: a ticket's nonce is a
counter with every server that we know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tpmtls.algorithms import AeadName
from tpmtls.audit import facts
from tpmtls.audit.closure import Rule
from tpmtls.audit.derivations import HASH_KEY, Scene, arrows, extractions, path
from tpmtls.audit.facts import asks, asks_model, forges, knows, reads, transcript, wire
from tpmtls.audit.model import Observation
from tpmtls.backends.handle_model import CHILDREN, Kind
from tpmtls.key_schedule import (
    CLIENT_HANDSHAKE_TRAFFIC_SECRET,
    SERVER_HANDSHAKE_TRAFFIC_SECRET,
    WRITE_IV,
    WRITE_KEY,
    Expansion,
    Point,
)

RULES: Final = {
    # what was within reach
    "in host memory": "it lies there in clear, and whoever reads that memory has it",
    "in a file": "it is stored in clear",
    "carried in clear": "a command took it or gave it in clear, seen by whoever sees the command",
    "deciphered": "the chain's session encrypts under nonces, which are in clear, and authValue",
    # the key schedule
    "no PSK": "without a PSK, Early Secret = HKDF-Extract(0, 0), the same for everyone",
    "HKDF-Extract": "who has salt and input keying material computes it",
    "HKDF-Expand-Label": "who has the secret and, where it binds one, the transcript computes it",
    "key agreement": "from a private key and the peer's share, which is in clear",
    "hash key": "GCM's H is the encryption of a zero block under the key",
    # the transcript
    "hellos": "ClientHello and ServerHello are sent in clear",
    "decrypted handshake": "the rest of the handshake, read from the recording",
    # records
    "opens records": "decrypts the recording",
    "keystream": "nonces go in and keystream comes out in clear, which covers the recorded record",
    "data passes": "no key is needed where the data itself goes by in clear",
    "seals records": "makes records of its own; the IV comes out of a recorded one",
    "forges with H": "a recorded tag less GHASH is the tag's mask: another record takes its place",
    # PSKs
    "makes binders": "a binder is an HMAC under the finished_key of binder_key",
    "makes handshake secrets": "`derived` of the Early Secret is the salt that they are made with",
    "ticket": "the ticket is the PSK's identity: in the session file, and in the next ClientHello",
    "resumes": "binders, handshake secrets and the ticket are all that a resumption takes",
    "connects by PSK": "binders and handshake secrets replace the PSK; its identity is in clear",
    "plays the server": "a server that resumes shows that it has the PSK, and nothing else",
    # signatures
    "signs": "CertificateVerify is a signature by the certificate's key",
    # what a TPM does for whoever may use it: see COMMANDS
    "TPM2_HMAC": "HMAC(key, label) in clear is HKDF-Expand; HMAC(salt, input) is HKDF-Extract",
    "TPM2_EncryptDecrypt2": "the object encrypts what it is given: keystream, MACs, and H",
    "TPM2_ECDH_ZGen": "the object agrees, and the shared secret is the answer",
    "TPM2_Unseal": "the object's data is the answer",
    "TPM2_Sign": "the object signs what it is given",
    "TPM2_NV_Read": "the index gives authValue in clear to who does not ask for encryption",
    # what the handle-only model does
    "model EXTRACT": "the model makes it, and keeps it",
    "model EXPAND_LABEL": "the model makes it where the kind of object permits, and keeps it",
    "model AGREE": "the model agrees, and keeps the shared secret",
    "model MAC": "the model answers with the MAC",
    "model READ": "the model answers with the octets",
    "model OPEN and SEAL": "the model opens and seals records under keys that it keeps",
}
"""Each rule's name and, in plain words, why it holds."""


@dataclass(frozen=True, slots=True)
class Power:
    """Of which secrets, by their names, a TPM command can be asked, where they are in a TPM."""

    command: str
    of: tuple[str, ...]


COMMANDS: Final = (
    Power("TPM2_ECDH_ZGen", ("ephemeral_key",)),
    Power("TPM2_EncryptDecrypt2", ("write_key",)),
    Power("TPM2_Unseal", ("PSK",)),
    Power("TPM2_Sign", ("signing_key",)),
    Power("TPM2_NV_Read", ("authValue",)),
)
"""All else of the key schedule is an HMAC key there, of which TPM2_HMAC can be asked."""

AEAD_NEEDS: Final[dict[AeadName, tuple[Expansion, ...]]] = {
    "aes-gcm": (WRITE_KEY,),  # H is known with the key, then a tag gives the nonce
    "aes-ccm": (WRITE_KEY,),  # a block of known plaintext gives a counter block: the nonce
    "chacha20-poly1305": (WRITE_KEY, WRITE_IV),
}
"""What of a traffic secret opens and seals records that were recorded."""


SIGNING_KEY: Final = "0/signing_key"
AUTH_VALUE: Final = "0/authValue"


def command_for(name: str) -> str:
    """The command that makes the most of a secret in a TPM."""
    return next((each.command for each in COMMANDS if name in each.of), "TPM2_HMAC")


def is_chained(observation: Observation) -> bool:
    """Whether what crosses encrypted is so under authValue; else a storage key has wrapped it."""
    return any(secret.name == "authValue" for secret in observation.secrets)


def rules(observation: Observation) -> tuple[Rule, ...]:
    """All clauses for one observation."""
    scene = Scene(observation)
    made: list[Rule] = []
    for part in (_evidence, _schedule, _agreement, _transcripts, _records, _psks, _rest, _model):
        made += part(scene)
    return tuple(made)


def _evidence(scene: Scene) -> Iterator[Rule]:
    chained = is_chained(scene.observation)
    for secret in scene.observation.secrets:
        name = scene.canonical(secret)
        if any(stay.place == "host" for stay in secret.stays):
            yield Rule("in host memory", (facts.in_memory(name),), knows(name))
        if any(stay.place == "host" and stay.stored for stay in secret.stays):
            yield Rule("in a file", (facts.in_file(name),), knows(name))
        for crossed in secret.crossings:
            if crossed.visibility == "clear":
                fact = facts.carried(crossed.via, crossed.direction, name)
                yield Rule("carried in clear", (fact,), knows(name))
            elif chained and crossed.via != "TPM2_Load" and name != AUTH_VALUE:
                premises = facts.recorded_encrypted(name), knows(AUTH_VALUE)
                yield Rule("deciphered", premises, knows(name))


def _schedule(scene: Scene) -> Iterator[Rule]:
    for connection in scene.connections:
        if connection.psk is None:
            yield Rule("no PSK", (), knows(connection.early_secret))
    for each in extractions(scene):
        inputs = () if each.input is None else (knows(each.input),)
        if each.salt is None:
            yield Rule("HKDF-Extract", inputs, knows(each.result))
        else:
            yield Rule("HKDF-Extract", (knows(each.salt), *inputs), knows(each.result))
            salt = asks("TPM2_HMAC", each.salt)
            yield Rule("TPM2_HMAC", (salt, *inputs), knows(each.result))
    for arrow in arrows(scene):
        premises = knows(arrow.parent), *arrow.needs
        yield Rule("HKDF-Expand-Label", premises, knows(arrow.child))
        premises = asks("TPM2_HMAC", arrow.parent), *arrow.needs
        yield Rule("TPM2_HMAC", premises, knows(arrow.child))


def _agreement(scene: Scene) -> Iterator[Rule]:
    for connection in scene.connections:
        ephemeral = path(connection.number, "ephemeral_key")
        shared = path(connection.number, "shared_secret")
        share = wire(connection.number)
        yield Rule("key agreement", (knows(ephemeral), share), knows(shared))
        asked = asks("TPM2_ECDH_ZGen", ephemeral)
        yield Rule("TPM2_ECDH_ZGen", (asked, share), knows(shared))


def _transcripts(scene: Scene) -> Iterator[Rule]:
    after_hellos = (
        (Point.SERVER_HELLO, SERVER_HANDSHAKE_TRAFFIC_SECRET, Point.SERVER_FINISHED),
        (Point.SERVER_FINISHED, CLIENT_HANDSHAKE_TRAFFIC_SECRET, Point.CLIENT_FINISHED),
    )
    for connection in scene.connections:
        number = connection.number
        for point in (Point.CLIENT_HELLO, Point.SERVER_HELLO):
            yield Rule("hellos", (wire(number),), transcript(number, point))
        for before, row, point in after_hellos:
            premises = transcript(number, before), reads(path(number, row.secret))
            yield Rule("decrypted handshake", premises, transcript(number, point))
        for point in (Point.SERVER_FINISHED, Point.CLIENT_FINISHED):
            fact = transcript(number, point)
            yield Rule("in host memory", (facts.in_memory(fact.removeprefix("has ")),), fact)


def _records(scene: Scene) -> Iterator[Rule]:
    needs = AEAD_NEEDS[scene.suite.aead]
    for connection in scene.connections:
        recording = wire(connection.number)
        for _, secret in scene.traffic(connection):
            keys = tuple(knows(path(secret, each.value)) for each in needs)
            key = path(secret, WRITE_KEY.value)
            yield Rule("opens records", (*keys, recording), reads(secret))
            yield Rule("seals records", (*keys, recording), forges(secret))
            yield Rule("keystream", (facts.keystream(secret), recording), reads(secret))
            yield Rule("data passes", (facts.data(secret),), reads(secret))
            asked = asks("TPM2_EncryptDecrypt2", key)
            yield Rule("TPM2_EncryptDecrypt2", (asked, recording), reads(secret))
            yield Rule("TPM2_EncryptDecrypt2", (asked, recording), forges(secret))
            if scene.suite.aead == "aes-gcm":
                hash_key = knows(path(secret, HASH_KEY))
                yield Rule("hash key", (knows(key),), hash_key)
                yield Rule("TPM2_EncryptDecrypt2", (asked,), hash_key)
                yield Rule("forges with H", (hash_key, recording), forges(secret))


def _psks(scene: Scene) -> Iterator[Rule]:
    for connection in scene.under_psk:
        number = connection.number
        binders, secrets = facts.makes_binders(number), facts.makes_handshake_secrets(number)
        for rule, fact, key in (
            ("makes binders", binders, connection.binder_finished_key),
            ("makes handshake secrets", secrets, connection.derived),
        ):
            yield Rule(rule, (knows(key),), fact)
            yield Rule("TPM2_HMAC", (asks("TPM2_HMAC", key),), fact)
        if connection.external:
            yield Rule("connects by PSK", (binders, secrets, wire(number)), facts.CONNECTS_BY_PSK)
        else:
            yield from _resumption(scene, number - 1, (binders, secrets))
        for each in scene.connections:
            if each.psk == connection.psk:
                yield Rule("plays the server", (secrets,), facts.plays_server(each.number))


def _resumption(scene: Scene, brought: int, made: Iterable[str]) -> Iterator[Rule]:
    """With the ticket of connection `brought`."""
    fact = facts.ticket(brought)
    yield Rule("ticket", (facts.in_file(f"ticket {brought}"),), fact)
    yield Rule("in host memory", (facts.in_memory(f"ticket {brought}"),), fact)
    if any(each.number == brought + 1 for each in scene.connections):
        yield Rule("ticket", (wire(brought + 1),), fact)
    for row, secret in scene.traffic(scene.connections[brought - 1]):
        if row.secret.startswith("server_application"):
            yield Rule("ticket", (reads(secret),), fact)
    yield Rule("resumes", (*made, fact), facts.resumes(brought))


def _rest(scene: Scene) -> Iterator[Rule]:
    yield Rule("signs", (knows(SIGNING_KEY),), facts.SIGNS)
    yield Rule("TPM2_Sign", (asks("TPM2_Sign", SIGNING_KEY),), facts.SIGNS)
    yield Rule("TPM2_NV_Read", (asks("TPM2_NV_Read", AUTH_VALUE),), knows(AUTH_VALUE))
    for connection in scene.under_psk:
        if connection.psk is not None:
            unsealed = asks("TPM2_Unseal", connection.psk)
            yield Rule("TPM2_Unseal", (unsealed,), knows(connection.psk))


def _model(scene: Scene) -> Iterator[Rule]:
    """What the handle-only model does, as far as the kinds of its objects permit."""
    kinds: dict[str, Kind] = {}
    for extraction in extractions(scene):
        inputs = (extraction.salt, extraction.input)
        premises = tuple(asks_model(each) for each in inputs if each is not None)
        yield Rule("model EXTRACT", premises, asks_model(extraction.result))
        kinds[extraction.result] = Kind.STAGE
    for connection in scene.connections:
        kinds.setdefault(connection.early_secret, Kind.STAGE)
        ephemeral, shared = (path(connection.number, n) for n in ("ephemeral_key", "shared_secret"))
        yield Rule("model AGREE", (asks_model(ephemeral),), asks_model(shared))
    for arrow in arrows(scene):
        kind = CHILDREN.get(kinds.get(arrow.parent, Kind.EXPORTED), {}).get(arrow.label)
        if kind is not None:
            kinds[arrow.child] = kind
            premises = asks_model(arrow.parent), *arrow.needs
            yield Rule("model EXPAND_LABEL", premises, asks_model(arrow.child))
    yield from _model_uses(scene, kinds)


def _model_uses(scene: Scene, kinds: dict[str, Kind]) -> Iterator[Rule]:
    for connection in scene.under_psk:
        number, key, salt = connection.number, connection.binder_finished_key, connection.derived
        if kinds.get(key) is Kind.FINISHED:
            yield Rule("model MAC", (asks_model(key),), facts.makes_binders(number))
        if kinds.get(salt) is Kind.SALT:
            secrets = facts.makes_handshake_secrets(number)
            yield Rule("model EXTRACT", (asks_model(salt),), secrets)
    for connection in scene.connections:
        for _, secret in scene.traffic(connection):
            key = path(secret, WRITE_KEY.value)
            if kinds.get(key) is Kind.WRITE_KEY:
                premises = asks_model(key), wire(connection.number)
                yield Rule("model OPEN and SEAL", premises, reads(secret))
                yield Rule("model OPEN and SEAL", premises, forges(secret))
    for name, kind in kinds.items():
        if kind is Kind.EXPORTED:
            yield Rule("model READ", (asks_model(name),), knows(name))
