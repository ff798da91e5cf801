"""Configuration of PTMTTaxoFormer (Vasantha, Nguyen and Zhang)."""

from huggingface_hub.dataclasses import strict

from .configuration_prompts import PromptConfig
from .configuration_units import BINARY_UNIT_LOSSES
from .errors import HTCError
from .prompt_masked_lm import embedding_size
from .text_encoders import is_decoder_only


@strict
class PTMTTaxoFormerConfig(PromptConfig):
    """
    Configuration of [`PTMTTaxoFormerForHierarchicalTextClassification`]. What the paper leaves open, and why each default is what
    it is, says model_cards/ptmt.md.

    The paper's ablations: `mlm_alpha=0`, `l1_weight=0`, `unit_loss="bce"`, `train_label_tokens=False`.

    Args:
        level_problem (`str`, *optional*, defaults to `"multi_label"`): `"single_label"`: at most one label per level, by a
            softmax over the labels of the level and "none", which every level has as a class of its own.
        unit_loss (`str`, *optional*, defaults to `"auto"`): `"wasl"`, or any other loss of [`UnitConfig`]; with
            `level_problem="single_label"` `"cross_entropy"`, or `"asl"` in its single-label form. `"auto"` is the first of these.
        num_prompts (`int`, *optional*, defaults to 5): `m`, learnable prompt vectors; the paper searches 2 to 10.
        prompt_template (`str`, *optional*, defaults to `"section"`): What stands behind the text: `"section"`, prompts, a slot
            per level, a separator (Section 2.1; a decoder, which would not read it any more, gets no separator); `"appendix"`,
            prompts, a separator, the slots (A.7).
        prompt_init (`str`, *optional*, defaults to `"words"`): Prompt vectors begin as the embeddings of random `"words"`, or
            `"normal"`. A model that is built without a tokenizer has normal ones.
        label_init (`str`, *optional*, defaults to `"names"`): Label tokens begin as the mean embedding of the words of the
            hierarchy's texts, or `"random"`; random without a tokenizer too.
        train_label_tokens (`bool`, *optional*, defaults to `True`): `False` leaves the label tokens as they begin (A.11).
        use_mlm_transform (`bool`, *optional*, defaults to `True`): Whether the state at a slot goes through the transform of the
            masked language modelling head before the product with label tokens, as every [MASK] of a BERT does.
        mlm_alpha (`float` or `"auto"`, *optional*, defaults to `"auto"`): `alpha` of Eq. 3, in [0, 1). 0 leaves the masked
            language modelling and its parameters out. The paper searches [0.7, 1]; `"auto"` is 0.7, and 0 with
            `mlm_head="identity"`: an encoder that cannot guess words would learn that first and the labels much later. Replaced
            by what it is.
        mlm_classes (`str`, *optional*, defaults to `"words"`): What a masked word is told from: all `"words"`, or
            `"words_and_labels"`, label tokens being words of the vocabulary too.
        l1_weight (`float`, *optional*, defaults to 1.0): `alpha_l1` of Eq. 3, at least 0.
        l1_scope (`str`, *optional*, defaults to `"level"`): Labels are counted in every `"level"`, or in the whole `"document"`.
        label_mask_probability (`float`, *optional*, defaults to 0.9): `p_label`, in (0, 1]: how probably a slot is masked in
            training; otherwise it holds the mean of the label tokens of its level's labels.
        wasl_slots (`str`, *optional*, defaults to `"masked"`): Slots that the classification loss looks at; `"all"` are also
            those that hold their own answer.
        prune (`bool` or `"auto"`, *optional*, defaults to `"auto"`): Whether predictions are pruned to paths of the hierarchy:
            `logits` become at most those of their parents. `"auto"`: when the training labels are closed.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): an unknown choice, a value out of range, options that exclude
        each other.
    """

    model_type = "htc_ptmt"
    pretrained_learning_rates = {"learning_rate": 1e-4, "classifier_learning_rate": 5e-2}
    attribute_map = {"template": "prompt_template", "problem": "level_problem"}  # names of 0.1.0
    unit_loss_choices = (*BINARY_UNIT_LOSSES, "cross_entropy")

    unit_loss: str = "auto"
    level_problem: str = "multi_label"
    num_prompts: int = 5
    prompt_template: str = "section"
    prompt_init: str = "words"
    label_init: str = "names"
    train_label_tokens: bool = True
    use_mlm_transform: bool = True
    mlm_alpha: float | int | str = "auto"
    mlm_classes: str = "words"
    l1_weight: float | int = 1.0
    l1_scope: str = "level"
    label_mask_probability: float | int = 0.9
    wasl_slots: str = "masked"
    prune: bool | str = "auto"

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.unit_loss == "auto":
            self.unit_loss = "cross_entropy" if self.level_problem == "single_label" else "wasl"
        if self.mlm_alpha == "auto":
            self.mlm_alpha = 0.0 if self.mlm_head == "identity" else 0.7
        if not self.use_mlm_transform and self.mlm_alpha == 0:
            self.mlm_head = "identity"  # nobody would read its transform

    @property
    def has_separator(self):
        """Whether a vector of the model's own separates or ends what stands behind the text."""
        return self.prompt_template == "appendix" or not is_decoder_only(self.text_config)

    @property
    def num_prompt_tokens(self):
        """`int`: prompts, a slot a level, the separator."""
        return self.num_prompts + self.get_hierarchy().num_levels + self.has_separator

    @property
    def prunes(self):
        """Whether predictions are pruned, with `prune="auto"` by what is known of the training labels."""
        return self.label_closure == "closed" if self.prune == "auto" else self.prune

    def validate_ptmt(self):
        for key, allowed in (
            ("level_problem", ("multi_label", "single_label")),
            ("prompt_template", ("section", "appendix")),
            ("prompt_init", ("words", "normal")),
            ("label_init", ("names", "random")),
            ("mlm_classes", ("words", "words_and_labels")),
            ("l1_scope", ("level", "document")),
            ("wasl_slots", ("masked", "all")),
            ("prune", (True, False, "auto")),
        ):
            if getattr(self, key) not in allowed:
                raise HTCError(f"`{key}` is {getattr(self, key)!r}; allowed are {', '.join(map(repr, allowed))}.")
        if self.num_prompts < 1:
            raise HTCError(f"`num_prompts` is {self.num_prompts}; it is at least 1.")
        if isinstance(self.mlm_alpha, str) or not 0 <= self.mlm_alpha < 1:
            raise HTCError(
                f"`mlm_alpha` is {self.mlm_alpha!r}; it lies in [0, 1). At 1, which the paper's range includes, no label is "
                "learnt."
            )
        if self.mlm_alpha and not self.mlm_probability:
            raise HTCError("`mlm_probability` is 0, so that no word is ever masked; use `mlm_alpha=0` to leave the part out.")
        if not self.l1_weight >= 0:
            raise HTCError(f"`l1_weight` is {self.l1_weight}; it is at least 0.")
        if not 0 < self.label_mask_probability <= 1:
            raise HTCError(f"`label_mask_probability` is {self.label_mask_probability}; it lies in (0, 1].")

    def validate_problem(self):
        allowed = ("cross_entropy", "asl") if self.level_problem == "single_label" else BINARY_UNIT_LOSSES
        if self.unit_loss not in allowed:
            raise HTCError(
                f"`unit_loss` is {self.unit_loss!r}; with `level_problem={self.level_problem!r}` allowed are "
                f"{', '.join(map(repr, allowed))} and 'auto'."
            )

    def validate_slots(self):
        hidden, size = self.text_config.hidden_size, embedding_size(self.text_config)
        if not self.use_mlm_transform and hidden != size:
            raise HTCError(
                f"`use_mlm_transform=False` compares the encoder's states, which have {hidden} dimensions, with label tokens of "
                f"{size}; leave it out."
            )
