"""Edits by field path: each changes what it names, and nothing beside it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlsconform.mutate import (
    Edit,
    NoSuchField,
    append,
    describe,
    drop,
    duplicate,
    find,
    flip,
    insert,
    length_fields,
    move,
    offset,
    parse_path,
    retype,
    set_field,
    tree,
    truncate,
    wrong_length,
)
from tpmtls.codepoints import CipherSuite, ExtensionType, NamedGroup, ProtocolVersion
from tpmtls.wire.extensions import (
    Extensions,
    KeyShareClientHello,
    KeyShareEntry,
    OfferedPsks,
    PskIdentity,
    SupportedVersions,
    UnknownExtension,
)
from tpmtls.wire.messages import ClientHello, Finished, decode_message

SHARE = "client_hello.extensions[key_share].client_shares[0]"
HELLO = ClientHello(
    ProtocolVersion.TLS_1_2,
    bytes(32),
    b"session",
    (CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_AES_256_GCM_SHA384),
    b"\0",
    Extensions(
        (
            SupportedVersions((ProtocolVersion.TLS_1_3,)),
            KeyShareClientHello((KeyShareEntry(NamedGroup.x25519, b"\x11" * 32),)),
            UnknownExtension(ExtensionType(0x1A1A), b"grease"),
            OfferedPsks((PskIdentity(b"ticket", 7),), (b"\x22" * 32,)),
        )
    ),
)


def edited(*edits: Edit) -> bytes:
    root = tree(HELLO)
    for edit in edits:
        edit.apply(root)
    return root.encode()


def decoded(*edits: Edit) -> ClientHello:
    message = decode_message(edited(*edits))
    assert isinstance(message, ClientHello)
    return message


def test_a_tree_encodes_to_the_message() -> None:
    assert tree(HELLO).encode() == HELLO.to_octets()
    assert tree(Finished(b"mac")).encode() == Finished(b"mac").to_octets()


def test_lengths_around_an_edit_follow() -> None:
    share = decoded(set_field(f"{SHARE}.key_exchange", b"short")).extensions
    assert share.get(KeyShareClientHello) == KeyShareClientHello(
        (KeyShareEntry(NamedGroup.x25519, b"short"),)
    )


@pytest.mark.parametrize(
    ("edit", "check"),
    [
        (set_field("client_hello.legacy_version", 0x0304), lambda h: h.legacy_version == 0x0304),
        (flip("client_hello.random", -1), lambda h: h.random == bytes(31) + b"\x01"),
        (drop("client_hello.cipher_suites[1]"), lambda h: h.cipher_suites == (0x1301,)),
        (
            duplicate("client_hello.cipher_suites[0]"),
            lambda h: h.cipher_suites[:2] == (0x1301,) * 2,
        ),
        (
            append("client_hello.legacy_session_id", b"s"),
            lambda h: h.legacy_session_id == b"sessions",
        ),
        (truncate("client_hello.legacy_session_id", 3), lambda h: h.legacy_session_id == b"sess"),
        (
            move("client_hello.extensions[pre_shared_key]", 0),
            lambda h: h.extensions[0].extension_type == ExtensionType.pre_shared_key,
        ),
        (
            retype("client_hello.extensions[key_share]", 0x2A2A),
            lambda h: 0x2A2A in h.extensions.types,
        ),
        (
            insert("client_hello.extensions", UnknownExtension(ExtensionType(0x3A3A), b""), -1),
            lambda h: h.extensions[-1].extension_type == 0x3A3A,
        ),
    ],
    ids=lambda value: str(value).replace(" ", "-") if isinstance(value, Edit) else "",
)
def test_an_edit_changes_what_it_names(edit: Edit, check) -> None:
    assert check(decoded(edit))


def test_a_wrong_length_lies_and_the_others_do_not() -> None:
    honest, lying = HELLO.to_octets(), edited(wrong_length(f"{SHARE}.key_exchange", +1))
    assert [n for n in range(len(honest)) if honest[n] != lying[n]] == [
        honest.index(b"\x00\x20" + b"\x11" * 32) + 1
    ]
    assert edited(wrong_length("client_hello", to=0))[1:4] == bytes(3)


def test_every_length_field_is_found() -> None:
    assert length_fields(HELLO) == [
        "client_hello",
        "client_hello.legacy_session_id",
        "client_hello.cipher_suites",
        "client_hello.legacy_compression_methods",
        "client_hello.extensions",
        "client_hello.extensions[supported_versions]",
        "client_hello.extensions[supported_versions].versions",
        "client_hello.extensions[key_share]",
        "client_hello.extensions[key_share].client_shares",
        f"{SHARE}.key_exchange",
        "client_hello.extensions[unknown_0x1a1a]",
        "client_hello.extensions[pre_shared_key]",
        "client_hello.extensions[pre_shared_key].identities",
        "client_hello.extensions[pre_shared_key].identities[0].identity",
        "client_hello.extensions[pre_shared_key].binders",
        "client_hello.extensions[pre_shared_key].binders[0]",
    ]


def test_the_offset_of_a_node_is_where_its_octets_start() -> None:
    root = tree(HELLO)
    binders = find(root, "client_hello.extensions[pre_shared_key].binders")
    assert root.encode()[offset(root, binders) :] == binders.encode()
    offered = HELLO.extensions.get(OfferedPsks)
    assert offered is not None
    assert len(binders.encode()) == offered.binders_size


def test_a_description_marks_what_an_edit_touched() -> None:
    root = tree(HELLO)
    set_field("client_hello.random", b"?").apply(root)
    drop("client_hello.extensions[key_share]").apply(root)
    marked = [line for line in describe(root) if line.startswith(">")]
    assert len(marked) == 2
    assert "random 3f   <- set to 3f" in marked[0]
    assert "key_share left out" in marked[1]


@pytest.mark.parametrize(
    "path",
    ["client_hello.nothing", "server_hello.random", "client_hello.cipher_suites[9]", f"{SHARE}.x"],
    ids=["no-field", "other-message", "no-item", "below-a-leaf"],
)
def test_a_path_that_leads_nowhere_is_an_error(path: str) -> None:
    with pytest.raises(NoSuchField):
        edited(drop(path))


def test_a_path_is_parsed_strictly() -> None:
    assert parse_path("a.b[0].c") == ("a", "b", "0", "c")
    with pytest.raises(ValueError, match="column 2"):
        parse_path("a.!")


@given(st.sampled_from(length_fields(HELLO)), st.integers(0, 2**24))
def test_any_lie_about_a_length_is_sent(path: str, length: int) -> None:
    octets = edited(wrong_length(path, to=length))
    assert len(octets) == len(HELLO.to_octets())
