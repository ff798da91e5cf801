"""The network that gives every unit its bound, a dynamic threshold (HBM, Section 3.3)."""

from torch import nn
from transformers import initialization as init

from .modules import HTCModule


class BoundNetwork(HTCModule):
    """
    `t = w2 relu(W1 r + b1)` of a unit's state `r`. The last layer starts at zero and has no bias, so that all bounds start at
    exactly 0, ZLPR's.

    Args:
        size (`int`): Width of the states.
    """

    def __init__(self, size):
        super().__init__()
        self.dense = nn.Linear(size, size)
        self.out = nn.Linear(size, 1, bias=False)

    def init_weights(self, config):
        init.xavier_normal_(self.dense.weight)
        init.zeros_(self.dense.bias)
        init.zeros_(self.out.weight)

    def forward(self, states):  # (..., D)
        return self.out(nn.functional.relu(self.dense(states))).squeeze(-1)  # (...)
