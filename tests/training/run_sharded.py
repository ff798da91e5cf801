"""Run by test_accelerate_loop.py in two processes: trains with weights spread by FSDP2, stops half-way and resumes."""

import json
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from training_data import make_dataset, without_dropout
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import hf_htc  # noqa: F401, registers the methods
from hf_htc.training import HTCTrainingArguments, train_with_accelerate


def force_fsdp2():
    """accelerate offers FSDP2 on GPUs only; torch has it on CPUs too."""
    make_state = AcceleratorState.__init__

    def make(self, *args, **kwargs):
        is_new = AcceleratorState._shared_state == {}
        make_state(self, *args, **kwargs)
        self.distributed_type = DistributedType.FSDP
        if is_new:
            self.fsdp_plugin = FullyShardedDataParallelPlugin(
                fsdp_version=2, auto_wrap_policy="transformer_based_wrap", state_dict_type="SHARDED_STATE_DICT",
                cpu_ram_efficient_loading=False, reshard_after_forward=True,
            )  # fmt: skip

    AcceleratorState.__init__ = make


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    force_fsdp2()
    tokenizer = AutoTokenizer.from_pretrained(folder / "start")
    for resume in (None, str(folder / "out" / "checkpoint-3")):
        model = without_dropout(AutoModelForSequenceClassification.from_pretrained(folder / "start"))
        arguments = HTCTrainingArguments(
            str(folder / "out"), num_train_epochs=2, per_device_train_batch_size=8, learning_rate=1e-3, save_total_limit=None,
            classifier_learning_rate=1e-2, logging_steps=1, disable_tqdm=True, seed=3, use_cpu=True, optim="adamw_torch",
        )  # fmt: skip
        data = (make_dataset(48), make_dataset(19, seed=5), tokenizer)
        result = train_with_accelerate(model, arguments, *data, resume_from_checkpoint=resume)
        if result.is_main_process:
            name = "resumed" if resume else "whole"
            entries = [entry for entry in result.state.log_history if "loss" in entry or "eval_loss" in entry]
            (folder / f"{name}.json").write_text(json.dumps(entries))
            result.model.save_pretrained(folder / name)
