"""The catalogue of requirements: what its files may say, and that they agree with the RFC."""

from __future__ import annotations

import pytest

from tests import rfc
from tlsconform.requirements import (
    CatalogueError,
    Level,
    Method,
    Requirement,
    Role,
    Strength,
    rfc_text,
)
from tlsconform.requirements.catalogue import (
    NOT_CATALOGUED,
    all_requirements,
    differences,
    read_file,
    skeleton,
)
from tlsconform.requirements.entries import file_of, read_entry

ENTRY = {
    "level": "MUST",
    "binds": ["client"],
    "rfc8446": "4.2.8",
    "summary": "Jump when told to.",
    "verify": ["client"],
    "sentence": "0123456789abcdef",
}


# -- the files -------------------------------------------------------------------------------------


def test_no_entry_is_lost_where_the_text_is_not_at_hand():
    assert len(all_requirements()) == 500, "RFC 9846 has 511 key words, 11 of them in §1.1"


def test_what_is_catalogued_agrees_with_the_text():
    assert list(differences(all_requirements(), rfc.statements())) == []


def test_entries_are_in_the_order_of_the_text():
    said = rfc.statements().items()
    wanted = [key for key, each in said if each.section not in NOT_CATALOGUED]
    assert list(all_requirements()) == wanted


# -- an entry --------------------------------------------------------------------------------------


def test_an_entry_is_read():
    entry = read_entry("4.3.8-15", ENTRY)
    assert entry == Requirement(
        id="4.3.8-15",
        level=Level.MUST,
        summary="Jump when told to.",
        binds=(Role.CLIENT,),
        verify=(Method.CLIENT,),
        rfc8446="4.2.8",
        sentence="0123456789abcdef",
    )
    assert (entry.section, entry.number) == ("4.3.8", 15)
    assert entry.strength() is entry.strength(8446) is Strength.MUST


def test_rfc_8446_may_ask_for_less():
    laxer = {"rfc8446_level": "SHOULD", "change": "now an obligation"}
    assert read_entry("1-1", {**ENTRY, **laxer}).strength(8446) is Strength.SHOULD
    absent = {"rfc8446": "", "rfc8446_level": "absent", "change": "new"}
    entry = read_entry("1-1", {**ENTRY, **absent})
    assert entry.strength(8446) is None
    assert entry.strength() is Strength.MUST


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"level": "MUSTN'T"}, 'level is "MUSTN\'T", not one of MUST, MUST NOT, REQUIRED,'),
        ({"level": ["MUST"]}, "level is ['MUST'], not one of"),
        ({"binds": "client"}, "binds is 'client', not a list"),
        ({"binds": ["proxy"]}, "binds is 'proxy', not one of client, server"),
        ({"binds": ["client", "client"]}, "binds names the same twice"),
        ({"verify": [["client"]]}, "verify is ['client'], not one of client, server, unit"),
        ({"verify": []}, "no reason why no peer sees it of client"),
        ({"verify": ["unit"]}, "no reason why no peer sees it of client"),
        ({"binds": [], "verify": []}, "no reason why no peer sees it of anyone"),
        ({"binds": ["client", "server"]}, "no reason why no peer sees it of server"),
        ({"reason": "nobody looks"}, "a reason, though each role that it binds is verified"),
        ({"verify": [], "reason": ""}, "reason is empty"),
        ({"summary": ""}, "summary is empty"),
        ({"summary": 5}, "summary is not one line of text"),
        ({"summary": "Two\nlines."}, "summary is not one line of text"),
        ({"summary": "No end"}, "summary is not a sentence: no full stop"),
        ({"summary": "x" * 160 + "."}, "summary has 161 characters, over 160"),
        ({"sentence": "0123456789ABCDEF"}, "sentence is '0123456789ABCDEF', not 16 hex digits"),
        ({"rfc8446": "§4.2"}, "rfc8446 is '§4.2', not a section of RFC 8446, or \"\""),
        ({"rfc8446": ""}, 'rfc8446 is "": then rfc8446_level is "absent"'),
        ({"rfc8446_level": "SHOULD"}, "rfc8446_level and change stand together"),
        ({"change": "new"}, "rfc8446_level and change stand together"),
        ({"rfc8446_level": "MUST NOT", "change": "x"}, "rfc8446_level MUST NOT is no laxer"),
        ({"rfc8446_level": "none", "change": "x"}, "rfc8446_level is 'none', not one of"),
        ({"why": "?"}, "unknown key why"),
    ],
)
def test_an_entry_is_refused_in_one_line(changes, complaint):
    with pytest.raises(CatalogueError) as refusal:
        read_entry("4.3.8-15", {**ENTRY, **changes})
    assert str(refusal.value).startswith(f"4.3.8-15: {complaint}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("identifier", ["4.3.8", "4.3.8-0", "4.3.08-1", "-1", "4.3.8-1 ", "e-1"])
def test_an_id_is_refused(identifier):
    with pytest.raises(CatalogueError, match="not an ID"):
        read_entry(identifier, ENTRY)


def test_a_key_is_missed():
    for key in ENTRY:
        with pytest.raises(CatalogueError, match=f"^1-1: {key} is missing$"):
            read_entry("1-1", {name: ENTRY[name] for name in ENTRY if name != key})


# -- a file ----------------------------------------------------------------------------------------


def toml(*identifiers: str) -> str:
    lines = []
    for identifier in identifiers:
        lines += [f'["{identifier}"]', *(f"{key} = {value!r}" for key, value in ENTRY.items())]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("section", "file"),
    [("1", "1.toml"), ("4.3.8", "4.3.8.toml"), ("4.5.1.2", "4.5.1.toml"), ("E.1", "E.toml")],
)
def test_a_section_has_its_file(section, file):
    assert file_of(section) == file


def test_a_file_is_read():
    found = read_file("4.5.1.toml", toml("4.5.1-1", "4.5.1-2", "4.5.1.1-1"))
    assert list(found) == ["4.5.1-1", "4.5.1-2", "4.5.1.1-1"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[", "2.toml: Invalid"),
        ("level = 'MUST'", "2.toml: level: not an ID"),
        ("2-1 = 'MUST'", "2.toml: 2-1: not a table"),
        (toml("3-1"), "2.toml: 3-1: belongs in 3.toml"),
        (toml("2-10", "2-9"), "2.toml: the entries are not in the order of their IDs"),
        (toml("2-1", "2-1"), "2.toml: Cannot declare"),
    ],
)
def test_a_file_is_refused_in_one_line(text, complaint):
    with pytest.raises(CatalogueError) as refusal:
        read_file("2.toml", text)
    assert str(refusal.value).startswith(complaint)
    assert "\n" not in str(refusal.value)


# -- against a text --------------------------------------------------------------------------------

TEXT = """\
1.  Introduction
2.  Jumping

   A client MUST jump when it is told to.  A server SHOULD watch
   and MAY clap.

2.1.  Height

   It is RECOMMENDED to jump high.
"""


def statements(tmp_path, text: str = TEXT) -> dict[str, rfc_text.Statement]:
    path = tmp_path / "rfc.txt"
    path.write_text(text, "utf-8")
    return rfc_text.read_statements(path)


def test_a_text_is_read(tmp_path):
    found = statements(tmp_path)
    assert {key: said.keyword for key, said in found.items()} == {
        "2-1": "MUST",
        "2-2": "SHOULD",
        "2-3": "MAY",
        "2.1-1": "RECOMMENDED",
    }
    assert found["2-2"].sentence == "A server SHOULD watch and MAY clap."
    assert (
        found["2-2"].digest
        == found["2-3"].digest
        == rfc_text.digest("A serverSHOULD watch, and may clap")
    )


def test_a_skeleton_is_refused_until_it_is_filled_in(tmp_path):
    lines = list(skeleton("2", statements(tmp_path)))
    assert [line for line in lines if line.startswith("[")] == ['["2-1"]', '["2-2"]', '["2-3"]']
    with pytest.raises(CatalogueError, match="summary is empty"):
        read_file("2.toml", "\n".join(lines))


def test_the_catalogue_and_a_text_disagree(tmp_path):
    said = statements(tmp_path)
    right = {**ENTRY, "sentence": said["2-1"].digest}
    entries = {
        "2-1": read_entry("2-1", right),
        "2-2": read_entry("2-2", ENTRY),
        "2-4": read_entry("2-4", ENTRY),
    }
    assert list(differences(entries, said)) == [
        "2-2: level MUST, but the text says SHOULD",
        f"2-2: sentence 0123456789abcdef, but the text's is {said['2-2'].digest}",
        "2-3: not in the catalogue",
        "2-4: not in the text",
        "§2.1: 0 entries for 1 key words",
        "2.1-1: not in the catalogue",
    ]
    assert list(differences({"2-1": entries["2-1"]}, said, below="2.1")) == [
        "§2.1: 0 entries for 1 key words",
        "2.1-1: not in the catalogue",
    ]


def test_a_summary_copied_from_the_text_is_found(tmp_path):
    sentence = "A client MUST " + " ".join(f"w{n}" for n in range(20)) + "."
    said = statements(tmp_path, f"1.  Introduction\n\n   {sentence}\n")
    entry = {**ENTRY, "sentence": said["1-1"].digest}
    for words, copied in ((13, False), (14, True)):
        summary = "Do " + " ".join(f"W{n}" for n in range(words)) + "."
        found = list(differences({"1-1": read_entry("1-1", {**entry, "summary": summary})}, said))
        assert bool(found) is copied


def test_what_is_no_text_is_refused(tmp_path):
    for name, content in (("empty", b""), ("noise", bytes(range(256)))):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(rfc_text.TextError, match="not the text of an RFC"):
            rfc_text.read_statements(path)
    long = tmp_path / "long"
    long.write_bytes(bytes(rfc_text.MAX_TEXT + 1))
    with pytest.raises(rfc_text.TextError, match="too long"):
        rfc_text.read_statements(long)
    for path, why in ((tmp_path, "is a directory"), (tmp_path / "none", "no such file")):
        with pytest.raises(rfc_text.TextError, match=why):
            rfc_text.read_statements(path)
