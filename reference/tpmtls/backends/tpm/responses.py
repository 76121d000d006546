"""What a response code means for us: which exception, and one line that says what to do."""

from __future__ import annotations

from typing import Final

from tpmtls.backends.tpm.constants import CommandCode, ResponseCode
from tpmtls.violations import TpmAuthError, TpmBusy, TpmError, TpmLacks, TpmUnavailable

RC: Final = ResponseCode
_RESMGR_TPM_LAYER: Final = 11 << 16
"""Added by a resource manager that answers in the TPM's place (TSS 2.0 Overview §3.12)."""

PATIENCE: Final = frozenset((RC.RETRY, RC.YIELDED, RC.TESTING, RC.NV_RATE, RC.NV_UNAVAILABLE))
"""The TPM asks for the same command again, later."""
SLOTS: Final = frozenset((RC.OBJECT_MEMORY, RC.OBJECT_HANDLES))
"""All of its slots for objects are taken."""


class TpmResponseError(TpmError):
    """The TPM answered with a response code: `code` without, `raw` with where it happened.

    Each instance is also one of TpmLacks, TpmBusy, TpmAuthError and TpmUnavailable, where the code
    says that much.
    """

    def __init__(self, command: int, raw: int, advice: str = "") -> None:
        self.command = command
        self.raw = raw
        self.code = canonical(raw)
        super().__init__(f"{command_name(command)}: {describe(raw)}{advice and ': '}{advice}")


class TpmResponseLacks(TpmResponseError, TpmLacks):
    """The TPM does not implement what the command asks for."""


class TpmResponseBusy(TpmResponseError, TpmBusy):
    """The TPM has no room, or no time, now."""


class TpmResponseAuthError(TpmResponseError, TpmAuthError):
    """The TPM refused the authorization."""


class TpmResponseUnavailable(TpmResponseError, TpmUnavailable):
    """The TPM is in a state in which it does nothing for us."""


_RESET: Final = "the TPM was reset, or another program flushed our objects: open it again"
_NO_COMMAND: Final = "this TPM does not have the command: choose protection levels without it"
_NO_ALGORITHM: Final = "the TPM, or this key, does not do that algorithm: choose another"
_FULL: Final = (
    "its slots are taken: end other programs that use it, or go through a resource manager, "
    "such as device:/dev/tpmrm0"
)
_LATER: Final = "it stayed busy for longer than we retry: try again later"
_DENIED: Final = "the authorization was refused: check the key's password or policy"

_MEANINGS: Final[dict[int, tuple[type[TpmResponseError], str]]] = {
    RC.COMMAND_CODE: (TpmResponseLacks, _NO_COMMAND),
    **dict.fromkeys(
        (
            RC.ASYMMETRIC,
            RC.HASH,
            RC.MGF,
            RC.MODE,
            RC.TYPE,
            RC.KDF,
            RC.KEY_SIZE,
            RC.SCHEME,
            RC.SYMMETRIC,
            RC.CURVE,
        ),
        (TpmResponseLacks, _NO_ALGORITHM),
    ),
    **dict.fromkeys((*SLOTS, RC.MEMORY, RC.CONTEXT_GAP), (TpmResponseBusy, _FULL)),
    **dict.fromkeys((RC.SESSION_MEMORY, RC.SESSION_HANDLES), (TpmResponseBusy, _FULL)),
    **dict.fromkeys((RC.CANCELED, *PATIENCE), (TpmResponseBusy, _LATER)),
    **dict.fromkeys(
        (
            RC.AUTH_FAIL,
            RC.BAD_AUTH,
            RC.POLICY_FAIL,
            RC.POLICY_CC,
            RC.EXPIRED,
            RC.AUTH_TYPE,
            RC.AUTH_MISSING,
            RC.AUTH_UNAVAILABLE,
            RC.PCR_CHANGED,
        ),
        (TpmResponseAuthError, _DENIED),
    ),
    RC.LOCKOUT: (
        TpmResponseAuthError,
        "too many wrong passwords: wait, or run `tpm2_dictionarylockout --clear-lockout`",
    ),
    RC.FAILURE: (TpmResponseUnavailable, "the TPM is in failure mode: restart it"),
    RC.INITIALIZE: (TpmResponseUnavailable, _RESET),
    RC.REBOOT: (TpmResponseUnavailable, "restart the machine"),
    RC.UPGRADE: (TpmResponseUnavailable, "its firmware is being upgraded: finish that first"),
    **{
        code: (TpmResponseUnavailable, _RESET)
        for code in RC
        if RC.REFERENCE_H0 <= code <= RC.REFERENCE_S6
    },
}


def from_tpm(code: int) -> bool:
    """Whether a code of tpm2-tss is the TPM's own, or a resource manager's for it."""
    return code >> 16 in (0, _RESMGR_TPM_LAYER >> 16)


def canonical(raw: int) -> int:
    """The code without its layer and without the parameter, handle or session it points at."""
    code = raw - _RESMGR_TPM_LAYER if raw >> 16 == _RESMGR_TPM_LAYER >> 16 else raw
    return code & 0xBF if code & 0x80 and code < 0x1000 else code


def describe(raw: int) -> str:
    """The TCG's name of a response code, and where it happened."""
    code = canonical(raw)
    name = (
        f"TPM_RC_{ResponseCode(code).name}" if code in _KNOWN else "a code that TCG does not list"
    )
    number = raw >> 8 & 0xF
    if not (code < 0x100 and raw & 0x80 and number):
        return f"{name} (0x{raw:03x})"
    if raw & 0x40:
        where = f"parameter {number}"
    else:
        where = f"session {number - 8}" if number > 8 else f"handle {number}"
    return f"{name} (0x{raw:03x}, {where})"


_KNOWN: Final = frozenset(map(int, ResponseCode))
_COMMANDS: Final = {int(code): code.name for code in CommandCode}


def command_name(code: int) -> str:
    """The name by which Part 3 calls a command."""
    return f"TPM2_{_COMMANDS[code]}" if code in _COMMANDS else f"TPM command 0x{code:03x}"


def error(command: int, raw: int) -> TpmResponseError:
    """The exception for the response code `raw` of `command`."""
    kind, advice = _MEANINGS.get(canonical(raw), (TpmResponseError, ""))
    return kind(command, raw, advice)
