"""An audit from beginning to end: every profile observed, every attacker judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final

from tpmtls import __version__
from tpmtls.audit.model import Audit, Cell, Observation, Unavailable
from tpmtls.audit.profiles import PROFILES, Profile
from tpmtls.audit.scenario import DEFAULT_SUITE, observe
from tpmtls.audit.verdicts import cells
from tpmtls.backends.tpm.opening import open_tpm
from tpmtls.codepoints import CipherSuite
from tpmtls.violations import ConfigurationError, TpmBusy, TpmError, TpmUnavailable

RESIDUE: Final = (
    "Host memory is what the client's objects hold at an instant. Python cannot overwrite the"
    " copies that were made on the way: what was on the host once may be found there later, until"
    " its memory is used for something else. Images that we took show that it is (docs/audit.md):"
    " where a snapshot's verdict is `no` and its remark says yes, do not rely on the `no`."
)
DATA: Final = (
    "The data itself, and keystream that covers it, are in host memory with every profile, and"
    " are no secrets of the key schedule."
)
PROVISIONING: Final = (
    "What makes the certificate's key, provisions the external PSK, or prepares the TPM for"
    " chained came before, and is not part of the run."
)
NO_CHIP: Final = (
    "The TPM is a program on this machine and stands for a chip: that its own memory can be read"
    " here is left out of account."
)
_PROGRAMS: Final = ("libtpms:", "swtpm:")


def conduct(
    profiles: Sequence[Profile] = PROFILES,
    suite: CipherSuite = DEFAULT_SUITE,
    *,
    tcti: str | None = None,
    owner_password: bytes | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Audit:
    """Run the scenario for each profile, on one TPM, and judge what was seen.

    A profile that this TPM cannot do is `unavailable`. `progress` is told what comes next, in a few
    words. Raises TpmUnavailable or TpmBusy where a TPM is needed and there is none to be had.
    """
    observations: list[Observation] = []
    verdicts: list[Cell] = []
    unavailable: list[Unavailable] = []
    with ExitStack() as stack:
        if any(profile.needs_tpm for profile in profiles):
            stack.enter_context(open_tpm(tcti, owner_password=owner_password))
        for profile in profiles:
            progress(f"{profile.key}: two connections")
            try:
                seen = observe(profile, suite, tcti=tcti, owner_password=owner_password)
            except (TpmUnavailable, TpmBusy):
                raise
            except (TpmError, ConfigurationError) as error:
                unavailable.append(Unavailable(profile.key, profile.title, str(error)))
                continue
            progress(f"{profile.key}: what each attacker can do")
            observations.append(seen)
            verdicts += cells(seen)
    return Audit(
        __version__,
        datetime.now(UTC).isoformat(timespec="seconds"),
        tuple(observations),
        tuple(verdicts),
        tuple(unavailable),
        tuple(_notes(observations)),
    )


def _notes(observations: Sequence[Observation]) -> Iterator[str]:
    yield from (RESIDUE, DATA, PROVISIONING)
    if any((seen.tpm or "").startswith(_PROGRAMS) for seen in observations):
        yield NO_CHIP
