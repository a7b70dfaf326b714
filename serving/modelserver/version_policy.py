"""Which of a model's versions are served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


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

    @property
    def most(self) -> int | None:
        """How many of the candidates are served, from the first on; None: all of them."""
        return None if self.specific else self.newest
