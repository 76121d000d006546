"""What a test can find out about an implementation, beside that it conforms.

Each is an exception that ends the test; the plugin turns it into a verdict on the requirements that
the test is marked with.
"""

from __future__ import annotations


class Finding(Exception):
    """Base of what the implementation under test did wrong: what was expected, what was seen.

    `requirement` is the ID of RFC 9846 that was broken where that is not one of the test's own.
    """

    def __init__(self, expected: str, got: str, requirement: str | None = None) -> None:
        self.expected = expected
        self.got = got
        self.requirement = requirement
        clause = f" (RFC 9846 {requirement})" if requirement else ""
        super().__init__(f"expected {expected}; got {got}{clause}")


class NonConformance(Finding):
    """It broke what the test is about; how bad that is, the requirement's level says."""


class Deviation(Finding):
    """It departed from a recommendation (SHOULD), while what the test is about was kept."""


class NotApplicable(Exception):
    """The implementation lacks what the test needs; `reason` says what."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class TargetUnavailable(Exception):
    """There is nothing to talk to: no server listens, or the client's command cannot be run."""
