"""§4.2.3: what a client makes of a ServerHello."""

from __future__ import annotations

from tlsconform.marks import req
from tlsconform.mutate import flip
from tlsconform.peer import ScriptedServer
from tpmtls.codepoints import AlertDescription


@req("4.2.3-6")
def test_session_id_echo(server: ScriptedServer) -> None:
    """A legacy_session_id_echo that is not what the client sent is refused."""
    server.accept()
    if not server.offer.legacy_session_id:
        server.hello()
        return
    server.hello(flip("server_hello.legacy_session_id_echo"))
    server.expect_alert(AlertDescription.illegal_parameter)
