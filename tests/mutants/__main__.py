"""Run the whole suite on every mutant, and write down what kills it: python -m tests.mutants."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.mutants.mutation import KILLERS, Mutant, Outcome, examine, known_killers, mutants


def _examine(mutant: Mutant) -> tuple[Mutant, Outcome]:
    return mutant, examine(mutant, known_killers().get(mutant.name))


def main() -> int:
    """Write `killers.json`; names of mutants as arguments restrict it to these."""
    chosen = [mutant for mutant in mutants() if not sys.argv[1:] or mutant.name in sys.argv[1:]]
    killers, survivors = known_killers(), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, outcome in pool.map(_examine, chosen):
            print(f"{mutant.role:<7} {mutant.name}: {outcome.killer or 'SURVIVES'}", flush=True)
            survivors += outcome.killer is None
            if outcome.killer is not None:
                killers[mutant.name] = outcome.killer
    names = [mutant.name for mutant in mutants()]
    kept = {name: killers[name] for name in names if name in killers}
    KILLERS.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
