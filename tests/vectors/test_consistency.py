"""Every value follows from others; what does not is found and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vectors.vectorlib import library, names
from vectors.vectorlib.trace import Step, Trace

Tamper = Callable[[dict[str, Any]], None]


@pytest.mark.row(what="every value recomputed", against="RFC 8448")
@pytest.mark.parametrize("name", [*library.TRACES, "keys"])
def test_rfc8448(name: str) -> None:
    assert [str(problem) for problem in library.Library().problems(name)] == []


@pytest.mark.row(what="every value recomputed", against="RFC 5869")
def test_rfc5869() -> None:
    assert [str(problem) for problem in library.Library().problems("hkdf")] == []


def test_sums() -> None:
    assert list(library.sums_problems()) == []


def step(document: dict[str, Any], identifier: str) -> Step:
    found: Step = next(one for one in document["steps"] if one["id"] == identifier)
    return found


def drop(identifier: str) -> Tamper:
    return lambda document: document["steps"].remove(step(document, identifier))


def put(identifier: str, value: Any, *path: str) -> Tamper:
    def tamper(document: dict[str, Any]) -> None:
        holder = step(document, identifier)
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value

    return tamper


def negotiate(key: str, value: Any) -> Tamper:
    return lambda document: document["negotiated"].update({key: value})


def swap(first: str, second: str) -> Tamper:
    def tamper(document: dict[str, Any]) -> None:
        steps = document["steps"]
        one, other = (steps.index(step(document, name)) for name in (first, second))
        steps[one], steps[other] = steps[other], steps[one]

    return tamper


TAMPERED: dict[str, tuple[Tamper, str]] = {
    "a secret is missing": (drop("client.resumption_secret"), "resumption_secret"),
    "a message is missing": (drop("server.certificate"), "server.certificate"),
    "a record is missing": (drop("client.record_3"), "client.record_4.sequence"),
    "records out of order": (swap("client.record_3", "client.record_4"), "sequence"),
    "a repeated id": (put("client.record_2", "client.record_1", "id"), "two steps"),
    "another role's id": (put("client.record_2", "server", "by"), "id and role"),
    "a sighting of nothing": (
        put("client.main_secret", "server.early_secret", "same_as"),
        "client.main_secret.same_as",
    ),
    "a label": (put("server.exporter_secret", "res master", "label"), "label"),
    "a parent": (put("server.exporter_secret", "handshake_secret", "prk", "name"), "prk.name"),
    "a transcript": (
        put("server.exporter_secret", "client.finished", "transcript", "through"),
        "transcript.through",
    ),
    "a length": (put("server.exporter_secret", 33, "length"), "info"),
    "a salt": (put("server.main_secret", "zero", "salt", "name"), "salt"),
    "a direction": (put("server.server_handshake_keys", "read", "direction"), "prk.name"),
    "an epoch": (put("client.record_2", "application", "epoch"), "client.record_2.record"),
    "a content type": (put("client.record_4", "handshake", "content_type"), "client.record_4"),
    "a group": (negotiate("group", "secp256r1"), "negotiated"),
    "a feature": (negotiate("features", []), "negotiated"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_tampering_is_found(what: str) -> None:
    tamper, expected = TAMPERED[what]
    shelf = library.Library()
    tamper(shelf.documents["simple-1rtt"])
    found = [str(problem) for problem in shelf.problems("simple-1rtt")]
    assert any(expected in problem for problem in found), found


def test_resumption_is_tied_to_the_trace_it_resumes() -> None:
    shelf = library.Library()
    ticket = step(shelf.documents["simple-1rtt"], "server.new_session_ticket")["fields"]
    ticket["ticket"] = "00" + ticket["ticket"][2:]
    assert any("ticket" in problem.what for problem in shelf.problems("resumed-0rtt"))
    shelf.documents["resumed-0rtt"]["resumes"] = None
    found = {problem.path for problem in shelf.problems("resumed-0rtt")}
    assert {"resumes", "client.early_secret.ikm.value"} <= found


@pytest.mark.parametrize("name", library.TRACES)
def test_both_roles_are_seen_to_derive_every_secret(name: str) -> None:
    trace = library.load_trace(name)
    for role in names.PEER:
        derived = {one["id"].split(".")[1] for one in trace.steps if one["by"] == role}
        missing = names.EXTRACTIONS.keys() | names.DERIVATIONS.keys()
        missing -= derived | {"client_early_traffic_secret", "early_exporter_secret"}
        assert not missing, role


def values_at(path: str, holder: Any) -> Any:
    for key in path.split("."):
        holder = holder[key]
    return holder


@pytest.mark.parametrize("name", library.TRACES)
def test_lines_are_those_of_the_values(name: str, rfc8448: Any) -> None:
    lines = rfc8448.read_text("ascii").split("\n")
    trace = library.load_trace(name)
    for one in trace.steps:
        assert one["source"]["page"] == 1 + sum(
            "[Page " in line for line in lines[: one["source"]["line"]]
        )
        assert f"{{{one['by']}}}" in lines[one["source"]["line"] - 1]
        for path, line in one["source"]["values"].items():
            printed = lines[line - 1].partition(":  ")[2]
            value = values_at(path, trace.step(one["id"]))
            if printed[0] in "0(" and "(" in printed:
                assert set(value) <= {"0"}
            else:
                assert value.startswith(printed.replace(" ", ""))


def test_views_of_a_trace() -> None:
    trace: Trace = library.load_trace("simple-1rtt")
    assert repr(trace) == "<Trace simple-1rtt: 55 steps>"
    assert [sender for sender, _ in trace.flights()][:3] == ["client", "server", "client"]
    assert len(trace.records("server")) + len(trace.records("client")) == len(trace.records())
    assert trace.key_pairs("client")[0].group == "x25519"
    assert trace.message("server.new_session_ticket").injected[-1] == "ticket"
    assert trace.secrets()["early_secret"].hex().startswith("33ad0a1c")
    assert trace.transcript("client.client_hello") == trace.messages("client")[0].octets
    assert library.load_trace("hello-retry-request").transcript("server.server_hello")[0] == 254
    with pytest.raises(KeyError, match="early keys"):
        trace.traffic_keys("client", "early")
