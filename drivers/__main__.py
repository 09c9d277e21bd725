"""`python -m h1core.drivers`, and the `main` behind the `h1core` command."""

import sys

from .cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
