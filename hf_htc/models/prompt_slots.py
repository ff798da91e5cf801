"""Label slots: positions behind a text, one per level of the hierarchy, at which a model scores the labels of that level; and the
vectors of words that they start from.

Legend: `B` documents, `L` levels, `N` labels, `E` embedding size.
"""

import numpy as np
import torch
from torch import nn
from transformers import initialization as init

from .modules import HTCModule
from .units import Units


@torch.no_grad()
def mean_word_vectors(embedding, tokenizer, texts, add_special_tokens=False):
    """
    One vector a text: the mean of the word embeddings of its tokens.

    Args:
        embedding (`nn.Embedding`): The encoder's word embeddings.
        tokenizer (`PreTrainedTokenizer`): Theirs.
        texts (`list[str]`): A text without a token (of a tokenizer that knows no word of it) gets the mean over the whole table.
        add_special_tokens (`bool`, *optional*, defaults to `False`): Whether tokens such as [CLS] and [SEP] count too.

    Returns:
        `torch.Tensor` of shape `(len(texts), E)`.
    """
    rows = tokenizer(list(texts), add_special_tokens=add_special_tokens)["input_ids"] if texts else []
    weight = embedding.weight
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long, device=weight.device)
    text = torch.repeat_interleave(torch.arange(len(rows), device=weight.device), lengths)
    tokens = torch.tensor([token for row in rows for token in row], dtype=torch.long, device=weight.device)
    sums = weight.new_zeros(len(rows), weight.shape[1]).index_add(0, text, embedding(tokens))
    return torch.where(lengths.unsqueeze(1) > 0, sums / lengths.clamp(min=1).unsqueeze(1), weight.mean(0))


class LabelSlots(HTCModule):
    """
    Which slot belongs to which label. All products are taken level by level, so that no tensor has more than `B * N` or `N * E`
    numbers. A level of structure-only nodes has a slot without labels.

    Args:
        config ([`HTCConfig`]): Its hierarchy.
    """

    def __init__(self, config):
        super().__init__()
        hierarchy = config.get_hierarchy()
        levels = hierarchy.levels[: hierarchy.num_labels]
        self.sizes = np.bincount(levels - 1, minlength=hierarchy.num_levels).tolist()
        self.is_sorted = bool((np.diff(levels) >= 0).all())  # ids by level: nothing needs to be moved
        for name in ("level", "order", "place"):
            self.register_buffer(name, torch.empty(hierarchy.num_labels, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def init_weights(self, config):
        hierarchy = config.get_hierarchy()
        level = hierarchy.levels[: hierarchy.num_labels] - 1  # (N,), from 0
        order = np.argsort(level, kind="stable")  # labels by level
        for name, values in (("level", level), ("order", order), ("place", np.argsort(order, kind="stable"))):
            init.copy_(getattr(self, name), torch.as_tensor(values, device="cpu"))

    def by_level(self, values, dim=1):
        """`list`: for each level that has labels, its number from 0 and its part of `values` along `dim`, labels ascending."""
        parts = (values if self.is_sorted else values.index_select(dim, self.order)).split(self.sizes, dim)
        return [(i, part) for i, part in enumerate(parts) if part.shape[dim]]

    def _by_id(self, parts):
        joined = torch.cat(parts, 1)
        return joined if self.is_sorted else joined.index_select(1, self.place)

    def of_labels(self, values):
        """Gives every label the value of its level: `(B, L)` becomes `(B, N)`."""
        return values.index_select(1, self.level)

    def units(self, num_documents):
        """The [`Units`] of a batch, the levels of every document."""
        return Units.of_groups(self.level, len(self.sizes), num_documents)

    def units_output(self, scores, targets=None, bounds=None):
        """The `units` of an [`HTCOutput`]: `scores (B, N)`, `targets (B, N)` and `bounds (B, L)`, flat."""
        units = self.units(len(scores))
        return {
            "scores": scores.flatten(),
            "label": torch.arange(scores.shape[1], device=scores.device).repeat(len(scores)),
            "targets": None if targets is None else targets.flatten(),
            "unit": units.unit,
            "document": units.document,
            "bounds": None if bounds is None else bounds.flatten(),
            "level": torch.arange(len(self.sizes), device=scores.device).repeat(len(scores)) + 1,
        }

    def scores(self, states, vectors):
        """`states (B, L, E)` times `vectors (N, E)`, each label at its own slot: `(B, N)`."""
        parts = [nn.functional.linear(states[:, i], part) for i, part in self.by_level(vectors, 0)]
        return self._by_id(parts)

    def means(self, targets, vectors):
        """
        The mean of the vectors of a document's labels, level by level.

        Args:
            targets (`torch.Tensor` of shape `(B, N)`): Where above 0.5, a label holds.
            vectors (`torch.Tensor` of shape `(N, E)`).

        Returns:
            `tuple`: the means `(B, L, E)`, 0 for a level without one, and how many labels there are, `(B, L)`.
        """
        holds = (targets > 0.5).to(vectors.dtype)
        empty = vectors.new_zeros(len(targets), vectors.shape[1])
        means, counts = [empty] * len(self.sizes), [empty[:, 0]] * len(self.sizes)
        for (i, hot), (_, part) in zip(self.by_level(holds), self.by_level(vectors, 0)):
            counts[i] = hot.sum(1)
            means[i] = (hot @ part).to(vectors.dtype) / counts[i].clamp(min=1).unsqueeze(1)
        return torch.stack(means, 1), torch.stack(counts, 1)

    def margins(self, scores, none_scores):
        """
        How far every label's score lies above the best other one of its level; at most one a level is above 0.

        Args:
            scores (`torch.Tensor` of shape `(B, N)`).
            none_scores (`torch.Tensor` of shape `(B, L)`): Those of "no label on this level".

        Returns:
            `torch.Tensor` of shape `(B, N)`.
        """
        parts = []
        for i, part in self.by_level(scores):
            top = torch.cat([part, none_scores[:, i : i + 1]], 1).topk(2).values  # (B, 2)
            parts.append(part - torch.where(part == top[:, :1], top[:, 1:], top[:, :1]))
        return self._by_id(parts)
