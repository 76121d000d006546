"""The presentation language of RFC 9846 §3, and every message and extension declared in it."""
