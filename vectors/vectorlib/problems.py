"""What a check reports."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that does not hold: in which document, at which path in it, and what."""

    document: str
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.document}: {self.path}: {self.what}"
