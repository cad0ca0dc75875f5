"""Names that Windows cannot have are escaped."""

import pytest

from foir.filenames import safe_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mini-trunk:6", "mini-trunk_6"),
        ("openclip:ViT-B-32/laion2b", "openclip_ViT-B-32_laion2b"),
        ("foveal|phs", "foveal_phs"),
        ("a\x00b\tc", "a_b_c"),
        ("nul", "_nul"),
        ("COM1.json", "_COM1.json"),
        ("dots.", "dots_"),
        ("..", "._"),
        ("", "_"),
        ("Urlaub 2024", "Urlaub 2024"),
    ],
)
def test_names_are_safe_on_every_system(text, name):
    assert safe_name(text) == name
