"""What every test has: the table of `./dev conformance`, pytest's tester, hypothesis's profile."""

from __future__ import annotations

import os

from hypothesis import settings

pytest_plugins = ["pytester", "tests.table"]

# The same examples in every run, on any machine; HYPOTHESIS_PROFILE=explore draws others.
settings.register_profile(
    "reproducible", derandomize=True, deadline=None, max_examples=60, database=None
)
settings.register_profile("explore", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "reproducible"))
