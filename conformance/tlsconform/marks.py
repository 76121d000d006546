"""How tests of the suite say what they are about.

@req("4.2.2-16")
@needs("resumption")
def test_…(client): …
"""

from __future__ import annotations

import pytest


def req(*identifiers: str) -> pytest.MarkDecorator:
    """The requirements of RFC 9846 that the test's verdict is about, the main one first."""
    return pytest.mark.req(*identifiers)


def needs(*features: str) -> pytest.MarkDecorator:
    """Features without which the test is not applicable: fields of `ServerFeatures` or
    `ClientFeatures`, or `groups:x448`."""
    return pytest.mark.needs(*features)
