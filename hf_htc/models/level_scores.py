"""Scores of labels from one state a level, the reading of both prompt methods.

Legend: `B` documents, `N` labels, `L` levels, `E` embedding size.
"""

import numpy as np
import torch
from transformers import initialization as init

from .modules import HTCModule


class LevelScores(HTCModule):
    """
    `score_n = h_level(n) . e_n`: each label is compared with the state of its own level only, one product a level.

    Args:
        config ([`HTCConfig`]): Its hierarchy.
    """

    def __init__(self, config):
        super().__init__()
        order, self.sizes = self._arrays(config.get_hierarchy())
        self.is_sorted = bool(np.array_equal(order, np.arange(len(order))))
        self.register_buffer("level", torch.empty(len(order), dtype=torch.long), persistent=False)
        self.register_buffer("order", torch.empty(len(order), dtype=torch.long), persistent=False)
        self.register_buffer("place", torch.empty(len(order), dtype=torch.long), persistent=False)

    @staticmethod
    def _arrays(hierarchy):
        """Label ids by level, and how many labels each level has."""
        levels = hierarchy.levels[: hierarchy.num_labels]
        return np.argsort(levels, kind="stable"), np.bincount(levels - 1, minlength=hierarchy.num_levels).tolist()

    @torch.no_grad()
    def init_weights(self, config):
        hierarchy = config.get_hierarchy()
        order = torch.as_tensor(self._arrays(hierarchy)[0], device="cpu")
        init.copy_(self.level, torch.as_tensor(hierarchy.levels[: hierarchy.num_labels] - 1, device="cpu"))
        init.copy_(self.order, order)
        init.copy_(self.place, torch.argsort(order))

    def forward(self, states, vectors):
        """
        Args:
            states (`torch.Tensor` of shape `(B, L, E)`), vectors (`torch.Tensor` of shape `(N, E)`).

        Returns:
            `torch.Tensor` of shape `(B, N)`.
        """
        vectors = vectors if self.is_sorted else vectors.index_select(0, self.order)
        parts = [state @ part.T for state, part in zip(states.unbind(1), vectors.split(self.sizes))]
        scores = torch.cat(parts, 1)
        return scores if self.is_sorted else scores.index_select(1, self.place)

    def of_levels(self, values):
        """Brings one value a level, `(B, L)`, to the labels: `(B, N)`."""
        return values.index_select(1, self.level)
