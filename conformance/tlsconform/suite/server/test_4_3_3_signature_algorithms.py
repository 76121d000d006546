"""§4.3.3: the signature algorithms that a server uses, and those that it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding
from cryptography.hazmat.primitives.serialization import Encoding

from tlsconform.authentication import Credential, signed_content
from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.outcome import NonConformance, NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.peer.client import SCHEMES_OFFERED
from tlsconform.pki import Authority
from tlsconform.plugin import Connect
from tlsconform.session import session_of
from tlsconform.suite.helpers import check, server_lives
from tpmtls.algorithms import SCHEMES
from tpmtls.codepoints import AlertDescription, SignatureScheme
from tpmtls.wire.extensions import (
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
)
from tpmtls.wire.messages import CertificateVerify

NOTHING_IN_COMMON: Final = (
    AlertDescription.handshake_failure,
    AlertDescription.insufficient_security,
)
FOR_CERTIFICATES: Final = (
    SignatureScheme.rsa_pkcs1_sha256,
    SignatureScheme.rsa_pkcs1_sha384,
    SignatureScheme.rsa_pkcs1_sha512,
)
SHA1: Final = (SignatureScheme.ecdsa_sha1, SignatureScheme.rsa_pkcs1_sha1)
UNALLOCATED: Final = tuple(
    SignatureScheme(code)
    for code in (0x0101, 0x0103, 0x0202, 0x0301, 0x0302, 0x0303, 0x0402, 0x0502, 0x0602)
)
"""Pairs of TLS 1.2: MD5 with RSA or ECDSA, SHA-224, and DSA with any hash."""
RSA_OID: Final = "1.2.840.113549.1.1.1"
PSS_OID: Final = "1.2.840.113549.1.1.10"


def leaf_of(client: ScriptedClient) -> x509.Certificate:
    """The server's own certificate."""
    if client.certificate is None:
        raise NotApplicable("the server showed no certificate")
    return x509.load_der_x509_certificate(client.certificate.certificate_list[0].cert_data)


def fits(certificate: x509.Certificate, scheme: SignatureScheme) -> bool:
    """Whether a certificate's key is of the kind that the scheme is for."""
    kind = SCHEMES[scheme].key_type
    oid = certificate.public_key_algorithm_oid.dotted_string
    if kind in ("rsa", "rsa-pss"):
        return oid == (RSA_OID if kind == "rsa" else PSS_OID)
    key: Any = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name == kind
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return type(key).__name__ == f"{kind.capitalize()}PublicKey"
    return kind.startswith("mldsa")


@pytest.fixture
def authority(request: pytest.FixtureRequest) -> Authority:
    """Who has signed the client's certificates."""
    return session_of(request.config).authority


# -- the server's ----------------------------------------------------------------------------------


@req("4.3.3-1", "4.3.3-7", "4.3.3-8", "4.3.3-9", "4.3.3-10")
def test_each_scheme(connect: Connect, features: ServerFeatures) -> None:
    """Under each scheme, the key is of its kind, and the signature as it says, salt and all."""
    for name in features.signature_schemes:
        scheme = SignatureScheme[name]
        client = connect()
        client.hello(schemes=(scheme, *FOR_CERTIFICATES)).read_flight()  # which verifies it
        got = client.verify and client.verify.algorithm
        check(got == scheme, name, got)
        leaf = leaf_of(client)
        check(fits(leaf, scheme), f"a key for {name}", leaf.public_key_algorithm_oid.dotted_string)
        client.close()


@req("4.3.3-6", "4.3.3-13")
def test_schemes_for_certificates(client: ScriptedClient, features: ServerFeatures) -> None:
    """Schemes that are for certificates alone may lead the list: they sign no handshake."""
    client.hello(schemes=(*FOR_CERTIFICATES, *SHA1, *SCHEMES_OFFERED)).complete()
    got = client.verify and client.verify.algorithm
    check(got not in (*FOR_CERTIFICATES, *SHA1), "a scheme for handshakes", got)
    server_lives(client, features)


@req("4.3.3-6", "4.3.3-13", "4.2.1-4")
def test_schemes_for_certificates_alone(client: ScriptedClient) -> None:
    """With schemes for certificates alone there is nothing to sign the handshake with."""
    client.hello(schemes=(*FOR_CERTIFICATES, *SHA1))
    client.expect_alert(*NOTHING_IN_COMMON)


@req("4.3.3-20", "4.3.3-21")
def test_unallocated_pairs_alone(client: ScriptedClient) -> None:
    """MD5, SHA-224, DSA, and whatever TLS 1.2 had and TLS 1.3 has not, are not used."""
    client.hello(schemes=UNALLOCATED)
    client.expect_alert(*NOTHING_IN_COMMON)


@req("4.3.3-20", "4.3.3-21")
def test_unallocated_pairs_too(client: ScriptedClient, features: ServerFeatures) -> None:
    """Such pairs and unknown schemes in front of the others make no difference."""
    unknown = (SignatureScheme(0x0A0A), SignatureScheme(0xFE00))
    client.hello(schemes=(*UNALLOCATED, *unknown, *SCHEMES_OFFERED)).complete()
    server_lives(client, features)


@req("4.3.3-20", "4.3.3-21")
@needs("client_certificate")
def test_pairs_asked_for(client: ScriptedClient) -> None:
    """A CertificateRequest asks for none of them either."""
    client.hello().read_flight()
    asked: set[SignatureScheme] = set()
    if client.request is not None:
        for body in client.request.extensions:
            if isinstance(body, SignatureAlgorithms | SignatureAlgorithmsCert):
                asked |= set(body.supported_signature_algorithms)
    wrong = sorted(each.name for each in asked & set(UNALLOCATED))
    check(not wrong, "no such pairs", wrong)


@req("4.3.3-14", "4.3.3-16")
@pytest.mark.parametrize("offered", [False, True], ids=["not offered", "offered first"])
def test_certificates_signed_with_sha1(client: ScriptedClient, offered: bool) -> None:
    """No certificate is signed with SHA-1, self-signed ones apart, though the client takes it."""
    schemes = (*SHA1, *SCHEMES_OFFERED) if offered else SCHEMES_OFFERED
    client.hello(schemes=schemes).read_flight()
    entries = () if client.certificate is None else client.certificate.certificate_list
    for entry in entries:
        certificate = x509.load_der_x509_certificate(entry.cert_data)
        if certificate.issuer == certificate.subject:
            continue
        digest = certificate.signature_hash_algorithm
        subject = certificate.subject.rfc4514_string()
        check(not isinstance(digest, hashes.SHA1), "no SHA-1", f"SHA-1 on {subject}")


# -- the client's ----------------------------------------------------------------------------------


def asked_for_certificate(connect: Connect, credential: Credential) -> ScriptedClient:
    """A handshake up to our Certificate, with that chain."""
    client = connect(credential=credential)
    client.hello().read_flight()
    if client.request is None:
        raise NotApplicable("the server did not ask for a certificate this time")
    client.say_certificate(credential, client.request.certificate_request_context)
    return client


@req("4.3.3-1", "4.3.3-10")
@needs("client_certificate")
@pytest.mark.parametrize(
    ("kind", "signed", "said"),
    [
        ("rsa", "rsa_pss_rsae_sha256", "rsa_pss_pss_sha256"),
        ("p256", "ecdsa_secp256r1_sha256", "ed25519"),
        ("p256", "ecdsa_secp256r1_sha256", "rsa_pss_rsae_sha256"),
    ],
)
def test_scheme_of_another_key(
    connect: Connect, authority: Authority, kind: str, signed: str, said: str
) -> None:
    """A CertificateVerify whose scheme is for another kind of key is refused."""
    credential = authority.credential(kind, "client")
    client = asked_for_certificate(connect, credential)
    content = signed_content("client", client.transcript.digest())
    signature = credential.signer.sign(SignatureScheme[signed], content)
    client.say(CertificateVerify(SignatureScheme[said], signature))
    client.expect_abort()


@req("4.3.3-7")
@needs("client_certificate")
@pytest.mark.parametrize("salt", [0, 20, 31, 33])
def test_length_of_the_salt(connect: Connect, authority: Authority, salt: int) -> None:
    """A signature of RSASSA-PSS whose salt is not as long as the digest is refused."""
    client = asked_for_certificate(connect, authority.credential("rsa", "client"))
    content = signed_content("client", client.transcript.digest())
    key, digest = authority.key("rsa", "client"), hashes.SHA256()
    signature = key.sign(content, padding.PSS(padding.MGF1(digest), salt), digest)
    client.say(CertificateVerify(SignatureScheme.rsa_pss_rsae_sha256, signature))
    client.expect_abort()


@req("4.3.3-17")
@needs("client_certificate")
def test_signature_of_the_root(
    connect: Connect, authority: Authority, features: ServerFeatures
) -> None:
    """The signature on a root, which is nobody's but its own, is not looked at."""
    own = authority.credential("p256", "client")
    root = authority.certificate.public_bytes(Encoding.DER)
    roots = {"its own": root, "broken": root[:-1] + bytes((root[-1] ^ 1,))}
    for what, der in roots.items():
        client = asked_for_certificate(connect, replace(own, chain=(*own.chain, der)))
        client.say_certificate_verify(own, own.schemes[0])
        client.finish()
        try:
            server_lives(client, features)
        except NonConformance:
            if what == "its own":
                raise NotApplicable("the server does not trust our root") from None
            raise
        client.close()
