"""GCM and CCM from a block cipher beside the cipher's own rate: records sealed and opened, GHASH.

    python -m benchmarks.aead [--tcti libtpms:] [--modes ECB,CBC] [--seconds N]

Without --tcti the cipher is AES by `cryptography`, which is faster than any TPM: what is left is
the host's share. Of many runs the fastest counts, and all take turns, so that a busy machine slows
all alike; read the ratios. “own” is what the cipher would take for as many octets, in commands of
1 KiB. CCM needs it twice, so that no CCM can be faster than 2 × own.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

from tests.block_ciphers import SoftwareCipher
from tpmtls.aead import BlockCipher, Ccm, Gcm, Mode, Records
from tpmtls.aead.ghash import Ghash

SIZES = (100, 1000, 16384)
HEADER = bytes(5)
KEY_LENGTH = 16
Run = Callable[[], object]


@contextmanager
def block_cipher(tcti: str | None, modes: frozenset[Mode]) -> Iterator[BlockCipher]:
    """An AES key in software or in a TPM, in those of the modes that there are."""
    key = os.urandom(KEY_LENGTH)
    if tcti is None:
        cipher = SoftwareCipher(key, modes)
        cipher.commands = _Forgetful()
        yield cipher
        return
    from tpmtls.backends.tpm import commands
    from tpmtls.backends.tpm.opening import open_tpm
    from tpmtls.backends.tpm.records import TpmBlockCipher

    with open_tpm(tcti) as tpm:
        loaded = tpm.load(commands.load_aes_key(key))
        tpm_cipher = TpmBlockCipher(tpm, loaded, KEY_LENGTH)
        tpm_cipher.modes &= modes
        yield tpm_cipher
        tpm.flush(loaded)


class _Forgetful(list[tuple[Mode, bytes]]):
    """Keeps no log of commands, which would grow."""

    def append(self, command: tuple[Mode, bytes], /) -> None:
        pass


def own(cipher: BlockCipher) -> Run:
    """One full command."""
    data = os.urandom(cipher.max_command)
    return partial(cipher.encrypt_blocks, data)


def sealing(records: Records, size: int) -> Run:
    """Sealing one record after another."""
    sequences, plaintext = count(), os.urandom(size)
    return lambda: records.seal(next(sequences), HEADER, plaintext)


def opening(mode: Gcm | Ccm, size: int) -> Run:
    """Opening the same record again and again."""
    nonce = bytes(12)
    sealed = mode.seal(nonce, HEADER, os.urandom(size))
    return partial(mode.open, nonce, HEADER, sealed)


def hashing(size: int) -> Run:
    """GHASH of a record."""
    ghash, data = Ghash(os.urandom(16)), os.urandom(size)
    return partial(ghash.digest, HEADER, data, bytes(16))


def fastest(runs: dict[str, Run], seconds: float) -> dict[str, float]:
    """Seconds that each takes, at best, of turns that last a few milliseconds."""
    best = dict.fromkeys(runs, float("inf"))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, run in runs.items():
            for _ in range(10):
                start = time.perf_counter()
                run()
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def report(cipher: BlockCipher, size: int, seconds: float) -> None:
    """Measure one size of records, and print it."""
    gcm, ccm = Gcm(cipher), Ccm(cipher)
    runs = {
        "own": own(cipher),
        "GHASH": hashing(size),
        "GCM seal": sealing(Records(gcm, bytes(12)), size),
        "GCM open": opening(gcm, size),
        "CCM seal": sealing(Records(ccm, bytes(12)), size),
        "CCM open": opening(ccm, size),
    }
    best = fastest(runs, seconds)
    own_time = best.pop("own") * size / cipher.max_command
    write(f"{size} octets: own {own_time * 1e6:.1f} µs, {size / own_time / 1e6:.0f} MB/s")
    for name, taken in best.items():
        rate = size / taken / 1e6
        line = f"  {name:9}{taken * 1e6:8.1f} µs {rate:8.1f} MB/s {taken / own_time:6.2f} × own"
        bound = own_time * (2 if name.startswith("CCM") else 1)
        write(f"{line}, {bound / taken:4.0%} of what it could be")


def write(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--tcti", help="a TPM, such as libtpms: (default: AES in software)")
    parser.add_argument("--modes", default="ECB,CBC,CFB,CTR", help="modes to use (default: all)")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each size of records")
    options = parser.parse_args()
    modes = frozenset(Mode[name] for name in options.modes.split(","))
    with block_cipher(options.tcti, modes) as cipher:
        offered = ", ".join(sorted(mode.name for mode in cipher.modes))
        write(f"{options.tcti or 'AES in software'}: {offered}")
        for size in SIZES:
            report(cipher, size, options.seconds)


if __name__ == "__main__":
    main()
