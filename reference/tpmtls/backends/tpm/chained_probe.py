"""Does this TPM chain as `--protect chained` needs it? It is tried, at each start, and compared.

The secrets of the probe are drawn here, used once, and stand for nothing; so the host may know them
and tell what must come out, and whether one who reads the bus could have read it: in clear; with
the nonces alone, where A is left out of the key or is empty; or as two ciphertexts of one key.
"""

from __future__ import annotations

import hmac
import os
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tpmtls.backends.tpm import chained_layout as layout
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.chain import Chain, Ciphertext
from tpmtls.backends.tpm.constants import HASHES, Alg, Curve
from tpmtls.backends.tpm.public import Point, parse_public
from tpmtls.violations import TpmBusy, TpmError, TpmLacks, TpmUnavailable

_NAME: Final = "probe"
_SIZES: Final = {"sha256": 32, "sha384": 48}
_MESSAGE: Final = b"a message"
_REFUSED: Final = "this TPM cannot do chained, which no standard promises"
_Made = TypeVar("_Made", bound=Ciphertext)


def probe(chain: Chain, hashes: frozenset[str], key_bits: int, mode: Alg) -> frozenset[str]:
    """The hashes whose digests can be chained; raises TpmLacks where the TPM does not behave.

    `hashes` is what it has HMAC for, `mode` one in which it does AES with keys of `key_bits`.
    """
    chained = frozenset(name for name in _SIZES if name in hashes and _digests_chain(chain, name))
    if "sha256" not in chained:
        raise _lacks("an HMAC that came out encrypted does not become a key")
    if not _point_chains(chain):
        raise _lacks("a shared point that came out encrypted does not become data of an HMAC")
    if not _aes_chains(chain, key_bits, mode):
        raise _lacks("an HMAC that came out encrypted does not become an AES key")
    return chained


def _lacks(what: str) -> TpmLacks:
    return TpmLacks(f"{_REFUSED}: {what}")


class _Readable(TpmLacks):
    """Not to be taken for a command that failed."""


def _hidden(made: _Made, octets: bytes) -> _Made:
    """What was made, if the octets in it cannot be read."""
    if made.shows(octets):
        raise _Readable(f"{_REFUSED}: what crosses the bus can be read there")
    return made


def _digests_chain(chain: Chain, name: str) -> bool:
    """Key, HMAC, key again, and HMAC over an HMAC."""
    algorithm, size = HASHES[name], _SIZES[name]
    octets = os.urandom(size)
    first = hmac.digest(octets, _MESSAGE, name)
    area = layout.hmac_area(algorithm)
    over = hmac.digest(octets, first, name)
    try:
        with (
            chain.step(),
            chain.create(_hidden(chain.sensitive(octets, size, _NAME), octets), area) as key,
        ):
            unused = chain.hmac(key, _MESSAGE, algorithm, _NAME)
            digest = chain.hmac(key, _MESSAGE, algorithm, _NAME)
            if digest.repeats(unused):
                return False
            sensitive = _hidden(chain.sensitive(_hidden(digest, first), size, _NAME), first)
            with chain.create(sensitive, area) as second:
                once = chain.hmac_in_clear(second, _MESSAGE, algorithm)
            digest = chain.hmac(key, _MESSAGE, algorithm, _NAME)
            digest = _hidden(chain.hmac(key, digest, algorithm, _NAME), over)
            with chain.create(chain.sensitive(digest, size, _NAME), area) as third:
                twice = chain.hmac_in_clear(third, _MESSAGE, algorithm)
    except (TpmBusy, TpmUnavailable, _Readable):
        raise
    except TpmError:
        return False
    expected = (hmac.digest(first, _MESSAGE, name), hmac.digest(over, _MESSAGE, name))
    return (once, twice) == expected


def _point_chains(chain: Chain) -> bool:
    """ECDH with a key of the host's, and the HMAC over its result."""
    ours = ec.generate_private_key(ec.SECP256R1())
    point = Point.from_uncompressed(
        ours.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    )
    octets = os.urandom(32)
    area, curve = layout.hmac_area(Alg.SHA256), Curve.NIST_P256
    try:
        with (
            chain.step(),
            chain.create(chain.sensitive_of_nothing(), layout.ecdh_area(curve)) as theirs,
            chain.create(chain.sensitive(octets, 32, _NAME), area) as key,
        ):
            public = parse_public(theirs.public).point
            peer = ec.EllipticCurvePublicKey.from_encoded_point(
                ec.SECP256R1(), public.uncompressed(curve.size)
            )
            x = ours.exchange(ec.ECDH(), peer)
            shared = _hidden(chain.ecdh_zgen(theirs, point, _NAME), x)
            message = _hidden(chain.message(shared, curve.size), x)
            digest = chain.hmac(key, message, Alg.SHA256, _NAME)
            with chain.create(chain.sensitive(digest, 32, _NAME), area) as result:
                made = chain.hmac_in_clear(result, _MESSAGE, Alg.SHA256)
    except (TpmBusy, TpmUnavailable, _Readable):
        raise
    except TpmError:
        return False
    extracted = hmac.digest(octets, x, "sha256")
    return made == hmac.digest(extracted, _MESSAGE, "sha256")


def _aes_chains(chain: Chain, bits: int, mode: Alg) -> bool:
    """An AES key that is the beginning of an HMAC."""
    octets, block = os.urandom(32), bytes(16)
    size = bits // 8
    try:
        with (
            chain.step(),
            chain.create(
                chain.sensitive(octets, 32, _NAME), layout.hmac_area(Alg.SHA256)
            ) as hmac_key,
        ):
            digest = chain.hmac(hmac_key, _MESSAGE, Alg.SHA256, _NAME)
            with chain.create(
                chain.sensitive(digest, size, _NAME), layout.aes_area(bits)
            ) as aes_key:
                iv = b"" if mode is Alg.ECB else block
                command = commands.encrypt_decrypt2(aes_key, block, mode, iv)
                made = chain.plain(command)[0]
    except (TpmBusy, TpmUnavailable, _Readable):
        raise
    except TpmError:
        return False
    key = hmac.digest(octets, _MESSAGE, "sha256")[:size]
    return bool(made == Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block))  # noqa: S305
