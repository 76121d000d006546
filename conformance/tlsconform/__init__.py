"""A conformance suite for TLS 1.3: scripted peers that ask an implementation what RFC 9846 asks.

It stands on the lower layers of `tpmtls` (code points, wire format, key schedule, record
protection) and never on its state machine, so that a mistake there cannot hide itself.
"""
