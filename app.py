"""Start the page: `python app.py`, the same as `foir serve`."""

import sys

from foir.app.serve import main

if __name__ == "__main__":
    sys.exit(main())
