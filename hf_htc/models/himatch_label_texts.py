"""Embeddings of label texts, made by a model's own text encoder.

Legend: `K` texts, `T` tokens, `E` size of an embedding.
"""

import torch
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from .errors import HTCError, HTCTypeError
from .text_encoders import pool, text_vector_size


logger = logging.get_logger(__name__)


def label_embedding_size(model, source):
    """`E` of [`embed_label_texts`], without making any."""
    if source == "words":
        return model.get_input_embeddings().embedding_dim
    return text_vector_size(model.config) if source == "text" else model.config.text_config.hidden_size


def tokenize_label_texts(model, tokenizer, texts, source):
    """
    Token ids of texts, cut at what the encoder takes.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: ids and mask `(K, T)`, padded right, on the CPU.
    """
    limit = model.config.max_text_length
    rows = tokenizer(
        list(texts), truncation=limit is not None, max_length=limit, add_special_tokens=source != "words",
        return_attention_mask=False, return_token_type_ids=False,
    )["input_ids"]  # fmt: skip
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(int(lengths.max())) < lengths.unsqueeze(1)).long()
    ids = torch.full(mask.shape, tokenizer.pad_token_id or 0)
    ids[mask > 0] = torch.tensor([token for row in rows for token in row], dtype=torch.long)
    empty = (lengths == 0).nonzero().flatten().tolist()
    if empty:
        logger.warning(f"{len(empty)} label texts have no token and get zeros, the first is {texts[empty[0]]!r}.")
    return ids, mask


@torch.no_grad()
def embed_label_tokens(model, ids, mask, source, batch_size=64):
    """
    One vector a text.

    Args:
        model ([`HTCPreTrainedModel`]): Its text encoder makes them, without dropout.
        ids, mask (`torch.Tensor` of shape `(K, T)`): From [`tokenize_label_texts`].
        source (`str`): `"words"`: the mean of the word embeddings, special tokens left out; `"tokens"`: the mean of the
            encoder's last states, special tokens included; `"text"`: the vector of a text, as the model pools it.
        batch_size (`int`, *optional*, defaults to 64): Texts at a time.

    Returns:
        `torch.Tensor` of shape `(K, E)`, float32, on the model's device; zero for a text without a token.
    """
    device = model.device
    lengths = mask.sum(1)
    result = torch.zeros(len(ids), label_embedding_size(model, source), device=device)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        for rows in lengths.argsort(descending=True).split(batch_size):
            rows = rows[lengths[rows] > 0]
            if not len(rows):
                break
            longest = int(lengths[rows].max())
            tokens, real = ids[rows, :longest].to(device), mask[rows, :longest].to(device)
            if source == "words":
                outputs = BaseModelOutput(model.get_input_embeddings()(tokens))
            else:
                outputs, real = model.encode_tokens(tokens, real)
            result[rows.to(device)] = pool(outputs, real, model.config.pooling if source == "text" else "mean").float()
    finally:
        for module, training in modes:
            module.training = training
    return result


def embed_label_texts(model, tokenizer, texts, source, batch_size=64):
    """[`embed_label_tokens`] of texts."""
    return embed_label_tokens(model, *tokenize_label_texts(model, tokenizer, texts, source), source, batch_size)


def hierarchy_texts(hierarchy, kind="texts"):
    """The texts of all nodes: `"texts"`, their words, or `"descriptions"`, their descriptions where they have one."""
    if kind == "texts" or hierarchy.descriptions is None:
        return list(hierarchy.texts)
    return [description or text for description, text in zip(hierarchy.descriptions, hierarchy.texts)]


def complete_texts(texts, hierarchy, kind="texts"):
    """
    The texts of all nodes, from what a user gives.

    Args:
        texts (`list[str]`, `dict[str, str]` or `None`): One a node or one a label, in id order; or by the name of a node. Nodes
            left out have those of [`hierarchy_texts`].

    Raises:
        `ValueError`: a list of another length, an unknown name (close names are given). `TypeError`: something that is no text.
    """
    own = hierarchy_texts(hierarchy, kind)
    if texts is None:
        return own
    if isinstance(texts, dict):
        given = {hierarchy.id(name): text for name, text in texts.items()}
    elif len(texts) in (hierarchy.num_nodes, hierarchy.num_labels):
        given = dict(enumerate(texts))
    else:
        raise HTCError(
            f"`texts` has {len(texts)} entries; give one a label ({hierarchy.num_labels}), one a node ({hierarchy.num_nodes}), "
            "or a dict by name."
        )
    for node, text in given.items():
        if not isinstance(text, str):
            raise HTCTypeError(f"The text of {hierarchy.names[node]!r} is a {type(text).__name__}; give a string.")
        own[node] = text if text.strip() else own[node]
    return own
