"""Training: with [`HTCTrainer`], a thin `transformers.Trainer`, or in a loop on bare `accelerate`."""

import importlib

from .paper_settings import paper_settings


_EXPORTS = {
    "EitherMetricEarlyStopping": "callbacks",
    "HTCTrainer": "trainer",
    "HTCTrainingArguments": "arguments",
    "InterruptCallback": "callbacks",
    "LoopResult": "accelerate_loop",
    "PriorCallback": "callbacks",
    "build_trainer": "trainer",
    "check_launch": "launch",
    "train_with_accelerate": "accelerate_loop",
}

__all__ = sorted([*_EXPORTS, paper_settings.__name__])


def __getattr__(name):
    # Lazy, because torch and transformers take seconds to import.
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
