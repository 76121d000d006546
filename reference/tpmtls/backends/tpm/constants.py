"""The numbers of TPM 2.0 Part 2 that our frames carry; a test compares each with tpm2-pytss's."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class CommandCode(IntEnum):
    """TPM_CC (Part 2 §6.5), by the name that Part 3 gives the command."""

    EvictControl = 0x120
    NV_UndefineSpace = 0x122
    NV_DefineSpace = 0x12A
    CreatePrimary = 0x131
    NV_Write = 0x137
    SequenceComplete = 0x13E
    Startup = 0x144
    Shutdown = 0x145
    ECDH_ZGen = 0x154
    Create = 0x153
    NV_Read = 0x14E
    HMAC = 0x155
    Load = 0x157
    RSA_Decrypt = 0x159
    SequenceUpdate = 0x15C
    Sign = 0x15D
    Unseal = 0x15E
    ContextLoad = 0x161
    ContextSave = 0x162
    ECDH_KeyGen = 0x163
    FlushContext = 0x165
    LoadExternal = 0x167
    NV_ReadPublic = 0x169
    PolicyAuthValue = 0x16B
    PolicyCommandCode = 0x16C
    PolicyCpHash = 0x16E
    ReadPublic = 0x173
    StartAuthSession = 0x176
    GetCapability = 0x17A
    GetRandom = 0x17B
    Hash = 0x17D
    PCR_Read = 0x17E
    PolicyPCR = 0x17F
    ReadClock = 0x181
    HashSequenceStart = 0x186
    PolicyGetDigest = 0x189
    PolicyPassword = 0x18C
    CreateLoaded = 0x191
    EncryptDecrypt2 = 0x193


class Alg(IntEnum):
    """TPM_ALG_ID (Part 2 §6.3)."""

    __hash__ = int.__hash__  # and not, as Enum does, by name: algorithms are looked up all the time

    RSA = 0x01
    SHA1 = 0x04
    HMAC = 0x05
    AES = 0x06
    KEYEDHASH = 0x08
    SHA256 = 0x0B
    SHA384 = 0x0C
    SHA512 = 0x0D
    NULL = 0x10
    RSASSA = 0x14
    RSAES = 0x15
    RSAPSS = 0x16
    OAEP = 0x17
    ECDSA = 0x18
    ECDH = 0x19
    ECC = 0x23
    SYMCIPHER = 0x25
    CTR = 0x40
    OFB = 0x41
    CBC = 0x42
    CFB = 0x43
    ECB = 0x44


HASHES: Final = {"sha256": Alg.SHA256, "sha384": Alg.SHA384, "sha512": Alg.SHA512}
"""The TPM's number of a hash of `tpmtls.algorithms`, by its name."""
MODES: Final = (Alg.ECB, Alg.CTR, Alg.CBC, Alg.CFB, Alg.OFB)
"""Modes of a block cipher."""


class Curve(IntEnum):
    """TPM_ECC_CURVE (Part 2 §6.4): the curves that TLS 1.3 has too."""

    NIST_P256 = 3
    NIST_P384 = 4
    NIST_P521 = 5

    @property
    def size(self) -> int:
        """Octets of a coordinate."""
        return {3: 32, 4: 48, 5: 66}[self]


class Capability(IntEnum):
    """TPM_CAP (Part 2 §6.12)."""

    ALGS = 0
    HANDLES = 1
    COMMANDS = 2
    TPM_PROPERTIES = 6
    ECC_CURVES = 8


class Property(IntEnum):
    """TPM_PT (Part 2 §6.13)."""

    FIXED = 0x100
    REVISION = 0x102
    MANUFACTURER = 0x105
    VENDOR_STRING_1 = 0x106
    VENDOR_STRING_4 = 0x109
    FIRMWARE_VERSION_1 = 0x10B
    FIRMWARE_VERSION_2 = 0x10C
    INPUT_BUFFER = 0x10D
    HR_TRANSIENT_MIN = 0x10E
    HR_LOADED_MIN = 0x110
    ACTIVE_SESSIONS_MAX = 0x111


class Attribute(IntEnum):
    """TPMA_OBJECT (Part 2 §8.3), as masks."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN_ENCRYPT = 1 << 18


class ResponseCode(IntEnum):
    """TPM_RC (Part 2 §6.6); format-one codes without what they say of a parameter or session."""

    SUCCESS = 0
    BAD_TAG = 0x1E
    # format one: 0x80 + number, and where it happened
    ASYMMETRIC = 0x81
    ATTRIBUTES = 0x82
    HASH = 0x83
    VALUE = 0x84
    HIERARCHY = 0x85
    KEY_SIZE = 0x87
    MGF = 0x88
    MODE = 0x89
    TYPE = 0x8A
    HANDLE = 0x8B
    KDF = 0x8C
    RANGE = 0x8D
    AUTH_FAIL = 0x8E
    NONCE = 0x8F
    PP = 0x90
    SCHEME = 0x92
    SIZE = 0x95
    SYMMETRIC = 0x96
    TAG = 0x97
    SELECTOR = 0x98
    INSUFFICIENT = 0x9A
    SIGNATURE = 0x9B
    KEY = 0x9C
    POLICY_FAIL = 0x9D
    INTEGRITY = 0x9F
    TICKET = 0xA0
    BAD_AUTH = 0xA2
    EXPIRED = 0xA3
    POLICY_CC = 0xA4
    BINDING = 0xA5
    CURVE = 0xA6
    ECC_POINT = 0xA7
    # format zero, errors
    INITIALIZE = 0x100
    FAILURE = 0x101
    SEQUENCE = 0x103
    PRIVATE = 0x10B
    HMAC = 0x119
    DISABLED = 0x120
    EXCLUSIVE = 0x121
    AUTH_TYPE = 0x124
    AUTH_MISSING = 0x125
    POLICY = 0x126
    PCR = 0x127
    PCR_CHANGED = 0x128
    UPGRADE = 0x12D
    TOO_MANY_CONTEXTS = 0x12E
    AUTH_UNAVAILABLE = 0x12F
    REBOOT = 0x130
    UNBALANCED = 0x131
    COMMAND_SIZE = 0x142
    COMMAND_CODE = 0x143
    AUTHSIZE = 0x144
    AUTH_CONTEXT = 0x145
    NV_RANGE = 0x146
    NV_SIZE = 0x147
    NV_LOCKED = 0x148
    NV_AUTHORIZATION = 0x149
    NV_UNINITIALIZED = 0x14A
    NV_SPACE = 0x14B
    NV_DEFINED = 0x14C
    BAD_CONTEXT = 0x150
    CPHASH = 0x151
    PARENT = 0x152
    NEEDS_TEST = 0x153
    NO_RESULT = 0x154
    SENSITIVE = 0x155
    # format zero, warnings
    CONTEXT_GAP = 0x901
    OBJECT_MEMORY = 0x902
    SESSION_MEMORY = 0x903
    MEMORY = 0x904
    SESSION_HANDLES = 0x905
    OBJECT_HANDLES = 0x906
    LOCALITY = 0x907
    YIELDED = 0x908
    CANCELED = 0x909
    TESTING = 0x90A
    REFERENCE_H0 = 0x910
    REFERENCE_H1 = 0x911
    REFERENCE_H2 = 0x912
    REFERENCE_H3 = 0x913
    REFERENCE_H4 = 0x914
    REFERENCE_H5 = 0x915
    REFERENCE_H6 = 0x916
    REFERENCE_S0 = 0x918
    REFERENCE_S1 = 0x919
    REFERENCE_S2 = 0x91A
    REFERENCE_S3 = 0x91B
    REFERENCE_S4 = 0x91C
    REFERENCE_S5 = 0x91D
    REFERENCE_S6 = 0x91E
    NV_RATE = 0x920
    LOCKOUT = 0x921
    RETRY = 0x922
    NV_UNAVAILABLE = 0x923
