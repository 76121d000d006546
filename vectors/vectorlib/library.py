"""The committed documents: where they are, how they are written, how they are checked."""

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .aead_cases import WYCHEPROOF, record_problems
from .consistency import trace_problems
from .documents import OUTLINES
from .hkdf_cases import hkdf_problems
from .keys import key_problems
from .problems import Problem
from .trace import Trace

ROOT: Final = Path(__file__).resolve().parent.parent
SUMS: Final = ROOT / "SHA256SUMS"
TRACES: Final = tuple(outline.name for outline in OUTLINES)
# Document name → path under vectors/, and the schema it follows
PATHS: Final = {name: f"rfc8448/{name}.json" for name in TRACES} | {
    "keys": "rfc8448/keys.json",
    "hkdf": "rfc5869/hkdf.json",
    "records": "aead/records.json",
}
# What others collected, held by the sums: a case that must be refused follows from nothing
COLLECTED: Final = {name: f"aead/{name}.json" for name in WYCHEPROOF}
FILES: Final = PATHS | COLLECTED
SCHEMAS: Final = (
    dict.fromkeys(TRACES, "trace")
    | {"keys": "keys", "hkdf": "hkdf", "records": "aead-records"}
    | dict.fromkeys(COLLECTED, "aead-wycheproof")
)

Document = dict[str, Any]


def encode(document: Document) -> bytes:
    """A document as its file has it, octet for octet."""
    return json.dumps(document, indent=2).encode("ascii") + b"\n"


def load(name: str) -> Document:
    """A committed document by its name."""
    document: Document = json.loads((ROOT / FILES[name]).read_bytes())
    return document


def load_trace(name: str) -> Trace:
    """A committed trace by its name, such as `simple-1rtt`."""
    return Trace(load(name))


def sums() -> str:
    """What SHA256SUMS must say; `sha256sum -c SHA256SUMS` reads it too."""
    digests = {path: hashlib.sha256((ROOT / path).read_bytes()) for path in sorted(FILES.values())}
    return "".join(f"{digest.hexdigest()}  {path}\n" for path, digest in digests.items())


@dataclass
class Library:
    """All documents together, as the checks of one may need another."""

    documents: dict[str, Document] = field(
        default_factory=lambda: {name: load(name) for name in PATHS}
    )

    def trace(self, name: str) -> Trace:
        """A trace of this library."""
        return Trace(self.documents[name])

    def traces(self) -> list[Trace]:
        """All traces, in the RFC's order."""
        return [self.trace(name) for name in TRACES]

    def problems(self, name: str) -> Iterator[Problem]:
        """Every value of a document that does not follow from the others."""
        if name == "hkdf":
            return hkdf_problems(self.documents[name])
        if name == "records":
            return record_problems(self.documents[name])
        if name == "keys":
            return self._key_problems()
        trace = self.trace(name)
        resumed = trace.data["resumes"]
        return trace_problems(trace, self.trace(resumed) if resumed in self.documents else None)

    def _key_problems(self) -> Iterator[Problem]:
        try:
            yield from key_problems(self.documents["keys"], self.traces())
        except (ValueError, ArithmeticError) as error:
            yield Problem("keys", "rsa_private_key", f"cannot be computed: {error}")


def schema(name: str) -> Document:
    """The JSON Schema that a document follows."""
    found: Document = json.loads((ROOT / "schema" / f"{SCHEMAS[name]}.schema.json").read_bytes())
    return found


def can_validate() -> bool:
    """Whether `jsonschema` is installed."""
    return importlib.util.find_spec("jsonschema") is not None


def schema_problems(name: str, document: Document) -> Iterator[Problem]:
    """Where a document does not follow its schema."""
    jsonschema = importlib.import_module("jsonschema")
    for error in jsonschema.Draft202012Validator(schema(name)).iter_errors(document):
        path = ".".join(str(part) for part in error.absolute_path) or "document"
        yield Problem(name, path, str(error.message)[:200])


def sums_problems() -> Iterator[Problem]:
    """Where SHA256SUMS and the files disagree: it alone holds bits that mean nothing."""
    if not SUMS.exists():
        yield Problem("SHA256SUMS", "file", "is missing")
        return
    stated, actual = SUMS.read_text("ascii").splitlines(), sums().splitlines()
    for line in sorted(set(stated) ^ set(actual)):
        yield Problem(
            "SHA256SUMS",
            line.split("  ")[-1],
            "has another digest" if line in actual else "is stated otherwise",
        )
