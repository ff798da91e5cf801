"""The settings of the accelerate loop: what it supports, what it refuses, and the `Accelerator` they make."""

import os
from dataclasses import MISSING, fields
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, DistributedType
from transformers.trainer_pt_utils import AcceleratorConfig

from hf_htc.models.errors import HTCError, HTCTypeError
from hf_htc.training.accelerate_private import forget_other_precision
from hf_htc.training.arguments import HTCTrainingArguments


SUPPORTED = {
    "output_dir", "seed", "data_seed", "full_determinism", "use_cpu", "bf16", "fp16", "tf32", "resume_from_checkpoint",
    "disable_tqdm", "learning_rate", "classifier_learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps",
    "optim", "optim_args", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm",
    "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps",
    "activation_checkpointing", "activation_checkpointing_kwargs", "gradient_checkpointing", "gradient_checkpointing_kwargs",
    "logging_strategy", "logging_steps", "logging_first_step", "eval_strategy", "eval_steps", "eval_delay", "save_strategy",
    "save_steps", "save_total_limit", "load_best_model_at_end", "metric_for_best_model", "greater_is_better",
    "dataloader_num_workers", "dataloader_drop_last", "dataloader_pin_memory", "dataloader_persistent_workers",
    "dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order", "train_sampling_strategy",
    "ddp_find_unused_parameters", "ddp_backend", "ddp_timeout",
}  # fmt: skip
# Set by TrainingArguments itself, or by a launcher; no setting of the user's.
NOT_SETTINGS = {"do_eval", "local_rank"}
# What TrainingArguments makes of a default that switches something off.
OFF: tuple[Any, ...] = (None, False, "", "no", "none", [], {})

SAMPLING = ("random", "sequential", "group_by_length")
NO_SCHEDULES = ("reduce_lr_on_plateau", "greedy")
PRECISIONS = ("no", "bf16", "fp16")


def check_settings(args):
    """
    Refuses what the loop would have to ignore.

    Args:
        args ([`HTCTrainingArguments`]): The settings of a run.

    Raises:
        `TypeError`: other arguments. `ValueError`: a field that differs from its default and that the loop does not support,
        or a value that it does not support; the field is named.
    """
    if not isinstance(args, HTCTrainingArguments):
        raise HTCTypeError(f"`args` must be `HTCTrainingArguments`, got {type(args).__name__}.")
    for field in fields(args):
        if not field.init or field.name in SUPPORTED or field.name in NOT_SETTINGS:
            continue
        value = getattr(args, field.name)
        if not _is_default(field, value):
            raise HTCError(
                f"The accelerate loop does not support `{field.name}` (it is {value!r}). Leave it at its default, or train with "
                "the Trainer (`build_trainer`, `--loop trainer`)." + _instead(field.name)
            )
    if args.train_sampling_strategy not in SAMPLING:
        raise HTCError(
            f"`train_sampling_strategy` is {args.train_sampling_strategy!r}; the accelerate loop has {', '.join(SAMPLING)}."
        )
    if args.lr_scheduler_type in NO_SCHEDULES:
        raise HTCError(
            f"`lr_scheduler_type` is {args.lr_scheduler_type.value!r}, which follows the evaluations; the accelerate loop has "
            "schedules that depend on the step only, such as 'linear' or 'cosine'."
        )


def _is_default(field, value):
    if field.name == "accelerator_config":
        default = AcceleratorConfig()
        return value is None or all(getattr(value, f.name, None) == getattr(default, f.name) for f in fields(default))
    default = field.default if field.default is not MISSING else field.default_factory()
    if any(default is off or default == off for off in OFF):
        return any(value is off or value == off for off in OFF)
    return value == default


def _instead(name):
    if name.startswith(("fsdp", "deepspeed", "parallelism")):
        return " Sharding is set in the configuration file of `accelerate launch`: see examples/accelerate."
    return ""


def precision_of(args):
    """
    `"no"`, `"bf16"` or `"fp16"`: of the settings, or else of `accelerate launch` (its `--mixed_precision` or config file).

    Raises:
        `ValueError`: the two contradict each other, or the precision does not work on this device.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    asked = "bf16" if args.bf16 else "fp16" if args.fp16 else None
    if launched not in PRECISIONS:
        raise HTCError(
            f"`accelerate launch` sets mixed precision to {launched!r}; the loop trains in {', '.join(PRECISIONS)}. Change "
            "`--mixed_precision` or `mixed_precision` in its config file."
        )
    if asked is not None and launched not in ("no", asked):
        raise HTCError(
            f"`--{asked}` contradicts `accelerate launch`, which sets mixed precision to {launched!r}. Leave `--{asked}` out, or "
            "change `--mixed_precision` or `mixed_precision` in its config file."
        )
    precision = asked or launched
    if precision == "fp16" and args.device.type == "cpu":
        raise HTCError("float16 training needs a GPU, and this run is on the CPU: use `--bf16`, or float32.")
    return precision


def make_accelerator(args):
    """
    The `Accelerator` of a run: the Trainer's sampling of documents, precision, accumulation.

    Args:
        args ([`HTCTrainingArguments`]): Checked settings.

    Raises:
        `ValueError`: what `accelerate launch` was told contradicts the settings, or a kind of sharding that the loop has not.
    """
    args.device  # noqa: B018, sets up the processes as the settings say: CPU or not, backend, timeout
    for variable, name in (
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "gradient_accumulation_steps"),
        ("ACCELERATE_GRADIENT_CLIPPING", "max_grad_norm"),
    ):
        launched = os.environ.get(variable, "auto")
        if launched.lower() not in ("auto", "none") and float(launched) != getattr(args, name):
            raise HTCError(
                f"`{name}` is {getattr(args, name)}, but `accelerate launch` sets it to {launched}. Make them the same, or "
                "leave it out of the config file."
            )
    precision = precision_of(args)
    forget_other_precision(precision)
    find_unused = args.ddp_find_unused_parameters
    accelerator = Accelerator(
        cpu=args.device.type == "cpu",
        mixed_precision=precision,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=args.data_seed),
        # As in the Trainer: activation checkpointing and the search for unused parameters exclude each other.
        kwargs_handlers=[
            DistributedDataParallelKwargs(
                find_unused_parameters=not args.activation_checkpointing if find_unused is None else find_unused
            )
        ],
    )
    kinds = (DistributedType.MEGATRON_LM, DistributedType.XLA)
    if accelerator.distributed_type in kinds or (
        accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2
    ):
        raise HTCError(
            f"The accelerate loop does not train with {accelerator.distributed_type.value}"
            + (" version 1; set `fsdp_version: 2`." if accelerator.distributed_type == DistributedType.FSDP else ".")
        )
    if accelerator.num_processes > 1 and args.train_sampling_strategy == "group_by_length":
        raise HTCError(
            "`train_sampling_strategy='group_by_length'` draws its order in every process for itself, so that with "
            f"{accelerator.num_processes} processes some documents would be left out. Use 'random', or one process."
        )
    return accelerator


def is_sharded(accelerator):
    """Whether the weights are spread over the processes (FSDP2, DeepSpeed)."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
