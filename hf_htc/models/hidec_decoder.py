"""HiDEC's decoder: a transformer over copies of nodes that attend to themselves, to their ancestors and to the text.

A layer does not know how its positions are laid out: it is given two functions that attend. So the same layers decode whole
sub-hierarchies, all copies of a hierarchy, and single copies whose ancestors are already decoded.

There are two ways to score units without knowing labels: all of them ([`dense_margins`]), or those that chosen labels lead to
([`expand_margins`]). Both give the margin of every candidate, `decision_logits` of its unit, which is positive where the
candidate is chosen; a candidate that was not scored has an infinite one, so that it never is the smallest on a path.

Legend: `B` documents, `L` positions, `T` tokens, `D` width, `S` units, or pairs of a document and a copy, `E` candidates of a
batch, `P` inner copies, `K` candidates of all copies.
"""

import math

import torch
from torch import nn
from transformers import initialization as init

from .modules import HTCModule, at_least_float32


# Numbers that the ragged products look at in one part: a few MB, which a processor's cache holds.
_NUMBERS_AT_ONCE = 2_000_000


class TextMemory:
    """
    The keys and values of a text in every layer, projected once.

    Args:
        layers (`list[tuple[torch.Tensor, torch.Tensor]]`): Keys and values `(B, heads, T, D / heads)` of each layer.
        mask (`torch.BoolTensor` of shape `(B, 1, 1, T)`): What may be read.
    """

    def __init__(self, layers, mask):
        self.layers, self.mask = layers, mask

    def __len__(self):
        return len(self.mask)

    def select(self, documents):
        """The memory of these documents, `(R,)`."""
        return TextMemory([(keys[documents], values[documents]) for keys, values in self.layers], self.mask[documents])


class HierarchyDecoderLayer(HTCModule):
    """
    `x = x + SelfAttention(LN(x))`, `x = x + TextAttention(LN(x))`, `x = x + W2 relu(W1 LN(x))`; without residual connections the
    `x +` are left out.

    Args:
        config ([`HiDECConfig`]): `text_config.hidden_size`, `decoder_ffn_dim`, `decoder_dropout`, `decoder_residual`.
    """

    def __init__(self, config):
        super().__init__()
        size = config.text_config.hidden_size
        self.has_residual = config.decoder_residual
        self.self_norm, self.text_norm, self.ffn_norm = nn.LayerNorm(size), nn.LayerNorm(size), nn.LayerNorm(size)
        self.self_query_key_value = nn.Linear(size, 3 * size)
        self.self_out = nn.Linear(size, size)
        self.text_query = nn.Linear(size, size)
        self.text_key_value = nn.Linear(size, 2 * size)
        self.text_out = nn.Linear(size, size)
        self.ffn_in = nn.Linear(size, config.decoder_ffn_dim)
        self.ffn_out = nn.Linear(config.decoder_ffn_dim, size)
        self.dropout = nn.Dropout(config.decoder_dropout)

    @torch.no_grad()
    def init_weights(self, config):
        for module in self.children():
            if isinstance(module, nn.Linear):
                init.xavier_uniform_(module.weight)
                init.zeros_(module.bias)

    def forward(self, states, attend, read):
        """
        Args:
            states (`torch.Tensor` of shape `(..., D)`).
            attend (`callable`): From queries, keys and values of the states, `(..., D)`, to what each position sees of the
                others.
            read (`callable`): From queries `(..., D)` to what each position sees of the text.

        Returns:
            `torch.Tensor` of shape `(..., D)`.
        """
        query, key, value = self.self_query_key_value(self.self_norm(states)).chunk(3, dim=-1)
        states = self._join(states, self.self_out(attend(query, key, value)))
        states = self._join(states, self.text_out(read(self.text_query(self.text_norm(states)))))
        inner = self.dropout(torch.relu(self.ffn_in(self.ffn_norm(states))))
        return self._join(states, self.ffn_out(inner))

    def _join(self, states, change):
        change = self.dropout(change)
        return states + change if self.has_residual else change


class HierarchyDecoder(nn.Module):
    """
    The layers and the last layer norm.

    Args:
        config ([`HiDECConfig`]): Also `num_decoder_layers` and `num_decoder_heads`.
    """

    def __init__(self, config):
        super().__init__()
        self.num_heads = config.num_decoder_heads
        self.layers = nn.ModuleList(HierarchyDecoderLayer(config) for _ in range(config.num_decoder_layers))
        self.norm = nn.LayerNorm(config.text_config.hidden_size)
        self.attention_dropout = nn.Dropout(config.decoder_dropout)

    def read_text(self, tokens, mask):
        """
        Args:
            tokens (`torch.Tensor` of shape `(B, T, D)`): Token states.
            mask (`torch.Tensor` of shape `(B, T)`): 0 for padding.

        Returns:
            [`TextMemory`]
        """
        first = torch.arange(mask.shape[1], device=mask.device) == 0  # a text without tokens is its first position, not NaN
        layers = []
        for layer in self.layers:
            keys, values = layer.text_key_value(tokens).chunk(2, dim=-1)
            layers.append((self.split(keys), self.split(values)))
        return TextMemory(layers, ((mask != 0) | first)[:, None, None])

    def forward(self, states, mask, text):
        """
        Decodes sequences.

        Args:
            states (`torch.Tensor` of shape `(B, L, D)`, or `(1, L, D)` for the same one in all documents): Embedded copies.
            mask (`torch.BoolTensor` of shape `(B, L, L)` or `(1, L, L)`): Whether a row may attend to a column.
            text ([`TextMemory`]).

        Returns:
            `torch.Tensor` of shape `(B, L, D)`.
        """
        mask = mask.unsqueeze(1)

        def attend(query, key, value):
            return self.merge(self.attention(self.split(query), self.split(key), self.split(value), mask))

        for layer, (keys, values) in zip(self.layers, text.layers):

            def read(query, keys=keys, values=values):
                query = self.split(query).expand(keys.shape[0], -1, -1, -1)
                return self.merge(self.attention(query, keys, values, text.mask))

            states = layer(states, attend, read)
        return self.norm(states)

    def attention(self, query, key, value, mask=None):
        """Attention of `(B, heads, L, D / heads)`."""
        dropout = self.attention_dropout.p if self.training else 0.0
        return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)

    def split(self, states):
        """`(B, L, D)` to `(B, heads, L, D / heads)`."""
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    @staticmethod
    def merge(states):
        """The inverse of [`~HierarchyDecoder.split`]."""
        return states.transpose(1, 2).flatten(2)


def ragged_products(states, table, unit, row):
    """
    `states[unit] . table[row]`, without the gathered vectors.

    Args:
        states (`torch.Tensor` of shape `(S, D)`), table (`torch.Tensor` of shape `(R, D)`).
        unit, row (`torch.LongTensor` of shape `(E,)`): Which are multiplied.

    Returns:
        `torch.Tensor` of shape `(E,)`, float32 at least.
    """
    return _RaggedProducts.apply(states, table, unit, row)


class _RaggedProducts(torch.autograd.Function):
    """The products and their gradients part by part: at thousands of children a document, the gathered vectors of all candidates
    would be most of a step's memory."""

    @staticmethod
    def forward(ctx, states, table, unit, row):
        ctx.save_for_backward(states, table, unit, row)
        parts = [_product(states[u], table[r]) for u, r in _parts(states, unit, row)]
        return torch.cat(parts) if parts else _product(states[:0], table[:0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, outer):
        states, table, unit, row = ctx.saved_tensors
        # In float32 at least: a unit sums over all its candidates, a label over all its documents.
        to_states, to_table = (torch.zeros_like(at_least_float32(tensor)) for tensor in (states, table))
        size = _part_size(states)
        for (u, r), gradient in zip(_parts(states, unit, row), outer.split(size)):
            gradient = gradient.unsqueeze(1)
            to_states.index_add_(0, u, (gradient * table[r]).to(to_states.dtype))
            to_table.index_add_(0, r, (gradient * states[u]).to(to_table.dtype))
        return to_states.to(states.dtype), to_table.to(table.dtype), None, None


def _product(left, right):
    return (at_least_float32(left) * at_least_float32(right)).sum(-1)


def _part_size(states):
    return max(1, _NUMBERS_AT_ONCE // max(1, states.shape[1]))


def _parts(states, unit, row):
    size = _part_size(states)
    return zip(unit.split(size), row.split(size)) if len(unit) else ()


# Pairs of a document and a copy that are decoded together; with more, memory grows and speed does not.
_PAIRS_AT_ONCE = 2048


def dense_margins(classifier, text):
    """
    All candidates, in parts of the hierarchy, so that no tensor has the size of documents x copies x width. Nothing here depends
    on the numbers, so it can be exported.

    Args:
        classifier ([`HiDECClassifier`]).
        text ([`TextMemory`]): Of `B` documents.

    Returns:
        `torch.Tensor` of shape `(B, K)`.
    """
    copies, margins = classifier.copies, []
    for (start, stop), above, (first, last) in zip(copies.chunks, copies.above_chunk, copies.chunk_candidates):
        sequence = torch.arange(start, stop, device=copies.end.device)
        if above:
            sequence = torch.cat([torch.tensor(above, device=sequence.device), sequence])
        mask = copies.is_above(sequence.unsqueeze(0), sequence.unsqueeze(1)).unsqueeze(0)
        states = classifier.decoder(classifier.embed(sequence).unsqueeze(0), mask, text)[:, len(above) :]  # (B, stop - start, D)
        candidates = slice(first, last)
        unit = copies.unit[candidates] - start
        rows = torch.nn.functional.embedding(copies.candidate[candidates], classifier.label_embedding)
        # Every state with every candidate: beside the decoder that is little, and gathered states would be memory.
        products = (classifier.unit_dropout(states) @ rows.T).flatten(1)
        index = unit * (last - first) + torch.arange(last - first, device=unit.device)
        logits = classifier.add_bias(at_least_float32(products[:, index]), copies.bias[candidates])
        bounds = None if classifier.bounds is None else classifier.bounds(states)[:, unit]
        margins.append(classifier.margins(logits, bounds))
    return torch.cat(margins, dim=1)


@torch.no_grad()
def expand_margins(classifier, text):
    """
    Level by level the candidates of the root, then those of chosen inner copies. Each pair of a document and a reached copy is
    decoded once, with the keys and values of its ancestors; the cost is that of the reached pairs.

    For `empty_prediction="best"`, documents without a label are followed as [`~HierarchyCopies.nearest_labels`] says.

    Args, returns: as [`dense_margins`]; carries no gradient.
    """
    copies, number = classifier.copies, len(text)
    kind = at_least_float32(classifier.label_embedding[:0]).dtype
    device = classifier.label_embedding.device
    margins = torch.full((number, copies.num_candidates), math.inf, dtype=kind, device=device)
    documents = torch.arange(number, device=device)
    # Pairs by document; `source` is where a pair's parent stands in what the parents left behind. The last in is the first out,
    # so that what waits never holds more than one part of each level.
    waiting = [(documents, torch.zeros_like(documents), documents, None)]
    while waiting:
        documents, copy, source, past = waiting.pop()
        if len(documents) > _PAIRS_AT_ONCE:
            parts = (values.split(_PAIRS_AT_ONCE) for values in (documents, copy, source))
            waiting.extend((*part, past) for part in zip(*parts))
            continue
        states, past = _advance(classifier, text, documents, copy, source, past)
        unit, entry = classifier.candidates_of(copy)
        bounds = None if classifier.bounds is None else classifier.bounds(states)[unit]
        margin = classifier.margins(classifier.candidate_logits(states, unit, entry, copy), bounds)
        margins[documents[unit], entry] = margin.to(kind)
        child = copies.child[entry]
        chosen = ((margin > 0) & (child >= 0)).nonzero().flatten()
        if len(chosen):
            parent = unit[chosen]
            waiting.append((documents[parent], child[chosen], parent, past))
    if classifier.config.empty_prediction == "best":
        _follow_nearest(classifier, text, margins)
    return margins


def _advance(classifier, text, documents, copy, source, past):
    """States `(S, D)` of pairs whose copies lie at one depth, and the keys and values of them and their ancestors in each layer,
    `(S, depth + 1, D)`."""
    decoder = classifier.decoder
    found, inverse, counts = torch.unique_consecutive(documents, return_inverse=True, return_counts=True)
    if len(found) < len(text):
        text = text.select(found)
    # Pairs of a document read its text together: they stand in one row of a padded layout.
    width = int(counts.max())
    place = inverse * width + torch.arange(len(documents), device=copy.device) - (counts.cumsum(0) - counts)[inverse]
    states, behind = classifier.embed(copy), []
    for number, (layer, (text_keys, text_values)) in enumerate(zip(decoder.layers, text.layers)):

        def attend(query, key, value, number=number):
            key, value = key.unsqueeze(1), value.unsqueeze(1)
            if past is not None:
                keys, values = past[number]
                key, value = torch.cat([keys[source], key], dim=1), torch.cat([values[source], value], dim=1)
            behind.append((key, value))
            query = decoder.split(query.unsqueeze(1))
            return decoder.merge(decoder.attention(query, decoder.split(key), decoder.split(value))).squeeze(1)

        def read(query, keys=text_keys, values=text_values):
            rows = query.new_zeros(len(found) * width, query.shape[-1]).index_copy(0, place, query)
            rows = decoder.split(rows.unflatten(0, (-1, width)))
            return decoder.merge(decoder.attention(rows, keys, values, text.mask)).flatten(0, 1)[place]

        states = layer(states, attend, read)
    return decoder.norm(states), behind


def _follow_nearest(classifier, text, margins):
    """Scores, for documents without a label, the units that [`~HierarchyCopies.nearest_labels`] looks at; `margins` is
    changed."""
    copies = classifier.copies
    path = copies.path_margins(margins)
    rows = (copies.label_logits(margins, path) <= 0).all(1).nonzero().flatten()
    if not len(rows):
        return
    copy = copies.child[copies.nearest_candidate(margins[rows], path[rows])]
    everywhere = torch.arange(copies.num_copies, device=copy.device)
    while True:
        alive = (copy >= 0).nonzero().flatten()
        if not len(alive):
            return
        row, copy = rows[alive], copy[alive]
        scores = classifier.score_units(copies.is_above(everywhere, copy.unsqueeze(1)), text.select(row))
        new = torch.full_like(margins[row], math.inf)
        new[scores.units.document[scores.units.unit], scores.entry] = scores.margins().to(new.dtype)
        margins[row] = torch.where(margins[row] == math.inf, new, margins[row])
        best = torch.where(copies.unit == copy.unsqueeze(1), margins[row], -math.inf).argmax(1)
        rows, copy = row, copies.child[best]
