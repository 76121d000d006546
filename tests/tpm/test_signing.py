"""Signing in the TPM: every scheme, restricted keys, our own padding, and TLS with such keys."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding

from tests.tpm.conftest import loaded_sessions, transient
from tests.unit import support
from tpmtls.algorithms import SCHEMES, SHA256, SHA384, SHA512, HashAlgorithm
from tpmtls.backends.references import open_key
from tpmtls.backends.software_signer import HASHES, pss_padding
from tpmtls.backends.tpm import commands, public
from tpmtls.backends.tpm.capabilities import PssSalt
from tpmtls.backends.tpm.constants import Alg, Attribute, CommandCode, Curve
from tpmtls.backends.tpm.keys import TpmKey, create_key, load_key
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.backends.tpm.policy import Access
from tpmtls.backends.tpm.public import parse_public
from tpmtls.backends.tpm.signing import TpmSigner, emsa_pss
from tpmtls.certificates.issuing import parse_name, self_signed, subject_for
from tpmtls.codepoints import SignatureScheme
from tpmtls.config import Credential
from tpmtls.violations import ConfigurationError, TpmError

S = SignatureScheme
DATA = b"what is signed"
PSS = tuple(s for s, row in SCHEMES.items() if row.padding == "pss")
PKCS1 = tuple(s for s, row in SCHEMES.items() if row.padding == "pkcs1")


def template(area: bytes, *scheme: int, restricted: bool = False, drop: int = 0) -> bytes:
    """A template with a scheme, restricted perhaps, and without some attributes."""
    attributes = int.from_bytes(area[4:8], "big") & ~drop
    if restricted:
        attributes |= Attribute.RESTRICTED
    numbers = b"".join(n.to_bytes(2, "big") for n in scheme) or area[12:14]
    return area[:4] + attributes.to_bytes(4, "big") + area[8:12] + numbers + area[14:]


def signer(name: str, area: bytes) -> TpmSigner:
    """For a key of that template, made now."""
    tpm = open_tpm(name)
    try:
        made = tpm.load(commands.create_primary(area))
        return TpmSigner(tpm, TpmKey(made, parse_public(made.public), Access()))
    except BaseException:
        tpm.close()
        raise


def verify(signer: Any, scheme: SignatureScheme, data: bytes, signature: bytes) -> None:
    """With the host's cryptography; raises InvalidSignature."""
    row = SCHEMES[scheme]
    assert row.hash is not None
    algorithm = HASHES[row.hash.name]
    if row.padding is None:
        signer.public_key.verify(signature, data, ec.ECDSA(algorithm))
    else:
        pad = pss_padding(algorithm) if row.padding == "pss" else padding.PKCS1v15()
        signer.public_key.verify(signature, data, pad, algorithm)


@pytest.mark.req("4.5.2-6")
@pytest.mark.parametrize(
    ("area", "schemes", "others"),
    [
        (public.ecdsa_key(Curve.NIST_P256), (S.ecdsa_secp256r1_sha256,), ()),
        (public.ecdsa_key(Curve.NIST_P384), (S.ecdsa_secp384r1_sha384,), ()),
        (public.ecdsa_key(Curve.NIST_P521), (S.ecdsa_secp521r1_sha512,), ()),
        (public.rsa_key(2048), PSS, PKCS1),
    ],
    ids=["p256", "p384", "p521", "rsa"],
)
def test_every_scheme_of_a_key_verifies(
    tpm: Tpm,
    area: bytes,
    schemes: tuple[SignatureScheme, ...],
    others: tuple[SignatureScheme, ...],
) -> None:
    with closing(signer(tpm.name, area)) as made:
        assert made.schemes == schemes
        assert set(made.certificate_schemes) == {*schemes, *others}
        for scheme in made.certificate_schemes:
            for data in (b"", DATA, bytes(5000)):
                signature = made.sign(scheme, data)
                verify(made, scheme, data, signature)
                with pytest.raises(InvalidSignature):
                    verify(made, scheme, data + b"!", signature)
        with pytest.raises(ConfigurationError, match="not for this key"):
            made.sign(S.ed25519, DATA)


@pytest.mark.parametrize(
    ("area", "scheme"),
    [
        (
            template(public.ecdsa_key(Curve.NIST_P256), Alg.ECDSA, Alg.SHA256, restricted=True),
            S.ecdsa_secp256r1_sha256,
        ),
        (
            template(public.rsa_key(2048), Alg.RSAPSS, Alg.SHA384, restricted=True),
            S.rsa_pss_rsae_sha384,
        ),
    ],
    ids=["ecdsa", "rsa-pss"],
)
def test_a_restricted_key_signs_what_the_tpm_hashed(
    tpm: Tpm, area: bytes, scheme: SignatureScheme
) -> None:
    with closing(signer(tpm.name, area)) as made:
        assert made.schemes[0] == scheme
        for size in (0, 130, 1024, 1025, 2048, 4097):
            data = b" " * size
            verify(made, scheme, data, made.sign(scheme, data))


def test_a_restricted_key_does_not_sign_what_the_tpm_itself_would_say(tpm: Tpm) -> None:
    area = template(public.ecdsa_key(Curve.NIST_P256), Alg.ECDSA, Alg.SHA256, restricted=True)
    with closing(signer(tpm.name, area)) as made, pytest.raises(TpmError):
        made.sign(S.ecdsa_secp256r1_sha256, b"\xffTCG" + bytes(100))


@pytest.mark.parametrize(
    ("area", "schemes"),
    [
        (
            template(public.ecdsa_key(Curve.NIST_P384), Alg.ECDSA, Alg.SHA384),
            (S.ecdsa_secp384r1_sha384,),
        ),
        (
            template(public.rsa_key(2048), Alg.RSAPSS, Alg.SHA256),
            (S.rsa_pss_rsae_sha256, S.rsa_pss_pss_sha256),
        ),
        (
            template(public.rsa_key(1024), Alg.NULL),
            tuple(s for s in PSS if "512" not in s.name),
        ),
    ],
    ids=["ecdsa", "rsa-pss", "short"],
)
def test_a_key_is_offered_for_what_it_is_bound_to(
    tpm: Tpm, area: bytes, schemes: tuple[SignatureScheme, ...]
) -> None:
    with closing(signer(tpm.name, area)) as made:
        assert made.schemes == schemes
        made.check()


@pytest.mark.parametrize(
    ("area", "words"),
    [
        (template(public.ecdsa_key(Curve.NIST_P384), Alg.ECDSA, Alg.SHA256), "bound to another"),
        (template(public.rsa_key(2048), Alg.RSASSA, Alg.SHA256), "bound to another"),
        (
            template(public.rsa_key(2048, decrypt=True), drop=Attribute.SIGN_ENCRYPT),
            "may not sign",
        ),
    ],
    ids=["hash", "pkcs1", "decrypts"],
)
def test_a_key_that_fits_no_scheme_is_refused(libtpms: Tpm, area: bytes, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        signer(libtpms.name, area)


# -- RSA-PSS where the TPM has another salt --------------------------------------------------------


@pytest.mark.parametrize("algorithm", [SHA256, SHA384, SHA512], ids=lambda h: h.name)
def test_emsa_pss_is_what_cryptography_verifies(algorithm: HashAlgorithm) -> None:
    for kind in (2048, 2050, 2056):
        key = rsa.generate_private_key(65537, kind)
        salt = bytes(range(algorithm.digest_size))
        encoded = emsa_pss(algorithm, DATA, kind - 1, salt)
        numbers = key.private_numbers()
        raw = pow(int.from_bytes(encoded, "big"), numbers.d, numbers.public_numbers.n)
        signature = raw.to_bytes((kind + 7) // 8, "big")
        host = HASHES[algorithm.name]
        key.public_key().verify(
            signature, algorithm.digest(DATA), pss_padding(host), Prehashed(host)
        )


def test_the_host_pads_where_the_tpm_has_another_salt(
    tpm: Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tpm._shared, "pss_salt", PssSalt.MAXIMUM)
    made = signer(tpm.name, public.rsa_key(2048, decrypt=True))
    with tpm.device.recording() as recorder, closing(made):
        assert made.schemes == PSS
        for scheme in made.schemes:
            verify(made, scheme, DATA, made.sign(scheme, DATA))
    codes = [int.from_bytes(frame[6:10], "big") for frame, _ in recorder.exchanges]
    assert codes.count(CommandCode.RSA_Decrypt) == len(PSS)
    assert CommandCode.Sign not in codes


def test_pss_is_not_offered_where_neither_can_do_it(
    libtpms: Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libtpms._shared, "pss_salt", PssSalt.MAXIMUM)
    with pytest.raises(ConfigurationError, match="another salt"):
        signer(libtpms.name, public.rsa_key(2048))
    key = create_key(libtpms, "rsa-2048")  # which may decrypt, for this very reason
    with closing(open_key(key.pem(), tcti=libtpms.name)) as made:
        assert made.schemes == PSS


# -- TLS -------------------------------------------------------------------------------------------


def _credential(made: TpmSigner) -> Credential:
    name = parse_name("localhost")
    now = support.client_config().now()
    certificate = self_signed(made, subject_for(name), [name], now=now, days=3)
    return Credential.load(certificate.public_bytes(Encoding.PEM), made, lambda found: found)


@pytest.mark.parametrize("algorithm", ["ecc-p256", "ecc-p384", "rsa-2048"])
def test_both_ends_of_tls_sign_in_the_tpm(tpm: Tpm, algorithm: str) -> None:
    def load() -> TpmSigner:
        opened = open_tpm(tpm.name)
        return TpmSigner(opened, load_key(opened, create_key(opened, algorithm)))

    with closing(load()) as ours, closing(load()) as theirs:
        server, client = _credential(ours), _credential(theirs)
        pair = _handshake(server, client)
        pair.talk()
        assert pair.server.info is not None
        assert pair.server.info.peer_chain == client.chain


def _handshake(server: Credential, client: Credential) -> support.Pair:
    return support.Pair(
        support.client_config(trust=server.leaf.public_bytes(Encoding.PEM), credentials=(client,)),
        support.server_config(
            credentials=(server,),
            client_trust=client.leaf.public_bytes(Encoding.PEM),
            require_client_certificate=True,
        ),
    ).complete()


def test_many_signatures_leave_nothing_behind(tpm: Tpm) -> None:
    key = create_key(tpm, "ecc-p256", password="hunter2", pcrs="sha256:16")
    with open_tpm(tpm.name) as opened:
        before = transient(tpm), loaded_sessions(tpm)
        made = TpmSigner(opened, load_key(opened, key, "hunter2"))
        for _ in range(200):
            made.sign(made.schemes[0], DATA)
        made.close()
        assert (transient(tpm), loaded_sessions(tpm)) == before


def test_a_signer_does_not_show_more_than_what_it_can(libtpms: Tpm) -> None:
    with closing(signer(libtpms.name, public.ecdsa_key(Curve.NIST_P256))) as made:
        assert "ecdsa_secp256r1_sha256" in repr(made)


def test_a_tpm_that_signs_wrongly_is_found_out(
    libtpms: Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(signer(libtpms.name, public.ecdsa_key(Curve.NIST_P256))) as made:
        wrong: Callable[..., bytes] = lambda *_: b"\x30\x06\x02\x01\x01\x02\x01\x01"  # noqa: E731
        monkeypatch.setattr(made, "sign", wrong)
        with pytest.raises(TpmError, match="does not verify"):
            made.check()
