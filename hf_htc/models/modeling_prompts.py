"""`PromptPreTrainedModel`: the base of methods that read a text encoder by prompts (HPT, PTMTTaxoFormer)."""

from dataclasses import dataclass

import torch
from transformers.utils import logging

from .configuration_prompts import PromptConfig
from .errors import HTCError
from .modeling_htc import EncodedText, HTCPreTrainedModel
from .modules import left_align
from .prompt_masked_lm import corrupt, draw_masked, load_masked_lm, masked_lm_loss, whole_weight
from .text_encoders import check_widths


logger = logging.get_logger(__name__)


@dataclass
class EncodedPrompts(EncodedText):
    """
    Texts with prompts behind them.

    Args:
        outputs, attention_mask: As in [`EncodedText`], with the prompts.
        states (`torch.Tensor` of shape `(B, T, D)`): The encoder's, times `config.state_scale`.
        places (`torch.LongTensor` of shape `(B, P)`): Where the prompts stand.
        masked (`torch.BoolTensor` of shape `(B, T')`, *optional*), word_ids (`torch.LongTensor` of shape `(B, T')`, *optional*):
            Which words of the text are to be guessed, and its words, without the prompts.
        masked_slots (`torch.BoolTensor` of shape `(B, L)`, *optional*): Which label slots were masked; `None` is all.
    """

    states: torch.Tensor
    places: torch.Tensor
    masked: torch.Tensor | None = None
    word_ids: torch.Tensor | None = None
    masked_slots: torch.Tensor | None = None


class PromptPreTrainedModel(HTCPreTrainedModel):
    """
    A model whose classifier has vectors of its own among the tokens, and a masked language modelling head `classifier.mlm`.

    A subclass says by `prompts_behind` what stands behind a text and by `mask_vector` whether words are guessed. Its classifier
    has `mlm`, a [`MaskedLMHead`], and `start_from_encoder(model, tokenizer)`, which sets the vectors that come from words.
    """

    config: PromptConfig
    has_units = True
    # Whether the prompts stand before a text's last token, [SEP].
    last_stays = False

    def prompts_behind(self, targets=None):
        """
        What stands behind the texts.

        Args:
            targets (`torch.Tensor` of shape `(B, N)`, *optional*): The labels of a training step.

        Returns:
            `tuple`: embeddings `(P, E)` or `(B, P, E)`, and which of their label slots are masked, `(B, L)`, or `None` for all.
        """
        raise NotImplementedError

    def mask_vector(self):
        """What a masked word becomes, `(E,)`; `None` where no words are to be guessed now."""
        raise NotImplementedError

    def encode(self, input_ids=None, attention_mask=None, token_type_ids=None, inputs_embeds=None, targets=None, **kwargs):
        """As [`~HTCPreTrainedModel.encode`], with the prompts behind every text, and with `targets` masked words where there are
        to be some; gives [`EncodedPrompts`]."""
        masked = word_ids = mask_vector = None
        if targets is not None and input_ids is not None and inputs_embeds is None:
            mask_vector = self.mask_vector()
        if mask_vector is not None:
            attention_mask, word_ids, token_type_ids, inputs_embeds, masked = self.mask_words(
                attention_mask, input_ids, token_type_ids, mask_vector, self.last_stays
            )
            input_ids = None
        prompts, masked_slots = self.prompts_behind(targets)
        outputs, attention_mask, places = self.encode_tokens(
            input_ids, attention_mask, token_type_ids, inputs_embeds, prompts, self.last_stays, **kwargs
        )
        states = self.config.state_scale * outputs.last_hidden_state
        return EncodedPrompts(outputs, attention_mask, states, places, masked, word_ids, masked_slots)

    def masked_word_loss(self, encoded, class_vectors=None, class_bias=None):
        """
        The cross-entropy of the masked words of [`EncodedPrompts`], a scalar.

        Args:
            class_vectors (`torch.Tensor` of shape `(C, E)`, *optional*), class_bias (`torch.Tensor` of shape `(C,)`, *optional*):
                Classes that a masked word may be beside the words.
        """
        words = whole_weight(self.get_input_embeddings())
        return masked_lm_loss(
            encoded.states, encoded.masked, encoded.word_ids, self.classifier.mlm, words, class_vectors, class_bias
        )

    @classmethod
    def _load_encoder(cls, name_or_path, config, dtype, attn_implementation, hub_kwargs):
        encoder, head = load_masked_lm(name_or_path, dtype, attn_implementation, **hub_kwargs)
        wanted = config.get("mlm_head", "auto")
        if wanted in ("auto", "pretrained"):
            if head is None:
                if wanted == "pretrained":
                    raise HTCError(
                        f"`mlm_head='pretrained'`, but {str(name_or_path)!r} brings no masked language modelling head; use "
                        "'fresh', 'identity' or 'auto'."
                    )
                logger.warning(
                    f"{str(name_or_path)!r} brings no masked language modelling head; its states are compared with the word "
                    "embeddings as they are (`mlm_head='identity'`)."
                )
                config["mlm_head"] = "identity"
            else:
                config.update(mlm_head="pretrained", mlm_activation=head["activation"], mlm_layer_norm_eps=head["eps"])
        return encoder, head if config["mlm_head"] == "pretrained" else None

    def start_from_encoder(self, head, tokenizer):
        if head is not None:
            self.classifier.mlm.take(head)
        if tokenizer is not None:
            self.classifier.start_from_encoder(self, tokenizer)

    def fit_tokenizer(self, tokenizer):
        """As [`~HTCPreTrainedModel.fit_tokenizer`]; also records the special tokens, which are never masked."""
        super().fit_tokenizer(tokenizer)
        self.config.special_token_ids = sorted(set(tokenizer.all_special_ids))

    def resize_token_embeddings(self, *args, **kwargs):
        """As transformers' own; the head's bias for the words grows along."""
        embedding = super().resize_token_embeddings(*args, **kwargs)
        self.classifier.mlm.resize(embedding.num_embeddings)
        return embedding

    def special_token_ids(self):
        """Tokens that are never masked: what the tokenizer said, else the padding."""
        ids = self.config.special_token_ids
        pad = getattr(self.config.text_config, "pad_token_id", None)
        return ids if ids is not None else [pad] if isinstance(pad, int) else []

    def word_vectors_of(self, token_id):
        """The embedding of one token, `(E,)`."""
        embedding = self.get_input_embeddings()
        return embedding(torch.tensor([token_id], device=embedding.weight.device))[0]

    def mask_words(self, attention_mask, input_ids, token_type_ids, mask_vector, last_stays=False):
        """
        Corrupts the words of a text in training; in eval mode all of them are to be guessed, and nothing changes.

        Args:
            attention_mask, input_ids, token_type_ids (`torch.LongTensor` of shape `(B, T)`): The first and last may be `None`.
            mask_vector (`torch.Tensor` of shape `(E,)`): What a masked word becomes.
            last_stays (`bool`, *optional*, defaults to `False`): Whether the last token, [SEP], is never masked.

        Returns:
            `tuple`: mask, ids and token types, now left-aligned, the embeddings `(B, T, E)`, and which words are to be guessed,
            `(B, T)`.
        """
        check_widths(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        attention_mask, input_ids, token_type_ids = left_align(attention_mask, input_ids, token_type_ids)
        special, embedding = self.special_token_ids(), self.get_input_embeddings()
        mode = ("random" if self.classifier.mlm.is_random else "fixed") if self.training else "all"
        masked = draw_masked(attention_mask, input_ids, self.config.mlm_probability, special, mode)
        if last_stays:
            place = torch.arange(masked.shape[1], device=masked.device)
            masked = masked & (place < attention_mask.sum(1, keepdim=True) - 1)
        embeds = corrupt(embedding(input_ids), masked, mask_vector, embedding, embedding.num_embeddings, special, mode)
        return attention_mask, input_ids, token_type_ids, embeds, masked
