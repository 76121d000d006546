"""`tpmtls key chain`: what `--protect chained` needs in a TPM."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from tpmtls.cli.exits import USAGE, CommandError, say

SUMMARY: Final = "make or remove what --protect chained needs in the TPM"
DESCRIPTION: Final = """\
Make in the TPM what --protect chained needs: a storage key at a persistent handle,
and two NV indices, all with a secret that is drawn here and then forgotten. Run it
once, where you trust this machine; what crosses to the TPM is encrypted. It does
nothing where it was done before, it may be interrupted at any point and run again, and
it leaves alone whatever it did not make.

The level is an experiment: no plaintext of a secret in the memory of the process that
uses it, or on the bus. Code that can send commands to the TPM reads everything."""


def add_arguments(part: ArgumentParser) -> None:
    """Its own options."""
    what = part.add_mutually_exclusive_group()
    what.add_argument("--remove", action="store_true", help="remove what was made, and no more")
    what.add_argument(
        "--replace",
        action="store_true",
        help="make it anew: session files and tickets from before are then of no use",
    )


def run(arguments: Namespace) -> None:
    """Do what was asked for."""
    from tpmtls.backends.tpm.chained_provisioning import provision, remove
    from tpmtls.backends.tpm.tcti import resolve
    from tpmtls.cli import settings

    name = resolve(arguments.tcti)
    if name == "libtpms:":
        raise CommandError(
            "libtpms: without a folder forgets everything when the command ends: name a TPM with"
            " --tcti, such as device:/dev/tpmrm0 or libtpms:FOLDER",
            USAGE,
        )
    owner = settings.owner_password(arguments)
    if arguments.remove:
        removed = remove(arguments.tcti, owner_password=owner)
        say(f"removed {removed} parts from {name}" if removed else f"there was nothing in {name}")
        return
    place = provision(arguments.tcti, owner_password=owner, replace=arguments.replace)
    say(
        f"{name} is ready for --protect chained: storage key at 0x{place.parent:x}, NV indices"
        f" 0x{place.store:x} and 0x{place.slots:x}"
    )
