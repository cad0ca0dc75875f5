"""How the region vectors of an index are made: what an index records, and what a query must repeat."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from foir.errors import BadIndex, BadPrompt
from foir.regions.windows import SCALES

MAX_LIMIT = 256  # vectors of a picture
MAO = "mao"  # one vector for all objects of a picture, instead of one for each region


class RegionRecipe(BaseModel):
    """A recipe. It may come from a stranger's index.

    Attributes:
        way: Turns an area into a vector: a name of `foir.regions.ways`, or "mao" for one vector of all objects.
        views: What is encoded: the "whole" picture; also four "tiles" of it; or also "crops" of its objects at their
            own resolution.
        limit: Vectors kept of a picture, 1 to 256; more are merged (`foir.regions.compress`).
        scales: The windows of a view (`foir.regions.windows`).
        finder: What detects objects for "crops" and "mao"; "" where none is needed.
        mode: Settings of MaO as JSON; "" for other ways.
        mean: What a way subtracts (`foir.regions.ways.RegionWay.centred`), [dim]; None subtracts nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    way: Annotated[str, Field(max_length=40)] = "blended"
    views: Literal["whole", "tiles", "crops"] = "whole"
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 16
    scales: tuple[tuple[Annotated[float, Field(gt=0, le=1)], Annotated[int, Field(ge=1, le=16)]], ...] = Field(
        default=tuple(SCALES), min_length=1, max_length=8
    )
    finder: Annotated[str, Field(max_length=200)] = ""
    mode: Annotated[str, Field(max_length=4096)] = ""
    mean: tuple[FiniteFloat, ...] | None = Field(default=None, max_length=2**16)

    @model_validator(mode="after")
    def _is_whole(self) -> RegionRecipe:
        if self.way == MAO and (self.views, self.limit) != ("whole", 1):
            raise ValueError("MaO makes one vector of the whole picture")
        return self

    @classmethod
    def choose(cls, limit: int, way: str, views: str) -> RegionRecipe | None:
        """The recipe of a build; None for no regions.

        Raises:
            BadPrompt: There is no such recipe.
        """
        from foir.regions.ways import find_way

        if limit == 0:
            return None
        if way == MAO:
            if views != "whole":
                raise BadPrompt("MaO makes one vector of the whole picture: leave the views out.")
            if limit not in (1, cls().limit):
                raise BadPrompt(f"MaO makes one vector of a picture, not {limit}: leave the number out.")
            return cls(way=way, limit=1)
        find_way(way)
        try:
            return cls.model_validate({"way": way, "views": views, "limit": limit})
        except ValidationError as error:
            first = error.errors()[0]
            raise BadPrompt(f"Regions: {first['loc'][0]} {first['msg'].lower()}, not {first['input']!r}.") from error

    @property
    def needs_objects(self) -> bool:
        """Whether objects are looked for on every picture."""
        return self.way == MAO or self.views == "crops"

    def to_json(self) -> str:
        """As an index stores it."""
        return self.model_dump_json(exclude_none=True)

    @classmethod
    def from_json(cls, text: str, dim: int | None = None) -> RegionRecipe:
        """Read what an index stores.

        Args:
            text: From `to_json`.
            dim: Numbers of the index's vectors, which the mean must have too.

        Raises:
            BadIndex: It is no recipe of this version of foir.
        """
        from foir.regions.ways import region_ways

        try:
            recipe = cls.model_validate_json(text)
        except ValidationError as error:
            raise BadIndex("The regions of this index were made by a recipe that this foir does not know.") from error
        if recipe.way not in (MAO, *region_ways()):
            raise BadIndex(f"The regions of this index were made by {recipe.way!r}, which this foir does not know.")
        if recipe.mean is not None and dim is not None and len(recipe.mean) != dim:
            raise BadIndex("The regions of this index do not fit its vectors: build it again.")
        return recipe
