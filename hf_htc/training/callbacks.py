"""Trainer callbacks: stopping as the papers do, stopping by hand, and a word when nothing is learned."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError, check_number


if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


logger = get_logger(__name__)


class EitherMetricEarlyStopping(TrainerCallback):
    """
    Stops when none of several scores has improved for `patience` evaluations; an improvement of any starts the count anew,
    as the HTC papers do with micro- and macro-F1.

    Only evaluations of the validation data count: those of another `metric_key_prefix`, and of other sets where several are
    evaluated, are passed over. Of several sets, name the scores with their set: `metrics=("news_micro_f1", "news_macro_f1")`.

    Args:
        patience (`int`): Evaluations without an improvement, at least 1.
        metrics (`tuple[str]`, *optional*, defaults to `("micro_f1", "macro_f1")`): Larger is better.
    """

    def __init__(self, patience: int, metrics: Sequence[str] = ("micro_f1", "macro_f1")) -> None:
        check_number("patience", patience, "[1, inf)", whole=True)
        self.patience, self.metrics = patience, tuple(metrics)
        self.best: dict[str, float] = {}
        self.waited, self.others = 0, set[str]()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.best, self.waited, self.others = {}, 0, set()
        # A resumed run counts from what it had reached.
        for entry in state.log_history:
            if any(f"eval_{name}" in entry for name in self.metrics):
                self._count(entry)

    def on_evaluate(  # type: ignore[override]  # transformers declares them in `kwargs`
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **kwargs: Any,
    ) -> None:
        missing = [name for name in self.metrics if f"eval_{name}" not in metrics]
        if missing and len(missing) == len(self.metrics) and not {"eval_loss", "eval_runtime"} & set(metrics):
            self.others |= {key for key in metrics if key.startswith("eval_") and key.endswith(self.metrics)}
            return
        if missing:
            raise HTCError(
                f"Early stopping watches {missing[0]!r}, which the evaluation does not give; it gives {sorted(metrics)}."
            )
        self._count(metrics)
        if self.waited >= self.patience:
            logger.warning(f"None of {', '.join(self.metrics)} improved in {self.waited} evaluations; training stops.")
            control.should_training_stop = True

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.others and not self.best:
            logger.warning(
                f"Early stopping has never seen {' or '.join(self.metrics)}; the evaluations gave "
                f"{', '.join(sorted(self.others)[:6])}. Name the scores with their set, e.g. "
                f"`metrics=({min(self.others).removeprefix('eval_')!r},)`."
            )

    def _count(self, metrics):
        improved = [name for name in self.metrics if metrics.get(f"eval_{name}", 0) > self.best.get(name, float("-inf"))]
        self.waited = 0 if improved else self.waited + 1
        for name in improved:
            self.best[name] = metrics[f"eval_{name}"]


class InterruptCallback(TrainerCallback):
    """
    Makes the first Ctrl-C (SIGINT) or SIGTERM finish the step, save a checkpoint to resume from and stop; a second Ctrl-C stops
    at once. Several processes stop after the same step, whichever of them got the signal.

    An evaluation that is due at that very step is still made, behind the checkpoint: a resumed run then equals one that was never
    stopped.

    [`HTCTrainer`] and the accelerate loop keep it inside [`~InterruptCallback.listening`], so that the signal handlers that were
    there before come back in every case. A plain Trainer with this callback gives them back when the training ends; when it may
    end in an error, write `with callback.listening(): trainer.train()`. A SIGTERM handler of your own stays in place.

    Attributes:
        interrupted (`bool`): Whether this process got a signal in the last training.
        signal (`int`, *optional*): Which one.
        stopped (`bool`): Whether the last training was ended by it.
        agreed (`bool`, *optional*): Whether any process was interrupted, where the training loop itself has asked them all at
            this step; `None`: the callback asks them.
    """

    def __init__(self) -> None:
        self.interrupted, self.signal, self.stopped, self.agreed = False, None, False, None
        self._first = float("-inf")
        self._previous: dict[int, Any] = {}
        self._held = False

    @contextmanager
    def listening(self) -> Iterator[InterruptCallback]:
        """Listens for the signals, from no signal seen; gives the handlers of before back when the block is left."""
        self._listen()
        self._held = True
        try:
            yield self
        finally:
            self._held = False
            self._give_back()

    def _listen(self):
        self.interrupted, self.signal, self.stopped, self.agreed = False, None, False, None
        if threading.current_thread() is not threading.main_thread():
            return
        self._previous = {signal.SIGINT: signal.signal(signal.SIGINT, self._handle)}
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            self._previous[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._handle)

    def _give_back(self):
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not self._held:
            self._give_back()  # of a training that ended in an error
            self._listen()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not self._held:
            self._give_back()

    def _handle(self, number, frame):
        # A launcher passes Ctrl-C on to processes that the terminal has already told; within a second it is the same one.
        again = "LOCAL_RANK" in os.environ and time.monotonic() - self._first < 1
        if self.interrupted:
            if number == signal.SIGINT and not again:
                raise KeyboardInterrupt
            return
        self.interrupted, self.signal, self._first = True, number, time.monotonic()
        logger.warning("Interrupted: finishing this step and saving a checkpoint. Press Ctrl-C again to stop at once.")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        (stop,) = any_process([self.interrupted], args.device) if self.agreed is None else [self.agreed]
        if stop:
            control.should_save = True
            if state.global_step < state.max_steps:  # after the last step a run ends as it would have
                self.stopped = control.should_training_stop = True

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.stopped and state.epoch != int(state.epoch):  # the Trainer also comes here from the middle of an epoch
            control.should_log = control.should_evaluate = control.should_save = False


def any_process(flags, device):
    """
    Whether flags are set in any of the processes that train together; they must stop together.

    Args:
        flags (`list`): `bool`s or tensors of one value.
        device (`torch.device`): Of this process's work.

    Returns:
        `list[bool]`: the same in every process.
    """
    is_group = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not is_group and not any(isinstance(flag, torch.Tensor) for flag in flags):
        return [bool(flag) for flag in flags]
    flags = torch.stack([torch.as_tensor(flag, dtype=torch.float32, device=device).reshape(()) for flag in flags])
    if is_group:
        torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return [flag > 0 for flag in flags.tolist()]


class PriorCallback(TrainerCallback):
    """
    Says so when a trained model predicts no more than the label prior: no better micro-F1 on the validation data than always
    predicting the labels that more than half of the training documents have.

    Args:
        prior_micro_f1 (`float`): The micro-F1 of those constant predictions, in [0, 1].
    """

    def __init__(self, prior_micro_f1: float) -> None:
        self.prior_micro_f1 = prior_micro_f1
        self.last: float | None = None

    def on_evaluate(  # type: ignore[override]  # transformers declares them in `kwargs`
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **kwargs: Any,
    ) -> None:
        self.last = metrics.get("eval_micro_f1", self.last)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.last is not None and self.last <= self.prior_micro_f1 + 1e-9:
            logger.warning(
                f"The trained model predicts no more than the label prior (micro-F1 {self.last:.4f}; always predicting the "
                f"majority labels gives {self.prior_micro_f1:.4f}). Train longer, or raise `learning_rate` or "
                "`classifier_learning_rate`."
            )
