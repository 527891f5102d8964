"""Where vectors of questions may be found that were asked before."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.principal import Principal
from retrieval.hosted import Space

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Awaitable[Vectors]]


class Questions(Protocol):
    """Remembers vectors of questions for whoever may have them."""

    async def embedded(self, principal: Principal, texts: Sequence[str], space: Space, embed: Embed) -> Vectors:
        """The vectors of these texts, in their order; those that are not known are made by `embed`.

        Returns: float32[n, dimensions], rows L2-normalised.
        Raises: as `embed` does.
        """
        ...
