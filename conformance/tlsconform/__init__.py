"""A conformance suite for TLS 1.3: a scripted peer that asks an implementation what RFC 9846 asks.

Not written yet. It will stand on the lower layers of `tpmtls` (code points, wire format, key
schedule, record protection) and never on its state machine, so that a mistake there cannot hide
itself.
"""
