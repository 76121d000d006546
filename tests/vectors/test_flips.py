"""Changing any octet of any vector is noticed, without the RFC's text."""

from __future__ import annotations

from typing import Any

import pytest

from vectors.vectorlib import flips, library

SEED = 9846


@pytest.mark.row(what="flipped octets noticed", against="RFC 8448 and RFC 5869")
@pytest.mark.parametrize("name", library.PATHS)
def test_flips_are_noticed(name: str) -> None:
    report = flips.flip_document(name, SEED)
    assert report.survivors == []
    assert report.flips >= 2 * report.fields > 0
    assert all(flip.path.endswith(".private_key") for flip in report.without_information)


def typed_as_hex(schema: Any, document: Any, root: Any) -> int:
    """How many non-empty values of a document its schema types as hex, counted by the schema."""
    schema = resolved(schema, document, root)
    if "pattern" in schema and "[0-9a-f]{" in schema["pattern"].replace(")*", "{"):
        return bool(document)
    parts = 0
    if isinstance(document, dict):
        for key, value in document.items():
            parts += typed_as_hex(schema.get("properties", {}).get(key, {}), value, root)
    if isinstance(document, list):
        parts += sum(typed_as_hex(schema.get("items", {}), value, root) for value in document)
    return parts


def resolved(schema: Any, document: Any, root: Any) -> Any:
    """A schema with its references, conditions and alternatives followed."""
    merged = dict(schema)
    if "$ref" in schema:
        merged = resolved(root["$defs"][schema["$ref"].rpartition("/")[2]], document, root)
    for part in schema.get("anyOf", []):
        if document is not None and "$ref" in part:
            merged |= resolved(part, document, root)
    for part in schema.get("oneOf", []):
        if part["properties"]["type"]["const"] == document["type"]:
            merged |= part
    conditions = [*merged.get("allOf", []), *([merged] if "if" in merged else [])]
    for part in conditions:
        branch = part.get("then" if holds(part["if"], document) else "else", {})
        found = resolved(branch, document, root)
        merged["properties"] = merged.get("properties", {}) | found.get("properties", {})
    return merged


def holds(condition: Any, document: Any) -> bool:
    consts = condition.get("properties", {}).items()
    required = all(key in document for key in condition.get("required", []))
    return required and all(document.get(key) == wanted["const"] for key, wanted in consts)


@pytest.mark.parametrize("name", library.PATHS)
def test_every_hex_value_is_flipped(name: str) -> None:
    document = library.load(name)
    schema = library.schema(name)
    counted = typed_as_hex(schema, document, schema)
    assert len(list(flips.hex_fields(document))) == counted > 0


@pytest.mark.parametrize("name", library.TRACES)
def test_bits_without_information_are_held_by_the_sums(name: str) -> None:
    document = library.load(name)
    for one in flips.hex_fields(document):
        if one.key == "private_key":
            octets = bytearray.fromhex(one.value)
            octets[0] ^= 1
            one.holder[one.key] = octets.hex()
            assert library.encode(document) != (library.ROOT / library.PATHS[name]).read_bytes()


def test_a_survivor_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.Library, "problems", lambda *_: iter(()))
    report = flips.flip_document("hkdf", SEED)
    assert report.caught == 0
    assert report.survivors[0].path.startswith("cases[1].")
