"""GCM and CCM with a TPM's ECB, CTR, CBC and CFB as the block cipher: properties and vectors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.aead_properties import (
    test_a_shortened_message_is_refused,
    test_any_flipped_bit_is_refused,
    test_ccm_is_aesccm,
    test_every_bit_of_a_message_counts,
    test_gcm_is_aesgcm,
    test_records_are_those_of_the_library,
)
from tests.block_ciphers import Factory
from tests.table import NameRow
from tests.vectors.test_aead import (
    CAVP,
    SAMPLED,
    VERSION,
    WYCHEPROOF,
    cases,
    verify,
    verify_wycheproof,
)
from tpmtls.aead import BlockCipher, Ccm, Gcm, Mode
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.backends.tpm.records import TpmBlockCipher
from vectors.vectorlib import library

__all__ = [
    "test_a_shortened_message_is_refused",
    "test_any_flipped_bit_is_refused",
    "test_ccm_is_aesccm",
    "test_every_bit_of_a_message_counts",
    "test_gcm_is_aesgcm",
    "test_records_are_those_of_the_library",
]

pytestmark = pytest.mark.row(
    what="properties of GCM and CCM from each mode of libtpms", against="cryptography"
)
OFFERED = {
    "ECB": frozenset({Mode.ECB}),
    "CTR": frozenset({Mode.CTR}),
    "CBC": frozenset({Mode.CBC}),
    "CFB": frozenset({Mode.CFB}),
    "all modes": frozenset(Mode),
}
"""The modes that the TPM is taken to have: it does have them all."""


@pytest.fixture(scope="module")
def one_tpm(need_libtpms: None) -> Iterator[Tpm]:
    """One for all examples, in this process."""
    with open_tpm("libtpms:") as tpm:
        yield tpm


@pytest.fixture(scope="module", params=OFFERED)
def factory(request: pytest.FixtureRequest, one_tpm: Tpm) -> Factory:
    """Loads AES keys into the TPM; it takes those of 128 and 256 bits, as TLS does."""

    def load(key: bytes) -> BlockCipher:
        loaded = one_tpm.load(commands.load_aes_key(key))
        cipher = TpmBlockCipher(one_tpm, loaded, len(key))
        assert cipher.modes == frozenset(Mode)
        cipher.modes = OFFERED[request.param]
        return cipher

    return Factory(load, key_sizes=(16, 32))


@pytest.mark.parametrize("mode", [Gcm, Ccm])
def test_cavp(mode: type[Gcm | Ccm], factory: Factory, row: NameRow) -> None:
    sample = [
        case
        for path in CAVP[mode][1]
        for case in cases(mode, path)[::SAMPLED]
        if len(case.key) in factory.key_sizes
    ]
    row(
        what=f"AES-{mode.name} from each mode of libtpms, CAVP: {len(sample):,} cases",
        against="cryptography-vectors",
        version=VERSION,
    )
    assert len(sample) == {Gcm: 3152, Ccm: 192}[mode]
    for case in sample:
        verify(mode, factory, case)


@pytest.mark.parametrize("name", WYCHEPROOF)
def test_wycheproof(name: str, factory: Factory, row: NameRow) -> None:
    verified = verify_wycheproof(name, factory)
    row(
        what=f"AES-{WYCHEPROOF[name].name} from each mode of libtpms: {verified} cases",
        against="Wycheproof",
        version=library.load(name)["source"]["version"],
    )
    assert verified == {Gcm: 213, Ccm: 368}[WYCHEPROOF[name]]
