"""What every test has: the table of `./dev conformance`, pytest's tester, hypothesis's profile, and
certificates, made once.
"""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

from tests.pki import Pki

pytest_plugins = ["pytester", "tests.table"]

# The same examples in every run, on any machine; HYPOTHESIS_PROFILE=explore draws others.
settings.register_profile(
    "reproducible", derandomize=True, deadline=None, max_examples=60, database=None
)
settings.register_profile("explore", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "reproducible"))

# A shell has what it runs in the background ignore Ctrl-C, and so would the programs of our tests.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Authorities, and certificates of every kind."""
    return Pki(tmp_path_factory.mktemp("pki"))
