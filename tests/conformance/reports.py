"""A report of a run that never was, with every verdict in it."""

from __future__ import annotations

from tlsconform.report import Report, Target
from tlsconform.verdicts import Result, Verdict


def result(test: str, verdict: Verdict, *requirements: str, **more) -> Result:
    return Result(f"server/{test}", "server", requirements, verdict, **more)


RESULTS = (
    result("test_a.py::test_conforms", Verdict.CONFORMS, "4.2.2-16", title="Null compression."),
    result(
        "test_a.py::test_violates",
        Verdict.VIOLATES,
        "4.2.2-7",
        reason="expected alert protocol_version; got <silence>",
        expected="alert protocol_version",
        got="<silence>",
        replay="tlsconform server localhost:4433 -k 'test_violates'",
        evidence=("-> client_hello", "     > legacy_version 0304   <- set to 0x304"),
    ),
    result(
        "test_a.py::test_closes_silently",
        Verdict.DEVIATES,
        "4.2.2-3",
        expected="alert unexpected_message",
        got="the connection closed without an alert",
        broken="6.2-2",
    ),
    result("test_a.py::test_breaks_another_rule", Verdict.VIOLATES, "4.2.1-1", broken="5.1-12"),
    result("test_a.py::test_lacks", Verdict.NOT_APPLICABLE, "4.2.1-3", reason="no retry"),
    result(
        "test_a.py::test_known",
        Verdict.VIOLATES,
        "4.2.2-13",
        expected_failure="ticket 123",
    ),
)
REPORT = Report(
    version="1.2.3",
    date="2026-01-02T03:04:05+00:00",
    rfc="9846",
    level="must",
    seed=7,
    command="tlsconform server localhost:4433",
    seconds=1.5,
    targets=(Target("server", "localhost:4433", {"tickets": 2, "alpn": ["h2"], "tls12": False}),),
    results=RESULTS,
)
