"""Our numbers are the TCG's: each is compared with tpm2-pytss's constant of that name."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest

from tpmtls.backends.tpm import constants

_PAIRS: list[tuple[type[IntEnum], str]] = [
    (constants.CommandCode, "TPM2_CC"),
    (constants.Alg, "TPM2_ALG"),
    (constants.Curve, "TPM2_ECC"),
    (constants.Capability, "TPM2_CAP"),
    (constants.Property, "TPM2_PT"),
    (constants.Attribute, "TPMA_OBJECT"),
    (constants.ResponseCode, "TPM2_RC"),
]


def _theirs(name: str) -> dict[str, int]:
    """Their constants of that class, and of those whose names go on, as TPM2_PT_HR does."""
    import tpm2_pytss.constants

    found: dict[str, int] = {}
    for kind in (each for each in dir(tpm2_pytss.constants) if each.startswith(name)):
        for member in dir(getattr(tpm2_pytss.constants, kind)):
            value: Any = getattr(getattr(tpm2_pytss.constants, kind), member)
            if not member.startswith("_") and isinstance(value, int):
                found[_plain(kind.removeprefix(name) + member)] = int(value)
    return found


@pytest.mark.usefixtures("need_pytss")
@pytest.mark.parametrize(("ours", "theirs"), _PAIRS, ids=str)
def test_constants_are_those_of_tpm2_pytss(ours: type[IntEnum], theirs: str) -> None:
    expected = _theirs(theirs)
    for member in ours:
        assert expected[_plain(member.name)] == member, member.name


def _plain(name: str) -> str:
    return name.upper().replace("_", "").removeprefix("TPM2")
