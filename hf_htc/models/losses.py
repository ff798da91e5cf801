"""Losses that several methods share. All reduce inside a document, then over documents, in float32.

Legend: `B` documents, `N` labels, `E` edges.
"""

import torch
from torch import nn

from .modules import at_least_float32


# Numbers that the recursive regularization looks at in one part: a few MB, which a processor's cache holds.
_NUMBERS_AT_ONCE = 500_000


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
    return _EdgePenalty.apply(at_least_float32(weight).flatten(1), edges)


def regularization(weight, classifier):
    """
    The recursive regularization as a part of a loss.

    Args:
        weight (`float`): What it is multiplied by.
        classifier (`nn.Module`): Its `out_weight (N, ...)` and `label_edges (E, 2)`.

    Returns:
        `dict[str, torch.Tensor]`: `recursive_regularization`; empty where `weight` is 0.
    """
    if not weight:
        return {}
    return {"recursive_regularization": weight * recursive_regularization(classifier.out_weight, classifier.label_edges)}


class _EdgePenalty(torch.autograd.Function):
    """
    `sum over edges of 0.5 * ||w_parent - w_child||^2` of `weight (N, D)`, and its gradient in the same pass, part by part: rows
    of all edges at once are memory that is written and read a dozen times, a tenth of a training step at 30,000 labels.
    """

    @staticmethod
    def forward(ctx, weight, edges):
        gradient = torch.zeros_like(weight)
        value = weight.new_zeros(())
        for part in edges.split(max(1, _NUMBERS_AT_ONCE // max(1, weight.shape[1]))):
            parents, children = part.unbind(1)
            difference = weight.index_select(0, parents) - weight.index_select(0, children)
            value += 0.5 * difference.square().sum()
            gradient.index_add_(0, parents, difference).index_add_(0, children, difference, alpha=-1)
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, outer):
        (gradient,) = ctx.saved_tensors
        return outer * gradient, None
