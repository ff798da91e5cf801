"""`HTCTrainingArguments`: transformers' `TrainingArguments` with defaults that learn and that follow what is set."""

import copy
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from hf_htc.models.errors import HTCError, check_number

from .options import TrainingOptions


# Of the numbers of a run, checked when the settings are made; what transformers checks itself is left to it.
RANGES = {
    "learning_rate": "[0, inf)", "classifier_learning_rate": "[0, inf)", "weight_decay": "[0, inf)", "max_grad_norm": "[0, inf)",
    "adam_beta1": "[0, 1)", "adam_beta2": "[0, 1)", "adam_epsilon": "(0, inf)", "warmup_steps": "[0, inf)",
    "num_train_epochs": "(0, inf)", "gradient_accumulation_steps": "[1, inf)", "per_device_train_batch_size": "[1, inf)",
    "per_device_eval_batch_size": "[1, inf)", "save_total_limit": "[1, inf)", "seed": "[0, 4294967295]",
    "data_seed": "[0, 4294967295]", "dataloader_num_workers": "[0, inf)", "eval_delay": "[0, inf)", "logging_steps": "(0, inf)",
    "eval_steps": "(0, inf)", "save_steps": "(0, inf)",
}  # fmt: skip


# transformers types some fields without `None`, which stands here for what follows from the model and from other fields.
@dataclass
class HTCTrainingArguments(TrainingOptions, TrainingArguments):  # type: ignore[misc]
    """
    Every field of [`~transformers.TrainingArguments`]; these differ:

    Args:
        learning_rate (`float`, *optional*): Of the text encoder. Defaults to the method's recommendation.
        classifier_learning_rate (`float`, *optional*): Of everything in `model.classifier`, a parameter group of its own.
            Defaults to the method's recommendation.
        per_device_train_batch_size (`int`, *optional*, defaults to 32), per_device_eval_batch_size (64), warmup_steps (0.1,
            a share of all steps), save_total_limit (2).
        eval_strategy, save_strategy (`str`, *optional*), load_best_model_at_end (`bool`, *optional*), eval_steps, save_steps
            (*optional*): By default evaluation and saving happen after every epoch, and the run ends with the best checkpoint.
            Those that are set decide about those that are not: see [`follow`].
        metric_for_best_model (`str`, *optional*): Defaults to `"micro_f1"`.
        greater_is_better (`bool`, *optional*): Defaults to `True`, for a loss to `False`.

    Attributes:
        left_open (`frozenset[str]`): Which of these last fields were not set.

    Raises:
        `ValueError`: `label_smoothing_factor > 0`: the Trainer would smooth over classes that exclude each other. Two settings
        that contradict each other. A number out of its range.
    """

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
        settings = {name: getattr(self, name) for name in FOLLOWING}
        self.left_open = frozenset(name for name, value in settings.items() if value is None)
        for name, value in follow(**settings, logging_steps=self.logging_steps).items():
            setattr(self, name, value)
        super().__post_init__()
        if not torch.cuda.is_available():
            self.dataloader_pin_memory = False


# Fields whose defaults depend on one another.
FOLLOWING = (
    "eval_strategy", "eval_steps", "save_strategy", "save_steps", "load_best_model_at_end", "metric_for_best_model",
    "greater_is_better",
)  # fmt: skip
EVAL_STRATEGIES, SAVE_STRATEGIES = ("no", "steps", "epoch"), ("no", "steps", "epoch", "best")


def follow(
    eval_strategy,
    eval_steps,
    save_strategy,
    save_steps,
    load_best_model_at_end,
    metric_for_best_model,
    greater_is_better,
    logging_steps=500,
):
    """
    The settings that were left open (`None`), from those that were set.

    * Steps that are given mean the strategy `"steps"`.
    * Evaluating and saving follow each other: same strategy, same steps. Without either, both happen after every epoch.
    * The best checkpoint is taken where there is one: not without evaluation or saving, and not where they happen at different
      moments.

    Returns:
        `dict`: the value of every argument.

    Raises:
        `ValueError`: two settings that were both made contradict each other.
    """
    eval_strategy = _checked("eval_strategy", eval_strategy, EVAL_STRATEGIES)
    save_strategy = _checked("save_strategy", save_strategy, SAVE_STRATEGIES)
    best = load_best_model_at_end
    if best and "no" in (eval_strategy, save_strategy):
        name = "eval_strategy" if eval_strategy == "no" else "save_strategy"
        raise HTCError(
            f"`load_best_model_at_end` needs evaluations and checkpoints, and `{name}` is 'no'. Leave one of the two out.",
            field=name,
        )
    if save_strategy == "best" and eval_strategy == "no":
        raise HTCError("`save_strategy='best'` needs evaluations, and `eval_strategy` is 'no'. Leave one of the two out.")
    if eval_strategy is None and eval_steps is not None:
        eval_strategy = "steps"
    if save_strategy is None and save_steps is not None:
        save_strategy = "steps"
    if eval_strategy is None:
        eval_strategy = save_strategy if save_strategy in ("steps", "epoch") else "epoch"
    if save_strategy is None:
        save_strategy = "epoch" if eval_strategy == "no" else eval_strategy
    if eval_strategy == "steps" and eval_steps is None:
        eval_steps = save_steps if save_strategy == "steps" and save_steps is not None else logging_steps
    if save_steps is None:
        save_steps = eval_steps if eval_strategy == save_strategy == "steps" else 500
    together = eval_strategy != "no" and (
        save_strategy == "best"
        or (save_strategy == eval_strategy and (eval_strategy != "steps" or _is_multiple(save_steps, eval_steps)))
    )
    if best and not together:
        raise HTCError(
            f"`load_best_model_at_end` needs a checkpoint at every evaluation that may be the best, but evaluation is set to "
            f"{_moments(eval_strategy, eval_steps)} and saving to {_moments(save_strategy, save_steps)}. Set only one of them: "
            "the other follows."
        )
    metric = "micro_f1" if metric_for_best_model is None else metric_for_best_model
    return {
        "eval_strategy": eval_strategy,
        "eval_steps": eval_steps,
        "save_strategy": save_strategy,
        "save_steps": save_steps,
        "load_best_model_at_end": together if best is None else best,
        "metric_for_best_model": metric,
        "greater_is_better": not metric.endswith("loss") if greater_is_better is None else greater_is_better,
    }


def _checked(name, value, allowed):
    value = "no" if value is False else getattr(value, "value", value)  # YAML reads `no` as false; an enumeration has a value
    if value is not None and value not in allowed:
        raise HTCError(f"`{name}` is {value!r}; it is one of {', '.join(map(repr, allowed))}.", field=name, value=value)
    return value


def _is_multiple(save_steps, eval_steps):
    if min(save_steps, eval_steps) < 1:  # shares of all steps; transformers compares them so
        return abs(round(save_steps / eval_steps) * eval_steps - save_steps) < 1e-9 and (save_steps < 1) == (eval_steps < 1)
    return save_steps % eval_steps == 0


def _moments(strategy, steps):
    return f"every {steps:g} steps" if strategy == "steps" else f"{strategy!r}"


def own_copy(args):
    """A copy of training arguments that can be changed without changing the caller's."""
    copied = copy.copy(args)
    for name, value in vars(args).items():
        if isinstance(value, (dict, list)):
            setattr(copied, name, copy.copy(value))
    return copied
