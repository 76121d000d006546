"""§4.5.2: what a server makes of a client's CertificateVerify."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from tlsconform.authentication import signed_content
from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import Edit, flip, set_field
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.pki import Authority
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import server_lives
from tlsconform.suite.server.helpers import accepted_certificate, edit_id, length_edits
from tpmtls.codepoints import AlertDescription, SignatureScheme
from tpmtls.wire.extensions import SignatureAlgorithms
from tpmtls.wire.messages import CertificateVerify

A = AlertDescription
S = SignatureScheme
SAMPLE = CertificateVerify(S.ecdsa_secp256r1_sha256, b"signature")
BLANKS = 64

pytestmark = needs("client_certificate")


@pytest.fixture
def certified(connect: Connect) -> ScriptedClient:
    """A client that has sent its certificate, which the server takes."""
    accepted_certificate(connect)
    client = connect().hello().read_flight()
    client.say_certificate(client.credential)
    return client


def content_of(client: ScriptedClient) -> bytes:
    """What the client's signature is over."""
    return signed_content("client", client.transcript.digest())


def verify_over(client: ScriptedClient, content: bytes) -> None:
    """CertificateVerify with a good signature over that content; then Finished."""
    if client.credential is None:
        raise NotApplicable("the suite has no client certificate")
    scheme = client.credential.schemes[0]
    client.say(CertificateVerify(scheme, client.credential.signer.sign(scheme, content)))
    client.finish()


@req("4.5.2-8")
@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "rsa", "ed25519", "ed448"])
def test_accepted(
    connect: Connect, authority: Authority, features: ServerFeatures, kind: str
) -> None:
    """A signature by the certificate's key, in a scheme that the server asked for, is taken."""
    accepted_certificate(connect)
    credential = authority.credential(kind, "client")
    client = connect(credential=credential).hello().read_flight()
    if not set(credential.schemes) & set(schemes_asked(client)):
        raise NotApplicable(f"the server asks for no scheme of a key of kind {kind}")
    client.authenticate().finish()
    server_lives(client, features)


@req("4.5.2-9", "4.5.2-8")
@pytest.mark.parametrize("position", [-1, -9])
def test_altered_signature(certified: ScriptedClient, position: int) -> None:
    """A signature of which a bit is wrong is refused."""
    certified.edit(flip("certificate_verify.signature", position))
    verify_over(certified, content_of(certified))
    certified.expect_alert(A.decrypt_error)


@req("4.5.2-9", "4.5.2-8")
def test_empty_signature(certified: ScriptedClient) -> None:
    """A signature without an octet is refused."""
    certified.edit(set_field("certificate_verify.signature", b""))
    verify_over(certified, content_of(certified))
    certified.expect_alert(A.decrypt_error, A.decode_error)


@req("4.5.2-9", "4.5.2-8")
@pytest.mark.parametrize("kind", ["server's context", "no context", "no blanks", "no zero"])
def test_wrong_content(certified: ScriptedClient, kind: str) -> None:
    """A signature over another form than §4.5.2's is refused: the server's context, for one."""
    digest = certified.transcript.digest()
    right = content_of(certified)
    wrong = {
        "server's context": signed_content("server", digest),
        "no context": digest,
        "no blanks": right[BLANKS:],
        "no zero": right[: -len(digest) - 1] + digest,
    }
    verify_over(certified, wrong[kind])
    certified.expect_alert(A.decrypt_error)


@req("4.5.2-9", "4.5.2-8")
def test_wrong_transcript(connect: Connect) -> None:
    """A signature over the transcript without the client's certificate is refused."""
    accepted_certificate(connect)
    client = connect().hello().read_flight()
    before = content_of(client)
    client.say_certificate(client.credential)
    verify_over(client, before)
    client.expect_alert(A.decrypt_error)


@req("4.5.2-9", "4.5.2-8")
def test_other_key(certified: ScriptedClient, authority: Authority) -> None:
    """A signature by another key than the certificate's is refused."""
    other = authority.credential("p256", "server")
    scheme = other.schemes[0]
    certified.say(CertificateVerify(scheme, other.signer.sign(scheme, content_of(certified))))
    certified.finish()
    certified.expect_alert(A.decrypt_error)


@req("4.5.2-9", "4.5.2-8")
def test_replayed_signature(connect: Connect) -> None:
    """A signature from another connection is refused."""
    accepted_certificate(connect)
    first = connect().hello().read_flight()
    first.say_certificate(first.credential)
    old = content_of(first)
    first.close()
    second = connect().hello().read_flight()
    second.say_certificate(second.credential)
    verify_over(second, old)
    second.expect_alert(A.decrypt_error)


@req("6-9")
@pytest.mark.parametrize("edit", length_edits(SAMPLE), ids=edit_id)
def test_lengths(certified: ScriptedClient, edit: Edit) -> None:
    """No length of a CertificateVerify may lie."""
    certified.edit(edit)
    verify_over(certified, content_of(certified))
    certified.expect_alert(A.decode_error)


# -- schemes ---------------------------------------------------------------------------------------


def schemes_asked(client: ScriptedClient) -> tuple[SignatureScheme, ...]:
    """signature_algorithms of the server's CertificateRequest."""
    asked = None if client.request is None else client.request.extensions.get(SignatureAlgorithms)
    return () if asked is None else asked.supported_signature_algorithms


def refuse(
    connect: Connect, authority: Authority, kind: str, scheme: int, sign: Any
) -> ScriptedClient:
    """Authenticate with a certificate of that kind and a signature that `sign` makes."""
    credential = authority.credential(kind, "client")
    accepted_certificate(connect)
    client = connect(credential=credential).hello().read_flight()
    client.say_certificate(credential)
    key = authority.key(kind, "client")
    client.say(CertificateVerify(SignatureScheme(scheme), sign(key, content_of(client))))
    client.finish()
    return client


def pkcs1(algorithm: hashes.HashAlgorithm) -> Any:
    """Signs with RSASSA-PKCS1-v1_5."""
    return lambda key, content: key.sign(content, padding.PKCS1v15(), algorithm)


def ecdsa(algorithm: hashes.HashAlgorithm) -> Any:
    """Signs with ECDSA."""
    return lambda key, content: key.sign(content, ec.ECDSA(algorithm))


@req("4.5.2-5", "4.3.3-8")
@pytest.mark.parametrize(
    ("scheme", "algorithm"),
    [(0x0401, hashes.SHA256()), (0x0501, hashes.SHA384()), (0x0601, hashes.SHA512())],
    ids=["sha256", "sha384", "sha512"],
)
def test_rsa_pkcs1(
    connect: Connect, authority: Authority, scheme: int, algorithm: hashes.HashAlgorithm
) -> None:
    """RSASSA-PKCS1-v1_5 signs no handshake, though the signature be good."""
    client = refuse(connect, authority, "rsa", scheme, pkcs1(algorithm))
    client.expect_alert(A.illegal_parameter, A.decrypt_error)


@req("4.5.2-7", "4.5.2-5")
@pytest.mark.parametrize("kind", ["p256", "rsa"])
def test_sha1(connect: Connect, authority: Authority, kind: str) -> None:
    """SHA-1 signs no handshake, though the signature be good."""
    sha1 = hashes.SHA1()  # noqa: S303 - it is to be refused
    sign = ecdsa(sha1) if kind == "p256" else pkcs1(sha1)
    client = refuse(connect, authority, kind, 0x0203 if kind == "p256" else 0x0201, sign)
    client.expect_alert(A.illegal_parameter, A.decrypt_error)


@req("4.5.2-6")
def test_wrong_curve(connect: Connect, authority: Authority) -> None:
    """ecdsa_secp384r1_sha384 by a key on P-256 does not fit, though the signature be good."""
    scheme = S.ecdsa_secp384r1_sha384
    client = refuse(connect, authority, "p256", scheme, ecdsa(hashes.SHA384()))
    client.expect_alert(A.illegal_parameter, A.decrypt_error)


@req("4.5.2-6")
def test_pss_scheme_for_another_certificate(connect: Connect, authority: Authority) -> None:
    """rsa_pss_pss_sha256 by a key whose certificate says rsaEncryption does not fit."""

    def sign(key: Any, content: bytes) -> Any:
        sha256 = hashes.SHA256()
        return key.sign(content, padding.PSS(padding.MGF1(sha256), sha256.digest_size), sha256)

    client = refuse(connect, authority, "rsa", S.rsa_pss_pss_sha256, sign)
    client.expect_alert(A.illegal_parameter, A.decrypt_error)


@req("4.5.2-6", "4.5.2-8")
@pytest.mark.parametrize("scheme", [S.ed25519, S.rsa_pss_rsae_sha256], ids=lambda s: s.name)
def test_scheme_of_another_kind(certified: ScriptedClient, scheme: SignatureScheme) -> None:
    """A scheme for another kind of key than the certificate's is refused."""
    certified.edit(set_field("certificate_verify.algorithm", scheme))
    verify_over(certified, content_of(certified))
    certified.expect_alert(A.illegal_parameter, A.decrypt_error)


@req("4.5.2-5", "6-10")
@pytest.mark.parametrize("scheme", [0x0000, 0x0102, 0x0A0A, 0xFEFE], ids=hex)
def test_unknown_scheme(certified: ScriptedClient, scheme: int) -> None:
    """A scheme that is unknown was not asked for, and is refused."""
    certified.edit(set_field("certificate_verify.algorithm", scheme))
    verify_over(certified, content_of(certified))
    certified.expect_alert(A.illegal_parameter, A.decrypt_error)


@req("4.5.2-8", "4.5.3-1")
def test_finished_alone_does_not_do(connect: Connect) -> None:
    """A Finished in the place of CertificateVerify is refused: the key was not shown to be held."""
    accepted_certificate(connect)
    client = connect().hello().read_flight()
    client.say_certificate(client.credential)
    client.finish()
    client.expect_alert(A.unexpected_message)
