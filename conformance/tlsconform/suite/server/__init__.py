"""Tests of servers: a scripted client asks."""
