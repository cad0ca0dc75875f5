"""The text model is verified before it is read."""

import pytest

from foir import Unavailable
from foir.mini import text_encoder


def test_the_text_model_is_checked_before_it_is_read(monkeypatch):
    monkeypatch.setattr(text_encoder, "SHA256", "0" * 64)
    with pytest.raises(Unavailable, match="reinstall"):
        text_encoder.load_minilm.__wrapped__()
