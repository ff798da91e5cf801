"""Configuration of HPT (Wang et al., EMNLP 2022)."""

from huggingface_hub.dataclasses import strict

from .configuration_prompts import PromptConfig
from .errors import HTCError


@strict
class HPTConfig(PromptConfig):
    """
    Configuration of [`HPTForHierarchicalTextClassification`]. The loss on units has HBM's settings for HPT (`hbm_alpha` 0.1);
    `text_dropout` is that on the slots' states, 0 as released.

    Args:
        level_loss (`str`, *optional*, defaults to `"per_level"`): The units: `"per_level"`, the labels of each level, as in the
            paper; or `"joint"`, all labels of a document, which is what the released code computes.
        graph_edges (`str`, *optional*, defaults to `"both"`): Which way messages go in the graph of labels and level prompts:
            `"both"`, `"to_levels"` (from children to parents and from labels to their level) or `"released"` (the other way:
            what the released code does; level prompts then see nothing but themselves, and labels are read by nobody).
        num_graph_layers (`int`, *optional*, defaults to 1): Layers of the graph encoder; 0 leaves it out. With one layer a level
            prompt sees the labels of its level, with two also their parents and children.
        graph_form (`str`, *optional*, defaults to `"attention"`): `"attention"`: a graph attention layer, dropout, residual and
            layer norm, as released; `"mean"`: `x + relu(mean of W x)`, as printed.
        graph_dropout (`float`, *optional*, defaults to 0.1): Dropout on what a layer adds.
        prompt_template (`str`, *optional*, defaults to `"paper"`): `"paper"`: the prompts stand behind the text and its [SEP];
            `"released"`: in front of that last token.
        label_init (`str`, *optional*, defaults to `"names"`): Where label embeddings start: the mean of the word embeddings of
            the label's text, `"names"`; with [CLS] and [SEP] among them, `"names_with_special_tokens"`, as released; or
            `"random"`.
        mlm_weight (`float` or `"auto"`, *optional*, defaults to `"auto"`): Weight of the masked language modelling in training; 0
            leaves it out. `"auto"` is 1, as in the paper, and 0 with `mlm_head="identity"`: an encoder that cannot guess words
            would learn that first and the labels much later. Replaced by what it is.
        mlm_in_eval (`bool`, *optional*, defaults to `False`): Whether the loss in eval mode has it too, on the whole text without
            any corruption, as released. Logits never depend on it.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): an unknown choice, or a value out of range.
    """

    model_type = "htc_hpt"
    pretrained_learning_rates = {"learning_rate": 1e-4, "classifier_learning_rate": 2e-2}
    attribute_map = {"edges": "graph_edges", "template": "prompt_template"}  # names of 0.1.0

    text_dropout: float | int = 0.0
    hbm_alpha: float | int = 0.1
    level_loss: str = "per_level"
    graph_edges: str = "both"
    num_graph_layers: int = 1
    graph_form: str = "attention"
    graph_dropout: float | int = 0.1
    prompt_template: str = "paper"
    label_init: str = "names"
    mlm_weight: float | int | str = "auto"
    mlm_in_eval: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.mlm_weight == "auto":
            self.mlm_weight = 0.0 if self.mlm_head == "identity" else 1.0

    @property
    def num_prompt_tokens(self):
        """Two positions a level: the prompt and its slot."""
        return 2 * self.get_hierarchy().num_levels

    def validate_hpt(self):
        for key, allowed in (
            ("level_loss", ("per_level", "joint")),
            ("graph_edges", ("both", "to_levels", "released")),
            ("graph_form", ("attention", "mean")),
            ("prompt_template", ("paper", "released")),
            ("label_init", ("names", "names_with_special_tokens", "random")),
        ):
            if getattr(self, key) not in allowed:
                raise HTCError(f"`{key}` is {getattr(self, key)!r}; allowed are {', '.join(map(repr, allowed))}.")
        for key in ("num_graph_layers", "mlm_weight"):
            if isinstance(getattr(self, key), str) or not getattr(self, key) >= 0:
                raise HTCError(f"`{key}` is {getattr(self, key)!r}; it is at least 0.")
