"""Full handshakes per second, both ends in one process: tpmtls beside CPython's ssl and tlslite-ng.

    python -m benchmarks.handshakes [--seconds N] [--profile]

Runs are interleaved (A B C A B C …), so that a busy machine slows all alike; read the ratios. The
server has an ECDSA P-256 certificate, which the clients of tpmtls and ssl verify against its CA;
tlslite-ng checks no chains.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import tpmtls
from tests.pki import Pki
from tpmtls import NamedGroup

GROUPS = {"x25519": NamedGroup.x25519, "P-256": NamedGroup.secp256r1}
SSL_CURVES = {"x25519": "X25519", "P-256": "prime256v1"}
TLSLITE_CURVES = {"x25519": "x25519", "P-256": "secp256r1"}


def tpmtls_handshake(group: str, ca: Path, chain: Path, key: Path) -> Callable[[], None]:
    """One handshake of the reference, sans-IO."""
    client_config = tpmtls.ClientConfig(trust=ca, server_name="localhost", groups=(GROUPS[group],))
    credential = tpmtls.Credential.load(chain, key)
    server_config = tpmtls.ServerConfig(
        credentials=(credential,), groups=(GROUPS[group],), tickets=0
    )

    def run() -> None:
        client = tpmtls.ClientConnection(client_config)
        server = tpmtls.ServerConnection(server_config)
        while octets := client.data_to_send():
            server.receive_data(octets)
            if octets := server.data_to_send():
                client.receive_data(octets)
        if not (client.handshake_complete and server.handshake_complete):
            raise RuntimeError("the handshake did not complete")

    return run


def ssl_handshake(group: str, ca: Path, chain: Path, key: Path) -> Callable[[], None]:
    """One handshake of CPython's ssl over memory BIOs."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(chain, key)
    server_context.set_ecdh_curve(SSL_CURVES[group])
    server_context.num_tickets = 0
    client_context = ssl.create_default_context(cafile=str(ca))
    client_context.set_ecdh_curve(SSL_CURVES[group])
    for context in (server_context, client_context):
        context.minimum_version = ssl.TLSVersion.TLSv1_3

    def run() -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context.wrap_bio(to_client, to_server, server_hostname="localhost")
        server = server_context.wrap_bio(to_server, to_client, server_side=True)
        pending = [client, server]
        while pending:
            for end in tuple(pending):
                try:
                    end.do_handshake()
                    pending.remove(end)
                except ssl.SSLWantReadError:
                    pass

    return run


def tlslite_handshake(group: str, _ca: Path, chain: Path, key: Path) -> Callable[[], None]:
    """One handshake of tlslite-ng over a socket pair, the server in a thread."""
    from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey

    certificates = X509CertChain()
    certificates.parsePemList(chain.read_text())
    private_key = parsePEMKey(key.read_text(), private=True)
    settings = HandshakeSettings()
    settings.minVersion = settings.maxVersion = (3, 4)
    settings.eccCurves = settings.keyShares = [TLSLITE_CURVES[group]]
    settings.ticket_count = 0

    def run() -> None:
        ours, theirs = socket.socketpair()
        server = TLSConnection(theirs)
        thread = threading.Thread(
            target=lambda: server.handshakeServer(
                certChain=certificates, privateKey=private_key, settings=settings
            )
        )
        thread.start()
        TLSConnection(ours).handshakeClientCert(settings=settings)
        thread.join()
        ours.close()
        theirs.close()

    return run


STACKS = {"tpmtls": tpmtls_handshake, "ssl": ssl_handshake, "tlslite-ng": tlslite_handshake}


def measure(runs: dict[str, Callable[[], None]], seconds: float) -> dict[str, float]:
    """Handshakes per second of each, the median of interleaved slices."""
    slices = 8
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(slices):
        for name, run in runs.items():
            count, start = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - start) < seconds / slices:
                run()
                count += 1
            rates[name].append(count / elapsed)
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="per stack and group")
    parser.add_argument("--profile", action="store_true", help="the hottest functions of ours")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pki = Pki(Path(folder))
        server = pki.server("p256")
        files = pki.ca, server.chain, server.key
        print(f"{'group':8}" + "".join(f"{name:>14}" for name in STACKS) + "   ratios")
        for group in GROUPS:
            runs = {name: make(group, *files) for name, make in STACKS.items()}
            rates = measure(runs, options.seconds)
            ratios = " ".join(
                f"{rates['tpmtls'] / rate:.2f} x {name}"
                for name, rate in rates.items()
                if name != "tpmtls"
            )
            print(f"{group:8}" + "".join(f"{rate:14.0f}" for rate in rates.values()), " ", ratios)
        if options.profile:
            run = tpmtls_handshake("P-256", *files)
            with cProfile.Profile() as profile:
                for _ in range(500):
                    run()
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    return 0


if __name__ == "__main__":
    sys.exit(main())
