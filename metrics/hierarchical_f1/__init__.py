"""Metrics of hierarchical classification over label sets and scores: the numpy core and the `evaluate` metric around it.

The core is exported here and needs numpy only. The metric class is in `hierarchical_f1.hierarchical_f1`, which imports
`evaluate` and `datasets`.
"""

from .calibration_scores import CalibrationScorer
from .curve_scores import CurveScorer
from .hierarchical_losses import HierarchicalLosses, sibling_costs
from .hierarchical_scores import AVERAGES, HierarchicalScorer
from .label_groups import branches, frequency_groups, group_scores, leaf_labels
from .label_sets import CLOSURES
from .lca_scores import LcaScorer
from .ranking_scores import RankingScorer
from .scorers import apply_closure
from .taxonomy import Taxonomy


__all__ = [
    "AVERAGES",
    "CLOSURES",
    "CalibrationScorer",
    "CurveScorer",
    "HierarchicalLosses",
    "HierarchicalScorer",
    "LcaScorer",
    "RankingScorer",
    "Taxonomy",
    "apply_closure",
    "branches",
    "frequency_groups",
    "group_scores",
    "leaf_labels",
    "sibling_costs",
]
