"""The software backend: known answers, shares that are wrong, and where no secret appears."""

from __future__ import annotations

import hmac
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519

from tpmtls.algorithms import GROUPS, SHA256, SHA384, SUITES, HashAlgorithm, SuiteParameters
from tpmtls.backends.base import Backend, KeyShare, Secret, hkdf_label
from tpmtls.backends.ledger import Crossing
from tpmtls.backends.software import CURVES, SoftwareAead, SoftwareBackend, SoftwareSecret
from tpmtls.codepoints import CipherSuite, NamedGroup
from tpmtls.violations import BackendError, PeerViolation, StoredSecretError, Violation
from vectors.vectorlib import kdf
from vectors.vectorlib.library import TRACES, load_trace

G = NamedGroup
HASHES = {"sha256": SHA256, "sha384": SHA384}
HKDF_CASES = json.loads(
    (Path(__file__).resolve().parents[2] / "vectors/rfc5869/hkdf.json").read_text()
)["cases"]

MLKEM = 1184
"""Octets of an ML-KEM-768 encapsulation key, with which a client's hybrid share starts."""


USES: dict[str, Callable[[Backend, Secret], object]] = {
    "mac": lambda b, s: b.mac(s, b"data"),
    "verify_mac": lambda b, s: b.verify_mac(s, b"data", b""),
    "expand_label": lambda b, s: b.expand_label(s, b"key", b"", 16, "write_key"),
    "extract, as salt": lambda b, s: b.extract(SHA256, s, None, "x"),
    "extract, as input": lambda b, s: b.extract(SHA256, None, s, "x"),
    "wrap": lambda b, s: b.wrap(s),
    "reveal": lambda b, s: b.reveal(s, "test"),
}
"""Everything that can be done with one secret."""


@pytest.fixture
def backend() -> SoftwareBackend:
    return SoftwareBackend()


def seeded(seed: int) -> SoftwareBackend:
    """A backend whose keys are a function of `seed`."""
    return SoftwareBackend(random.Random(seed).randbytes)


def secret(octets: bytes, algorithm: HashAlgorithm | None = SHA256) -> SoftwareSecret:
    return SoftwareSecret("a secret", octets, algorithm)


def octets(backend: Backend, handle: Secret) -> bytes:
    return backend.reveal(handle, "test")


# -- HKDF ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", HKDF_CASES, ids=lambda case: f"case {case['id']}")
def test_rfc_5869(backend: SoftwareBackend, case: dict[str, Any]) -> None:
    salt, ikm, info = (bytes.fromhex(case[name] or "") for name in ("salt", "ikm", "info"))
    # what the other tests compare with is right ...
    assert kdf.extract(case["hash"], salt, ikm).hex() == case["prk"]
    okm = kdf.expand(case["hash"], bytes.fromhex(case["prk"]), info, case["length"])
    assert okm.hex() == case["okm"]
    # ... and so is the backend, which has no SHA-1
    if algorithm := HASHES.get(case["hash"]):
        prk = backend.extract(algorithm, secret(salt) if salt else None, secret(ikm), "prk")
        assert octets(backend, prk).hex() == case["prk"]


@pytest.mark.parametrize("algorithm", [SHA256, SHA384], ids=lambda a: a.name)
def test_extract_takes_zeros_for_what_is_missing(
    backend: SoftwareBackend, algorithm: HashAlgorithm
) -> None:
    zeros = bytes(algorithm.digest_size)
    value = secret(b"value")
    for salt, ikm, expected in (
        (None, None, hmac.digest(zeros, zeros, algorithm.name)),
        (value, None, hmac.digest(b"value", zeros, algorithm.name)),
        (None, value, hmac.digest(zeros, b"value", algorithm.name)),
    ):
        made = backend.extract(algorithm, salt, ikm, "early_secret")
        assert octets(backend, made) == expected
        assert (made.name, made.length, made.hash) == ("early_secret", len(zeros), algorithm)


@pytest.mark.parametrize("length", [0, 1, 12, 32, 33, 48, 64, 97, 255 * 32])
@pytest.mark.parametrize("algorithm", [SHA256, SHA384], ids=lambda a: a.name)
def test_expand_label(backend: SoftwareBackend, algorithm: HashAlgorithm, length: int) -> None:
    prk = secret(bytes(range(algorithm.digest_size)), algorithm)
    made = backend.expand_label(prk, b"exporter", b"context", length, "exporter_value")
    expected = kdf.expand_label(
        algorithm.name, bytes(range(algorithm.digest_size)), "exporter", b"context", length
    )
    assert octets(backend, made) == expected
    assert (made.name, made.length, made.hash) == ("exporter_value", length, algorithm)


def test_hkdf_label() -> None:
    assert hkdf_label(16, b"key", b"").hex() == "001009746c733133206b657900"  # RFC 8448 §3
    assert hkdf_label(2**16 - 1, b"x", bytes(255))[:2] == b"\xff\xff"
    for too_much in ((2**16, b"x", b""), (1, bytes(250), b""), (1, b"x", bytes(256))):
        with pytest.raises((ValueError, OverflowError)):
            hkdf_label(*too_much)


def test_mac(backend: SoftwareBackend) -> None:
    key = secret(b"key")
    tag = backend.mac(key, b"data")
    assert tag == hmac.digest(b"key", b"data", "sha256")
    assert backend.verify_mac(key, b"data", tag)
    assert not backend.verify_mac(key, b"other data", tag)
    for wrong in (b"", tag[:-1], tag + b"\0", bytes(32)):
        assert not backend.verify_mac(key, b"data", wrong)


@pytest.mark.parametrize("use", ["mac", "verify_mac", "expand_label"])
def test_a_secret_without_a_hash_can_only_be_extracted_from(
    backend: SoftwareBackend, use: str
) -> None:
    shared = secret(b"shared", None)
    with pytest.raises(BackendError, match="not tied to a hash"):
        USES[use](backend, shared)
    assert backend.extract(SHA256, None, shared, "handshake_secret").hash is SHA256


# -- key exchange ----------------------------------------------------------------------------------


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_both_sides_agree(group: NamedGroup) -> None:
    client, server = seeded(1), seeded(2)
    share = client.key_share(group)
    public, theirs = server.respond(group, share.public)
    ours = share.agree(public)
    assert octets(client, ours) == octets(server, theirs)
    assert (ours.name, ours.hash) == ("shared_secret", None)
    sizes = GROUPS[group]
    assert (len(share.public), len(public)) == (sizes.client_share, sizes.server_share)
    assert ours.length == theirs.length == sizes.shared_secret
    assert share.group is group


def _always(octets: bytes) -> Callable[[int], bytes]:
    return lambda _: octets


@pytest.mark.parametrize("name", TRACES)
def test_recorded_key_exchanges(name: str) -> None:
    trace = load_trace(name)
    group = NamedGroup[trace.data["negotiated"]["group"]]
    pairs = [
        next(pair for pair in trace.key_pairs(role) if pair.group == group.name)
        for role in ("client", "server")
    ]
    client, server = (SoftwareBackend(_always(pair.private_key)) for pair in pairs)
    share = client.key_share(group)
    public, shared = server.respond(group, share.public)
    assert [share.public, public] == [pair.public_key for pair in pairs]
    expected = trace.secrets()["shared_secret"]
    assert octets(client, share.agree(public)) == octets(server, shared) == expected


@pytest.mark.req("7.4.2-1")
@pytest.mark.parametrize(
    ("group", "scalar"), [(G.secp256r1, 379), (G.secp384r1, 197), (G.secp521r1, 1)], ids=str
)
def test_leading_zeros_of_a_shared_secret_are_kept(group: NamedGroup, scalar: int) -> None:
    """With the base point as the peer's share, the shared secret is our own share's X."""
    ours = SoftwareBackend(lambda n: _for_scalar(group, scalar, n)).key_share(group)
    base = SoftwareBackend(lambda n: _for_scalar(group, 1, n)).key_share(group)
    shared = octets(SoftwareBackend(), ours.agree(base.public))
    assert shared == ours.public[1 : 1 + GROUPS[group].shared_secret]
    assert shared[0] == 0


def _for_scalar(group: NamedGroup, scalar: int, size: int) -> bytes:
    return (scalar << -CURVES[group].key_size % 8).to_bytes(size, "big")


@pytest.mark.parametrize("group", CURVES, ids=str)
def test_a_scalar_is_drawn_until_it_is_in_range(group: NamedGroup) -> None:
    size = GROUPS[group].shared_secret
    order = CURVES[group].group_order
    excess = -CURVES[group].key_size % 8
    drawn = iter(
        (
            bytes(size),
            (order << excess).to_bytes(size, "big"),
            b"\xff" * size,
            ((order - 1) << excess).to_bytes(size, "big"),
        )
    )
    share = SoftwareBackend(lambda n: next(drawn)[:n]).key_share(group)
    assert next(drawn, None) is None, "the first three were refused"
    base = SoftwareBackend(lambda n: _for_scalar(group, 1, n)).key_share(group)
    half = 1 + size
    assert share.public[:half] == base.public[:half], "order - 1 gives minus the base point"
    assert share.public[half:] != base.public[half:]


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_entropy_reproduces_a_share(group: NamedGroup) -> None:
    assert seeded(1).key_share(group).public == seeded(1).key_share(group).public
    assert seeded(1).key_share(group).public != seeded(2).key_share(group).public


@pytest.mark.req("4.3.8-8", "4.3.8-12")
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_no_two_shares_are_alike(backend: SoftwareBackend, group: NamedGroup) -> None:
    shares = {backend.key_share(group).public for _ in range(3)}
    answers = {backend.respond(group, seeded(1).key_share(group).public)[0] for _ in range(3)}
    assert len(shares) == len(answers) == 3


@pytest.mark.req("4.3.8-8")
def test_the_parts_of_a_hybrid_share_are_independent_of_other_shares() -> None:
    backend = seeded(1)
    hybrid, plain = backend.key_share(G.X25519MLKEM768), backend.key_share(G.x25519)
    assert hybrid.public[MLKEM:] != plain.public


def test_the_ml_kem_part_stands_first() -> None:
    """In shares and secret: taken apart and computed again with the library alone."""
    share = seeded(1).key_share(G.X25519MLKEM768)
    kem = mlkem.MLKEM768PublicKey.from_public_bytes(share.public[:MLKEM])
    shared, ciphertext = kem.encapsulate()
    dh = x25519.X25519PrivateKey.from_private_bytes(bytes(range(32)))
    zz = dh.exchange(x25519.X25519PublicKey.from_public_bytes(share.public[MLKEM:]))
    ours = share.agree(ciphertext + dh.public_key().public_bytes_raw())
    assert octets(seeded(1), ours) == shared + zz


def test_a_bent_ml_kem_ciphertext_gives_another_secret_and_no_error() -> None:
    """FIPS 203 rejects implicitly: the handshake fails at Finished."""
    share = seeded(1).key_share(G.X25519MLKEM768)
    public, shared = seeded(2).respond(G.X25519MLKEM768, share.public)
    bent = bytes((public[0] ^ 1,)) + public[1:]
    assert octets(seeded(1), share.agree(bent)) != octets(seeded(2), shared)


def test_groups_that_the_backend_lacks(backend: SoftwareBackend) -> None:
    assert set(backend.groups) == set(GROUPS)
    for group in (G.ffdhe2048, NamedGroup(0x2A2A)):
        with pytest.raises(BackendError, match=str(group)):
            backend.key_share(group)
        with pytest.raises(BackendError, match=str(group)):
            backend.respond(group, bytes(256))


# -- shares that a peer should not send ------------------------------------------------------------


def share_and_answers(group: NamedGroup) -> tuple[KeyShare, bytes]:
    share = seeded(1).key_share(group)
    return share, seeded(2).respond(group, share.public)[0]


def refusals(group: NamedGroup, client_share: bytes, server_share: bytes) -> set[Violation]:
    """What both roles say to such shares."""
    with pytest.raises(PeerViolation) as by_server:
        seeded(2).respond(group, client_share)
    with pytest.raises(PeerViolation) as by_client:
        seeded(1).key_share(group).agree(server_share)
    return {by_server.value.violation, by_client.value.violation}


@pytest.mark.req("4.3.8.2-1")
@pytest.mark.parametrize("group", CURVES, ids=str)
@pytest.mark.parametrize("form", [0, 1, 2, 3, 5, 6, 7, 255])
def test_only_the_uncompressed_form_is_a_share(group: NamedGroup, form: int) -> None:
    _, point = share_and_answers(group)
    bent = bytes((form,)) + point[1:]
    assert refusals(group, bent, bent) == {Violation.INVALID_POINT}
    with pytest.raises(PeerViolation, match="legacy_form is not 4"):
        seeded(2).respond(group, bent)


def _off_the_curve(group: NamedGroup) -> dict[str, bytes]:
    size = GROUPS[group].shared_secret
    _, point = share_and_answers(group)
    prime = {
        G.secp256r1: 2**256 - 2**224 + 2**192 + 2**96 - 1,
        G.secp384r1: 2**384 - 2**128 - 2**96 + 2**32 - 1,
        G.secp521r1: 2**521 - 1,
    }[group]
    x, y = (int.from_bytes(point[1 + size * i :][:size], "big") for i in (0, 1))

    def encoded(x: int, y: int) -> bytes:
        return b"\4" + x.to_bytes(size, "big") + y.to_bytes(size, "big")

    assert encoded(x, y) == point
    return {
        "Y + 1": encoded(x, y + 1),
        "swapped": encoded(y, x),
        "origin": encoded(0, 0),
        "X not reduced": encoded(prime, y),
        "all ones": b"\4" + b"\xff" * (2 * size),
        "Y of the field's size": encoded(x, prime),
    }


@pytest.mark.req("4.3.8.2-1")
@pytest.mark.parametrize("group", CURVES, ids=str)
@pytest.mark.parametrize(
    "name",
    ["Y + 1", "swapped", "origin", "X not reduced", "all ones", "Y of the field's size"],
)
def test_points_off_the_curve(group: NamedGroup, name: str) -> None:
    bent = _off_the_curve(group)[name]
    assert refusals(group, bent, bent) == {Violation.INVALID_POINT}


X25519_SMALL_ORDER = [
    0,
    1,
    2**255 - 20,  # p - 1
    2**255 - 19,
    2**255 - 18,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]
X448_SMALL_ORDER = [0, 1, 2**448 - 2**224 - 2, 2**448 - 2**224 - 1, 2**448 - 2**224]


@pytest.mark.req("7.4.2-3")
@pytest.mark.parametrize(
    ("group", "u"),
    [*((G.x25519, u) for u in X25519_SMALL_ORDER), *((G.x448, u) for u in X448_SMALL_ORDER)],
    ids=str,
)
def test_an_all_zero_shared_secret(group: NamedGroup, u: int) -> None:
    share = u.to_bytes(GROUPS[group].client_share, "little")
    assert refusals(group, share, share) == {Violation.ZERO_SHARED_SECRET}


@pytest.mark.req("7.4.2-3")
def test_an_all_zero_shared_secret_in_the_hybrid() -> None:
    share, answer = share_and_answers(G.X25519MLKEM768)
    zero = refusals(G.X25519MLKEM768, share.public[:MLKEM] + bytes(32), answer[:1088] + bytes(32))
    assert zero == {Violation.ZERO_SHARED_SECRET}


@pytest.mark.req("6-10")
@pytest.mark.parametrize("start", [0, MLKEM - 32 - 3], ids=["first", "last coefficients"])
def test_an_ml_kem_encapsulation_key_that_is_not_reduced(start: int) -> None:
    share, _ = share_and_answers(G.X25519MLKEM768)
    bent = share.public[:start] + b"\xff\xff\xff" + share.public[start + 3 :]
    with pytest.raises(PeerViolation) as caught:
        seeded(2).respond(G.X25519MLKEM768, bent)
    assert caught.value.violation is Violation.INVALID_POINT


# -- AEAD ------------------------------------------------------------------------------------------

GCM_PLAINTEXT = """
    d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525
    b16aedf5aa0de657ba637b39"""
SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: "
    b"If I could offer you only one tip for the future, sunscreen would be it."
)
KNOWN_ANSWERS = {
    # key, IV, additional data, plaintext, ciphertext and tag
    CipherSuite.TLS_AES_128_GCM_SHA256: (  # The Galois/Counter Mode of Operation, test case 4
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        GCM_PLAINTEXT,
        """42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5a
        ac84aa051ba30b396a0aac973d58e091 5bc94fbc3221a5db94fae95ae7121a47""",
    ),
    CipherSuite.TLS_AES_256_GCM_SHA384: (  # test case 16
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        GCM_PLAINTEXT,
        """522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b10
        56828838c5f61e6393ba7a0abcc9f662 76fc6ece0f4e1768cddf8853bb2d551b""",
    ),
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256: (  # RFC 8439 §2.8.2
        bytes(range(0x80, 0xA0)).hex(),
        "070000004041424344454647",
        "50515253c0c1c2c3c4c5c6c7",
        SUNSCREEN.hex(),
        """d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69
        da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad67594
        5585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b6116 1ae10b594f09e26a7e902ecbd0600691""",
    ),
    CipherSuite.TLS_AES_128_CCM_SHA256: (  # NIST CAVS 11.0, CCM-VNT, AES-128, count 50
        "005e8f4d8e0cbf4e1ceeb5d87a275848",
        "0ec3ac452b547b9062aac8fa",
        "2f1821aa57e5278ffd33c17d46615b77363149dbc98470413f6543a6b749f2ca",
        "b6f345204526439daf84998f380dcfb4b4167c959c04ff65",
        "9575e16f35da3c88a19c26a7b762044f4d7bbbafeff05d75 4829e2a7752fa3a14890972884b511d8",
    ),
    CipherSuite.TLS_AES_128_CCM_8_SHA256: (  # NIST SP 800-38C, example 3
        bytes(range(0x40, 0x50)).hex(),
        bytes(range(0x10, 0x1C)).hex(),
        bytes(range(0x14)).hex(),
        bytes(range(0x20, 0x38)).hex(),
        "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5 484392fbc1b09951",
    ),
}


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda row: row.suite.name)
def test_known_answers(backend: SoftwareBackend, suite: SuiteParameters) -> None:
    key, iv, additional, plaintext, sealed = map(bytes.fromhex, KNOWN_ANSWERS[suite.suite])
    aead = backend.aead(suite, secret(key), secret(iv))
    assert aead.seal(0, additional, plaintext) == sealed
    assert aead.open(0, additional, sealed) == plaintext
    assert len(sealed) == len(plaintext) + suite.tag_length


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda row: row.suite.name)
def test_what_was_not_sealed_so_is_not_opened(
    backend: SoftwareBackend, suite: SuiteParameters
) -> None:
    aead = backend.aead(suite, secret(bytes(suite.key_length)), secret(bytes(12)))
    sealed = aead.seal(7, b"header", b"plaintext")
    assert aead.open(7, b"header", sealed) == b"plaintext"
    assert aead.open(8, b"header", sealed) is None
    assert aead.open(7, b"other header", sealed) is None
    for position in range(len(sealed)):
        bent = bytearray(sealed)
        bent[position] ^= 1
        assert aead.open(7, b"header", bytes(bent)) is None
    for size in range(len(sealed)):
        assert aead.open(7, b"header", sealed[:size]) is None
    assert aead.open(7, b"header", sealed + b"\0") is None


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda row: row.suite.name)
def test_every_record_number_has_its_own_nonce(
    backend: SoftwareBackend, suite: SuiteParameters
) -> None:
    aead = backend.aead(suite, secret(bytes(suite.key_length)), secret(bytes(12)))
    numbers = [0, 1, 255, 256, 2**32, 2**63, 2**64 - 1]
    assert len({aead.seal(number, b"", b"same") for number in numbers}) == len(numbers)


def test_the_nonce_is_the_iv_xored_with_the_record_number() -> None:
    suite = SUITES[CipherSuite.TLS_AES_128_GCM_SHA256]
    iv = bytes.fromhex("0102030405060708090a0b0c")
    aead = SoftwareAead(suite, bytes(16), iv)
    assert aead.per_record_nonce(0) == iv
    assert aead.per_record_nonce(1).hex() == "0102030405060708090a0b0d"
    assert aead.per_record_nonce(2**64 - 1).hex() == "01020304faf9f8f7f6f5f4f3"
    assert SoftwareAead(suite, bytes(16), bytes(12)).per_record_nonce(1) == bytes(11) + b"\1"


def test_an_aead_takes_key_and_iv_over(backend: SoftwareBackend) -> None:
    key, iv = secret(bytes(16)), secret(bytes(12))
    backend.aead(SUITES[CipherSuite.TLS_AES_128_GCM_SHA256], key, iv)
    for handle in (key, iv):
        with pytest.raises(BackendError, match="was destroyed"):
            backend.reveal(handle, "test")


# -- secrets that come and go ----------------------------------------------------------------------


def test_an_external_psk(backend: SoftwareBackend) -> None:
    psk = backend.import_psk(b"provisioned", SHA384)
    assert (psk.name, psk.length, psk.hash) == ("PSK", 11, SHA384)
    assert backend.ledger.crossings() == [Crossing("PSK", "protocol", "in", "import_psk")]
    assert octets(backend, psk) == b"provisioned"


def test_wrap_and_unwrap(backend: SoftwareBackend) -> None:
    blob = backend.wrap(secret(bytes(range(32))))
    psk = SoftwareBackend().unwrap(blob, "PSK", SHA256)
    assert octets(backend, psk) == bytes(range(32))
    assert (psk.name, psk.hash) == ("PSK", SHA256)
    for foreign in b"", b"\x01" + blob:
        with pytest.raises(StoredSecretError, match="not of this backend"):
            backend.unwrap(foreign, "PSK", SHA256)


def test_every_way_in_and_out_is_recorded(backend: SoftwareBackend) -> None:
    backend.reveal(secret(b"1"), "key log")
    backend.reveal(secret(b"2"), "key log")
    backend.wrap(secret(b"3"))
    backend.unwrap(bytes(32), "PSK", SHA256)
    assert dict(backend.ledger) == {
        Crossing("a secret", "protocol", "out", "reveal: key log"): 2,
        Crossing("a secret", "protocol", "out", "wrap"): 1,
        Crossing("PSK", "protocol", "in", "unwrap"): 1,
    }


def test_deriving_agreeing_and_sealing_reveal_nothing(backend: SoftwareBackend) -> None:
    _, shared = backend.respond(G.x25519, seeded(1).key_share(G.x25519).public)
    prk = backend.extract(SHA256, None, shared, "handshake_secret")
    key = backend.expand_label(prk, b"key", b"", 16, "write_key")
    iv = backend.expand_label(prk, b"iv", b"", 12, "write_iv")
    backend.mac(prk, b"data")
    backend.aead(SUITES[CipherSuite.TLS_AES_128_GCM_SHA256], key, iv).seal(0, b"", b"")
    backend.close()
    assert len(backend.ledger) == 0


@pytest.mark.req("7.1-1", "7.2-1", "6-4")
def test_destroy_overwrites(backend: SoftwareBackend) -> None:
    class Watched(bytearray):
        last = b""

        def clear(self) -> None:
            self.last = bytes(self)
            super().clear()

    handle = secret(b"main secret")
    watched = handle.octets = Watched(handle.octets)
    backend.destroy(handle, None)
    assert watched.last == bytes(len(b"main secret")), "zeros, before the buffer was given back"
    assert len(watched) == 0


@pytest.mark.parametrize("use", USES)
def test_a_handle_is_useless_once_destroyed_or_elsewhere(
    backend: SoftwareBackend, use: str
) -> None:
    destroyed = secret(b"gone")
    backend.destroy(destroyed)
    backend.destroy(destroyed)
    with pytest.raises(BackendError, match="a secret, 4 octets> was destroyed"):
        USES[use](backend, destroyed)
    foreign = Secret("a TPM object", 32, SHA256)
    backend.destroy(foreign)
    with pytest.raises(BackendError, match="belongs to another backend"):
        USES[use](backend, foreign)
    assert len(backend.ledger) == 0, "nothing crossed"


# -- where secrets do not appear -------------------------------------------------------------------

PATTERN = bytes.fromhex("5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4")


def assert_silent(*things: object) -> None:
    """None of them shows the pattern, in any usual way of showing octets."""
    for thing in things:
        for shown in (repr(thing), str(thing), f"{thing}", f"{vars_of(thing)!r}"):
            for form in (PATTERN.hex(), repr(PATTERN)[2:-1], str(list(PATTERN))[1:-1]):
                assert form[:24].lower() not in shown.lower(), shown


def vars_of(thing: object) -> object:
    return [repr(value) for value in getattr(thing, "__dict__", {}).values()]


def test_no_secret_shows_itself(backend: SoftwareBackend) -> None:
    handle = secret(PATTERN)
    assert repr(handle) == "<SoftwareSecret a secret, 32 octets>"
    assert_silent(handle, [handle], {"key": handle}, backend)
    assert not hasattr(handle, "__bytes__")
    share = SoftwareBackend(lambda n: PATTERN[:n]).key_share(G.x25519)
    assert_silent(share)


def test_no_error_shows_a_secret(backend: SoftwareBackend) -> None:
    untied = secret(PATTERN, None)
    with pytest.raises(BackendError) as no_hash:
        backend.mac(untied, b"")
    with pytest.raises(BackendError) as foreign:
        backend.mac(Secret("other", 32, SHA256), PATTERN)
    share = SoftwareBackend(lambda n: PATTERN[:n]).key_share(G.x25519)
    with pytest.raises(PeerViolation) as zero:
        share.agree(bytes(32))
    assert_silent(no_hash.value, foreign.value, zero.value)
    assert zero.value.__suppress_context__, "nor does what the library said come along"
