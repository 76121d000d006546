"""What an audit says of host memory is checked, not trusted: against images of that memory.

At the beginning of each moment, what the client is said to keep on the host is found in an image of
its process; and what is found was on the host by then. What is found longer than it is said to be
kept is what Python leaves.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.tpm.memory import PAGE, Images, search_piece, wanted_words
from tests.tpm.swtpm import Swtpm
from tests.tpm.test_ledger import constants
from tpmtls.algorithms import HashAlgorithm, SuiteParameters
from tpmtls.audit.model import Observation, Stay
from tpmtls.audit.observation import PARTS
from tpmtls.backends.base import Aead, Secret
from tpmtls.backends.handle_model import HandleModel
from tpmtls.backends.handle_process import execute, read_frame
from tpmtls.backends.software import SoftwareBackend, SoftwareSecret
from tpmtls.backends.tpm.chained_provisioning import provision
from tpmtls.codepoints import NamedGroup

IN_CLEAR = {"write_iv", "ghash_key"}
"""What `chained` has on the host."""


class Naming(SoftwareBackend):
    """The server's backend: keeps the octets of every secret under the name that audits use."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = 0
        self.octets: dict[str, bytes] = {}
        self._names: dict[Secret, str] = {}

    def _keep(self, secret: Secret, name: str) -> Secret:
        assert isinstance(secret, SoftwareSecret)
        octets = bytes(secret.octets)
        if octets not in constants():
            self.octets[f"{self.connection}/{name}"] = octets
        self._names[secret] = name
        return secret

    def respond(self, group: NamedGroup, client_share: bytes) -> tuple[bytes, Secret]:
        public, shared = super().respond(group, client_share)
        return public, self._keep(shared, shared.name)

    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        return self._keep(super().extract(algorithm, salt, ikm, name), name)

    def expand_label(self, secret: Secret, label: bytes, *rest: Any) -> Secret:
        made = super().expand_label(secret, label, *rest)
        within = f"{self._names[secret]}/" if made.name in PARTS else ""
        return self._keep(made, within + made.name)

    def aead(self, suite: SuiteParameters, key: Secret, iv: Secret) -> Aead:
        assert isinstance(key, SoftwareSecret)
        encryptor = Cipher(algorithms.AES(bytes(key.octets)), modes.ECB()).encryptor()
        within = self._names[key].removesuffix("write_key")
        self.octets[f"{self.connection}/{within}ghash_key"] = encryptor.update(bytes(16))
        return super().aead(suite, key, iv)


class Moments(Images):
    """Images of which each page, and so what is found in it, is remembered once."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self.pages: dict[str, set[bytes]] = {}

    def begin(self, name: str) -> None:
        """An image of this moment."""
        self._now = self.pages[name] = set()
        self.take()

    def _keep(self, octets: bytes) -> None:
        self._now.update(octets[start : start + PAGE] for start in range(0, len(octets), PAGE))

    def search(self, octets: dict[str, bytes]) -> dict[str, set[str]]:
        """The secrets that are found in each moment."""
        wanted = wanted_words(octets.items())
        pages = set[bytes]().union(*self.pages.values())
        found = {page: {name for name, _ in search_piece(page, wanted)} for page in pages}
        return {
            moment: set[str]().union(*(found[page] for page in seen))
            for moment, seen in self.pages.items()
        }


@dataclass
class Looked:
    """What was observed, and what was found at the beginning of each moment."""

    seen: Observation
    found: dict[str, set[str]]
    known: set[str]
    """Those whose octets are known here."""

    def __iter__(self) -> Iterator[tuple[str, set[str], set[str], set[str]]]:
        """Moment, what is kept then, what was in clear up to then, and what is found."""
        for moment in self.seen.moments:
            kept, was = set(), set()
            for secret in self.seen.secrets:
                if secret.id in self.known and secret.in_clear_on_host(moment.first):
                    kept.add(secret.id)
                if any(map(secret.in_clear_on_host, range(moment.first + 1))):
                    was.add(secret.id)
            yield moment.name, kept, was, self.found[moment.name]


def look(key: str, tcti: str) -> Looked:
    """Run the scenario in a process of its own, and look at it at each moment."""
    server = Naming()
    model = HandleModel()
    model._software = server
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.tpm.audited", key, tcti],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    moments = Moments(process.pid)
    seen: Observation | None = None
    with process:
        while kind := process.stdout.read(1):
            match kind:
                case b"M":
                    name = process.stdout.readline().decode().strip()
                    server.connection = int(name[0]) if name[0].isdigit() else 0
                    moments.begin(name)
                    process.stdin.write(b"\n")
                case b"R":
                    request = read_frame(process.stdout)  # type: ignore[arg-type]
                    assert request is not None
                    process.stdin.write(execute(model, *request))
                case _:
                    seen = pickle.loads(process.stdout.read())
                    break
            process.stdin.flush()
    assert process.returncode == 0
    assert seen is not None
    return Looked(seen, moments.search(server.octets), set(server.octets))


@cache
def looked_at(key: str, tcti: str) -> Looked:
    """The same, once."""
    return look(key, tcti)


def faults(looked: Looked) -> dict[str, str]:
    """The secrets that are not where they are said to be, and a moment when."""
    wrong: dict[str, str] = {}
    for moment, kept, was, found in looked:
        wrong |= dict.fromkeys(kept - found, f"{moment}: is not there")
        wrong |= dict.fromkeys(found - was, f"{moment}: is there")
    return wrong


def test_software() -> None:
    looked = looked_at("software", "")
    assert faults(looked) == {}
    assert len(looked.known) > 50
    found = {name.rpartition("/")[2] for _, _, _, found in looked for name in found}
    assert found >= {"PSK", "write_key", "handshake_secret", "exporter_secret", "resumption_secret"}


@pytest.mark.parametrize("key", ["all", "chained", "handle-only"])
def test_a_tpm_or_the_model(swtpm: Swtpm, key: str) -> None:
    if key == "chained":
        provision(swtpm.tcti)
    looked = look(key, swtpm.tcti)
    assert faults(looked) == {}
    assert len(looked.known) > 50
    names = {name.rpartition("/")[2] for _, _, _, found in looked for name in found}
    assert {"all": names, "chained": IN_CLEAR, "handle-only": set()}[key] == names
    residue = {moment: found - kept for moment, kept, _, found in looked}
    assert bool(residue["after"]) == (key != "handle-only")


def test_a_stay_that_is_left_out_is_noticed() -> None:
    looked = looked_at("software", "")
    for name in ("1/PSK", "2/early_secret", "1/client_application_traffic_secret_0/write_key"):
        less = tuple(
            replace(each, stays=(), crossings=()) if each.id == name else each
            for each in looked.seen.secrets
        )
        assert faults(replace(looked, seen=replace(looked.seen, secrets=less))).keys() == {name}


def test_a_stay_that_was_none_is_noticed() -> None:
    looked = looked_at("software", "")
    last = looked.seen.moments[-1].last
    more = tuple(
        replace(each, stays=(*each.stays, Stay("host", last, last)))
        if each.id == "1/main_secret"
        else each
        for each in looked.seen.secrets
    )
    wrong = faults(replace(looked, seen=replace(looked.seen, secrets=more)))
    assert wrong == {"1/main_secret": "after: is not there"}
