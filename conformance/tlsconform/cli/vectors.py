"""Known answers for TLS 1.3 as JSON: list them, find them, check them against the reference.

The traces of RFC 8448, the HKDF cases of RFC 5869, protected records of every cipher suite, and
Project Wycheproof's AES-GCM and AES-CCM. --path says where they are, to read them from tests of
your own; each file names its JSON Schema, which describes every property.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import tlsconform
from tlsconform.cli.exits import SUCCESS, VIOLATED, CommandError

SUMMARY: Final = "list the vectors, say where they are, or check them"
EPILOG: Final = """\
examples:
  tlsconform vectors                                                which there are
  jq .negotiated "$(tlsconform vectors --path)/rfc8448/simple-1rtt.json"
  tlsconform vectors --check

--check looks at each file's digest and schema, recomputes every value from the others without the
reference, and then asks the reference: it replays the traces as client and as server, octet for
octet, and seals and opens the AEAD cases.

exit status:
  0 success    1 --check found a difference    2 usage, or the vectors are not installed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `tlsconform vectors`."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--path", action="store_true", help="print the folder that they are in")
    how.add_argument("--check", action="store_true", help="check them, and the reference by them")


def run(arguments: argparse.Namespace) -> int:
    """List, locate or check; returns the exit status."""
    library = vectorlib("library")
    if arguments.path:
        print(library.ROOT)
    elif arguments.check:
        return _check(vectorlib("cli"))
    else:
        _list(library)
    return SUCCESS


def _list(library: ModuleType) -> None:
    for name, path in library.FILES.items():
        try:
            print(f"{path:<36}{_describe(library.load(name))}")
        except (OSError, ValueError, LookupError, TypeError):
            raise CommandError(f"{path} cannot be read; --check says what is wrong") from None


def _check(checks: ModuleType) -> int:
    problems = list(checks.check())
    for problem in problems:
        print(problem)
    if not problems:
        print(checks.describe_check({}))
    return VIOLATED if problems else SUCCESS


def vectorlib(module: str) -> ModuleType:
    """A module of what reads and checks the vectors: from the wheel, or from a clone."""
    here = Path(tlsconform.__file__).parent
    if (here / "vectors").is_dir():
        return importlib.import_module(f"tlsconform.vectors.vectorlib.{module}")
    clone = here.parent.parent
    if not (clone / "vectors" / "vectorlib").is_dir():
        raise CommandError("the vectors are not installed: run this from a wheel or from a clone")
    if str(clone) not in sys.path:
        sys.path.append(str(clone))
    return importlib.import_module(f"vectors.vectorlib.{module}")


def _describe(document: Mapping[str, Any]) -> str:
    source = document["source"]
    origin = source["document"] + (f" §{source['section']}" if "section" in source else "")
    if "steps" in document:
        return f"{origin}: {len(document['steps'])} steps. {document['summary']}"
    if "cases" in document:
        return f"{origin}: {len(document['cases'])} cases{_of(document.get('algorithm'))}"
    return f"{origin}: the RSA key; {len(document['certificates'])} certificates of the traces"


def _of(algorithm: str | None) -> str:
    return "" if algorithm is None else f" of {algorithm}"
