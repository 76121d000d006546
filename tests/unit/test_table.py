"""The table of `./dev conformance`: rows, verdicts, totals, exit status; alone and under xdist."""

from __future__ import annotations

import pytest

from tests import table

TESTS = """
    import pytest

    @pytest.mark.row(what="1-RTT", against="OpenSSL", version="3.0.19")
    @pytest.mark.parametrize("group", ["x25519", "secp256r1", "x448"])
    def test_marked(group):
        if group == "x448":
            pytest.skip("the peer has no x448")

    def test_named_at_run_time(row):
        row(what="a transfer", against="GnuTLS", version="3.7.9")

    @pytest.mark.row(what="1-RTT", against="OpenSSL")
    def test_marked_then_renamed(row):
        row(what="a transfer", against="GnuTLS")

    def test_unnamed():
        pass
"""

FAILING = """
    import pytest

    @pytest.fixture
    def broken():
        raise OSError("no such peer")

    def test_fails(row):
        row(what="fails", against="a peer")
        assert "left" == "right"

    def test_breaks(row, broken):
        pass

    @pytest.mark.row(what="expected", against="a peer")
    @pytest.mark.xfail(strict=True)
    def test_expected():
        assert False
"""

alone_and_in_parallel = pytest.mark.parametrize(
    "arguments", [[], ["-n", "2"]], ids=["alone", "in parallel"]
)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """In a process of its own only where xdist's workers must find the plugin by its name."""
    if arguments:
        return pytester.runpytest_subprocess(
            "-p", "xdist", "-p", "tests.table", "--table", *arguments
        )
    return pytester.runpytest_inprocess("--table", plugins=[table])


@pytest.fixture(autouse=True)
def _pytest_of_its_own(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take a second each to load
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))


@alone_and_in_parallel
def test_rows_in_the_order_of_the_tests(pytester: pytest.Pytester, arguments: list[str]) -> None:
    pytester.makepyfile(TESTS)
    result = run(pytester, *arguments)
    assert result.ret == 0
    result.stdout.re_match_lines(
        [
            r"what +against +verdict +tests +time$",
            r"-+$",
            r"1-RTT +OpenSSL 3\.0\.19 +skip 1 of 3 +3 +\d+ ms$",
            r"a transfer +GnuTLS 3\.7\.9 +pass +2 +\d+ ms$",
            r"rows_in_the_order_of_the_tests +- +pass +1 +\d+ ms$",
            r"-+$",
            r"3 rows, 6 tests: 5 passed, 1 skipped, in [\d.]+ m?s$",
            r"skipped: the peer has no x448: 1-RTT \(OpenSSL 3\.0\.19\)$",
            r"5 passed, 1 skipped in .*",
        ],
        consecutive=True,
    )


@alone_and_in_parallel
def test_failures_come_after_the_table(pytester: pytest.Pytester, arguments: list[str]) -> None:
    pytester.makepyfile(FAILING)
    result = run(pytester, *arguments)
    assert result.ret == 1
    result.stdout.re_match_lines(
        [
            r"fails +a peer +FAIL +1 ",
            r"failures_come_after_the_table +- +ERROR +1 ",
            r"expected +a peer +xfail +1 ",
            r"3 rows, 3 tests: 1 xfailed, 1 failed, 1 error, in ",
            r"=+ ERRORS =+$",
            r".*OSError: no such peer",
            r"=+ FAILURES =+$",
            r".*assert 'left' == 'right'",
            r"FAILED .*::test_fails",
            r"ERROR .*::test_breaks",
        ]
    )


def test_dots_where_there_is_no_terminal(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(): pass\ndef test_two(): assert 0")
    run(pytester).stdout.re_match_lines([r"\.F$", r"$", r"what +against"], consecutive=True)


def test_without_the_option_pytest_is_as_ever(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess(plugins=[table])
    result.stdout.no_re_match_line(r"what +against")
    result.stdout.re_match_lines([r"=+ test session starts =+", r".*\.\.s\.\.\. +\[100%\]"])


def test_nothing_ran(pytester: pytest.Pytester) -> None:
    result = run(pytester)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["0 rows, 0 tests: nothing ran, in *"])


def test_long_names_are_wrapped(pytester: pytest.Pytester) -> None:
    what, against = "one thing after another " * 6, "a peer with a long name " * 4
    pytester.makepyfile(f"def test_it(row): row(what={what!r}, against={against!r})")
    result = run(pytester)
    lines = result.stdout.lines
    assert max(map(len, lines)) == table.WIDTH
    start = next(number for number, line in enumerate(lines) if line.startswith("one thing"))
    assert lines[start].split()[-4:-2] == ["pass", "1"]
    shown = " ".join(lines[start : lines.index("-" * table.WIDTH, start)])
    assert shown.count("another") == 6
    assert shown.count("name") == 4


def test_a_bad_marker_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.row(whatever='1-RTT')\ndef test_it(): pass")
    run(pytester).assert_outcomes(errors=1)
