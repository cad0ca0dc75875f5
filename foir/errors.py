"""Errors that a caller may see; each message says in one sentence what is wrong and what to do."""


class FoirError(Exception):
    """Base class of every error that foir raises on purpose."""


class BadImage(FoirError):
    """An image cannot be read: damaged, too large, or no image at all."""


class BadPrompt(FoirError):
    """A point, box, stroke, mask, option or argument does not fit the image, the model or its type."""


class BadIndex(FoirError):
    """An index is damaged, incomplete, or of another encoder or format."""


class Unavailable(FoirError):
    """Something outside foir is missing: weights, a data set, the network, an optional package."""
