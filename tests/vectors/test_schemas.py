"""The schemas are strict and described, and the documents follow them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from vectors.vectorlib import library

SCHEMAS = sorted(set(library.SCHEMAS.values()))
DOCUMENT_OF = {schema: name for name, schema in library.SCHEMAS.items()}


@pytest.mark.parametrize("name", library.PATHS)
def test_document_follows_its_schema(name: str) -> None:
    assert list(library.schema_problems(name, library.load(name))) == []


def properties(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each property that a schema declares, wherever it stands."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "properties" and path.rsplit(".", maxsplit=1)[-1] not in {
                "if",
                "then",
                "not",
            }:
                for name, declared in value.items():
                    yield f"{path}.{name}", declared
            yield from properties(value, f"{path}.{key}")
    elif isinstance(schema, list):
        for position, value in enumerate(schema):
            yield from properties(value, f"{path}.{position}")


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_one_and_describes_every_property(name: str) -> None:
    schema = library.schema(DOCUMENT_OF[name])
    jsonschema.Draft202012Validator.check_schema(schema)
    undescribed = [path for path, declared in properties(schema) if not declared.get("description")]
    assert undescribed == []


def objects(document: Any) -> Iterator[dict[str, Any]]:
    """Each object in a document, except those whose keys are data."""
    if isinstance(document, dict):
        yield document
        for key, value in document.items():
            if key != "values":
                yield from objects(value)
    elif isinstance(document, list):
        for value in document:
            yield from objects(value)


@pytest.mark.parametrize("name", library.PATHS)
def test_no_object_takes_another_property(name: str) -> None:
    document = library.load(name)
    validator = jsonschema.Draft202012Validator(library.schema(name))
    for one in objects(document):
        one["colour"] = "red"
        assert not validator.is_valid(document), one.keys()
        del one["colour"]
    assert validator.is_valid(document)


@pytest.mark.parametrize("value", ["0", "AB", "a b", "0x00", "zz"])
def test_hex_is_typed(value: str) -> None:
    document = library.load("hkdf")
    document["cases"][0]["ikm"] = value
    assert list(library.schema_problems("hkdf", document))
