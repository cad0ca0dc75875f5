"""What photos say about themselves, in files that Pillow writes; and what none of it may be."""

import io

import pytest
from PIL import Image

from foir import decoders, images
from foir.photo_facts import PhotoFacts, seconds

TAKEN = 1_720_010_096  # 2024-07-03 12:34:56
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    b'xmp:Rating="5"><dc:subject><rdf:Bag><rdf:li>beach</rdf:li><rdf:li>cat</rdf:li></rdf:Bag></dc:subject>'
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def tags(**changes):
    """EXIF data of a camera, a place among it; bytes, which every format writes whole."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x013C] = "NIKON CORPORATION", "NIKON D90\0", "a-host-name"
    exif[0x9C9E] = "cat;Katze".encode("utf-16-le")
    detail = exif.get_ifd(0x8769)
    detail[0x9003], detail[0x9011], detail[0xA434] = "2024:07:03 12:34:56", "-03:30", "50.0 mm f/1.8"
    exif.get_ifd(0x8825)[1] = "N"
    for tag, value in changes.items():
        (detail if tag.startswith("detail") else exif)[int(tag.rpartition("_")[2], 16)] = value
    return exif.tobytes()


def written(kind, **options):
    out = io.BytesIO()
    Image.new("RGB", (24, 16), "teal").save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_facts_in_every_format(kind):
    has_xmp = kind not in ("PNG", "TIFF")  # Pillow writes none there
    data = written(kind, exif=tags(), **({"xmp": XMP} if has_xmp else {}))
    facts = images.read(data).facts
    assert decoders.read(data).facts == facts
    assert (facts.taken, facts.taken_offset) == (TAKEN, -210)
    assert (facts.camera, facts.lens) == ("NIKON D90", "50.0 mm f/1.8")
    if has_xmp:
        assert facts.rating == 5 and facts.keywords is not None
        assert set(facts.keywords.split("\n")) >= {"beach", "cat"}


def test_keywords_of_iptc():
    data = written("JPEG")
    entry = b"\x1c\x02\x19" + len(b"Sonne").to_bytes(2, "big") + b"Sonne"
    block = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(entry).to_bytes(4, "big") + entry
    marker = b"\xff\xed" + (len(block) + 2).to_bytes(2, "big") + block
    assert images.read(data[:2] + marker + data[2:]).facts.keywords == "Sonne"


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"detail_9003": "0000:00:00 00:00:00"}, "taken", None),
        ({"detail_9003": "yesterday", "x_0132": "2020:01:02 03:04"}, "taken", seconds("2020:01:02 03:04:00")),
        ({"detail_9011": "here"}, "taken_offset", None),
        ({"x_010F": "Canon", "x_0110": "EOS 5D"}, "camera", "Canon EOS 5D"),
        ({"x_0110": "a\nb\x1b" + "c" * 999}, "camera", ("NIKON CORPORATION a b " + "c" * 999)[:256]),
        ({"x_4746": 3}, "rating", 3),
        ({"x_4746": 99}, "rating", None),
        ({"x_4746": 0}, "rating", None),
    ],
)
def test_what_makes_no_sense_is_left_out(changes, field, value):
    assert getattr(images.read(written("JPEG", exif=tags(**changes))).facts, field) == value


@pytest.mark.parametrize(
    "xmp",
    [
        b"<no xml",
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>' + XMP.replace(b"beach", b"&b;"),
        XMP.replace(b"5", b"five"),
        b"\xff" * 100,
    ],
)
def test_damaged_or_growing_xmp_costs_only_itself(xmp):
    facts = images.read(written("JPEG", exif=tags(), xmp=xmp)).facts
    assert facts.taken == TAKEN and facts.rating is None and "aaaa" not in (facts.keywords or "")


def test_nothing_of_place_and_computer_is_kept():
    facts = images.read(written("JPEG", exif=tags())).facts
    assert "a-host-name" not in repr(facts)
    assert facts == PhotoFacts(TAKEN, -210, "NIKON D90", "50.0 mm f/1.8", None, "cat\nKatze")


@pytest.mark.parametrize("name, value", [("taken", "now"), ("taken", 2**60), ("camera", 5), ("lens", "x" * 9000)])
def test_another_process_is_not_believed(name, value):
    values = dict.fromkeys(PhotoFacts.__dataclass_fields__)
    assert PhotoFacts.from_json(values) == PhotoFacts()
    with pytest.raises(ValueError, match="that is none"):
        PhotoFacts.from_json(values | {name: value})
