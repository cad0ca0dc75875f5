"""Print the figures of one module: `python -m tests.reliability visitors`."""

import sys
from importlib import import_module

for name in sys.argv[1:]:
    sys.stdout.write("\n".join([*import_module(f"tests.reliability.{name}").measure(), ""]))
