"""Run by test_trainer.py, in one process and in two: trains three steps and evaluates; in two, is interrupted, goes on, and has a
NaN in one of them. Writes what it saw as JSON."""

import json
import os
import signal
import sys
import time

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from training_data import make_dataset, without_dropout
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

import hf_htc  # noqa: F401, registers the methods
from hf_htc.data import HTCDataCollator
from hf_htc.training import HTCTrainingArguments, build_trainer
from hf_htc.training.launch import leave_group


class Recording(HTCDataCollator):
    """Keeps the widths of the label rows this process was given."""

    def __call__(self, features):
        batch = super().__call__(features)
        widths.append(batch["labels"].shape[1])
        return batch


def train(folder, output, processes):
    model = without_dropout(AutoModelForSequenceClassification.from_pretrained(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    arguments = HTCTrainingArguments(
        output + ".out", max_steps=3, per_device_train_batch_size=16 // processes, per_device_eval_batch_size=3,
        learning_rate=1e-3, classifier_learning_rate=1e-2, logging_steps=1, disable_tqdm=True, save_strategy="no",
        eval_strategy="no", load_best_model_at_end=False, use_cpu=True, warmup_steps=0, optim="sgd", seed=3,
    )  # fmt: skip
    trainer = build_trainer(
        model, arguments, make_dataset(48), make_dataset(19, seed=5), tokenizer, data_collator=Recording(tokenizer)
    )
    trainer.train()
    widths.clear()
    metrics = trainer.evaluate()
    return trainer.is_world_process_zero(), {
        "world_size": trainer.accelerator.num_processes,
        "losses": [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry],
        "weights": [float(parameter.detach().double().square().sum()) for parameter in model.parameters()],
        "metrics": metrics,
        "widths": list(widths),
    }


class At(TrainerCallback):
    """Sends this process a signal at a moment of a step: before it, or when the other callbacks have seen its end."""

    def __init__(self, begins=(), ends=(), number=signal.SIGTERM):
        self.begins, self.ends, self.number = begins, ends, number

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step + 1 in self.begins:
            os.kill(os.getpid(), self.number)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in self.ends:
            os.kill(os.getpid(), self.number)


def stop_and_resume(folder, output):
    """What each process saw of its stops; the processes get their signals on either side of a step's end, or one alone does."""
    first, last = PartialState().process_index == 0, PartialState().process_index == 1
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def run(name, callback=None, resume=None, spoil=False):
        model = AutoModelForSequenceClassification.from_pretrained(folder)  # with dropout
        tokenizer = AutoTokenizer.from_pretrained(folder)
        arguments = HTCTrainingArguments(
            f"{output}.{name}", max_steps=5, per_device_train_batch_size=4, learning_rate=1e-3, classifier_learning_rate=1e-2,
            logging_steps=1, disable_tqdm=True, eval_strategy="no", save_steps=10, use_cpu=True, warmup_steps=0, seed=3,
        )  # fmt: skip
        trainer = build_trainer(
            model, arguments, make_dataset(48), tokenizer=tokenizer, callbacks=[callback] if callback is not None else None
        )
        if spoil and last:
            steps = []

            def hook(module, inputs, outputs):
                steps.append(1)
                if len(steps) == 3:
                    outputs.loss = outputs.loss * float("nan")

            model.register_forward_hook(hook)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    seen, whole = {}, run("whole")
    moments = {
        "one alone, before a step": At(begins=(3,)) if last else None,
        "one alone, behind a step": At(ends=(2,)) if first else None,
        "on either side of a step's end": At(begins=(3,)) if first else At(ends=(3,)),
        "one, and the other a step later": At(begins=(2,)) if first else At(begins=(3,)),
        "Ctrl-C": At(begins=(3,), number=signal.SIGINT),
    }
    for number, (name, callback) in enumerate(moments.items()):
        started = time.monotonic()
        stopped = run(number, callback)
        seconds = time.monotonic() - started
        resumed = run(number, resume=True)
        pairs = zip(resumed.model.parameters(), whole.model.parameters())
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        seen[name] = {
            "at": stopped.state.global_step, "interrupted": stopped.interrupted, "seconds": seconds,
            "given_back": handlers == before,
            "resumed": resumed.state.global_step, "same_weights": all(torch.equal(a, b) for a, b in pairs),
        }  # fmt: skip
    try:
        run("nan", spoil=True)
    except FloatingPointError as error:
        seen["nan"] = str(error)
    return gather_object([seen])


if __name__ == "__main__":
    output, processes, methods = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
    widths = []
    torch.set_num_threads(1)
    results = {}
    for method in methods:
        is_first, results[method] = train(os.path.join(os.path.dirname(output), method), output, processes)
    if processes == 2:
        results["stops"] = stop_and_resume(os.path.join(os.path.dirname(output), "hiagm"), output)
    if is_first:
        with open(output, "w") as stream:
            json.dump(results, stream)
    leave_group()
