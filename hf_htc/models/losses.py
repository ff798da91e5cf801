"""Losses that several methods share. All reduce inside a document, then over documents, in float32.

Legend: `B` documents, `N` labels, `E` edges.
"""

import torch
from torch import nn


def at_least_float32(tensor):
    """Half precision types become float32; float32 and float64 stay."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def reduce_labels(values, reduction="mean"):
    """The mean over documents of the mean or sum (`reduction`) over labels of `values (B, N)`, or of the sum with these weights
    (`reduction` of shape `(N,)`)."""
    if isinstance(reduction, torch.Tensor):
        return (values * reduction).sum(1).mean()
    return (values.mean(1) if reduction == "mean" else values.sum(1)).mean()


def multi_label_bce(logits, targets, reduction="mean"):
    """
    Binary cross-entropy from logits, over the labels inside each document, then the mean over documents.

    Args:
        logits (`torch.Tensor` of shape `(B, N)`): Any float type; computed in float32 at least.
        targets (`torch.Tensor` of shape `(B, N)`): 0 or 1.
        reduction (`str` or `torch.Tensor`, *optional*, defaults to `"mean"`): `"mean"` or `"sum"` over the labels of a document,
            or the weight of each label, `(N,)`, in the sum.

    Returns:
        `torch.Tensor`: a scalar. `-mean_n [y log s(l) + (1 - y) log(1 - s(l))]`, `s` the sigmoid.
    """
    logits = at_least_float32(logits)
    losses = nn.functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    return reduce_labels(losses, reduction)


def recursive_regularization(weight, edges):
    """
    Recursive regularization (Gopal and Yang, 2013): classifiers of a parent and its child lie close.

    Args:
        weight (`torch.Tensor` of shape `(N, ...)`): One row of classifier weights a label, biases excluded.
        edges (`torch.Tensor` of shape `(E, 2)`, int64): (parent, child) label ids.

    Returns:
        `torch.Tensor`: the scalar `sum over edges of 0.5 * ||w_parent - w_child||^2`; 0 without edges.
    """
    rows = at_least_float32(weight).flatten(1)
    # index_select, not brackets: the gradient of those sorts and scatters one number at a time on a CPU.
    return 0.5 * (rows.index_select(0, edges[:, 0]) - rows.index_select(0, edges[:, 1])).square().sum()
