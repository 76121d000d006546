"""Appendix B: code points that are not to be used any more."""

from __future__ import annotations

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.outcome import NonConformance
from tlsconform.peer import ScriptedClient
from tlsconform.peer.client import GROUPS_OFFERED
from tlsconform.suite.codes import OBSOLETE_GROUPS, is_reserved_scheme
from tlsconform.suite.helpers import check
from tpmtls.codepoints import NamedGroup
from tpmtls.wire.extensions import (
    KeyShareServerHello,
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
    SupportedGroups,
)


@req("B.3.1.4-1")
def test_obsolete_groups(client: ScriptedClient, features: ServerFeatures) -> None:
    """Of a client that offers obsolete groups first, none is selected, nor told in return.

    No client may offer them: a server may refuse this one.
    """
    known = tuple(g for g in GROUPS_OFFERED if g.name in features.groups)
    obsolete = tuple(NamedGroup(code) for code in OBSOLETE_GROUPS)
    try:
        client.hello(groups=(*obsolete, *known), shares=known[:2]).read_flight()
    except NonConformance as finding:
        if finding.got.startswith("alert "):
            return
        raise
    share = None if client.answer is None else client.answer.extensions.get(KeyShareServerHello)
    selected = None if share is None else share.server_share.group
    check(selected not in OBSOLETE_GROUPS, "a group that is not obsolete", str(selected))
    told = None if client.parameters is None else client.parameters.extensions.get(SupportedGroups)
    listed = set(() if told is None else told.named_group_list) & set(OBSOLETE_GROUPS)
    check(not listed, "no obsolete group in supported_groups", f"{sorted(listed)}")


@req("B-1")
@needs("client_certificate")
def test_reserved_schemes(client: ScriptedClient) -> None:
    """A CertificateRequest asks for no signature scheme that is reserved."""
    client.hello().read_flight()
    if client.request is None:
        check(client.selected_psk is not None, "a CertificateRequest", "none")
        return
    asked = client.request.extensions.get(SignatureAlgorithms)
    for_chains = client.request.extensions.get(SignatureAlgorithmsCert)
    schemes = (
        *(() if asked is None else asked.supported_signature_algorithms),
        *(() if for_chains is None else for_chains.supported_signature_algorithms),
    )
    reserved = [f"{code:#06x}" for code in schemes if is_reserved_scheme(code)]
    check(not reserved, "no reserved scheme", ", ".join(reserved))
