"""`python -m index_build`; see `index_build.cli`."""

import sys

from index_build.cli import main

sys.exit(main())
