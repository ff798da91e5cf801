"""The options of a training that are ours or in every command line, without transformers: `hf-htc train --help` shows them."""

from dataclasses import dataclass, field


@dataclass
class TrainingOptions:
    """Options of a training. Those of [`HTCTrainingArguments`], which has every other option of `TrainingArguments`, too."""

    group = "training"

    output_dir: str | None = field(
        default=None, metadata={"help": "Folder of the checkpoint, its card, its scores and its predictions."}
    )
    num_train_epochs: float = field(default=3.0, metadata={"help": "Passes over the training data."})
    learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the text encoder; the method's recommendation by default."}
    )
    classifier_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate of everything but the text encoder; the method's recommendation by default."},
    )
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Documents per step and device in training."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Documents per step and device in evaluation."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Linear warm-up: steps, or a share of all steps below 1."})
    eval_strategy: str | None = field(
        default=None,
        metadata={
            "help": "When to evaluate on validation data: 'no', 'steps' or 'epoch'; by default as `save_strategy`, or 'epoch'."
        },
    )
    eval_steps: float | None = field(
        default=None, metadata={"help": "Steps between two evaluations; by default `save_steps`, or `logging_steps`."}
    )
    save_strategy: str | None = field(
        default=None,
        metadata={
            "help": "When to save a checkpoint: 'no', 'steps', 'epoch' or 'best'; by default as `eval_strategy`, or 'epoch'."
        },
    )
    save_steps: float | None = field(
        default=None, metadata={"help": "Steps between two checkpoints; by default `eval_steps`, or 500."}
    )
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep, the best one among them."})
    load_best_model_at_end: bool | None = field(
        default=None,
        metadata={
            "help": "End with the checkpoint of the best validation score; by default where evaluation and saving go together."
        },
    )
    metric_for_best_model: str | None = field(
        default=None, metadata={"help": "The validation score that decides; micro_f1 by default."}
    )
    greater_is_better: bool | None = field(
        default=None, metadata={"help": "Whether a larger score is better; by default unless the score is a loss."}
    )
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Steps whose gradients are added up before an update."})
    weight_decay: float = field(default=0.0, metadata={"help": "Weight decay of AdamW."})
    seed: int = field(default=42, metadata={"help": "Of everything random."})
    bf16: bool = field(default=False, metadata={"help": "Train in mixed precision, bfloat16."})
    use_cpu: bool = field(default=False, metadata={"help": "Train without a GPU, where there is one, too."})
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "Go on from this checkpoint of an earlier run, or from its last one: 'true'."}
    )
