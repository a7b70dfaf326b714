"""Which of a model's versions are served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which of the versions in a base path are served."""

    newest: int | None = 1
    """So many, the highest numbers; None: all."""
    specific: tuple[int, ...] = ()
    """These and no others, where there are any."""

    def candidates(self, there: Iterable[int]) -> list[int]:
        """The versions that may be served of those that are there, the highest first."""
        return sorted((one for one in there if not self.specific or one in self.specific), reverse=True)

    def attainable(self, there: Iterable[int], loaded: Container[int]) -> set[int]:
        """The versions that may come to be served, or stay so, where some of those that are there are loaded now."""
        candidates = self.candidates(there)
        served = [one for one in candidates if one in loaded][: self.most]
        least = served[-1] if self.most is not None and len(served) == self.most else 0
        return {one for one in candidates if one >= least}

    @property
    def most(self) -> int | None:
        """How many of the candidates are served, from the first on; None: all of them."""
        return None if self.specific else self.newest
