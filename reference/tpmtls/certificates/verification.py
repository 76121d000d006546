"""Whether a peer's chain leads to a trust anchor, and is for this use (RFC 9846 §4.5.1.3).

Success comes from `cryptography.x509.verification` (or, for algorithms it leaves out, from `path`);
what this package adds can only refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

from cryptography import x509
from cryptography.x509.verification import (
    ClientVerifier,
    ExtensionPolicy,
    PolicyBuilder,
    ServerVerifier,
    Store,
    VerificationError,
)

from tpmtls.certificates import diagnosis, path, policy
from tpmtls.certificates.policy import Purpose
from tpmtls.certificates.selection import parse_server_name
from tpmtls.certificates.trust import TrustStore
from tpmtls.codepoints import SignatureScheme
from tpmtls.violations import CertificateError

_BUILDER: Final = PolicyBuilder().max_chain_depth(policy.MAX_DEPTH)


@dataclass(frozen=True)
class Acceptance:
    """That `verify_server_chain` accepted a chain; it follows from what is here, and from the time.

    Of the time it matters only that each certificate of the path to the anchor is valid.
    """

    chain: tuple[x509.Certificate, ...]
    store: TrustStore
    server_name: str
    schemes: tuple[SignatureScheme, ...]
    path: tuple[x509.Certificate, ...]

    @cached_property
    def since(self) -> datetime:
        """The last notBefore of the path."""
        return max(certificate.not_valid_before_utc for certificate in self.path)

    @cached_property
    def until(self) -> datetime:
        """The first notAfter of the path."""
        return min(certificate.not_valid_after_utc for certificate in self.path)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """It is None when pickled or copied: what was accepted in this process proves nothing."""
        return type(None), ()

    def covers(
        self,
        chain: Sequence[x509.Certificate],
        store: TrustStore,
        server_name: str,
        now: datetime,
        schemes: Sequence[SignatureScheme],
    ) -> bool:
        """Whether `verify_server_chain` would accept the same again; False says nothing.

        The trust store has to be the very same object, which cannot have changed.
        """
        return (
            self.since <= now <= self.until
            and self.store is store
            and self.server_name == server_name
            and self.schemes == tuple(schemes)
            and self.chain == tuple(chain)
        )


def verify_server_chain(
    chain: Sequence[x509.Certificate],
    store: TrustStore,
    server_name: str,
    now: datetime,
    schemes: Sequence[SignatureScheme],
) -> Acceptance:
    """Accept a server's chain (leaf first) for a host name or IP address, or raise.

    `now` is aware. `schemes` are those we offered for certificates' signatures; neither anchors nor
    self-signed certificates need one. Raises CertificateError, whose `check` and `alert` name the
    first check that fails; ConfigurationError where the name is none.
    """
    subject = parse_server_name(server_name)
    found = _Verification(policy.SERVER, store, subject, now, schemes).run(chain)
    return Acceptance(tuple(chain), store, server_name, tuple(schemes), tuple(found))


def verify_client_chain(
    chain: Sequence[x509.Certificate],
    store: TrustStore,
    now: datetime,
    schemes: Sequence[SignatureScheme],
) -> None:
    """The same for a client's chain, whose names are the application's business."""
    _Verification(policy.CLIENT, store, None, now, schemes).run(chain)


@dataclass(frozen=True)
class _Verification:
    purpose: Purpose
    store: TrustStore
    subject: x509.DNSName | x509.IPAddress | None
    now: datetime
    schemes: Sequence[SignatureScheme]

    def run(self, chain: Sequence[x509.Certificate]) -> list[x509.Certificate]:
        failure: CertificateError | None
        try:
            found = self._path(chain)
        except VerificationError as error:
            failure = diagnosis.explain(
                chain, self.store, self.purpose, self.subject, self.now, self.schemes, str(error)
            )
        else:
            failure = diagnosis.algorithms(found, self.schemes)
            if failure is None:
                return found
        raise failure

    def _path(self, chain: Sequence[x509.Certificate]) -> list[x509.Certificate]:
        """The path to an anchor, leaf first, from the library where it can."""
        leaf, *others = chain
        try:
            return self._verify(leaf, others, self.store.verifier_store)
        except VerificationError:
            if not path.is_needed(chain):
                raise
        return path.find(chain, self.store, self.schemes, self._judge_leaf, self._judge_authority)

    def _verify(
        self, leaf: x509.Certificate, others: list[x509.Certificate], anchors: Store
    ) -> list[x509.Certificate]:
        ee_policy = self.purpose.pinned_leaf if leaf in self.store else self.purpose.leaf
        verifier = self._verifier(anchors, ee_policy)
        if isinstance(verifier, ServerVerifier):
            return verifier.verify(leaf, others)
        return verifier.verify(leaf, others).chain

    def _verifier(
        self, anchors: Store, ee_policy: ExtensionPolicy
    ) -> ServerVerifier | ClientVerifier:
        builder = (
            _BUILDER.store(anchors)
            .time(self.now)
            .extension_policies(ca_policy=policy.AUTHORITY, ee_policy=ee_policy)
        )
        if self.subject is None:
            return builder.build_client_verifier()
        return builder.build_server_verifier(self.subject)

    def _judge_leaf(self, leaf: x509.Certificate) -> None:
        self._verify(leaf, [], Store([leaf]))

    def _judge_authority(self, authority: x509.Certificate) -> None:
        builder = (
            _BUILDER.store(Store([authority]))
            .time(self.now)
            .extension_policies(ca_policy=policy.AUTHORITY, ee_policy=self.purpose.judged_authority)
        )
        builder.build_client_verifier().verify(authority, [])
