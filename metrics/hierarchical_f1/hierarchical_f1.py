"""Hierarchical precision, recall and F of label sets over a taxonomy, as an `evaluate` metric."""

from typing import Any

import datasets
import evaluate
import numpy as np

# Every sibling is imported here, one a line and without a comment behind it: `evaluate` copies no others.
# ruff: noqa: F401
from .calibration_scores import CalibrationScorer
from .curve_scores import CurveScorer
from .errors import MetricError, MetricTypeError
from .hierarchical_losses import HierarchicalLosses
from .hierarchical_scores import AVERAGES, HierarchicalScorer
from .label_groups import branches, group_scores, leaf_labels
from .label_sets import CLOSURES, multi_hot_to_csr
from .lca_scores import LcaScorer
from .ranking_scores import RankingScorer
from .score_rows import RowCloser
from .scorers import Scorer
from .taxonomy import Taxonomy


METRICS = ("hf", "leaf", "branches", "losses", "lca")


_CITATION = """\
@inproceedings{kiritchenko2006learning,
  title     = {Learning and Evaluation in the Presence of Class Hierarchies: Application to Text Categorization},
  author    = {Kiritchenko, Svetlana and Matwin, Stan and Nock, Richard and Famili, A. Fazel},
  booktitle = {Advances in Artificial Intelligence, Canadian AI 2006},
  year      = {2006}
}
"""

_DESCRIPTION = """\
Precision, recall and F of label sets over a taxonomy (tree or DAG). With closure="up" every set gets the ancestors of
its labels first: hierarchical precision, recall and F in the sense of Kiritchenko et al. (2006). Exact and sparse: cost
grows with the labels that documents have, not with the size of the taxonomy.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[list[int]]` or `list[list[str]]`): predicted labels of each document, as ids or as names.
        Config `multilabel`: 0/1 rows with one column a label.
    references (`list[list[int]]` or `list[list[str]]`): gold labels of each document, in the same form.
    parents (`dict`, `list` or object with `parents`, `num_labels`, `names`): the taxonomy.
        A dict `label -> list of parents` (`[]`: first level), ids follow the order of the keys; a list of lists of
        parent ids; or a flat list of parent ids, -1 for the first level.
    num_labels (`int`, *optional*): the first `num_labels` nodes are labels, the others structure only. Default: all.
    names (`list[str]`, *optional*): label names in id order, for inputs by name where `parents` is a list.
    average (`str`, *optional*, defaults to `"micro"`): `"micro"`, `"macro"` (mean over labels), `"samples"` (mean over
        documents) or `"weighted"` (mean over labels, weighted by support), in scikit-learn's sense.
    closure (`str`, *optional*, defaults to `"up"`): `"up"` adds all ancestors on both sides, `"prune"` drops predicted
        labels that lack an ancestor, `"none"` compares the sets as they are.
    beta (`float`, *optional*, defaults to 1.0): weight of recall in F.
    labels (`str`, *optional*, defaults to `"all"`): macro averages divide by `"all"` labels or by the `"supported"`
        ones, which occur in a gold or predicted set.
    zero_division (`float`, *optional*, defaults to 0.0): the value of 0 / 0: 0.0, 1.0, or nan = not part of means.
    per_level (`bool`, *optional*, defaults to `False`): add `level_1_micro_f1`, `level_1_macro_f1`, and so on for
        every level.
    constrained (`bool`, *optional*, defaults to `False`): add the path-constrained `c_micro_f1`, `c_macro_f1` and the
        path-based `p_micro_f1`, `p_macro_f1`.
    metrics (`str` or list of `str`, *optional*, defaults to `"hf"`): any of
        `"hf"`: `hierarchical_precision`, `hierarchical_recall`, `hierarchical_f1`, `exact_match`, `consistency` and the
        extras asked for by `per_level` and `constrained`;
        `"leaf"`: `leaf_micro_precision`, `leaf_micro_recall`, `leaf_micro_f1`, `leaf_macro_f1`, of the leaf labels;
        `"branches"`: the same of the labels at or below every first-level node, with `branch_<name>` instead of `leaf`;
        `"losses"`: `h_loss`, `h_loss_sibling`, `hmc_loss`, `symmetric_difference`, `hamming_loss`, `label_inconsistency`,
        `path_inconsistency`, `path_validity`;
        `"lca"`: `lca_micro_f1`, `lca_samples_f1` (and precision and recall), `tree_distance`, `mistake_severity`,
        `wu_palmer`, `num_single_path_documents`.

Returns:
    `dict`: what `metrics` asks for; by default `hierarchical_precision`, `hierarchical_recall`, `hierarchical_f1` (with beta
    other than 1: `hierarchical_fbeta`, and `fbeta` in all other keys), each in [0, 1]; `exact_match`, `consistency`; the
    requested extras; `average`, `closure`, `beta`, `labels`, `num_documents`, `num_labels`: what the numbers belong to.

Raises:
    ValueError: for unknown labels, rows of unequal width, unequal numbers of documents, a bad taxonomy or option. The
        message names the culprit.
    TypeError: for ids mixed with names, or for values that are neither.

Examples:

    >>> import evaluate
    >>> metric = evaluate.load("metrics/hierarchical_f1")
    >>> parents = {"Arts": [], "Music": ["Arts"], "Film": ["Arts"], "Sport": []}
    >>> scores = metric.compute(predictions=[["Music"], ["Sport"]], references=[["Film"], ["Sport"]], parents=parents)
    >>> round(scores["hierarchical_f1"], 4), scores["average"], scores["closure"]
    (0.6667, 'micro', 'up')

    The same documents by id, compared as they are:

    >>> scores = metric.compute(
    ...     predictions=[[1], [3]], references=[[2], [3]], parents=[-1, 0, 0, -1], closure="none", per_level=True
    ... )
    >>> scores["hierarchical_f1"], scores["level_1_micro_f1"], scores["level_2_micro_f1"]
    (0.5, 1.0, 0.0)

    And as 0/1 rows:

    >>> metric = evaluate.load("metrics/hierarchical_f1", "multilabel")
    >>> scores = metric.compute(
    ...     predictions=[[0, 1, 0, 0], [0, 0, 0, 1]], references=[[0, 0, 1, 0], [0, 0, 0, 1]], parents=[-1, 0, 0, -1]
    ... )
    >>> round(scores["hierarchical_f1"], 4)
    0.6667
"""


class HierarchicalF1(evaluate.Metric):
    __doc__ = f"{_DESCRIPTION}{_KWARGS_DESCRIPTION}\nHierarchical precision, recall and F."

    def _info(self):
        if self.config_name not in ("default", "multilabel"):
            raise MetricError(
                f"There is no config {self.config_name!r}; use 'default' (lists of label ids or names) or 'multilabel' "
                "(0/1 rows)."
            )
        value = datasets.Value("int8" if self.config_name == "multilabel" else "string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Sequence(value), "references": datasets.Sequence(value)}),
        )

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Add a batch of documents.

        Args:
            predictions, references: one list of label ids, of label names, or one 0/1 row (config `multilabel`) a
            document.

        Raises:
            ValueError: for unequal numbers of documents or rows of unequal width.
            TypeError: for rows that are no lists and labels that are neither ids nor names.
        """
        for what, rows in (("predictions", predictions), ("references", references)):
            if rows is None or isinstance(rows, (str, bytes)) or not hasattr(rows, "__len__"):
                raise MetricTypeError(f"{what} must be a list with one list of labels a document; got {rows!r}.")
        if len(predictions) != len(references):
            raise MetricError(
                f"predictions has {len(predictions)} rows and references {len(references)}; give one row a document to both."
            )
        batch = {}
        for what, rows in (("predictions", predictions), ("references", references)):
            rows = [_as_list(row, index, what) for index, row in enumerate(rows)]
            if self.config_name == "multilabel":
                batch[what] = _checked_multi_hot(rows, what)
            else:
                batch[what] = _as_strings(rows, what)
        if self.config_name == "multilabel":
            widths = [len(rows[0]) for rows in batch.values() if rows]
            if len(set(widths)) > 1:
                raise MetricError(
                    f"predictions row 0 has {widths[0]} columns and references row 0 {widths[1]}; both need one column a label."
                )
        super().add_batch(**batch, **kwargs)

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Add one document.

        Args:
            prediction, reference: the label ids, the label names, or the 0/1 row (config `multilabel`) of the document.
        """
        self.add_batch(predictions=[prediction], references=[reference], **kwargs)

    def _compute(
        self,
        predictions,
        references,
        parents=None,
        num_labels=None,
        names=None,
        average="micro",
        closure="up",
        beta=1.0,
        labels="all",
        zero_division=0.0,
        per_level=False,
        constrained=False,
        metrics="hf",
    ):
        if parents is None:
            raise MetricError(
                "`parents` is missing: hierarchical scores need the taxonomy, e.g. parents={'Arts': [], 'Music': ['Arts']}."
            )
        if average not in AVERAGES:
            raise MetricError(f"`average` is {average!r}; allowed are {', '.join(map(repr, AVERAGES))}.")
        if closure not in CLOSURES:
            raise MetricError(f"`closure` is {closure!r}; allowed are {', '.join(map(repr, CLOSURES))}.")
        metrics = (metrics,) if isinstance(metrics, str) else tuple(metrics)
        for name in metrics:
            if name not in METRICS:
                raise MetricError(f"`metrics` must be among {list(METRICS)}; got {name!r}.")
        taxonomy = Taxonomy(parents, num_labels=num_labels, names=names)
        rows = {"predictions": predictions, "references": references}
        if self.config_name == "multilabel":
            rows = {what: multi_hot_to_csr(given, taxonomy, what) for what, given in rows.items()}
        else:
            by_name = _are_names(rows)
            for what, given in rows.items():
                given = [[label[1:] for label in row] for row in given]
                rows[what] = taxonomy.encode(given, what) if by_name else [list(map(int, row)) for row in given]
        scorer = HierarchicalScorer(taxonomy, closure=closure, beta=beta)
        scorer.add(**rows)
        scores = scorer.compute(
            averages=average, labels=labels, per_level=per_level, constrained=constrained, zero_division=zero_division
        )
        f = "f1" if beta == 1 else "fbeta"
        result = {}
        if "hf" in metrics:
            result.update({f"hierarchical_{name}": scores[f"{average}_{name}"] for name in ("precision", "recall", f)})
            kept = ("level_", "c_", "p_", "exact_match", "consistency")
            result.update({key: score for key, score in scores.items() if key.startswith(kept)})
        groups = {"leaf": leaf_labels(taxonomy)} if "leaf" in metrics else {}
        if "branches" in metrics:
            # A branch may have any name, such as "leaf".
            groups.update({f"branch_{name}": members for name, members in branches(taxonomy).items()})
        result.update(group_scores(scorer, groups, labels=labels, zero_division=zero_division))
        if "losses" in metrics:
            losses = HierarchicalLosses(taxonomy, closure=closure)
            losses.add(**rows)
            result.update(losses.compute())
            del result["alpha"]
        if "lca" in metrics:
            ancestors = LcaScorer(taxonomy, closure=closure)
            ancestors.add(**rows)
            result.update(ancestors.compute(zero_division=zero_division))
        result.update(average=average, closure=closure, beta=float(beta), labels=labels)
        result.update(num_documents=scores["num_documents"], num_labels=scores["num_labels"])
        return result


def _as_list(row, index, what):
    """A row as a list of Python values; arrays and tensors are taken over."""
    if hasattr(row, "tolist"):
        row = row.tolist()
    if isinstance(row, (str, bytes)) or not hasattr(row, "__iter__"):
        raise MetricTypeError(f"{what} row {index} is {row!r}; every row must be a list of labels.")
    return list(row)


# Ids and names share one column of strings and are told apart by their first character, so that names that consist of
# digits ("1309") are never read as ids.
_ID, _NAME = "#", "@"


def _as_strings(rows, what):
    """Rows of ids or of names as rows of marked strings."""
    marked = []
    for index, row in enumerate(rows):
        for label in row:
            if isinstance(label, bool) or not isinstance(label, (str, int, np.integer)):
                raise MetricTypeError(
                    f"{what} row {index} holds {label!r} ({type(label).__name__}); labels must be ids (integers) or "
                    "names (strings). For 0/1 rows load the config 'multilabel'."
                )
        marked.append([(_NAME if isinstance(label, str) else _ID) + str(label) for label in row])
    return marked


def _are_names(rows):
    """Whether the marked rows hold names; a mixture of names and ids is refused."""
    first = None
    for what, given in rows.items():
        for index, row in enumerate(given):
            for label in row:
                first = first or label
                if label[0] != first[0]:
                    names, ids = (first, label) if first[0] == _NAME else (label, first)
                    raise MetricTypeError(
                        f"{what} row {index}: the name {names[1:]!r} and the id {ids[1:]} are mixed; use names or ids "
                        "throughout, in predictions and references."
                    )
    return first is not None and first[0] == _NAME


def _checked_multi_hot(rows, what):
    """0/1 rows as lists of integers, all of the width of the first."""
    for index, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise MetricError(
                f"{what} row {index} has {len(row)} columns, row 0 has {len(rows[0])}; every 0/1 row needs one column "
                "a label. Lists of label ids belong to the config 'default'."
            )
        for column, value in enumerate(row):
            if value not in (0, 1):
                raise MetricError(
                    f"{what} row {index}, column {column} is {value!r}; only 0 and 1 are allowed. Compare scores with "
                    "a threshold first."
                )
    return [[int(value) for value in row] for row in rows]
