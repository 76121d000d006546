"""The stacks that are set beside one another, each behind the same few calls."""

from __future__ import annotations

from typing import Final

from tlsbench.stacks.base import Files, Stack, certificates
from tlsbench.stacks.cpython import CPython
from tlsbench.stacks.pyopenssl import PyOpenSsl
from tlsbench.stacks.reference import Reference
from tlsbench.stacks.tlslite import TlsLite

__all__ = ["STACKS", "Files", "Stack", "certificates"]

STACKS: Final[tuple[Stack, ...]] = (Reference(), CPython(), PyOpenSsl(), TlsLite())
