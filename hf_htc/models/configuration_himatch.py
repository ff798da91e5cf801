"""Configuration of HiMatch (Chen et al., ACL 2021)."""

from huggingface_hub.dataclasses import strict

from .configuration_hiagm import FLATTEN_REFUSED, HiAGMConfig
from .errors import HTCError


# The paper's.
JOINT_DIM = 200


@strict
class HiMatchConfig(HiAGMConfig):
    """
    Configuration of [`HiMatchForHierarchicalTextClassification`]. The text side has the options of HiAGM-TP, see
    [`HiAGMConfig`]: `structure_encoder`, `node_dim`, `classifier`, `num_structure_layers`, `prior`, `train_edge_weights`,
    `transformation_dropout`, `structure_dropout`, `logit_dropout`; `prior`, `train_edge_weights` and `structure_dropout` hold for
    the label side too.

    Args:
        prediction (`str`, *optional*, defaults to `"classifier"`): `"classifier"`: HiAGM-TP predicts, matching helps in training
            only. `"dot_product"`, the paper's form for EURLEX57K: labels are scored by the product of text and label semantics,
            also those that never occur in training; without text propagation.
        joint_dim (`int` or `"auto"`, *optional*, defaults to `"auto"`): Width of the joint embedding. `"auto"`: the paper's 200,
            with `prediction="dot_product"` twice the encoder's hidden size, so that the projections can start without loss.
        joint_dropout (`float`, *optional*): Dropout between the two layers that lead into it. Defaults to 0.5, with
            `prediction="dot_product"` to 0.1.
        normalize_joint (`bool`, *optional*): Text and label semantics get length 1. Of free length, the joint embedding loss
            shrinks them, and the gradient of the matching loss grows with the inverse of their length. Defaults
            to `True`, for a classifier with `matching="released"` to `False`, as in the authors' settings with GloVe.
        text_projection (`str`, *optional*, defaults to `"auto"`): What of the node states enters the joint embedding:
            `"flatten"`, all of them, as in the paper (`M * node_dim * joint_dim` parameters); `"pooled"`, their weighted sum over
            the nodes (`M * node_dim` parameters); `"auto"` does as `classifier`.
        label_source (`str`, *optional*, defaults to `"auto"`): What a label's embedding starts from: `"words"`, the mean of the
            encoder's word embeddings of its text, as in the paper; `"tokens"`, the mean of the encoder's last states; `"text"`,
            the vector of a text, with the model's own pooling. `"auto"`: `"words"`, with `prediction="dot_product"` `"text"`.
        label_text (`str`, *optional*, defaults to `"texts"`): Which text of a label that is: `"texts"`, its words, or
            `"descriptions"`, its description in the hierarchy (its words where it has none).
        num_label_layers (`int`, *optional*, defaults to 1): GCN layers over the label embeddings; 0 leaves the hierarchy out.
        label_residual (`bool`, *optional*): A layer adds to its input what it computes. Defaults to `False`, with
            `prediction="dot_product"` to `True`: its ReLU cuts off half of what the encoder says of a label.
        train_label_embeddings (`bool`, *optional*): The label embeddings are trained further. Defaults to `True`, with
            `prediction="dot_product"` to `False`: labels without training documents would stay behind.
        label_refresh_steps (`int`, *optional*): After how many training steps (forward passes) label embeddings that are not
            trained are made anew by the encoder, so that they, and those of labels that come later, are of the encoder as it is.
            0: never. Defaults to 50 where they are not trained, as in the authors' code, else to 0.
        lambda_joint (`float`, *optional*, defaults to 1.0): Weight of the joint embedding loss.
        joint_reduction (`str`, *optional*, defaults to `"mean"`): Of that loss over a document's labels and the dimensions of the
            joint embedding: `"mean"`, the "mean squared loss" of the paper's text and of the authors' code, or `"sum"`, as
            equation 5 is printed, beside which a binary cross-entropy that is a mean over all labels learns nothing for long.
        lambda_match (`float`, *optional*, defaults to 1.0): Weight of the matching loss.
        matching (`str`, *optional*, defaults to `"paper"`): `"paper"`: equations 5 to 7; `"released"`: the authors' code, see
            [`~himatch_matching.released_losses`].
        num_positives (`int`, *optional*, defaults to 1): Labels that `matching="released"` draws from each document's.
        negatives (`str`, *optional*, defaults to `"hierarchy"`): `"hierarchy"`: ancestors, a sibling and another wrong label;
            `"random"`: as many random wrong labels, the paper's ablation.
        gamma (`float` or `"auto"`, *optional*, defaults to `"auto"`): Margin of random wrong labels. `"auto"`: 0.2, with
            `prediction="dot_product"` 0.5.
        alpha (`float`, *optional*, defaults to 0.01): Share of `gamma` that is the margin of ancestors.
        beta (`float`, *optional*, defaults to 0.5): Share of `gamma` that is the margin of siblings.
        bce_reduction (`str`, *optional*, defaults to `"auto"`): The binary cross-entropy is the `"mean"` or the `"sum"` over a
            document's labels. `"auto"`: the mean, with `prediction="dot_product"` the sum.
        recursive_regularization (`float`, *optional*, defaults to 0.0): As HiAGM's; the paper has none.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): an unknown choice, a value out of
        range, or a dense classifier or projection too large to fit.
    """

    model_type = "htc_himatch"

    prediction: str = "classifier"
    joint_dim: int | str = "auto"
    joint_dropout: float | int | None = None
    normalize_joint: bool | None = None
    text_projection: str = "auto"
    label_source: str = "auto"
    label_text: str = "texts"
    num_label_layers: int = 1
    label_residual: bool | None = None
    train_label_embeddings: bool | None = None
    label_refresh_steps: int | None = None
    lambda_joint: float | int = 1.0
    joint_reduction: str = "mean"
    lambda_match: float | int = 1.0
    matching: str = "paper"
    num_positives: int = 1
    negatives: str = "hierarchy"
    gamma: float | int | str = "auto"
    alpha: float | int = 0.01
    beta: float | int = 0.5
    bce_reduction: str = "auto"
    recursive_regularization: float | int = 0.0

    def __post_init__(self, **kwargs):
        by_product = self.prediction == "dot_product"
        if self.joint_dropout is None:
            self.joint_dropout = 0.1 if by_product else 0.5
        super().__post_init__(**kwargs)
        if self.joint_dim == "auto":
            self.joint_dim = 2 * self.text_config.hidden_size if by_product else JOINT_DIM
        if self.gamma == "auto":
            self.gamma = 0.5 if by_product else 0.2
        if self.bce_reduction == "auto":
            self.bce_reduction = "sum" if by_product else "mean"
        if self.normalize_joint is None:
            self.normalize_joint = by_product or self.matching == "paper"
        if self.label_source == "auto":
            self.label_source = "text" if by_product else "words"
        if self.label_residual is None:
            self.label_residual = by_product
        if self.train_label_embeddings is None:
            self.train_label_embeddings = not by_product
        if self.label_refresh_steps is None:
            self.label_refresh_steps = 0 if self.train_label_embeddings else 50
        if self.text_projection == "auto":
            self.text_projection = "flatten" if self.classifier == "flatten" else "pooled"

    def has_matching(self):
        """Whether there is a label side at all."""
        return self.prediction == "dot_product" or self.lambda_joint > 0 or self.lambda_match > 0

    def validate_himatch(self):
        for key, allowed in (
            ("variant", ("tp",)),
            ("prediction", ("classifier", "dot_product")),
            ("text_projection", ("flatten", "pooled")),
            ("label_source", ("words", "tokens", "text")),
            ("label_text", ("texts", "descriptions")),
            ("matching", ("paper", "released")),
            ("negatives", ("hierarchy", "random")),
            ("joint_reduction", ("mean", "sum")),
            ("bce_reduction", ("mean", "sum")),
        ):
            if getattr(self, key) not in allowed:
                also = " and 'auto'." if key in ("text_projection", "label_source", "bce_reduction") else "."
                raise HTCError(f"`{key}` is {getattr(self, key)!r}; allowed are {', '.join(map(repr, allowed))}{also}")
        for key in ("joint_dim", "num_positives"):
            if isinstance(getattr(self, key), str) or getattr(self, key) < 1:
                also = ", or 'auto'." if key == "joint_dim" else "."
                raise HTCError(f"`{key}` is {getattr(self, key)!r}; it is a whole number of at least 1{also}")
        for key in ("lambda_joint", "lambda_match", "num_label_layers", "label_refresh_steps", "alpha", "beta"):
            if getattr(self, key) < 0:
                raise HTCError(f"`{key}` is {getattr(self, key)}; it is at least 0.")
        if isinstance(self.gamma, str) or self.gamma < 0:
            raise HTCError(f"`gamma` is {self.gamma!r}; it is a number of at least 0, or 'auto'.")
        if self.label_refresh_steps and self.train_label_embeddings:
            raise HTCError(
                f"`label_refresh_steps` is {self.label_refresh_steps}, but `train_label_embeddings` is true: what is trained "
                "would be overwritten; leave one of them out."
            )
        if self.matching == "released" and self.negatives == "random":
            raise HTCError("`negatives='random'` is the ablation of `matching='paper'`; with 'released' leave it out.")
        size = self.num_hierarchy_nodes() * self.node_dim * self.joint_dim
        if self.prediction == "classifier" and self.text_projection == "flatten" and size > FLATTEN_REFUSED:
            raise HTCError(
                f"`text_projection='flatten'` would have {size:,} parameters for {self.num_hierarchy_nodes():,} nodes; use "
                f"`text_projection='pooled'` ({self.num_hierarchy_nodes() * self.node_dim:,} parameters)."
            )
