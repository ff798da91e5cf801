"""Data: loading, checking, tokenizing and collating hierarchical text classification data sets."""

import importlib
from typing import TYPE_CHECKING


if TYPE_CHECKING:  # what a type checker sees; at run time `__getattr__` imports
    from .checks import check_dataset as check_dataset
    from .checks import check_files as check_files
    from .collator import HTCDataCollator as HTCDataCollator
    from .documents import read_documents as read_documents
    from .documents import write_predictions as write_predictions
    from .loading import HTCDataset as HTCDataset
    from .loading import load_htc_dataset as load_htc_dataset
    from .problems import DataProblem as DataProblem
    from .report import DatasetReport as DatasetReport
    from .sources import BUILDERS as BUILDERS
    from .splits import (
        as_split as as_split,
    )
    from .splits import (
        check_is_split as check_is_split,
    )
    from .splits import (
        dataset_fingerprint as dataset_fingerprint,
    )
    from .splits import (
        label_closure as label_closure,
    )
    from .splits import (
        label_csr as label_csr,
    )
    from .tokenization import tokenize_dataset as tokenize_dataset
    from .unit_counts import unit_statistics as unit_statistics


_EXPORTS = {
    "HTCDataset": "loading",
    "load_htc_dataset": "loading",
    "BUILDERS": "sources",
    "as_split": "splits",
    "check_is_split": "splits",
    "dataset_fingerprint": "splits",
    "label_closure": "splits",
    "label_csr": "splits",
    "tokenize_dataset": "tokenization",
    "HTCDataCollator": "collator",
    "DataProblem": "problems",
    "DatasetReport": "report",
    "check_dataset": "checks",
    "check_files": "checks",
    "unit_statistics": "unit_counts",
    "read_documents": "documents",
    "write_predictions": "documents",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name):
    # Lazy, because `datasets` and torch take seconds to import.
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
