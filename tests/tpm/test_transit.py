"""Secrets on the bus: what crosses under the session, what it withstands, what it leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tpm.conftest import loaded_sessions, transient
from tests.tpm.fakes import command_code, response
from tests.tpm.support import LEVEL_SETS, SCENARIOS, Ends, Pair, at_rest, client_config, ends
from tests.tpm.swtpm import Swtpm
from tests.tpm.test_ledger import Telling, found, listed
from tests.unit.commands import serving, tpmtls
from tests.unit.support import pki
from tpmtls import open_backend
from tpmtls.algorithms import SHA256
from tpmtls.backends.base import Backend
from tpmtls.backends.ledger import Crossing
from tpmtls.backends.software import SoftwareBackend
from tpmtls.backends.tpm import commands, public, transit
from tpmtls.backends.tpm.backend import TpmBackend
from tpmtls.backends.tpm.constants import Alg, Curve, ResponseCode
from tpmtls.backends.tpm.constants import CommandCode as CC
from tpmtls.backends.tpm.device import Device, Patience
from tpmtls.backends.tpm.frames import NULL_HIERARCHY, Command, permanent, sized
from tpmtls.backends.tpm.libtpms import LibtpmsTransport
from tpmtls.backends.tpm.opening import Tpm, open_device, open_tpm
from tpmtls.backends.tpm.public import Point, parse_public
from tpmtls.backends.tpm.responses import TpmResponseError
from tpmtls.backends.tpm.storage import Storage
from tpmtls.backends.tpm.tcti import Transport
from tpmtls.backends.tpm.transit import (
    CARRIERS,
    Session,
    Transit,
    TransitLedger,
    kdfa,
    kdfe,
    named,
    parse_salt_name,
    salt_name,
)
from tpmtls.cli.exits import SUCCESS, USAGE
from tpmtls.codepoints import CipherSuite
from tpmtls.violations import (
    ConfigurationError,
    TpmAuthError,
    TpmBusy,
    TpmError,
    TpmUnavailable,
)

KEY = b"octets that nobody may read....."
DATA = b"what a key is used with, a secret as well"
ALL = LEVEL_SETS[-1]
GENERATOR = Point(
    bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"),
    bytes.fromhex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"),
)
"""A point on P-256: its generator."""
HMAC_KEY = commands.load_hmac_key(KEY, Alg.SHA256)


@pytest.fixture
def tpm(tpm: Tpm) -> Iterator[Tpm]:
    """Either TPM, without the sessions that other tests left in it; with none afterwards."""
    with open_tpm(tpm.name) as beside:
        for session in loaded_sessions(beside):
            beside.run(commands.flush_context(session))
        yield tpm
        tpm.close()
        assert loaded_sessions(beside) == []


def hmac_in(tpm: Tpm) -> bytes:
    with tpm.load(HMAC_KEY) as key:
        return tpm.run(commands.hmac(key, DATA, Alg.SHA256))


# -- derivation ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "key", "u", "v", "bits", "expected"),
    [
        ("sha256", b"yolo\0", b"kek\0", b"yoyo\0", 128, "d2d72cc7a8a5eb09e8c79012e2da9f22"),
        (
            *("sha1", b"ca\0", b"abc\0", b"", 256),
            "83f354afcf923de2112e0891434cd0bdc8acbf01b811c0e8cd062ded39e31f7f",
        ),
    ],
)
def test_kdfa_by_known_answers(  # those of go-tpm's tests
    algorithm: str, key: bytes, u: bytes, v: bytes, bits: int, expected: str
) -> None:
    assert kdfa(key, b"IDENTITY", u, v, bits, algorithm).hex() == expected


@pytest.mark.usefixtures("need_pytss")
@pytest.mark.parametrize("bits", [128, 256, 264, 1024])
@pytest.mark.parametrize("algorithm", ["sha256", "sha384"])
def test_derivations_are_those_of_tpm2_pytss(algorithm: str, bits: int) -> None:
    from tpm2_pytss.constants import TPM2_ALG
    from tpm2_pytss.internal import crypto

    number = {"sha256": TPM2_ALG.SHA256, "sha384": TPM2_ALG.SHA384}[algorithm]
    theirs = crypto._kdfa(number, b"key", b"LABEL", b"caller", b"tpm", bits)
    assert kdfa(b"key", b"LABEL", b"caller", b"tpm", bits, algorithm) == theirs
    theirs = crypto.kdfe(number, b"shared", b"LABEL\0", b"ours", b"theirs", bits)
    assert kdfe(b"shared", b"LABEL", b"ours", b"theirs", bits, algorithm) == theirs


# -- each command ----------------------------------------------------------------------------------


def load_and_hmac(tpm: Tpm) -> bytes:
    return hmac_in(tpm)


def encrypt(tpm: Tpm) -> list[bytes]:
    results: list[bytes] = []
    for size in 16, 32:
        with tpm.load(commands.load_aes_key(KEY[:size])) as key:
            for mode in Alg.ECB, Alg.CTR, Alg.CBC, Alg.CFB:
                iv = b"" if mode is Alg.ECB else bytes(16)
                for decrypt in False, True:
                    command = commands.encrypt_decrypt2(key, KEY * 32, mode, iv, decrypt=decrypt)
                    results += [*tpm.run(command)]
    return results


def agree(tpm: Tpm) -> bool:
    with tpm.load(commands.create_ecdh_key(Curve.NIST_P256)) as key:
        peer = parse_public(key.public).point
        with tpm.load(commands.load_ecdh_peer(Curve.NIST_P256, peer)) as loaded:
            made = tpm.run(commands.ecdh_keygen(loaded))
        return tpm.run(commands.ecdh_zgen(key, made.public)) == made.shared


def store(tpm: Tpm) -> tuple[bytes, bytes]:
    storage = Storage(tpm)
    sealed = storage.unseal(storage.seal(DATA))
    with storage.load(storage.wrap_hmac_key(KEY, Alg.SHA256)) as key:
        tag = tpm.run(commands.hmac(key, DATA, Alg.SHA256))
    storage.close()
    return sealed, tag


def with_password(tpm: Tpm) -> bytes:
    """A password crosses in the sensitive area, and is then in the HMACs alone."""
    area = public.hmac_key(Alg.SHA256)
    password = b"a password\0\0"  # whose zeros at the end do not count
    sensitive = b"\0\x08" + sized(password.rstrip(b"\0")) + sized(b"") + sized(KEY)
    with tpm.load(commands.load_external(area, sensitive), password=password) as key:
        return tpm.run(commands.hmac(key, DATA, Alg.SHA256))


def peers_point(tpm: Tpm) -> bytes:
    with tpm.load(commands.load_ecdh_peer(Curve.NIST_P256, GENERATOR)) as peer:
        return peer.name


@pytest.mark.parametrize(
    "use",
    [load_and_hmac, encrypt, agree, store, with_password, peers_point],
    ids=lambda f: f.__name__,
)
def test_a_command_gives_the_same_with_and_without(tpm: Tpm, use: Callable[[Tpm], Any]) -> None:
    clear = use(tpm)
    with open_tpm(tpm.name) as other:
        Transit(other)
        with other.device.recording() as recorder:
            assert use(other) == clear
        assert other.live == 0
    assert {command_code(each.command) for each in recorder.exchanges} & CARRIERS.keys()
    for exchange in recorder.exchanges:
        code = command_code(exchange.command)
        assert (exchange.command[:2] == b"\x80\x02") is (code in CARRIERS), code
    for octets in KEY, DATA, b"a password":
        assert recorder.find(octets[:16]) == []


def test_the_session_goes_on_while_objects_come_and_go(tpm: Tpm) -> None:
    Transit(tpm)
    keys = [tpm.load(commands.load_hmac_key(bytes((n,)), Alg.SHA256)) for n in range(8)]
    tags = [tpm.run(commands.hmac(key, DATA, Alg.SHA256)) for key in keys]
    assert [tpm.run(commands.hmac(key, DATA, Alg.SHA256)) for key in keys] == tags
    assert len(set(tags)) == 8


def test_threads_share_the_session(libtpms: Tpm) -> None:
    expected = hmac_in(libtpms)
    Transit(libtpms)
    wrong: list[bytes] = []

    def work() -> None:
        for _ in range(20):
            wrong.extend({hmac_in(libtpms)} - {expected})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(loaded_sessions(libtpms)) == 1


# -- names of keys ---------------------------------------------------------------------------------


def test_loaded_keys_get_a_name_that_tells_nothing(libtpms: Tpm) -> None:
    """So that the HMAC of a command covers which key is meant."""
    Transit(libtpms)
    for command in HMAC_KEY, commands.load_aes_key(KEY):
        with libtpms.load(command) as first, libtpms.load(command) as second:
            assert first.name[:2] == second.name[:2] == b"\0\x0b"
            assert first.name != second.name


def test_public_areas_and_named_keys_stay_as_they_are() -> None:
    peer = commands.load_ecdh_peer(Curve.NIST_P256, Point(b"x", b"y")).parameters
    assert named(peer) == peer
    once = named(HMAC_KEY.parameters)
    assert named(once) == once != HMAC_KEY.parameters


class Exchanging:
    """Somebody on the bus who has a command use another key than it names."""

    def __init__(self, inner: Transport) -> None:
        self.name, self.inner, self.other = "exchanging:", inner, b""
        self.close, self.abandon = inner.close, inner.abandon

    def transmit(self, command: bytes) -> bytes:
        if self.other and command_code(command) == CC.HMAC:
            command = command[:10] + self.other + command[14:]
        return self.inner.transmit(command)


@pytest.mark.usefixtures("need_libtpms")
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_key_cannot_be_exchanged_for_another(encrypted: bool) -> None:
    transport = Exchanging(LibtpmsTransport())
    with open_device(Device(transport)) as tpm:
        if encrypted:
            Transit(tpm)
        with tpm.load(commands.load_hmac_key(b"theirs", Alg.SHA256)) as theirs:
            known = tpm.run(commands.hmac(theirs, DATA, Alg.SHA256))
            with tpm.load(HMAC_KEY) as key:
                transport.other = theirs.handle.to_bytes(4, "big")
                command = commands.hmac(key, DATA, Alg.SHA256)
                if encrypted:
                    with pytest.raises(TpmAuthError, match=r"AUTH_FAIL|BAD_AUTH"):
                        tpm.run(command)
                else:
                    assert tpm.run(command) == known
                transport.other = b""


# -- handshakes ------------------------------------------------------------------------------------

SEARCHED = ("full", "sha384", "key_updates", "resumption", "external_psk", "early_data")


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("scenario", SEARCHED)
def test_no_secret_crosses_in_clear(tpm: Tpm, role: str, scenario: str) -> None:
    backend, peer = TpmBackend(tpm, ALL, encrypt_bus=True), Telling()
    before = at_rest(backend)
    with tpm.device.recording() as recorder:
        SCENARIOS[scenario](ends(role, backend, peer))
    assert found(recorder.exchanges, peer.secrets) == {}
    assert len(peer.secrets) > 10
    assert listed(backend.ledger) == {}
    assert tpm.live == before


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("scenario", SEARCHED)
def test_the_same_search_finds_them_without(libtpms: Tpm, role: str, scenario: str) -> None:
    backend, peer = TpmBackend(libtpms, ALL), Telling()
    with libtpms.device.recording() as recorder:
        SCENARIOS[scenario](ends(role, backend, peer))
    names = {name for name, _, _ in found(recorder.exchanges, peer.secrets)}
    assert {"main_secret", "handshake_secret", "finished_key", "write_key"} <= names


def crossings(backend: Backend) -> set[tuple[str, str, str]]:
    return {
        (c.secret, c.direction, c.via) for c in backend.ledger.crossings() if c.boundary == "tpm"
    }


@pytest.mark.parametrize("role", ["client", "server"])
def test_the_ledger_lists_the_same_crossings_as_encrypted(libtpms: Tpm, role: str) -> None:
    lists = []
    for encrypted in False, True:
        with open_tpm("libtpms:") as tpm:
            backend = TpmBackend(tpm, ALL, encrypt_bus=encrypted)
            SCENARIOS["resumption"](ends(role, backend, SoftwareBackend()))
            lists.append(crossings(backend))
            visible = {
                c.visibility
                for c in backend.ledger.crossings()
                if c.boundary == "tpm" and c.via != "TPM2_Load"  # wrapped, either way
            }
            assert visible == ({"encrypted"} if encrypted else {"clear"})
    assert lists[0] == lists[1]


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_chip_without_ecb_is_given_the_iv_in_clear(libtpms: Tpm, encrypted: bool) -> None:
    """It goes to another parameter than the first, and the ledger says so."""
    modes = frozenset({(128, Alg.CFB), (256, Alg.CFB)})
    libtpms._shared.capabilities = replace(libtpms.capabilities, aes_modes=modes)
    backend, peer = TpmBackend(libtpms, ALL, encrypt_bus=encrypted), Telling()
    with libtpms.device.recording() as recorder:
        SCENARIOS["full"](ends("client", backend, peer))
    told = listed(backend.ledger).keys()
    assert found(recorder.exchanges, peer.secrets).keys() == told
    iv = ("write_iv", "in", "TPM2_EncryptDecrypt2")
    assert told == {iv} if encrypted else iv in told


def test_a_handshake_with_ccm(libtpms: Tpm) -> None:
    backend, peer = TpmBackend(libtpms, ALL, encrypt_bus=True), Telling()
    config = client_config(suites=(CipherSuite.TLS_AES_128_CCM_SHA256,))
    with libtpms.device.recording() as recorder:
        pair = Pair(Ends(backend, peer), config).complete()
        pair.talk()
        pair.end()
    assert found(recorder.exchanges, peer.secrets) == {}


def test_the_protocols_boundary_is_not_the_bus() -> None:
    ledger = TransitLedger(exposes_iv=False)
    ledger.record(Crossing("PSK", "protocol", "out", "wrap"))
    assert [c.visibility for c in ledger.crossings()] == ["clear"]


# -- the salt key ----------------------------------------------------------------------------------


def test_the_right_name(tpm: Tpm) -> None:
    name = salt_name(tpm)
    assert salt_name(tpm) == name
    assert len(name) == 34
    backend = TpmBackend(tpm, {"hkdf"}, encrypt_bus=name.hex())
    backend.extract(SHA256, None, None, "early_secret")


@pytest.mark.usefixtures("need_libtpms")
def test_the_wrong_name() -> None:
    with open_tpm("libtpms:") as tpm:
        before = transient(tpm), loaded_sessions(tpm)
        right = salt_name(tpm)
        wrong = right[:-1] + bytes((right[-1] ^ 1,))
        with pytest.raises(TpmAuthError, match="does not have the expected Name") as caught:
            open_backend("tpm", tcti="libtpms:", encrypt_bus=wrong.hex())
        assert "\n" not in str(caught.value)
        assert (transient(tpm), loaded_sessions(tpm)) == before


@pytest.mark.parametrize("text", ["", "000b", "x" * 68, "000c" + "00" * 32, "000b" + "00" * 33])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is no Name .* `tpmtls key salt-name`"):
        parse_salt_name(text)


def test_encryption_is_not_silently_left_out() -> None:
    with pytest.raises(ConfigurationError, match="encrypt_bus is for the backend tpm"):
        open_backend("software", encrypt_bus=True)


class Substituting:
    """Somebody on the bus who shows a key of his own in place of the TPM's, from some time on."""

    def __init__(self, inner: Transport, *, active: bool) -> None:
        self.name, self.inner, self.active = "substituting:", inner, active
        self.close, self.abandon = inner.close, inner.abandon

    def transmit(self, command: bytes) -> bytes:
        answer = self.inner.transmit(command)
        if not self.active or command_code(command) != CC.CreatePrimary:
            return answer
        end = answer.index(b"\0\x03\0\x10") + 4  # curve and KDF
        point = sized(GENERATOR.x) + sized(GENERATOR.y)
        return answer[:end] + point + answer[end + len(point) :]


@pytest.mark.usefixtures("need_libtpms")
def test_a_pinned_key_cannot_be_substituted() -> None:
    transport = Substituting(LibtpmsTransport(), active=False)
    tpm = open_device(Device(transport))
    name = salt_name(tpm)
    transport.active = True
    with pytest.raises(TpmAuthError, match="somebody answers in its place"):
        Transit(tpm, name)
    tpm.close()


@pytest.mark.usefixtures("need_libtpms")
def test_nor_can_the_key_that_was_seen_first_be_later() -> None:
    transport = Substituting(LibtpmsTransport(), active=False)
    with open_device(Device(transport)) as tpm:
        Transit(tpm)
        (session,) = loaded_sessions(tpm)
        tpm.run(commands.flush_context(session))
        transport.active = True
        with pytest.raises(TpmAuthError, match="somebody answers in its place"):
            hmac_in(tpm)
        transport.active = False
        hmac_in(tpm)


@pytest.mark.parametrize(
    ("offset", "what"), [(0, "a kind of key"), (7, "attributes"), (60, "a point off the curve")]
)
def test_a_salt_key_that_is_none(libtpms: Tpm, offset: int, what: str) -> None:
    with transit._salt_key(libtpms) as key:
        area = bytearray(key.public)
        area[offset] ^= 1
        with pytest.raises(TpmError, match="not what we asked for"):
            transit._salt(bytes(area))


def test_an_owner_with_a_password(libtpms: Tpm) -> None:
    change = Command(0x129, (permanent(0x40000001),), sized(b"owner"), bytes, 1)
    libtpms.run(change)  # TPM2_HierarchyChangeAuth
    with pytest.raises(TpmAuthError, match="the owner hierarchy of the TPM has a password"):
        Transit(libtpms)


def test_the_command_prints_the_name(tmp_path: Path, need_libtpms: None) -> None:
    name = f"libtpms:{tmp_path / 'tpm'}"
    printed = tpmtls("key", "salt-name", "--tcti", name)
    assert (printed.status, printed.stderr) == (0, "")
    with open_tpm(name) as tpm:
        assert parse_salt_name(printed.stdout.decode().strip()) == salt_name(tpm)
    refused = tpmtls("key", "salt-name", "--tcti", "libtpms:")
    assert refused.status == 2


# -- answers that were altered ---------------------------------------------------------------------


class Altering:
    """Somebody on the bus who alters answers of one command."""

    def __init__(self, inner: Transport, code: CC) -> None:
        self.name, self.inner, self.code = "altering:", inner, code
        self.altered = 0
        self.alter: Callable[[bytes], bytes] | None = None
        self.close, self.abandon = inner.close, inner.abandon

    def transmit(self, command: bytes) -> bytes:
        answer = self.inner.transmit(command)
        if self.alter is None or command_code(command) != self.code:
            return answer
        alter, self.alter = self.alter, None
        self.altered += 1
        return alter(answer)


def flip(offset: int) -> Callable[[bytes], bytes]:
    def act(answer: bytes) -> bytes:
        octets = bytearray(answer)
        octets[offset] ^= 1
        return bytes(octets)

    return act


def strip(answer: bytes) -> bytes:
    """Without sessions, as if there had been none."""
    start = 10
    size = int.from_bytes(answer[start : start + 4], "big")
    return response(0, answer[start + 4 : start + 4 + size])


ALTERATIONS = {
    "the result": flip(20),
    "the size of the result": flip(15),
    "the size of the parameters": flip(13),
    "the nonce": flip(-50),
    "the attributes": flip(-35),
    "the HMAC": flip(-1),
    "no session": strip,
    "nothing but a header": lambda _: response(0),
    "nothing of the session": lambda a: response(0, a[10:14] + a[14:48], tag=0x8002),
}


@pytest.mark.usefixtures("need_libtpms")
@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_an_altered_answer_is_noticed(alteration: str) -> None:
    transport = Altering(LibtpmsTransport(), CC.HMAC)
    with open_device(Device(transport)) as tpm:
        expected = hmac_in(tpm)
        Transit(tpm)
        transport.alter = ALTERATIONS[alteration]
        with pytest.raises(TpmError, match=r"TPM2_HMAC: the TPM's answer was altered on its way$"):
            hmac_in(tpm)
        assert transport.altered == 1
        assert tpm.live == 0
        assert hmac_in(tpm) == expected
        assert len(loaded_sessions(tpm)) == 1


@pytest.mark.usefixtures("need_libtpms")
def test_an_object_of_an_altered_answer_is_not_left_behind() -> None:
    transport = Altering(LibtpmsTransport(), CC.LoadExternal)
    with open_device(Device(transport)) as tpm:
        Transit(tpm)
        before = transient(tpm)
        transport.alter = flip(-1)
        with pytest.raises(TpmError, match="altered on its way"):
            tpm.load(HMAC_KEY)
        assert transient(tpm) == before


@pytest.mark.usefixtures("need_libtpms")
def test_an_altered_start_gives_no_session() -> None:
    transport = Altering(LibtpmsTransport(), CC.StartAuthSession)
    with open_device(Device(transport)) as tpm:
        transport.alter = flip(-1)
        Transit(tpm)
        hmac_in(tpm)  # the first command is refused, and starts another
        assert transport.altered == 1


# -- the session goes, and others' come ------------------------------------------------------------


def test_a_session_that_somebody_flushed_is_made_anew(tpm: Tpm) -> None:
    expected = hmac_in(tpm)
    Transit(tpm)
    for _ in range(3):
        (session,) = loaded_sessions(tpm)
        tpm.run(commands.flush_context(session))
        assert hmac_in(tpm) == expected


def others_session(tpm: Tpm) -> int:
    parameters = sized(bytes(16)) + sized(b"") + b"\0\0\x10\0\x0b"
    nobody = (NULL_HIERARCHY, NULL_HIERARCHY)
    start = Command(CC.StartAuthSession, nobody, parameters, bytes)
    return int.from_bytes(tpm.run(start)[:4], "big")


def test_a_session_of_somebody_else_in_its_place_is_left_alone(tpm: Tpm) -> None:
    with open_tpm(tpm.name) as beside:
        expected = hmac_in(tpm)
        Transit(tpm)
        (ours,) = loaded_sessions(beside)
        beside.run(commands.flush_context(ours))
        theirs = others_session(beside)
        assert theirs == ours
        assert hmac_in(tpm) == expected
        assert theirs in loaded_sessions(beside)
        (ours,) = set(loaded_sessions(beside)) - {theirs}
        beside.run(commands.flush_context(ours))
        another = others_session(beside)
        tpm.close()
        assert loaded_sessions(beside) == sorted((theirs, another))
        for each in theirs, another:
            beside.run(commands.flush_context(each))


@pytest.mark.usefixtures("need_libtpms")
def test_all_slots_taken() -> None:
    waited: list[float] = []
    device = Device(LibtpmsTransport(), patience=Patience(sleep=waited.append))
    with open_device(device) as tpm:
        sessions = [others_session(tpm) for _ in range(3)]
        with pytest.raises(TpmBusy):
            Transit(tpm)
        assert waited
        assert transient(tpm) == []
        device.patience = Patience(
            sleep=lambda _: tpm.run(commands.flush_context(sessions.pop())) if sessions else None
        )
        Transit(tpm)
        assert len(loaded_sessions(tpm)) == 3


def test_a_refused_password_is_still_refused(tpm: Tpm) -> None:
    Transit(tpm)
    area = public.hmac_key(Alg.SHA256)
    sensitive = b"\0\x08" + sized(b"right") + sized(b"") + sized(KEY)
    with (
        tpm.load(commands.load_external(area, sensitive), password=b"wrong") as key,
        pytest.raises(TpmAuthError),
    ):
        tpm.run(commands.hmac(key, DATA, Alg.SHA256))
    assert len(loaded_sessions(tpm)) == 1


def test_other_failures_are_not_the_sessions(libtpms: Tpm) -> None:
    transit = Transit(libtpms)
    assert not transit.recover(TpmResponseError(CC.HMAC, 0x9A2 & ~0x800))  # at a handle
    assert not transit.recover(TpmResponseError(CC.HMAC, 0x98E | 0x40))  # at a parameter
    assert not transit.recover(TpmResponseError(CC.HMAC, ResponseCode.REFERENCE_H0))
    assert transit.recover(TpmResponseError(CC.HMAC, ResponseCode.REFERENCE_S0))


# -- nothing is left, and nothing told -------------------------------------------------------------


@pytest.fixture
def beside(tpm: Tpm) -> Iterator[Tpm]:
    with open_tpm(tpm.name) as other:
        yield other


def test_nothing_is_left_in_the_tpm(tpm: Tpm, beside: Tpm) -> None:
    before = transient(beside), loaded_sessions(beside)
    backend = TpmBackend(tpm, ALL, encrypt_bus=True)
    at_rest(backend)
    for scenario in "full", "resumption":
        SCENARIOS[scenario](ends("both", backend))
    assert len(loaded_sessions(beside)) == len(before[1]) + 1
    backend.close()
    assert (transient(beside), loaded_sessions(beside)) == before
    with pytest.raises(TpmUnavailable):
        hmac_in(tpm)


def test_a_backend_that_cannot_be_had_leaves_no_session(tpm: Tpm, beside: Tpm) -> None:
    before = loaded_sessions(beside)
    with pytest.raises(ConfigurationError):
        open_backend("tpm", tcti=tpm.name, encrypt_bus="000b")
    with pytest.raises(ConfigurationError):
        open_backend("tpm", tcti=tpm.name, protect=("all",), encrypt_bus=True)
    assert loaded_sessions(beside) == before


def test_two_backends_have_two_sessions(tpm: Tpm, beside: Tpm) -> None:
    with open_tpm(tpm.name) as second:
        backends = [TpmBackend(each, ALL, encrypt_bus=True) for each in (tpm, second)]
        Pair(Ends(*backends)).complete().end()
        assert len(loaded_sessions(beside)) == 2
        for backend in backends:
            backend.close()
    assert loaded_sessions(beside) == []


def test_nothing_is_told_by_repr(libtpms: Tpm) -> None:
    session = Transit(libtpms).authorize(HMAC_KEY)
    assert isinstance(session, Session)
    with libtpms.load(HMAC_KEY) as key:
        told = f"{session!r}{session}{libtpms!r}{key!r}"
    assert session._key.hex() not in told
    assert repr(session._key) not in told


# -- the commands ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pinned", [False, True])
def test_serve_and_connect(shared_swtpm: Swtpm, beside_swtpm: Tpm, pinned: bool) -> None:
    made, before = pki().server(), loaded_sessions(beside_swtpm)
    options = ["--backend", "tpm", "--tcti", shared_swtpm.tcti, "--encrypt-bus"]
    options += [salt_name(beside_swtpm).hex()] * pinned
    with serving("--cert", made.chain, "--key", made.key, *options) as served:
        outcome = tpmtls(
            *("connect", f"localhost:{served.port}", "--ca", pki().ca, *options),
            stdin=b"to and fro",
        )
        assert (outcome.status, outcome.stdout) == (SUCCESS, b"to and fro"), outcome.stderr
        served.end()
    assert loaded_sessions(beside_swtpm) == before


@pytest.fixture
def beside_swtpm(shared_swtpm: Swtpm) -> Iterator[Tpm]:
    with open_tpm(shared_swtpm.tcti) as other:
        yield other


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--backend", "tpm", "--encrypt-bus", "000b" + "00" * 32), "not have the expected Name"),
        (("--backend", "tpm", "--encrypt-bus", "localhost:1"), "that is no Name"),
        (("--encrypt-bus",), "--encrypt-bus needs --backend tpm"),
    ],
)
@pytest.mark.usefixtures("need_libtpms")
def test_what_is_wrong_is_said_at_once(options: tuple[str, ...], says: str) -> None:
    outcome = tpmtls("connect", "localhost:1", "--insecure", "--tcti", "libtpms:", *options)
    assert outcome.status == USAGE
    assert says in outcome.stderr
