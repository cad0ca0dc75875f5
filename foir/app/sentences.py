"""Sentences of the page about a search and its results."""

from __future__ import annotations

from foir.app.sessions import Session
from foir.index import Item


def facts_line(item: Item) -> str:
    """What an image says about itself, in one sentence; empty where it says nothing."""
    parts = []
    if item.taken_at is not None and item.taken_from == "exif":
        parts.append(f"taken {item.taken_at:%Y-%m-%d %H:%M}")
    if item.camera:
        parts.append(f"with {item.camera}" if parts else f"taken with {item.camera}")
    line = " ".join(parts)
    if item.rating:
        line += f"{', ' if line else ''}{item.rating} of 5 stars"
    if item.keywords:
        line += f"{', ' if line else ''}tagged {item.keywords.replace(chr(10), ', ')}"
    return f"{line[:1].upper()}{line[1:]}." if line else ""


def query_summary(session: Session) -> str:
    """One line about the marks and the heads that are used; empty without a prompt."""
    results, prompt = session.results, session.prompt
    if results is None or results.mask is None or prompt is None:
        return ""
    counts = (("point", prompt.points), ("box", prompt.boxes), ("stroke", prompt.strokes))
    marks = " and ".join(_count(len(made), name) for name, made in counts if made)
    share = 100 * float(results.mask.pixels.mean())
    size = f"{share:.0f} %" if share >= 1 else "less than 1 %"
    outlined = ", extended to the whole object" if session.outlined else ""
    line = f"{marks}{outlined}: {size} of the image."
    if results.heads is not None and results.features is not None:
        heads = f"{len(results.heads)} of {results.features.z.shape[1]} attention heads"
        line += f" {heads} are used." if session.forced_heads else f" The {heads} that attend to it most are used."
    return line[:1].upper() + line[1:]


def _count(count: int, name: str) -> str:
    plural = f"{name}es" if name.endswith("x") else f"{name}s"
    return f"a {name}" if count == 1 else f"{count} {plural}"


def results_note(session: Session) -> str:
    """What the results are, in one sentence."""
    text, negative_text = session.texts.get("text"), session.texts.get("negative_text")
    ranking = f", without \u201c{negative_text}\u201d" if negative_text else ""
    ranking += ", ranked with your feedback" if session.is_judged else ""
    if session.results is not None and session.results.likely is not None:
        return _likely_note(session.results.likely, len(session.results.items), session, ranking)
    if session.results is None or session.results.mask is None:
        return f"Images of \u201c{text}\u201d{ranking}, best first."
    also = f" and \u201c{text}\u201d" if text else ""
    if session.prompt is not None:
        return f"Images with the object you marked{also}{ranking}, best first."
    return f"Images similar to this one{also}{ranking}. Draw a box around an object to search for it."


def _likely_note(likely: int, count: int, session: Session, ranking: str) -> str:
    """How many of the results likely hold what was searched for."""
    text = session.texts.get("text")
    named = f"\u201c{text}\u201d" if text else ""
    is_pointed = session.prompt is not None and session.results is not None and session.results.mask is not None
    thing = "the object you marked" if is_pointed else ""
    wanted = " and ".join(each for each in (thing, named) if each)
    if not likely:
        return f"Nothing here is likely to show {wanted}{ranking}. These scenes come closest."
    if likely == count:
        return f"All of these {count} images likely show {wanted}{ranking}, best first."
    images = "1 image likely shows" if likely == 1 else f"{likely} images likely show"
    return f"{images} {wanted}{ranking}, best first; similar scenes follow."
