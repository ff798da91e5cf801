"""Data: loading, checking, tokenizing and collating hierarchical text classification data sets."""

import importlib


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
