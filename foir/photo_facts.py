"""What a photo says about itself in EXIF, XMP and IPTC: when, with which camera, how its owner rated and tagged it.

Nothing else is read: no place, no owner, no name of a computer. The metadata comes from strangers and is often damaged,
so every value is checked and what makes no sense is left out.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from xml.etree import ElementTree

from PIL import ExifTags, Image, IptcImagePlugin
from PIL.ImageFile import ImageFile

MAX_TEXT, MAX_KEYWORDS, MAX_KEYWORD = 256, 64, 100  # characters of a name, keywords, characters of one
MAX_RATING = 5
MAX_SECONDS = 2**36  # from 1970: before the year 4148
MAX_XMP = 2**20  # bytes
_DATES = (  # tags of a time and of its zone, the best first
    (ExifTags.Base.DateTimeOriginal, ExifTags.Base.OffsetTimeOriginal),
    (ExifTags.Base.DateTimeDigitized, ExifTags.Base.OffsetTimeDigitized),
    (ExifTags.Base.DateTime, ExifTags.Base.OffsetTime),
)
_DATE = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d)(?::(\d\d))?")
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")
_RATING, _KEYWORDS_OF_WINDOWS = 0x4746, 0x9C9E
_KEYWORDS_OF_IPTC = (2, 25)
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_SUBJECT, _XMP_RATING = "{http://purl.org/dc/elements/1.1/}subject", "{http://ns.adobe.com/xap/1.0/}Rating"


@dataclass(frozen=True)
class PhotoFacts:
    """What a photo says about itself; None where it does not say.

    Attributes:
        taken: When, by the camera's clock, in seconds since 1970-01-01 00:00 of that clock.
        taken_offset: How far that clock was ahead of UTC, in minutes.
        camera: Make and model.
        lens: Model of the lens.
        rating: 0 to 5 stars.
        keywords: One a line.
    """

    taken: int | None = None
    taken_offset: int | None = None
    camera: str | None = None
    lens: str | None = None
    rating: int | None = None
    keywords: str | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PhotoFacts:
        """Facts that another process sends, which a crafted file may have taken over.

        Raises:
            ValueError: A value is of another kind, or too long.
        """
        numbers = {name: values[name] for name in ("taken", "taken_offset", "rating")}
        texts = {name: values[name] for name in ("camera", "lens", "keywords")}
        if not all(value is None or (type(value) is int and abs(value) < MAX_SECONDS) for value in numbers.values()):
            raise ValueError("a number that is none")
        if not all(value is None or (type(value) is str and len(value) <= 2**13) for value in texts.values()):
            raise ValueError("a text that is none")
        return cls(**numbers, **texts)


def read_facts(image: Image.Image) -> PhotoFacts:
    """The facts of an image that was opened and loaded."""
    values: dict[str, Any] = {}
    keywords: list[str] = []
    with suppress(Exception):  # damaged metadata does not damage the image, and decoders raise nearly anything on it
        values |= _exif_facts(image.getexif(), keywords)
    with suppress(Exception):
        _read_xmp(image.info.get("xmp"), values, keywords)
    with suppress(Exception):
        found: Any = (IptcImagePlugin.getiptcinfo(cast(ImageFile, image)) or {}).get(_KEYWORDS_OF_IPTC, [])
        keywords += [each.decode(errors="replace") for each in ([found] if isinstance(found, bytes) else found)]
    return PhotoFacts(**values, keywords=joined_keywords(keywords))


def _exif_facts(exif: Image.Exif, keywords: list[str]) -> dict[str, Any]:
    """Facts in EXIF data; keywords are added to the list."""
    detail = exif.get_ifd(ExifTags.IFD.Exif)
    values: dict[str, Any] = {"lens": clean_text(detail.get(ExifTags.Base.LensModel))}
    make, model = (clean_text(exif.get(tag)) or "" for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
    values["camera"] = camera_name(make, model)
    for time_tag, zone_tag in _DATES:
        taken = seconds(str(detail.get(time_tag) or exif.get(time_tag) or ""))
        if taken is not None:
            zone = str(detail.get(zone_tag) or exif.get(zone_tag) or "")
            values |= {"taken": taken, "taken_offset": _minutes(zone)}
            break
    rating = exif.get(_RATING)
    if isinstance(rating, int) and 1 <= rating <= MAX_RATING:  # 0 is what cameras write for none
        values["rating"] = rating
    windows = exif.get(_KEYWORDS_OF_WINDOWS)
    if isinstance(windows, bytes | tuple):
        keywords += bytes(windows).decode("utf-16-le", errors="replace").split(";")
    return values


def seconds(text: str) -> int | None:
    """Seconds from 1970 to a time as EXIF or XMP writes it, by its own clock; None where it is no time."""
    match = _DATE.match(text)
    if match is None:
        return None
    try:
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
        return calendar.timegm(datetime(year, month, day, hour, minute, second).timetuple())
    except ValueError:  # 0000:00:00 00:00:00 is what cameras without a clock write
        return None


def camera_name(make: str, model: str) -> str | None:
    """Make and model, the make once: "NIKON CORPORATION" makes the "NIKON D90"."""
    is_named = model.lower().startswith(make.split(" ")[0].lower())
    return (model if is_named else f"{make} {model}".strip())[:MAX_TEXT] or None


def _minutes(text: str) -> int | None:
    match = _OFFSET.match(text)
    return None if match is None else int(f"{match[1]}1") * (60 * int(match[2]) + int(match[3]))


def _read_xmp(xmp: Any, values: dict[str, Any], keywords: list[str]) -> None:
    if not isinstance(xmp, bytes) or len(xmp) > MAX_XMP or b"<!" in xmp:  # no XMP has entities, which can grow
        return
    root = ElementTree.fromstring(xmp.rstrip(b"\0"))  # noqa: S314 - without entities, and of a limited size
    for subject in root.iter(_SUBJECT):
        keywords += [entry.text or "" for entry in subject.iter(f"{_RDF}li")]
    ratings = [found for each in root.iter(f"{_RDF}Description") if (found := each.get(_XMP_RATING))]
    ratings += [each.text or "" for each in root.iter(_XMP_RATING)]
    for rating in ratings[:1]:
        if 0 <= float(rating) <= MAX_RATING:  # -1 is "rejected"
            values["rating"] = int(float(rating))


def clean_text(value: Any) -> str | None:
    """A text of metadata on one line, without what is not printable; None where nothing is left."""
    if not isinstance(value, str):
        return None
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())[:MAX_TEXT] or None


def joined_keywords(keywords: Iterable[Any]) -> str | None:
    """Keywords one a line, each once."""
    texts = dict.fromkeys(text[:MAX_KEYWORD] for text in map(clean_text, keywords) if text)
    return "\n".join(list(texts)[:MAX_KEYWORDS]) or None
