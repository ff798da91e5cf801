"""Embeddings of label texts, made by a model's own text encoder.

Legend: `K` texts, `T` tokens, `E` size of an embedding.
"""

import torch
from transformers.utils import logging


logger = logging.get_logger(__name__)


def label_embedding_size(model, source):
    """`E` of [`embed_label_texts`], without making any."""
    return model.get_input_embeddings().embedding_dim if source == "words" else model.config.text_config.hidden_size


@torch.no_grad()
def embed_label_texts(model, tokenizer, texts, source, batch_size=64):
    """
    One vector a text.

    Args:
        model ([`HTCPreTrainedModel`]): Its text encoder makes them, without dropout.
        tokenizer (`PreTrainedTokenizer`): The encoder's.
        texts (`list[str]`): `K` texts; longer ones than the encoder takes are cut.
        source (`str`): `"words"`: the mean of the word embeddings, special tokens left out; `"encoder"`: the mean of the
            encoder's last states, special tokens included.
        batch_size (`int`, *optional*, defaults to 64): Texts at a time.

    Returns:
        `torch.Tensor` of shape `(K, E)`, float32, on the model's device; zero for a text without a token.
    """
    limit, rows = model.config.max_text_length, sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    result = torch.zeros(len(texts), label_embedding_size(model, source), device=model.device)
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(rows), batch_size):
            chosen = rows[start : start + batch_size]
            batch = tokenizer(
                [texts[i] for i in chosen], truncation=limit is not None, max_length=limit, padding=True, return_tensors="pt",
                add_special_tokens=source == "encoder", return_token_type_ids=False,
            ).to(model.device)  # fmt: skip
            mask = batch["attention_mask"]
            if not mask.shape[1]:
                continue
            if source == "words":
                states = model.get_input_embeddings()(batch["input_ids"].long())
            else:
                outputs, mask = model.encode_tokens(batch["input_ids"], mask)
                states = outputs.last_hidden_state
            weights = mask.unsqueeze(-1).float()
            means = (states.float() * weights).sum(1) / weights.sum(1).clamp(min=1)
            result[torch.tensor(chosen, device=result.device)] = means
    finally:
        model.train(was_training)
    empty = [texts[i] for i in (result == 0).all(1).nonzero().flatten().tolist()]
    if empty:
        logger.warning(f"{len(empty)} label texts have no token and an embedding of zeros, the first is {empty[0]!r}.")
    return result


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
        raise ValueError(
            f"`texts` has {len(texts)} entries; give one a label ({hierarchy.num_labels}), one a node ({hierarchy.num_nodes}), or "
            "a dict by name."
        )
    for node, text in given.items():
        if not isinstance(text, str):
            raise TypeError(f"The text of {hierarchy.names[node]!r} is a {type(text).__name__}; give a string.")
        own[node] = text if text.strip() else own[node]
    return own
