"""Configuration of HiTIN (Zhu et al., ACL 2023)."""

from huggingface_hub.dataclasses import strict

from .configuration_htc import HTCConfig
from .configuration_textrcnn import is_text_rcnn
from .errors import HTCError
from .hitin_coding_tree import build_coding_tree, check_coding_tree


# Up to this many nodes everything is as in the paper; beyond, the dense label map would be most of the model and a sum over
# all leaves would drown the other layers.
DENSE_LIMIT = 2048
# A dense label map beyond this is refused: 8 GB in float32, four times that with Adam.
DENSE_REFUSED = 2_000_000_000


@strict
class HiTINConfig(HTCConfig):
    """
    Configuration of [`HiTINForHierarchicalTextClassification`].

    Args:
        tree_depth (`int`, *optional*, defaults to 2): Height `K` of the coding tree, at least 2; the network has as many layers.
        coding_tree (`list[list[int]]` or `"auto"`, *optional*, defaults to `"auto"`): The coding tree as
            [`build_coding_tree`] gives it, `K` lists of parents over all nodes of the hierarchy. `"auto"` builds it and is
            replaced by it, so that a checkpoint keeps its tree; one of your own may stand here as well.
        hidden_dim (`int` or `"auto"`, *optional*, defaults to `"auto"`): Width of every node's features. `"auto"` is that of the
            text vector, 768 for BERT as in the paper (with TextRCNN it has 512).
        num_mlp_layers (`int`, *optional*, defaults to 2): Linear layers that a layer of the network applies to the sum of a
            node's children; 1 is a linear map.
        tree_pooling (`str`, *optional*, defaults to `"auto"`): How the features of a layer's nodes become one vector: `"sum"`
            (the paper's), `"mean"`, `"max"`; `"root"` reads the root alone. `"auto"` takes `"sum"` up to 2,048 nodes, beyond
            that `"mean"`.
        label_map (`str`, *optional*, defaults to `"auto"`): How the one projected text becomes the features of `M` leaves:
            `"dense"` mixes `M` copies by an `M x M` matrix as released, `"diagonal"` scales and shifts each copy; `"auto"` takes
            `"dense"` up to 2,048 nodes.
        transformation_dropout (`float`, *optional*, defaults to 0.1): Dropout on the projected text and on what comes out of
            the dense map, drawn for every leaf; with `"diagonal"` once for the projected text. The released settings with
            TextRCNN have 0.5.
        readout_dropout (`float`, *optional*, defaults to 0.5): Dropout on the vectors of all layers before the logits.
        recursive_regularization (`float`, *optional*, defaults to 1e-6): Weight of the recursive regularization of the `K + 1`
            prediction matrices; the released command lines leave it at 0.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): an unknown choice, a value out of range, a coding tree that
        does not fit the hierarchy, or a dense label map too large to fit.
    """

    model_type = "htc_hitin"
    pretrained_learning_rates = {"learning_rate": 1e-4, "classifier_learning_rate": 2e-3}

    tree_depth: int = 2
    coding_tree: list | str = "auto"
    hidden_dim: int | str = "auto"
    num_mlp_layers: int = 2
    tree_pooling: str = "auto"
    label_map: str = "auto"
    transformation_dropout: float | int = 0.1
    readout_dropout: float | int = 0.5
    recursive_regularization: float | int = 1e-6

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        num_nodes = self.num_hierarchy_nodes()
        if self.hidden_dim == "auto":
            own_pooler = is_text_rcnn(self.text_config) and self.pooling in ("auto", "pooler")
            self.hidden_dim = self.text_config.pooler_size if own_pooler else self.text_config.hidden_size
        if self.tree_pooling == "auto":
            self.tree_pooling = "sum" if num_nodes <= DENSE_LIMIT else "mean"
        if self.label_map == "auto":
            self.label_map = "dense" if num_nodes <= DENSE_LIMIT else "diagonal"
        if self.coding_tree == "auto" and self.tree_depth >= 2:
            self.validate_hierarchy()
            self.coding_tree = build_coding_tree(self.get_hierarchy().parents, self.tree_depth)

    def validate_hitin(self):
        check_tree_network(self)
        if self.recursive_regularization < 0:
            raise HTCError(f"`recursive_regularization` is {self.recursive_regularization}; it is at least 0.")
        num_nodes = self.num_hierarchy_nodes()
        if self.label_map == "dense" and num_nodes**2 > DENSE_REFUSED:
            raise HTCError(
                f"`label_map='dense'` would have {num_nodes**2:,} parameters for {num_nodes:,} nodes; use "
                f"`label_map='diagonal'` ({num_nodes:,} parameters)."
            )
        check_coding_tree(self.coding_tree, num_nodes, self.tree_depth)


def check_tree_network(config):
    """Checks the options of a coding tree and its network, of HiTIN and of HiMTL on it."""
    for key, least in (("tree_depth", 2), ("num_mlp_layers", 1)):
        if getattr(config, key) < least:
            raise HTCError(f"`{key}` is {getattr(config, key)}; it is at least {least}.")
    if not isinstance(config.hidden_dim, int) or config.hidden_dim < 1:
        raise HTCError(f"`hidden_dim` is {config.hidden_dim!r}; give a whole number of at least 1, or 'auto'.")
    for key, allowed in (("tree_pooling", ("sum", "mean", "max", "root")), ("label_map", ("dense", "diagonal"))):
        if getattr(config, key) not in allowed:
            raise HTCError(f"`{key}` is {getattr(config, key)!r}; allowed are {', '.join(map(repr, allowed))} and 'auto'.")
