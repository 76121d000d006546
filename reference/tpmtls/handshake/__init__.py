"""The handshake: states and their handlers, one module a concern; `machine` walks their table."""
