"""Configuration of HiMTL ("Hierarchy-aware Multi-Task Learning for Hierarchical Text Classification")."""

from huggingface_hub.dataclasses import strict

from .branches import branches_of
from .configuration_hiagm import FLATTEN_LIMIT, FLATTEN_REFUSED, WIDE_NODE_DIM, WIDE_NODE_LIMIT
from .configuration_htc import HTCConfig


# Options that one base alone has, with its defaults; those of the other base stay None.
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
}


@strict
class HiMTLConfig(HTCConfig):
    """
    Configuration of [`HiMTLForHierarchicalTextClassification`].

    Args:
        base (`str`, *optional*, defaults to `"hiagm"`): The method that every branch has one of: `"hiagm"`, HiAGM-TP with the
            hierarchy-GCN.
        output (`str`, *optional*, defaults to `"projection"`): `"projection"`: a branch has outputs for its own labels;
            `"masking"`: for all labels, of which those outside are masked.
        combine (`str`, *optional*, defaults to `"max"`): How the probabilities of a label that lies in several branches become
            one: `"max"`, `"mean"`, or `"sum"`, which needs a hierarchy where no label does. In a tree all three are one.
        bce_mean (`str`, *optional*, defaults to `"auto"`): What a branch's cross-entropy is the mean over: `"branch"`, its own
            labels; `"all"`, all labels, the masked ones with 0. `"auto"`: as many as the branch has outputs, `"branch"` with
            projection and `"all"` with masking.
        l2_regularization (`float`, *optional*, defaults to 0.0): Weight of the squared entries of the branches' matrices in the
            loss. The paper's 0.01 is `weight_decay=0.01` of the training arguments: in the loss it holds the classifiers at the
            label frequencies.
        recursive_regularization (`float`, *optional*, defaults to 1e-6): Weight of the recursive regularization of the
            branches' classifiers.
        node_dim, classifier, num_structure_layers, prior, train_edge_weights, transformation_dropout, structure_dropout
            (*optional*): With `base="hiagm"`, as in [`HiAGMConfig`], where nodes are counted once in each branch; a dense
            classifier reads a branch's labels from its nodes.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): an unknown choice, a value out of range, an option of the
        other base, `combine="sum"` with a label in two branches, or a dense classifier too large to fit.
    """

    model_type = "htc_himtl"
    pretrained_learning_rates = {"learning_rate": 1e-4, "classifier_learning_rate": 1e-3}

    base: str = "hiagm"
    output: str = "projection"
    combine: str = "max"
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

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        for key, value in BASE_OPTIONS.get(self.base, {}).items():
            if getattr(self, key) is None:
                setattr(self, key, value)
        if self.bce_mean == "auto":
            self.bce_mean = "all" if self.output == "masking" else "branch"
        if self.base == "hiagm":
            self._resolve_hiagm()

    def _resolve_hiagm(self):
        if self.node_dim == "auto":
            num_copies = self.get_branches().num_copies
            self.node_dim = WIDE_NODE_DIM
            if num_copies > WIDE_NODE_LIMIT:
                budget = 200_000_000 // (num_copies * self.text_config.hidden_size)
                self.node_dim = min(256, max(4, 2 ** (max(budget, 1).bit_length() - 1)))
        if self.classifier == "auto" and isinstance(self.node_dim, int):
            dense = self.output == "masking" or self.num_dense_parameters() < FLATTEN_LIMIT
            self.classifier = "flatten" if dense else "node"

    def get_branches(self):
        """The [`Branches`] of the hierarchy."""
        return branches_of(self.get_hierarchy())

    def num_dense_parameters(self):
        """Parameters of the dense classifiers of all branches."""
        branches = self.get_branches()
        if self.output == "masking":
            return self.num_labels * branches.num_copies * self.node_dim
        return int(branches.label_counts @ branches.node_counts) * self.node_dim

    # ------------------------------------------------------------------ checks, run at construction and at saving

    def validate_himtl(self):
        for key, allowed in (
            ("base", tuple(BASE_OPTIONS)),
            ("output", ("projection", "masking")),
            ("combine", ("max", "mean", "sum")),
            ("bce_mean", ("branch", "all")),
        ):
            if getattr(self, key) not in allowed:
                raise ValueError(
                    f"`{key}` is {getattr(self, key)!r}; allowed are {', '.join(map(repr, allowed))}"
                    + (" and 'auto'." if key == "bce_mean" else ".")
                )
        for key in ("l2_regularization", "recursive_regularization"):
            if getattr(self, key) < 0:
                raise ValueError(f"`{key}` is {getattr(self, key)}; it is at least 0.")
        for base, options in BASE_OPTIONS.items():
            for key in set(options) - set(BASE_OPTIONS[self.base]):
                if getattr(self, key) is not None:
                    raise ValueError(f"`{key}` is an option of `base={base!r}`, but `base` is {self.base!r}; leave it out.")
        if self.combine == "sum":
            self._check_sum()
        if self.base == "hiagm":
            self._check_hiagm()

    def _check_sum(self):
        branches = self.get_branches()
        if branches.num_label_copies > self.num_labels:
            nodes = branches.nodes[: branches.num_label_copies]
            label = nodes[1:][nodes[1:] == nodes[:-1]][0]
            raise ValueError(
                f"`combine='sum'` is for branches that share no label, but {self.id2label[int(label)]!r} lies in several, where "
                "probabilities could add up to more than 1; use 'max' or 'mean'."
            )

    def _check_hiagm(self):
        if not isinstance(self.node_dim, int) or self.node_dim < 1:
            raise ValueError(f"`node_dim` is {self.node_dim!r}; give a whole number of at least 1, or 'auto'.")
        if self.num_structure_layers < 1:
            raise ValueError(f"`num_structure_layers` is {self.num_structure_layers}; it is at least 1.")
        if self.prior not in ("ratio", "sibling"):
            raise ValueError(f"`prior` is {self.prior!r}; allowed are 'ratio', 'sibling'.")
        if self.classifier not in ("flatten", "node"):
            raise ValueError(f"`classifier` is {self.classifier!r}; allowed are 'flatten', 'node' and 'auto'.")
        if self.output == "masking" and self.classifier == "node":
            raise ValueError(
                "`output='masking'` gives a branch outputs for labels that it has no nodes of; it needs `classifier='flatten'`."
            )
        size = self.num_dense_parameters()
        if self.classifier == "flatten" and size > FLATTEN_REFUSED:
            branches = self.get_branches()
            if self.output == "masking":
                mend = f"use `output='projection'`: a branch then has no outputs for all {self.num_labels:,} labels"
            else:
                number = branches.num_label_copies * self.node_dim
                mend = f"use `classifier='node'` ({number:,} parameters) or a smaller `node_dim`"
            raise ValueError(f"The classifiers of {branches.num_branches:,} branches would have {size:,} parameters; {mend}.")
