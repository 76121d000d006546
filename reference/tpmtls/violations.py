"""Each way a peer can break the protocol: its alert, its requirement, its meaning. And the errors.

Requirement IDs are `<section>-<n>`: the n-th BCP 14 key word of that section of RFC 9846. One place
decides which alert answers what; no code elsewhere names an alert for a peer's mistake.
"""

from __future__ import annotations

from enum import Enum

from tpmtls.codepoints import AlertDescription as Alert


class Violation(Enum):
    """A named misbehaviour: (alert, requirement ID, what the peer did)."""

    # req: 6-10 6.2-4 6.2-9

    # -- syntax ------------------------------------------------------------------------------------
    TRUNCATED = Alert.decode_error, "6-9", "a field ends before its length is reached"
    TRAILING_DATA = Alert.decode_error, "6-9", "octets are left over after the structure"
    VECTOR_LENGTH = Alert.decode_error, "6-9", "a vector is shorter or longer than its bounds"
    EXTENSION_TRAILING_DATA = Alert.decode_error, "4.3-2", "octets are left over in an extension"
    EMPTY_SERVER_CERTIFICATE = Alert.decode_error, "4.5.1.3-1", "the server sent no certificate"
    MESSAGE_TOO_LONG = (
        Alert.decode_error,
        "6-9",
        "a handshake message is longer than this implementation accepts",
    )

    TOO_MANY_EXTENSIONS = (
        Alert.decode_error,
        "6-9",
        "an extension block holds more extensions than this implementation accepts",
    )

    # -- extensions --------------------------------------------------------------------------------
    DUPLICATE_EXTENSION = Alert.illegal_parameter, "4.3-10", "an extension type appears twice"
    EXTENSION_NOT_ALLOWED = (
        Alert.illegal_parameter,
        "4.3-7",
        "an extension is in a message that it is not specified for",
    )
    UNSOLICITED_EXTENSION = (
        Alert.unsupported_extension,
        "4.3-6",
        "an extension answers a request that was never made",
    )
    PRE_SHARED_KEY_NOT_LAST = (
        Alert.illegal_parameter,
        "4.3.11-18",
        "pre_shared_key is not the last extension",
    )
    MISSING_SUPPORTED_VERSIONS = (
        Alert.missing_extension,
        "9.2-3",
        "supported_versions is missing",
    )
    MISSING_SIGNATURE_ALGORITHMS = (
        Alert.missing_extension,
        "4.3.3-3",
        "signature_algorithms is missing",
    )
    MISSING_SUPPORTED_GROUPS = Alert.missing_extension, "9.2-12", "supported_groups is missing"
    MISSING_KEY_SHARE = Alert.missing_extension, "9.2-12", "key_share is missing"
    MISSING_PSK_MODES = (
        Alert.missing_extension,
        "4.3.9-3",
        "pre_shared_key comes without psk_key_exchange_modes",
    )
    MISSING_SERVER_NAME = Alert.missing_extension, "9.2-15", "server_name is missing"
    MISSING_PSK_AND_KEY_SHARE = (
        Alert.missing_extension,
        "4.2.3-10",
        "a ServerHello has neither key_share nor pre_shared_key",
    )

    # -- ClientHello, ServerHello, HelloRetryRequest -----------------------------------------------
    TLS_1_3_NOT_OFFERED = Alert.protocol_version, "4.3.1-7", "the client does not offer TLS 1.3"
    TLS_1_3_NOT_SELECTED = (
        Alert.protocol_version,
        "4.2.3-11",
        "the server selected a version before TLS 1.3",
    )
    WRONG_SELECTED_VERSION = (
        Alert.illegal_parameter,
        "4.3.1-18",
        "the selected version was not offered, or is before TLS 1.3",
    )
    DOWNGRADE_SENTINEL = (
        Alert.illegal_parameter,
        "4.2.3-18",
        "the server's random says that TLS 1.3 was possible",
    )
    CLIENT_LEGACY_VERSION = (
        Alert.protocol_version,
        "4.2.2-7",
        "ClientHello.legacy_version is not 0x0303",
    )
    SERVER_LEGACY_VERSION = (
        Alert.protocol_version,
        "4.2.3-2",
        "ServerHello.legacy_version is not 0x0303",
    )
    COMPRESSION_METHODS = (
        Alert.illegal_parameter,
        "4.2.2-16",
        "legacy_compression_methods is not the null method alone",
    )
    COMPRESSION_METHOD = (
        Alert.illegal_parameter,
        "4.2.3-9",
        "legacy_compression_method is not zero",
    )
    SESSION_ID_ECHO = (
        Alert.illegal_parameter,
        "4.2.3-6",
        "legacy_session_id_echo is not what the client sent",
    )
    SUITE_NOT_OFFERED = (
        Alert.illegal_parameter,
        "4.2.3-7",
        "the server selected a cipher suite that was not offered",
    )
    SUITE_CHANGED = (
        Alert.illegal_parameter,
        "4.2.4-10",
        "the cipher suite is not the one of the HelloRetryRequest",
    )
    RETRY_WITHOUT_CHANGE = (
        Alert.illegal_parameter,
        "4.2.4-5",
        "the HelloRetryRequest would not change the ClientHello",
    )
    SECOND_RETRY = Alert.unexpected_message, "4.2.4-6", "a second HelloRetryRequest"
    RETRY_GROUP_NOT_OFFERED = (
        Alert.illegal_parameter,
        "4.3.8-15",
        "the HelloRetryRequest asks for a group that was not offered",
    )
    RETRY_GROUP_ALREADY_SHARED = (
        Alert.illegal_parameter,
        "4.3.8-15",
        "the HelloRetryRequest asks for a group that has a share already",
    )
    CLIENT_HELLO_CHANGED = (
        Alert.illegal_parameter,
        "4.2.2-2",
        "the second ClientHello differs from the first where it must not",
    )
    COOKIE_MISMATCH = (
        Alert.illegal_parameter,
        "4.3.2-2",
        "the cookie is not the one of the HelloRetryRequest",
    )
    UNEXPECTED_COOKIE = (
        Alert.illegal_parameter,
        "4.3.2-3",
        "a first ClientHello carries a cookie",
    )
    RETRIED_SHARE_MISSING = (
        Alert.illegal_parameter,
        "4.3.8-16",
        "the second ClientHello does not hold the one share that was asked for",
    )
    EARLY_DATA_AFTER_RETRY = (
        Alert.illegal_parameter,
        "4.3.10-7",
        "early_data in a second ClientHello",
    )
    NO_COMMON_SUITE = Alert.handshake_failure, "4.2.1-4", "no cipher suite in common"
    NO_COMMON_GROUP = Alert.handshake_failure, "4.2.1-1", "no group in common"
    NO_COMMON_SCHEME = (
        Alert.handshake_failure,
        "4.2.1-4",
        "no certificate fits the peer's signature algorithms",
    )
    NO_PSK_NOR_CERTIFICATE = (
        Alert.unknown_psk_identity,
        "6.2-7",
        "the server has no certificate, and no offered PSK is known to it",
    )
    UNRECOGNIZED_NAME = (
        Alert.unrecognized_name,
        "6.2-4",
        "no certificate is configured for the name that the client asks for",
    )
    NO_COMMON_PROTOCOL = (
        Alert.no_application_protocol,
        "6.2-4",
        "no application protocol in common",
    )
    PROTOCOL_NOT_OFFERED = (
        Alert.illegal_parameter,
        "6-10",
        "the server selected an application protocol that was not offered",
    )
    RECORD_SIZE_LIMIT = (
        Alert.illegal_parameter,
        "6-10",
        "record_size_limit is out of range (RFC 8449 §4)",
    )
    SERVER_NAME_LIST = (
        Alert.illegal_parameter,
        "6-10",
        "server_name holds no single valid host name (RFC 6066 §3)",
    )

    # -- key exchange ------------------------------------------------------------------------------
    DUPLICATE_GROUP = Alert.illegal_parameter, "4.3.7-2", "supported_groups names a group twice"
    DUPLICATE_KEY_SHARE = Alert.illegal_parameter, "4.3.8-11", "two key shares for one group"
    SHARE_WITHOUT_GROUP = (
        Alert.illegal_parameter,
        "4.3.8-11",
        "a key share for a group that supported_groups does not name",
    )
    SHARE_NOT_OFFERED = (
        Alert.illegal_parameter,
        "4.3.8-17",
        "the server's share is for a group that the client sent no share for",
    )
    SHARE_NOT_THE_RETRIED = (
        Alert.illegal_parameter,
        "4.3.8-21",
        "the server's share is not for the group of the HelloRetryRequest",
    )
    SHARE_LENGTH = Alert.illegal_parameter, "6-10", "a key share has the wrong length"
    INVALID_POINT = Alert.illegal_parameter, "4.3.8.2-1", "a key share is no valid public value"
    ZERO_SHARED_SECRET = Alert.illegal_parameter, "7.4.2-3", "the shared secret is all zeros"

    # -- PSK and early data ------------------------------------------------------------------------
    BINDER_COUNT = (
        Alert.illegal_parameter,
        "4.3.11-10",
        "identities and binders are not as many",
    )
    BINDER_INVALID = Alert.decrypt_error, "4.3.11-10", "the PSK binder does not verify"
    SELECTED_IDENTITY = (
        Alert.illegal_parameter,
        "4.3.11-14",
        "the selected identity is out of range",
    )
    PSK_HASH = (
        Alert.illegal_parameter,
        "4.3.11-14",
        "the cipher suite's hash is not the one of the selected PSK",
    )
    PSK_MODE = (
        Alert.illegal_parameter,
        "4.3.11-14",
        "the server chose a PSK key exchange mode that was not offered",
    )
    EARLY_DATA_IDENTITY = (
        Alert.illegal_parameter,
        "4.3.11-16",
        "early data was accepted, but not with the first PSK",
    )
    EARLY_DATA_WITHOUT_PSK = (
        Alert.illegal_parameter,
        "4.3.10-1",
        "early_data without pre_shared_key",
    )
    EARLY_DATA_ALPN = (
        Alert.illegal_parameter,
        "4.3.10-9",
        "early data was accepted under another application protocol",
    )
    EARLY_DATA_SUITE = (
        Alert.illegal_parameter,
        "4.3.10-9",
        "early data was accepted under another cipher suite",
    )
    TOO_MUCH_EARLY_DATA = (
        Alert.unexpected_message,
        "4.7.1-19",
        "more early data than max_early_data_size",
    )

    # -- authentication ----------------------------------------------------------------------------
    REQUEST_CONTEXT = (
        Alert.illegal_parameter,
        "4.5.1-5",
        "certificate_request_context is not the one expected",
    )
    REPEATED_REQUEST_CONTEXT = (
        Alert.illegal_parameter,
        "4.4.2-3",
        "certificate_request_context was used before on this connection",
    )
    REQUEST_WITHOUT_SIGNATURE_ALGORITHMS = (
        Alert.missing_extension,
        "4.4.2-6",
        "a CertificateRequest has no signature_algorithms",
    )
    REQUEST_UNDER_EXTERNAL_PSK = (
        Alert.unexpected_message,
        "4.4.2-10",
        "a certificate is asked for, though an external PSK authenticates",
    )
    DUPLICATE_OID_FILTER = Alert.illegal_parameter, "4.3.5-7", "oid_filters names an OID twice"
    OID_FILTER_ANY_USAGE = (
        Alert.illegal_parameter,
        "4.3.5-8",
        "oid_filters asks for anyExtendedKeyUsage",
    )
    OID_FILTER_VALUES = Alert.decode_error, "6-9", "a value in oid_filters is malformed"
    SCHEME_NOT_OFFERED = (
        Alert.illegal_parameter,
        "4.5.2-4",
        "the signature algorithm was not offered",
    )
    SCHEME_NOT_FOR_KEY = (
        Alert.illegal_parameter,
        "4.5.2-6",
        "the signature algorithm does not fit the certificate's key",
    )
    SIGNATURE_INVALID = (
        Alert.decrypt_error,
        "4.5.2-9",
        "the CertificateVerify signature does not verify",
    )
    FINISHED_INVALID = Alert.decrypt_error, "4.5.3-2", "the Finished message does not verify"
    FINISHED_LENGTH = Alert.decode_error, "6-9", "verify_data has not the length of the hash"
    CLIENT_CERTIFICATE_REQUIRED = (
        Alert.certificate_required,
        "4.5.1.3-2",
        "the client sent no certificate, and one is required",
    )

    # -- order of messages and records -------------------------------------------------------------
    UNEXPECTED_MESSAGE = (
        Alert.unexpected_message,
        "4-2",
        "a handshake message arrives out of order",
    )
    UNASKED_CERTIFICATE_REQUEST = (
        Alert.unexpected_message,
        "4.7.2-6",
        "post-handshake authentication without post_handshake_auth",
    )
    NOT_ALIGNED = (
        Alert.unexpected_message,
        "5.1-7",
        "a message before a key change does not end with its record",
    )
    INTERLEAVED = (
        Alert.unexpected_message,
        "5.1-4",
        "another record stands inside a fragmented handshake message",
    )
    EMPTY_FRAGMENT = (
        Alert.unexpected_message,
        "5.4-4",
        "a handshake or alert record without content",
    )
    UNEXPECTED_RECORD = (
        Alert.unexpected_message,
        "5-5",
        "a record type that is unknown or not expected now",
    )
    BAD_CHANGE_CIPHER_SPEC = (
        Alert.unexpected_message,
        "5-2",
        "a change_cipher_spec that is protected or not the octet 0x01",
    )
    LATE_CHANGE_CIPHER_SPEC = (
        Alert.unexpected_message,
        "5-3",
        "a change_cipher_spec before the ClientHello or after Finished",
    )
    PREMATURE_APPLICATION_DATA = (
        Alert.unexpected_message,
        "5-5",
        "application data before it may be sent",
    )
    MALFORMED_ALERT = Alert.decode_error, "5.1-12", "an alert record does not hold one alert"
    KEY_UPDATE_REQUEST = (
        Alert.illegal_parameter,
        "4.7.3-4",
        "KeyUpdate.request_update is neither 0 nor 1",
    )
    TOO_MANY_MESSAGES = (
        Alert.unexpected_message,
        "6.2-4",
        "more messages than this implementation accepts without application data",
    )

    # -- records -----------------------------------------------------------------------------------
    RECORD_OVERFLOW = Alert.record_overflow, "5.1-19", "a record is longer than allowed"
    CIPHERTEXT_OVERFLOW = (
        Alert.record_overflow,
        "5.2-5",
        "a protected record is longer than allowed",
    )
    BAD_RECORD_MAC = Alert.bad_record_mac, "5.2-3", "a record cannot be deprotected"
    PADDING_ONLY = (
        Alert.unexpected_message,
        "5.4-6",
        "a protected record holds zeros and no content type",
    )
    SEQUENCE_EXHAUSTED = (
        Alert.unexpected_message,
        "5.3-2",
        "the peer sent more records than sequence numbers exist",
    )

    def __init__(self, alert: Alert, requirement: str, summary: str) -> None:
        self.alert = alert
        self.requirement = requirement
        self.summary = summary

    def __new__(cls, alert: Alert, requirement: str, summary: str) -> Violation:
        member = object.__new__(cls)
        member._value_ = summary
        return member


class TlsError(Exception):
    """Base of every error that ends or prevents a connection.

    `alert` is the alert to send to the peer, or None where there is none to send.
    """

    alert: Alert | None = None


class PeerViolation(TlsError):
    """The peer broke the protocol: which rule (`violation`), and where (`detail`)."""

    def __init__(self, violation: Violation, detail: str = "") -> None:
        self.violation = violation
        self.detail = detail
        where = f" ({detail})" if detail else ""
        super().__init__(
            f"{violation.summary}{where}: {violation.alert}, RFC 9846 {violation.requirement}"
        )

    @property
    def alert(self) -> Alert:  # type: ignore[override]
        """The alert that the RFC names for this violation."""
        return self.violation.alert

    @property
    def requirement(self) -> str:
        """The ID of the requirement that was broken."""
        return self.violation.requirement


class PeerAlert(TlsError):
    """The peer ended the connection with an error alert (`description`)."""

    def __init__(self, description: Alert) -> None:
        self.description = description
        super().__init__(f"the peer sent the alert {description}")


class CertificateError(TlsError):
    """A certificate was not accepted; `check` says which check failed, `alert` what is sent."""

    def __init__(self, check: str, reason: str, alert: Alert) -> None:
        self.check = check
        self.alert = alert
        super().__init__(f"certificate not accepted, {check}: {reason}")


class ConfigurationError(TlsError, ValueError):
    """A configuration value is not usable; the message says which, and what would be."""


class ConnectionStateError(TlsError):
    """The caller asked for something that the connection cannot do in its present state."""


class TruncationError(TlsError):
    """The transport ended before close_notify: data may be missing (RFC 9846 §6.1)."""


class HandshakeTimeoutError(TlsError, TimeoutError):
    """The peer did not complete the handshake in the time allowed."""


class BackendError(TlsError):
    """The backend that holds the secrets failed; the peer gets internal_error."""

    alert = Alert.internal_error


class StoredSecretError(BackendError):
    """A stored secret is damaged, or not this backend's: as good as none."""


class TpmError(BackendError):
    """The TPM failed, or refused a command."""


class TpmUnavailable(TpmError):
    """There is no TPM to talk to."""


class TpmLacks(TpmError):
    """The TPM does not implement what is asked of it."""


class TpmBusy(TpmError):
    """The TPM's slots are taken, or it stayed busy for longer than we retry."""


class TpmAuthError(TpmError):
    """The TPM refused an authorization: wrong password, policy, or lockout."""
