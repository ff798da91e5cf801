"""Masked language modelling beside classification: the head of a pretrained encoder, corruption of the text, the loss.

Legend: `B` documents, `T` tokens, `D` hidden size, `E` embedding size, `V` words, `K` masked tokens of the batch.
"""

import torch
from torch import nn
from transformers import AutoModelForMaskedLM, activations
from transformers import initialization as init
from transformers.utils import logging

from .modules import HTCModule, at_least_float32
from .text_encoders import load_text_encoder
from .whole_checkpoints import check_encoder_weights


logger = logging.get_logger(__name__)


class MaskedLMHead(HTCModule):
    """
    `h = norm(act(W x + b))` and one bias a word; the word embeddings themselves are the encoder's. With
    `config.mlm_head = "identity"`, `h = x`: what an encoder gets whose checkpoint brings no head.

    `is_random = False` makes training repeatable: the same words are guessed every time.

    Args:
        config ([`PromptConfig`]): `mlm_head`, `mlm_activation`, `mlm_layer_norm_eps`.
        has_bias (`bool`): Whether there is a bias for the words, which only the loss reads.
    """

    def __init__(self, config, has_bias=True):
        super().__init__()
        self.is_random = True
        hidden, size = config.text_config.hidden_size, embedding_size(config.text_config)
        self.dense = self.norm = None
        if config.mlm_head != "identity":
            self.dense = nn.Linear(hidden, size)
            self.norm = nn.LayerNorm(size, eps=config.mlm_layer_norm_eps)
            self.act = activations.ACT2FN[config.mlm_activation]
        elif hidden != size:
            self.dense = nn.Linear(hidden, size)
            self.act = nn.Identity()
        self.bias = nn.Parameter(torch.empty(config.text_config.vocab_size)) if has_bias else None

    def init_weights(self, config):
        if self.dense is not None:
            init.normal_(self.dense.weight, std=config.initializer_range)
            init.zeros_(self.dense.bias)
        if self.norm is not None:
            init.ones_(self.norm.weight)
            init.zeros_(self.norm.bias)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, states):  # (..., D)
        if self.dense is not None:
            states = self.act(self.dense(states))
        return states if self.norm is None else self.norm(states)  # (..., E)

    @torch.no_grad()
    def take(self, head):
        """Takes the weights of a pretrained head, as [`load_masked_lm`] gives it."""
        for name, part in (("dense", self.dense), ("norm", self.norm)):
            if part is not None and head.get(name) is not None:
                part.weight.copy_(head[name].weight)
                part.bias.copy_(0 if head[name].bias is None else head[name].bias)
        if self.bias is not None and head.get("bias") is not None:
            self.bias[: len(head["bias"])] = head["bias"]

    @torch.no_grad()
    def resize(self, num_words):
        """Gives the bias another number of words; new ones start at 0."""
        if self.bias is not None and len(self.bias) != num_words:
            grown = self.bias.new_zeros(num_words)
            kept = min(num_words, len(self.bias))
            grown[:kept] = self.bias[:kept]
            self.bias = nn.Parameter(grown)


def embedding_size(text_config):
    """Width of the word embeddings: that of the hidden states unless the encoder says otherwise (ALBERT, ELECTRA)."""
    return getattr(text_config, "embedding_size", None) or text_config.hidden_size


def load_masked_lm(name_or_path, dtype=torch.float32, attn_implementation=None, **hub_kwargs):
    """
    A pretrained text encoder and the head that it was pretrained with.

    Returns:
        `tuple`: the encoder, and a `dict` of the head's parts: `dense` and `norm` (modules), `bias` of the words, `activation`
        and `eps`; or `None` where the checkpoint brings no such head.

    Raises:
        `OSError`: there is no such encoder; the name is in the message.
    """
    if attn_implementation is not None:
        hub_kwargs["attn_implementation"] = attn_implementation
    try:
        model, info = AutoModelForMaskedLM.from_pretrained(name_or_path, dtype=dtype, output_loading_info=True, **hub_kwargs)
    except Exception:  # T5 and GPT-2, for example, have no such head; a wrong name or damaged files get the usual message
        return load_text_encoder(name_or_path, dtype, **hub_kwargs), None
    encoder = model.base_model
    check_encoder_weights(model, encoder, info, str(name_or_path))
    inside = {id(module) for module in encoder.modules()}
    outside = {name: module for name, module in model.named_modules() if id(module) not in inside and module is not model}
    decoder = model.get_output_embeddings()
    dense = [m for m in outside.values() if isinstance(m, nn.Linear) and m is not decoder]
    norm = [m for m in outside.values() if isinstance(m, nn.LayerNorm)]
    missing = [key for key in info["missing_keys"] if any(key.startswith(f"{name}.") for name in outside)]
    if missing or len(dense) != 1 or len(norm) != 1:
        return encoder, None
    return encoder, {
        "dense": dense[0], "norm": norm[0], "bias": getattr(decoder, "bias", None), "activation": _activation(model.config),
        "eps": norm[0].eps,
    }  # fmt: skip


def _activation(text_config):
    """The activation of the head; RoBERTa-like heads have GELU whatever their layers have."""
    for key in ("classifier_activation", "hidden_act", "activation", "hidden_activation"):
        name = getattr(text_config, key, None)
        if isinstance(name, str) and name in activations.ACT2FN and "roberta" not in text_config.model_type:
            return name
    return "gelu"


def draw_masked(attention_mask, input_ids, probability, special_ids=(), mode="random"):
    """
    Draws the tokens that are to be guessed.

    Args:
        attention_mask, input_ids (`torch.Tensor` of shape `(B, T)`).
        probability (`float`): Of every token that is none of `special_ids`.
        mode (`str`, *optional*, defaults to `"random"`): `"random"`; `"fixed"`: evenly spread tokens, the same every time; or
            `"all"`.

    Returns:
        `torch.BoolTensor` of shape `(B, T)`.
    """
    free = attention_mask.bool()
    if len(special_ids):
        free = free & ~torch.isin(input_ids, torch.as_tensor(list(special_ids), device=input_ids.device))
    if mode == "random":
        return free & (torch.rand(input_ids.shape, device=input_ids.device) < probability)
    step = max(1, round(1 / probability)) if probability > 0 and mode == "fixed" else 1
    return free & (torch.arange(input_ids.shape[1], device=input_ids.device) % step == step // 2)


def corrupt(embeds, masked, mask_vector, embedding, num_words, special_ids=(), mode="random"):
    """
    Replaces masked tokens as BERT does: 80 % by `[MASK]`, 10 % by a random word, 10 % stay.

    Args:
        embeds (`torch.Tensor` of shape `(B, T, E)`).
        masked (`torch.BoolTensor` of shape `(B, T)`): From [`draw_masked`].
        mask_vector (`torch.Tensor` of shape `(E,)`).
        embedding (`nn.Embedding`): The word embeddings; random words are none of `special_ids`.
        mode (`str`, *optional*, defaults to `"random"`): As in [`draw_masked`]: with `"fixed"` all become `[MASK]`, with `"all"`
            nothing changes.

    Returns:
        `torch.Tensor` of shape `(B, T, E)`.
    """
    if mode == "all":
        return embeds
    if mode == "fixed":
        return torch.where(masked.unsqueeze(-1), mask_vector.to(embeds.dtype), embeds)
    kind = torch.rand(masked.shape, device=embeds.device)
    words = torch.randint(num_words, masked.shape, device=embeds.device)
    if len(special_ids):  # a special token drawn stays what it was
        kind = torch.where(torch.isin(words, torch.as_tensor(list(special_ids), device=words.device)) & (kind >= 0.8), 1.0, kind)
    is_mask, is_word = masked & (kind < 0.8), masked & (kind >= 0.8) & (kind < 0.9)
    embeds = torch.where(is_mask.unsqueeze(-1), mask_vector.to(embeds.dtype), embeds)
    return torch.where(is_word.unsqueeze(-1), embedding(torch.where(is_word, words, 0)), embeds)


def masked_lm_loss(states, masked, input_ids, head, word_vectors, extra_vectors=None, extra_bias=None):
    """
    Cross-entropy of the masked tokens over the words (and `extra_vectors`); vocabulary logits are made for these tokens only.

    Args:
        states (`torch.Tensor` of shape `(B, T', D)`): The encoder's; text tokens stand in the first `T` places.
        masked (`torch.BoolTensor` of shape `(B, T)`), input_ids (`torch.LongTensor` of shape `(B, T)`).
        head ([`MaskedLMHead`]).
        word_vectors (`torch.Tensor` of shape `(V, E)`): From [`whole_weight`].
        extra_vectors, extra_bias (`torch.Tensor` of shapes `(C, E)` and `(C,)`, *optional*): More classes than the words.

    Returns:
        `torch.Tensor`: a scalar: the mean over the masked tokens of a document, then over documents; 0 for a document without.
    """
    rows, places = masked.nonzero(as_tuple=True)
    hidden = head(states[rows, places])  # (K, E)
    logits = at_least_float32(nn.functional.linear(hidden, word_vectors, head.bias))
    if extra_vectors is not None:
        logits = torch.cat([logits, at_least_float32(nn.functional.linear(hidden, extra_vectors, extra_bias))], 1)
    values = nn.functional.cross_entropy(logits, input_ids[rows, places], reduction="none")
    count = masked.sum(1).clamp(min=1)
    return values.new_zeros(len(masked)).index_add(0, rows, values / count[rows]).mean()


def whole_weight(embedding):
    """
    The weight of an embedding as one tensor, for use outside of the module.

    FSDP2 brings a module's weights together for its forward call and takes them apart again behind it; a product with the weight
    needs it whole until its backward pass is done.
    """
    if hasattr(embedding, "unshard"):
        embedding.set_reshard_after_forward(False, recurse=False)
        embedding.unshard()
    return embedding.weight
