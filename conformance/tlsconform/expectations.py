"""Failures that a user expects, with the reason: a TOML file, so that a run can be kept green.

[[expected]]
test = "test_key_share.py::test_zero_share*"    # a pattern for the end of the test's name
reason = "our library closes without an alert, ticket 123"
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path


@dataclass(frozen=True)
class Expectation:
    """One pattern and its reason."""

    test: str
    reason: str

    def matches(self, nodeid: str) -> bool:
        """Whether the pattern is for that test."""
        return nodeid == self.test or fnmatchcase(nodeid, f"*{self.test}")


@dataclass(frozen=True)
class Expectations:
    """The expected failures of a run."""

    entries: tuple[Expectation, ...] = ()

    @classmethod
    def load(cls, path: str | None) -> Expectations:
        """From a file; none without one. Raises ValueError that says what is wrong with it."""
        if path is None:
            return cls()
        try:
            data = tomllib.loads(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ValueError(f"cannot read {path}: {reason}") from None
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path}: {error}") from None
        tables = data.get("expected", [])
        if set(data) - {"expected"} or not isinstance(tables, list):
            raise ValueError(f"{path}: it holds [[expected]] tables and nothing else")
        return cls(tuple(_entry(path, table) for table in tables))

    def reason(self, nodeid: str) -> str | None:
        """Why the test is expected to fail; None where it is not."""
        return next((e.reason for e in self.entries if e.matches(nodeid)), None)


def _entry(path: str, table: object) -> Expectation:
    if not isinstance(table, dict) or set(table) != {"test", "reason"}:
        raise ValueError(f"{path}: each [[expected]] has a test and a reason, and nothing else")
    test, reason = table["test"], table["reason"]
    if not isinstance(test, str) or not isinstance(reason, str) or not test or not reason.strip():
        raise ValueError(f"{path}: test and reason are text, and neither is empty")
    return Expectation(test, reason)
