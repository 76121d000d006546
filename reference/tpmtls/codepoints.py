"""Every code point of the protocol, by its IANA name.

The enumerations are open: a value that is not listed is a member too, named `unknown_0x…`, so that
whatever a peer sends survives decoding and encoding (RFC 9846 §9.3, RFC 8701).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class CodePoint(IntEnum):
    """An enumeration whose unlisted values are kept, not refused."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or not 0 <= value <= 0xFFFF:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"unknown_0x{value:04x}"
        member._value_ = value
        return member

    __hash__ = int.__hash__  # equal to the number, so hashed like it, and not by name as Enum does

    @property
    def is_known(self) -> bool:
        """Whether the value is one that this module lists."""
        return self._name_ in type(self).__members__

    @property
    def is_grease(self) -> bool:
        """Whether the value is one of the sixteen two-octet ones that RFC 8701 §2 reserves."""
        return self & 0x0F0F == 0x0A0A and self >> 8 == self & 0xFF

    def __str__(self) -> str:
        return self.name


class ContentType(CodePoint):
    """RFC 9846 §5.1."""

    invalid = 0
    change_cipher_spec = 20
    alert = 21
    handshake = 22
    application_data = 23


class HandshakeType(CodePoint):
    """RFC 9846 §4. `hello_retry_request` never stands on the wire: it is a ServerHello by type."""

    client_hello = 1
    server_hello = 2
    new_session_ticket = 4
    end_of_early_data = 5
    hello_retry_request = 6  # RESERVED; the name under which our state table knows it
    encrypted_extensions = 8
    certificate = 11
    certificate_request = 13
    certificate_verify = 15
    finished = 20
    key_update = 24
    message_hash = 254


class AlertLevel(CodePoint):
    """RFC 9846 §6. Implied by the description; the field on the wire is a relic."""

    warning = 1
    fatal = 2


class AlertDescription(CodePoint):
    """RFC 9846 §6."""

    close_notify = 0
    unexpected_message = 10
    bad_record_mac = 20
    record_overflow = 22
    handshake_failure = 40
    bad_certificate = 42
    unsupported_certificate = 43
    certificate_revoked = 44
    certificate_expired = 45
    certificate_unknown = 46
    illegal_parameter = 47
    unknown_ca = 48
    access_denied = 49
    decode_error = 50
    decrypt_error = 51
    protocol_version = 70
    insufficient_security = 71
    internal_error = 80
    inappropriate_fallback = 86
    user_canceled = 90
    missing_extension = 109
    unsupported_extension = 110
    unrecognized_name = 112
    bad_certificate_status_response = 113
    unknown_psk_identity = 115
    certificate_required = 116
    general_error = 117
    no_application_protocol = 120


class ProtocolVersion(CodePoint):
    """RFC 9846 §4.3.1."""

    SSL_3_0 = 0x0300
    TLS_1_0 = 0x0301
    TLS_1_1 = 0x0302
    TLS_1_2 = 0x0303
    TLS_1_3 = 0x0304


class CipherSuite(CodePoint):
    """RFC 9846 Appendix B.4."""

    TLS_AES_128_GCM_SHA256 = 0x1301
    TLS_AES_256_GCM_SHA384 = 0x1302
    TLS_CHACHA20_POLY1305_SHA256 = 0x1303
    TLS_AES_128_CCM_SHA256 = 0x1304
    TLS_AES_128_CCM_8_SHA256 = 0x1305


class NamedGroup(CodePoint):
    """RFC 9846 §4.3.7, and the hybrid of draft-ietf-tls-ecdhe-mlkem."""

    secp256r1 = 0x0017
    secp384r1 = 0x0018
    secp521r1 = 0x0019
    x25519 = 0x001D
    x448 = 0x001E
    ffdhe2048 = 0x0100
    ffdhe3072 = 0x0101
    ffdhe4096 = 0x0102
    ffdhe6144 = 0x0103
    ffdhe8192 = 0x0104
    X25519MLKEM768 = 0x11EC


class SignatureScheme(CodePoint):
    """RFC 9846 §4.3.3, and ML-DSA of draft-ietf-tls-mldsa."""

    rsa_pkcs1_sha1 = 0x0201
    ecdsa_sha1 = 0x0203
    rsa_pkcs1_sha256 = 0x0401
    ecdsa_secp256r1_sha256 = 0x0403
    rsa_pkcs1_sha384 = 0x0501
    ecdsa_secp384r1_sha384 = 0x0503
    rsa_pkcs1_sha512 = 0x0601
    ecdsa_secp521r1_sha512 = 0x0603
    rsa_pss_rsae_sha256 = 0x0804
    rsa_pss_rsae_sha384 = 0x0805
    rsa_pss_rsae_sha512 = 0x0806
    ed25519 = 0x0807
    ed448 = 0x0808
    rsa_pss_pss_sha256 = 0x0809
    rsa_pss_pss_sha384 = 0x080A
    rsa_pss_pss_sha512 = 0x080B
    mldsa44 = 0x0904
    mldsa65 = 0x0905
    mldsa87 = 0x0906


class ExtensionType(CodePoint):
    """RFC 9846 §4.3."""

    server_name = 0
    status_request = 5
    supported_groups = 10
    signature_algorithms = 13
    use_srtp = 14
    heartbeat = 15
    application_layer_protocol_negotiation = 16
    signed_certificate_timestamp = 18
    client_certificate_type = 19
    server_certificate_type = 20
    padding = 21
    compress_certificate = 27
    record_size_limit = 28
    delegated_credential = 34
    supported_ekt_ciphers = 39
    pre_shared_key = 41
    early_data = 42
    supported_versions = 43
    cookie = 44
    psk_key_exchange_modes = 45
    certificate_authorities = 47
    oid_filters = 48
    post_handshake_auth = 49
    signature_algorithms_cert = 50
    key_share = 51
    transparency_info = 52
    external_id_hash = 55
    external_session_id = 56
    quic_transport_parameters = 57
    ticket_request = 58
    ech_outer_extensions = 64768
    encrypted_client_hello = 65037


class NameType(CodePoint):
    """RFC 6066 §3."""

    host_name = 0


class PskKeyExchangeMode(CodePoint):
    """RFC 9846 §4.3.9."""

    psk_ke = 0
    psk_dhe_ke = 1


class KeyUpdateRequest(CodePoint):
    """RFC 9846 §4.7.3."""

    update_not_requested = 0
    update_requested = 1
