"""`python -m tests.reliability [FIGURE ...]` measures the named figures, or all, and prints a line or more for each."""

import importlib
import pkgutil
import sys

import tests.reliability as figures


def main(names: list[str]) -> None:
    for name in names or [module.name for module in pkgutil.iter_modules(figures.__path__)]:
        if name.startswith(("_", "test_")) or name == "disk":
            continue
        told = importlib.import_module(f"tests.reliability.{name}").measure()
        sys.stdout.write("\n".join([f"{name}:", *([told] if isinstance(told, str) else told)]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
