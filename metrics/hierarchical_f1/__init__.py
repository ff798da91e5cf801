"""Hierarchical precision, recall and F over label sets: the numpy core and the `evaluate` metric around it.

The core is exported here and needs numpy only. The metric class is in `hierarchical_f1.hierarchical_f1`, which imports
`evaluate` and `datasets`.
"""

from .hierarchical_scores import AVERAGES, HierarchicalScorer
from .label_sets import CLOSURES
from .taxonomy import Taxonomy


__all__ = ["AVERAGES", "CLOSURES", "HierarchicalScorer", "Taxonomy"]
