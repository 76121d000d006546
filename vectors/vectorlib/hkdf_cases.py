"""RFC 5869's test cases: from the RFC's text to JSON, and recomputed."""

import re
from collections.abc import Iterator
from typing import Any, Final

from . import kdf
from .problems import Problem
from .rfc_text import Line, RfcTextError, section

CASES: Final = 7
_FIELD: Final = re.compile(r"^   (?P<name>Hash|IKM|salt|info|L|PRK|OKM) +=(?P<value>.*)$")
_COUNT: Final = re.compile(r"\((\d+) octets\)$")
_HASHES: Final = {"SHA-256": "sha256", "SHA-1": "sha1"}


def build_hkdf(lines: list[Line]) -> dict[str, Any]:
    """The whole JSON document."""
    return {
        "$schema": "../schema/hkdf.schema.json",
        "source": {"document": "RFC 5869", "section": "A"},
        "cases": [_case(number, section(lines, f"A.{number}")) for number in range(1, CASES + 1)],
    }


def _case(number: int, lines: list[Line]) -> dict[str, Any]:
    fields: dict[str, str] = {}
    where: dict[str, int] = {}
    name = ""
    for line in lines[1:]:
        match = _FIELD.match(line.text)
        if match:
            name = match["name"]
            fields[name], where[name] = match["value"].strip(), line.number
        elif name and line.text.startswith(" " * 10):
            fields[name] += line.text.strip()
    try:
        octets = {key: _octets(key, fields[key]) for key in ("IKM", "salt", "info", "PRK", "OKM")}
        return {
            "id": number,
            "hash": _HASHES[fields["Hash"]],
            "ikm": octets["IKM"],
            "salt": octets["salt"],
            "info": octets["info"],
            "length": int(fields["L"]),
            "prk": octets["PRK"],
            "okm": octets["OKM"],
            "source": {
                "section": f"A.{number}",
                "page": lines[0].page,
                "line": lines[0].number,
                "values": {_path(key): line for key, line in where.items()},
            },
        }
    except (KeyError, ValueError) as error:
        raise RfcTextError(f"line {lines[0].number}: not a test case ({error})") from error


def _path(name: str) -> str:
    return "length" if name == "L" else name.lower()


def _octets(name: str, text: str) -> str | None:
    """Hex of a field; None where the RFC says that it is not provided."""
    if text.startswith("not provided"):
        return None
    count = _COUNT.search(text)
    digits = _COUNT.sub("", text).strip().removeprefix("0x")
    if count is None or len(bytes.fromhex(digits)) != int(count[1]):
        raise ValueError(f"{name} has not the stated length")
    return digits


def hkdf_problems(document: dict[str, Any]) -> Iterator[Problem]:
    """Every PRK and OKM that is not what its inputs give."""
    if [case["id"] for case in document["cases"]] != list(range(1, CASES + 1)):
        yield Problem("hkdf", "cases", f"not cases 1 to {CASES} in order")
    for case in document["cases"]:
        path = f"case {case['id']}"
        salt, ikm, info = (bytes.fromhex(case[name] or "") for name in ("salt", "ikm", "info"))
        prk = kdf.extract(case["hash"], salt, ikm)
        if prk.hex() != case["prk"]:
            yield Problem("hkdf", f"{path}: prk", "is not what salt and IKM give")
        if kdf.expand(case["hash"], prk, info, case["length"]).hex() != case["okm"]:
            yield Problem("hkdf", f"{path}: okm", "is not what PRK, info and length give")
