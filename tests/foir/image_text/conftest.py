"""Two generated pictures."""

import pytest

from tests.conftest import scene


@pytest.fixture(scope="module")
def pictures():
    return [scene(0), scene(1)]
