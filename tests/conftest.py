"""What every test has: the table of `./dev conformance`, and pytest's own tester for it."""

from __future__ import annotations

pytest_plugins = ["pytester", "tests.table"]
