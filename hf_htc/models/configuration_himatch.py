"""Configuration of HiMatch (Chen et al., ACL 2021)."""

from huggingface_hub.dataclasses import strict

from .configuration_hiagm import FLATTEN_REFUSED, HiAGMConfig


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
        joint_dim (`int`, *optional*, defaults to 200): Width of the joint embedding.
        joint_dropout (`float`, *optional*, defaults to 0.5): Dropout between the two layers that lead into it.
        normalize_joint (`bool`, *optional*, defaults to `False`): Text and label semantics get length 1 before every loss, as in
            the authors' settings with BERT.
        text_projection (`str`, *optional*, defaults to `"auto"`): What of the node states enters the joint embedding:
            `"flatten"`, all of them, as in the paper (`M * node_dim * joint_dim` parameters); `"pooled"`, their weighted sum over
            the nodes (`M * node_dim` parameters); `"auto"` does as `classifier`.
        label_source (`str`, *optional*, defaults to `"auto"`): What a label's embedding starts from: `"words"`, the mean of the
            encoder's word embeddings of its text, as in the paper; `"encoder"`, the mean over the tokens of the whole text
            encoder's states. `"auto"`: `"words"`, with `prediction="dot_product"` `"encoder"`.
        label_text (`str`, *optional*, defaults to `"texts"`): Which text of a label that is: `"texts"`, its words, or
            `"descriptions"`, its description in the hierarchy (its words where it has none).
        num_label_layers (`int`, *optional*, defaults to 1): GCN layers over the label embeddings; 0 leaves the hierarchy out.
        train_label_embeddings (`bool`, *optional*): The label embeddings are trained further. Defaults to `True`, with
            `prediction="dot_product"` to `False`: labels without training documents would stay behind.
        lambda_joint (`float`, *optional*, defaults to 1.0): Weight of the joint embedding loss.
        lambda_match (`float`, *optional*, defaults to 1.0): Weight of the matching loss.
        matching (`str`, *optional*, defaults to `"paper"`): `"paper"`: equations 5 to 7; `"released"`: the authors' code, see
            [`~label_matching.released_losses`].
        num_positives (`int`, *optional*, defaults to 1): Labels that `matching="released"` draws from each document's.
        negatives (`str`, *optional*, defaults to `"hierarchy"`): `"hierarchy"`: ancestors, a sibling and another wrong label;
            `"random"`: as many random wrong labels, the paper's ablation.
        gamma (`float` or `"auto"`, *optional*, defaults to `"auto"`): Margin of random wrong labels. `"auto"`: 0.2, with
            `prediction="dot_product"` 0.5.
        alpha (`float`, *optional*, defaults to 0.01): Share of `gamma` that is the margin of ancestors.
        beta (`float`, *optional*, defaults to 0.5): Share of `gamma` that is the margin of siblings.
        recursive_regularization (`float`, *optional*, defaults to 0.0): As HiAGM's; the paper has none.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): an unknown choice, a value out of
        range, or a dense classifier or projection too large to fit.
    """

    model_type = "htc_himatch"

    prediction: str = "classifier"
    joint_dim: int = 200
    joint_dropout: float | int = 0.5
    normalize_joint: bool = False
    text_projection: str = "auto"
    label_source: str = "auto"
    label_text: str = "texts"
    num_label_layers: int = 1
    train_label_embeddings: bool | None = None
    lambda_joint: float | int = 1.0
    lambda_match: float | int = 1.0
    matching: str = "paper"
    num_positives: int = 1
    negatives: str = "hierarchy"
    gamma: float | int | str = "auto"
    alpha: float | int = 0.01
    beta: float | int = 0.5
    recursive_regularization: float | int = 0.0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        by_product = self.prediction == "dot_product"
        if self.gamma == "auto":
            self.gamma = 0.5 if by_product else 0.2
        if self.label_source == "auto":
            self.label_source = "encoder" if by_product else "words"
        if self.train_label_embeddings is None:
            self.train_label_embeddings = not by_product
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
            ("label_source", ("words", "encoder")),
            ("label_text", ("texts", "descriptions")),
            ("matching", ("paper", "released")),
            ("negatives", ("hierarchy", "random")),
        ):
            if getattr(self, key) not in allowed:
                also = " and 'auto'." if key in ("text_projection", "label_source") else "."
                raise ValueError(f"`{key}` is {getattr(self, key)!r}; allowed are {', '.join(map(repr, allowed))}{also}")
        for key in ("joint_dim", "num_positives"):
            if getattr(self, key) < 1:
                raise ValueError(f"`{key}` is {getattr(self, key)}; it is at least 1.")
        for key in ("lambda_joint", "lambda_match", "num_label_layers", "alpha", "beta"):
            if getattr(self, key) < 0:
                raise ValueError(f"`{key}` is {getattr(self, key)}; it is at least 0.")
        if isinstance(self.gamma, str) or self.gamma < 0:
            raise ValueError(f"`gamma` is {self.gamma!r}; it is a number of at least 0, or 'auto'.")
        if self.matching == "released" and self.negatives == "random":
            raise ValueError("`negatives='random'` is the ablation of `matching='paper'`; with 'released' leave it out.")
        size = self.num_hierarchy_nodes() * self.node_dim * self.joint_dim
        if self.prediction == "classifier" and self.text_projection == "flatten" and size > FLATTEN_REFUSED:
            raise ValueError(
                f"`text_projection='flatten'` would have {size:,} parameters for {self.num_hierarchy_nodes():,} nodes; use "
                f"`text_projection='pooled'` ({self.num_hierarchy_nodes() * self.node_dim:,} parameters)."
            )
