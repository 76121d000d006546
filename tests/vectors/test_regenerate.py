"""The command that makes and checks the vectors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vectors.vectorlib import cli, library, rfc_text

SCRIPT = library.ROOT / "regenerate.py"


@pytest.mark.row(what="files made again, octet for octet", against="RFC 8448")
def test_rfc8448_makes_the_files(rfc8448: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--rfc8448", str(rfc8448), "--check"]) == cli.OK
    assert "6 files equal to the texts" in capsys.readouterr().out


@pytest.mark.row(what="files made again, octet for octet", against="RFC 5869")
def test_rfc5869_makes_the_file(rfc5869: Path) -> None:
    assert cli.main(["--rfc5869", str(rfc5869), "--check", "--quiet"]) == cli.OK


def test_writing_gives_the_committed_files(rfc8448: Path, rfc5869: Path, copied: Path) -> None:
    committed = {path: (copied / path).read_bytes() for path in library.PATHS.values()}
    sums = library.SUMS.read_bytes()
    for path in [*committed, "SHA256SUMS"]:
        (copied / path).unlink()
    assert cli.main(["--rfc8448", str(rfc8448), "--rfc5869", str(rfc5869)]) == cli.OK
    assert {path: (copied / path).read_bytes() for path in committed} == committed
    assert library.SUMS.read_bytes() == sums


def test_script_runs_from_anywhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--check"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "every value recomputed" in done.stdout
    assert done.stderr == ""


def test_self_test_reports_each_document(capsys: pytest.CaptureFixture[str]) -> None:
    problems = list(cli.self_test("sample", quiet=False))
    assert problems == []
    assert len(capsys.readouterr().out.splitlines()) == len(library.PATHS)


def replace(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


SPOILED = {
    "a value": (replace("33ad0a1c", "33ad0a1d"), "is not what salt and IKM give"),
    "a clamped bit": (replace('"49af42ba', '"48af42ba'), "SHA256SUMS: rfc8448/simple-1rtt.json"),
    "a line number": (replace('"line": 160', '"line": 161'), "SHA256SUMS"),
    "the schema": (replace('"by": "client"', '"by": "nobody"'), "steps.0.by"),
    "the JSON": (replace("{", "["), "is not JSON"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_check_finds(what: str, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, expected = SPOILED[what]
    path = copied / library.PATHS["simple-1rtt"]
    text = path.read_text("ascii")
    path.write_text(spoil(text), "ascii")
    assert path.read_text("ascii") != text
    assert cli.main(["--check"]) == cli.FAILED
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("lost", ["rfc8448/keys.json", "SHA256SUMS"])
def test_check_misses_a_file(lost: str, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / lost).unlink()
    assert cli.main(["--check"]) == cli.FAILED
    assert "is missing" in capsys.readouterr().err


def test_check_compares_with_the_text(
    rfc5869: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied / library.PATHS["hkdf"]
    path.write_text(json.dumps(json.loads(path.read_text("ascii"))), "ascii")
    assert cli.main(["--rfc5869", str(rfc5869), "--check"]) == cli.FAILED
    assert "not what the RFC's text makes" in capsys.readouterr().err


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("regenerate.py: ")
    assert error.count("\n") == 1
    return error


def test_nothing_to_do_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([])
    assert stopped.value.code == cli.USAGE
    assert "nothing to do" in capsys.readouterr().err


def test_missing_text_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--rfc8448", str(tmp_path / "none.txt"), "--check"]) == cli.USAGE
    one_line(capsys)


def test_another_text_is_a_usage_error(rfc5869: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--rfc8448", str(rfc5869), "--check"]) == cli.USAGE
    assert "section 3" in one_line(capsys)


BAD_TEXTS = {
    "no such section": ("2.  Other\n", "no section 3"),
    "unknown step": ("3.  T\n   {client}  dance:\n", "line 2: unknown step"),
    "wrong count": (
        "3.  T\n   {client}  send alert record:\n      payload (3 octets):  01 00\n",
        "line 3: payload has not 3 octets",
    ),
    "a value twice": (
        "3.  T\n   {client}  x:\n      a:  01\n      a:  01\n",
        "line 4: a again",
    ),
    "no octets": ("3.  T\n   {client}  x:\n      a:  red\n", "line 3: octets expected"),
    "words": ("3.  T\n   {client}  x:\n      words\n", "line 3: neither"),
    "stray octets": ("3.  T\n   {client}  x:\n         01 02\n", "line 3: octets that belong"),
    "a value missing": ("3.  T\n   {client}  send alert record:\n", "lacks 'payload'"),
    "same as nothing": (
        '3.  T\n   {client}  extract secret "early" (same as server early secret)\n',
        "the same as nothing",
    ),
}


@pytest.mark.parametrize("what", BAD_TEXTS)
def test_text_that_is_not_the_rfc(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, expected = BAD_TEXTS[what]
    path = tmp_path / "rfc.txt"
    path.write_text(text, "ascii")
    assert cli.main(["--rfc8448", str(path), "--check"]) == cli.USAGE
    assert expected in one_line(capsys)


def test_pages_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "rfc.txt"
    path.write_text("one\n\nAuthor  Title  [Page 7]\n\f\nRFC 1  Title  Date\n\ntwo\n", "ascii")
    lines = rfc_text.read_lines(path)
    assert [(line.number, line.page, line.text) for line in lines] == [(1, 1, "one"), (7, 8, "two")]
