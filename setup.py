"""The packages of the wheel; everything else is in pyproject.toml.

The top-level packages `eval` and `index_build` are installed as `foir.eval` and `foir.index_build`, so that they
collide with no package or folder of these common names. Both import themselves relatively for this reason.
"""

from setuptools import find_packages, setup

DOORS = ("eval", "index_build")

setup(
    packages=find_packages(include=["foir", "foir.*"])
    + [f"foir.{name}" for door in DOORS for name in find_packages(include=[door, f"{door}.*"])],
    package_dir={f"foir.{door}": door for door in DOORS},
)
