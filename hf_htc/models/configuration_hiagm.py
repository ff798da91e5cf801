"""Configuration of HiAGM (Zhou et al., ACL 2020), both variants."""

from huggingface_hub.dataclasses import strict

from .configuration_htc import HTCConfig, check_structure_encoder
from .configuration_textrcnn import is_text_rcnn
from .errors import HTCError


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
    Configuration of [`HiAGMForHierarchicalTextClassification`].

    Args:
        variant (`str`, *optional*, defaults to `"tp"`): `"tp"`, the text propagation: the text's features run through the
            hierarchy; or `"la"`, the multi-label attention: label embeddings do, and each label reads the text by attention.
        attention_positions (`str`, *optional*, defaults to `"tokens"`): What the labels of `"la"` attend to: `"tokens"`, the
            states of the text's tokens; `"ngrams"`, the paper's, the top-k n-gram features of each of TextRCNN's kernels;
            `"text"`, the one text vector, as in the authors' released settings: a softmax over one position, so that the
            logits know nothing of labels or hierarchy.
        structure_encoder (`str`, *optional*, defaults to `"gcn"`): `"gcn"`, the hierarchy-GCN; `"tree_lstm"`, the
            bidirectional TreeLSTM; or `"none"`, an ablation in which no messages are passed.
        node_dim (`int` or `"auto"`, *optional*, defaults to `"auto"`): Width of a node's state. `"auto"`: the paper's 300 up
            to 2,000 nodes, beyond that the largest power of two up to 256 that keeps the text propagation under 200 M
            parameters.
        classifier (`str`, *optional*, defaults to `"auto"`): `"flatten"` is the paper's dense layer over all node states,
            `N * M * node_dim` parameters (`"la"`: `N * N * node_dim`); `"node"` reads each label from its own node,
            `N * node_dim` parameters; `"auto"` takes `"flatten"` below 50 M parameters.
        num_structure_layers (`int`, *optional*, defaults to 1): Stacked layers of the structure encoder.
        prior (`str`, *optional*, defaults to `"ratio"`): Initial top-down edge weights from the training labels:
            `"ratio"`, `min(1, documents(child) / documents(parent))` as in the paper, or `"sibling"`, documents with both,
            normalised over the siblings, as in the authors' code. Bottom-up weights start at 1.
        train_edge_weights (`bool`, *optional*, defaults to `True`): The edge weights are trained further, as in the authors'
            code; `False` keeps the prior.
        transformation_dropout (`float`, *optional*, defaults to 0.5): Dropout on what enters the nodes: the text's features with
            `"tp"`, the label embeddings with `"la"`.
        structure_dropout (`float`, *optional*, defaults to 0.05): Dropout on each of the three messages of a GCN layer, or on a
            TreeLSTM's states.
        logit_dropout (`float`, *optional*, defaults to 0.0): Dropout on the logits in training. The authors' code has 0.5, in
            no paper.
        recursive_regularization (`float`, *optional*, defaults to 1e-6): Weight of the recursive regularization of the
            classifier.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): an unknown choice, a value out of
        range, or a dense classifier too large to fit.
    """

    model_type = "htc_hiagm"
    pretrained_learning_rates = {"learning_rate": 1e-4, "classifier_learning_rate": 1e-3}

    variant: str = "tp"
    attention_positions: str = "tokens"
    structure_encoder: str = "gcn"
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
            if self.attention_positions == "ngrams" and is_text_rcnn(self.text_config):
                self.node_dim = self.text_config.num_filters
            elif num_nodes > WIDE_NODE_LIMIT:
                budget = 200_000_000 // (num_nodes * self.text_config.hidden_size)
                self.node_dim = min(256, max(4, 2 ** (max(budget, 1).bit_length() - 1)))
        if self.classifier == "auto" and isinstance(self.node_dim, int):
            self.classifier = "flatten" if self.num_labels * self.num_read_nodes() * self.node_dim < FLATTEN_LIMIT else "node"

    def num_read_nodes(self):
        """Nodes whose states a dense classifier reads: all of them, or the labels, which alone attend to the text."""
        return self.num_hierarchy_nodes() if self.variant == "tp" else self.num_labels

    def validate_hiagm(self):
        check_structure_encoder(self)
        if self.recursive_regularization < 0:
            raise HTCError(f"`recursive_regularization` is {self.recursive_regularization}; it is at least 0.")
        for key, allowed in (
            ("variant", ("tp", "la")),
            ("attention_positions", ("tokens", "ngrams", "text")),
            ("classifier", ("flatten", "node")),
        ):
            if getattr(self, key) not in allowed:
                raise HTCError(
                    f"`{key}` is {getattr(self, key)!r}; allowed are {', '.join(map(repr, allowed))}"
                    + (" and 'auto'." if key == "classifier" else ".")
                )
        if self.attention_positions == "ngrams" and not is_text_rcnn(self.text_config):
            raise HTCError(
                f"`attention_positions='ngrams'` are the features of TextRCNN's kernels; a {self.text_config.model_type} encoder "
                "has none, use 'tokens'."
            )
        if self.attention_positions == "ngrams" and self.pooling not in ("auto", "pooler"):
            raise HTCError(f"`attention_positions='ngrams'` needs `pooling='pooler'`; it is {self.pooling!r}.")
        reads_tokens = self.variant == "la" and self.attention_positions == "tokens"
        if reads_tokens and self.pooling == "pooler" and not is_text_rcnn(self.text_config):
            raise HTCError(
                "`variant='la'` reads the tokens; nobody would read the part that `pooling='pooler'` trains, leave it out."
            )
        size = self.num_labels * self.num_read_nodes() * self.node_dim
        if self.classifier == "flatten" and size > FLATTEN_REFUSED:
            raise HTCError(
                f"`classifier='flatten'` would have {size:,} parameters for {self.num_labels:,} labels; use `classifier='node'` "
                f"({self.num_labels * self.node_dim:,} parameters) or a smaller `node_dim`."
            )
