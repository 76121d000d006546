"""The implementations that ours is tested against, behind one interface."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from tests.interop.peers.cpython import CPython
from tests.interop.peers.gnutls import GnuTls
from tests.interop.peers.interface import Peer
from tests.interop.peers.openssl import OpenSsl


def _peers() -> Iterator[Peer]:
    yield OpenSsl()
    yield GnuTls()
    if find_spec("tlslite"):
        from tests.interop.peers.tlslite import TlsLite

        yield TlsLite()
    yield CPython()
    if find_spec("OpenSSL"):
        from tests.interop.peers.pyopenssl import PyOpenSsl

        yield PyOpenSsl()


PEERS: tuple[Peer, ...] = tuple(_peers())
