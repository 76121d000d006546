"""Paths through signatures that the library's verifier has no room for.

`cryptography.x509.verification` keeps to the algorithms of the public Web PKI: an authority whose
key is Ed25519, Ed448 or RSASSA-PSS ends its search, and nothing can be configured. We offer these
algorithms, so we must be able to check chains that use them (RFC 9846 §4.3.3).

The library still judges each certificate by itself: with the certificate as its own anchor, it
checks version, dates, names, critical extensions, usages. What is left for us is what holds two
certificates together: names and signature, the algorithm, the path length. A chain with name
constraints is refused, since these span a whole path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from cryptography import x509
from cryptography.x509.oid import SignatureAlgorithmOID
from cryptography.x509.verification import VerificationError

from tpmtls.algorithms import SCHEMES
from tpmtls.certificates.keys import MLDSA_OIDS, is_signed_by, signature_scheme
from tpmtls.certificates.policy import MAX_DEPTH
from tpmtls.certificates.trust import TrustStore
from tpmtls.codepoints import SignatureScheme

MAX_SIGNATURES: Final = 32
"""Signatures verified in one search: an attacker may send many certificates of one name."""

_BEYOND_THE_LIBRARY: Final = frozenset(
    {
        SignatureAlgorithmOID.ED25519,
        SignatureAlgorithmOID.ED448,
        SignatureAlgorithmOID.RSASSA_PSS,  # by a key that is for PSS alone
        *MLDSA_OIDS,  # which only recent releases know
    }
)

Judge = Callable[[x509.Certificate], None]
"""Raises VerificationError where a certificate, taken by itself, is not acceptable."""


def is_needed(chain: Sequence[x509.Certificate]) -> bool:
    """Whether a certificate in the chain has a signature that the library may not look at."""
    return any(certificate.signature_algorithm_oid in _BEYOND_THE_LIBRARY for certificate in chain)


def find(
    chain: Sequence[x509.Certificate],
    store: TrustStore,
    schemes: Sequence[SignatureScheme],
    judge_leaf: Judge,
    judge_authority: Judge,
) -> list[x509.Certificate]:
    """The path from the leaf to an anchor, both included; VerificationError where there is none."""
    judge_leaf(chain[0])
    return _Search(chain[1:], store, schemes, judge_authority).extend([chain[0]])


class _Search:
    """Depth first, anchors before the peer's certificates."""

    def __init__(
        self,
        others: Sequence[x509.Certificate],
        store: TrustStore,
        schemes: Sequence[SignatureScheme],
        judge: Judge,
    ) -> None:
        self._others = others
        self._store = store
        self._schemes = SCHEMES.keys() & set(schemes)  # never SHA-1
        self._judge = judge
        self._signatures_left = MAX_SIGNATURES

    def extend(self, path: list[x509.Certificate]) -> list[x509.Certificate]:
        if path[-1] in self._store:
            return path
        failure = VerificationError("no path to a trust anchor")
        if len(path) <= MAX_DEPTH + 1:
            for issuer in self._issuers(path):
                try:
                    self._check(path, issuer)
                    return self.extend([*path, issuer])
                except VerificationError as error:
                    failure = error
        raise failure

    def _issuers(self, path: list[x509.Certificate]) -> Iterator[x509.Certificate]:
        yield from self._store.issuers(path[-1])
        for other in self._others:
            if other.subject == path[-1].issuer and other not in path and other not in self._store:
                yield other

    def _check(self, path: list[x509.Certificate], issuer: x509.Certificate) -> None:
        """That `issuer` may issue, and did issue, the last certificate of the path."""
        self._judge(issuer)
        limit = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if limit is not None and len(path) - 1 > limit:
            raise VerificationError("path length constraint violated")
        if signature_scheme(path[-1], issuer) not in self._schemes:
            raise VerificationError("the signature algorithm is not acceptable")
        if self._signatures_left == 0:
            raise VerificationError("too many signatures to verify")
        self._signatures_left -= 1
        if not is_signed_by(path[-1], issuer):
            raise VerificationError("signature does not match")
