"""§4.2.2: what a server makes of a ClientHello."""

from __future__ import annotations

from tlsconform.marks import req
from tlsconform.mutate import set_field
from tlsconform.peer import ScriptedClient
from tpmtls.codepoints import AlertDescription


@req("4.2.2-7")
def test_legacy_version(client: ScriptedClient) -> None:
    """A legacy_version other than 0x0303 is refused."""
    client.hello(set_field("client_hello.legacy_version", 0x0304))
    client.expect_alert(AlertDescription.protocol_version)


@req("4.2.2-16")
def test_compression_methods(client: ScriptedClient) -> None:
    """Any compression method beside the null method is refused."""
    client.hello(set_field("client_hello.legacy_compression_methods", b"\x01\x00"))
    client.expect_alert(AlertDescription.illegal_parameter)
