"""Chains that are accepted, and the bounds of the search (RFC 9846 §4.5.1, §4.5.1.2)."""

from __future__ import annotations

import copy
import datetime
import pickle
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.verification import VerificationError

from tests.pki import BAD, KINDS, Pki
from tests.unit.certificate_builder import (
    ALL_SCHEMES,
    CLIENT,
    DAY,
    MD5_RSA,
    NOW,
    SHA1_RSA,
    Holder,
    authority,
    certificates,
    leaf,
    name,
    rsa_signed,
    usage,
    verify,
    verify_client,
)
from tpmtls.certificates import (
    Acceptance,
    TrustStore,
    load_chain,
    parse_chain,
    path,
    verify_server_chain,
)
from tpmtls.codepoints import AlertDescription as Alert
from tpmtls.handshake.authentication import to_der
from tpmtls.violations import CertificateError

OUTSIDE_THE_LIBRARY = ("ed25519", "ed448", "rsa-pss")


# -- what is accepted ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_leaf(kind: str) -> None:
    root = authority()
    verify(leaf(root, kind), root=root)
    verify_client(leaf(root, kind), root=root)


@pytest.mark.req("4.5.1.3-7")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_authority(kind: str) -> None:
    root = authority(kind=kind)
    middle = authority("middle", kind, issuer=root, number=1)
    verify(leaf(root), root=root)
    verify(leaf(middle), middle, root=root)
    verify_client(leaf(middle, "rsa"), middle, root=root)


@pytest.mark.parametrize("kind", OUTSIDE_THE_LIBRARY)
@pytest.mark.parametrize("first", [True, False])
def test_one_authority_outside_the_library_in_a_chain(kind: str, first: bool) -> None:
    root = authority(kind="p256" if first else kind)
    middle = authority("middle", kind if first else "p256", issuer=root, number=1)
    verify(leaf(middle), middle, root=root)


@pytest.mark.req("4.5.1-10")
@pytest.mark.req("4.5.1-11")
@pytest.mark.req("4.5.1-12")
@pytest.mark.parametrize("kind", ["p256", "ed25519"])
def test_any_order_and_extraneous_certificates(kind: str) -> None:
    root = authority(kind=kind)
    upper = authority("upper", kind, issuer=root, number=1)
    lower = authority("lower", kind, issuer=upper, number=2)
    stranger = authority("stranger", kind, number=3)
    end = leaf(lower)
    verify(end, lower, upper, root=root)
    verify(end, lower, upper, root, root=root)
    verify(end, stranger, root, upper, lower, lower, root=root)


@pytest.mark.parametrize("kind", ["p256", "ed25519"])
def test_an_intermediate_can_be_the_anchor(kind: str) -> None:
    middle = authority("middle", kind, issuer=authority(kind=kind), number=1)
    verify(leaf(middle), root=middle)


@pytest.mark.parametrize("kind", ["p256", "ed25519"])
def test_the_right_one_of_two_issuers_with_one_name(kind: str) -> None:
    root = authority(kind=kind)
    true = authority("middle", kind, issuer=root, number=1, identifiers=False)
    false = authority("middle", kind, issuer=root, number=2, identifiers=False)
    end = leaf(true, identifiers=False)
    verify(end, false, true, root=root)
    other_root = authority(kind=kind, number=4)
    both = TrustStore.load([other_root.certificate, root.certificate])
    verify(end, true, root=both)


@pytest.mark.parametrize(
    ("names", "server_name"),
    [
        (["host.example"], "HOST.example"),
        (["Host.Example"], "host.example."),
        (["*.example"], "host.example"),
        (["xn--nxasmq6b.example"], "xn--nxasmq6b.example"),
        (["192.0.2.7"], "192.0.2.7"),
        (["2001:db8::7"], "2001:0db8:0::7"),
        (["fe80::7"], "fe80::7%eth0"),
        (["other.example", "10.0.0.1", "host.example"], "host.example"),
    ],
)
def test_names(names: list[str], server_name: str) -> None:
    root = authority()
    verify(leaf(root, names=names), root=root, server_name=server_name)


def test_a_private_authority_need_not_follow_the_web_pki() -> None:
    root = authority(key_usage=None, critical_constraints=False, identifiers=False)
    verify(leaf(root, identifiers=False, usages=None, key_usage=None), root=root)
    issuer_and_serial = x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(name("root"))], 1)
    middle = authority(
        "middle", issuer=root, number=1, identifiers=False, more=[(issuer_and_serial, False)]
    )
    verify(leaf(middle), middle, root=root)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ca", [True, False, None])
def test_a_self_signed_leaf_that_is_trusted_itself(kind: str, ca: bool | None) -> None:
    own = leaf(None, kind, ca=ca, usages=None, key_usage=None)
    verify(own, root=own)
    verify_client(own, root=own)


def test_a_trusted_leaf_may_sign_certificates_as_well() -> None:
    own = leaf(None, ca=True, key_usage=usage(sign=True, certify=True))
    verify(own, root=own)


@pytest.mark.req("4.3.3-17")
@pytest.mark.req("4.5.1.2-10")
@pytest.mark.parametrize("algorithm", [SHA1_RSA, MD5_RSA])
def test_the_signature_of_an_anchor_does_not_matter(algorithm: bytes) -> None:
    root = authority(kind="rsa")
    weak = Holder(rsa_signed(root.certificate, root.key, algorithm), root.key, "rsa")
    verify(leaf(root), root=weak)
    verify(leaf(root), weak, root=weak)


def test_a_client_needs_no_name() -> None:
    root = authority()
    verify_client(leaf(root, names=(), usages=(CLIENT,)), root=root)


def test_name_constraints_are_the_librarys_to_judge() -> None:
    permits = x509.NameConstraints([x509.DNSName("example")], None)
    root = authority(more=[(permits, True)])
    verify(leaf(root), root=root)
    with pytest.raises(CertificateError, match="no permitted name") as caught:
        verify(leaf(root, names=("host.invalid",)), root=root, server_name="host.invalid")
    assert (caught.value.check, caught.value.alert) == ("path", Alert.certificate_unknown)


def test_the_pki_of_the_other_tests(tmp_path: Any) -> None:
    pki = Pki(tmp_path)
    now = datetime.datetime.now(datetime.UTC)
    store = TrustStore.load(pki.ca)
    for credential in (pki.server(), pki.chained(), pki.server("rsa-pss")):
        chain = parse_chain(load_chain(credential.chain))
        verify_server_chain(chain, store, "localhost", now, ALL_SCHEMES)
    for what in BAD:
        with pytest.raises(CertificateError):
            verify_server_chain([pki.bad(what).certificate], store, "localhost", now, ALL_SCHEMES)


# -- what an acceptance covers ---------------------------------------------------------------------

SECOND = datetime.timedelta(seconds=1)


def accepted(**changes: Any) -> tuple[Acceptance, dict[str, Any]]:
    """The acceptance of a chain of three, and what it was accepted with; `changes` of the leaf."""
    root = authority()
    middle = authority("middle", issuer=root, starts=NOW - 2 * SECOND, ends=NOW + DAY)
    asked: dict[str, Any] = {
        "chain": certificates([leaf(middle, **changes), middle]),
        "store": root.store,
        "server_name": "host.example",
        "now": NOW,
        "schemes": ALL_SCHEMES,
    }
    return verify_server_chain(**asked), asked


def test_an_acceptance_covers_the_same_again() -> None:
    acceptance, asked = accepted()
    assert acceptance.covers(**asked)
    assert acceptance.covers(**asked | {"chain": list(parse_chain(to_der(asked["chain"])))})


def test_an_acceptance_does_not_leave_its_process() -> None:
    acceptance, _ = accepted()
    assert pickle.loads(pickle.dumps([acceptance])) == [None]
    assert copy.deepcopy([acceptance]) == [None]


def test_an_acceptance_covers_nothing_else() -> None:
    acceptance, asked = accepted()
    other, _ = accepted()
    for change in (
        {"chain": other.chain},
        {"chain": asked["chain"][:1]},
        {"chain": ()},
        {"store": TrustStore(asked["store"].certificates)},
        {"server_name": "other.example"},
        {"server_name": "HOST.example"},
        {"schemes": ALL_SCHEMES[:-1]},
        {"schemes": ()},
    ):
        assert not acceptance.covers(**asked | change), change


def test_an_acceptance_lasts_while_every_certificate_of_the_path_is_valid() -> None:
    acceptance, asked = accepted(ends=NOW + 3 * SECOND)
    assert (acceptance.since, acceptance.until) == (NOW - 2 * SECOND, NOW + 3 * SECOND)
    for now in (acceptance.since, acceptance.until):
        assert acceptance.covers(**asked | {"now": now})
        verify_server_chain(**asked | {"now": now})
    for now in (acceptance.since - SECOND, acceptance.until + SECOND):
        assert not acceptance.covers(**asked | {"now": now})
        with pytest.raises(CertificateError, match=r"not valid before|expired"):
            verify_server_chain(**asked | {"now": now})


def test_the_anchor_ends_an_acceptance_too() -> None:
    root = authority(starts=NOW - SECOND, ends=NOW + SECOND)
    chain = certificates([leaf(root)])
    acceptance = verify_server_chain(chain, root.store, "host.example", NOW, ALL_SCHEMES)
    assert (acceptance.since, acceptance.until) == (NOW - SECOND, NOW + SECOND)


# -- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["p256", "ed25519"])
def test_depth_is_bounded(kind: str) -> None:
    def chain(intermediates: int) -> list[Holder]:
        links = [authority(kind=kind)]
        for number in range(intermediates):
            links.append(authority(f"ca {number}", kind, issuer=links[-1], number=1 + number))
        return [leaf(links[-1]), *reversed(links)]

    verify(*chain(8), root=authority(kind=kind))
    with pytest.raises(CertificateError) as caught:
        verify(*chain(9), root=authority(kind=kind))
    assert caught.value.check == "path"


def test_the_search_takes_no_other_algorithms() -> None:
    root = authority(kind="ed25519")
    schemes = [s for s in ALL_SCHEMES if s.name != "ed25519"]
    search = path._Search([], root.store, schemes, lambda _: None)
    with pytest.raises(VerificationError, match="algorithm is not acceptable"):
        search.extend([leaf(root).certificate])


def test_signatures_are_bounded() -> None:
    """Loops of one name do not multiply into more verifications than the limit."""
    root = authority(kind="ed25519")
    loops = [
        authority(
            "loop",
            "ed25519",
            issuer=authority("loop", "ed25519", number=1),
            number=1,
            path_length=n,
        )
        for n in range(8, 15)
    ]
    end = leaf(loops[0], identifiers=False)
    search = path._Search(certificates(loops), root.store, ALL_SCHEMES, lambda _: None)
    with pytest.raises(VerificationError, match=r"too many|no path|not match"):
        search.extend([end.certificate])
    assert search._signatures_left == 0
    with pytest.raises(CertificateError) as caught:
        verify(end, *loops, root=root)
    assert caught.value.alert is Alert.unknown_ca
