"""Signing keys that live in a TPM: made there, kept as files or persistent, and loaded again.

No key of ours counts wrong passwords (noDA): an unclean stop must not lock the owner out of the
TPM. What stands between a guesser and such a key is the password's own strength.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tpmtls.backends.tpm import commands, public
from tpmtls.backends.tpm.capabilities import PssSalt
from tpmtls.backends.tpm.constants import Alg, Attribute, CommandCode, Curve, ResponseCode
from tpmtls.backends.tpm.frames import OWNER, Command, Created, Entity, permanent
from tpmtls.backends.tpm.keyfile import KeyFile, PolicyStep
from tpmtls.backends.tpm.objects import TpmObject
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.policy import Access, parse_pcrs, password_octets, pcr_step, policy_digest
from tpmtls.backends.tpm.public import Public, parse_public
from tpmtls.backends.tpm.responses import TpmResponseError
from tpmtls.backends.tpm.storage import owner_refused, storage_parent
from tpmtls.violations import ConfigurationError, TpmAuthError, TpmError, TpmLacks

ALGORITHMS: Final = ("ecc-p256", "ecc-p384", "rsa-2048")
HANDLES: Final = range(0x81000000, 0x81800000)
"""Persistent handles that the owner may use (Part 2 §7.5)."""
STANDARD_PARENT: Final = OWNER.handle
"""The owner hierarchy: its standard storage key, which everybody makes from the same template."""

_CURVES: Final = {"ecc-p256": Curve.NIST_P256, "ecc-p384": Curve.NIST_P384}
_HOST_CURVES: Final[dict[int, ec.EllipticCurve]] = {
    Curve.NIST_P256: ec.SECP256R1(),
    Curve.NIST_P384: ec.SECP384R1(),
    Curve.NIST_P521: ec.SECP521R1(),
}


@dataclass(frozen=True)
class TpmKey:
    """A key that can be used now: where it is, what it is, and what its use needs."""

    entity: Entity
    public: Public
    access: Access

    def flush(self) -> None:
        """Take it out of the TPM's memory; a persistent key stays."""
        if isinstance(self.entity, TpmObject):
            self.entity.flush()


# -- making ----------------------------------------------------------------------------------------


def create_key(
    tpm: Tpm,
    algorithm: str,
    *,
    password: str | bytes | None = None,
    pcrs: str | None = None,
    parent: int = STANDARD_PARENT,
) -> KeyFile:
    """A new signing key, of one of `ALGORITHMS`, for this TPM alone.

    `pcrs`, such as "sha256:0,7", binds its use to what these PCRs are now; `parent` is the handle
    of a persistent storage key, or a hierarchy.
    """
    octets = password_octets(password)
    policy = _policy(tpm, pcrs, bool(octets))
    area = _with_policy(_template(tpm, algorithm), policy)
    with _parent(tpm, parent) as storage:
        created = tpm.run(commands.create(storage, area, password=octets))
    return KeyFile(created.public, created.private, parent, not octets, policy)


def _template(tpm: Tpm, algorithm: str) -> bytes:
    if algorithm in _CURVES:
        if _CURVES[algorithm] not in tpm.capabilities.curves:
            raise TpmLacks(f"this TPM does not have the curve of {algorithm}: choose another")
        return public.ecdsa_key(_CURVES[algorithm])
    if algorithm == "rsa-2048":
        # A key that may decrypt lets the host pad: no more than what TLS 1.3 needs of this TPM.
        return public.rsa_key(2048, decrypt=tpm.pss_salt() is not PssSalt.DIGEST)
    raise ConfigurationError(f"no key algorithm {algorithm!r}; there is: {', '.join(ALGORITHMS)}")


def _policy(tpm: Tpm, pcrs: str | None, has_password: bool) -> tuple[PolicyStep, ...]:
    if pcrs is None:
        return ()
    steps = [pcr_step(tpm, parse_pcrs(pcrs))]
    if has_password:
        steps.append(PolicyStep(CommandCode.PolicyAuthValue))
    return tuple(steps)


def _with_policy(area: bytes, policy: tuple[PolicyStep, ...]) -> bytes:
    """A template without policy, with one: the password alone is then not enough."""
    if not policy:
        return area
    attributes = int.from_bytes(area[4:8], "big") & ~Attribute.USER_WITH_AUTH
    digest = policy_digest(policy)
    return b"".join(
        (area[:4], attributes.to_bytes(4, "big"), len(digest).to_bytes(2, "big"), digest, area[10:])
    )


def persist(tpm: Tpm, key: KeyFile, handle: int, *, replace: bool = False) -> None:
    """Keep a key in the TPM itself, at a persistent handle; `replace` removes what is there."""
    if handle not in HANDLES:
        raise ConfigurationError(
            f"0x{handle:x} is not a handle for the owner's keys:"
            f" 0x{HANDLES[0]:x} to 0x{HANDLES[-1]:x}"
        )
    loaded = load_key(tpm, key)
    try:
        if replace:
            remove(tpm, handle)
        _evict(tpm, loaded.entity, handle)
    except TpmResponseError as failure:
        if failure.code == ResponseCode.NV_DEFINED:
            raise ConfigurationError(
                f"there is a key at 0x{handle:x} already: choose another handle, or say --force"
            ) from None
        if failure.code == ResponseCode.NV_SPACE:
            raise TpmError(
                "the TPM has no room for another persistent key: remove one, or keep keys in files"
            ) from None
        raise
    finally:
        loaded.flush()


def remove(tpm: Tpm, handle: int) -> bool:
    """Remove the key at a persistent handle; False where there is none."""
    try:
        name = tpm.run(commands.read_public(Entity(handle, b""))).name
    except TpmResponseError as failure:
        if failure.code == ResponseCode.HANDLE:
            return False
        raise
    _evict(tpm, Entity(handle, name), handle)
    return True


def _evict(tpm: Tpm, key: Entity, handle: int) -> None:
    """TPM2_EvictControl (Part 3 §28.5), by the owner."""
    entities = (tpm.owner_hierarchy, key)
    try:
        tpm.run(Command(CommandCode.EvictControl, entities, handle.to_bytes(4, "big"), bytes, 1))
    except TpmAuthError:
        raise owner_refused(tpm, "no key can be kept or removed there") from None


# -- loading ---------------------------------------------------------------------------------------


def load_key(tpm: Tpm, key: KeyFile, password: str | bytes | None = None) -> TpmKey:
    """The key of a file; raises TpmError where it belongs to another TPM.

    A password is for the keys that have one.
    """
    if key.empty_auth:
        password = None
    area = parse_public(key.area)
    access = _access(area, password, key.policy)
    with _parent(tpm, key.parent) as storage:
        try:
            loaded = tpm.load(commands.load(storage, key.private, key.area))
        except TpmResponseError as failure:
            if failure.code in (ResponseCode.INTEGRITY, ResponseCode.SIZE, ResponseCode.HASH):
                raise TpmError(
                    f"the key file belongs to another TPM than {tpm.name}, or this one was cleared:"
                    " name the right one with --tcti, or make a new key"
                ) from None
            raise
    return TpmKey(loaded, area, access)


def persistent_key(
    tpm: Tpm, handle: int, password: str | bytes | None = None, pcrs: str | None = None
) -> TpmKey:
    """The key at a persistent handle; `pcrs` as when it was made, which the TPM does not tell."""
    entity = Entity(handle, b"")
    read = _read_public(tpm, entity)
    try:
        area = parse_public(read.public)
    except ValueError as error:
        raise ConfigurationError(f"what is at 0x{handle:x} is {error}") from None
    entity.name = read.name
    policy: tuple[PolicyStep, ...] = ()
    if not area.has(Attribute.USER_WITH_AUTH):
        if pcrs is None:
            raise ConfigurationError(
                f"the key at 0x{handle:x} has a policy: name its PCRs, as in"
                f" handle:0x{handle:x}@sha256:0,7"
            )
        policy = _policy(tpm, pcrs, bool(password))
        if policy_digest(policy) != area.policy:
            raise TpmAuthError(
                f"the policy of the key at 0x{handle:x} is not fulfilled: other PCRs, PCRs that"
                " have changed, or a password besides"
            )
    return TpmKey(entity, area, _access(area, password, policy))


def _access(area: Public, password: str | bytes | None, policy: tuple[PolicyStep, ...]) -> Access:
    if not area.has(Attribute.USER_WITH_AUTH) and not policy:
        raise ConfigurationError("the key wants a policy, and its file does not say which")
    if area.has(Attribute.USER_WITH_AUTH):
        policy = ()  # the password is enough
    return Access(password_octets(password), policy, area.name_algorithm)


def _read_public(tpm: Tpm, entity: Entity) -> Created:
    try:
        return tpm.run(commands.read_public(entity))
    except TpmResponseError as failure:
        if failure.code == ResponseCode.HANDLE:
            raise TpmError(
                f"there is no key at 0x{entity.handle:x} in {tpm.name}: `tpm2_getcap"
                " handles-persistent` lists what there is"
            ) from None
        raise


class _Persistent(Entity):
    """A parent that stays in the TPM."""

    def __enter__(self) -> Entity:
        return self

    def __exit__(self, *_: object) -> None:
        """It is not ours to flush."""


def _parent(tpm: Tpm, handle: int) -> TpmObject | _Persistent:
    """The storage key that wraps others: persistent, or its hierarchy's standard one, made anew."""
    if handle >> 24 == HANDLES[0] >> 24:
        entity = _Persistent(handle, b"")
        entity.name = _read_public(tpm, entity).name
        return entity
    if handle == OWNER.handle:
        return storage_parent(tpm)
    hierarchy = permanent(handle)
    try:
        return tpm.load(commands.create_primary(public.storage_key(), hierarchy=hierarchy))
    except TpmAuthError:
        raise TpmAuthError(
            f"the hierarchy 0x{handle:x} of the TPM has a password, so that its storage key cannot"
            " be made: use a persistent one as --parent"
        ) from None


# -- what others verify with -----------------------------------------------------------------------


def public_key(area: Public) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """The public key, for the host; raises ConfigurationError where TLS 1.3 does not have it."""
    if area.kind == Alg.RSA:
        modulus = int.from_bytes(area.modulus, "big")
        return rsa.RSAPublicNumbers(area.exponent, modulus).public_key()
    curve = _HOST_CURVES.get(area.curve or 0)
    if curve is None:
        raise ConfigurationError("TLS 1.3 signs with no key on this curve: P-256, P-384 or P-521")
    x, y = (int.from_bytes(coordinate, "big") for coordinate in area.point)
    return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
