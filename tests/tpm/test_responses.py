"""Response codes: the exception each becomes, and the line it says."""

from __future__ import annotations

import pytest

from tpmtls.backends.tpm.constants import CommandCode, ResponseCode
from tpmtls.backends.tpm.responses import TpmResponseError, canonical, command_name, error
from tpmtls.violations import TpmAuthError, TpmBusy, TpmError, TpmLacks, TpmUnavailable

KINDS: list[type[TpmError]] = [TpmLacks, TpmBusy, TpmAuthError, TpmUnavailable]


@pytest.mark.parametrize(
    ("raw", "kind", "words"),
    [
        (0x143, TpmLacks, "TPM2_Sign: TPM_RC_COMMAND_CODE (0x143): this TPM does not have"),
        (0xB0143, TpmLacks, "TPM2_Sign: TPM_RC_COMMAND_CODE (0xb0143): this TPM does not have"),
        (0x2D2, TpmLacks, "TPM2_Sign: TPM_RC_SCHEME (0x2d2, parameter 2): the TPM, or this key"),
        (0x2C3, TpmLacks, "TPM2_Sign: TPM_RC_HASH (0x2c3, parameter 2)"),
        (0x1E6, TpmLacks, "TPM2_Sign: TPM_RC_CURVE (0x1e6, parameter 1)"),
        (0x902, TpmBusy, "TPM2_Sign: TPM_RC_OBJECT_MEMORY (0x902): its slots are taken"),
        (0x903, TpmBusy, "TPM2_Sign: TPM_RC_SESSION_MEMORY (0x903): its slots are taken"),
        (0x905, TpmBusy, "TPM2_Sign: TPM_RC_SESSION_HANDLES (0x905): its slots are taken"),
        (0x922, TpmBusy, "TPM2_Sign: TPM_RC_RETRY (0x922): it stayed busy"),
        (0x98E, TpmAuthError, "TPM2_Sign: TPM_RC_AUTH_FAIL (0x98e, session 1): the authorization"),
        (0x9A2, TpmAuthError, "TPM2_Sign: TPM_RC_BAD_AUTH (0x9a2, session 1): the authorization"),
        (0x99D, TpmAuthError, "TPM2_Sign: TPM_RC_POLICY_FAIL (0x99d, session 1)"),
        (0x921, TpmAuthError, "TPM2_Sign: TPM_RC_LOCKOUT (0x921): too many wrong passwords: wait"),
        (0x101, TpmUnavailable, "TPM2_Sign: TPM_RC_FAILURE (0x101): the TPM is in failure mode"),
        (0x910, TpmUnavailable, "TPM2_Sign: TPM_RC_REFERENCE_H0 (0x910): the TPM was reset"),
        (0x100, TpmUnavailable, "TPM2_Sign: TPM_RC_INITIALIZE (0x100): the TPM was reset"),
        (0x18B, TpmError, "TPM2_Sign: TPM_RC_HANDLE (0x18b, handle 1)"),
        (0x084, TpmError, "TPM2_Sign: TPM_RC_VALUE (0x084)"),
        (0x3FF, TpmError, "TPM2_Sign: a code that TCG does not list (0x3ff, parameter 3)"),
        (0x70001, TpmError, "TPM2_Sign: a code that TCG does not list (0x70001)"),
    ],
)
def test_meaning(raw: int, kind: type[TpmError], words: str) -> None:
    failure = error(CommandCode.Sign, raw)
    assert isinstance(failure, TpmResponseError)
    assert isinstance(failure, kind)
    assert [each for each in KINDS if isinstance(failure, each)] == (
        [kind] if kind in KINDS else []
    )
    assert str(failure).startswith(words)
    assert "\n" not in str(failure)
    assert (failure.command, failure.raw) == (CommandCode.Sign, raw)


@pytest.mark.parametrize("code", ResponseCode)
def test_every_code_keeps_its_name(code: ResponseCode) -> None:
    assert canonical(code) == code
    assert f"TPM_RC_{code.name} " in str(error(CommandCode.HMAC, code))


@pytest.mark.parametrize("where", [0x040, 0x140, 0xF40, 0x100, 0x700, 0x800, 0xF00])
def test_where_it_happened_is_not_part_of_the_code(where: int) -> None:
    for code in ResponseCode:
        if 0x80 <= code < 0x100:
            assert canonical(code | where) == code


def test_commands_have_names() -> None:
    assert command_name(CommandCode.ECDH_ZGen) == "TPM2_ECDH_ZGen"
    assert command_name(0x20000001) == "TPM command 0x20000001"
