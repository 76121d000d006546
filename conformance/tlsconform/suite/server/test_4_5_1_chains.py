"""§4.5.1.2, §4.5.1.3: the chains that a server sends, and those that it takes."""

from __future__ import annotations

from cryptography import x509

from tlsconform.marks import needs, req
from tlsconform.peer import ScriptedClient
from tlsconform.pki import Authority
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import check
from tlsconform.suite.server.helpers import accepted_certificate
from tpmtls.codepoints import AlertDescription, SignatureScheme
from tpmtls.wire.extensions import SignatureAlgorithmsCert


@req("4.5.1.2-11", "4.5.1.2-12")
def test_no_chain_as_the_client_lists(client: ScriptedClient) -> None:
    """A server with no chain signed as the client lists sends another one, not over SHA-1."""
    listed = SignatureAlgorithmsCert((SignatureScheme(0xFEFE),))
    client.hello(extensions=(listed,)).read_flight()
    assert client.certificate is not None
    for entry in client.certificate.certificate_list:
        each = x509.load_der_x509_certificate(entry.cert_data)
        digest = each.signature_hash_algorithm
        fit = digest is None or digest.name != "sha1" or each.issuer == each.subject
        check(fit, "a signature over another hash than SHA-1", "sha1", "4.5.1.2-12")


@needs("client_certificate")
@req("4.5.1.3-5")
def test_chain_signed_with_sha1(connect: Connect, authority: Authority) -> None:
    """A client's certificate that is signed over a SHA-1 hash is refused with bad_certificate."""
    accepted_certificate(connect)
    client = connect(credential=authority.signed_with_sha1("p256", "client"))
    client.hello().read_flight().authenticate().finish()
    client.expect_alert(AlertDescription.bad_certificate)
