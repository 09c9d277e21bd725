"""`python -m h1core`: the command line."""

import sys

from h1core.drivers.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
