"""`PromptConfig`: what methods that read a text encoder by prompts (HPT, PTMTTaxoFormer) have in common."""

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN

from .configuration_units import UnitConfig, check_transformer
from .errors import HTCError
from .text_encoders import has_masked_lm


@strict
class PromptConfig(UnitConfig):
    """
    Options of the masked language modelling beside the classification.

    Args:
        mlm_head (`str`, *optional*, defaults to `"auto"`): The transform before the product with the word embeddings:
            `"pretrained"` from the encoder's checkpoint, `"fresh"` with new weights, or `"identity"`, none. `from_text_encoder`
            takes the checkpoint's and warns where there is none; a model from nothing has a fresh one where its kind of encoder
            is trained with one, and none otherwise. Replaced by what it is.
        mlm_activation (`str`, *optional*, defaults to `"gelu"`): Activation of the transform.
        mlm_layer_norm_eps (`float`, *optional*, defaults to 1e-12): Of its layer norm.
        mlm_probability (`float`, *optional*, defaults to 0.15): Share of the tokens that are to be guessed, in [0, 1); of them
            80 % become [MASK], 10 % another word, 10 % stay.
        state_scale (`float` or `"auto"`, *optional*, defaults to `"auto"`): Factor on the encoder's states. `"auto"` is 1 where
            encoders of the kind are trained by masked language modelling, else `hidden_size ** -0.5`, the factor of T5's own
            head, and is replaced by it.
        special_token_ids (`list[int]`, *optional*): Tokens that are never masked, as the tokenizer names them.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): an unknown choice, a value out of range, a TextRCNN encoder.
    """

    model_type = "htc_prompts"

    mlm_head: str = "auto"
    mlm_activation: str = "gelu"
    mlm_layer_norm_eps: float | int = 1e-12
    mlm_probability: float | int = 0.15
    state_scale: float | int | str = "auto"
    special_token_ids: list | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.mlm_head == "auto":
            self.mlm_head = "fresh" if has_masked_lm(self.text_config) else "identity"
        if self.state_scale == "auto":
            self.state_scale = 1.0 if has_masked_lm(self.text_config) else self.text_config.hidden_size**-0.5

    @property
    def num_prompt_tokens(self):
        """Positions that the method adds to every text."""
        raise NotImplementedError(f"{type(self).__name__} does not say how many positions it adds to a text.")

    def validate_prompts(self):
        check_transformer(self, self.model_type.removeprefix("htc_").upper())
        allowed = ("pretrained", "fresh", "identity")
        if self.mlm_head not in allowed:
            raise HTCError(f"`mlm_head` is {self.mlm_head!r}; allowed are {', '.join(map(repr, allowed))} and 'auto'.")
        if self.mlm_activation not in ACT2FN:
            raise HTCError(f"`mlm_activation` is {self.mlm_activation!r}, which transformers does not know.")
        if not 0 <= self.mlm_probability < 1:
            raise HTCError(f"`mlm_probability` is {self.mlm_probability}; it lies in [0, 1).")
        if isinstance(self.state_scale, str) or not self.state_scale > 0:
            raise HTCError(f"`state_scale` is {self.state_scale!r}; give a number above 0, or 'auto'.")
        if not self.mlm_layer_norm_eps > 0:
            raise HTCError(f"`mlm_layer_norm_eps` is {self.mlm_layer_norm_eps}; it is above 0.")
