"""Training on a plain `transformers.Trainer`."""

from .arguments import HTCTrainingArguments
from .callbacks import EitherMetricEarlyStopping, InterruptCallback, PriorCallback
from .trainer import build_trainer


__all__ = ["EitherMetricEarlyStopping", "HTCTrainingArguments", "InterruptCallback", "PriorCallback", "build_trainer"]
