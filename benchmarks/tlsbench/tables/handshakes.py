"""Handshakes per second: both ends in one process, sans-IO, beside other stacks."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store

from tlsbench.measure import Effort, Missing, Probe, Progress, interleave, timed
from tlsbench.results import Ratio, Row, Table, figures, rate, target
from tlsbench.stacks import STACKS, Files, certificates
from tlsbench.stacks.base import HOST, Run
from tpmtls.codepoints import NamedGroup

COLUMN = "rate"
PRIMITIVES = "primitives alone"
GROUPS = (NamedGroup.secp256r1, NamedGroup.x25519, NamedGroup.X25519MLKEM768)
ABOUT = (
    "The server has an ECDSA P-256 certificate, which clients verify against its authority; "
    "tlslite-ng checks no chains. Full handshakes give no ticket. Each resumption (psk_dhe_ke) "
    "uses the ticket of the one before and gives one; the reference recalls that its trust store "
    "accepted the chain of the first handshake. “Primitives alone” calls what `cryptography` has "
    "for a full handshake (two key pairs, two agreements, one signature, its verification, the "
    "chain) and no TLS: no protocol code on top of that library can be faster."
)


def measure(effort: Effort, progress: Progress) -> Table:
    """The table."""
    rows: list[Row] = []
    ratios: list[Ratio] = []
    with certificates() as files:
        for group in GROUPS:
            for resumed in (False, True):
                case = f"{'resumed' if resumed else 'full'}, {group.name}"
                more_rows, more_ratios = _case(files, group, resumed, case, effort, progress)
                rows += more_rows
                ratios += more_ratios
    full = [ratio for ratio in ratios if ratio.case in ("full, secp256r1", "full, x25519")]
    return Table(
        name="handshakes",
        title="Handshakes",
        about=ABOUT,
        columns={COLUMN: "handshakes/s"},
        rows=rows,
        ratios=ratios,
        targets=(
            target("full handshakes beside tlslite-ng", "at least", 20, full, beside="tlslite-ng"),
            target("full handshakes beside ssl", "at least", 0.6, full, beside="CPython ssl"),
        ),
    )


def _case(
    files: Files,
    group: NamedGroup,
    resumed: bool,
    case: str,
    effort: Effort,
    progress: Progress,
) -> tuple[list[Row], list[Ratio]]:
    """One group, full or resumed: all stacks."""
    probes: dict[str, Probe] = {}
    absent: list[Row] = []
    for stack in STACKS:
        try:
            probes[stack.name] = timed(stack.handshakes(files, group, resumed=resumed))
        except Missing as reason:
            absent.append(Row(case, stack.name, absent=str(reason)))
    if not resumed and group is not NamedGroup.X25519MLKEM768:
        probes[PRIMITIVES] = timed(_primitives(files, group))
    turns = interleave(probes, effort, progress, f"handshakes: {case}")
    beside = [name for name in probes if name != STACKS[0].name]
    rows, ratios = figures(turns, case, (COLUMN,), rate(), beside=beside)
    return rows + absent, ratios


def _primitives(files: Files, group: NamedGroup) -> Run:
    """What both ends of a full handshake need of `cryptography`, and nothing else."""
    (anchor,) = x509.load_pem_x509_certificates(files.ca.read_bytes())
    (leaf,) = x509.load_pem_x509_certificates(files.chain.read_bytes())
    key = load_pem_private_key(files.key.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the server's key is not on a curve")
    store, algorithm, signed = Store([anchor]), ec.ECDSA(hashes.SHA256()), os.urandom(130)
    agree = _agree_p256 if group is NamedGroup.secp256r1 else _agree_x25519

    def run() -> None:
        agree()
        signature = key.sign(signed, algorithm)
        verifier = (
            PolicyBuilder()
            .store(store)
            .time(datetime.now(UTC))
            .build_server_verifier(x509.DNSName(HOST))
        )
        verifier.verify(leaf, [])
        public = leaf.public_key()
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, signed, algorithm)

    return run


def _agree_p256() -> None:
    client, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    client.exchange(ec.ECDH(), server.public_key())
    server.exchange(ec.ECDH(), client.public_key())


def _agree_x25519() -> None:
    client, server = (x25519.X25519PrivateKey.generate() for _ in range(2))
    client.exchange(server.public_key())
    server.exchange(client.public_key())
