"""The errors a caller may see; each message says what is wrong and what to do, in one sentence."""


class FoirError(Exception):
    """Base of every error foir raises on purpose."""


class BadImage(FoirError):
    """The picture cannot be read: damaged, too large, or not a picture at all."""


class BadPrompt(FoirError):
    """The point, box, stroke, mask or option given makes no sense for this picture or model."""


class BadIndex(FoirError):
    """The index on disk is damaged, half written, or made by another encoder or format."""


class Unavailable(FoirError):
    """Something outside foir is missing: weights, a data set, a network, an optional package."""
