"""`HTCTrainingArguments`: transformers' `TrainingArguments` with defaults that learn, and one option more."""

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from hf_htc.models.errors import HTCError, check_number


# Of the numbers of a run, checked when the settings are made; what transformers checks itself is left to it.
RANGES = {
    "learning_rate": "[0, inf)", "classifier_learning_rate": "[0, inf)", "weight_decay": "[0, inf)", "max_grad_norm": "[0, inf)",
    "adam_beta1": "[0, 1)", "adam_beta2": "[0, 1)", "adam_epsilon": "(0, inf)", "warmup_steps": "[0, inf)",
    "num_train_epochs": "(0, inf)", "gradient_accumulation_steps": "[1, inf)", "per_device_train_batch_size": "[1, inf)",
    "per_device_eval_batch_size": "[1, inf)", "save_total_limit": "[1, inf)", "seed": "[0, 4294967295]",
    "data_seed": "[0, 4294967295]", "dataloader_num_workers": "[0, inf)", "eval_delay": "[0, inf)", "logging_steps": "(0, inf)",
    "eval_steps": "(0, inf)", "save_steps": "(0, inf)",
}  # fmt: skip


@dataclass
class HTCTrainingArguments(TrainingArguments):
    """
    Every field of [`~transformers.TrainingArguments`]; these differ:

    Args:
        learning_rate (`float`, *optional*): Of the text encoder. Defaults to the method's recommendation.
        classifier_learning_rate (`float`, *optional*): Of everything in `model.classifier`, a parameter group of its own.
            Defaults to the method's recommendation.
        per_device_train_batch_size (`int`, *optional*, defaults to 32), per_device_eval_batch_size (64), warmup_steps (0.1,
            a share of all steps), eval_strategy, save_strategy (`"epoch"`), load_best_model_at_end (`True`),
            metric_for_best_model (`"micro_f1"`), save_total_limit (2).

    Raises:
        `ValueError`: `label_smoothing_factor > 0`: the Trainer would smooth over classes that exclude each other.
    """

    learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the text encoder; the method's recommendation by default."}
    )
    classifier_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate of everything but the text encoder; the method's recommendation by default."},
    )
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Documents a step and device in training."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Documents a step and device in evaluation."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Linear warm-up: steps, or a share of all steps below 1."})
    eval_strategy: str = field(
        default="epoch", metadata={"help": "When to evaluate on validation data: 'no', 'steps' or 'epoch'."}
    )
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint: 'no', 'steps', 'epoch' or 'best'."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep, the best one among them."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "End with the checkpoint of the best validation score."})
    metric_for_best_model: str | None = field(default="micro_f1", metadata={"help": "The validation score that decides."})
    greater_is_better: bool | None = field(default=True, metadata={"help": "Whether a larger score is better."})
    batch_eval_metrics: bool = field(default=True, metadata={"help": "Count batch by batch; constant memory."})
    label_names: list[str] | None = field(default_factory=lambda: ["labels"], metadata={"help": "The key of the labels."})

    def __post_init__(self):
        if self.label_smoothing_factor:
            raise HTCError(
                f"`label_smoothing_factor` is {self.label_smoothing_factor}; it is for classes that exclude each other. "
                "Leave it at 0 for hierarchical labels."
            )
        for name, interval in RANGES.items():
            value = getattr(self, name, None)
            if value is not None and not isinstance(value, str):
                check_number(name, value, interval)
        super().__post_init__()
        if not torch.cuda.is_available():
            self.dataloader_pin_memory = False
