"""`HTCTrainer`, a thin `transformers.Trainer`, and `build_trainer`, which sets one up for hierarchical text classification."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput, TrainOutput

from hf_htc.data import HTCDataCollator
from hf_htc.evaluation.streaming import StreamingMetrics, unpack_bits
from hf_htc.models.errors import HTCError
from hf_htc.models.label_sets import labels_csr, row_ids
from hf_htc.training.arguments import HTCTrainingArguments, own_copy
from hf_htc.training.callbacks import InterruptCallback, any_process
from hf_htc.training.documents import prepare_documents
from hf_htc.training.launch import check_launch
from hf_htc.training.loop_checkpoints import (
    STATE_NAME,
    check_finite_weights,
    checkpoint_to_resume,
    delete_partial_checkpoints,
    load_weights,
    nan_error,
    reading,
)
from hf_htc.training.preparation import base_model, check_best_metric, optimizer_factory, prepare_training


if TYPE_CHECKING:
    from hf_htc.annotations import Closure, Documents, Model, Tokenizer


class HTCTrainer(Trainer):
    """
    A [`~transformers.Trainer`] that does what a plain one cannot know; made by [`build_trainer`].

    * `train`, `evaluate` and `predict` tokenise what they are given: a `datasets.Dataset` with `text`, a list of dicts, a stream,
      a `torch.utils.data.Dataset`; `eval_dataset` may be a `dict` of several. Labels may have any form that the models take.
    * Every evaluation begins with metrics that count nothing; any `metric_key_prefix` is fine.
    * `predict` gives `predictions` and `label_ids` as boolean arrays `(S, N)`: row `s`, label `n`. Predicted is what lies above
      the model's thresholds, as in `model.predict` before its closure. `metrics` are those of `evaluate`. For logits, make the
      trainer with `compute_metrics` of your own, or call the model.
    * A loss that is NaN or infinite ends the training in all processes before the weights take harm, and a checkpoint whose
      weights are not finite is never written.
    * SIGINT (Ctrl-C) and SIGTERM finish the step, write a checkpoint and end `train` (see [`InterruptCallback`]);
      `train(resume_from_checkpoint=True)` goes on, on this trainer or another, and ends with the weights of a run that was never
      stopped. Checkpoints that are damaged or half written are refused or passed over.

    `args` are copied: the caller's stay as they are, and later changes are made on `trainer.args`.

    Attributes:
        interrupted (`bool`): Whether the last `train` was ended by a signal.
    """

    def __init__(
        self,
        model: Model | None = None,
        args: TrainingArguments | None = None,
        data_collator: Any = None,
        *more: Any,
        **kwargs: Any,
    ) -> None:
        args = own_copy(HTCTrainingArguments() if args is None else args)
        # A loss that is no number ends the training here; hiding it from the log would cost a look at every loss.
        args.logging_nan_inf_filter = False
        self._not_finite: bool | torch.Tensor = False
        self._saved_step: int | None = None
        tokenizer = kwargs.get("processing_class")
        if data_collator is None and tokenizer is not None:
            data_collator = HTCDataCollator(tokenizer)
        super().__init__(model, args, data_collator, *more, **kwargs)

    # ------------------------------------------------------------------ what it is given

    def _prepared(self, documents, name, several=False):
        return prepare_documents(documents, name, self.processing_class, base_model(self.model).config, several)

    def get_train_dataloader(self) -> DataLoader:
        self.train_dataset = self._prepared(self.train_dataset, "train_dataset")
        return super().get_train_dataloader()

    def get_eval_dataloader(self, eval_dataset: str | Documents | None = None) -> DataLoader:
        if eval_dataset is None or isinstance(eval_dataset, str):
            self.eval_dataset = self._prepared(self.eval_dataset, "eval_dataset", several=True)
            return super().get_eval_dataloader(eval_dataset)
        # Not as one of the trainer's own: with persistent workers those are kept, whatever data is asked for.
        return super().get_test_dataloader(self._prepared(eval_dataset, "eval_dataset"))

    def get_test_dataloader(self, test_dataset: Documents) -> DataLoader:
        return super().get_test_dataloader(self._prepared(test_dataset, "test_dataset"))

    # ------------------------------------------------------------------ evaluation

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        if isinstance(self.compute_metrics, StreamingMetrics):
            self.compute_metrics.reset()
        return super().evaluation_loop(*args, **kwargs)

    def predict(
        self, test_dataset: Documents, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        output = super().predict(test_dataset, ignore_keys=ignore_keys, metric_key_prefix=metric_key_prefix)  # type: ignore[arg-type]
        metrics = self.compute_metrics
        if not isinstance(metrics, StreamingMetrics) or self.preprocess_logits_for_metrics != metrics.preprocess:
            return output
        predictions: Any = output.predictions
        labels: Any = output.label_ids
        num_labels = metrics.hierarchy.num_labels
        if predictions is not None:
            predictions = _table(*unpack_bits(predictions, num_labels), num_labels)
        if labels is not None:
            labels = _table(*labels_csr(labels, metrics.hierarchy), num_labels)
        return PredictionOutput(predictions, labels, output.metrics)

    def _determine_best_metric(self, metrics, trial):
        self._settle_best_metric(metrics)
        return super()._determine_best_metric(metrics, trial)

    def _settle_best_metric(self, metrics):
        """Where `metric_for_best_model` was left open, takes what the evaluations give: one of the first set's, or the loss."""
        name, left_open = self.args.metric_for_best_model, getattr(self.args, "left_open", ())
        if name is None or (name if name.startswith("eval_") else f"eval_{name}") in metrics:
            return
        sets = list(self.eval_dataset) if isinstance(self.eval_dataset, dict) else []
        others = [*(f"{key}_{name}" for key in sets), *(f"{key}_loss" for key in sets), "loss"]
        found = next((other for other in others if f"eval_{other}" in metrics), None)
        if "metric_for_best_model" not in left_open or found is None:
            raise HTCError(
                f"`metric_for_best_model` is {name!r}, which the evaluation does not give; it gives "
                f"{', '.join(sorted(key.removeprefix('eval_') for key in metrics if key.startswith('eval_')))}.",
                field="metric_for_best_model",
                value=name,
            )
        self.args.metric_for_best_model = found
        if "greater_is_better" in left_open:
            self.args.greater_is_better = not found.endswith("loss")

    # ------------------------------------------------------------------ training, stopping, resuming

    @property
    def interrupt_callback(self) -> InterruptCallback | None:
        """The [`InterruptCallback`] among the callbacks; `None` when it was removed."""
        return next((c for c in self.callback_handler.callbacks if isinstance(c, InterruptCallback)), None)

    @property
    def interrupted(self) -> bool:
        callback = self.interrupt_callback
        return callback is not None and callback.stopped

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, ignore_keys_for_eval: list[str] | None = None
    ) -> TrainOutput:
        """
        As [`~transformers.Trainer.train`].

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*): A checkpoint folder, or `True` for the last whole one in
                `args.output_dir`.

        Raises:
            `FileNotFoundError`: no whole checkpoint there. `ValueError`: one of the accelerate loop, or damaged.
            `FloatingPointError`: a loss that is NaN or infinite; the checkpoints before it stay.
        """
        folder = checkpoint_to_resume(resume_from_checkpoint, self.args.output_dir, "trainer")
        self._not_finite, self._saved_step = False, None
        if self.is_world_process_zero():
            delete_partial_checkpoints(self.args.output_dir)
        callback = self.interrupt_callback
        try:
            with callback.listening() if callback is not None else nullcontext():
                return super().train(folder, trial, ignore_keys_for_eval)
        finally:
            self.is_in_train = False

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self._not_finite = ~torch.isfinite(loss).all() | self._not_finite
        if self.accelerator.sync_gradients:  # the optimizer steps next: here alone host and processes wait for each other
            callback = self.interrupt_callback
            interrupted = callback is not None and callback.interrupted
            not_finite, stop = any_process([self._not_finite, interrupted], loss.device)
            self._not_finite = False
            if not_finite:
                raise nan_error(self.state.global_step + 1, self.lr_scheduler.get_last_lr())  # type: ignore[union-attr]
            if callback is not None:
                callback.agreed = stop
        return loss

    def _maybe_log_save_evaluate(self, tr_loss, grad_norm, model, trial, *args, **kwargs):
        # Who was told to stop may be killed during an evaluation: the checkpoint comes first.
        if self.interrupted and self.control.should_evaluate and self._saved_step != self.state.global_step:
            self._save_checkpoint(model, trial)
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, model, trial, *args, **kwargs)

    def _save_checkpoint(self, model, trial):
        check_finite_weights(self.model, self.state.global_step, self.args.device)
        state = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}" / STATE_NAME
        if self.args.should_save:
            state.unlink(missing_ok=True)  # written last, it says that a checkpoint is whole; here may be one of an earlier run
        super()._save_checkpoint(model, trial)
        self._saved_step = self.state.global_step

    def _finalize_training(self, *args, **kwargs):
        if not self.interrupted:
            return super()._finalize_training(*args, **kwargs)
        # The best weights are for the end, and `save_total_limit=1` would delete the checkpoint to go on from.
        best, self.state.best_model_checkpoint = self.state.best_model_checkpoint, None
        try:
            return super()._finalize_training(*args, **kwargs)
        finally:
            self.state.best_model_checkpoint = best

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        plain = not (self.is_fsdp_enabled or self.is_deepspeed_enabled or hasattr(self.model, "peft_config"))
        with reading(resume_from_checkpoint, "its weights file"):
            if plain and (Path(resume_from_checkpoint) / "model.safetensors").is_file():
                load_weights(self.model, resume_from_checkpoint)  # the Trainer would go on with what is missing left at random
            else:
                super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint):
        with reading(checkpoint, "optimizer.pt or scheduler.pt"):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_scaler(self, checkpoint):
        with reading(checkpoint, "scaler.pt"):
            super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint):
        with reading(checkpoint, "rng_state.pth"):
            super()._load_rng_state(checkpoint)


def _table(indptr, labels, num_labels):
    """`(S, N)` bool of a CSR pair."""
    table = np.zeros((len(indptr) - 1, num_labels), dtype=bool)
    table[row_ids(indptr), labels] = True
    return table


def build_trainer(
    model: Model,
    args: TrainingArguments | None = None,
    train_dataset: Documents | None = None,
    eval_dataset: Documents | dict[str, Documents] | None = None,
    tokenizer: Tokenizer | None = None,
    callbacks: Sequence[TrainerCallback] | None = None,
    closure: Closure | None = None,
    max_length: int | None = None,
    **trainer_kwargs: Any,
) -> HTCTrainer:
    """
    An [`HTCTrainer`] with the collator, the streaming metrics, the two learning rates and the callbacks set.

    The first time a model is trained, its label statistics are taken from `train_dataset`: the classifier starts at the label
    frequencies, HiAGM's edges at the prior probabilities. A model that was trained before keeps its weights; its config records
    the new counts and closure, with a warning when they differ much.

    Args:
        model ([`HTCPreTrainedModel`] or a PEFT model around one): The model.
        args ([`HTCTrainingArguments`] or `TrainingArguments`, *optional*): Settings; copied, so that one object serves several
            trainers. Learning rates left at `None` become the method's recommendation, in `trainer.args`.
        train_dataset, eval_dataset (*optional*): A `datasets.Dataset` or `IterableDataset`, a list of dicts or a
            `torch.utils.data.Dataset`, with `text` (or tokenised) and `labels`: ids, names, or multi-hot rows of floats or
            booleans. `eval_dataset` may be a `dict` of several. Streams are tokenised while they are read; their labels are not
            measured.
        tokenizer (`PreTrainedTokenizer`): Tokenises texts and pads batches.
        callbacks (`list[TrainerCallback]`, *optional*): Added to ours.
        closure (`str`, *optional*): Closure of the metrics; defaults to what fits the training labels.
        max_length (`int`, *optional*): Tokens a text is cut at; lowers `model.config.max_text_length`, its default.
        trainer_kwargs: Passed to the Trainer. With `compute_metrics` of your own, it gets what a plain Trainer gives it: logits
            and labels of all documents.

    Returns:
        [`HTCTrainer`]

    Raises:
        `ValueError`: no tokenizer, labels that are none of the model's, a launch that asked for several processes and gave one
        (see [`check_launch`]). `TypeError`: a `DatasetDict` where one split is needed.

    Example:

    ```python
    dataset, hierarchy = load_htc_dataset("python_docs")
    trainer = build_trainer(model, HTCTrainingArguments("out"), dataset["train"], dataset["validation"], tokenizer)
    trainer.train()
    ```
    """
    args = HTCTrainingArguments() if args is None else args
    check_launch()
    prepared = prepare_training(model, args, train_dataset, eval_dataset, tokenizer, closure, max_length)
    args, own = prepared.args, trainer_kwargs.get("compute_metrics")
    if own is not None and "compute_result" not in inspect.signature(own).parameters:
        args.batch_eval_metrics = False
    elif own is None:
        trainer_kwargs["compute_metrics"] = prepared.metrics
        if trainer_kwargs.get("preprocess_logits_for_metrics") is None:
            trainer_kwargs["preprocess_logits_for_metrics"] = prepared.metrics.preprocess
        if not isinstance(prepared.eval_dataset, dict):  # several sets have names of their own in front
            check_best_metric(args, prepared.metrics.hierarchy)
    if "optimizers" not in trainer_kwargs and getattr(args, "classifier_learning_rate", None) is not None:
        trainer_kwargs.setdefault("optimizer_cls_and_kwargs", optimizer_factory(args, model))
    return HTCTrainer(
        model=model,
        args=args,
        train_dataset=prepared.train_dataset,
        eval_dataset=prepared.eval_dataset,
        data_collator=trainer_kwargs.pop("data_collator", None) or HTCDataCollator(tokenizer),  # type: ignore[arg-type]  # checked above
        processing_class=tokenizer,
        callbacks=[InterruptCallback(), *prepared.prior_callback(), *(callbacks or [])],
        **trainer_kwargs,
    )
