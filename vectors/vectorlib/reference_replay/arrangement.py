"""Gives the reference's messages the form that they have in a trace: `Config.arrange`.

From the trace come the order of extensions, those that the reference does not know, code points
that it does not implement, and what is `injected`. All else in a message is the reference's own.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final, TypeVar

from tpmtls.algorithms import GROUPS
from tpmtls.codepoints import CodePoint, ExtensionType, HandshakeType, NamedGroup
from tpmtls.config import DEFAULT_SCHEMES
from tpmtls.wire.extensions import (
    PLACEMENT,
    Cookie,
    ExtensionBody,
    Extensions,
    Padding,
    ServerNameAcknowledgement,
    SignatureAlgorithms,
    SupportedGroups,
    UnknownExtension,
)
from tpmtls.wire.messages import (
    CertificateRequest,
    ClientHello,
    EncryptedExtensions,
    HandshakeMessage,
    HelloRetryRequest,
    NewSessionTicket,
    ServerHello,
)

from ..names import EXTENSION_TYPES
from ..trace import Message, Trace
from .difference import Difference

C = TypeVar("C", bound=CodePoint)

_WITH_EXTENSIONS: Final = (
    ClientHello,
    ServerHello,
    HelloRetryRequest,
    EncryptedExtensions,
    CertificateRequest,
    NewSessionTicket,
)


class Arrangement:
    """Takes the messages that a role sends, one after the other.

    `groups` are the role's groups, of which a server may tell although nobody asked.
    """

    def __init__(self, trace: Trace, role: str, groups: tuple[NamedGroup, ...]) -> None:
        self._messages = iter(trace.messages(role))
        self._groups = groups
        self._path = f"{role} messages"

    def __call__(self, message: HandshakeMessage) -> HandshakeMessage:
        """The message as the trace arranges it."""
        recorded = next(self._messages, None)
        sent = message.msg_type.name
        if recorded is None:
            raise Difference(self._path, f"{sent} follows the last one")
        if sent != recorded.type:
            raise Difference(recorded.id, f"{sent} is sent instead")
        if isinstance(message, _WITH_EXTENSIONS):
            return replace(message, extensions=self._extensions(message, recorded))
        return message

    def _extensions(self, message: Any, recorded: Message) -> Extensions:
        own = {body.extension_type: body for body in message.extensions}
        arranged = []
        for entry in recorded.fields["extensions"]:
            kind, data = ExtensionType(EXTENSION_TYPES[entry["type"]]), bytes.fromhex(entry["data"])
            body = own.pop(kind, None) or self._stated(message.msg_type, kind, data)
            if body is None:
                raise Difference(f"{recorded.id}.fields.extensions", f"{kind} is not sent")
            arranged.append(_completed(body, recorded, data))
        if own:
            extra = ", ".join(kind.name for kind in own)
            raise Difference(f"{recorded.id}.fields.extensions", f"{extra} is sent as well")
        return Extensions(arranged)

    def _stated(
        self, message: HandshakeType, kind: ExtensionType, data: bytes
    ) -> ExtensionBody | None:
        """An extension that the reference does not send, and that says nothing that it decides."""
        if kind not in PLACEMENT:
            return UnknownExtension(kind, data)
        match message, kind:
            case HandshakeType.client_hello, ExtensionType.padding:
                return Padding(bytes(len(data)))
            case HandshakeType.encrypted_extensions, ExtensionType.server_name:
                return ServerNameAcknowledgement()
            case HandshakeType.encrypted_extensions, ExtensionType.supported_groups:
                return SupportedGroups(self._groups)
        return None


def _completed(own: ExtensionBody, recorded: Message, data: bytes) -> ExtensionBody:
    """The reference's body with what only the trace can give."""
    path = f"{recorded.id}.fields.extensions"
    match own:
        case Cookie() if recorded.type == "hello_retry_request":
            if "extensions.cookie" not in recorded.injected:
                raise Difference(path, "the cookie should be injected")
            return Cookie.decode(data)
        case SupportedGroups():
            groups = SupportedGroups.decode(data).named_group_list
            return SupportedGroups(_merged(own.named_group_list, groups, GROUPS, path))
        case SignatureAlgorithms():
            schemes = SignatureAlgorithms.decode(data).supported_signature_algorithms
            ours = own.supported_signature_algorithms
            return SignatureAlgorithms(_merged(ours, schemes, DEFAULT_SCHEMES, path))
    return own


def _merged(
    own: tuple[C, ...], recorded: tuple[C, ...], implemented: Collection[C], path: str
) -> tuple[C, ...]:
    """The recorded list, if the reference has what it implements of it, in that order.

    In a second ClientHello it has the whole list, which the first one was arranged to have.
    """
    if own not in (tuple(code for code in recorded if code in implemented), recorded):
        raise Difference(path, f"{', '.join(code.name for code in own)} is sent")
    return recorded
