"""What a user should know about how a query was read, one sentence each."""

from __future__ import annotations

from collections.abc import Collection

from foir.search.scoring import EncodedQuery

ENDINGS = ("s", "es", "ed", "ing", "\u2019s", "'s")  # with which a known word is known too


def query_notes(
    encoded: EncodedQuery, vocabulary: Collection[str] | None, *, regions_count: bool, likely: int | None
) -> tuple[str, ...]:
    """The notes of a query.

    Args:
        encoded: The query.
        vocabulary: All words that the model for words learnt; None where that is not known.
        regions_count: The query is compared with regions of the images.
        likely: The number of likely results; None where no likelihood is fitted.
    """
    notes = () if encoded.image is None else encoded.image.notes
    if encoded.text is None:
        return notes
    if encoded.matches is not None:
        unsaid = encoded.matches.unsaid
        notes += tuple(f"No caption, keyword or file name says \u201c{phrase}\u201d." for phrase in unsaid)
        if vocabulary is not None and not likely:
            unknown = [word for word in encoded.matches.unknown if not _is_known(word, vocabulary)]
            quoted = ", ".join(f"\u201c{word}\u201d" for word in unknown)
            notes += (f"Unknown here: {quoted}. No picture's text says it, and the model never read it.",) * bool(
                unknown
            )
    if regions_count and not encoded.words_meet_regions:
        return (*notes, *encoded.text.notes, "The words are compared with whole images, not with regions.")
    return notes + encoded.text.notes


def _is_known(word: str, vocabulary: Collection[str]) -> bool:
    stems = (word.removesuffix(ending) for ending in ENDINGS if word.endswith(ending))
    return not word.isalpha() or word in vocabulary or any(stem in vocabulary for stem in stems)
