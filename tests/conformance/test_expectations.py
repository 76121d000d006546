"""Files of expected failures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlsconform.expectations import Expectations


def load(tmp_path: Path, text: str) -> Expectations:
    file = tmp_path / "expect.toml"
    file.write_text(text)
    return Expectations.load(str(file))


def test_a_pattern_matches_the_end_of_a_name(tmp_path: Path) -> None:
    found = load(tmp_path, '[[expected]]\ntest = "test_a.py::test_x*"\nreason = "ticket 1"\n')
    assert found.reason("server/test_a.py::test_x[1]") == "ticket 1"
    assert found.reason("server/test_b.py::test_x[1]") is None
    assert Expectations.load(None).reason("anything") is None


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[expected]\n",
        '[[expected]]\ntest = "x"\n',
        '[[expected]]\ntest = "x"\nreason = " "\n',
        '[[expected]]\ntest = 1\nreason = "x"\n',
        '[[unexpected]]\ntest = "x"\nreason = "x"\n',
    ],
)
def test_anything_else_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"expect\.toml") as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="cannot read"):
        Expectations.load("/no/such/file")
