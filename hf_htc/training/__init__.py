"""Training: with [`HTCTrainer`], a thin `transformers.Trainer`, or in a loop on bare `accelerate`."""

from .accelerate_loop import LoopResult, train_with_accelerate
from .arguments import HTCTrainingArguments
from .callbacks import EitherMetricEarlyStopping, InterruptCallback, PriorCallback
from .launch import check_launch
from .trainer import HTCTrainer, build_trainer


__all__ = [
    "EitherMetricEarlyStopping",
    "HTCTrainer",
    "HTCTrainingArguments",
    "InterruptCallback",
    "LoopResult",
    "PriorCallback",
    "build_trainer",
    "check_launch",
    "train_with_accelerate",
]
