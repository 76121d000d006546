"""§4.5.3: what a server makes of a client's Finished."""

from __future__ import annotations

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import append, flip, set_field, truncate
from tlsconform.peer import ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import server_lives
from tlsconform.suite.server.helpers import resume
from tpmtls.codepoints import AlertDescription
from tpmtls.key_schedule import verify_data
from tpmtls.wire.messages import Finished

A = AlertDescription


@req("4.5.3-1", "7.1-1")
def test_accepted(client: ScriptedClient, features: ServerFeatures) -> None:
    """A Finished that is right completes the handshake."""
    client.handshake()
    server_lives(client, features)


@req("4.5.3-2", "4.5.3-1", "4.5.3-4")
@pytest.mark.parametrize("position", [0, 1, 15, -1])
def test_altered(client: ScriptedClient, position: int) -> None:
    """A Finished of which any bit is wrong is refused."""
    client.hello().read_flight().authenticate()
    client.finish(flip("finished.verify_data", position))
    client.expect_alert(A.decrypt_error)


@req("4.5.3-2", "4.5.3-1")
def test_zeros(client: ScriptedClient) -> None:
    """A Finished of zeros is refused."""
    client.hello().read_flight().authenticate()
    client.finish(set_field("finished.verify_data", 0))
    client.expect_alert(A.decrypt_error)


@req("6-9")
@pytest.mark.parametrize("count", [1, 16, 31, 48])
def test_short(client: ScriptedClient, count: int) -> None:
    """A Finished that is cut short, even to nothing, is refused."""
    client.hello().read_flight().authenticate()
    client.finish(truncate("finished.verify_data", count))
    client.expect_alert(A.decode_error, A.decrypt_error)


@req("6-9")
@pytest.mark.parametrize("count", [1, 16, 32])
def test_long(client: ScriptedClient, count: int) -> None:
    """A right Finished with more octets behind it is refused."""
    client.hello().read_flight().authenticate()
    client.finish(append("finished.verify_data", bytes(count)))
    client.expect_alert(A.decode_error, A.decrypt_error)


@req("4.5.3-2", "4.5.3-1")
def test_wrong_key(client: ScriptedClient) -> None:
    """A Finished under the application traffic secret is refused."""
    client.hello().read_flight().authenticate()
    client.say_finished_under(client.application_secret)
    client.start_application()
    client.expect_alert(A.decrypt_error)


@req("4.5.3-2", "4.5.3-1")
def test_replayed(connect: Connect) -> None:
    """A Finished of another connection is refused."""
    first = connect().hello().read_flight().authenticate()
    data = verify_data(first.backend, first.client_secret, first.transcript.digest())
    first.close()
    second = connect().hello().read_flight().authenticate()
    second.say(Finished(data))
    second.start_application()
    second.expect_alert(A.decrypt_error)


@req("4.5.3-2", "4.5.3-1")
def test_reflected(client: ScriptedClient) -> None:
    """The server's own Finished, sent back, is refused."""
    client.hello()
    client.read_server_hello()
    client.read_encrypted_extensions()
    client.read_authentication()
    own = client.read_finished().verify_data
    client.authenticate()
    client.say(Finished(own))
    client.start_application()
    client.expect_alert(A.decrypt_error)


@req("4.5.3-2", "4.5.3-1")
def test_transcript_without_server_finished(client: ScriptedClient) -> None:
    """A Finished over the transcript before the server's own is refused."""
    client.hello()
    client.read_server_hello()
    client.read_encrypted_extensions()
    client.read_authentication()
    short = client.transcript.digest()
    client.read_finished()
    client.authenticate()
    client.say(Finished(verify_data(client.backend, client.client_secret, short)))
    client.start_application()
    client.expect_alert(A.decrypt_error)


@req("4.5.3-2", "4.5.3-1", "4.5.1-4")
@needs("client_certificate")
def test_transcript_without_certificate(connect: Connect) -> None:
    """A Finished over the transcript before the client's Certificate is refused."""
    client = connect(credential=None).hello().read_flight()
    short = client.transcript.digest()
    client.authenticate()
    client.say(Finished(verify_data(client.backend, client.client_secret, short)))
    client.start_application()
    client.expect_alert(A.decrypt_error, A.certificate_required)


@req("4.5.3-2", "4.5.3-1")
@needs("resumption")
def test_altered_in_a_resumption(connect: Connect) -> None:
    """A wrong Finished is refused in a resumption, too."""
    client = resume(connect).read_flight()
    client.finish(flip("finished.verify_data", -1))
    client.expect_alert(A.decrypt_error)


@req("4.5.3-2", "4.5.3-1")
@needs("retry")
def test_altered_after_retry(client: ScriptedClient) -> None:
    """A wrong Finished is refused after a HelloRetryRequest, too."""
    client.hello(shares=()).hello_again().read_flight().authenticate()
    client.finish(flip("finished.verify_data"))
    client.expect_alert(A.decrypt_error)


@req("4.5.3-1", "4.5.3-2")
@needs("retry")
def test_accepted_after_retry(client: ScriptedClient, features: ServerFeatures) -> None:
    """The transcript after a HelloRetryRequest starts with message_hash."""
    client.hello(shares=()).hello_again().complete()
    server_lives(client, features)
