"""§4.3.3: how scheme, signature and certificate of a server go together, as a client checks it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding

from tlsconform.authentication import signed_content
from tlsconform.marks import needs, req
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedServer
from tlsconform.pki import Authority
from tlsconform.suite.helpers import about_chains
from tlsconform.targets import ClientTarget
from tpmtls.codepoints import SignatureScheme
from tpmtls.wire.messages import CertificateVerify

S = SignatureScheme


def _certified(server: ScriptedServer, authority: Authority, kind: str) -> ScriptedServer:
    """Our flight up to Certificate, with a leaf of that kind."""
    server.credentials = (authority.credential(kind),)
    server.accept().hello().encrypted_extensions()
    server.say_certificate(server.credentials[0])
    return server


def _offers(server: ScriptedServer, *schemes: SignatureScheme) -> None:
    missing = [scheme.name for scheme in schemes if scheme not in server.schemes_offered]
    if missing:
        raise NotApplicable(f"the client does not offer {', '.join(missing)}")


@req("4.3.3-1")
@pytest.mark.parametrize(
    ("kind", "signed", "said"),
    [
        ("p256", S.ecdsa_secp256r1_sha256, S.rsa_pss_rsae_sha256),
        ("p256", S.ecdsa_secp256r1_sha256, S.ed25519),
        ("rsa", S.rsa_pss_rsae_sha256, S.ecdsa_secp256r1_sha256),
    ],
)
def test_scheme_of_another_key(
    server: ScriptedServer,
    authority: Authority,
    kind: str,
    signed: SignatureScheme,
    said: SignatureScheme,
) -> None:
    """A CertificateVerify whose scheme is for another kind of key is refused."""
    _certified(server, authority, kind)
    _offers(server, said)
    content = signed_content("server", server.transcript.digest())
    signature = server.credentials[0].signer.sign(signed, content)
    server.say(CertificateVerify(said, signature))
    server.expect_abort()


@pytest.mark.parametrize("salt", [0, 20, 31, 33])
@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        pytest.param("rsa", S.rsa_pss_rsae_sha256, marks=req("4.3.3-7"), id="rsae"),
        pytest.param("rsa-pss", S.rsa_pss_pss_sha256, marks=req("4.3.3-9"), id="pss"),
    ],
)
def test_length_of_the_salt(
    server: ScriptedServer, authority: Authority, kind: str, scheme: SignatureScheme, salt: int
) -> None:
    """A signature of RSASSA-PSS whose salt is not as long as the digest is refused."""
    _certified(server, authority, kind)
    _offers(server, scheme)
    server.say(CertificateVerify(scheme, _pss(server, authority, kind, salt)))
    server.expect_abort()


def _pss(server: ScriptedServer, authority: Authority, kind: str, salt: int = 32) -> bytes:
    """A signature of RSASSA-PSS with SHA-256 by that leaf's key."""
    content = signed_content("server", server.transcript.digest())
    digest = hashes.SHA256()
    key = authority.key(kind)
    signature: bytes = key.sign(content, padding.PSS(padding.MGF1(digest), salt), digest)
    return signature


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        pytest.param("rsa-pss", S.rsa_pss_rsae_sha256, marks=req("4.3.3-8"), id="rsae"),
        pytest.param("rsa", S.rsa_pss_pss_sha256, marks=req("4.3.3-10"), id="pss"),
    ],
)
def test_scheme_of_the_other_oid(
    server: ScriptedServer, authority: Authority, kind: str, scheme: SignatureScheme
) -> None:
    """A scheme of RSASSA-PSS is refused with a key whose OID is the other schemes'."""
    _certified(server, authority, kind)
    _offers(server, scheme)
    server.say(CertificateVerify(scheme, _pss(server, authority, kind)))
    server.expect_abort()


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        pytest.param("rsa", S.rsa_pss_rsae_sha256, marks=req("4.3.3-7", "4.3.3-8"), id="rsae"),
        pytest.param("rsa-pss", S.rsa_pss_pss_sha256, marks=req("4.3.3-9", "4.3.3-10"), id="pss"),
    ],
)
def test_scheme_of_the_right_oid(
    server: ScriptedServer, authority: Authority, kind: str, scheme: SignatureScheme
) -> None:
    """A scheme of RSASSA-PSS that the client offers is taken with a key of its OID."""
    _certified(server, authority, kind)
    _offers(server, scheme)
    server.say_certificate_verify(server.credentials[0], scheme)
    server.finish().complete()


@req("4.3.3-14")
def test_certificate_signed_with_sha1(
    server: ScriptedServer, target: ClientTarget, authority: Authority
) -> None:
    """A certificate that its issuer has signed with SHA-1 is not accepted."""
    about_chains(target)
    server.credentials = (authority.signed_with_sha1(),)
    server.accept()
    _offers(server, S.ecdsa_secp256r1_sha256)
    server.hello().encrypted_extensions().authenticate().finish()
    server.expect_abort()


@req("4.3.3-17")
@needs("signature_schemes:ecdsa_secp256r1_sha256")
@pytest.mark.parametrize("signature", ["its own", "broken"])
def test_signature_of_the_root(
    server: ScriptedServer, authority: Authority, signature: str
) -> None:
    """The signature on a root, which is nobody's but its own, is not looked at."""
    own = authority.credential("p256")
    root = authority.certificate.public_bytes(Encoding.DER)
    if signature == "broken":
        root = root[:-1] + bytes((root[-1] ^ 1,))
    server.credentials = (replace(own, chain=(*own.chain, root)),)
    server.accept().hello().encrypted_extensions().authenticate().finish().complete()
