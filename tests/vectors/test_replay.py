"""The reference replays RFC 8448 octet for octet in both roles, and the replay misses nothing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

from tests.vectors.test_consistency import drop, put, swap
from tpmtls.backends import software
from tpmtls.backends.base import hkdf_label
from tpmtls.connection import base
from tpmtls.handshake import authentication, client, client_hello
from tpmtls.record import RecordWriter
from tpmtls.tickets import SessionTicket
from tpmtls.wire.extensions import Extensions, PostHandshakeAuth
from vectors.vectorlib import cli, flips, library
from vectors.vectorlib.documents import OUTLINES
from vectors.vectorlib.names import PEER
from vectors.vectorlib.reference_replay import configuration, replay_role
from vectors.vectorlib.replay import replay_problems

SEED = 9846

# What the messages and records of a trace show to be done
SHOWN = {
    "simple-1rtt": ("5.1-8", "5.1-20", "5.1-21", "5.3-1", "4.5.2-1", "4.5.3-4", "4.7.1-1"),
    "resumed-0rtt": ("4.3.10-1", "4.3.10-2", "4.6-1", "4.7.1-2"),
    "hello-retry-request": ("4.2.2-2", "4.2.4-1", "4.3.2-1", "4.3.2-2", "5.1-21"),
    "client-authentication": ("4.5.1-2", "4.5.2-2", "4.5.2-3", "4.5.2-5"),
    "compatibility-mode": ("E.4-1",),
}
REPLAYS = [
    pytest.param(
        outline.name,
        role,
        id=f"{outline.name}-{role}",
        marks=[
            pytest.mark.row(what=f"RFC 8448 §{outline.section} replay, {role}", against="RFC 8448"),
            *(pytest.mark.req(requirement) for requirement in SHOWN[outline.name]),
        ],
    )
    for outline in OUTLINES
    for role in PEER
]


def problems(shelf: library.Library, name: str, role: str) -> list[str]:
    """What the replay finds in one role."""
    trace = shelf.trace(name)
    resumed = trace.data["resumes"]
    return [
        str(problem)
        for problem in replay_role(trace, shelf.trace(resumed) if resumed else None, role)
    ]


@pytest.mark.parametrize(("name", "role"), REPLAYS)
def test_replay(name: str, role: str) -> None:
    assert problems(library.Library(), name, role) == []


@pytest.mark.row(what="flipped octets fail the replay", against="RFC 8448")
@pytest.mark.parametrize("name", library.TRACES)
def test_flips_fail_the_replay(name: str) -> None:
    report = flips.flip_document(name, SEED, replay_problems)
    assert report.survivors == []
    assert report.flips >= 2 * report.fields > 0
    assert all(flip.path.endswith(".private_key") for flip in report.without_information)


def test_check_says_whether_it_replays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--check"]) == cli.OK
    assert "replayed in both roles" in capsys.readouterr().out
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert cli.main(["--check"]) == cli.OK
    assert "not replayed (no tpmtls)" in capsys.readouterr().out


# -- what is not hex -------------------------------------------------------------------------------

Tamper = Callable[[dict[str, Any]], None]


def negotiate(key: str, value: Any) -> Tamper:
    return lambda document: document["negotiated"].update({key: value})


TAMPERED: dict[str, tuple[str, Tamper, str]] = {
    "a message is missing": ("simple-1rtt", drop("server.certificate_verify"), "server."),
    "a record is missing": ("simple-1rtt", drop("server.record_2"), "server"),
    "a ticket is missing": ("simple-1rtt", drop("server.new_session_ticket"), "server"),
    "a secret is missing": (
        "simple-1rtt",
        drop("server.exporter_secret"),
        "computes ('main_secret', 'exp master') besides",
    ),
    "a key pair is missing": ("hello-retry-request", drop("client.key_pair_2"), "no private key"),
    "records out of order": ("simple-1rtt", swap("client.record_3", "client.record_4"), "client."),
    "a number": ("simple-1rtt", put("client.record_3", 1, "sequence"), "client.record_3.sequence"),
    "an epoch": (
        "simple-1rtt",
        put("client.record_3", "handshake", "epoch"),
        "client.record_3.epoch",
    ),
    "a content type": (
        "compatibility-mode",
        put("client.record_2", "handshake", "content_type"),
        "client.record_2.content_type",
    ),
    "a label": ("simple-1rtt", put("server.exporter_secret", "exp main", "label"), "not computed"),
    "a length": ("simple-1rtt", put("server.exporter_secret", 33, "length"), "length: as server"),
    "a salt's name": (
        "simple-1rtt",
        put("server.main_secret", "zero", "salt", "name"),
        "has derived_for_main",
    ),
    "a transcript's end": (
        "simple-1rtt",
        put("server.server_verify_data", "server.certificate", "through"),
        "server.server_verify_data.through",
    ),
    "a lifetime": (
        "simple-1rtt",
        put("server.new_session_ticket", 31, "fields", "ticket_lifetime"),
        "as server: sends",
    ),
    "nothing injected": (
        "hello-retry-request",
        put("server.hello_retry_request", [], "injected"),
        "the cookie should be injected",
    ),
    "no random": (
        "simple-1rtt",
        put("client.client_hello", ["legacy_session_id"], "injected"),
        "lacks random",
    ),
    "a signature to make": (
        "client-authentication",
        put("client.certificate_verify", "exact", "reproduce"),
        "should be injected-and-verified",
    ),
    "a group": ("simple-1rtt", negotiate("group", "secp256r1"), "negotiated"),
    "a feature": ("resumed-0rtt", negotiate("features", ["psk_resumption"]), "resumed-0rtt"),
    "no resumption": ("resumed-0rtt", lambda document: document.update(resumes=None), "as client"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_tampering_fails_the_replay(what: str) -> None:
    name, tamper, expected = TAMPERED[what]
    shelf = library.Library()
    tamper(shelf.documents[name])
    found = [str(problem) for problem in replay_problems(shelf, name)]
    assert any(expected in problem for problem in found), found


# -- a reference that does otherwise ---------------------------------------------------------------


def other_label(length: int, label: bytes, context: bytes) -> bytes:
    return hkdf_label(length, label, context).replace(b"tls13 ", b"tls12 ")


def one_more(extensions: Callable[..., Extensions]) -> Callable[..., Extensions]:
    return lambda *args, **kwargs: Extensions((PostHandshakeAuth(), *extensions(*args, **kwargs)))


def constant(value: Any) -> Callable[[Any], Any]:
    return lambda _original: value


def crash(*_: Any) -> None:
    raise RuntimeError("out of order")


# What of the reference becomes what, and how the replay in one role notices
MUTANTS: dict[str, tuple[Any, str, Callable[[Any], Any], str, str, str]] = {
    "another HKDF label": (
        *(software, "hkdf_label", constant(other_label)),
        *("simple-1rtt", "client", "cannot be deprotected"),
    ),
    "an octet of padding": (
        *(RecordWriter, "_pad", constant(lambda *_: 1)),
        *("simple-1rtt", "client", "client.record_2.record: as client: sends 1703030036"),
    ),
    "smaller records": (
        *(RecordWriter, "_fragment_size", constant(lambda _: 64)),
        *("simple-1rtt", "server", "server.record_1.record"),
    ),
    "other content signed": (
        *(authentication, "signature_content"),
        lambda original: lambda role, digest: original("server", digest),
        *("client-authentication", "client", "client.certificate_verify.fields.signature"),
    ),
    "another age": (
        *(SessionTicket, "obfuscated_age"),
        lambda original: lambda *args: original(*args) + 1,
        *("resumed-0rtt", "client", "client.record_1.record"),
    ),
    "an extension too many": (
        *(client_hello, "_extensions", one_more),
        *("simple-1rtt", "client", "post_handshake_auth is sent as well"),
    ),
    "another change_cipher_spec": (
        *(base, "CHANGE_CIPHER_SPEC_RECORD", constant(bytes.fromhex("140301000101"))),
        *("compatibility-mode", "server", "server.record_2.record: as server: sends 140301"),
    ),
    "a fatal close_notify": (
        *(base, "_CLOSURE_ALERTS", constant(())),
        *("simple-1rtt", "server", "server.record_5.record"),
    ),
    "a ticket where there was none": (
        *(configuration, "new_session_tickets"),
        constant(lambda _: library.load_trace("simple-1rtt").messages("server")[-1:]),
        *("compatibility-mode", "server", "there are more tickets than recorded"),
    ),
    "a crash": (
        *(client, "check_finished", constant(crash)),
        *("simple-1rtt", "client", "cannot be replayed: out of order"),
    ),
}


@pytest.mark.parametrize("what", MUTANTS)
def test_other_behaviour_fails_the_replay(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, change, name, role, expected = MUTANTS[what]
    monkeypatch.setattr(owner, attribute, change(getattr(owner, attribute)))
    found = problems(library.Library(), name, role)
    assert any(expected in problem for problem in found), found
