"""Configuration of HiAGM-TP (Zhou et al., ACL 2020)."""

from huggingface_hub.dataclasses import strict

from .configuration_htc import HTCConfig


# Above this many nodes the paper's node dimension (300) would make the text propagation the largest part of the model.
WIDE_NODE_LIMIT = 2000
WIDE_NODE_DIM = 300
# Below this many parameters the paper's dense classifier over all nodes is taken.
FLATTEN_LIMIT = 50_000_000
# A dense classifier beyond this is refused: 8 GB in float32, four times that with Adam.
FLATTEN_REFUSED = 2_000_000_000


@strict
class HiAGMConfig(HTCConfig):
    """
    Configuration of [`HiAGMForHierarchicalTextClassification`] (HiAGM-TP with the hierarchy-GCN).

    Args:
        node_dim (`int` or `"auto"`, *optional*, defaults to `"auto"`): Width of a node's state. `"auto"`: the paper's 300 up
            to 2,000 nodes, beyond that the largest power of two that keeps the text propagation under 200 M parameters.
        classifier (`str`, *optional*, defaults to `"auto"`): `"flatten"` is the paper's dense layer over all node states,
            `N * M * node_dim` parameters; `"node"` reads each label from its own node, `N * node_dim` parameters; `"auto"`
            takes `"flatten"` below 50 M parameters.
        num_structure_layers (`int`, *optional*, defaults to 1): Stacked hierarchy-GCN layers.
        prior (`str`, *optional*, defaults to `"ratio"`): Initial top-down edge weights from the training labels:
            `"ratio"`, `min(1, documents(child) / documents(parent))` as in the paper, or `"sibling"`, documents with both,
            normalised over the siblings, as in the authors' code. Bottom-up weights start at 1.
        train_edge_weights (`bool`, *optional*, defaults to `True`): The edge weights are trained further, as in the authors'
            code; `False` keeps the prior.
        transformation_dropout (`float`, *optional*, defaults to 0.5): Dropout on the text features that enter the nodes.
        structure_dropout (`float`, *optional*, defaults to 0.05): Dropout on each of the three messages of a GCN layer.
        logit_dropout (`float`, *optional*, defaults to 0.0): Dropout on the logits in training. The authors' code has 0.5, in
            no paper.
        recursive_regularization (`float`, *optional*, defaults to 1e-6): Weight of the recursive regularization of the
            classifier.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): an unknown choice, a value out of
        range, or a dense classifier too large to fit.
    """

    model_type = "htc_hiagm"
    recommended_training = {"learning_rate": 1e-4, "classifier_learning_rate": 1e-3}

    node_dim: int | str = "auto"
    classifier: str = "auto"
    num_structure_layers: int = 1
    prior: str = "ratio"
    train_edge_weights: bool = True
    transformation_dropout: float | int = 0.5
    structure_dropout: float | int = 0.05
    logit_dropout: float | int = 0.0
    recursive_regularization: float | int = 1e-6

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        num_nodes = self.num_hierarchy_nodes()
        if self.node_dim == "auto":
            self.node_dim = WIDE_NODE_DIM
            if num_nodes > WIDE_NODE_LIMIT:
                budget = 200_000_000 // (num_nodes * self.text_config.hidden_size)
                self.node_dim = max(4, 2 ** (max(budget, 1).bit_length() - 1))
        if self.classifier == "auto" and isinstance(self.node_dim, int):
            self.classifier = "flatten" if self.num_labels * num_nodes * self.node_dim < FLATTEN_LIMIT else "node"

    def validate_hiagm(self):
        if not isinstance(self.node_dim, int) or self.node_dim < 1:
            raise ValueError(f"`node_dim` is {self.node_dim!r}; give a whole number of at least 1, or 'auto'.")
        if self.num_structure_layers < 1:
            raise ValueError(f"`num_structure_layers` is {self.num_structure_layers}; it is at least 1.")
        if self.recursive_regularization < 0:
            raise ValueError(f"`recursive_regularization` is {self.recursive_regularization}; it is at least 0.")
        for key, allowed in (("classifier", ("flatten", "node")), ("prior", ("ratio", "sibling"))):
            if getattr(self, key) not in allowed:
                raise ValueError(
                    f"`{key}` is {getattr(self, key)!r}; allowed are {', '.join(map(repr, allowed))}"
                    + (" and 'auto'." if key == "classifier" else ".")
                )
        size = self.num_labels * self.num_hierarchy_nodes() * self.node_dim
        if self.classifier == "flatten" and size > FLATTEN_REFUSED:
            raise ValueError(
                f"`classifier='flatten'` would have {size:,} parameters for {self.num_labels:,} labels; use `classifier='node'` "
                f"({self.num_labels * self.node_dim:,} parameters) or a smaller `node_dim`."
            )
