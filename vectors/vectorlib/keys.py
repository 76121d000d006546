"""Section 2's RSA private key, and the certificates that the traces carry."""

from collections.abc import Iterator
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .problems import Problem
from .rfc_text import Line, values_at
from .trace import Trace

# JSON name → RFC 8448's label
_RSA_FIELDS: Final = {
    "modulus": "modulus",
    "public_exponent": "public exponent",
    "private_exponent": "private exponent",
    "prime1": "prime1",
    "prime2": "prime2",
    "exponent1": "exponent1",
    "exponent2": "exponent2",
    "coefficient": "coefficient",
}


def rsa_key(lines: list[Line]) -> dict[str, Any]:
    """The RSA key of section 2, as hex by field, with the line of each."""
    values = values_at(lines, 3)
    page = {line.number: line.page for line in lines}
    first = min(values[label].line for label in _RSA_FIELDS.values())
    key: dict[str, Any] = {name: values[label].octets.hex() for name, label in _RSA_FIELDS.items()}
    where = {name: values[label].line for name, label in _RSA_FIELDS.items()}
    key["source"] = {"page": page[first], "line": first, "values": where}
    return key


def certificates(traces: list[Trace]) -> list[dict[str, Any]]:
    """Each certificate once, in order of appearance, with the messages that carry it."""
    found: dict[str, dict[str, Any]] = {}
    for trace in traces:
        for message in trace.messages():
            for entry in message.fields.get("certificate_list", []):
                der = entry["cert_data"]
                public = public_key_parameters(bytes.fromhex(der))
                row = found.setdefault(
                    der,
                    {
                        "id": f"{message.sender}-{public['type']}",
                        "used_by": [],
                        "der": der,
                        "public_key": public,
                    },
                )
                row["used_by"].append({"trace": trace.name, "message": message.id})
    return list(found.values())


def public_key_parameters(der: bytes) -> dict[str, Any]:
    """The public key of a certificate, as hex."""
    key = x509.load_der_x509_certificate(der).public_key()
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {
            "type": "rsa",
            "modulus": _unsigned(numbers.n),
            "public_exponent": _unsigned(numbers.e),
        }
    if isinstance(key, ec.EllipticCurvePublicKey):
        point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return {"type": "ecdsa", "group": key.curve.name, "point": point.hex()}
    raise ValueError(f"certificate with a key of type {type(key).__name__}")


def key_problems(keys: dict[str, Any], traces: list[Trace]) -> Iterator[Problem]:
    """What is wrong in the keys document: its arithmetic, its certificates."""
    yield from _rsa_problems(keys["rsa_private_key"])
    if keys["certificates"] != certificates(traces):
        yield Problem("keys", "certificates", "not those that the traces carry")
    moduli = {row["public_key"].get("modulus") for row in keys["certificates"]}
    if keys["rsa_private_key"]["modulus"] not in moduli:
        yield Problem("keys", "rsa_private_key.modulus", "not the key of any certificate")


def _rsa_problems(key: dict[str, Any]) -> Iterator[Problem]:
    number = {name: int(key[name], 16) for name in _RSA_FIELDS}
    p, q, d = number["prime1"], number["prime2"], number["private_exponent"]
    relations = {
        "modulus": p * q == number["modulus"],
        "private_exponent": all(
            number["public_exponent"] * d % (prime - 1) == 1 for prime in (p, q)
        ),
        "exponent1": d % (p - 1) == number["exponent1"],
        "exponent2": d % (q - 1) == number["exponent2"],
        "coefficient": q * number["coefficient"] % p == 1 and number["coefficient"] < p,
    }
    for name, holds in relations.items():
        if not holds:
            yield Problem(
                "keys",
                f"rsa_private_key.{name}",
                "does not agree with the other numbers of the key",
            )


def _unsigned(number: int) -> str:
    return number.to_bytes((number.bit_length() + 7) // 8, "big").hex()
