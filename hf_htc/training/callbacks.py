"""Trainer callbacks: stopping as the papers do, stopping by hand, and a word when nothing is learned."""

import os
import signal
import threading
import time

from transformers import TrainerCallback
from transformers.utils import logging

from hf_htc.models.errors import HTCError


logger = logging.get_logger(__name__)


class EitherMetricEarlyStopping(TrainerCallback):
    """
    Stops when none of several scores has improved for `patience` evaluations; an improvement of any starts the count anew,
    as the HTC papers do with micro- and macro-F1.

    Args:
        patience (`int`): Evaluations without an improvement.
        metrics (`tuple[str]`, *optional*, defaults to `("micro_f1", "macro_f1")`): Larger is better.
    """

    def __init__(self, patience, metrics=("micro_f1", "macro_f1")):
        if patience < 1:
            raise HTCError(f"`patience` is {patience}; it is at least 1.")
        self.patience, self.metrics = patience, tuple(metrics)
        self.best, self.waited = {}, 0

    def on_train_begin(self, args, state, control, **kwargs):
        self.best, self.waited = {}, 0
        # A resumed run counts from what it had reached.
        for entry in state.log_history:
            if any(f"eval_{name}" in entry for name in self.metrics):
                self._count(entry)

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        missing = [name for name in self.metrics if f"eval_{name}" not in metrics]
        if missing:
            raise HTCError(
                f"Early stopping watches {missing[0]!r}, which the evaluation does not give; it gives {sorted(metrics)}."
            )
        self._count(metrics)
        if self.waited >= self.patience:
            logger.warning(f"None of {', '.join(self.metrics)} improved in {self.waited} evaluations; training stops.")
            control.should_training_stop = True

    def _count(self, metrics):
        improved = [name for name in self.metrics if metrics.get(f"eval_{name}", 0) > self.best.get(name, float("-inf"))]
        self.waited = 0 if improved else self.waited + 1
        for name in improved:
            self.best[name] = metrics[f"eval_{name}"]


class InterruptCallback(TrainerCallback):
    """Makes the first Ctrl-C finish the step, save a checkpoint to resume from and stop; the second stops at once."""

    def __init__(self):
        self.interrupted = False
        self._first = float("-inf")
        self._previous = None

    def on_train_begin(self, args, state, control, **kwargs):
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)

    def on_train_end(self, args, state, control, **kwargs):
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _handle(self, number, frame):
        # A launcher passes Ctrl-C on to processes that the terminal has already told; within a second it is the same one.
        again = "LOCAL_RANK" in os.environ and time.monotonic() - self._first < 1
        if self.interrupted and not again:
            raise KeyboardInterrupt
        if self.interrupted:
            return
        self.interrupted, self._first = True, time.monotonic()
        logger.warning("Interrupted: finishing this step and saving a checkpoint. Press Ctrl-C again to stop at once.")

    def on_step_end(self, args, state, control, **kwargs):
        if self.interrupted:
            control.should_save = True
            control.should_training_stop = True
            control.should_evaluate = False


class PriorCallback(TrainerCallback):
    """
    Says so when a trained model predicts no more than the label prior: no better micro-F1 on the validation data than always
    predicting the labels that more than half of the training documents have.

    Args:
        prior_micro_f1 (`float`): The micro-F1 of those constant predictions, in [0, 1].
    """

    def __init__(self, prior_micro_f1):
        self.prior_micro_f1 = prior_micro_f1
        self.last = None

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        self.last = metrics.get("eval_micro_f1", self.last)

    def on_train_end(self, args, state, control, **kwargs):
        if self.last is not None and self.last <= self.prior_micro_f1 + 1e-9:
            logger.warning(
                f"The trained model predicts no more than the label prior (micro-F1 {self.last:.4f}; always predicting the "
                f"majority labels gives {self.prior_micro_f1:.4f}). Train longer, or raise `learning_rate` or "
                "`classifier_learning_rate`."
            )
