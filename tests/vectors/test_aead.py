"""GCM and CCM against the cases of NIST's CAVP and of Wycheproof, and records against our own.

All cases run on a block cipher with ECB alone, and each tenth on every other choice of modes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cryptography_vectors
import jsonschema
import pytest

from tests.block_ciphers import FACTORIES, Factory
from tpmtls.aead import Ccm, Gcm, Records
from tpmtls.aead.ghash import Ghash
from tpmtls.algorithms import SUITES
from tpmtls.codepoints import CipherSuite
from vectors.vectorlib import library
from vectors.vectorlib.aead_cases import WycheproofError, build_wycheproof
from vectors.vectorlib.reference_replay.protection import record_problems, wycheproof_problems

AES = Path(cryptography_vectors.__file__).parent / "ciphers" / "AES"
VERSION = cryptography_vectors.__version__
SAMPLED = 10
"""Of so many cases one runs where not all do."""


@dataclass(frozen=True)
class Case:
    """A message, its protected form, and whether that must open."""

    name: str
    key: bytes
    nonce: bytes
    additional_data: bytes
    plaintext: bytes | None
    sealed: bytes
    tag_length: int
    valid: bool


def verify(mode: type[Gcm | Ccm], factory: Factory, case: Case) -> None:
    """Open a case, and seal it again if it is to open; with GCM by both ways to hash."""
    cipher = factory(case.key)
    if mode is Ccm:
        verify_by(Ccm(cipher, case.tag_length), case)
    else:
        verify_by(Gcm(cipher, case.tag_length), case)
        verify_by(Gcm(cipher, case.tag_length, Ghash), case)


def verify_by(aead: Gcm | Ccm, case: Case) -> None:
    opened = aead.open(case.nonce, case.additional_data, case.sealed)
    assert opened == (case.plaintext if case.valid else None), case.name
    if opened is not None:
        assert aead.seal(case.nonce, case.additional_data, opened) == case.sealed, case.name


# -- NIST CAVP -------------------------------------------------------------------------------------


def cavp(path: Path) -> Iterator[dict[str, str]]:
    """The cases of a response file: what stands at a case, over what stands above it."""
    above: dict[str, str] = {}
    case: dict[str, str] | None = None
    for line in path.read_text("ascii").splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if line.startswith(("[", "Count")) and case is not None:
            yield above | case
            case = None
        if line.startswith("["):
            pairs = line.strip("[]").split(",")
            above |= {n.strip(): v.strip() for n, _, v in (pair.partition("=") for pair in pairs)}
        elif name == "Count":
            case = {"name": f"{path.name} {value}"}
        elif name == "FAIL" and case is not None:
            case["Result"] = "Fail"
        elif equals:
            (above if case is None else case)[name] = value
    if case is not None:
        yield above | case


def gcm_case(fields: dict[str, str]) -> Case:
    valid = fields.get("Result") != "Fail"
    octets = {name: bytes.fromhex(fields[name]) for name in ("Key", "IV", "AAD", "CT", "Tag")}
    return Case(
        f"{fields['name']} of {[fields[name] for name in ('IVlen', 'PTlen', 'AADlen', 'Taglen')]}",
        octets["Key"],
        octets["IV"],
        octets["AAD"],
        bytes.fromhex(fields["PT"]) if valid else None,
        octets["CT"] + octets["Tag"],
        len(octets["Tag"]),
        valid,
    )


def ccm_case(fields: dict[str, str]) -> Case:
    """One octet stands for none in these files; the lengths tell."""
    valid = fields.get("Result") != "Fail"
    plaintext_length = int(fields["Plen"])
    return Case(
        fields["name"],
        bytes.fromhex(fields["Key"]),
        bytes.fromhex(fields["Nonce"]),
        bytes.fromhex(fields["Adata"])[: int(fields["Alen"])],
        bytes.fromhex(fields["Payload"])[:plaintext_length] if valid else None,
        bytes.fromhex(fields["CT"]),
        int(fields["Tlen"]),
        valid,
    )


CAVP = {
    Gcm: (gcm_case, sorted((AES / "GCM").glob("*.rsp"))),
    Ccm: (ccm_case, sorted((AES / "CCM").glob("*.rsp"))),
}
TOTALS = {Gcm: 47250, Ccm: 2880}
SAMPLES = {Gcm: 4728, Ccm: 288}
FILES = [(mode, path) for mode, (_, paths) in CAVP.items() for path in paths]
each_file = pytest.mark.parametrize(
    ("mode", "path"), FILES, ids=[f"{path.parent.name}-{path.stem}" for _, path in FILES]
)
OTHERS = [name for name in FACTORIES if name != "ECB"]


def cases(mode: type[Gcm | Ccm], path: Path) -> list[Case]:
    return [CAVP[mode][0](fields) for fields in cavp(path)]


@pytest.mark.parametrize("mode", TOTALS)
def test_number_of_cavp_cases(mode: type[Gcm | Ccm]) -> None:
    files = [cases(mode, path) for path in CAVP[mode][1]]
    assert sum(map(len, files)) == TOTALS[mode]
    assert sum(len(file[::SAMPLED]) for file in files) == SAMPLES[mode]
    refused = sum(not case.valid for file in files for case in file)
    assert refused == {Gcm: 11908, Ccm: 480}[mode]


@each_file
def test_cavp(mode: type[Gcm | Ccm], path: Path, row: Any) -> None:
    row(
        what=f"AES-{mode.name} from ECB, CAVP: {TOTALS[mode]:,} cases",
        against="cryptography-vectors",
        version=VERSION,
    )
    for case in cases(mode, path):
        verify(mode, FACTORIES["ECB"], case)


@each_file
def test_cavp_from_other_modes(mode: type[Gcm | Ccm], path: Path, row: Any) -> None:
    row(
        what=f"AES-{mode.name}, other modes, CAVP: {SAMPLES[mode]:,} of {TOTALS[mode]:,}",
        against="cryptography-vectors",
        version=VERSION,
    )
    for case in cases(mode, path)[::SAMPLED]:
        for name in OTHERS:
            verify(mode, FACTORIES[name], case)


# -- Wycheproof ------------------------------------------------------------------------------------

WYCHEPROOF: dict[str, type[Gcm | Ccm]] = {"wycheproof-gcm": Gcm, "wycheproof-ccm": Ccm}


def wycheproof(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = library.load(name)["cases"]
    return found


def verify_wycheproof(name: str, factory: Factory) -> int:
    """Open and seal the cases whose key the cipher takes; how many those are."""
    taken = [case for case in wycheproof(name) if len(case["key"]) // 2 in factory.key_sizes]
    assert list(wycheproof_problems(name, WYCHEPROOF[name], taken, factory)) == []
    return len(taken)


@pytest.mark.parametrize("name", WYCHEPROOF)
def test_wycheproof_can_fail(name: str) -> None:
    for case in wycheproof(name)[::SAMPLED]:
        case["result"] = "invalid" if case["result"] == "valid" else "valid"
        case["flags"] = [] if len(case["flags"]) else ["InvalidTagSize"]
        (problem,) = wycheproof_problems(name, WYCHEPROOF[name], [case])
        assert problem.path == f"case {case['id']}"


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("name", WYCHEPROOF)
def test_wycheproof(name: str, factory: str, row: Any) -> None:
    collected = wycheproof(name)
    row(
        what=f"AES-{WYCHEPROOF[name].name}: {len(collected)} cases from each cipher",
        against="Wycheproof",
        version=library.load(name)["source"]["version"],
    )
    assert verify_wycheproof(name, FACTORIES[factory]) == len(collected)


@pytest.mark.parametrize("name", WYCHEPROOF)
def test_wycheproof_follows_its_schema(name: str) -> None:
    document = library.load(name)
    validator = jsonschema.Draft202012Validator(library.schema(name))
    assert validator.is_valid(document)
    document["cases"][0]["colour"] = "red"
    assert not validator.is_valid(document)


def test_other_files_are_not_wycheproofs(tmp_path: Path) -> None:
    (tmp_path / "aes_gcm_test.json").write_text('{"testGroups": []}')
    with pytest.raises(WycheproofError, match="not Wycheproof's AEAD tests"):
        build_wycheproof(tmp_path)


# -- records ---------------------------------------------------------------------------------------

RECORDS = library.load("records")["cases"]
BLOCK_CIPHER_RECORDS = [case for case in RECORDS if "CHACHA" not in case["suite"]]


def octets(case: dict[str, str], *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


@pytest.mark.parametrize("factory", FACTORIES)
def test_records_from_a_block_cipher(factory: str, row: Any) -> None:
    row(
        what=f"{len(BLOCK_CIPHER_RECORDS)} records from each cipher",
        against="cryptography",
        version=VERSION,
    )
    for case in BLOCK_CIPHER_RECORDS:
        key, iv, sequence, header, inner, record = octets(
            case, "key", "iv", "sequence", "header", "inner_plaintext", "encrypted_record"
        )
        suite = SUITES[CipherSuite[case["suite"]]]
        mode = Gcm if suite.aead == "aes-gcm" else Ccm
        number = int.from_bytes(sequence, "big")
        records = Records(mode(FACTORIES[factory](key), suite.tag_length), iv)
        assert records.seal(number, header, inner) == record
        assert records.open(number, header, record) == inner


@pytest.mark.row(what=f"{len(RECORDS)} records by the software backend", against="cryptography")
def test_records_by_the_software_backend() -> None:
    assert list(record_problems("records", RECORDS)) == []


def test_records_can_fail() -> None:
    case = {**RECORDS[0], "inner_plaintext": "18"}
    assert [str(problem) for problem in record_problems("records", [case])] == [
        "records: case 0: the reference seals it otherwise",
        "records: case 0: the reference does not open it",
    ]
