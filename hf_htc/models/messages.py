"""Messages between the nodes of a hierarchy, added up in float32 at least: a node may have thousands of children, and a sum in
bfloat16, which has 8 binary digits, stands still after 256 equal numbers. That holds for gradients, too.

Legend: `B` documents, `M` nodes, `D` dimensions, `E` edges.
"""

import torch

from .losses import at_least_float32


def spread(states, source):
    """
    `states[:, source]`; where many read the same state, their gradients add up in float32 at least.

    Args:
        states (`torch.Tensor` of shape `(B, M, D)`), source (`torch.LongTensor` of shape `(E,)`).

    Returns:
        `torch.Tensor` of shape `(B, E, D)`.
    """
    return at_least_float32(states).index_select(1, source).to(states.dtype)


def add_up(messages, target, number):
    """
    The messages summed at their targets.

    Args:
        messages (`torch.Tensor` of shape `(B, E, D)`), target (`torch.LongTensor` of shape `(E,)`).
        number (`int`): `M`.

    Returns:
        `torch.Tensor` of shape `(B, M, D)`.
    """
    exact = at_least_float32(messages)
    # Not `new_zeros`, which an ONNX export does not fold into a constant.
    nothing = torch.zeros((messages.shape[0], number, messages.shape[2]), dtype=exact.dtype, device=exact.device)
    return nothing.index_add(1, target, exact).to(messages.dtype)


def collect(states, weight, source, target):
    """
    The weighted sums of the sources' states at their targets.

    Args:
        states (`torch.Tensor` of shape `(B, M, D)`), weight, source, target (`torch.Tensor` of shape `(E,)`).

    Returns:
        `torch.Tensor` of shape `(B, M, D)`.
    """
    return add_up(spread(states, source) * weight.unsqueeze(-1), target, states.shape[1])
