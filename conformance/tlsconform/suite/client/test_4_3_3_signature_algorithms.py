"""§4.3.3: the signature schemes that a client offers, and heeds."""

from __future__ import annotations

from typing import Final

import pytest

from tlsconform.marks import needs, req
from tlsconform.mutate import set_field
from tlsconform.peer import ScriptedServer
from tlsconform.suite.helpers import check
from tpmtls.algorithms import SCHEMES
from tpmtls.codepoints import SignatureScheme
from tpmtls.wire.extensions import SignatureAlgorithms, SignatureAlgorithmsCert

_SHA1: Final = (SignatureScheme.rsa_pkcs1_sha1, SignatureScheme.ecdsa_sha1)
_NOT_FOR_HANDSHAKES: Final = (
    SignatureScheme.rsa_pkcs1_sha256,
    SignatureScheme.rsa_pkcs1_sha384,
    SignatureScheme.rsa_pkcs1_sha512,
    *_SHA1,
)


def _lists(server: ScriptedServer) -> list[tuple[SignatureScheme, ...]]:
    """What signature_algorithms and signature_algorithms_cert list."""
    extensions = server.offer.extensions
    found = extensions.get(SignatureAlgorithms), extensions.get(SignatureAlgorithmsCert)
    return [each.supported_signature_algorithms for each in found if each is not None]


def _is_pair(scheme: int) -> bool:
    """Whether it is a pair of hash and signature of TLS 1.2."""
    return 1 <= scheme >> 8 <= 6 and scheme & 0xFF <= 3


@req("4.3.3-2", "9.2-4", "9.2-10")
def test_signature_algorithms(server: ScriptedServer) -> None:
    """A ClientHello that certificates may answer has signature_algorithms."""
    check(bool(server.accept().schemes_offered), "signature_algorithms", "none")


@req("4.3.3-15")
def test_sha1_comes_last(server: ScriptedServer) -> None:
    """Where schemes with SHA-1 are offered, they come after all others."""
    for schemes in _lists(server.accept()):
        positions = [i for i, scheme in enumerate(schemes) if scheme in _SHA1]
        if positions:
            after = [s.name for s in schemes[positions[0] :] if s not in _SHA1]
            check(not after, "nothing after the schemes with SHA-1", ", ".join(after))


@req("4.3.3-20")
def test_no_pairs_of_tls12(server: ScriptedServer) -> None:
    """Pairs of hash and signature of TLS 1.2 that are no SignatureScheme are not offered."""
    for schemes in _lists(server.accept()):
        pairs = [f"{s:#06x}" for s in schemes if _is_pair(s) and s not in SignatureScheme]
        check(not pairs, "SignatureSchemes only", ", ".join(pairs))


@req("4.3.3-21")
def test_no_md5_sha224_or_dsa(server: ScriptedServer) -> None:
    """Neither MD5 nor SHA-224 nor DSA is offered."""
    for schemes in _lists(server.accept()):
        pairs = [s for s in schemes if _is_pair(s)]
        gone = [f"{s:#06x}" for s in pairs if s >> 8 in (1, 3) or s & 0xFF == 2]
        check(not gone, "no MD5, SHA-224 or DSA", ", ".join(gone))


@req("9.1-3")
def test_mandatory_schemes(server: ScriptedServer) -> None:
    """rsa_pkcs1_sha256, rsa_pss_rsae_sha256 and ecdsa_secp256r1_sha256 are offered."""
    offered = {scheme for schemes in _lists(server.accept()) for scheme in schemes}
    mandatory = {
        SignatureScheme.rsa_pkcs1_sha256,
        SignatureScheme.rsa_pss_rsae_sha256,
        SignatureScheme.ecdsa_secp256r1_sha256,
    }
    missing = ", ".join(sorted(scheme.name for scheme in mandatory - offered))
    check(not missing, "the mandatory schemes", f"none of {missing}")


@needs("client_certificate")
@req("4.3.3-6", "4.3.3-13", "4.3.3-21")
def test_request_with_schemes_for_certificates(server: ScriptedServer) -> None:
    """Schemes for certificates only are taken in a CertificateRequest, and not signed with."""
    schemes = SignatureAlgorithms((*_NOT_FOR_HANDSHAKES, *SCHEMES))
    octets = b"".join(s.to_bytes(2, "big") for s in schemes.supported_signature_algorithms)
    path = "certificate_request.extensions[signature_algorithms].supported_signature_algorithms"
    server.accept().hello().encrypted_extensions()
    server.certificate_request(edits=[set_field(path, octets)]).authenticate().finish()
    server.complete()  # the signature is verified, and its scheme is one for handshakes


@req("4.3.3-6", "4.3.3-13", "4.3.3-20")
@pytest.mark.parametrize(
    "scheme", [SignatureScheme.rsa_pkcs1_sha256, SignatureScheme.rsa_pkcs1_sha1, 0x0302]
)
def test_server_signs_with_a_scheme_for_certificates(server: ScriptedServer, scheme: int) -> None:
    """A CertificateVerify that names a scheme which is not for handshakes is refused."""
    server.accept().hello().encrypted_extensions().certificate()
    server.certificate_verify(set_field("certificate_verify.algorithm", scheme))
    server.expect_abort()
