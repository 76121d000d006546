"""`python -m tpmtls.cli`."""

import sys

from tpmtls.cli import main

if __name__ == "__main__":
    sys.exit(main())
