"""`UnitConfig`: what the unit methods (HPT, HiDEC, PTMTTaxoFormer) have in common: the loss on units and its options."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict

from .configuration_htc import HTCConfig
from .configuration_textrcnn import is_text_rcnn
from .errors import HTCError


BINARY_UNIT_LOSSES = ("bce", "zlpr", "hbm", "asl", "wasl")


@strict
class UnitConfig(HTCConfig):
    """
    Options of the loss on units. `coherence="training"` is the binary cross-entropy of C-HMCNN and is refused.

    Args:
        unit_loss (`str`, *optional*, defaults to `"zlpr"`): `"bce"`, `"zlpr"`, `"hbm"`, `"asl"` or `"wasl"`; see
            `unit_losses.py`.
        loss_reduction (`str`, *optional*, defaults to `"document"`): Over the units of a document, then over documents; `"batch"`
            is over all units of the batch, as the authors' code has it: documents with many units then weigh more, and gradients
            depend on how a batch is cut; `"sum"` adds up the units of a document.
        hbm_bounds (`bool`, *optional*, defaults to `True`): HBM's learnable bounds, the thresholds at inference; without, 0.
        hbm_alpha (`float`, *optional*, defaults to 1.0): HBM's scale of the biases; 0 leaves them out.
        hbm_margin (`float`, *optional*, defaults to 0.1): HBM's margin, in [0, 0.5); 0 leaves it out. The paper takes 0.01 for
            EURLEX57K.
        hbm_bias (`str`, *optional*, defaults to `"std"`): How far the logits of a unit spread: `"std"`, or `"mad"`, the median
            absolute deviation, which does not mind outliers.
        asl_gamma_positive, asl_gamma_negative (`float`, *optional*, default to 1.0 and 4.0): Focusing parameters of ASL and WASL.
        asl_margin (`float`, *optional*, defaults to 0.05): Their probability margin, in [0, 1).
        asl_detach_focus (`bool`, *optional*, defaults to `False`): Whether their focusing factors carry no gradient.
        asl_eps (`float`, *optional*, defaults to 0.0): Least probability inside their logarithms; the released 1e-8 takes the
            gradient from what is most wrong.
        level_weights (`list[float]` or `"auto"`, *optional*, defaults to `"auto"`): WASL's weight of a positive label by its
            level. `"auto"` rises evenly from 1 at the first level to 2 at the last, and is replaced by the list.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): an unknown choice, a value out of range, or a TextRCNN where
        the method needs a transformer.
    """

    model_type = "htc_units"

    unit_loss: str = "zlpr"
    loss_reduction: str = "document"
    hbm_bounds: bool = True
    hbm_alpha: float | int = 1.0
    hbm_margin: float | int = 0.1
    hbm_bias: str = "std"
    asl_gamma_positive: float | int = 1.0
    asl_gamma_negative: float | int = 4.0
    asl_margin: float | int = 0.05
    asl_detach_focus: bool = False
    asl_eps: float | int = 0.0
    level_weights: list | str = "auto"

    unit_loss_choices: ClassVar[tuple[str, ...]] = BINARY_UNIT_LOSSES

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.level_weights == "auto":
            self.validate_hierarchy()
            num_levels = self.get_hierarchy().num_levels
            self.level_weights = [1 + level / max(1, num_levels - 1) for level in range(num_levels)]

    @property
    def uses_bounds(self):
        """Whether the model predicts a bound for every unit."""
        return self.unit_loss == "hbm" and self.hbm_bounds

    def validate_unit_loss(self):
        for key, allowed in (
            ("unit_loss", self.unit_loss_choices),
            ("loss_reduction", ("document", "sum", "batch")),
            ("hbm_bias", ("std", "mad")),
        ):
            if getattr(self, key) not in allowed:
                raise HTCError(f"`{key}` is {getattr(self, key)!r}; allowed are {', '.join(map(repr, allowed))}.")
        for key in ("hbm_alpha", "asl_gamma_positive", "asl_gamma_negative", "asl_eps"):
            if not getattr(self, key) >= 0:
                raise HTCError(f"`{key}` is {getattr(self, key)}; it is at least 0.")
        if not 0 <= self.hbm_margin < 0.5:
            raise HTCError(f"`hbm_margin` is {self.hbm_margin}; it lies in [0, 0.5).")
        if not 0 <= self.asl_margin < 1:
            raise HTCError(f"`asl_margin` is {self.asl_margin}; it lies in [0, 1).")
        if self.coherence == "training":
            raise HTCError(
                "`coherence='training'` is a binary cross-entropy over all labels, and this method has a loss of its own; use "
                "`coherence='decoder'`."
            )

    def validate_level_weights(self):
        num_levels = self.get_hierarchy().num_levels
        weights = self.level_weights
        if not isinstance(weights, list) or len(weights) != num_levels or not all(weight > 0 for weight in weights):
            raise HTCError(f"`level_weights` is {weights!r}; give one number above 0 for each of the {num_levels} levels.")


def check_transformer(config, method):
    """Raises `ValueError` for a text encoder whose tokens do not attend to each other, and for a pooler that nobody reads."""
    if config.pooling == "pooler":
        raise HTCError(f"{method} reads the tokens; nobody would read the part that `pooling='pooler'` trains, leave it out.")
    if is_text_rcnn(config.text_config):
        raise HTCError(
            f"{method} puts prompts among the tokens, which a {config.text_config.model_type} encoder does not relate to each "
            "other; take a transformer such as BERT."
        )
