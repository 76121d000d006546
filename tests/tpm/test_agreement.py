"""ECDHE in the TPM: no key is ever used twice, whatever the role and the curve."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tpm.support import Ends, Pair, client_config, ends, server_config
from tests.unit.support import split_records
from tpmtls.backends.software import SoftwareBackend
from tpmtls.backends.tpm import commands, public
from tpmtls.backends.tpm.agreement import TPM_CURVES
from tpmtls.backends.tpm.backend import TpmBackend
from tpmtls.backends.tpm.constants import Curve
from tpmtls.backends.tpm.frames import Creation
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.public import Point
from tpmtls.codepoints import NamedGroup
from tpmtls.wire.extensions import KeyShareClientHello, KeyShareServerHello
from tpmtls.wire.messages import ClientHello, ServerHello, decode_message

GROUPS = tuple(TPM_CURVES)


def shares(pair: Pair, role: str) -> Iterator[bytes]:
    """The key shares that an end sent."""
    wire = {"client": pair.client_wire, "server": pair.server_wire}[role]
    for kind, fragment in split_records(wire):
        if kind.name != "handshake":
            continue
        message = decode_message(fragment)
        if isinstance(message, ClientHello):
            offered = message.extensions.get(KeyShareClientHello)
            assert offered is not None
            yield from (entry.key_exchange for entry in offered.client_shares)
        elif isinstance(message, ServerHello):
            chosen = message.extensions.get(KeyShareServerHello)
            assert chosen is not None
            yield chosen.server_share.key_exchange


def assert_fresh(backend: TpmBackend, role: str, group: NamedGroup) -> None:
    """Handshakes in which the TPM takes part as `role`, none with a share that was there before."""
    seen: list[bytes] = []
    for _ in range(4):
        client = client_config(groups=(group,))
        pair = Pair(ends(role, backend), client, server_config(groups=(group,))).complete()
        seen += shares(pair, role)
        pair.end()
    assert len(seen) == 4
    assert len(set(seen)) == 4, "an ephemeral key was used twice"


@pytest.mark.req("4.3.8-8", "4.3.8-12")
@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("group", GROUPS)
def test_each_handshake_has_a_key_of_its_own(tpm: Tpm, role: str, group: NamedGroup) -> None:
    assert_fresh(TpmBackend(tpm, {"ecdhe"}), role, group)


def test_also_from_one_opening_to_the_next(tpm: Tpm) -> None:
    made = {TpmBackend(tpm, {"ecdhe"}).key_share(group).public for group in GROUPS * 3}
    assert len(made) == 9


def with_a_constant(curve: Curve) -> Creation:
    return commands.create_primary(public.ecdh_key(curve, Point(b"", b"")))


def test_a_constant_template_would_be_noticed(
    libtpms: Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CreatePrimary derives the key from its template: this is the mistake that others made."""
    monkeypatch.setattr(commands, "create_ecdh_key", with_a_constant)
    with pytest.raises(AssertionError, match="used twice"):
        assert_fresh(TpmBackend(libtpms, {"ecdhe"}), "client", GROUPS[0])


@pytest.mark.req("7.4.2-1")
@pytest.mark.parametrize("group", GROUPS)
def test_leading_zeros_of_the_shared_secret_stay(libtpms: Tpm, group: NamedGroup) -> None:
    """Whether the TPM says them or not."""
    backend = TpmBackend(libtpms, {"ecdhe"})
    size = TPM_CURVES[group].size
    for x in b"\x01", bytes(size - 1) + b"\x01":
        shared = backend._agreement._shared(group, Point(x, b"\x02"), "TPM2_ECDH_ZGen")
        assert SoftwareBackend().reveal(shared, "test") == bytes(size - 1) + b"\x01"


def test_a_key_share_goes_when_it_has_agreed_or_failed(libtpms: Tpm) -> None:
    backend = TpmBackend(libtpms, {"ecdhe"})
    share = backend.key_share(GROUPS[0])
    assert libtpms.live == 1
    share.agree(SoftwareBackend().key_share(GROUPS[0]).public)
    assert libtpms.live == 0
    abandoned = Pair(Ends(backend, None))
    assert libtpms.live == 1
    abandoned.forget()
    assert libtpms.live == 0
