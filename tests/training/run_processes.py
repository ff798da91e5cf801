"""Run by test_trainer.py, in one process and in two: trains three steps and evaluates, writes what it saw as JSON."""

import json
import os
import sys

import torch
from training_data import make_dataset, without_dropout
from transformers import AutoModelForSequenceClassification, AutoTokenizer

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


if __name__ == "__main__":
    output, processes, methods = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
    widths = []
    torch.set_num_threads(1)
    results = {}
    for method in methods:
        is_first, results[method] = train(os.path.join(os.path.dirname(output), method), output, processes)
    if is_first:
        with open(output, "w") as stream:
            json.dump(results, stream)
    leave_group()
