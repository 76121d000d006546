"""The asymmetric part of the checks: ECDHE, certificates and CertificateVerify."""

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .names import SIGNATURE_SCHEMES
from .trace import Message, Trace


def public_key_of(group: str, private_key: bytes) -> bytes:
    """The public share that belongs to a private key, as it goes into key_share."""
    if group == "x25519":
        return (
            x25519.X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()
        )
    public = _p256(private_key).public_key()
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def ecdh(group: str, private_key: bytes, peer: bytes) -> bytes:
    """The shared secret of RFC 9846 §7.4.2."""
    if group == "x25519":
        other = x25519.X25519PublicKey.from_public_bytes(peer)
        return x25519.X25519PrivateKey.from_private_bytes(private_key).exchange(other)
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), peer)
    return _p256(private_key).exchange(ec.ECDH(), point)


def _p256(private_key: bytes) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(private_key, "big"), ec.SECP256R1())


def verify_certificate(der: bytes) -> None:
    """Verify a self-signed certificate; raises where the signature is not its own key's."""
    certificate = x509.load_der_x509_certificate(der)
    certificate.verify_directly_issued_by(certificate)


def verify_signature(trace: Trace, message: Message, certificate: str) -> None:
    """Verify a CertificateVerify over the transcript through `certificate`, or raise."""
    der = bytes.fromhex(trace.message(certificate).fields["certificate_list"][0]["cert_data"])
    key = x509.load_der_x509_certificate(der).public_key()
    role = message.sender.encode("ascii")
    content = (
        b" " * 64
        + b"TLS 1.3, "
        + role
        + b" CertificateVerify\0"
        + trace.transcript_hash(certificate)
    )
    signature = bytes.fromhex(message.fields["signature"])
    scheme = int(message.fields["algorithm"], 16)
    if isinstance(key, rsa.RSAPublicKey) and scheme == SIGNATURE_SCHEMES["rsa_pss_rsae_sha256"]:
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
        key.verify(signature, content, pss, hashes.SHA256())
    elif (
        isinstance(key, ec.EllipticCurvePublicKey)
        and scheme == SIGNATURE_SCHEMES["ecdsa_secp256r1_sha256"]
    ):
        key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    else:
        raise ValueError(
            f"{message.id}: scheme {scheme:#06x} does not go with the certificate's key"
        )
