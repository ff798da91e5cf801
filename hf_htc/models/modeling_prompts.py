"""`PromptPreTrainedModel`: the base of methods that read a text encoder by prompts (HPT, PTMTTaxoFormer)."""

import torch
from transformers.utils import logging

from .configuration_prompts import PromptConfig
from .errors import HTCError
from .modeling_htc import HTCPreTrainedModel
from .modules import left_align
from .prompt_masked_lm import corrupt, draw_masked, load_masked_lm
from .text_encoders import check_widths


logger = logging.get_logger(__name__)


class PromptPreTrainedModel(HTCPreTrainedModel):
    """
    A model whose classifier has vectors of its own among the tokens, and a masked language modelling head `classifier.mlm`.

    A subclass's classifier has `mlm`, a [`MaskedLMHead`], and `start(model, tokenizer)`, which sets the vectors that come from
    words.
    """

    config: PromptConfig

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

    def _start(self, head, tokenizer):
        if head is not None:
            self.classifier.mlm.take(head)
        if tokenizer is not None:
            self.classifier.start(self, tokenizer)

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
