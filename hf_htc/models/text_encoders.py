"""Text encoders: building any that `AutoModel` knows, one text vector per document, how long a text may be, and prompts, vectors
that a model puts among the token embeddings of a text.

Legend: `B` documents, `T` tokens, `D` hidden size, `P` prompt positions, `E` embedding size.
"""

import inspect

import torch
from torch import nn
from transformers import AutoModel
from transformers.utils import cached_file, logging

from .configuration_textrcnn import is_text_rcnn
from .errors import HTCError, HTCOSError, reason_of
from .modeling_textrcnn import TextRCNNModel
from .whole_checkpoints import check_encoder_weights, read_config


logger = logging.get_logger(__name__)


def build_text_encoder(text_config, keep_pooler=False):
    """A text encoder with fresh weights: the encoder side of an encoder-decoder, without an unused pooler."""
    if is_text_rcnn(text_config):
        # Not by AutoModel: in a process without the package nothing is registered, and code that came with a checkpoint may
        # be there twice, so that neither its classes nor the Auto classes recognise each other.
        return strip_text_encoder(TextRCNNModel(text_config), keep_pooler)
    return strip_text_encoder(AutoModel.from_config(text_config), keep_pooler)


def text_vector_size(config):
    """
    Width of the text vector that [`pool`] gives.

    Args:
        config ([`HTCConfig`]): Its `text_config` and `pooling`.

    Returns:
        `int`: the encoder's hidden size; with TextRCNN's own pooler `top_k` times as much.
    """
    if config.pooling == "pooler" and is_text_rcnn(config.text_config):
        return config.text_config.pooler_size
    return config.text_config.hidden_size


def load_text_encoder(name_or_path, dtype=torch.float32, attn_implementation=None, **hub_kwargs):
    """
    A pretrained text encoder as `AutoModel` loads it.

    Raises:
        `OSError`: there is no such encoder, its files are damaged, or weights are missing or not finite; the name is in the
        message.
    """
    if attn_implementation is not None:
        hub_kwargs["attn_implementation"] = attn_implementation
    try:
        model, info = AutoModel.from_pretrained(name_or_path, dtype=dtype, output_loading_info=True, **hub_kwargs)
    except ImportError:  # a package that it needs, which the message names
        raise
    except Exception as error:  # of transformers or safetensors: there is no end to how a file can be damaged
        raise HTCOSError(
            f"There is no text encoder {str(name_or_path)!r} that AutoModel can load. Give a folder with config.json and "
            f"weights, or a model id of the Hub. The reason: {reason_of(error)}."
        ) from error
    check_encoder_weights(model, strip_text_encoder(model, keep_pooler=True), info, str(name_or_path))
    return model


def strip_text_encoder(encoder, keep_pooler=False):
    """The part of a model that encodes text. A pooler that nobody reads would get no gradient, so it goes."""
    if getattr(encoder.config, "is_encoder_decoder", False):
        encoder = encoder.get_encoder()
    if getattr(encoder, "pooler", None) is not None and not keep_pooler:
        encoder.pooler = None
    return encoder


def default_pooling(text_config, name_or_path=None, **hub_kwargs):
    """
    The pooling an encoder was trained with.

    A sentence encoder says so in its `1_Pooling/config.json`; TextRCNN has its own; decoders are read at their last token,
    encoder-decoder encoders by the mean (they have no token for the whole text), others at their first token.
    """
    if is_text_rcnn(text_config):
        return "pooler"
    if name_or_path is not None:
        optional = dict.fromkeys(("missing_entries", "gated_repo", "connection_errors"), False)
        optional = {f"_raise_exceptions_for_{key}": value for key, value in optional.items()}
        file = cached_file(name_or_path, "1_Pooling/config.json", **optional, **hub_kwargs)
        if file is not None:
            said = read_config(file)
            modes = {
                "pooling_mode_mean_tokens": "mean",
                "pooling_mode_cls_token": "cls",
                "pooling_mode_lasttoken": "last",
            }
            for key, pooling in modes.items():
                if said.get(key):
                    return pooling
    if getattr(text_config, "classifier_pooling", None) in ("cls", "mean"):  # ModernBERT states it
        return text_config.classifier_pooling
    if getattr(text_config, "is_encoder_decoder", False):
        return "mean"
    return "last" if is_decoder_only(text_config) else "cls"


def is_decoder_only(text_config):
    """Whether the encoder reads from left to right, so that only the last token has seen the whole text."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = text_config.model_type
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def has_masked_lm(text_config):
    """Whether encoders of this kind are trained by masked language modelling."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return text_config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def max_positions(encoder):
    """How many tokens the encoder's position table takes, or `None` when positions are relative.

    RoBERTa-like encoders count positions from the padding id on, BART- and OPT-like ones leave two rows free."""
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Embedding) and name.rsplit(".", 1)[-1] in (
            "position_embeddings",
            "wpe",
            "embed_positions",
        ):
            offset = module.padding_idx + 1 if module.padding_idx is not None else getattr(module, "offset", 0)
            return module.num_embeddings - offset
    return None


def pool(outputs, attention_mask, pooling):
    """
    One vector a text from left-aligned token states.

    Args:
        outputs: The encoder's output with `last_hidden_state` of shape `(B, T, D)`.
        attention_mask (`torch.Tensor` of shape `(B, T)`).
        pooling (`str`): `"cls"`, `"mean"`, `"last"` or `"pooler"`.

    Returns:
        `torch.Tensor` of shape `(B, D)`.
    """
    if pooling == "pooler":
        return outputs.pooler_output
    states = outputs.last_hidden_state
    if pooling == "cls":
        return states[:, 0]
    if pooling == "mean":
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
    last = (attention_mask.sum(1).long() - 1).clamp(min=0)
    return states.gather(1, last.view(-1, 1, 1).expand(-1, 1, states.shape[-1])).squeeze(1)


def takes_keyword(encoder, name):
    """Whether the encoder's forward takes a keyword: it has an argument of that name; or it takes any, and hands those on that it
    has not (to its layers: what concerns embeddings, `token_type_ids` and `position_ids`, would be lost)."""
    parameters = inspect.signature(encoder.forward).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return name in parameters or (takes_any and name not in ("token_type_ids", "position_ids"))


def check_widths(tokens, **others):
    """
    Raises [`HTCError`] unless what is said of tokens is said of each.

    Args:
        tokens (`torch.Tensor` of shape `(B, T)` or `(B, T, E)`): Ids or embeddings.
        others (`torch.Tensor` or `None`): By name; of shape `(B, T)`.
    """
    if torch.compiler.is_compiling():  # traced shapes are symbolic
        return
    for name, tensor in others.items():
        if tensor is not None and tensor.shape != tokens.shape[:2]:
            raise HTCError(
                f"`{name}` has the shape {tuple(tensor.shape)}, but there are tokens of the shape {tuple(tokens.shape[:2])}, "
                "documents by length. Give what the tokenizer gave together.",
                field=name,
            )


def append_prompts(embeds, attention_mask, prompts, last_stays=False):
    """
    Puts prompts directly behind each row's last real token. Behind the padding they would change with it, on every encoder whose
    positions are counted from the first token.

    Args:
        embeds (`torch.Tensor` of shape `(B, T, E)`): Left-aligned token embeddings.
        attention_mask (`torch.Tensor` of shape `(B, T)`): 1 for real tokens, which stand in front.
        prompts (`torch.Tensor` of shape `(P, E)` or `(B, P, E)`).
        last_stays (`bool`, *optional*, defaults to `False`): Whether the last real token, [SEP], stays the last.

    Returns:
        `tuple`: the embeddings `(B, T + P, E)`, their mask, and where the prompts stand, `(B, P)`.
    """
    batch, length, _ = embeds.shape
    if prompts.dim() == 2:
        prompts = prompts.unsqueeze(0).expand(batch, -1, -1)
    number = prompts.shape[1]
    num_tokens = attention_mask.sum(1, keepdim=True).long()  # (B, 1)
    place = torch.arange(length + number, device=embeds.device)  # (T + P,)
    front = (num_tokens - 1).clamp(min=0) if last_stays else num_tokens
    # Tokens, then prompts, then what was behind the tokens: the padding.
    source = torch.where(place < front + number, length + place - front, place - number)
    source = torch.where(place < front, place, source)
    whole = torch.cat([embeds, prompts.to(embeds.dtype)], 1)
    embeds = whole.gather(1, source.unsqueeze(-1).expand(-1, -1, whole.shape[-1]))
    mask = (place < num_tokens + number).to(attention_mask.dtype)
    return embeds, mask, front + torch.arange(number, device=mask.device)
