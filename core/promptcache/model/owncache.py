"""The model's own cache, for a model whose states cannot be cut into tokens and joined again.

Such a model is still served, with everything computed in one forward: its layers keep what they
like, and there is nothing to reuse.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedConfig
from transformers.cache_utils import DynamicCache


class OwnCache(DynamicCache):  # type: ignore[misc]
    """What transformers itself would use, aimed like an arena, which it is not."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config=config.get_text_config())
        self._filled = 0

    def aim(self, positions: Sequence[int], length: int) -> None:
        """Check that the coming forward goes on where the last one ended, without a gap."""
        assert positions[0] == self._filled
        assert positions[-1] == length - 1 == self._filled + len(positions) - 1
        self._filled = length
