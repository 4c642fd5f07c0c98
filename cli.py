"""`python cli.py …` from a checkout: the same as the command `cumprop`."""

import sys

try:
    from cumprop.cli import main
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed here: run make install")

if __name__ == "__main__":
    sys.exit(main())
