"""Configuration of HiDEC (Im et al., AAAI 2023), in the form of the HBM paper (Kim et al., 2024)."""

from huggingface_hub.dataclasses import strict

from .configuration_textrcnn import is_text_rcnn
from .configuration_units import UnitConfig
from .errors import HTCError
from .hidec_unrolled import MAX_COPIES, check_copies, count_copies, unroll


# Up to this many units all of them are scored for every document; beyond, only those that are reached.
DENSE_LIMIT = 512


@strict
class HiDECConfig(UnitConfig):
    """
    Configuration of [`HiDECForHierarchicalTextClassification`]. It reads the tokens of a text, so `pooling` changes nothing, and
    `"pooler"` is refused; `text_dropout` is the dropout on the token states.

    Args:
        unit_loss (`str`, *optional*, defaults to `"hbm"`): `"bce"`, `"zlpr"`, `"hbm"`, `"asl"` or `"wasl"`; the options of each
            are those of [`UnitConfig`].
        num_decoder_layers (`int`, *optional*, defaults to 2): Layers of the decoder.
        num_decoder_heads (`int` or `"auto"`, *optional*, defaults to `"auto"`): Its attention heads. `"auto"` takes as many as
            the text encoder has (12 where it has none), or the next smaller number that divides its width, and is replaced by it.
        decoder_ffn_dim (`int` or `"auto"`, *optional*, defaults to `"auto"`): Width of its feed-forward layers. `"auto"` is four
            times the encoder's width.
        decoder_dropout (`float`, *optional*, defaults to 0.1): Dropout in the decoder, on its embeddings, and on unit states
            before the logits.
        decoder_residual (`bool`, *optional*, defaults to `True`): Residual connections; the first release of HiDEC has none.
        label_bias (`bool`, *optional*, defaults to `True`): A bias for every candidate of a node, which starts at the log-odds of
            the child among the training documents of its parent. The papers have none.
        inference (`str`, *optional*, defaults to `"auto"`): `"dense"` scores every unit of the hierarchy, `"expand"` level by
            level those that chosen labels lead to; predictions are equal. `"auto"` takes `"dense"` up to 512 units, and is
            replaced by what it takes. What is exported is always dense.
        empty_prediction (`str`, *optional*, defaults to `"best"`): What becomes of a document without a chosen label: `"best"`
            gives it the label that came closest, `"allow"` leaves it empty, as released.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): an unknown choice, a value out of range, or a hierarchy with
        more than 200,000 copies of its nodes when it is unrolled into a tree.
    """

    model_type = "htc_hidec"
    pretrained_learning_rates = {"learning_rate": 1e-4, "classifier_learning_rate": 5e-4}

    text_dropout: float | int = 0.0
    unit_loss: str = "hbm"
    num_decoder_layers: int = 2
    num_decoder_heads: int | str = "auto"
    decoder_ffn_dim: int | str = "auto"
    decoder_dropout: float | int = 0.1
    decoder_residual: bool = True
    label_bias: bool = True
    inference: str = "auto"
    empty_prediction: str = "best"

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        size = self.text_config.hidden_size
        if self.num_decoder_heads == "auto":
            heads = 12 if is_text_rcnn(self.text_config) else self.text_config.num_attention_heads
            self.num_decoder_heads = next(number for number in range(min(heads, size), 0, -1) if size % number == 0)
        if self.decoder_ffn_dim == "auto":
            self.decoder_ffn_dim = 4 * size
        if self.inference == "auto":
            self.validate_hierarchy()
            hierarchy = self.get_hierarchy()
            fits = count_copies(hierarchy) <= MAX_COPIES
            self.inference = "dense" if fits and unroll(hierarchy).num_copies <= DENSE_LIMIT else "expand"

    def validate_hidec(self):
        for key in ("num_decoder_layers", "num_decoder_heads", "decoder_ffn_dim"):
            value = getattr(self, key)
            if not isinstance(value, int) or value < 1:
                auto = "" if key == "num_decoder_layers" else ", or 'auto'"
                raise HTCError(f"`{key}` is {value!r}; give a whole number of at least 1{auto}.")
        size = self.text_config.hidden_size
        if size % self.num_decoder_heads:
            raise HTCError(f"`num_decoder_heads` is {self.num_decoder_heads}; it must divide the encoder's width, {size}.")
        for key, allowed in (("inference", ("dense", "expand")), ("empty_prediction", ("best", "allow"))):
            if getattr(self, key) not in allowed:
                auto = " and 'auto'" if key == "inference" else ""
                raise HTCError(f"`{key}` is {getattr(self, key)!r}; allowed are {', '.join(map(repr, allowed))}{auto}.")
        if self.pooling == "pooler" and not is_text_rcnn(self.text_config):
            raise HTCError("HiDEC reads the tokens; nobody would read the part that `pooling='pooler'` trains, leave it out.")
        check_copies(self.get_hierarchy())
