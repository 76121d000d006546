"""Make the vectors from the texts of RFC 8448 and RFC 5869 and from seeds, or check them."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import library
from .aead_cases import WycheproofError, build_records, build_wycheproof
from .documents import build_documents
from .flips import Report, flip_all
from .problems import Problem
from .replay import find_replay, protection_problems, replay_problems
from .rfc_text import RfcTextError
from .wire import WireError

OK, FAILED, USAGE = 0, 1, 2
SAMPLE_SEED = 9846
EPILOG = """\
examples:
  regenerate.py --rfc8448 rfc8448.txt --rfc5869 rfc5869.txt
      write the JSON files and SHA256SUMS
  regenerate.py --rfc8448 rfc8448.txt --rfc5869 rfc5869.txt --check
      compare the files with the texts octet for octet, and do what --check alone does
  regenerate.py --wycheproof testvectors_v1 --check
      the same for the cases of Project Wycheproof, from that folder of its repository
  regenerate.py --check
      no texts: follow the schemas, recompute every value from the others, replay
  regenerate.py --self-test exhaustive
      flip every bit of every value; the checks must notice each

exit status: 0 all is well, 1 a check failed, 2 usage or an unreadable text
"""


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="regenerate.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rfc8448", type=Path, metavar="PATH", help="RFC 8448 as plain text")
    parser.add_argument("--rfc5869", type=Path, metavar="PATH", help="RFC 5869 as plain text")
    parser.add_argument(
        "--wycheproof", type=Path, metavar="FOLDER", help="Wycheproof's folder testvectors_v1"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; check the files, against the texts where given",
    )
    parser.add_argument(
        "--self-test",
        choices=["sample", "exhaustive"],
        help="flip octets of every hex value and show that --check notices: a second or a minute",
    )
    parser.add_argument("--quiet", action="store_true", help="print problems only")
    options = parser.parse_args(argv)
    given = options.rfc8448 or options.rfc5869 or options.wycheproof
    if not (given or options.check or options.self_test):
        parser.error("nothing to do: give a text, --check or --self-test (see --help)")
    return options


def generated() -> dict[str, dict[str, Any]]:
    """The documents that no text is needed for."""
    return {"records": build_records()}


def write(documents: dict[str, dict[str, Any]]) -> None:
    """Write documents, and the sums of all files."""
    for name, document in documents.items():
        path = library.ROOT / library.FILES[name]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(library.encode(document))
    library.SUMS.write_text(library.sums(), "ascii")


def differences(documents: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    """Files that are not what the texts make."""
    for name, document in documents.items():
        path = library.ROOT / library.FILES[name]
        if not path.exists() or path.read_bytes() != library.encode(document):
            yield Problem(
                name,
                library.FILES[name],
                "is not what the RFC's text makes; write it again and look at the difference",
            )


def check() -> Iterator[Problem]:
    """Everything that can be checked without the texts; values once all is readable."""
    unreadable = list(malformed())
    yield from unreadable or library.sums_problems()
    if unreadable:
        return
    shelf = library.Library()
    for name in library.PATHS:
        yield from shelf.problems(name)
        yield from replay_problems(shelf, name)
    for name in library.FILES:
        yield from protection_problems(shelf, name)


def malformed() -> Iterator[Problem]:
    """Files that are missing, are not JSON or do not follow their schema."""
    for name, path in library.FILES.items():
        try:
            document = library.load(name)
        except FileNotFoundError:
            yield Problem(name, path, "is missing")
        except ValueError as error:
            yield Problem(name, path, f"is not JSON: {error}")
        else:
            if library.can_validate():
                yield from library.schema_problems(name, document)


def describe_check(compared: dict[str, dict[str, Any]]) -> str:
    """What a check without problems has shown, and what it could not look at."""
    done = ["every value recomputed"]
    done += [f"{len(compared)} files equal to the texts, octet for octet"] if compared else []
    done += (
        ["schemas followed"]
        if library.can_validate()
        else ["schemas not looked at (no jsonschema)"]
    )
    asked = "replayed in both roles, and the AEAD cases run, by the reference"
    done += [asked] if find_replay() else ["not replayed (no tpmtls)"]
    done += [f"{len(library.COLLECTED)} more of Wycheproof held by SHA256SUMS"]
    return f"{len(library.PATHS)} files: " + ", ".join(done)


def describe_flips(report: Report) -> str:
    """One line about a document's flips."""
    idle = len(report.without_information)
    rest = f", {idle} of bits that X25519 ignores (held by SHA256SUMS)" if idle else ""
    size = f"{report.fields} values, {report.octets} octets"
    return f"{report.document}: {size}: {report.caught} of {report.flips} flips noticed{rest}"


def self_test(mode: str, quiet: bool) -> Iterator[Problem]:
    """Flip octets and report the flips that nothing notices."""
    for report in flip_all(SAMPLE_SEED if mode == "sample" else None):
        if not quiet:
            print(describe_flips(report))
        for flip in report.survivors:
            yield Problem(
                report.document,
                flip.path,
                f"octet {flip.octet} changed by {flip.mask:#04x}: not noticed",
            )


def run(options: argparse.Namespace, documents: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    """Do what the command line says."""
    if options.check:
        yield from differences(documents | generated())
        yield from check()
    elif documents:
        write(documents | generated())
        yield from check()
    if options.self_test:
        yield from self_test(options.self_test, options.quiet)


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = arguments(argv)
    try:
        documents = build_documents(options.rfc8448, options.rfc5869)
        documents |= build_wycheproof(options.wycheproof) if options.wycheproof else {}
        problems = list(run(options, documents))
    except (RfcTextError, WycheproofError, WireError, OSError, UnicodeDecodeError) as error:
        print(f"regenerate.py: {error}", file=sys.stderr)
        return USAGE
    for problem in problems:
        print(f"regenerate.py: {problem}", file=sys.stderr)
    if problems:
        return FAILED
    if not options.quiet and (options.check or documents):
        print(describe_check(documents))
    return OK
