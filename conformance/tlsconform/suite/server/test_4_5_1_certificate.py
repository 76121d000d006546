"""§4.5.1: a server's Certificate, and what it makes of a client's."""

from __future__ import annotations

from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tlsconform.authentication import Credential
from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import Edit, extension, insert, set_field
from tlsconform.outcome import Deviation, NonConformance, NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.pki import Authority
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import check, server_lives
from tlsconform.suite.server.helpers import (
    CERTIFICATE_ALERTS,
    accepted_certificate,
    edit_id,
    length_edits,
)
from tpmtls.algorithms import SCHEMES
from tpmtls.codepoints import AlertDescription, ExtensionType, SignatureScheme
from tpmtls.wire.extensions import (
    Extensions,
    SignatureAlgorithmsCert,
    UnknownExtension,
)
from tpmtls.wire.messages import Certificate, CertificateEntry, CertificateRequest

A = AlertDescription
CERTIFICATE_TYPE = ExtensionType.server_certificate_type
SAMPLE = Certificate(b"", (CertificateEntry(b"certificate", Extensions()),))
"""Any Certificate with one entry: its paths are those of the client's."""
CONTEXT = "certificate.certificate_request_context"
DATA = "certificate.certificate_list[0].cert_data"


def leaf_of(client: ScriptedClient) -> x509.Certificate:
    """The end entity's certificate that the server sent."""
    if client.certificate is None:
        raise NonConformance("a Certificate", "none", "4.5.1-1")
    return x509.load_der_x509_certificate(client.certificate.certificate_list[0].cert_data)


# -- as sent ---------------------------------------------------------------------------------------


@req("4.5.1-1", "4.5.1-5", "4.5.1-6", "4.5.1-9", "4.5.1-16", "4.5.1-13", "4.5.2-1", "4.5.2-3")
def test_certificate(client: ScriptedClient) -> None:
    """The server's Certificate is not empty, has no context, nor extensions that were not offered;
    the first certificate's key signs the CertificateVerify that follows."""
    client.hello().read_flight()
    sent = client.certificate
    if sent is None:
        raise NonConformance("a Certificate", "none", "4.5.1-1")
    context = sent.certificate_request_context
    check(not context, "an empty certificate_request_context", context.hex(), "4.5.1-5")
    offered = {body.extension_type for body in client.first.extensions}
    for entry in sent.certificate_list:
        for body in entry.extensions:
            name = body.extension_type
            check(name in offered, "extensions that were offered", name.name, "4.5.1-6")


@req("4.5.1.2-1", "4.5.1.2-3", "4.5.1.2-4", "4.5.1.2-2")
def test_certificate_is_fit(client: ScriptedClient) -> None:
    """The server's certificate is X.509 version 3, and its key may sign."""
    client.hello().read_flight()
    leaf = leaf_of(client)
    check(leaf.version is x509.Version.v3, "version 3", leaf.version.name, "4.5.1.2-1")
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    check(usage.digital_signature, "digitalSignature", "Key Usage without it", "4.5.1.2-3")


@req("4.5.1-10")
def test_chain_order(client: ScriptedClient) -> None:
    """Each further certificate is of the issuer of the one before it."""
    client.hello().read_flight()
    entries = () if client.certificate is None else client.certificate.certificate_list
    chain = [x509.load_der_x509_certificate(entry.cert_data) for entry in entries]
    for below, above in pairwise(chain):
        check(below.issuer == above.subject, below.issuer.rfc4514_string(), above.subject)


@req("4.5.1.3-6")
def test_chain_hashes(client: ScriptedClient) -> None:
    """The certificates that the server sends are signed over SHA-256 or better."""
    client.hello().read_flight()
    entries = () if client.certificate is None else client.certificate.certificate_list
    for entry in entries:
        certificate = x509.load_der_x509_certificate(entry.cert_data)
        used = certificate.signature_hash_algorithm
        if used is not None and certificate.issuer != certificate.subject:
            check(used.digest_size >= hashes.SHA256.digest_size, "SHA-256 or better", used.name)


@req("4.5.2-4", "4.5.2-6", "4.5.2-7")
@pytest.mark.parametrize("scheme", [s for s, row in SCHEMES.items() if row.signs_handshakes])
def test_scheme_used(
    client: ScriptedClient, features: ServerFeatures, scheme: SignatureScheme
) -> None:
    """The server signs with the one scheme offered, where it can, and its key fits that."""
    certificates = (s for s, row in SCHEMES.items() if not row.signs_handshakes)
    client.hello(schemes=(scheme, *certificates))
    if scheme.name not in features.signature_schemes:
        client.expect_abort()
        return
    client.read_flight()
    used = None if client.verify is None else client.verify.algorithm
    check(used == scheme, scheme.name, used)


@req("4.5.2-7")
def test_no_sha1(client: ScriptedClient) -> None:
    """A server does not sign with SHA-1 or PKCS #1, though these are all that is offered."""
    schemes = [SignatureScheme(code) for code in (0x0201, 0x0203, 0x0401, 0x0501, 0x0601)]
    client.hello(schemes=schemes)
    client.expect_abort()


@req("4.5.1.1-4", "4.5.1.1-2", "4.5.1.1-3")
@pytest.mark.parametrize("body", [b"\0\7\2\0\4\0\0\0\0", b"", b"nonsense"], ids=lambda b: b.hex())
def test_status_request_v2(client: ScriptedClient, features: ServerFeatures, body: bytes) -> None:
    """status_request_v2 is passed over, whatever it says, and not answered."""
    unwanted = UnknownExtension(ExtensionType(17), body)
    client.hello(extensions=(unwanted,)).complete()
    sent = [() if client.parameters is None else tuple(client.parameters.extensions)]
    sent += [() if client.request is None else tuple(client.request.extensions)]
    if client.certificate is not None:
        sent += [tuple(entry.extensions) for entry in client.certificate.certificate_list]
    numbers = {int(answer.extension_type) for block in sent for answer in block}
    check(17 not in numbers, "no status_request_v2", "one", "4.5.1.1-3")
    server_lives(client, features)


@req("4.5.1.1-1", "4.5.1-6")
def test_status_request(client: ScriptedClient, features: ServerFeatures) -> None:
    """A client that wants OCSP responses is served; what it gets is a CertificateStatus."""
    asking = UnknownExtension(ExtensionType.status_request, b"\1\0\0\0\0")
    client.hello(extensions=(asking,)).complete()
    entries = () if client.certificate is None else client.certificate.certificate_list
    for body in (body for entry in entries for body in entry.extensions):
        if isinstance(body, UnknownExtension) and body.extension_type == asking.extension_type:
            kind, length = body.data[:1], int.from_bytes(body.data[1:4], "big")
            check(kind == b"\1" and length == len(body.data) - 4 > 0, "a status", body.data.hex())
    server_lives(client, features)


@req("4.5.1-15")
def test_no_openpgp(client: ScriptedClient) -> None:
    """A server that is offered OpenPGP certificates besides X.509 does not choose them."""
    types = UnknownExtension(ExtensionType.server_certificate_type, b"\2\1\0")
    client.hello(extensions=(types,))
    client.read_server_hello()
    client.read_encrypted_extensions()
    for body in () if client.parameters is None else client.parameters.extensions:
        if body.extension_type is ExtensionType.server_certificate_type:
            chosen = extension(body).body()
            check(chosen != b"\1", "another certificate type", "OpenPGP")


# -- as received -----------------------------------------------------------------------------------


@req("4.5.1.3-2", "4.5.1-4")
@needs("client_certificate")
def test_empty_certificate(connect: Connect, features: ServerFeatures) -> None:
    """A client without a certificate is served, or sent away with certificate_required."""
    client = connect(credential=None).handshake()
    if features.client_certificate_required:
        client.expect_quiet_or_end()
    else:
        server_lives(client, features)


@req("4.5.1.3-2")
@needs("client_certificate_required")
def test_certificate_required(connect: Connect) -> None:
    """A server that insists on a certificate says certificate_required where there is none."""
    client = connect(credential=None).handshake()
    client.expect_alert(A.certificate_required)


@req("6-10", "4.5.1-5", "4.4.2-4")
@needs("client_certificate")
def test_wrong_context(connect: Connect) -> None:
    """A certificate_request_context that was not asked with is refused."""
    client = connect().hello().read_flight()
    client.authenticate(set_field(CONTEXT, b"\1\2\3")).finish()
    client.expect_alert(A.illegal_parameter, A.decode_error)


@req("6-9")
@needs("client_certificate")
@pytest.mark.parametrize("edit", length_edits(SAMPLE), ids=edit_id)
def test_lengths(connect: Connect, edit: Edit) -> None:
    """No length of the client's Certificate may lie."""
    client = connect().hello().read_flight()
    client.authenticate(edit)
    client.finish()
    allowed = [A.decode_error]
    if edit.path == CONTEXT:
        allowed.append(A.illegal_parameter)
    if edit.path == DATA:
        allowed += [A.bad_certificate, A.certificate_unknown]
    client.expect_alert(*allowed)


@req("6-9")
@needs("client_certificate")
def test_empty_cert_data(connect: Connect) -> None:
    """An entry of the client's Certificate has at least one octet of certificate."""
    client = connect().hello().read_flight()
    client.authenticate(set_field(DATA, b"")).finish()
    client.expect_alert(A.decode_error, A.bad_certificate)


@req("4.5.1.2-14")
@needs("client_certificate")
@pytest.mark.parametrize("data", [b"\0", b"0\3\2\1\0", b"not a certificate"], ids=lambda d: d.hex())
def test_no_certificate_at_all(connect: Connect, data: bytes) -> None:
    """What is no certificate gets an alert about certificates."""
    client = connect().hello().read_flight()
    client.authenticate(set_field(DATA, data)).finish()
    client.expect_alert(*CERTIFICATE_ALERTS, A.decode_error)


@req("4.5.1-7", "4.3-6")
@needs("client_certificate")
def test_unasked_extension(connect: Connect) -> None:
    """An extension in the client's Certificate that the server did not ask for is refused."""
    accepted_certificate(connect)
    client = connect().hello().read_flight()
    if client.request is not None and any(
        body.extension_type is ExtensionType.status_request for body in client.request.extensions
    ):
        return
    status = UnknownExtension(ExtensionType.status_request, b"\1\0\0\1\0")
    path = "certificate.certificate_list[0].extensions"
    client.authenticate(insert(path, status)).finish()
    client.expect_alert(A.unsupported_extension, A.illegal_parameter)


@req("4.3-10")
@needs("client_certificate")
def test_doubled_extension(connect: Connect) -> None:
    """An extension that a certificate of the client has twice is refused."""
    client = connect().hello().read_flight()
    unknown = UnknownExtension(ExtensionType(0xFDE8), b"")
    path = "certificate.certificate_list[0].extensions"
    client.authenticate(insert(path, unknown), insert(path, unknown)).finish()
    client.expect_abort()


@req("4.5.1.3-7", "4.5.1.2-9")
@needs("client_certificate")
@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_mixed_algorithms(
    connect: Connect, authority: Authority, features: ServerFeatures, kind: str
) -> None:
    """A client's key of another kind than its issuer's is taken."""
    accepted_certificate(connect)
    client = connect(credential=authority.credential(kind, "client")).handshake()
    server_lives(client, features)


@req("4.5.1-12")
@needs("client_certificate")
def test_extraneous_certificates(
    connect: Connect, authority: Authority, features: ServerFeatures
) -> None:
    """Certificates behind the client's own that do not belong to its chain do no harm."""
    accepted_certificate(connect)
    client = connect().hello().read_flight()
    stranger = authority.credential("p384", "server").chain[0]
    own = () if client.credential is None else client.credential.chain
    entries = [CertificateEntry(der, Extensions()) for der in (*own, stranger, stranger)]
    client.say(Certificate(b"", tuple(entries)))
    if client.credential is not None:
        client.say_certificate_verify(client.credential, client.credential.schemes[0])
    client.finish()
    server_lives(client, features)


@req("4.5.1.3-5")
@needs("client_certificate")
def test_sha1_chain(connect: Connect, authority: Authority) -> None:
    """A chain that is signed with SHA-1, where it is refused, gets bad_certificate."""
    expect_refused_chain(connect, authority.signed_with_sha1("p256", "client"), "4.5.1.3-5")


@req("4.5.1.3-4")
@needs("client_certificate")
def test_md5_chain(connect: Connect, authority: Authority) -> None:
    """A chain that is signed with MD5, where it is validated, is refused with bad_certificate."""
    expect_refused_chain(connect, authority.signed_with_md5("client"), "4.5.1.3-4")


def expect_refused_chain(connect: Connect, credential: Credential, rule: str) -> None:
    """bad_certificate; a server that takes any certificate does not validate that chain."""
    accepted_certificate(connect)
    client = connect(credential=credential).handshake()
    try:
        client.expect_quiet()
    except NonConformance as finding:
        check("bad_certificate" in finding.got, "alert bad_certificate", finding.got, rule)
        return
    finally:
        client.close()
    if not takes_stranger(connect):
        raise NonConformance("alert bad_certificate", "the chain taken", rule)
    raise NotApplicable("the server takes any certificate: it need not validate this one")


def takes_stranger(connect: Connect) -> bool:
    """Whether the server takes a certificate of an authority that it cannot know."""
    client = connect(credential=Authority().credential("p256", "client")).handshake()
    try:
        client.expect_quiet()
    except NonConformance:
        return False
    finally:
        client.close()
    return True


@req("4.5.1-14")
def test_raw_public_key(client: ScriptedClient) -> None:
    """A server that sends a raw public key sends no more than that."""
    client.hello(extensions=(UnknownExtension(CERTIFICATE_TYPE, b"\2\2\0"),))
    client.read_server_hello()
    parameters = client.read_encrypted_extensions()
    chosen = [e for e in parameters.extensions if e.extension_type is CERTIFICATE_TYPE]
    if not chosen or extension(chosen[0]).body() != b"\2":
        raise NotApplicable("the server has no raw public keys")
    message, _ = client.next_message()
    if isinstance(message, CertificateRequest):
        message, _ = client.next_message()
    if not isinstance(message, Certificate):
        raise NonConformance("Certificate", type(message).__name__)
    count = len(message.certificate_list)
    check(count == 1, "one entry", count)
    try:
        serialization.load_der_public_key(message.certificate_list[0].cert_data)
    except ValueError:
        raise NonConformance("a SubjectPublicKeyInfo", "something else") from None


@req("4.5.1.2-11", "4.5.1.2-12")
def test_fallback_chain(client: ScriptedClient, features: ServerFeatures) -> None:
    """Where no chain is signed as the client lists, another is sent, though none over SHA-1."""
    client.hello(extensions=(SignatureAlgorithmsCert((SignatureScheme(0xFEFE),)),))
    try:
        client.complete()
    except NonConformance as finding:
        raise Deviation("another chain", finding.got, "4.5.1.2-11") from None
    entries = () if client.certificate is None else client.certificate.certificate_list
    for entry in entries:
        certificate = x509.load_der_x509_certificate(entry.cert_data)
        used = certificate.signature_hash_algorithm
        foreign = certificate.issuer != certificate.subject
        check(not (foreign and isinstance(used, hashes.SHA1)), "no SHA-1", "SHA-1", "4.5.1.2-12")
    server_lives(client, features)
