"""HiDEC's decoder: a transformer over copies of nodes that attend to themselves, to their ancestors and to the text.

A layer does not know how its positions are laid out: it is given two functions that attend. So the same layers decode whole
sub-hierarchies, all copies of a hierarchy, and single copies whose ancestors are already decoded.

Legend: `B` documents, `L` positions, `T` tokens, `D` width, `S` units, `E` candidates.
"""

import torch
from torch import nn
from transformers import initialization as init

from .losses import at_least_float32
from .modules import HTCModule


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
