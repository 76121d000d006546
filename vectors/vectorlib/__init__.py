"""Read, make and check the vectors of this folder.

Needs `cryptography`; nothing here but the replay imports `tpmtls`.
"""
