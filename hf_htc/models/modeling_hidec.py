"""HiDEC: a decoder expands the sub-hierarchy of a document, every parent deciding about its children (Im et al., "Hierarchical
Text Classification as Sub-hierarchy Sequence Generation", AAAI 2023), in the form and with the loss of Kim et al.,
"Hierarchy-aware Biased Bound Margin Loss Function for Hierarchical Text Classification", Findings of ACL 2024. The settings and
every difference from the authors' code: model_cards/hidec.md.

Legend: `B` documents, `T` tokens, `D` width, `M` nodes, `N` labels, `P` inner copies of nodes, `K` candidates of all copies, `U`
units of a batch, `E` their candidates.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init

from .configuration_hidec import HiDECConfig
from .hidec_decoder import HierarchyDecoder, dense_margins, expand_margins, ragged_products
from .hidec_unrolled import HierarchyCopies, unroll
from .modeling_htc import HTCOutput, HTCPreTrainedModel
from .modules import HTCModule, at_least_float32
from .unit_losses import decision_logits, prior_scores, unit_loss
from .units import BoundNetwork, Units


# The logit of a label that a document gets for want of a better one: just predicted.
NEAREST_LOGIT = 1e-4


def is_exporting():
    """Whether the forward pass is being traced, so that nothing may depend on numbers."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


@dataclass
class UnitScores:
    """
    Scores of the units of a batch.

    Args:
        config ([`HiDECConfig`]).
        units ([`Units`]).
        copy (`torch.LongTensor` of shape `(U,)`): The inner copy that decides.
        entry (`torch.LongTensor` of shape `(E,)`): The candidates.
        logits (`torch.Tensor` of shape `(E,)`), bounds (`torch.Tensor` of shape `(U,)`, *optional*).
        targets (`torch.BoolTensor` of shape `(E,)`, *optional*): Which belong to the documents' sub-hierarchies.
    """

    config: HiDECConfig
    units: Units
    copy: torch.Tensor
    entry: torch.Tensor
    logits: torch.Tensor
    bounds: torch.Tensor | None = None
    targets: torch.Tensor | None = None

    def margins(self):
        """`(E,)`: positive where a candidate is chosen."""
        return decision_logits(self.config, self.logits, None if self.bounds is None else self.bounds[self.units.unit])


class HiDECClassifier(HTCModule):
    """
    `r_c = Decoder(embeddings of c and its ancestors, text)` for an inner copy `c`; `l_ck = r_c . e_k + b_ck` for its candidates
    `k`, its children and [END]; `t_c` from `r_c` by the bound network.

    Args:
        config ([`HiDECConfig`]).
    """

    _no_split_modules = ["HiDECClassifier"]

    def __init__(self, config):
        super().__init__()
        size = config.text_config.hidden_size
        self.config = config
        self.copies = HierarchyCopies(config)
        # Nodes, [END], root: read by the decoder and compared with its states.
        self.label_embedding = nn.Parameter(torch.empty(config.num_hierarchy_nodes() + 2, size))
        self.level_embedding = nn.Parameter(torch.empty(self.copies.num_depths, size))
        self.embedding_dropout = nn.Dropout(config.decoder_dropout)
        self.decoder = HierarchyDecoder(config)
        self.unit_dropout = nn.Dropout(config.decoder_dropout)
        self.out_bias = nn.Parameter(torch.empty(self.copies.num_biases)) if config.label_bias else None
        self.bounds = BoundNetwork(size) if config.uses_bounds else None

    @torch.no_grad()
    def init_weights(self, config):
        std = config.text_config.hidden_size**-0.5
        init.normal_(self.label_embedding, std=std)
        init.normal_(self.level_embedding, std=std)
        if self.out_bias is not None:
            init.zeros_(self.out_bias)

    @torch.no_grad()
    def set_label_statistics(self, statistics):
        """The bias of a candidate starts at its log-odds among the training documents that reach its parent."""
        if self.out_bias is None:
            return
        tree = unroll(self.config.get_hierarchy())
        below = torch.as_tensor(statistics["node_counts"], dtype=torch.float64)
        own = torch.as_tensor(statistics["counts"], dtype=torch.float64)
        parent, child = torch.as_tensor(tree.bias_node), torch.as_tensor(tree.bias_child)
        total = torch.where(parent < 0, float(statistics["num_documents"]), below[parent.clamp(min=0)])
        count = torch.where(child == parent, own[child.clamp(max=len(own) - 1)], below[child])
        log_odds = torch.log((count + 0.5) / (total - count + 0.5))
        self.out_bias.copy_(prior_scores(self.config, log_odds))

    # ------------------------------------------------------------------ pieces

    def embed(self, copy):
        """Embeddings of inner copies, `(..., D)`."""
        embedding, depth = self.copies.embedding[copy], self.copies.depth[copy]
        nodes = nn.functional.embedding(embedding, self.label_embedding)
        return self.embedding_dropout(nodes + nn.functional.embedding(depth, self.level_embedding))

    def add_bias(self, logits, index):
        return logits if self.out_bias is None else logits + self.out_bias[index]

    def margins(self, logits, bounds=None):
        return decision_logits(self.config, logits, bounds)

    def candidates_of(self, copy):
        """The candidates of units, root units first: which unit, and which candidate of the hierarchy, `(E,)` each."""
        copies = self.copies
        is_root = copy == 0
        sizes = torch.where(is_root, 0, copies.first[copy + 1] - copies.first[copy])
        number = torch.arange(len(copy), device=copy.device)
        roots = is_root.nonzero().flatten()
        unit = torch.repeat_interleave(number, sizes)
        entry = torch.arange(len(unit), device=copy.device) + (copies.first[copy] - sizes.cumsum(0) + sizes)[unit]
        root_unit = roots.repeat_interleave(copies.num_root_candidates)
        root_entry = torch.arange(copies.num_root_candidates, device=copy.device).repeat(len(roots))
        return torch.cat([root_unit, unit]), torch.cat([root_entry, entry])

    def candidate_logits(self, states, unit, entry, copy):
        """
        Logits of candidates as [`~HiDECClassifier.candidates_of`] gives them, `(E,)`. All documents have the root's, which may be
        thousands: they are one product of matrices.
        """
        copies, width = self.copies, self.copies.num_root_candidates
        states = self.unit_dropout(states)
        roots = (copy == 0).nonzero().flatten()
        number = len(roots) * width
        rows = nn.functional.embedding(copies.candidate[:width], self.label_embedding)
        of_roots = at_least_float32(states[roots] @ rows.T).flatten()
        others = ragged_products(states, self.label_embedding, unit[number:], copies.candidate[entry[number:]])
        return self.add_bias(torch.cat([of_roots, others]), copies.bias[entry])

    def score_units(self, present, text, has_label=None):
        """
        Scores the units of known sub-hierarchies.

        Args:
            present (`torch.BoolTensor` of shape `(B, P)`): Inner copies with their ancestors; the root is among them.
            text ([`TextMemory`]): Of `B` documents.
            has_label (`torch.BoolTensor` of shape `(B, N)`, *optional*): The documents' labels, for the targets.

        Returns:
            [`UnitScores`]
        """
        copies = self.copies
        counts = present.sum(1)
        document, copy = present.nonzero(as_tuple=True)  # (U,), by document, in preorder
        place = torch.arange(len(copy), device=copy.device) - (counts.cumsum(0) - counts)[document]
        sequence = torch.zeros(len(present), int(counts.max()), dtype=torch.long, device=copy.device)
        sequence[document, place] = copy
        # Behind its end a sequence has roots that nobody attends to.
        real = torch.arange(sequence.shape[1], device=copy.device) < counts.unsqueeze(1)
        mask = copies.is_above(sequence.unsqueeze(1), sequence.unsqueeze(2)) & real.unsqueeze(1)  # (B, L, L)
        states = self.decoder(self.embed(sequence), mask, text)[document, place]  # (U, D)
        unit, entry = self.candidates_of(copy)
        return UnitScores(
            self.config,
            Units(unit, document, len(present)),
            copy,
            entry,
            self.candidate_logits(states, unit, entry, copy),
            None if self.bounds is None else self.bounds(states),
            None if has_label is None else copies.gold(has_label, present, document[unit], entry),
        )

    # ------------------------------------------------------------------ whole passes

    def forward(self, tokens, mask, targets=None, output_units=False):
        """
        Args:
            tokens (`torch.Tensor` of shape `(B, T, D)`): Token states.
            mask (`torch.Tensor` of shape `(B, T)`): 0 for padding.
            targets (`torch.Tensor` of shape `(B, N)`, *optional*): Labels of a document are those above 0.5.
            output_units (`bool`, *optional*): Whether units are wanted without targets too.

        Returns:
            `tuple`: logits `(B, N)`, and [`UnitScores`] of the sub-hierarchies of the targets, else of what was chosen, or
            `None`.
        """
        text = self.decoder.read_text(tokens, mask)
        scores = None
        if targets is not None:
            has_label = targets > 0.5
            scores = self.score_units(self.copies.sub_hierarchy(has_label), text, has_label)
        if scores is not None and self.training:
            return self.known_logits(scores), scores
        logits, path = self.infer(text)
        if scores is None and output_units:
            scores = self.score_units(path > 0, text)
        return logits, scores

    def infer(self, text):
        """Logits `(B, N)`, and the smallest margin on the way to every inner copy, `(B, P)`."""
        is_dense = self.config.inference == "dense" or is_exporting()
        margins = (dense_margins if is_dense else expand_margins)(self, text)
        path = self.copies.path_margins(margins)
        logits = self.copies.label_logits(margins, path)
        if self.config.empty_prediction == "best":
            logits = self._fill_empty(logits, margins, path)
        return logits, path

    def _fill_empty(self, logits, margins, path):
        is_empty = (logits <= 0).all(1)
        if is_exporting():
            nearest = self._nearest_labels(margins, path) & is_empty.unsqueeze(1)
            return torch.where(nearest, NEAREST_LOGIT, logits)
        rows = is_empty.nonzero().flatten()
        if not len(rows):
            return logits
        nearest = torch.zeros_like(logits, dtype=torch.bool)
        nearest[rows] = self._nearest_labels(margins[rows], path[rows])
        return torch.where(nearest, NEAREST_LOGIT, logits)

    def _nearest_labels(self, margins, path):
        nearest = self.copies.nearest_labels(margins, path)
        return self.copies.with_ancestors(nearest) if self.config.label_closure == "closed" else nearest

    @torch.no_grad()
    def known_logits(self, scores):
        """Logits `(B, N)` in training: those of the units that the labels lead to; a label below another unit has the smallest
        margin on the known part of its way. A second, free pass would cost as much as the step."""
        margin = scores.margins()
        margins = margin.new_full((scores.units.num_documents, self.copies.num_candidates), math.inf)
        margins[scores.units.document[scores.units.unit], scores.entry] = margin
        return self.copies.label_logits(margins, self.copies.path_margins(margins))


class HiDECForHierarchicalTextClassification(HTCPreTrainedModel):
    """
    HiDEC. In training the units are those of the document's own sub-hierarchy, `loss` is the unit loss on them. At inference the
    sub-hierarchy grows from the root: a chosen inner label decides about its children, and is predicted by its own [END]; a
    chosen leaf is predicted. In eval mode with labels both happen, apart from each other.

    `logits`: the smallest margin of the decisions on the way to a label, its [END] included, the largest over its copies. In
    train mode with labels only the units of the labels' sub-hierarchies are known, and logits are those of the known decisions.
    A label of multi-hot `labels` is a value above 0.5. `losses` has one entry, named after the unit loss. `output_units=True`
    gives the units of the labels' sub-hierarchies, or without `labels` of those that were chosen.

    Example:

    ```python
    model = HiDECForHierarchicalTextClassification.from_text_encoder(
        "bert-base-uncased", hierarchy=hierarchy, train_labels=labels
    )
    ```
    """

    config: HiDECConfig
    has_units = True

    def __init__(self, config):
        super().__init__(config)
        self.classifier = HiDECClassifier(config)
        self.post_init()

    def logits_and_losses(self, encoded, targets=None, output_units=False):
        tokens = self.text_dropout(encoded.outputs.last_hidden_state)
        logits, scores = self.classifier(tokens, encoded.attention_mask, targets, output_units)
        losses = {}
        if targets is not None:
            levels = self.classifier.copies.level[scores.entry]
            value = unit_loss(self.config, scores.logits, scores.targets, scores.units, scores.bounds, levels)
            losses[self.config.unit_loss] = value
        units = self._units(scores) if output_units else None
        return HTCOutput(logits=at_least_float32(logits), losses=losses, units=units)

    def _units(self, scores):
        copies, num_nodes = self.classifier.copies, self.config.num_hierarchy_nodes()
        node, child = copies.embedding[scores.copy], copies.candidate[scores.entry]
        return {
            "document": scores.units.document,
            "node": torch.where(node < num_nodes, node, -1),
            "bounds": scores.bounds,
            "unit": scores.units.unit,
            "label": torch.where(child < num_nodes, child, -1),
            "scores": scores.logits,
            "targets": scores.targets,
        }
