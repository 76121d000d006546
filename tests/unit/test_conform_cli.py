"""`tlsconform`, and `tlsconform requirements`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import rfc
from tlsconform.cli import main
from tlsconform.requirements import Role, all_requirements, coverage
from tlsconform.requirements.entries import read_entry


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], list[str]]:
    """The status, and the lines of stdout and stderr."""
    status = main(arguments)
    said = capsys.readouterr()
    return status, said.out.splitlines(), said.err.splitlines()


# -- the command -----------------------------------------------------------------------------------


def test_it_is_a_program() -> None:
    program = shutil.which("tlsconform", path=str(Path(sys.executable).parent))
    assert program is not None, "pip install -e . puts it beside python"
    for command in ([program], [sys.executable, "-m", "tlsconform.cli"]):
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert said.stdout.startswith("tlsconform ")


@pytest.mark.parametrize("command", [(), ("requirements",)])
def test_help_teaches_by_example(capsys, command) -> None:
    status, lines, _ = run(capsys, *command, "--help")
    assert status == 0
    assert "examples:" in lines
    assert "exit status:" in lines
    assert all(len(line) <= 100 for line in lines)


def test_no_command_is_a_question(capsys) -> None:
    status, lines, complaint = run(capsys)
    assert (status, lines) == (2, [])
    assert complaint[0].startswith("usage: tlsconform")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["requirements", "--level", "most"], "(choose from 'must', 'should', 'may')"),
        (["requirements", "--id", "4.2.2-99"], "no requirement 4.2.2-99; --section lists those"),
        (["requirements", "--section", "99"], "no requirement in section 99; --counts lists"),
        (["requirements", "--json", "--counts"], "not allowed with argument"),
        (["requirements", "--check", "/none"], "/none: no such file or directory"),
        (["requirements", "--check", "/none", "--role", "client"], "narrowed down by --section"),
        (["requirements", "--skeleton", "2"], "--skeleton asks for the RFC's text too"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, complaint) -> None:
    status, lines, said = run(capsys, *arguments)
    assert (status, lines, len(said)) == (2, [], 1)
    assert said[0].startswith("tlsconform: ")
    assert complaint in said[0]


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m tlsconform.cli requirements --json | head -c 1"
    shell = ["bash", "-o", "pipefail", "-c", command]
    ended = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[", "")


# -- which -----------------------------------------------------------------------------------------


def ids(capsys, *arguments: str) -> list[str]:
    status, lines, _ = run(capsys, "requirements", *arguments)
    assert status == 0
    return [line.split()[0] for line in lines]


def test_all_are_listed(capsys) -> None:
    assert ids(capsys) == list(all_requirements())


def test_a_section_is_listed_with_those_below_it(capsys) -> None:
    assert ids(capsys, "--section", "2") == ["2-1", "2-2", "2.1-1", "2.2-1", "2.2-2"]


def test_filters_are_all_to_be_met(capsys) -> None:
    chosen = ids(capsys, "--section", "2", "--role", "client", "--verify", "client")
    assert chosen == ["2-2", "2.2-1"]
    assert ids(capsys, "--section", "2", "--role", "client", "--level", "should") == ["2.2-1"]
    assert ids(capsys, "--section", "1", "--verify", "none") == ["1-1", "1.2-1"]


def test_nothing_chosen_is_said(capsys) -> None:
    status, lines, said = run(capsys, "requirements", "--section", "2.1", "--role", "client")
    assert (status, lines, said) == (0, [], ["tlsconform: no requirement is all of that"])


# -- what of them ----------------------------------------------------------------------------------


def test_all_that_is_known(capsys) -> None:
    assert run(capsys, "requirements", "--id", "E.5-4") == (
        0,
        [
            "E.5-4  Negotiate none of SSL 2.0, SSL 3.0, TLS 1.0, TLS 1.1.",
            "  level     MUST NOT",
            "  binds     client, server",
            "  verified  on the wire of a client, on the wire of a server",
            (
                "  RFC 8446  §D.5, absent there:"
                " TLS 1.0 and 1.1 too, where RFC 8446 names SSL 2.0 and 3.0"
            ),
        ],
        [],
    )


def test_json_has_every_key_and_reads_back(capsys) -> None:
    _, lines, _ = run(capsys, "requirements", "--json")
    entries = json.loads("\n".join(lines))
    read = {entry["id"]: read_entry(entry.pop("id"), entry) for entry in entries}
    assert read == all_requirements()


def test_counts_add_up(capsys) -> None:
    _, lines, _ = run(capsys, "requirements", "--counts")
    header, *rows, total = [line.split() for line in lines]
    assert header[0] == "section"
    assert total[0] == "total"
    columns = list(zip(*([int(cell) for cell in row[1:]] for row in rows), strict=True))
    assert [sum(column) for column in columns] == [int(cell) for cell in total[1:]]
    assert int(total[1]) == len(all_requirements())


def test_the_text_is_compared_with(capsys, tmp_path) -> None:
    lines = rfc.lines()
    text = tmp_path / "rfc.txt"
    text.write_text("\n".join(lines), "utf-8")
    check = ("requirements", "--section", "2.2", "--check", str(text))
    assert run(capsys, *check) == (0, ["the catalogue agrees with the text"], [])
    text.write_text(re.sub(r"it SHOULD(\s+)also", r"it MAY\1also", "\n".join(lines)), "utf-8")
    status, differences, _ = run(capsys, *check)
    assert status == 1
    assert differences[0] == "2.2-1: level SHOULD, but the text says MAY"


def test_a_skeleton_is_for_a_file(capsys) -> None:
    rfc.lines()
    text = ("--rfc-text", str(rfc.TEXT))
    status, lines, _ = run(capsys, "requirements", "--skeleton", "2", *text)
    assert status == 0
    assert [line for line in lines if line.startswith("[")] == ['["2-1"]', '["2-2"]']
    assert run(capsys, "requirements", "--skeleton", "99", *text)[0] == 2


# -- what the suite looks at -----------------------------------------------------------------------

SUITE = {
    "server/test_a.py": """
        import pytest
        pytestmark = pytest.mark.req("2-1")
        @pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.req("2-2"))])
        def test_one(n): ...
    """,
    "client/test_b.py": """
        import pytest
        @pytest.mark.req("2.2-1", "2-2")
        class TestTwo:
            @pytest.mark.req("4-1")
            def test_two(self): ...
        def test_three(): ...
    """,
}


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite of three tests, in the place of the real one."""
    for name, text in SUITE.items():
        path = pytester.path / name
        path.parent.mkdir()
        path.write_text("\n".join(line[8:] for line in text.splitlines()), "utf-8")
    monkeypatch.setattr(coverage, "suite_folder", lambda: pytester.path)
    return pytester.path


def test_marks_are_what_pytest_collects(suite) -> None:
    assert coverage.has_suite()
    assert coverage.suite_marks() == {
        Role.SERVER: {"test_a.py::test_one[1]": ("2-1",), "test_a.py::test_one[2]": ("2-2", "2-1")},
        Role.CLIENT: {"test_b.py::TestTwo::test_two": ("4-1", "2.2-1", "2-2")},
    }


def test_what_no_test_looks_at_is_listed(capsys, suite) -> None:
    status, lines, _ = run(capsys, "requirements", "--section", "2", "--uncovered")
    assert status == 1
    assert [line.split()[:2] for line in lines] == [["2.1-1", "server"]]
    arguments = ("requirements", "--section", "2", "--uncovered", "--role", "client")
    assert run(capsys, *arguments) == (0, [], [])


def test_a_suite_that_cannot_be_collected_is_no_suite_without_marks(capsys, suite) -> None:
    (suite / "client" / "test_b.py").write_text("import nothing_of_the_kind\n")
    status, lines, said = run(capsys, "requirements", "--uncovered")
    assert (status, lines, len(said)) == (2, [], 1)
    assert "client: pytest cannot collect it: " in said[0]


def test_without_a_suite_nothing_is_looked_at(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(coverage, "suite_folder", lambda: tmp_path)
    assert not coverage.has_suite()
    assert coverage.suite_marks() == {Role.CLIENT: {}, Role.SERVER: {}}
