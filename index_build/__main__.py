"""Run with `python -m index_build`; see `index_build.cli`."""

import sys

from .cli import main

sys.exit(main())
