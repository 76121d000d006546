"""How tests of the suite say what they are about.

@req("4.2.2-16")
@needs("resumption")
def test_…(client): …
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

SUITE_FOLDER: Final = Path(__file__).parent / "suite"


def req(*identifiers: str) -> pytest.MarkDecorator:
    """The requirements of RFC 9846 that the test's verdict is about, the main one first."""
    return pytest.mark.req(*identifiers)


def needs(*features: str) -> pytest.MarkDecorator:
    """Features without which the test is not applicable: fields of `ServerFeatures` or
    `ClientFeatures`, or `groups:x448`."""
    return pytest.mark.needs(*features)


def role_of(item: pytest.Item) -> str | None:
    """Which role a test of the suite examines; None for other tests."""
    for role in ("server", "client"):
        if SUITE_FOLDER / role in item.path.parents:
            return role
    return None
