"""Configuration of HiMTL ("Hierarchy-aware Multi-Task Learning for Hierarchical Text Classification")."""

from huggingface_hub.dataclasses import strict

from .configuration_hiagm import FLATTEN_LIMIT, FLATTEN_REFUSED, WIDE_NODE_DIM, WIDE_NODE_LIMIT
from .configuration_hitin import DENSE_LIMIT, DENSE_REFUSED, check_tree_network
from .configuration_htc import HTCConfig
from .configuration_textrcnn import is_text_rcnn
from .errors import HTCError
from .himtl_branches import branches_of
from .hitin_coding_tree import build_coding_tree, check_coding_tree


# Up to this many parameters the branches' networks are as wide as the text vector, as in the paper.
WIDE_BRANCH_LIMIT = 50_000_000
# The options of each base, with its defaults; those that only the other base has stay None.
BASE_OPTIONS = {
    "hiagm": {
        "node_dim": "auto",
        "classifier": "auto",
        "num_structure_layers": 1,
        "prior": "ratio",
        "train_edge_weights": True,
        "transformation_dropout": 0.5,
        "structure_dropout": 0.05,
    },
    "hitin": {
        "tree_depth": 2,
        "coding_trees": "auto",
        "hidden_dim": "auto",
        "num_mlp_layers": 2,
        "tree_pooling": "auto",
        "label_map": "auto",
        "transformation_dropout": 0.1,
        "readout_dropout": 0.5,
    },
}


@strict
class HiMTLConfig(HTCConfig):
    """
    Configuration of [`HiMTLForHierarchicalTextClassification`].

    Args:
        branch_method (`str`, *optional*, defaults to `"hiagm"`): The method that every branch has one of: `"hiagm"`, HiAGM-TP
            with the hierarchy-GCN, or `"hitin"`, HiTIN.
        branch_output (`str`, *optional*, defaults to `"projection"`): `"projection"`: a branch has outputs for its own labels;
            `"masking"`: for all labels, of which those outside are masked.
        branch_combine (`str`, *optional*, defaults to `"max"`): How the probabilities of a label that lies in several branches
            become one: `"max"`, `"mean"`, or `"sum"`, which needs a hierarchy where no label does. In a tree all three are one.
        bce_mean (`str`, *optional*, defaults to `"auto"`): What a branch's cross-entropy is the mean over: `"branch"`, its own
            labels; `"all"`, all labels, the masked ones with 0. `"auto"`: as many as the branch has outputs, `"branch"` with
            projection and `"all"` with masking.
        l2_regularization (`float`, *optional*, defaults to 0.0): Weight of the squared entries of the branches' matrices in the
            loss. The paper's 0.01 is `weight_decay=0.01` of the training arguments: in the loss it holds rare labels at their
            frequency.
        recursive_regularization (`float`, *optional*, defaults to 1e-6): Weight of the recursive regularization of the
            branches' classifiers.
        node_dim, classifier, num_structure_layers, prior, train_edge_weights, transformation_dropout, structure_dropout
            (*optional*): With `branch_method="hiagm"`, as in [`HiAGMConfig`], where nodes are counted once in each branch; a
            dense classifier reads a branch's labels from its nodes.
        tree_depth, hidden_dim, num_mlp_layers, tree_pooling, label_map, transformation_dropout, readout_dropout
            (*optional*): With `branch_method="hitin"`, as in [`HiTINConfig`], where nodes are counted once in each branch.
            `hidden_dim="auto"` is the width of the text vector as long as the branches have up to 50 M parameters together, else
            the largest power of two up to 256 that keeps them below.
        coding_trees (`list` or `"auto"`, *optional*): With `branch_method="hitin"`, the coding tree of each branch. `"auto"`
            builds them and is replaced by them, so that a checkpoint keeps its trees.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): an unknown choice, a value out of range, an option of the
        other method, `branch_combine="sum"` with a label in two branches, or a dense classifier too large to fit.
    """

    model_type = "htc_himtl"
    pretrained_learning_rates = {"learning_rate": 1e-4, "classifier_learning_rate": 5e-4}
    attribute_map = {"base": "branch_method", "output": "branch_output", "combine": "branch_combine"}  # names of 0.1.0

    branch_method: str = "hiagm"
    branch_output: str = "projection"
    branch_combine: str = "max"
    bce_mean: str = "auto"
    l2_regularization: float | int = 0.0
    recursive_regularization: float | int = 1e-6
    node_dim: int | str | None = None
    classifier: str | None = None
    num_structure_layers: int | None = None
    prior: str | None = None
    train_edge_weights: bool | None = None
    transformation_dropout: float | int | None = None
    structure_dropout: float | int | None = None
    tree_depth: int | None = None
    coding_trees: list | str | None = None
    hidden_dim: int | str | None = None
    num_mlp_layers: int | None = None
    tree_pooling: str | None = None
    label_map: str | None = None
    readout_dropout: float | int | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        for key, value in BASE_OPTIONS.get(self.branch_method, {}).items():
            if getattr(self, key) is None:
                setattr(self, key, value)
        if self.bce_mean == "auto":
            self.bce_mean = "all" if self.branch_output == "masking" else "branch"
        self.validate_hierarchy()
        if self.branch_method == "hiagm":
            self._resolve_hiagm()
        if self.branch_method == "hitin":
            self._resolve_hitin()

    def _resolve_hiagm(self):
        if self.node_dim == "auto":
            num_copies = self.get_branches().num_copies
            self.node_dim = WIDE_NODE_DIM
            if num_copies > WIDE_NODE_LIMIT:
                budget = 200_000_000 // (num_copies * self.text_config.hidden_size)
                self.node_dim = min(256, max(4, 2 ** (max(budget, 1).bit_length() - 1)))
        if self.classifier == "auto" and isinstance(self.node_dim, int):
            dense = self.branch_output == "masking" or self.num_dense_parameters() < FLATTEN_LIMIT
            self.classifier = "flatten" if dense else "node"

    def _resolve_hitin(self):
        branches = self.get_branches()
        if self.hidden_dim == "auto":
            own_pooler = is_text_rcnn(self.text_config) and self.pooling in ("auto", "pooler")
            width = self.text_config.pooler_size if own_pooler else self.text_config.hidden_size
            sizes = [width, *(size for size in (256, 128, 64, 32, 16, 8) if size < width)]
            fitting = [size for size in sizes if self._num_tree_parameters(width, size) <= WIDE_BRANCH_LIMIT]
            self.hidden_dim = fitting[0] if fitting else sizes[-1]
        if self.tree_pooling == "auto":
            self.tree_pooling = "sum" if branches.num_copies <= DENSE_LIMIT else "mean"
        if self.label_map == "auto":
            self.label_map = "dense" if branches.num_copies <= DENSE_LIMIT else "diagonal"
        if self.coding_trees == "auto" and self.tree_depth >= 2:
            self.coding_trees = [build_coding_tree(parents, self.tree_depth) for parents in branches.parents()]

    def _num_tree_parameters(self, text_size, hidden_dim):
        branches = self.get_branches()
        of_branch = text_size * hidden_dim + self.tree_depth * self.num_mlp_layers * hidden_dim**2
        return branches.num_branches * of_branch + branches.num_label_copies * (self.tree_depth + 1) * hidden_dim

    def get_branches(self):
        """The [`Branches`] of the hierarchy."""
        return branches_of(self.get_hierarchy())

    def num_dense_parameters(self):
        """Parameters of the dense classifiers of all branches."""
        branches = self.get_branches()
        if self.branch_output == "masking":
            return self.num_labels * branches.num_copies * self.node_dim
        return int(branches.label_counts @ branches.node_counts) * self.node_dim

    # ------------------------------------------------------------------ checks, run at construction and at saving

    def validate_himtl(self):
        for key, allowed in (
            ("branch_method", tuple(BASE_OPTIONS)),
            ("branch_output", ("projection", "masking")),
            ("branch_combine", ("max", "mean", "sum")),
            ("bce_mean", ("branch", "all")),
        ):
            if getattr(self, key) not in allowed:
                raise HTCError(
                    f"`{key}` is {getattr(self, key)!r}; allowed are {', '.join(map(repr, allowed))}"
                    + (" and 'auto'." if key == "bce_mean" else ".")
                )
        for key in ("l2_regularization", "recursive_regularization"):
            if getattr(self, key) < 0:
                raise HTCError(f"`{key}` is {getattr(self, key)}; it is at least 0.")
        for base, options in BASE_OPTIONS.items():
            for key in set(options) - set(BASE_OPTIONS[self.branch_method]):
                if getattr(self, key) is not None:
                    raise HTCError(
                        f"`{key}` is an option of `branch_method={base!r}`, but `branch_method` is {self.branch_method!r}; leave "
                        "it out."
                    )
        if self.branch_combine == "sum":
            self._check_sum()
        if self.branch_method == "hiagm":
            self._check_hiagm()
        else:
            self._check_hitin()

    def _check_sum(self):
        branches = self.get_branches()
        if branches.num_label_copies > self.num_labels:
            nodes = branches.nodes[: branches.num_label_copies]
            label = nodes[1:][nodes[1:] == nodes[:-1]][0]
            raise HTCError(
                f"`branch_combine='sum'` is for branches that share no label, but {self.id2label[int(label)]!r} lies in several, "
                "where probabilities could add up to more than 1; use 'max' or 'mean'."
            )

    def _check_hiagm(self):
        if not isinstance(self.node_dim, int) or self.node_dim < 1:
            raise HTCError(f"`node_dim` is {self.node_dim!r}; give a whole number of at least 1, or 'auto'.")
        if self.num_structure_layers < 1:
            raise HTCError(f"`num_structure_layers` is {self.num_structure_layers}; it is at least 1.")
        if self.prior not in ("ratio", "sibling"):
            raise HTCError(f"`prior` is {self.prior!r}; allowed are 'ratio', 'sibling'.")
        if self.classifier not in ("flatten", "node"):
            raise HTCError(f"`classifier` is {self.classifier!r}; allowed are 'flatten', 'node' and 'auto'.")
        if self.branch_output == "masking" and self.classifier == "node":
            raise HTCError(
                "`branch_output='masking'` gives a branch outputs for labels that it has no nodes of; it needs "
                "`classifier='flatten'`."
            )
        size = self.num_dense_parameters()
        if self.classifier == "flatten" and size > FLATTEN_REFUSED:
            branches = self.get_branches()
            if self.branch_output == "masking":
                mend = f"use `branch_output='projection'`: a branch then has no outputs for all {self.num_labels:,} labels"
            else:
                number = branches.num_label_copies * self.node_dim
                mend = f"use `classifier='node'` ({number:,} parameters) or a smaller `node_dim`"
            raise HTCError(f"The classifiers of {branches.num_branches:,} branches would have {size:,} parameters; {mend}.")

    def _check_hitin(self):
        check_tree_network(self)
        branches = self.get_branches()
        size = int((branches.node_counts**2).sum())
        if self.label_map == "dense" and size > DENSE_REFUSED:
            raise HTCError(
                f"`label_map='dense'` would have {size:,} parameters in {branches.num_branches:,} branches; use "
                f"`label_map='diagonal'` ({branches.num_copies:,} parameters)."
            )
        num_read = 1 if self.tree_pooling == "root" else self.tree_depth + 1
        size = branches.num_branches * self.num_labels * num_read * self.hidden_dim
        if self.branch_output == "masking" and size > FLATTEN_REFUSED:
            raise HTCError(
                f"The classifiers of {branches.num_branches:,} branches would have {size:,} parameters; use "
                f"`branch_output='projection'`: a branch then has no outputs for all {self.num_labels:,} labels."
            )
        if not isinstance(self.coding_trees, list) or len(self.coding_trees) != branches.num_branches:
            raise HTCError(f"`coding_trees` is no list of {branches.num_branches} trees, one a branch; leave it at 'auto'.")
        for number, (tree, count) in enumerate(zip(self.coding_trees, branches.node_counts.tolist())):
            try:
                check_coding_tree(tree, count, self.tree_depth)
            except ValueError as error:
                raise HTCError(f"`coding_trees` does not fit branch {number}: {error}") from None
