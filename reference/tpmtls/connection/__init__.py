"""The sans-IO connection: octets from the peer in, events and octets for the peer out.

connection.receive_data(octets)         # may raise TlsError; an alert is then ready to be sent
for event in connection.events(): ...
transport.write(connection.data_to_send())
"""

from tpmtls.connection.base import Connection
from tpmtls.connection.client import ClientConnection
from tpmtls.connection.server import ServerConnection

__all__ = ["ClientConnection", "Connection", "ServerConnection"]
