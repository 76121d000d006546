"""What attackers have and can do, as sentences, which the rules are about.

    knows 1/main_secret                  has its octets, and keeps them
    asks TPM2_HMAC 2/early_secret        can have this command run on the object that it is
    asks the model 1/main_secret         can have the handle-only model run what it does on it
    has wire 1, has ticket 1, has transcript 1/ServerHello
    reads 1/client_application_traffic_secret_0     what was sent under it
    forges 1/client_application_traffic_secret_0    records under it that the peer takes
    makes binders 2, makes handshake secrets 2      of the PSK that connection 2 runs under
    resumes 1, connects by PSK, plays the server in 2, signs as the client

and, before them, where a secret was within reach:

    1/main_secret in host memory, 1/PSK in a file
    TPM2_HMAC gave 1/main_secret, TPM2_LoadExternal took 1/main_secret
    encrypted 1/main_secret recorded
    sees keystream of 1/client_application_traffic_secret_0
    sees data of 1/client_application_traffic_secret_0
"""

from __future__ import annotations

from typing import Final

from tpmtls.key_schedule import Point

CONNECTS_BY_PSK: Final = "connects by PSK"
SIGNS: Final = "signs as the client"


def knows(secret: str) -> str:
    return f"knows {secret}"


def asks(command: str, secret: str) -> str:
    return f"asks {command} {secret}"


def asks_model(secret: str) -> str:
    return f"asks the model {secret}"


def reads(secret: str) -> str:
    return f"reads {secret}"


def forges(secret: str) -> str:
    return f"forges {secret}"


def makes_binders(connection: int) -> str:
    return f"makes binders {connection}"


def makes_handshake_secrets(connection: int) -> str:
    return f"makes handshake secrets {connection}"


def wire(connection: int) -> str:
    return f"has wire {connection}"


def ticket(connection: int) -> str:
    return f"has ticket {connection}"


def transcript(connection: int, point: Point) -> str:
    return f"has transcript {connection}/{point.value}"


def resumes(connection: int) -> str:
    """With the ticket that this connection brought."""
    return f"resumes {connection}"


def plays_server(connection: int) -> str:
    return f"plays the server in {connection}"


def in_memory(what: str) -> str:
    return f"{what} in host memory"


def in_file(what: str) -> str:
    return f"{what} in a file"


def carried(via: str, direction: str, secret: str) -> str:
    return f"{via} {'gave' if direction == 'out' else 'took'} {secret}"


def recorded_encrypted(secret: str) -> str:
    return f"encrypted {secret} recorded"


def keystream(secret: str) -> str:
    return f"sees keystream of {secret}"


def data(secret: str) -> str:
    return f"sees data of {secret}"
