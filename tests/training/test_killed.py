"""Training that is killed twenty times, each time at another moment, ends as if it had never been stopped, in both loops."""

import os
import signal
import sys

import pytest
from kills import end_of, kill
from loop_runs import equal_weights, make_arguments
from tiny_models import make_model, make_tree
from training_data import make_dataset

from hf_htc.data import tokenize_dataset
from hf_htc.training import build_trainer, train_with_accelerate
from hf_htc.training.loop_checkpoints import last_checkpoint


OPTIONS = {
    "save_strategy": "steps", "save_steps": 2, "eval_strategy": "no", "save_total_limit": 2, "logging_steps": 2,
}  # fmt: skip
# What Python reports before it does something to files.
WRITES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree", "shutil.copyfile"}


def train(loop, folder, dataset, tokenizer, steps, on_forward=None):
    """A run that goes on from what is there; returns the model and the log of losses."""
    model = make_model("flat", make_tree())  # with dropout
    if on_forward is not None:
        model.register_forward_hook(on_forward)
    try:
        resume = last_checkpoint(folder)
    except FileNotFoundError:
        resume = None
    arguments = make_arguments(folder, max_steps=steps, **OPTIONS)
    if loop == "accelerate":
        state = train_with_accelerate(model, arguments, dataset, None, tokenizer, resume_from_checkpoint=resume).state
    else:
        trainer = build_trainer(model, arguments, dataset, tokenizer=tokenizer)
        trainer.train(resume_from_checkpoint=resume)
        state = trainer.state
    return model, [entry["loss"] for entry in state.log_history if "loss" in entry]


def watch(moment, folder, *run):
    """
    A run in a process that kills itself at the `moment`-th forward pass or operation on a file of the run; whether it did.
    Without a moment it ends, and the file `events` beside the folder says how many there were.
    """
    seen = []

    def happens(*_):
        seen.append(1)
        if len(seen) == moment:
            kill()

    def on_event(event, arguments):
        if event in WRITES and any(isinstance(a, (str, os.PathLike)) and str(folder) in str(a) for a in arguments):
            happens()

    def watched():
        sys.addaudithook(on_event)
        train(*run, happens)
        folder.with_name("events").write_text(str(len(seen)))

    code = end_of(watched)
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_twenty_kills_change_nothing(loop, tokenizer, tmp_path, kills=20):
    dataset, steps = tokenize_dataset(make_dataset(45), tokenizer), 2 * kills
    whole, expected = train(loop, tmp_path / "whole", dataset, tokenizer, steps)
    # Two saves, and the steps before them.
    assert not watch(None, tmp_path / "measured", loop, tmp_path / "measured", dataset, tokenizer, 4)
    reach = int((tmp_path / "events").read_text())
    folder, killed, left = tmp_path / "killed", 0, set()
    for number in range(kills):
        # By the golden ratio: no two kills at the same moment.
        killed += watch(3 + int(number * 0.618 * reach) % reach, folder, loop, folder, dataset, tokenizer, steps)
        left.add(tuple(sorted(path.name for path in folder.iterdir())) if folder.exists() else ())
    model, found = train(loop, folder, dataset, tokenizer, steps)
    assert killed == kills and len(left) >= kills // 3
    assert equal_weights(model, whole) and found == expected
    assert last_checkpoint(folder) == str(folder / f"checkpoint-{steps}") and not list(folder.glob(".checkpoint-*"))
