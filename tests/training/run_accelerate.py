"""Run by test_accelerate_loop.py in one process and in two: trains, evaluates, stops and resumes; writes what it saw as JSON."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from training_data import make_dataset, without_dropout
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import hf_htc  # noqa: F401, registers the methods
from hf_htc.data import HTCDataCollator
from hf_htc.training import HTCTrainingArguments, train_with_accelerate
from hf_htc.training.launch import leave_group
from hf_htc.training.loop_checkpoints import last_checkpoint


class Recording(HTCDataCollator):
    """Keeps the widths of the label rows this process was given."""

    def __call__(self, features):
        batch = super().__call__(features)
        widths.append(batch["labels"].shape[1])
        return batch


def arguments(folder, processes, **options):
    options = {
        "per_device_train_batch_size": 16 // processes, "per_device_eval_batch_size": 3, "learning_rate": 1e-3,
        "classifier_learning_rate": 1e-2, "logging_steps": 1, "disable_tqdm": True, "save_strategy": "no", "eval_strategy": "no",
        "load_best_model_at_end": False, "use_cpu": True, "warmup_steps": 2, "optim": "sgd", "seed": 3, **options,
    }  # fmt: skip
    return HTCTrainingArguments(str(folder), **options)


def losses(result):
    return [entry["loss"] for entry in result.state.log_history if "loss" in entry]


def squares(model):
    return [float(parameter.detach().double().square().sum()) for parameter in model.parameters()]


def train(folder, tokenizer, output, processes, method):
    """Three steps and an evaluation of 19 documents, without dropout; then one of 2, fewer than the processes take at once."""
    model = without_dropout(AutoModelForSequenceClassification.from_pretrained(folder / method))
    options = {"max_steps": 3, "eval_strategy": "steps", "eval_steps": 3}
    result = train_with_accelerate(
        model, arguments(output, processes, **options), make_dataset(48), make_dataset(19, seed=5), tokenizer,
        data_collator=Recording(tokenizer),
    )  # fmt: skip
    few = train_with_accelerate(
        without_dropout(AutoModelForSequenceClassification.from_pretrained(folder / method)),
        arguments(output, processes, **options), make_dataset(48), make_dataset(2, seed=6), tokenizer,
    )  # fmt: skip
    entries = [next(e for e in r.state.log_history if "eval_loss" in e) for r in (result, few)]
    return {
        "world_size": result.num_processes,
        "losses": losses(result),
        "weights": squares(model),
        "metrics": entries[0],
        "metrics_of_few": entries[1],
        "widths": list(widths),
    }


def stop_and_resume(folder, tokenizer, output, processes):
    """Runs with dropout: a whole one; one that gets Ctrl-C in its last process only, and resumes; one with a NaN there."""
    options = {
        "max_steps": 5,
        "save_strategy": "steps",
        "save_steps": 2,
        "gradient_accumulation_steps": 2,
        "optim": "adamw_torch",
    }
    last = PartialState().process_index == processes - 1

    def run(name, hook=None, resume=None):
        model = AutoModelForSequenceClassification.from_pretrained(folder / "hiagm")
        calls = []

        def on_forward(module, inputs, outputs):
            calls.append(1)
            if hook is not None and last and module.training:
                hook(len(calls), outputs)

        model.register_forward_hook(on_forward)
        settings = arguments(output / name, 2 * processes, **options)
        result = train_with_accelerate(model, settings, make_dataset(), None, tokenizer, resume_from_checkpoint=resume)
        return model, result

    def interrupt(call, outputs):
        if call == 6:  # the second half of the third step
            os.kill(os.getpid(), signal.SIGINT)

    def spoil(call, outputs):
        if call == 6:
            outputs.loss = outputs.loss * float("nan")

    whole, whole_result = run("whole")
    stopped = run("stopped", interrupt)[1]
    seen = {
        "interrupted": stopped.interrupted,
        "stopped_at": stopped.state.global_step,
        "checkpoint": Path(last_checkpoint(output / "stopped")).name,
    }
    resumed, resumed_result = run("stopped", resume=True)
    seen["same_losses"] = losses(resumed_result) == losses(whole_result)
    seen["same_weights"] = all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))
    seen["random_states"] = len(list((output / "stopped" / "checkpoint-5").glob("random_state_*.safetensors")))
    try:
        run("spoiled", spoil)
    except FloatingPointError as error:
        seen["nan"] = str(error)
    return seen


if __name__ == "__main__":
    file, processes, methods = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(",")
    widths = []
    torch.set_num_threads(1)
    folder, output = file.parent, file.with_suffix("")
    tokenizer = AutoTokenizer.from_pretrained(folder / methods[0])
    seen = {}
    for method in methods:
        widths.clear()
        seen[method] = train(folder, tokenizer, output, processes, method)
    seen["stopping"] = stop_and_resume(folder, tokenizer, output, processes)
    index = PartialState().process_index
    file.with_suffix(f".{index}.json").write_text(json.dumps(seen))
    leave_group()
    if index == 0:
        shutil.rmtree(output, ignore_errors=True)
