"""Certificates: reading, verifying and choosing them, and the signatures made with their keys.

RFC 9846 §4.3.3 to §4.3.5, §4.5.1 and §4.5.2; path validation is RFC 5280's.
"""

from tpmtls.certificates.keys import (
    chain_schemes,
    deprecated_hash,
    is_self_signed,
    key_type,
    schemes_for_key,
    signature_content,
    verify_signature,
)
from tpmtls.certificates.selection import (
    issued_by,
    matches_name,
    names_in,
    parse_server_name,
    satisfies_oid_filters,
)
from tpmtls.certificates.trust import TrustStore, load_chain, parse_chain
from tpmtls.certificates.verification import (
    Acceptance,
    verify_client_chain,
    verify_server_chain,
)

__all__ = [
    "Acceptance",
    "TrustStore",
    "chain_schemes",
    "deprecated_hash",
    "is_self_signed",
    "issued_by",
    "key_type",
    "load_chain",
    "matches_name",
    "names_in",
    "parse_chain",
    "parse_server_name",
    "satisfies_oid_filters",
    "schemes_for_key",
    "signature_content",
    "verify_client_chain",
    "verify_server_chain",
    "verify_signature",
]
