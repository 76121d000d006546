"""Observations made up by hand, one for each profile: what a run is expected to show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tpmtls.audit.model import Crossed, Moment, Observation, SecretSeen, Stay
from tpmtls.backends.base import Place
from tpmtls.backends.ledger import Boundary, Direction, Visibility

PROFILES = {
    "software": (),
    "sign": ("sign",),
    "sign+ecdhe": ("sign", "ecdhe"),
    "sign+ecdhe+hkdf": ("sign", "ecdhe", "hkdf"),
    "all": ("sign", "ecdhe", "hkdf", "aead"),
    "psk": ("sign", "ecdhe", "hkdf", "aead", "psk"),
    "chained": ("sign", "chained"),
    "handle-only": ("sign", "model"),
}
GCM = "TLS_AES_128_GCM_SHA256"
LAST = 10_000
LEAVES = {"write_key", "write_iv", "PSK"}

Key = tuple[int, str, str]


@dataclass
class Fabric:
    """Writes down where secrets are, operation by operation."""

    levels: tuple[str, ...]
    suite: str = GCM
    tickets: int = 1
    """As many connections bring one."""
    instant: int = 0
    stays: dict[Key, list[Stay]] = field(default_factory=lambda: defaultdict(list))
    crossed: dict[Key, list[Crossed]] = field(default_factory=lambda: defaultdict(list))
    since: dict[Key, int] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)

    # -- writing down ------------------------------------------------------------------------------

    def has(self, level: str) -> bool:
        return level in self.levels

    @contextmanager
    def moment(self, name: str, connection: int = 0) -> Iterator[None]:
        first = self.instant + 1
        yield
        self.instant += 1
        self.moments.append(Moment(name, connection, first, self.instant))

    def cross(
        self, key: Key, way: str, via: str, visibility: Visibility = "clear", *, tpm: bool = True
    ) -> None:
        direction: Direction = "out" if way == "out" else "in"
        boundary: Boundary = "tpm" if tpm else "protocol"
        self.crossed[key].append(Crossed(boundary, direction, via, visibility, self.instant))

    def begin(self, key: Key) -> None:
        self.since[key] = self.instant

    def end(self, place: Place, *keys: Key, stored: bool = False) -> None:
        for key in keys:
            self.stays[key].append(Stay(place, self.since.pop(key), self.instant, stored))

    # -- what backends do --------------------------------------------------------------------------

    def place(self, name: str) -> Place:
        if self.has("model"):
            return "model"
        if self.has("chained"):
            return "host" if name in ("write_iv", "ghash_key") else "tpm"
        if name == "ephemeral_key":
            return "tpm" if self.has("ecdhe") else "host"
        if name == "write_key":
            return "tpm" if self.has("aead") else "host"
        inside = self.has("hkdf") and name not in ("write_iv", "ghash_key", "shared_secret", "PSK")
        return "tpm" if inside else "host"

    def make(self, connection: int, name: str, parent: str = "") -> Key:
        """One Extract or Expand; chained, a PSK is not kept."""
        key = connection, parent, name
        self.instant += 1
        if self.has("chained") and name != "write_iv":
            self.cross(key, "out", "TPM2_HMAC", "encrypted")
            self.cross(key, "in", "TPM2_NV_Write", "encrypted")
            self.cross(key, "out", "TPM2_NV_Read", "encrypted")
            self.cross(key, "in", "TPM2_CreateLoaded", "encrypted")
        elif self.has("chained") or (self.has("hkdf") and name in LEAVES):
            self.cross(key, "out", "TPM2_HMAC")
        elif self.has("hkdf"):
            self.cross(key, "out", "TPM2_HMAC")
            self.cross(key, "in", "TPM2_LoadExternal")
        self.begin(key)
        return key

    def drop(self, *keys: Key) -> None:
        for key in keys:
            self.end(self.place(key[2]), key)

    def records(self, secret: Key) -> tuple[Key, ...]:
        """Record protection under a traffic secret: key, IV, and what else it keeps."""
        connection, _, name = secret
        key, iv = self.make(connection, "write_key", name), self.make(connection, "write_iv", name)
        if not (self.has("aead") or self.has("chained")):
            return key, iv
        self.instant += 1
        if not self.has("chained"):  # it was on the host since it was made
            self.stays[key].append(Stay("host", self.since[key], self.instant))
            self.cross(key, "in", "TPM2_LoadExternal")
        self.cross(iv, "in", "TPM2_EncryptDecrypt2")
        if "GCM" not in self.suite:
            return key, iv
        hash_key = connection, name, "ghash_key"
        self.cross(hash_key, "out", "TPM2_EncryptDecrypt2")
        self.begin(hash_key)
        return key, iv, hash_key

    def mac(self, secret: Key) -> None:
        made = self.make(secret[0], "finished_key", secret[2])
        self.drop(made)

    # -- a connection ------------------------------------------------------------------------------

    def hello(self, c: int, *, ticket: bool, early: bool) -> tuple[Key | None, tuple[Key, ...]]:
        """Up to the ClientHello: the Early Secret, and the keys of early data."""
        self.instant += 1
        self.begin((c, "", "ephemeral_key"))
        if self.has("psk"):
            for name in ("finished_key", "derived"):
                self.cross((0, "", name), "in", "TPM2_Load", "encrypted")
            return None, ()
        if not ticket:
            return None, ()
        psk, secret = (c - 1, "", "PSK"), (c, "", "early_secret")
        self.unwrap(psk, secret)
        for each in psk, secret:  # the session cache gives a ticket out once
            self.stays[each] = [
                replace(s, last=self.instant) if s.last == LAST else s for s in self.stays[each]
            ]
        binder = self.make(c, "binder_key")
        self.mac(binder)
        self.drop(binder)
        if not early:
            return secret, ()
        traffic = self.make(c, "client_early_traffic_secret")
        records = self.records(traffic)
        self.drop(traffic)
        return secret, records

    def unwrap(self, psk: Key, secret: Key) -> None:
        if self.has("model"):
            self.instant += 1
        elif self.has("hkdf") or self.has("chained"):
            self.instant += 1
            self.cross(secret, "in", "TPM2_Load", "encrypted")
        elif self.has("sign"):
            self.instant += 1
            self.cross(psk, "out", "TPM2_Unseal")
            self.stays[psk].append(Stay("host", self.instant, self.instant + 1))
        else:
            self.instant += 1
            self.cross(psk, "in", "unwrap", tpm=False)
        self.begin(secret)

    def wrap(self, c: int) -> None:
        """A ticket's PSK, made and stored."""
        psk, secret = self.make(c, "PSK", ""), (c + 1, "", "early_secret")
        self.instant += 1
        kept, place = psk, self.place("PSK")
        if self.has("chained"):
            self.cross(secret, "out", "TPM2_HMAC", "encrypted")
            kept, place = secret, "tpm"
        elif self.has("hkdf"):
            self.cross(psk, "in", "TPM2_HMAC")
            self.cross(secret, "out", "TPM2_HMAC")
            self.cross(secret, "in", "TPM2_Create")
            kept, place = secret, "tpm"
        elif self.has("sign") and not self.has("model"):
            self.cross(psk, "in", "TPM2_Create")
            place = "tpm"
        elif not self.has("model"):
            self.cross(psk, "out", "wrap", tpm=False)
        if self.has("chained"):
            del self.since[psk]
        else:
            self.drop(psk)
        self.stays[kept].append(Stay(place, self.instant, LAST, stored=True))

    def connection(self, c: int, *, ticket: bool, early: bool) -> None:
        open_now: dict[str, tuple[Key, ...]] = {}
        with self.moment(f"{c} ClientHello", c):
            above, early_records = self.hello(c, ticket=ticket, early=early)
        if early_records:
            with self.moment(f"{c} early data", c):
                self.instant += 2
        with self.moment(f"{c} ServerHello", c):
            shared = self.share(c)
            if above is not None:
                salt = self.make(c, "derived", "early_secret")
                self.drop(salt, above)
            main_above = self.make(c, "handshake_secret")
            if self.has("hkdf"):
                self.cross(shared, "in", "TPM2_HMAC")
            if not self.has("chained"):
                self.drop(shared)
            ours = self.make(c, "client_handshake_traffic_secret")
            theirs = self.make(c, "server_handshake_traffic_secret")
            open_now["hs"] = (*self.records(ours), *self.records(theirs))
        with self.moment(f"{c} server Finished", c):
            self.mac(theirs)
            salt = self.make(c, "derived", "handshake_secret")
            main = self.make(c, "main_secret")
            self.drop(salt, main_above)
            stems = [f"{side}_application_traffic_secret" for side in ("client", "server")]
            secrets = [self.make(c, f"{stem}_0") for stem in stems]
            open_now["app"] = tuple(k for each in secrets for k in self.records(each))
            self.mac(ours)
            resumption = self.make(c, "resumption_secret")
            self.drop(main, ours, theirs, *open_now["hs"], *early_records)
        with self.moment(f"{c} data", c):
            if c <= self.tickets:
                self.wrap(c)
            self.instant += 4
        with self.moment(f"{c} KeyUpdate", c):
            later = [self.make(c, f"{stem}_1") for stem in stems]
            self.drop(*secrets, *open_now["app"])
            open_now["app"] = tuple(k for each in later for k in self.records(each))
        with self.moment(f"{c} data again", c):
            self.instant += 4
        with self.moment(f"{c} close", c):
            self.drop(*later, resumption, *open_now["app"])

    def share(self, c: int) -> Key:
        self.instant += 1
        ephemeral, shared = (c, "", "ephemeral_key"), (c, "", "shared_secret")
        self.drop(ephemeral)
        if self.has("chained"):
            self.cross(shared, "out", "TPM2_ECDH_ZGen", "encrypted")
            return shared
        if self.has("ecdhe"):
            self.cross(shared, "out", "TPM2_ECDH_ZGen")
        self.begin(shared)
        return shared

    # -- a run -------------------------------------------------------------------------------------

    def run(self, profile: str, *, early: bool) -> Observation:
        psk = self.has("psk")
        with self.moment("before"):
            if not psk:
                self.begin((0, "", "signing_key"))
            for name in ("finished_key", "derived") if psk else ():
                self.begin((0, "", name))
            if self.has("chained"):
                self.begin((0, "", "authValue"))
                self.cross((0, "", "authValue"), "out", "TPM2_NV_Read", "encrypted")
        self.connection(1, ticket=False, early=False)
        with self.moment("between"):
            self.instant += 3
        self.connection(2, ticket=not psk, early=early)
        with self.moment("after"):
            self.instant += 1
        for key in tuple(self.since):
            self.end("tpm" if self.levels else "host", key, stored=True)
        return Observation(
            profile=profile,
            title=profile,
            suite=self.suite,
            group="secp256r1",
            tpm="libtpms:" if self.levels else None,
            psk=psk,
            early_data=early,
            moments=tuple(self.moments),
            secrets=tuple(self.secrets()),
        )

    def secrets(self) -> Iterable[SecretSeen]:
        for key in dict.fromkeys((*self.stays, *self.crossed)):
            connection, parent, name = key
            stays = tuple(
                Stay(s.place, s.first, min(s.last, self.instant), s.stored) for s in self.stays[key]
            )
            yield SecretSeen(connection, name, parent, "", stays, tuple(self.crossed[key]))


def fabricate(
    profile: str, *, suite: str = GCM, early: bool = True, tickets: int = 1
) -> Observation:
    """What a run of the profile is expected to show."""
    if profile == "psk":
        early, tickets = False, 0
    return Fabric(PROFILES[profile], suite, tickets).run(profile, early=early)
