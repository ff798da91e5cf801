"""Runs of the accelerate loop on a tiny model, and what is compared about them; shared by the tests of the loop."""

import torch
from tiny_models import make_model, make_tree
from training_data import make_dataset

from hf_htc.training import HTCTrainingArguments, train_with_accelerate


def make_arguments(folder, **options):
    options = {
        "num_train_epochs": 2, "per_device_train_batch_size": 8, "per_device_eval_batch_size": 5, "learning_rate": 1e-3,
        "classifier_learning_rate": 1e-2, "logging_steps": 1, "disable_tqdm": True, "warmup_steps": 0.2, "weight_decay": 0.1,
        "seed": 3, **options,
    }  # fmt: skip
    return HTCTrainingArguments(str(folder), **options)


SAVING = {"max_steps": 8, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "no", "load_best_model_at_end": False}
QUIET = {"save_strategy": "no", "eval_strategy": "no", "load_best_model_at_end": False}


def run(folder, tokenizer, method="hiagm", model=None, eval_dataset=None, train_dataset=None, loop=None, **options):
    """A run with dropout on 45 documents, 6 batches of which the last is incomplete."""
    model = model or make_model(method, make_tree())
    arguments = make_arguments(folder, **options)
    result = train_with_accelerate(model, arguments, train_dataset or make_dataset(45), eval_dataset, tokenizer, **(loop or {}))
    return model, result


def history(state, *left_out):
    """The log without what is measured on a clock."""
    clock = ("runtime", "_per_second", "total_flos", *left_out)
    return [{key: value for key, value in entry.items() if not key.endswith(clock)} for entry in state.log_history]


def losses(result):
    return [entry["loss"] for entry in result.state.log_history if "loss" in entry]


def equal_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))


def at_training_forward(model, call, action):
    """Does something in the given forward pass of training."""
    calls = []

    def hook(module, inputs, outputs):
        calls.append(module.training)
        if module.training and sum(calls) == call:
            action(outputs)

    model.register_forward_hook(hook)
    return model
