"""Run in two processes, with weights spread by FSDP2: for test_accelerate_loop.py the loop, which is stopped and goes on; for
test_sharded_trainer.py (`run_sharded.py FOLDER MODEL ...`) the Trainer, with every start model that is named."""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from tiny_models import make_batch
from training_data import make_dataset, without_dropout
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import hf_htc  # noqa: F401, registers the methods
from hf_htc.training import HTCTrainingArguments, build_trainer, train_with_accelerate
from hf_htc.training.launch import leave_group


# What `accelerate launch --config_file examples/accelerate/fsdp2.yaml` sets.
LAUNCHED = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}  # fmt: skip


def allow_fsdp2_on_cpus():
    """accelerate takes up FSDP2 on GPUs only; torch has it on CPUs too."""
    make_state = AcceleratorState.__init__

    def make(self, *args, **kwargs):
        is_new = AcceleratorState._shared_state == {}
        make_state(self, *args, **kwargs)
        self.distributed_type = DistributedType.FSDP
        if is_new:
            self.fsdp_plugin = kwargs["fsdp_plugin"]

    AcceleratorState.__init__ = make


def make_arguments(folder, **options):
    return HTCTrainingArguments(
        str(folder), num_train_epochs=2, per_device_train_batch_size=8, learning_rate=1e-3, save_total_limit=None,
        classifier_learning_rate=1e-2, logging_steps=1, disable_tqdm=True, seed=3, use_cpu=True, optim="adamw_torch", **options,
    )  # fmt: skip


def entries(state):
    return [entry for entry in state.log_history if "loss" in entry or "eval_loss" in entry]


def run_loop(folder, tokenizer):
    data = (make_dataset(48), make_dataset(19, seed=5), tokenizer)
    for resume in (None, str(folder / "out" / "checkpoint-3")):
        model = without_dropout(AutoModelForSequenceClassification.from_pretrained(folder / "start"))
        result = train_with_accelerate(model, make_arguments(folder / "out"), *data, resume_from_checkpoint=resume)
        if result.is_main_process:
            name = "resumed" if resume else "whole"
            (folder / f"{name}.json").write_text(json.dumps(entries(result.state)))
            result.model.save_pretrained(folder / name)


def run_trainer(folder, tokenizer):
    # As many documents in every batch: the Trainer's evaluation loss is then their mean.
    data = (make_dataset(48), make_dataset(20, seed=5), tokenizer)
    seen = {}
    for resume in (None, str(folder / "out" / "checkpoint-3")):
        model = without_dropout(AutoModelForSequenceClassification.from_pretrained(folder / "start"))
        trainer = build_trainer(model, make_arguments(folder / "out", fsdp=True, per_device_eval_batch_size=5), *data)
        trainer.train(resume_from_checkpoint=resume)
        name = "resumed" if resume else "whole"
        trainer.save_model(str(folder / name))
        with torch.no_grad():
            logits = trainer.model.eval()(**make_batch()).logits
        seen[name] = {"log": entries(trainer.state), "logits": logits.tolist(), "scores": trainer.evaluate()}
    try:
        trainer.model.save_pretrained(folder / "part")
    except ValueError as error:
        seen["refused"] = str(error)
    seen["spread"] = sorted({type(module).__name__ for module in model.modules() if hasattr(module, "unshard")})
    if trainer.is_world_process_zero():
        (folder / "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    root, names = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    allow_fsdp2_on_cpus()
    tokenizer = AutoTokenizer.from_pretrained((root / names[0] if names else root) / "start")
    if not names:
        os.environ.update(LAUNCHED)
        run_loop(root, tokenizer)
    for name in names:
        run_trainer(root / name, tokenizer)
    leave_group()
