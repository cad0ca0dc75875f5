"""`python -m foir`; see `foir.cli.main`."""

import sys

from foir.cli.main import main

sys.exit(main(prog="python -m foir"))
