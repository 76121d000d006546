"""What a trace's messages say was negotiated; used to write the vectors and to check them."""

from typing import Any, Final

from . import names, wire
from .trace import Message, Trace

_CLIENT_CERTIFICATE: Final = "client.certificate"


def negotiated(trace: Trace) -> dict[str, Any]:
    """Suite, hash, group, signature schemes and features, as the messages have them."""
    messages = {message.id: message for message in trace.messages()}
    hello = messages["server.server_hello"].fields
    suite = names.name_of(
        {name: row.code for name, row in names.SUITES.items()}, hello["cipher_suite"]
    )
    group, _ = wire.selected_share(hello)
    return {
        "cipher_suite": suite,
        "hash": names.SUITES[suite].hash,
        "group": names.name_of(names.GROUPS, group),
        "signature_schemes": {
            role: _scheme(messages.get(f"{role}.certificate_verify"))
            for role in ("server", "client")
        },
        "features": _features(messages),
    }


def _scheme(verify: Message | None) -> str | None:
    return (
        None
        if verify is None
        else names.name_of(names.SIGNATURE_SCHEMES, int(verify.fields["algorithm"], 16))
    )


def _features(messages: dict[str, Message]) -> list[str]:
    extensions = messages.get("server.encrypted_extensions")
    present = {
        "hello_retry_request": "server.hello_retry_request" in messages,
        "psk_resumption": wire.extension(messages["server.server_hello"].fields, "pre_shared_key")
        is not None,
        "early_data": extensions is not None
        and wire.extension(extensions.fields, "early_data") is not None,
        "client_authentication": _CLIENT_CERTIFICATE in messages,
        "compatibility_mode": messages["client.client_hello"].fields["legacy_session_id"] != "",
        "new_session_ticket": "server.new_session_ticket" in messages,
    }
    return [feature for feature, here in present.items() if here]
