"""Tests of clients: a scripted server asks."""
