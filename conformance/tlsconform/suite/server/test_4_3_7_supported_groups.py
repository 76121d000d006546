"""§4.3.4–§4.3.7: what a server says and does about authorities, filters, groups, willingness."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import pytest
from cryptography import x509

from tlsconform.channel import Silence
from tlsconform.features import REQUEST, ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.session import session_of
from tlsconform.suite.helpers import check, no_doubles, server_lives
from tpmtls.codepoints import ContentType, NamedGroup
from tpmtls.wire.extensions import (
    CertificateAuthorities,
    ExtensionBody,
    KeyShareHelloRetryRequest,
    OidFilter,
    OidFilters,
    SupportedGroups,
)
from tpmtls.wire.messages import CertificateRequest, HelloRetryRequest

EXTENDED_KEY_USAGE: Final = bytes.fromhex("0603551d25")
ANY_EXTENDED_KEY_USAGE: Final = bytes.fromhex("0604551d2500")


@req("4.3.4-2")
def test_certificate_authorities(connect: Connect, features: ServerFeatures) -> None:
    """A client may name authorities: with the server's own among them, the handshake succeeds."""
    first = connect()
    first.hello().read_flight()
    if first.certificate is None:
        raise NotApplicable("the server showed no certificate")
    entries = first.certificate.certificate_list
    issuers = [x509.load_der_x509_certificate(e.cert_data).issuer.public_bytes() for e in entries]
    first.close()
    client = connect()
    client.hello(extensions=(CertificateAuthorities(tuple(issuers)),)).complete()
    server_lives(client, features)


def filters_of(client: ScriptedClient) -> tuple[OidFilter, ...]:
    """The filters of the server's CertificateRequest."""
    client.hello().read_flight()
    if client.request is None or not (body := client.request.extensions.get(OidFilters)):
        raise NotApplicable("the server sends no oid_filters")
    return body.filters


@req("4.3.5-7")
@needs("client_certificate")
def test_filters_once(client: ScriptedClient) -> None:
    """No OID is twice in oid_filters."""
    no_doubles([each.certificate_extension_oid.hex() for each in filters_of(client)], "OID")


@req("4.3.5-8")
@needs("client_certificate")
def test_no_any_usage(client: ScriptedClient) -> None:
    """oid_filters does not ask for anyExtendedKeyUsage."""
    for each in filters_of(client):
        if each.certificate_extension_oid == EXTENDED_KEY_USAGE:
            values = each.certificate_extension_values
            check(ANY_EXTENDED_KEY_USAGE not in values, "certain usages", "any")


@req("4.3.6-1")
@needs("post_handshake_auth")
def test_no_request_to_the_unwilling(
    client: ScriptedClient, request: pytest.FixtureRequest
) -> None:
    """A client without post_handshake_auth is not asked for a certificate after the handshake."""
    client.handshake()
    target = session_of(request.config).server
    if target is not None:
        target.request_client_certificate(client.wire.channel)
    client.send_data(REQUEST)
    with suppress(Silence):
        while (record := client.next_record(0.3)) is not None:
            if record.content_type is ContentType.handshake:
                client.assembler.add(record.fragment)
                while (octets := client.assembler.next_message()) is not None:
                    asked = octets[0] == CertificateRequest.msg_type
                    check(not asked, "no CertificateRequest", "one")
                    client.absorb(octets)


# -- supported_groups ------------------------------------------------------------------------------


def groups_said(client: ScriptedClient) -> SupportedGroups:
    """The server's own supported_groups."""
    if client.parameters is None or not (body := client.parameters.extensions.get(SupportedGroups)):
        raise NotApplicable("the server does not send supported_groups")
    return body


def preferred_group(connect: Connect, groups: tuple[NamedGroup, ...]) -> NamedGroup | None:
    """The group that the server asks for, whatever the client's order; None where it has none."""
    asked: set[NamedGroup | None] = set()
    for order in (groups, groups[::-1]):
        client = connect()
        message, _ = client.hello(groups=order, shares=()).next_message()
        body: ExtensionBody | None = None
        if isinstance(message, HelloRetryRequest):
            body = message.extensions.get(KeyShareHelloRetryRequest)
        asked.add(body.selected_group if isinstance(body, KeyShareHelloRetryRequest) else None)
        client.close()
    return asked.pop() if len(asked) == 1 else None


def with_less_preferred_share(connect: Connect, features: ServerFeatures) -> ScriptedClient:
    """A connection to which the server agrees, though it prefers a group without a share."""
    groups = tuple(NamedGroup[name] for name in features.groups)
    favourite = preferred_group(connect, groups) if features.retry else None
    others = tuple(group for group in groups if group != favourite)
    if favourite is None or not others:
        raise NotApplicable("the server is not seen to prefer a group")
    client = connect()
    client.hello(groups=groups, shares=others[-1:]).read_flight()
    if client.retry is not None:
        raise NotApplicable("the server insists on the group that it prefers")
    return client


@req("4.3.7-5")
def test_groups_are_said(connect: Connect, features: ServerFeatures) -> None:
    """Where the server prefers a group that the client sent no share for, it says its groups."""
    client = with_less_preferred_share(connect, features)
    said = client.parameters and client.parameters.extensions.get(SupportedGroups)
    check(bool(said), "supported_groups in EncryptedExtensions", "none")


@req("4.3.7-6")
def test_all_groups_are_said(connect: Connect, features: ServerFeatures) -> None:
    """The server's supported_groups has each of its groups, offered by this client or not."""
    said = groups_said(with_less_preferred_share(connect, features)).named_group_list
    missing = sorted(set(features.groups) - {group.name for group in said})
    check(not missing, "all groups", f"none of {', '.join(missing)}")


@req("4.3.7-1")
def test_groups_once(connect: Connect, features: ServerFeatures) -> None:
    """No group is twice in the server's supported_groups."""
    said = groups_said(with_less_preferred_share(connect, features)).named_group_list
    no_doubles([group.name for group in said], "group")


@req("4.3.7-1")
def test_groups_after_a_plain_hello(client: ScriptedClient) -> None:
    """The server's supported_groups, where it sends any with other shares, has no group twice."""
    client.hello().read_flight()
    no_doubles([group.name for group in groups_said(client).named_group_list], "group")
