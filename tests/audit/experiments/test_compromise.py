"""The question that all this began with.

A client is compromised after its handshake, while the connection is open. The attacker takes the
resumption secret, the PSK, or whatever else there is of it, and the ticket. It leaves. Can it
resume the session as the client, from a machine of its own?
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.audit.experiments.attacks import resume
from tests.audit.experiments.live import Ours
from tests.audit.experiments.machine import Machine
from tests.audit.experiments.run import run
from tests.audit.experiments.trial import Trial
from tests.audit.experiments.verdicts import RESUME, assert_agrees, observed, verdict
from tests.pki import Pki
from tpmtls.audit import facts
from tpmtls.audit.attackers import ATTACKERS
from tpmtls.audit.model import Observation
from tpmtls.audit.profiles import BY_KEY
from tpmtls.audit.verdicts import Judge

pytestmark = pytest.mark.usefixtures("need_libtpms")

ANSWERS = {
    "software": (True, True),
    "sign": (True, True),
    "sign+ecdhe": (True, True),
    "sign+ecdhe+hkdf": (False, True),
    "all": (False, True),
    "chained": (False, True),
    "handle-only": (False, False),
}
"""Whether it can, with an image of the client's memory; and as code there that asked the TPM.

The profile `psk` has no sessions to resume.
"""


def derived_at(observation: Observation, attacker: str, instant: int) -> bool:
    """What the model says of an attacker of just that instant."""
    who = next(each for each in ATTACKERS if each.key == attacker)
    return any(
        reached.fact == facts.resumes(1)
        and reached.instant <= instant < reached.instant + reached.instants
        for reached in Judge(observation).reached(who, RESUME, there=False)
    )


@pytest.mark.parametrize("key", sorted(BY_KEY.keys() - {"psk"}))
def test_a_client_is_compromised_after_its_handshake(
    key: str, ours: Ours, pki: Pki, tmp_path: Path
) -> None:
    profile, observation = BY_KEY[key], observed(key)
    disk = tmp_path / "disk"
    disk.mkdir()
    with Machine(profile, disk, pki) as machine:
        trial = Trial(profile, observation, run(machine, ours, tmp_path / "copy"))
    after = trial.moment("1 data").last
    image = resume(trial.loot_at("snapshot-during", after), ours, pki)
    code = any(resume(loot, ours, pki) for loot in trial.loot("host-left"))
    assert (image, code) == ANSWERS[key]
    assert image == derived_at(observation, "snapshot-during", after)
    assert_agrees({("host-left", key, RESUME): verdict(away=code)})
