"""Full handshakes with one end's secrets in a TPM: what they cost, and how much of that the TPM.

    python -m benchmarks.tpm_handshakes [--tcti libtpms:] [--number N]

Both ends are in one process and in the group P-256. The server has an ECDSA P-256 certificate that
the client verifies; with the level sign its key is in the TPM, or else the client has a certificate
too, and its key is there. Of N handshakes the fastest counts. “TPM” is
the time inside the transport, “own” that of the end with the TPM, from its making to its last call,
“both” that of the whole: with the other end in software, and all that both do on the host.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

import tpmtls
from tpmtls.backends.base import Backend
from tpmtls.backends.software import SoftwareBackend
from tpmtls.backends.software_signer import SoftwareSigner
from tpmtls.backends.tpm import keys
from tpmtls.backends.tpm.backend import LEVELS, TpmBackend
from tpmtls.backends.tpm.chained import CHAINED, ChainedBackend
from tpmtls.backends.tpm.chained_provisioning import provision_opened
from tpmtls.backends.tpm.device import Statistics
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.backends.tpm.signing import TpmSigner
from tpmtls.certificates import issuing
from tpmtls.connection import Connection

GROUPS = (tpmtls.NamedGroup.secp256r1,)
LEVEL_SETS: tuple[tuple[str, ...], ...] = (
    (),
    *((level,) for level in LEVELS),
    ("ecdhe", "hkdf", "aead"),
    LEVELS,
    (CHAINED,),
)


class Cost(NamedTuple):
    """Of one handshake; times in seconds."""

    own: float
    both: float
    tpm: Statistics


class Ends:
    """What handshakes are made of: configurations and backends."""

    def __init__(self, role: str, backend: Backend, signer: TpmSigner | None) -> None:
        credential, other = _credential(None), _credential(signer)
        if role == "server":
            credential, other = other, credential
        trust, client_trust = (each.leaf.public_bytes(Encoding.PEM) for each in (credential, other))
        self._client = tpmtls.ClientConfig(trust=trust, server_name="localhost", groups=GROUPS)
        self._server = tpmtls.ServerConfig(credentials=(credential,), groups=GROUPS, tickets=0)
        if role == "client" and signer is not None:
            self._client = self._client.replace(credentials=(other,))
            self._server = self._server.replace(
                client_trust=client_trust, require_client_certificate=True
            )
        software = SoftwareBackend()
        self._backends = (backend, software) if role == "client" else (software, backend)
        self._role = role

    def handshake(self, tpm: Tpm) -> Cost:
        """One, and what it cost."""
        spent = dict.fromkeys(("client", "server"), 0.0)

        @contextmanager
        def clock(role: str) -> Iterator[None]:
            start = time.perf_counter()
            yield
            spent[role] += time.perf_counter() - start

        before, start = tpm.device.statistics, time.perf_counter()
        with clock("client"):
            client: Connection = tpmtls.ClientConnection(self._client, self._backends[0])
        with clock("server"):
            server: Connection = tpmtls.ServerConnection(self._server, self._backends[1])
        sides = (("client", client, server), ("server", server, client))
        while not (client.handshake_complete and server.handshake_complete):
            for role, source, target in sides:
                with clock(role):
                    octets = source.data_to_send()
                if octets:
                    with clock("server" if role == "client" else "client"):
                        target.receive_data(octets)
        both, after = time.perf_counter() - start, tpm.device.statistics
        client.forget()
        server.forget()
        return Cost(spent[self._role], both, after - before)


def _credential(signer: TpmSigner | None) -> tpmtls.Credential:
    """A certificate that vouches for itself, with a key in the TPM or on the host."""
    known = signer or SoftwareSigner(ec.generate_private_key(ec.SECP256R1()))
    name = issuing.parse_name("localhost")
    certificate = issuing.self_signed(
        known, issuing.subject_for(name), [name], now=datetime.now(UTC), days=1
    )
    return tpmtls.Credential.load(certificate.public_bytes(Encoding.PEM), None, lambda _: known)


def measure(tpm: Tpm, role: str, levels: Collection[str], number: int) -> Cost:
    """The cheapest of some handshakes."""
    backend: Backend
    if CHAINED in levels:
        provision_opened(tpm)
        backend = ChainedBackend(tpm)
    else:
        backend = TpmBackend(tpm, levels) if levels else SoftwareBackend()
    signer = None
    if "sign" in levels:
        key = keys.load_key(tpm, keys.create_key(tpm, "ecc-p256"))
        signer = TpmSigner(tpm, key, closes_tpm=False)
    ends = Ends(role, backend, signer)
    costs = [ends.handshake(tpm) for _ in range(number)]
    return min(costs, key=lambda cost: cost.own)


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tcti", default="libtpms:", help="the TPM (default: %(default)s)")
    parser.add_argument("--number", type=int, default=200, help="of handshakes (%(default)s)")
    options = parser.parse_args()
    titles = ("commands", "octets", "TPM ms", "own ms", "own/TPM", "both ms", "both/TPM")
    print(f"{'role':8}{'levels':24}" + "".join(f"{title:>10}" for title in titles))
    for levels in LEVEL_SETS:
        for role in ("client", "server"):
            with open_tpm(options.tcti) as tpm:
                own, both, used = measure(tpm, role, levels, options.number)
            octets = used.octets_in + used.octets_out
            times = [f"{1000 * seconds:10.2f}" for seconds in (used.seconds, own, both)]
            ratios = [
                f"{t / used.seconds:10.2f}" if used.seconds else 10 * " " for t in (own, both)
            ]
            print(
                f"{role:8}{'+'.join(levels) or 'software':24}{used.commands:10}{octets:10}"
                + "".join((times[0], times[1], ratios[0], times[2], ratios[1]))
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
