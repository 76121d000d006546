"""A TPM 2.0, and what we ask of it.

From the bottom: `tcti` and `libtpms` carry octets; `frames` and `commands` lay out commands and
read responses; `device` sends them one at a time, again where the TPM asks for it, and turns
response codes into errors; `objects` keeps more objects than the TPM has slots for; `capabilities`
finds out what this TPM can do. `opening.open_tpm` puts them together.
"""
