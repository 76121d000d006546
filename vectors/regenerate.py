#!/usr/bin/env python3
"""Make the vectors from the texts of RFC 8448 and RFC 5869, or check them; see `--help`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from vectors.vectorlib.cli import main

    sys.exit(main())
