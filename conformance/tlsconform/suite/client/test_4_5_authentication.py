"""§4.5, §4.6: what a client makes of a server's authentication, and what it answers."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, padding
from cryptography.hazmat.primitives.serialization import Encoding

from tlsconform.authentication import signed_content
from tlsconform.features import ClientFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import append, flip, insert, set_field, truncate
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedServer
from tlsconform.pki import Authority
from tlsconform.plugin import Serve
from tlsconform.suite.helpers import WHERE, about_chains, check, client_lives, give_ticket
from tlsconform.targets import ClientTarget
from tpmtls.codepoints import AlertDescription, ExtensionType, SignatureScheme
from tpmtls.wire.extensions import EarlyDataIndication, ServerNameList, UnknownExtension
from tpmtls.wire.messages import CertificateEntry, CertificateVerify

A = AlertDescription
S = SignatureScheme
REFUSALS: Final = (
    A.bad_certificate,
    A.unsupported_certificate,
    A.certificate_revoked,
    A.certificate_expired,
    A.certificate_unknown,
    A.unknown_ca,
)
"""What want of an acceptable chain is said with."""
SCHEMES: Final = (
    "certificate_request.extensions[signature_algorithms].supported_signature_algorithms"
)
OPENPGP: Final = UnknownExtension(ExtensionType(20), b"\1")


@pytest.fixture
def ready(server: ScriptedServer) -> ScriptedServer:
    """A server that is about to authenticate."""
    return server.accept().hello().encrypted_extensions()


def _schemes(server: ScriptedServer, *schemes: SignatureScheme) -> None:
    if not set(schemes) <= set(server.schemes_offered):
        raise NotApplicable("the client does not offer the scheme")


# -- Certificate -----------------------------------------------------------------------------------


@req("4.5.1.3-1")
def test_empty_certificate(ready: ScriptedServer) -> None:
    """A Certificate of a server without any certificate is refused."""
    ready.say_certificate(None)
    ready.expect_alert(A.decode_error)


@req("6-10")
def test_context(ready: ScriptedServer) -> None:
    """A Certificate of a server whose certificate_request_context is not empty is refused."""
    edit = set_field("certificate.certificate_request_context", b"context")
    ready.certificate(edit).certificate_verify().finish()
    ready.expect_alert(A.illegal_parameter, A.decode_error, A.unexpected_message)


@req("4.3-6")
@pytest.mark.parametrize("code", [0xFAF0, ExtensionType.cookie])
def test_extension_of_an_entry(ready: ScriptedServer, code: int) -> None:
    """An extension in an entry that was not asked for is refused."""
    body = UnknownExtension(ExtensionType(code), b"\0\1c")
    ready.certificate(insert(WHERE["certificate"], body)).certificate_verify().finish()
    ready.expect_alert(A.unsupported_extension, A.illegal_parameter)


@req("4.5.1.2-14")
def test_untrusted_chain(ready: ScriptedServer, target: ClientTarget) -> None:
    """A certificate of an authority that the client does not trust is refused."""
    about_chains(target)
    ready.credentials = (Authority().credential("p256"),)
    ready.authenticate().finish()
    ready.expect_alert(*REFUSALS)


@req("4.5.1.3-5")
def test_chain_signed_with_sha1(
    ready: ScriptedServer, target: ClientTarget, authority: Authority
) -> None:
    """A certificate whose signature is over a SHA-1 hash is refused with bad_certificate."""
    about_chains(target)
    ready.credentials = (authority.signed_with_sha1(),)
    ready.authenticate().finish()
    ready.expect_alert(A.bad_certificate)


@req("4.5.1.3-4")
def test_chain_signed_with_md5(
    ready: ScriptedServer, target: ClientTarget, authority: Authority
) -> None:
    """A certificate whose signature is over an MD5 hash is refused with bad_certificate."""
    about_chains(target)
    ready.credentials = (authority.signed_with_md5(),)
    ready.authenticate().finish()
    ready.expect_alert(A.bad_certificate)


@req("4.5.1.3-7")
@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_mixed_chain(server: ScriptedServer, authority: Authority, kind: str) -> None:
    """A key of another algorithm than its issuer's is no ground to refuse."""
    server.credentials = (authority.credential(kind),)
    server.accept().hello().encrypted_extensions().authenticate().finish().complete()


@req("4.5.1-12")
@pytest.mark.parametrize("root_first", [False, True])
def test_certificates_in_any_order(
    ready: ScriptedServer, authority: Authority, root_first: bool
) -> None:
    """Further certificates may come in any order, with one that does not belong to the chain."""
    own, _ = ready.credential_and_scheme()
    further = [
        authority.credential("p384", "client").chain[0],
        authority.certificate.public_bytes(Encoding.DER),
    ]
    if root_first:
        further.reverse()
    ready.credentials = (replace(own, chain=(*own.chain, *further)),)
    ready.authenticate().finish().complete()


@req("4.5.1-15")
def test_openpgp(server: ScriptedServer) -> None:
    """A client does not go on where certificate type OpenPGP is selected."""
    server.accept()
    if OPENPGP.extension_type not in server.offer.extensions.types:
        raise NotApplicable("the client negotiates no certificate type")
    server.hello().encrypted_extensions(OPENPGP)
    server.expect_abort()


# -- CertificateVerify -----------------------------------------------------------------------------


@req("4.5.2-9", "4.5.2-8")
def test_altered_signature(ready: ScriptedServer) -> None:
    """A CertificateVerify of which a bit of the signature is wrong is refused."""
    ready.certificate().certificate_verify(flip("certificate_verify.signature", -1)).finish()
    ready.expect_alert(A.decrypt_error)


@req("4.5.2-9", "4.5.2-8")
def test_context_string_of_the_client(ready: ScriptedServer) -> None:
    """A signature made with the client's context string is refused."""
    ready.certificate()
    ready.say_certificate_verify(*ready.credential_and_scheme(), role="client")
    ready.finish()
    ready.expect_alert(A.decrypt_error)


@req("4.5.2-9", "4.5.2-8")
def test_wrong_transcript(ready: ScriptedServer) -> None:
    """A signature over the transcript without the Certificate is refused."""
    credential, scheme = ready.credential_and_scheme()
    content = signed_content("server", ready.transcript.digest())
    ready.certificate()
    ready.say(CertificateVerify(scheme, credential.signer.sign(scheme, content)))
    ready.finish()
    ready.expect_alert(A.decrypt_error)


@req("4.5.2-9", "4.5.2-8", "4.5.1-9", "4.5.1-13")
def test_other_key(ready: ScriptedServer) -> None:
    """A signature by another key than the first certificate's is refused."""
    scheme = ready.credential_and_scheme()[1]
    other = Authority()
    kind = next(k for k in ("p256", "rsa", "p384") if scheme in other.credential(k).schemes)
    ready.certificate()
    ready.say_certificate_verify(other.credential(kind), scheme)
    ready.finish()
    ready.expect_alert(A.decrypt_error)


@req("4.5.2-8")
def test_no_certificate_verify(ready: ScriptedServer) -> None:
    """A Finished in the place of CertificateVerify is refused."""
    ready.certificate().finish()
    ready.expect_alert(A.unexpected_message)


@req("4.5.2-8")
@pytest.mark.parametrize("kind", ["ed448", "p521", "ed25519", "p384"])
def test_scheme_not_offered(server: ScriptedServer, authority: Authority, kind: str) -> None:
    """A good signature in a scheme that the client does not offer is refused."""
    own = authority.credential(kind)
    server.accept()
    if own.schemes[0] in server.schemes_offered:
        raise NotApplicable("the client offers the scheme")
    server.hello().encrypted_extensions().say_certificate(own)
    server.say_certificate_verify(own, own.schemes[0])
    server.finish()
    server.expect_abort()


def _ecdsa(
    server: ScriptedServer, authority: Authority, said: int, by: hashes.HashAlgorithm
) -> None:
    """Authenticate with a key on P-256, and a good signature over that hash."""
    server.say_certificate(authority.credential("p256"))
    content = signed_content("server", server.transcript.digest())
    signature = authority.key("p256").sign(content, ec.ECDSA(by))
    server.say(CertificateVerify(SignatureScheme(said), signature))
    server.finish()


@req("4.5.2-6")
def test_scheme_of_another_curve(ready: ScriptedServer, authority: Authority) -> None:
    """ecdsa_secp384r1_sha384 by a key on P-256 does not fit, though the signature be good."""
    _schemes(ready, S.ecdsa_secp256r1_sha256, S.ecdsa_secp384r1_sha384)
    _ecdsa(ready, authority, S.ecdsa_secp384r1_sha384, hashes.SHA384())
    ready.expect_abort()


@req("4.5.2-7")
def test_signature_with_sha1(ready: ScriptedServer, authority: Authority) -> None:
    """SHA-1 signs no CertificateVerify, though the signature be good."""
    _schemes(ready, S.ecdsa_secp256r1_sha256)
    _ecdsa(ready, authority, 0x0203, hashes.SHA1())  # noqa: S303 - it is to be refused
    ready.expect_abort()


@req("4.5.2-8")
def test_pkcs1(ready: ScriptedServer, authority: Authority) -> None:
    """RSASSA-PKCS1-v1_5, which no client may offer for it, signs no CertificateVerify."""
    _schemes(ready, S.rsa_pss_rsae_sha256)
    ready.say_certificate(authority.credential("rsa"))
    content = signed_content("server", ready.transcript.digest())
    signature = authority.key("rsa").sign(content, padding.PKCS1v15(), hashes.SHA256())
    ready.say(CertificateVerify(SignatureScheme(0x0401), signature))
    ready.finish()
    ready.expect_abort()


@req("6-10")
@pytest.mark.parametrize("scheme", [0x0102, 0xFEFE], ids=hex)
def test_unknown_scheme(ready: ScriptedServer, scheme: int) -> None:
    """A CertificateVerify in a scheme that the client did not offer is refused."""
    ready.certificate().certificate_verify(set_field("certificate_verify.algorithm", scheme))
    ready.finish()
    ready.expect_alert(A.illegal_parameter)


# -- Finished --------------------------------------------------------------------------------------


@req("4.5.3-2")
@pytest.mark.parametrize("position", [0, -1])
def test_altered_finished(ready: ScriptedServer, position: int) -> None:
    """A Finished of which a bit is wrong is refused."""
    ready.authenticate().finish(flip("finished.verify_data", position))
    ready.expect_alert(A.decrypt_error)


@req("6-9")
@pytest.mark.parametrize("change", ["shorter", "longer"])
def test_length_of_finished(ready: ScriptedServer, change: str) -> None:
    """A Finished that is shorter or longer than the hash is refused."""
    path = "finished.verify_data"
    ready.authenticate().finish(truncate(path, 1) if change == "shorter" else append(path, b"\0"))
    ready.expect_alert(A.decode_error)


# -- the client's answer ---------------------------------------------------------------------------


@req("4.5.1-2", "4-1")
@pytest.mark.parametrize("asked", [False, True])
def test_certificate_where_asked(
    ready: ScriptedServer, target: ClientTarget, features: ClientFeatures, asked: bool
) -> None:
    """The client sends a Certificate if it was asked for one, and none if not."""
    if asked:
        ready.certificate_request()
    ready.authenticate().finish().complete()  # which reads it just where one was asked for
    client_lives(ready, target, features.sends_data)


@req("4.5.1-3", "4.5.1-4", "4.5.2-5", "4.5.1.2-2", "4.5.1.2-4")
def test_without_a_suitable_certificate(ready: ScriptedServer) -> None:
    """A client with no certificate for the schemes asked for sends an empty list, then Finished."""
    edit = set_field(SCHEMES, S.ed448.to_bytes(2, "big"))
    ready.certificate_request(edits=[edit]).authenticate().finish().complete()
    certificate = ready.client_certificate
    sent = () if certificate is None else certificate.certificate_list
    if sent:
        key = x509.load_der_x509_certificate(sent[0].cert_data).public_key()
        if isinstance(key, ed448.Ed448PublicKey):
            raise NotApplicable("the client has a certificate that suits")
    check(not sent, "a Certificate without certificates", f"{len(sent)} certificates")


@needs("client_certificate")
@req("4.5.1-7", "4.5.1-9", "4.5.1-13", "4.5.2-2", "4.5.2-3", "4.5.2-5", "4.5.2-6", "4.5.2-7")
def test_client_certificate(ready: ScriptedServer) -> None:
    """The client's certificate has no extension, and its key signs the CertificateVerify."""
    ready.certificate_request().authenticate().finish().complete()
    for entry in _presented(ready):
        names = [body.extension_type.name for body in entry.extensions]
        check(not names, "no extension that was not asked for", names, "4.5.1-7")


@needs("client_certificate")
@req("4.5.1.2-1", "4.5.1.2-3", "4.5.1-10", "4.5.1.3-6")
def test_client_certificate_is_fit(ready: ScriptedServer) -> None:
    """The client's chain is of X.509 version 3, in order, over SHA-256 or better, and may sign."""
    ready.certificate_request().authenticate().finish().complete()
    chain = [x509.load_der_x509_certificate(entry.cert_data) for entry in _presented(ready)]
    for each in chain:
        check(each.version is x509.Version.v3, "version 3", each.version.name, "4.5.1.2-1")
        digest = each.signature_hash_algorithm
        good = digest is None or digest.digest_size >= hashes.SHA256.digest_size
        good = good or each.issuer == each.subject
        check(good, "SHA-256 or better", digest and digest.name, "4.5.1.3-6")
    for lower, upper in pairwise(chain):
        check(lower.issuer == upper.subject, "the issuer next", upper.subject, "4.5.1-10")
    usage = [e.value for e in chain[0].extensions if isinstance(e.value, x509.KeyUsage)]
    fit = all(each.digital_signature for each in usage)
    check(fit, "digitalSignature", "Key Usage without it", "4.5.1.2-3")


def _presented(server: ScriptedServer) -> tuple[CertificateEntry, ...]:
    certificate = server.client_certificate
    if certificate is None or not certificate.certificate_list:
        raise NotApplicable("the client presents no certificate this time")
    return certificate.certificate_list


def is_address(name: bytes) -> bool:
    """Whether it is an IP address in text, which is no DNS name."""
    try:
        ip_address(name.decode("ascii"))
    except ValueError:
        return False
    return True


@needs("server_name")
@req("4.5.1.2-8")
def test_server_name(server: ScriptedServer) -> None:
    """A client that knows the server by a DNS name sends server_name with a DNS name."""
    server.accept()
    body = server.offer.extensions.get(ServerNameList)
    names = () if body is None else body.server_name_list
    check(bool(names) and not is_address(names[0].host_name), "a DNS name", names)


# -- EndOfEarlyData --------------------------------------------------------------------------------


@needs("early_data")
@pytest.mark.parametrize(
    "accepted",
    [pytest.param(True, marks=req("4.6-1")), pytest.param(False, marks=req("4.6-2"))],
)
def test_end_of_early_data(serve: Serve, target: ClientTarget, accepted: bool) -> None:
    """EndOfEarlyData comes after early data that was accepted, and not where it was not."""
    name, psk = give_ticket(serve, target, max_early_data=1 << 14)
    server = serve(resume=True, early_data=True).accept()
    types = server.offer.extensions.types
    if ExtensionType.early_data not in types or server.identities_offered[:1] != (name,):
        raise NotApplicable("the client does not send early data this time")
    server.read_early_data(psk)
    server.receive_data()
    server.hello(psk=psk)
    server.encrypted_extensions(*((EarlyDataIndication(),) if accepted else ())).finish()
    if accepted:
        server.read_end_of_early_data()
    server.complete()
