"""Losses on units: BCE, ZLPR, HBM, ASL and WASL, cross-entropy; any unit method takes any of them.

All take flat logits and targets, one entry a unit and label, and [`Units`]; all compute in float32 at least and stay finite, with
finite gradients, for units without positives, without negatives or without anything that the margin keeps.

Legend: `B` documents, `U` units of the batch, `K` entries; `l` logits, `t` bounds, `s` the sigmoid, `P` and `N` the positive and
the negative entries of a unit.
"""

import math

import torch
from torch import nn

from .modules import at_least_float32


def unit_bce(logits, targets, units, reduction="document"):
    """
    Binary cross-entropy (HBM paper, Eq. 1): `-1 / sum |U| * sum over units [sum_P log s(l) + sum_N log(1 - s(l))]`.

    Args:
        logits, targets (`torch.Tensor` of shape `(K,)`): Any float type; 0 or 1.
        units ([`Units`]): Where the entries belong.
        reduction (`str`, *optional*, defaults to `"document"`): `"document"`: the mean over the entries of a document, then over
            documents; `"batch"`: over all entries of the batch.

    Returns:
        `torch.Tensor`: a scalar.
    """
    logits = at_least_float32(logits)
    values = nn.functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    return units.mean_over_entries(values, reduction)


def zlpr_loss(logits, targets, units, reduction="document"):
    """
    Zero-bounded log-sum-exp pairwise rank-based loss (Su et al., 2022; HBM paper, Eq. 2): the mean over units of
    `log(1 + sum_P exp(-l)) + log(1 + sum_N exp(l))`. A label is predicted where `l > 0`.

    Arguments as in [`unit_bce`]; `"batch"` is the mean over all units of the batch.
    """
    return hbm_loss(logits, targets, units, None, alpha=0, margin=0, reduction=reduction)


def hbm_loss(logits, targets, units, bounds=None, alpha=1.0, margin=0.1, bias="std", reduction="document"):
    """
    Hierarchy-aware biased bound margin loss (Kim et al., 2024, Eq. 3): the mean over units of

    `log(1 + sum_P' exp(-l + t + b_pos)) + log(1 + sum_N' exp(l - t + b_neg))`,

    `P'` and `N'` being what the margin keeps: positives with `s(2 (l - t)) < 1 - m`, negatives with `s(2 (l - t)) > m`. The
    biases `alpha * g` are taken over all positives and all negatives of a unit, before the margin, and carry no gradient. A label
    is predicted where `l > t`. With `t = alpha = m = 0` it is ZLPR.

    Args:
        logits, targets, units, reduction: As in [`zlpr_loss`].
        bounds (`torch.Tensor` of shape `(U,)`, *optional*): The bound `t` of every unit; `None` is 0.
        alpha (`float`, *optional*, defaults to 1.0): Scale of the biases, at least 0.
        margin (`float`, *optional*, defaults to 0.1): `m`, in [0, 1).
        bias (`str` or `callable`, *optional*, defaults to `"std"`): `g`, one of [`BIAS_FUNCTIONS`] or a function of
            `(logits, keep, units)` that gives one number of at least 0 a unit from the entries in `keep`.
    """
    logits = at_least_float32(logits)
    positive = targets > 0.5
    distance = logits if bounds is None else logits - bounds.to(logits.dtype)[units.unit]
    away = torch.where(positive, -distance, distance)  # grows as an entry goes wrong
    # s(2 x) > m as a comparison of logits, which cannot underflow: x > log-odds(m) / 2.
    kept = away > (math.log(margin / (1 - margin)) / 2 if margin > 0 else -math.inf)
    terms = []
    for side in (positive, ~positive):
        shifted = away
        if alpha:
            spread = (BIAS_FUNCTIONS[bias] if isinstance(bias, str) else bias)(logits.detach(), side, units)
            shifted = away + alpha * spread[units.unit]
        terms.append(_log_one_plus_sum_exp(shifted, kept & side, units))
    return units.mean_over_documents(terms[0] + terms[1], reduction)


def _log_one_plus_sum_exp(values, keep, units):
    """`log(1 + sum exp(values))` over the kept entries of every unit, `(U,)`; 0, without a gradient, where none is kept."""
    values = values.masked_fill(~keep, -math.inf)
    top = units.max(values.detach(), 0.0)
    return top + torch.log(torch.exp(-top) + units.sum(torch.exp(values - top[units.unit])))


def standard_deviation(logits, keep, units):
    """The unbiased standard deviation of the kept entries of every unit, `(U,)`; 0 for fewer than two."""
    weight = keep.to(logits.dtype)
    count = units.sum(weight)
    mean = units.sum(logits * weight) / count.clamp(min=1)
    squares = units.sum((logits - mean[units.unit]).square() * weight)
    return (squares / (count - 1).clamp(min=1)).sqrt()


def median_absolute_deviation(logits, keep, units):
    """The median distance from the median of the kept entries of every unit, `(U,)`, times 1.4826, so that it estimates a
    standard deviation without minding outliers; 0 for fewer than two."""
    middle = _median(logits, keep, units)
    return 1.4826 * _median((logits - middle[units.unit]).abs(), keep, units)


def _median(values, keep, units):
    count = torch.bincount(units.unit[keep], minlength=len(units))
    values, unit = values[keep], units.unit[keep]
    order = torch.argsort(values)
    order = order[torch.argsort(unit[order], stable=True)]  # by unit, by value inside
    starts = count.cumsum(0) - count
    values = torch.cat([values[order], values.new_zeros(1)])
    lower, upper = (starts + ((count - 1).clamp(min=0) // 2)), starts + count // 2
    found = (values[lower.clamp(max=len(values) - 1)] + values[upper.clamp(max=len(values) - 1)]) / 2
    return torch.where(count > 0, found, 0)


BIAS_FUNCTIONS = {"std": standard_deviation, "mad": median_absolute_deviation}


def asymmetric_loss(
    logits,
    targets,
    units,
    gamma_positive=1.0,
    gamma_negative=4.0,
    margin=0.05,
    positive_weights=None,
    detach_focus=False,
    eps=0.0,
    reduction="document",
):
    """
    Asymmetric loss (Ben-Baruch et al., 2020) and, with `positive_weights`, its weighted form (PTMTTaxoFormer, Eq. 1 and 2, whose
    minus sign is missing in print): the sum over all entries of

    `-w (1 - p)^g+ log p` for positives, `-p_m^g- log(1 - p_m)` for negatives, `p = s(l)`, `p_m = max(p - m, 0)`.

    Args:
        logits, targets, units: As in [`unit_bce`].
        gamma_positive, gamma_negative (`float`, *optional*, default to 1.0 and 4.0): `g+` and `g-`, at least 0.
        margin (`float`, *optional*, defaults to 0.05): `m`, in [0, 1).
        positive_weights (`torch.Tensor` of shape `(K,)`, *optional*): `w`, the weight of an entry where it is positive.
        detach_focus (`bool`, *optional*, defaults to `False`): Whether the factors before the logarithms carry no gradient.
        eps (`float`, *optional*, defaults to 0.0): Probabilities are not let below this inside the logarithms. The authors' 1e-8
            leaves a positive without any gradient where it is most wrong; 0 is exact.
        reduction (`str`, *optional*, defaults to `"document"`): `"document"`: the sum over the entries of a document, then the
            mean over documents; `"batch"`: the sum over the batch, as the authors' code has it.

    Returns:
        `torch.Tensor`: a scalar.
    """
    logits = at_least_float32(logits)
    positive = targets > 0.5
    p = torch.sigmoid(logits)
    # Where an entry is positive, the other branch is given harmless numbers: a gradient of 0 times infinity is NaN.
    shifted = (p - margin).clamp(min=0)
    inner = ~positive & (shifted > 0)
    shifted = torch.where(inner, shifted, 0.5)
    if eps:
        log_p, log_q = torch.log(p.clamp(min=eps)), torch.log((1 - shifted).clamp(min=eps))
    else:
        log_p = nn.functional.logsigmoid(logits)
        log_q = torch.log1p(-shifted) if margin > 0 else nn.functional.logsigmoid(-logits)
    # As a power, (1 - p)^g has an infinite slope at p = 1 where g < 1.
    focus_p = torch.exp(gamma_positive * nn.functional.logsigmoid(-logits))
    focus_q = _power(shifted, gamma_negative)
    if detach_focus:
        focus_p, focus_q = focus_p.detach(), focus_q.detach()
    gains = focus_p * log_p if positive_weights is None else positive_weights.to(p.dtype) * focus_p * log_p
    values = -torch.where(positive, gains, torch.where(inner, focus_q * log_q, 0))
    if reduction == "batch":
        return values.sum()
    return units.mean_over_entries(values, "sum")


def _power(base, exponent):
    return torch.ones_like(base) if exponent == 0 else base**exponent


def unit_cross_entropy(logits, targets, units, reduction="document"):
    """
    Softmax cross-entropy inside every unit that has a positive entry, for data with one label a unit:
    `log sum exp(l) - mean_P l`. Reductions as in [`zlpr_loss`]; a unit without a label counts as 0.
    """
    log_p, positive, count = _log_softmax(logits, targets, units)
    return units.mean_over_documents(-units.sum(torch.where(positive, log_p, 0)) / count.clamp(min=1), reduction)


def single_label_asymmetric_loss(
    logits, targets, units, gamma_positive=0.0, gamma_negative=4.0, smoothing=0.1, reduction="document"
):
    """
    The single-label form of the asymmetric loss: with `p` the softmax inside a unit of `n` entries,
    `-sum y' w log p`, `w = (1 - p)^g+` for the label and `p^g-` for the others, `y'` the label smoothed by `smoothing`.

    Reductions as in [`zlpr_loss`]; a unit without a label counts as 0.
    """
    log_p, positive, count = _log_softmax(logits, targets, units)
    p = log_p.exp()
    least = torch.finfo(p.dtype).eps
    focus = torch.where(positive, _power((1 - p).clamp(min=least), gamma_positive), _power(p.clamp(min=least), gamma_negative))
    size = torch.bincount(units.unit, minlength=len(units)).clamp(min=1).to(p.dtype)
    smoothed = positive.to(p.dtype) * (1 - smoothing) + (smoothing / size)[units.unit]
    values = -units.sum(smoothed * focus * log_p)
    return units.mean_over_documents(torch.where(count > 0, values, 0), reduction)


def _log_softmax(logits, targets, units):
    """Log of the softmax inside every unit, `(K,)`, which entries are positive, and how many of each unit, `(U,)`."""
    logits = at_least_float32(logits)
    positive = targets > 0.5
    top = units.max(logits.detach(), -math.inf)
    shifted = logits - top[units.unit]
    log_p = shifted - torch.log(units.sum(shifted.exp()))[units.unit]
    return log_p, positive, units.sum(positive.to(log_p.dtype))


# ---------------------------------------------------------------------------------------------- by the options of a config


def unit_loss(config, logits, targets, units, bounds=None, levels=None):
    """
    The loss that a config names.

    Args:
        config ([`UnitConfig`]): `unit_loss` and the options of that loss.
        logits, targets (`torch.Tensor` of shape `(K,)`): One entry a unit and label.
        units ([`Units`]): Where the entries belong.
        bounds (`torch.Tensor` of shape `(U,)`, *optional*): HBM's bounds.
        levels (`torch.LongTensor` of shape `(K,)`, *optional*): The level of every entry, from 1, for WASL's weights.

    Returns:
        `torch.Tensor`: a scalar, the mean over documents.
    """
    kind, reduction = config.unit_loss, config.loss_reduction
    if kind == "bce":
        return unit_bce(logits, targets, units, reduction)
    if kind == "zlpr":
        return zlpr_loss(logits, targets, units, reduction)
    if kind == "hbm":
        return hbm_loss(logits, targets, units, bounds, config.hbm_alpha, config.hbm_margin, config.hbm_bias, reduction)
    if kind == "cross_entropy":
        return unit_cross_entropy(logits, targets, units, reduction)
    weights = None
    if kind == "wasl":
        weights = torch.as_tensor(config.level_weights, device=logits.device, dtype=torch.float32)[levels - 1]
    return asymmetric_loss(
        logits, targets, units, config.asl_gamma_positive, config.asl_gamma_negative, config.asl_margin, weights,
        config.asl_detach_focus, config.asl_eps, reduction,
    )  # fmt: skip


def decision_logits(config, logits, bounds=None):
    """
    What a unit method's scores are as logits of the contract: a label is predicted where they are positive.

    Args:
        config ([`UnitConfig`]): Which loss gave the scores their meaning.
        logits (`torch.Tensor`): Scores of any shape.
        bounds (`torch.Tensor`, *optional*): HBM's bounds, of a shape that broadcasts with `logits`.

    Returns:
        `torch.Tensor`: float32 at least. `2 (l - t)` for HBM and, with `t = 0`, ZLPR, whose probability is `s(2 (l - t))` (Su et
        al.); `l` otherwise.
    """
    logits = at_least_float32(logits)
    if config.unit_loss not in ("zlpr", "hbm"):
        return logits
    return 2 * (logits if bounds is None else logits - at_least_float32(bounds))


def prior_scores(config, log_odds):
    """The score at which a label has these log-odds, `(N,)`: the inverse of [`decision_logits`] where all bounds are 0."""
    return log_odds / 2 if config.unit_loss in ("zlpr", "hbm") else log_odds
