"""The names and code points that the vectors use, as tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

Code = TypeVar("Code")


def name_of(table: Mapping[str, Code], code: Code) -> str:
    """The name under which a table has a code point."""
    for name, known in table.items():
        if known == code:
            return name
    raise LookupError(f"no name for {code}")


HANDSHAKE_TYPES: Final = {
    "client_hello": 1,
    "server_hello": 2,
    "hello_retry_request": 2,
    "new_session_ticket": 4,
    "end_of_early_data": 5,
    "encrypted_extensions": 8,
    "certificate": 11,
    "certificate_request": 13,
    "certificate_verify": 15,
    "finished": 20,
}
MESSAGE_HASH: Final = 254

EXTENSION_TYPES: Final = {
    "server_name": 0,
    "supported_groups": 10,
    "signature_algorithms": 13,
    "padding": 21,
    "record_size_limit": 28,
    "session_ticket": 35,
    "pre_shared_key": 41,
    "early_data": 42,
    "supported_versions": 43,
    "cookie": 44,
    "psk_key_exchange_modes": 45,
    "key_share": 51,
    "renegotiation_info": 0xFF01,
}
CONTENT_TYPES: Final = {
    "change_cipher_spec": 20,
    "alert": 21,
    "handshake": 22,
    "application_data": 23,
}
GROUPS: Final = {"secp256r1": 0x0017, "x25519": 0x001D}
SIGNATURE_SCHEMES: Final = {"ecdsa_secp256r1_sha256": 0x0403, "rsa_pss_rsae_sha256": 0x0804}

# The random that makes a ServerHello a HelloRetryRequest, RFC 9846 §4.2.3
RETRY_RANDOM: Final = "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"


@dataclass(frozen=True)
class Suite:
    """What a cipher suite fixes: code point, hash, AEAD key length."""

    code: str
    hash: str
    key_length: int


SUITES: Final = {"TLS_AES_128_GCM_SHA256": Suite("1301", "sha256", 16)}
IV_LENGTH: Final = 12


@dataclass(frozen=True)
class Derivation:
    """One Derive-Secret of RFC 9846 §7.1; `through` ends the transcript, None leaves it empty."""

    parent: str
    label: str
    through: str | None


DERIVATIONS: Final = {
    "client_early_traffic_secret": Derivation("early_secret", "c e traffic", "client_hello"),
    "early_exporter_secret": Derivation("early_secret", "e exp master", "client_hello"),
    "derived_for_handshake": Derivation("early_secret", "derived", None),
    "client_handshake_traffic_secret": Derivation(
        "handshake_secret", "c hs traffic", "server.server_hello"
    ),
    "server_handshake_traffic_secret": Derivation(
        "handshake_secret", "s hs traffic", "server.server_hello"
    ),
    "derived_for_main": Derivation("handshake_secret", "derived", None),
    "client_application_traffic_secret_0": Derivation(
        "main_secret", "c ap traffic", "server.finished"
    ),
    "server_application_traffic_secret_0": Derivation(
        "main_secret", "s ap traffic", "server.finished"
    ),
    "exporter_secret": Derivation("main_secret", "exp master", "server.finished"),
    "resumption_secret": Derivation("main_secret", "res master", "client.finished"),
}


@dataclass(frozen=True)
class Extraction:
    """One HKDF-Extract of RFC 9846 §7.1: its salt, and what it may take as keying material."""

    salt: str
    ikm: tuple[str, ...]


EXTRACTIONS: Final = {
    "early_secret": Extraction("zero", ("zero", "resumption_psk")),
    "handshake_secret": Extraction("derived_for_handshake", ("shared_secret",)),
    "main_secret": Extraction("derived_for_main", ("zero",)),
}

# RFC 8448's word for a secret → RFC 9846's name
EXTRACTED_NAMES: Final = {
    "early": "early_secret",
    "handshake": "handshake_secret",
    "master": "main_secret",
}
GROUP_NAMES: Final = {"x25519": "x25519", "P-256": "secp256r1"}
EPOCH_NAMES: Final = {
    "early application": "early",
    "handshake": "handshake",
    "application": "application",
}

TRAFFIC_SECRETS: Final = {
    ("client", "early"): "client_early_traffic_secret",
    ("client", "handshake"): "client_handshake_traffic_secret",
    ("server", "handshake"): "server_handshake_traffic_secret",
    ("client", "application"): "client_application_traffic_secret_0",
    ("server", "application"): "server_application_traffic_secret_0",
}

PEER: Final = {"client": "server", "server": "client"}

# Where RFC 9846 defines what a step does
KIND_SECTIONS: Final = {
    "key_pair": "4.3.8.2",
    "extract": "7.1",
    "derive": "7.1",
    "traffic_keys": "7.3",
    "finished": "4.5.3",
    "binder": "4.3.11.2",
    "resumption_psk": "4.7.1",
}
MESSAGE_SECTIONS: Final = {
    "client_hello": "4.2.2",
    "server_hello": "4.2.3",
    "hello_retry_request": "4.2.4",
    "encrypted_extensions": "4.4.1",
    "certificate_request": "4.4.2",
    "certificate": "4.5.1",
    "certificate_verify": "4.5.2",
    "finished": "4.5.3",
    "end_of_early_data": "4.6",
    "new_session_ticket": "4.7.1",
}
RECORD_SECTIONS: Final = {False: "5.1", True: "5.2"}  # by: is it protected?
