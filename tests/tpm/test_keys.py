"""Keys in the TPM: passwords, PCRs, persistent handles, parents, and other TPMs' files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.tpm.conftest import loaded_sessions, transient
from tests.tpm.support import at_rest
from tests.tpm.swtpm import Swtpm
from tpmtls.backends.references import is_tpm_key, open_key
from tpmtls.backends.tpm import commands, keys, public
from tpmtls.backends.tpm.backend import TpmBackend
from tpmtls.backends.tpm.constants import Alg, Attribute, CommandCode, Curve
from tpmtls.backends.tpm.frames import OWNER, Command, permanent
from tpmtls.backends.tpm.keyfile import KeyFile, PolicyStep
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.backends.tpm.policy import Access, parse_pcrs, pcr_step, policy_digest
from tpmtls.backends.tpm.public import parse_public
from tpmtls.backends.tpm.signing import TpmSigner
from tpmtls.backends.tpm.storage import Storage
from tpmtls.violations import (
    ConfigurationError,
    TpmAuthError,
    TpmError,
    TpmLacks,
    TpmUnavailable,
)

PCR = 23  # for applications; may be reset without a reboot
PCRS = f"sha256:{PCR}"
PASSWORD = "correct horse"


def use(key: KeyFile | str, tpm: Tpm, password: str | bytes | None = None) -> None:
    """Open a key, which signs with it."""
    made = open_key(key if isinstance(key, str) else key.pem(), tcti=tpm.name, password=password)
    assert isinstance(made, TpmSigner)
    made.close()


def extend(tpm: Tpm) -> None:
    """TPM2_PCR_Extend."""
    digest = hashlib.sha256(b"an update").digest()
    values = b"\0\0\0\1" + Alg.SHA256.to_bytes(2, "big") + digest
    tpm.run(Command(0x182, (permanent(PCR),), values, bytes, 1))


@contextmanager
def resetting(tpm: Tpm) -> Iterator[None]:
    """TPM2_PCR_Reset in the end."""
    try:
        yield
    finally:
        tpm.run(Command(0x13D, (permanent(PCR),), b"", bytes, 1))


@contextmanager
def persistent(tpm: Tpm, key: KeyFile, handle: int = 0x81000042) -> Iterator[str]:
    keys.persist(tpm, key, handle)
    try:
        yield f"handle:0x{handle:x}"
    finally:
        assert keys.remove(tpm, handle)


# -- what is made ----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", keys.ALGORITHMS)
def test_keys_stay_in_their_tpm_and_lock_nobody_out(tpm: Tpm, algorithm: str) -> None:
    area = parse_public(keys.create_key(tpm, algorithm).area)
    for attribute in (Attribute.FIXED_TPM, Attribute.FIXED_PARENT, Attribute.NO_DA):
        assert area.has(attribute)
    assert area.has(Attribute.SIGN_ENCRYPT)
    assert not area.has(Attribute.DECRYPT)


@pytest.mark.parametrize("algorithm", keys.ALGORITHMS)
def test_no_two_keys_are_the_same(tpm: Tpm, algorithm: str) -> None:
    one, other = (keys.create_key(tpm, algorithm) for _ in range(2))
    assert keys.public_key(parse_public(one.area)) != keys.public_key(parse_public(other.area))


def test_only_what_exists_can_be_made(libtpms: Tpm, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"no key algorithm 'dsa'; there is: ecc-p256"):
        keys.create_key(libtpms, "dsa")
    small = replace(libtpms.capabilities, curves=frozenset((Curve.NIST_P256,)))
    monkeypatch.setattr(libtpms._shared, "capabilities", small)
    with pytest.raises(TpmLacks, match="curve of ecc-p384"):
        keys.create_key(libtpms, "ecc-p384")


# -- passwords -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password",
    [PASSWORD, PASSWORD.encode(), b"zeros\0\0", b"\xff" * 32],
    ids=["text", "octets", "zeros", "longest"],
)
def test_a_password_opens_its_key_and_no_other_does(tpm: Tpm, password: str | bytes) -> None:
    key = keys.create_key(tpm, "ecc-p256", password=password)
    assert key.empty_auth is False
    sessions = loaded_sessions(tpm)
    for _ in range(5):  # more often than the TPM has sessions
        use(key, tpm, password)
        with pytest.raises(TpmAuthError, match="password"):
            use(key, tpm, "wrong")
    with pytest.raises(ConfigurationError, match="has a password"):
        use(key, tpm)
    assert loaded_sessions(tpm) == sessions


def test_a_password_does_not_cross_to_the_tpm_when_a_key_is_used(tpm: Tpm) -> None:
    key = keys.create_key(tpm, "ecc-p256", password=PASSWORD)
    with tpm.device.recording() as recorder:
        use(key, tpm, PASSWORD)
    assert len(recorder)
    assert recorder.find(PASSWORD.encode()) == []


def test_a_password_is_not_shown(libtpms: Tpm) -> None:
    assert PASSWORD not in repr(Access(PASSWORD.encode()))
    key = keys.create_key(libtpms, "ecc-p256", password=PASSWORD)
    with pytest.raises(TpmAuthError) as refused:
        use(key, libtpms, "wrong" + PASSWORD)
    assert PASSWORD not in repr(refused.value)


def test_a_password_too_long_is_refused(libtpms: Tpm) -> None:
    with pytest.raises(ConfigurationError, match="at most 32 octets"):
        keys.create_key(libtpms, "ecc-p256", password="x" * 33)


def test_a_password_for_a_key_that_has_none_is_not_used(tpm: Tpm) -> None:
    use(keys.create_key(tpm, "ecc-p256"), tpm, PASSWORD)


def test_a_changed_answer_is_noticed(tpm: Tpm) -> None:
    command = Command(CommandCode.Sign, (), b"", bytes)
    area = b"\0\x10" + bytes(16) + b"\0" + b"\0\x20" + bytes(32)
    with Access(PASSWORD.encode()).session(tpm) as authorization:
        assert authorization is not None
        authorization.seal(command)
        with pytest.raises(TpmError, match="HMAC is wrong"):
            authorization.open(command, b"", area)


# -- PCRs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", [None, PASSWORD])
def test_a_policy_holds_until_a_pcr_changes(tpm: Tpm, password: str | None) -> None:
    key = keys.create_key(tpm, "ecc-p256", password=password, pcrs=f"sha1:1+{PCRS},0")
    assert not parse_public(key.area).has(Attribute.USER_WITH_AUTH)
    assert parse_public(key.area).policy == policy_digest(key.policy)
    before = transient(tpm), loaded_sessions(tpm)
    use(key, tpm, password)
    if password:
        with pytest.raises(TpmAuthError):
            use(key, tpm, "wrong")
    with resetting(tpm):
        extend(tpm)
        for _ in range(4):
            with pytest.raises(TpmAuthError, match="PCRs that the key is bound to have changed"):
                use(key, tpm, password)
    use(key, tpm, password)
    assert (transient(tpm), loaded_sessions(tpm)) == before


def test_the_policy_of_a_file_cannot_be_left_out(tpm: Tpm) -> None:
    key = keys.create_key(tpm, "ecc-p256", pcrs=PCRS)
    with pytest.raises(ConfigurationError, match="does not say which"):
        use(KeyFile(key.area, key.private, key.parent, True), tpm)
    with pytest.raises(TpmAuthError):
        use(KeyFile(key.area, key.private, key.parent, True, (PolicyStep(0x16B),)), tpm)


def test_a_policy_by_others(tpm: Tpm) -> None:
    steps = (
        PolicyStep(CommandCode.PolicyPassword),
        PolicyStep(CommandCode.PolicyCommandCode, CommandCode.Sign.to_bytes(4, "big")),
    )
    area = keys._with_policy(public.ecdsa_key(Curve.NIST_P256), steps)
    with tpm.load(commands.create_primary(public.storage_key(), hierarchy=OWNER)) as parent:
        made = tpm.run(commands.create(parent, area, password=PASSWORD.encode()))
    key = KeyFile(made.public, made.private, OWNER.handle, None, steps)
    use(key, tpm, PASSWORD)
    with pytest.raises(TpmAuthError):
        use(key, tpm)


@pytest.mark.parametrize(
    "text", ["", "sha256", "sha256:", "md5:1", "sha256:24", "sha256:-1", "sha256:1,,2", "sha256:1+"]
)
def test_pcrs_that_are_none(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"are not PCRs, such as sha256:0,7"):
        parse_pcrs(text)


def test_a_bank_that_the_tpm_lacks(libtpms: Tpm) -> None:
    selection = b"\0\0\0\1" + (0x12).to_bytes(2, "big") + b"\3\1\0\0"  # SM3
    with pytest.raises((TpmLacks, TpmError)):
        pcr_step(libtpms, selection)


# -- persistent keys -------------------------------------------------------------------------------


def test_a_persistent_key_is_used_by_its_handle(tpm: Tpm) -> None:
    key = keys.create_key(tpm, "ecc-p256")
    with persistent(tpm, key) as handle:
        assert is_tpm_key(handle)
        with closing(open_key(handle, tcti=tpm.name)) as made:
            assert made.public_key == keys.public_key(parse_public(key.area))
    with pytest.raises(TpmError, match="no key at 0x81000042"):
        use(handle, tpm)
    assert keys.remove(tpm, 0x81000042) is False


def test_a_persistent_key_with_password_and_pcrs(tpm: Tpm) -> None:
    key = keys.create_key(tpm, "ecc-p256", password=PASSWORD, pcrs=PCRS)
    with persistent(tpm, key) as handle:
        use(f"{handle}@{PCRS}", tpm, PASSWORD)
        with pytest.raises(ConfigurationError, match=f"name its PCRs, as in {handle}@"):
            use(handle, tpm, PASSWORD)
        for wrong in (f"{handle}@sha256:1", f"{handle}@{PCRS},1"):
            with pytest.raises(TpmAuthError, match="not fulfilled"):
                use(wrong, tpm, PASSWORD)
        with pytest.raises(TpmAuthError, match="or a password besides"):
            use(f"{handle}@{PCRS}", tpm)
        with pytest.raises(TpmAuthError, match="password"):
            use(f"{handle}@{PCRS}", tpm, "wrong")


def test_a_handle_is_not_overwritten_by_accident(tpm: Tpm) -> None:
    one, other = (keys.create_key(tpm, "ecc-p256") for _ in range(2))
    with persistent(tpm, one) as handle:
        with pytest.raises(ConfigurationError, match="already"):
            keys.persist(tpm, other, 0x81000042)
        keys.persist(tpm, other, 0x81000042, replace=True)
        with closing(open_key(handle, tcti=tpm.name)) as made:
            assert made.public_key == keys.public_key(parse_public(other.area))


def test_a_handle_must_be_one_of_the_owner(libtpms: Tpm) -> None:
    key = keys.create_key(libtpms, "ecc-p256")
    for handle in (0x80000000, 0x81800000, 0x40000001):
        with pytest.raises(ConfigurationError, match="0x81000000 to 0x817fffff"):
            keys.persist(libtpms, key, handle)


def test_a_full_tpm_says_so(tpm: Tpm) -> None:
    key = keys.create_key(tpm, "ecc-p256")
    made: list[int] = []

    def fill() -> None:
        for handle in range(0x81000100, 0x81000200):
            keys.persist(tpm, key, handle)
            made.append(handle)

    with pytest.raises(TpmError, match="no room for another persistent key"):
        fill()
    assert all(keys.remove(tpm, handle) for handle in made)


def test_sealed_data_at_a_handle_is_no_key(tpm: Tpm) -> None:
    with tpm.load(commands.create_primary(public.storage_key(), hierarchy=OWNER)) as parent:
        sealed = tpm.run(commands.create(parent, public.keyed_hash(0, Alg.NULL), octets=b"data"))
        with tpm.load(commands.load(parent, sealed.private, sealed.public)) as loaded:
            keys._evict(tpm, loaded, 0x81000044)
    try:
        with pytest.raises(ConfigurationError, match="neither an ECC nor an RSA key"):
            use("handle:0x81000044", tpm)
    finally:
        keys.remove(tpm, 0x81000044)


def test_what_is_no_signing_key_is_refused(tpm: Tpm) -> None:
    with tpm.load(commands.create_primary(public.storage_key(), hierarchy=OWNER)) as storage:
        area = parse_public(storage.public)
        made = KeyFile(storage.public, b"")
        keys._evict(tpm, storage, 0x81000043)
    try:
        assert area.has(Attribute.RESTRICTED)
        assert made.area == storage.public
        with pytest.raises(ConfigurationError, match="may not sign"):
            use("handle:0x81000043", tpm)
        child = keys.create_key(tpm, "ecc-p256", parent=0x81000043)
        assert child.parent == 0x81000043
        use(child, tpm)
    finally:
        keys.remove(tpm, 0x81000043)
    with pytest.raises(TpmError, match="no key at 0x81000043"):
        use(child, tpm)


@pytest.mark.parametrize("reference", ["handle:", "handle:81", "handle:0x80000001", "handle:key"])
def test_what_is_no_handle(reference: str) -> None:
    with pytest.raises(ConfigurationError, match="not the handle of a persistent key"):
        open_key(reference)


def test_references_of_all_kinds(libtpms: Tpm, tmp_path: Path) -> None:
    key = keys.create_key(libtpms, "ecc-p256")
    path = tmp_path / "key"
    path.write_bytes(key.pem())
    for reference in (path, str(path), key.pem(), key.pem().decode(), bytearray(key.pem())):
        with closing(open_key(reference, tcti=libtpms.name)) as made:
            assert made.public_key == keys.public_key(parse_public(key.area))
    private = ec.generate_private_key(ec.SECP256R1())
    assert open_key(private).public_key == private.public_key()
    assert is_tpm_key(key.pem())
    with pytest.raises(ConfigurationError, match="cannot read"):
        open_key(tmp_path / "nothing")


# -- other TPMs ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("need_libtpms")
def test_a_file_is_of_no_use_with_another_tpm(libtpms: Tpm, shared_swtpm: Swtpm) -> None:
    key = keys.create_key(libtpms, "ecc-p256")
    with open_tpm(shared_swtpm.tcti) as other:
        before = transient(other)
        with pytest.raises(TpmError, match="belongs to another TPM than swtpm:"):
            use(key, other)
        assert transient(other) == before


def test_a_key_that_its_tpm_has_lost(tpm: Tpm) -> None:
    damaged = keys.create_key(tpm, "ecc-p256")
    private = bytearray(damaged.private)
    private[-1] ^= 1
    with pytest.raises(TpmError, match="belongs to another TPM"):
        use(KeyFile(damaged.area, bytes(private)), tpm)


def test_no_tpm_at_all() -> None:
    with pytest.raises(TpmUnavailable):
        open_key("handle:0x81000001", tcti="swtpm:host=127.0.0.1,port=1")


@pytest.fixture
def owned(swtpm: Swtpm) -> str:
    """A TPM whose owner has a password."""
    with open_tpm(swtpm.tcti) as tpm:
        tpm.run(Command(0x129, (OWNER,), b"\0\5owner", bytes, 1))  # TPM2_HierarchyChangeAuth
    return swtpm.tcti


@pytest.mark.parametrize(
    ("password", "words"),
    [(None, "has a password.*--owner-auth"), (b"other", "has another password")],
    ids=["none", "another"],
)
def test_an_owner_with_a_password_has_to_be_named(
    owned: str, password: bytes | None, words: str
) -> None:
    with open_tpm(owned, owner_password=b"owner") as tpm:
        made = keys.create_key(tpm, "ecc-p256")
        keys.persist(tpm, made, 0x81000045)
    with open_tpm(owned, owner_password=password) as tpm:
        for act in (
            lambda: keys.create_key(tpm, "ecc-p256"),
            lambda: keys.load_key(tpm, made),
            lambda: keys.remove(tpm, 0x81000045),
            lambda: TpmBackend(tpm, {"hkdf"}, encrypt_bus=True),
            lambda: Storage(tpm).seal(b"data"),
        ):
            with pytest.raises(TpmAuthError, match=words):
                act()
        assert keys.persistent_key(tpm, 0x81000045).public  # to use it needs no owner


@pytest.mark.parametrize("encrypt_bus", [False, True])
def test_the_owners_password_opens_everything(owned: str, encrypt_bus: bool) -> None:
    with open_tpm(owned, owner_password=b"owner") as tpm:
        made = keys.create_key(tpm, "ecc-p256")
        backend = TpmBackend(tpm, {"hkdf"}, encrypt_bus=encrypt_bus)
        at_rest(backend)
        signer = backend.signer(made.pem())
        assert signer.sign(signer.schemes[0], b"data")
        keys.persist(tpm, made, 0x81000046)
        assert keys.remove(tpm, 0x81000046)
        with tpm.device.recording() as recorder:
            Storage(tpm).seal(b"data")
        assert bool(recorder.find(b"owner")) is not encrypt_bus
    with closing(open_key(made.pem(), tcti=owned, owner_password=b"owner")) as signer:
        assert signer.sign(signer.schemes[0], b"data")


def test_an_owners_password_has_an_end(libtpms: Tpm) -> None:
    with pytest.raises(ConfigurationError, match="at most 64 octets"):
        open_tpm(libtpms.name, owner_password=bytes(65))
