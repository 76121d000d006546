"""The catalogue of RFC 9846's requirements.

`requirement("4.3.8-15")` is one of them, `select(role=Role.CLIENT)` are many, and
`all_requirements()` is all.
"""

from tlsconform.requirements.catalogue import all_requirements, differences, requirement, select
from tlsconform.requirements.entries import (
    CatalogueError,
    Level,
    Method,
    Requirement,
    Role,
    Strength,
)
from tlsconform.requirements.rfc_text import Statement, TextError, read_statements

__all__ = [
    "CatalogueError",
    "Level",
    "Method",
    "Requirement",
    "Role",
    "Statement",
    "Strength",
    "TextError",
    "all_requirements",
    "differences",
    "read_statements",
    "requirement",
    "select",
]
