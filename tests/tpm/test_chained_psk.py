"""External PSKs with `--protect chained`: provisioned as two keys that its parent wraps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tpm.conftest import transient
from tests.tpm.support import ROLES, Ends, Pair, client_config, ends, server_config
from tests.tpm.swtpm import Swtpm
from tests.tpm.test_chained import CLEAR
from tests.tpm.test_ledger import Telling, found
from tests.tpm.test_psk import IDENTITY, KEY, SUITES, each_hash, known
from tests.unit.commands import serving, tpmtls
from tpmtls.algorithms import SHA256, HashAlgorithm
from tpmtls.backends.ledger import Ledger
from tpmtls.backends.tpm import psk as two_keys
from tpmtls.backends.tpm.backend import TpmBackend
from tpmtls.backends.tpm.chained import ChainedBackend
from tpmtls.backends.tpm.chained_provisioning import provision_opened
from tpmtls.backends.tpm.hkdf import host_octets
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.backends.tpm.psk import ProvisionedPsk
from tpmtls.codepoints import PskKeyExchangeMode
from tpmtls.config import ExternalPsk
from tpmtls.violations import BackendError, ConfigurationError, TpmLacks


@pytest.fixture
def backend(libtpms: Tpm) -> ChainedBackend:
    return ChainedBackend(libtpms)


def in_tpm(backend: ChainedBackend, algorithm: HashAlgorithm = SHA256) -> ExternalPsk:
    return ExternalPsk.load(backend.provision_psk(IDENTITY, KEY, algorithm).encode())


def pair(backends: Ends, psk: ExternalPsk, mode: PskKeyExchangeMode) -> Pair:
    """Chained has the provisioned PSK, the other end its octets."""
    common = {"suites": (SUITES[psk.hash],), "psk_modes": (mode,)}
    of_client, of_server = (
        (psk if isinstance(each, ChainedBackend) else known(psk.hash),)
        for each in (backends.client, backends.server)
    )
    return Pair(
        backends,
        client_config(psks=of_client, **common),
        server_config(credentials=(), psks=of_server, **common),
    )


@each_hash
@pytest.mark.parametrize("mode", list(PskKeyExchangeMode)[:2], ids=str)
@pytest.mark.parametrize("role", ROLES)
def test_nothing_of_it_crosses_in_clear(
    backend: ChainedBackend, role: str, mode: PskKeyExchangeMode, algorithm: HashAlgorithm
) -> None:
    psk, peer = in_tpm(backend, algorithm), Telling()
    before = backend.tpm.live
    backend.ledger = backend._chain.ledger = Ledger()
    with backend.tpm.device.recording() as recorder:
        both = pair(ends(role, backend, peer), psk, mode).complete()
        assert both.info.psk == "external"
        both.talk()
        both.end()
    assert found(recorder.exchanges, peer.secrets).keys() <= CLEAR
    clear = {c.secret for c in backend.ledger.crossings() if c.visibility == "clear"}
    assert clear == {"write_iv", "ghash_key"}
    assert backend.tpm.live <= before + 1  # zeros, as a key, are kept


def test_what_is_kept_is_no_secret_and_crosses_once(backend: ChainedBackend) -> None:
    secrets = two_keys.two_keys(KEY, SHA256)
    octets = [host_octets(secret) for secret in secrets]
    with backend.tpm.device.recording() as recorder:
        psk = backend.provision_psk(IDENTITY, KEY, SHA256)
    said = {(c.secret, c.via, c.visibility) for c in backend.ledger.crossings()}
    for name in "finished_key", "derived":
        assert (name, "TPM2_NV_Write", "clear") in said
    assert [len(recorder.find(each)) for each in octets] == [1, 1]
    assert recorder.find(KEY) == []
    for each in (*octets, KEY):
        assert each not in psk.finished_key + psk.derived
        assert each.hex() not in psk.encode().decode()
    assert ProvisionedPsk.parse(psk.encode()) == psk
    assert psk.chained


def test_early_data_and_other_labels_there_are_none(backend: ChainedBackend) -> None:
    psk = in_tpm(backend)
    with pytest.raises(ConfigurationError, match="permits no early data"):
        replace(psk, max_early_data=1)
    early = backend.extract(SHA256, None, backend.import_psk(psk.source, SHA256), "early_secret")
    with pytest.raises(TpmLacks, match="no 'c e traffic'"):
        backend.expand_label(early, b"c e traffic", SHA256.empty_digest, 32, "x")
    with pytest.raises(BackendError, match="cannot be had"):
        backend.reveal(early, "key log")
    backend.destroy(early, early)


def test_levels_do_not_take_each_others(backend: ChainedBackend) -> None:
    of_hkdf = two_keys.provision(backend.tpm, IDENTITY, KEY, SHA256)
    with pytest.raises(ConfigurationError, match="import-psk --chained"):
        backend.check_psk(of_hkdf)
    hkdf = TpmBackend(backend.tpm, {"hkdf"})
    with pytest.raises(ConfigurationError, match="protection level chained"):
        hkdf.check_psk(in_tpm(backend).source)


def test_those_of_another_provisioning_are_refused(libtpms: Tpm) -> None:
    backend = ChainedBackend(libtpms.beside())
    psk = backend.provision_psk(IDENTITY, KEY, SHA256)
    damaged = replace(psk, derived=psk.derived[:-40] + bytes((psk.derived[-40] ^ 1,)) * 40)
    with pytest.raises(BackendError, match="provision it anew"):
        backend.import_psk(damaged, SHA256)
    backend.close()
    provision_opened(libtpms, replace=True)
    backend = ChainedBackend(libtpms.beside())
    with pytest.raises(BackendError, match="provision it anew"):
        backend.import_psk(psk, SHA256)
    backend.close()
    assert transient(libtpms) == []


# -- the command -----------------------------------------------------------------------------------


def test_the_command(swtpm: Swtpm, tmp_path: Path) -> None:
    out, given = tmp_path / "printer.psk", f"printer:{KEY.hex()}"
    options = ("--tcti", swtpm.tcti, "--chained", "--out", out, given)
    refused = tpmtls("key", "import-psk", *options)
    assert (refused.status, "run `tpmtls key chain` once" in refused.stderr) == (2, True)
    assert tpmtls("key", "chain", "--tcti", swtpm.tcti).status == 0
    made = tpmtls("key", "import-psk", *options)
    assert made.status == 0, made.stderr
    both = tpmtls("key", "import-psk", *options, "--encrypt-bus", "--force")
    assert (both.status, "--encrypt-bus cannot help" in both.stderr) == (2, True)
    chained = ("--backend", "tpm", "--protect", "chained", "--tcti", swtpm.tcti)
    suite = ("--suites", "TLS_AES_128_GCM_SHA256")
    with serving("--psk", given, *suite) as served:
        address = f"localhost:{served.port}"
        met = tpmtls("connect", address, "--psk", out, "--json", *chained, *suite, stdin=b"text")
        assert met.status == 0, met.stderr
        assert (met.report["psk"], met.stdout) == ("external", b"text")
    hkdf = ("--backend", "tpm", "--protect", "hkdf", "--tcti", swtpm.tcti)
    other = tpmtls("connect", "localhost:1", "--psk", out, *hkdf)
    assert (other.status, "protection level chained" in other.stderr) == (2, True)
    with open_tpm(swtpm.tcti) as tpm:
        assert transient(tpm) == []
