"""`python -m tlsconform.cli`."""

import sys

from tlsconform.cli import main

if __name__ == "__main__":
    sys.exit(main())
