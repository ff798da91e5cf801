"""A training loop on bare `accelerate`, to read from top to bottom and to change.

It does what the Trainer does with the same settings: the same loss curve, weights and scores. Where the loop you need differs
(another loss, other batches, a second model), copy [`train_with_accelerate`] and change it; the pieces it calls stay as they are.
"""

from __future__ import annotations

import functools
import inspect
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from tqdm.auto import tqdm
from transformers import EvalPrediction, get_scheduler, set_seed
from transformers.trainer_callback import DefaultFlowCallback, TrainerControl, TrainerState
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import enable_full_determinism, seed_worker, speed_metrics

from hf_htc.data import HTCDataCollator, check_is_split
from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError, HTCTypeError
from hf_htc.training.callbacks import EitherMetricEarlyStopping, InterruptCallback, any_process
from hf_htc.training.documents import list_as_dataset
from hf_htc.training.launch import check_launch
from hf_htc.training.loop_checkpoints import (
    checkpoint_to_resume,
    delete_old_checkpoints,
    delete_partial_checkpoints,
    load_checkpoint_state,
    load_model_weights,
    nan_error,
    save_checkpoint,
)
from hf_htc.training.loop_settings import check_settings, is_sharded, make_accelerator
from hf_htc.training.preparation import base_model, check_best_metric, optimizer_factory, prepare_training
from hf_htc.training.random_states import EpochStart


if TYPE_CHECKING:
    from hf_htc.annotations import Closure, Model, StrPath, Tokenizer
    from hf_htc.training.arguments import HTCTrainingArguments


logger = get_logger(__name__)


@dataclass
class LoopResult:
    """
    What a run leaves.

    Args:
        model (`nn.Module`): The model that was passed in, with the best weights where `load_best_model_at_end` is set, otherwise
            with the last. Of sharded weights, on the main process, a whole copy.
        state (`TrainerState`): As the Trainer's: `log_history` (loss, grad_norm, learning_rate, eval_*, epoch, step),
            `global_step`, `best_metric`, `best_model_checkpoint`, ...
        interrupted (`bool`): Whether Ctrl-C or SIGTERM ended the run; a checkpoint to resume from has been written.
        is_main_process (`bool`): Whether this process is the one to write results.
        num_processes (`int`): Processes that trained together.
        signal (`int`, *optional*): Which signal this process got.
    """

    model: torch.nn.Module
    state: TrainerState
    interrupted: bool
    is_main_process: bool
    num_processes: int
    signal: int | None = None


def train_with_accelerate(
    model: Model,
    args: HTCTrainingArguments,
    train_dataset: Dataset | Sequence[dict[str, Any]],
    eval_dataset: Dataset | Sequence[dict[str, Any]] | None = None,
    tokenizer: Tokenizer | None = None,
    *,
    closure: Closure | None = None,
    max_length: int | None = None,
    early_stopping: int | EitherMetricEarlyStopping | None = None,
    data_collator: Callable[[Any], Any] | None = None,
    resume_from_checkpoint: StrPath | bool | None = None,
) -> LoopResult:
    """
    Trains on bare `accelerate`: one process or several, float32, bfloat16 or float16.

    Start several processes with `torchrun` or `accelerate launch` (`examples/accelerate` has config files and commands). Sharded
    weights go through the same lines: FSDP2 is tested in two processes without a GPU, DeepSpeed is not tested.

    Args:
        model ([`HTCPreTrainedModel`] or a PEFT model around one): Trained in place.
        args ([`HTCTrainingArguments`]): The settings of [`build_trainer`]; fields that the loop does not support are refused.
            Copied. Learning rates left at `None` become the method's recommendation.
        train_dataset, eval_dataset (`datasets.Dataset` or `list[dict]`): With `text` (or tokenised) and `labels`: ids, names, or
            multi-hot rows of floats or booleans.
        tokenizer (`PreTrainedTokenizer`): Tokenises texts and pads batches.
        closure (`str`, *optional*): Closure of the metrics; defaults to what fits the training labels.
        max_length (`int`, *optional*): Tokens a text is cut at; lowers `model.config.max_text_length`, its default.
        early_stopping (`int` or [`EitherMetricEarlyStopping`], *optional*): Stop when no watched score has improved in that many
            evaluations.
        data_collator (`Callable`, *optional*): Defaults to [`HTCDataCollator`].
        resume_from_checkpoint (`str` or `bool`, *optional*): A checkpoint folder, or `True` for the last whole one in
            `args.output_dir`. Defaults to `args.resume_from_checkpoint`. The run then goes on as if it had not been stopped.

    Returns:
        [`LoopResult`]

    Raises:
        `ValueError`: an unsupported setting, no tokenizer, data without labels, a launch that gives one process where several
        were asked for. `TypeError`: a `DatasetDict`, or other arguments. `FileNotFoundError`: nothing to resume from. `OSError`:
        a damaged checkpoint. `FloatingPointError`: a loss that is NaN or infinite; the last checkpoint stays.

    Example:

    ```python
    dataset, hierarchy = load_htc_dataset("python_docs")
    args = HTCTrainingArguments("out")
    result = train_with_accelerate(model, args, dataset["train"], dataset["validation"], tokenizer)
    print(result.state.best_metric)
    ```
    """
    # 1. Settings, processes, precision.
    check_settings(args)
    check_launch()
    accelerator = make_accelerator(args)
    resume = args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
    resume = checkpoint_to_resume(resume, args.output_dir, "accelerate")
    if is_sharded(accelerator) and hasattr(model, "peft_config"):
        raise HTCError("The accelerate loop does not train LoRA on sharded weights; use several whole copies (`--multi_gpu`).")

    # 2. Data, metrics, learning rates: the same as for the Trainer.
    train_dataset, eval_dataset = list_as_dataset(train_dataset, "train_dataset"), list_as_dataset(eval_dataset, "eval_dataset")
    for dataset, name in ((train_dataset, "train_dataset"), (eval_dataset, "eval_dataset")):
        check_documents(dataset, name)
    prepared = prepare_training(model, args, train_dataset, eval_dataset, tokenizer, closure, max_length)
    args = prepared.args
    check_best_metric(args, prepared.metrics.hierarchy)
    collator = data_collator or HTCDataCollator(tokenizer)  # type: ignore[arg-type]  # checked above
    if args.full_determinism:
        enable_full_determinism(args.seed)
    else:
        set_seed(args.seed)
    train_loader = make_loader(model, prepared.train_dataset, args, collator, accelerator.process_index)
    eval_loader = None
    if prepared.eval_dataset is not None:
        eval_loader = make_loader(model, prepared.eval_dataset, args, collator, training=False)
        eval_loader = accelerator.prepare_data_loader(eval_loader)

    # 3. Model, optimizer, schedule.
    if args.activation_checkpointing:
        options = dict(args.activation_checkpointing_kwargs or {})
        layers, offload = options.pop("every_n_layers", 1), options.pop("offload", False)
        model.activation_checkpointing_enable(options or None, every_n_layers=layers, offload=offload)
    factory, options = optimizer_factory(args, model)
    if hasattr(options["optimizer_class"], "eval"):
        raise HTCError(f"`optim={args.optim.value}` has a state for evaluation, which the accelerate loop does not switch.")
    kind: Callable[[Any], Any] = type(model)
    new_model = functools.partial(kind, model.config)  # sharding changes the class in place
    model, optimizer, train_loader = accelerator.prepare(model, factory()(model, **options), train_loader)
    batches_in_epoch, accumulated = len(train_loader), args.gradient_accumulation_steps
    steps_in_epoch = math.ceil(batches_in_epoch / accumulated)
    max_steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * steps_in_epoch)
    # Not prepared: accelerate would step a prepared schedule once for every process.
    scheduler = get_scheduler(
        args.lr_scheduler_type,
        optimizer,
        num_warmup_steps=args.get_warmup_steps(max_steps),
        num_training_steps=max_steps,
        scheduler_specific_kwargs=args.lr_scheduler_kwargs,
    )
    epoch_start = EpochStart()
    parts = (accelerator, model, optimizer, scheduler, epoch_start, new_model)  # what a checkpoint is made of

    # 4. The state of the run, from a checkpoint or new. What is logged, evaluated and saved when is decided by the Trainer's own
    # rules.
    if resume:
        state = load_checkpoint_state(*parts, resume, args)
    else:
        state = TrainerState(train_batch_size=args.per_device_train_batch_size * accumulated)
    state.max_steps, state.num_train_epochs = max_steps, math.ceil(max_steps / steps_in_epoch)
    state.compute_steps(args, max_steps)
    state.is_world_process_zero, state.is_local_process_zero = accelerator.is_main_process, accelerator.is_local_main_process
    rules, interrupt = DefaultFlowCallback(), InterruptCallback()
    watchers = prepared.prior_callback()
    if early_stopping is not None:
        watchers.append(EitherMetricEarlyStopping(early_stopping) if isinstance(early_stopping, int) else early_stopping)
    log = Log(accelerator, state, args)
    if accelerator.is_main_process:
        delete_partial_checkpoints(args.output_dir)

    def log_evaluate_save(control):
        """What the rules ask for at this step."""
        if control.should_log:
            log.training()
        if control.should_evaluate and interrupt.stopped:  # who was told to stop may be killed during an evaluation
            save_checkpoint(*parts, tokenizer, state, args)
        if control.should_evaluate:
            scores = evaluate(accelerator, model, eval_loader, prepared.metrics)
            log.write(scores)
            for watcher in watchers:
                watcher.on_evaluate(args, state, control, metrics=scores)
            is_best = note_best(args, state, scores)
            if args.save_strategy == "best":
                control.should_save = is_best
        if control.should_save:
            save_checkpoint(*parts, tokenizer, state, args)

    # 5. The loop.
    first_epoch, steps_done = divmod(state.global_step, steps_in_epoch)
    skipped = steps_done * accumulated
    control = TrainerControl()
    with interrupt.listening():
        for callback in watchers:
            callback.on_train_begin(args, state, control)
        for epoch in range(first_epoch, state.num_train_epochs if state.global_step < max_steps else 0):
            train_loader.set_epoch(epoch)
            batches, random_state = train_loader, None
            if skipped:  # resumed in the middle of this epoch
                batches = accelerator.skip_first_batches(train_loader, skipped)
                random_state = torch.get_rng_state()
                torch.set_rng_state(epoch_start.random_state)
            epoch_start.note()
            for index, batch in enumerate(batches, start=skipped):
                if random_state is not None:
                    torch.set_rng_state(random_state)
                    random_state = None
                with accelerator.accumulate(model):
                    model.train()
                    loss = model(**batch).loss
                    # The last step of an epoch may have fewer batches; it is their mean all the same. `backward` divides by
                    # `accumulated`.
                    here = min(accumulated, batches_in_epoch - index // accumulated * accumulated)
                    accelerator.backward(loss if here == accumulated else loss * (accumulated / here))
                    log.add(loss.detach() / here)
                    if accelerator.sync_gradients:
                        # Here the processes agree: on a loss that is no number, before the weights take harm, and on the end.
                        flags = [~torch.isfinite(log.loss), interrupt.interrupted]
                        not_finite, interrupt.agreed = any_process(flags, accelerator.device)
                        if not_finite:
                            raise nan_error(state.global_step + 1, scheduler.get_last_lr())
                        log.grad_norm = accelerator.clip_grad_norm_(
                            model.parameters(), args.max_grad_norm if args.max_grad_norm > 0 else math.inf
                        )
                        log.learning_rate = scheduler.get_last_lr()[0]
                    optimizer.step()
                    if accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped:
                        scheduler.step()
                    optimizer.zero_grad()
                if not accelerator.sync_gradients:
                    continue

                state.global_step += 1
                state.epoch = epoch + (index + 1) / batches_in_epoch
                log.step()
                control = rules.on_step_end(args, state, TrainerControl())
                interrupt.on_step_end(args, state, control)
                log_evaluate_save(control)
                if control.should_training_stop:
                    break
            skipped, stopped = 0, control.should_training_stop
            control = rules.on_epoch_end(args, state, TrainerControl())
            interrupt.on_epoch_end(args, state, control)
            log_evaluate_save(control)
            if stopped or control.should_training_stop:
                break

    # 6. The end: the best weights, and the model as it came in.
    log.end()
    if not interrupt.stopped:
        for watcher in watchers if accelerator.is_main_process else ():  # they have something to say, once
            watcher.on_train_end(args, state, control)
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            load_model_weights(accelerator, model, new_model, state.best_model_checkpoint)
            if accelerator.is_main_process and args.save_total_limit == 1:
                delete_old_checkpoints(args.output_dir, 1, {state.best_model_checkpoint})
    accelerator.wait_for_everyone()
    result = LoopResult(
        whole_model(accelerator, model, new_model),
        state,
        interrupt.stopped,
        accelerator.is_main_process,
        accelerator.num_processes,
        interrupt.signal,
    )
    accelerator.free_memory()
    return result


# ---------------------------------------------------------------------------------------------- the pieces


def check_documents(dataset, name):
    """Raises `ValueError` for a split that is missing (training), empty or without labels, `TypeError` for no data set."""
    wrong = None
    if dataset is None:
        wrong = "missing" if name == "train_dataset" else None
    elif isinstance(dataset, Dataset):
        wrong = "empty" if not len(dataset) else "without labels" if "labels" not in dataset.column_names else None
    elif not isinstance(dataset, (dict, tuple)):
        raise HTCTypeError(
            f"`{name}` is a {type(dataset).__name__}; the accelerate loop takes a `datasets.Dataset` or a list of dicts. Streams "
            "and other data sets are trained on with `build_trainer`."
        )
    else:
        check_is_split(dataset, name)
    if wrong:
        raise HTCError(f"`{name}` is {wrong}; the accelerate loop needs documents with labels.")


def make_loader(model, dataset, args, collator, process_index=0, training=True):
    """
    The `DataLoader` of a split, not yet prepared: its order is accelerate's, the same in all processes.

    Evaluation takes every document once, in order, also where training drops an incomplete last batch.
    """
    known = inspect.signature(base_model(model).forward).parameters
    dataset = dataset.select_columns([column for column in dataset.column_names if column in known])
    options, sampler = {}, SequentialSampler(dataset)
    if training:
        if args.train_sampling_strategy == "random":
            sampler = RandomSampler(dataset)
        elif args.train_sampling_strategy == "group_by_length":
            sampler = LengthGroupedSampler(
                args.per_device_train_batch_size * args.gradient_accumulation_steps, dataset, model_input_name="input_ids"
            )
        options = {
            "drop_last": args.dataloader_drop_last,
            "worker_init_fn": functools.partial(seed_worker, num_workers=args.dataloader_num_workers, rank=process_index),
        }
    return DataLoader(
        dataset,
        batch_size=args.per_device_train_batch_size if training else args.per_device_eval_batch_size,
        sampler=sampler,
        collate_fn=collator,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
        multiprocessing_context=args.dataloader_multiprocessing_context,
        in_order=args.dataloader_in_order,
        **options,
    )


@torch.no_grad()
def evaluate(accelerator, model, loader, metrics):
    """
    Loss and scores over all documents of all processes, each counted once.

    Args:
        accelerator (`Accelerator`), model (`nn.Module`), loader (`DataLoader`): Prepared.
        metrics ([`StreamingMetrics`]): Counts batch by batch; the predictions leave the device as bits.

    Returns:
        `dict`: `eval_loss`, `eval_micro_f1`, ... as the Trainer gives them; the same in every process.
    """
    started, losses, scores = time.time(), [], {}
    model.eval()
    metrics.reset()
    for batch in loader:
        size = len(batch["input_ids"])
        own = own_documents(accelerator, size)
        outputs = model(**{key: value[: max(1, own)] for key, value in batch.items()})
        predictions = metrics.preprocess(outputs.logits, batch["labels"])
        predictions = torch.nn.functional.pad(predictions, (0, 0, 0, size - len(predictions)))
        # Processes have label rows of different widths, and gathering takes one.
        labels = accelerator.pad_across_processes(batch["labels"], dim=1, pad_index=-100)
        predictions, labels, loss = accelerator.gather_for_metrics((predictions, labels, outputs.loss.repeat(size)))
        losses.append(loss.cpu().numpy())
        scores = metrics(EvalPrediction(predictions, labels), compute_result=accelerator.gradient_state.end_of_dataloader)
    documents = len(loader.dataset)
    scores = {"loss": np.concatenate(losses).mean().item(), **scores}
    return {
        **{f"eval_{key}": value for key, value in scores.items()},
        **speed_metrics("eval", started, num_samples=documents, num_steps=math.ceil(documents / loader.total_batch_size)),
    }


def own_documents(accelerator, size):
    """How many of a batch's documents are this process's own; behind them are copies that make the processes' batches equal."""
    left = accelerator.gradient_state.remainder
    if accelerator.num_processes == 1 or not accelerator.gradient_state.end_of_dataloader or left < 1:
        return size
    return min(size, max(0, left - accelerator.process_index * size))


def note_best(args, state, scores):
    """
    Records a new best score in the state. Returns whether it is one.

    Raises:
        `ValueError`: the evaluation does not give `metric_for_best_model`.
    """
    if args.metric_for_best_model is None:
        return False
    name = args.metric_for_best_model
    name = name if name.startswith("eval_") else f"eval_{name}"
    if name not in scores:
        raise HTCError(
            f"`metric_for_best_model` is {args.metric_for_best_model!r}, which the evaluation does not give; it gives "
            f"{', '.join(key.removeprefix('eval_') for key in scores)}."
        )
    better = state.best_metric is None or (
        scores[name] > state.best_metric if args.greater_is_better else scores[name] < state.best_metric
    )
    if better:
        state.best_metric = scores[name]
        if args.save_strategy != "no":
            state.best_global_step = state.global_step
    return better


def whole_model(accelerator, model, new_model):
    """The model without the wrappers of processes and precision; of sharded weights a whole copy in the process that writes."""
    plain = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    if not is_sharded(accelerator):
        return plain
    weights = accelerator.get_state_dict(model)  # all processes take part
    if not accelerator.is_main_process:
        return plain
    whole = new_model()
    whole.load_state_dict(weights)
    return whole


class Log:
    """
    The log of a run in the Trainer's format: kept in `state.log_history`, shown by the first process of every machine.

    Args:
        accelerator (`Accelerator`), state (`TrainerState`), args ([`HTCTrainingArguments`]): Of the run.
    """

    def __init__(self, accelerator, state, args):
        self.accelerator, self.state = accelerator, state
        self.loss = torch.tensor(0.0, device=accelerator.device)  # stays on the device between two entries
        self.grad_norm = self.learning_rate = None
        self.first_step = self.last_step = state.global_step
        self.total, self.started = 0.0, time.time()
        self.documents = args.per_device_train_batch_size * args.gradient_accumulation_steps * accelerator.num_processes
        self.shows = accelerator.is_local_main_process
        hidden = args.disable_tqdm or not self.shows
        self.bar = None if hidden else tqdm(initial=state.global_step, total=state.max_steps, dynamic_ncols=True)

    def add(self, loss):
        """A batch's share in the loss of its step."""
        self.loss += loss

    def step(self):
        if self.bar is not None:
            self.bar.update()

    def training(self):
        """An entry of the mean loss since the last one, over all processes."""
        steps = self.state.global_step - self.last_step
        if not steps:
            return
        loss = self.accelerator.gather(self.loss).mean().item()
        self.loss.zero_()
        self.total += loss
        self.last_step = self.state.global_step
        grad_norm = self.grad_norm.item() if isinstance(self.grad_norm, torch.Tensor) else self.grad_norm
        self.write({"loss": loss / steps, "grad_norm": grad_norm, "learning_rate": self.learning_rate})

    def write(self, entry):
        entry = {**entry, "epoch": self.state.epoch}
        self.state.log_history.append({**entry, "step": self.state.global_step})
        if self.shows:
            shown = {key: round(value, 6) if isinstance(value, float) else value for key, value in entry.items()}
            if self.bar is None:
                print(shown, flush=True)
            else:
                self.bar.write(str(shown))

    def end(self):
        """The last entry: time, speed and the mean loss of all steps of this call."""
        steps = self.state.global_step - self.first_step
        total = self.total + self.accelerator.gather(self.loss).mean().item()
        speed = speed_metrics("train", self.started, num_samples=steps * self.documents, num_steps=steps)
        self.write({**speed, "train_loss": total / max(steps, 1)})
        if self.bar is not None:
            self.bar.close()
