"""What a TPM can do: all of it, and less of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.tpm.conftest import transient
from tests.tpm.fakes import Restricted, Scripted, command_code, response, without
from tpmtls.backends.tpm import commands, public
from tpmtls.backends.tpm.capabilities import Capabilities, PssSalt, probe_pss_salt, slots
from tpmtls.backends.tpm.constants import MODES, Alg, CommandCode, Curve, ResponseCode
from tpmtls.backends.tpm.device import Device, Patience
from tpmtls.backends.tpm.libtpms import LibtpmsTransport
from tpmtls.backends.tpm.opening import Tpm, open_device, open_tpm
from tpmtls.violations import TpmBusy, TpmUnavailable

Verdict = Callable[[bytes], int | None]


@pytest.fixture
def restricted(need_libtpms: None) -> Iterator[Callable[[Verdict], Tpm]]:
    """libtpms, behind a verdict."""
    opened = []

    def open_restricted(verdict: Verdict) -> Tpm:
        transport = Restricted(LibtpmsTransport(), verdict)
        opened.append(open_device(Device(transport, patience=Patience(attempts=1))))
        return opened[0]

    yield open_restricted
    for tpm in opened:
        tpm.close()


def test_a_tpm_that_can_do_all(tpm: Tpm) -> None:
    found = tpm.capabilities
    assert found is tpm.capabilities
    assert found.can(*CommandCode)
    assert found.curves.issuperset(Curve)
    assert found.algorithms.issuperset({Alg.AES, Alg.ECDSA, Alg.RSAPSS, Alg.SHA384})
    assert found.hmac_hashes == {"sha256", "sha384", "sha512"}
    assert found.modes(128) == found.modes(256) == list(MODES)
    assert (found.slots, found.loaded_sessions, found.active_sessions) == (3, 3, 64)
    assert found.input_buffer == 1024
    assert transient(tpm) == []


def test_what_it_says_of_itself(libtpms: Tpm) -> None:
    lines = libtpms.capabilities.describe().splitlines()
    rows = {line[:10].strip(): line[11:] for line in lines}
    assert rows["TPM"] == "IBM SW TPM"
    assert rows["commands"].endswith("lacking none")
    assert rows["curves"] == "P-256 P-384 P-521"
    assert rows["HMAC keys"] == "SHA-256 SHA-384 SHA-512"
    assert rows["AES-128"] == rows["AES-256"] == "ECB CTR CBC CFB OFB"
    assert rows["objects"] == "3 at a time"
    assert rows["sessions"] == "3 at a time, 64 with saved"
    assert rows["input"] == "1024 octets a command"


def test_openings_of_one_tpm_share_what_was_found(tpm: Tpm) -> None:
    with open_tpm(tpm.name) as other:
        assert other.capabilities is tpm.capabilities


# -- less ------------------------------------------------------------------------------------------

Restrict = Callable[[Verdict], Tpm]


def test_no_encryption(restricted: Restrict) -> None:
    """It lists the command, and does not have it."""
    found = restricted(without(CommandCode.EncryptDecrypt2)).capabilities
    assert found.can(CommandCode.EncryptDecrypt2)
    assert found.aes_modes == frozenset()
    assert found.hmac_hashes == {"sha256", "sha384", "sha512"}
    assert "AES-128    none" in found.describe()


def test_one_mode_and_one_key_size(restricted: Restrict) -> None:
    def verdict(frame: bytes) -> int | None:
        if command_code(frame) == CommandCode.LoadExternal and b"\0\x06\1\0\0\x10" in frame:
            return ResponseCode.KEY_SIZE  # AES with 256 bits
        if command_code(frame) == CommandCode.EncryptDecrypt2 and b"\0\x43\0\x10" not in frame:
            return ResponseCode.MODE  # other than CFB with an IV
        return None

    found = restricted(verdict).capabilities
    assert found.aes_modes == {(128, Alg.CFB)}
    assert (found.modes(128), found.modes(256)) == ([Alg.CFB], [])


@pytest.mark.parametrize("command", [CommandCode.LoadExternal, CommandCode.HMAC])
def test_no_hmac(restricted: Restrict, command: CommandCode) -> None:
    assert restricted(without(command)).capabilities.hmac_hashes == frozenset()


def test_one_hash(restricted: Restrict) -> None:
    def verdict(frame: bytes) -> int | None:
        if command_code(frame) == CommandCode.LoadExternal and b"\0\5\0\x0b\0\0" not in frame:
            return 0x2C3  # TPM_RC_HASH
        return None

    found = restricted(verdict).capabilities
    assert found.hmac_hashes == {"sha256"}
    assert found.aes_modes == frozenset()


def test_a_wrong_result_is_no_result(need_libtpms: None) -> None:
    """It answers, but not what everybody else does."""

    class Wrong(Restricted):
        def transmit(self, command: bytes) -> bytes:
            answer = super().transmit(command)
            if command_code(command) in (CommandCode.HMAC, CommandCode.EncryptDecrypt2):
                return answer[:20] + bytes([answer[20] ^ 1]) + answer[21:]
            return answer

    with open_device(Device(Wrong(LibtpmsTransport(), lambda _: None))) as tpm:
        assert tpm.capabilities.hmac_hashes == frozenset()
        assert tpm.capabilities.aes_modes == frozenset()


def test_a_tpm_that_lists_nothing(restricted: Restrict) -> None:
    found = restricted(without(CommandCode.GetCapability)).capabilities
    assert (found.commands, found.curves, found.algorithms) == (frozenset(),) * 3
    assert (found.slots, found.input_buffer) == (3, 1024)
    assert found.hmac_hashes == {"sha256", "sha384", "sha512"}
    assert "curves     none" in found.describe()
    assert not found.can(CommandCode.HMAC)


def test_a_list_that_promises_more_and_ends() -> None:
    more = response(0, b"\1\0\0\0\6\0\0\0\0")
    assert slots(Device(Scripted([more]))) == 3


def test_a_tpm_that_is_busy_is_no_answer(restricted: Restrict) -> None:
    storm = {CommandCode.HMAC: ResponseCode.RETRY}
    tpm = restricted(lambda frame: storm.get(command_code(frame)))  # type: ignore[call-overload]
    with pytest.raises(TpmBusy, match="TPM_RC_RETRY"):
        _ = tpm.capabilities
    assert transient(tpm) == []
    storm.clear()
    assert "sha256" in tpm.capabilities.hmac_hashes


def test_a_tpm_that_is_gone_is_no_answer(restricted: Restrict) -> None:
    verdict = {CommandCode.HMAC: ResponseCode.FAILURE}
    tpm = restricted(lambda frame: verdict.get(command_code(frame)))  # type: ignore[call-overload]
    with pytest.raises(TpmUnavailable, match="failure mode"):
        _ = tpm.capabilities


def test_vendors_commands_are_told_apart() -> None:
    """TPMA_CC says more than the number; a vendor's command has bit 29."""
    numbers = (0x02000155, 0x24400003, 0x20000003)
    page = b"\0\0\0\0\2\0\0\0\3" + b"".join(number.to_bytes(4, "big") for number in numbers)
    device = Device(Scripted([response(0, page)]))
    from tpmtls.backends.tpm.capabilities import _numbers
    from tpmtls.backends.tpm.constants import Capability

    assert _numbers(device, Capability.COMMANDS) == {0x155, 0x20000003}


# -- RSA-PSS ---------------------------------------------------------------------------------------


def test_the_salt_of_pss(tpm: Tpm) -> None:
    assert tpm.pss_salt() is PssSalt.DIGEST
    assert transient(tpm) == []


def test_the_salt_of_pss_with_a_key_at_hand(libtpms: Tpm) -> None:
    with libtpms.load(commands.create_primary(public.rsa_key())) as key:
        with libtpms.device.recording() as recorder:
            assert libtpms.pss_salt(key) is PssSalt.DIGEST
            assert libtpms.pss_salt() is PssSalt.DIGEST
        sent = [command_code(exchange.command) for exchange in recorder.exchanges]
        assert sent == [CommandCode.ReadPublic, CommandCode.Sign]


@pytest.mark.parametrize("command", [CommandCode.LoadExternal, CommandCode.Sign])
def test_no_pss(restricted: Restrict, command: CommandCode) -> None:
    assert restricted(without(command)).pss_salt() is PssSalt.NONE


@pytest.mark.parametrize(
    ("length", "expected"),
    [(32, PssSalt.DIGEST), (222, PssSalt.MAXIMUM), (20, PssSalt.OTHER)],
)
def test_other_salts(length: int, expected: PssSalt) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    from tpmtls.backends.tpm.capabilities import _KEY
    from tpmtls.backends.tpm.frames import Entity, sized
    from tpmtls.backends.tpm.objects import ObjectTable

    key = rsa.generate_private_key(65537, 2048)
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), length)
    signature = key.sign(_KEY, scheme, hashes.SHA256())
    area = public.rsa_external(key.public_key().public_numbers().n.to_bytes(256, "big"))
    signed = b"\0\x16\0\x0b" + sized(signature)
    answers = [
        response(0, sized(area) + sized(b"name") + sized(b"qualified")),
        response(0, len(signed).to_bytes(4, "big") + signed + b"\0\0\1\0\0", tag=0x8002),
    ]
    table = ObjectTable(Device(Scripted(answers)), 3)
    assert probe_pss_salt(table, Entity(0x80000000, b"name")) is expected


def test_capabilities_are_a_value() -> None:
    empty: frozenset[int] = frozenset()
    made = Capabilities(
        "M", "", "1.0", "1.59", empty, empty, empty, frozenset(), frozenset(), 3, 3, 64, 1024
    )
    assert made.describe().startswith("TPM        M\nfirmware   1.0, TPM 2.0 revision 1.59\n")
    lacking = made.describe().splitlines()[2]
    assert lacking.startswith("commands   0, lacking ")
    assert lacking.split()[3:] == [code.name for code in CommandCode]
