"""An audit as JSON; `audit.schema.json` beside this module is its schema."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from typing import Any, Final

from tpmtls.audit.model import Audit

SCHEMA: Final = "audit.schema.json"


def to_document(audit: Audit) -> dict[str, Any]:
    """The object; its names are those of `model`, and it says which schema it is under."""
    return {"$schema": SCHEMA, **asdict(audit)}


def schema() -> dict[str, Any]:
    """The schema, JSON Schema 2020-12."""
    found: dict[str, Any] = json.loads(files(__package__).joinpath(SCHEMA).read_text("utf-8"))
    return found
