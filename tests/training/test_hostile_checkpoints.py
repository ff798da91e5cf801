"""Resuming runs nothing that stands in a checkpoint, and a damaged part is one clear error that names it, in both loops."""

import os
import pickle
import shutil

import pytest
import torch
from loop_runs import SAVING, make_arguments
from loop_runs import run as run_loop
from tiny_models import make_model, make_tree
from training_data import make_dataset

from hf_htc.models.errors import HTCError
from hf_htc.training import build_trainer


LOOPS = ["trainer", "accelerate"]
OPTIONS = {**SAVING, "max_steps": 4}
# Read when a run goes on; damage in any of them is an error, and so is their absence.
READ = {
    "trainer": ["trainer_state.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"],
    "accelerate": ["trainer_state.json", "model.safetensors", "optimizer.bin", "loop_state.json", "random_state_0.safetensors"],
}


def train(loop, folder, tokenizer, resume=None):
    if loop == "accelerate":
        run_loop(folder, tokenizer, loop={"resume_from_checkpoint": resume}, **OPTIONS)
    else:
        trainer = build_trainer(
            make_model("hiagm", make_tree()), make_arguments(folder, **OPTIONS), make_dataset(45), tokenizer=tokenizer
        )
        trainer.train(resume_from_checkpoint=resume)


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def planted(folder, marker, form):
    """The bytes of a file that leaves a marker when it is unpickled, in one of the forms in which torch writes."""
    if form == "pickle":
        return pickle.dumps({"state": Bomb(marker), "random_state": Bomb(marker)})
    path = folder / "bomb"
    torch.save({"state": Bomb(marker)}, path, _use_new_zipfile_serialization=form == "zip")
    return path.read_bytes()


@pytest.fixture(scope="module", params=LOOPS)
def written(request, tokenizer, tmp_path_factory):
    """A loop and a run of it, stopped after its second step."""
    folder = tmp_path_factory.mktemp(request.param)
    train(request.param, folder, tokenizer)
    shutil.rmtree(folder / "checkpoint-4")
    return request.param, folder


@pytest.mark.parametrize("form", ["pickle", "zip", "old"])
def test_nothing_that_was_planted_runs(form, written, tokenizer, tmp_path):
    loop, folder = written
    marker = tmp_path / "marker"
    bomb = planted(tmp_path, marker, form)
    pickle.loads(pickle.dumps(Bomb(marker)))
    assert marker.exists()  # the bomb works
    marker.unlink()
    shutil.copytree(folder, tmp_path / "out")
    checkpoint = tmp_path / "out" / "checkpoint-2"
    for name in READ[loop]:
        original = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(bomb)
        with pytest.raises(HTCError) as caught:
            train(loop, tmp_path / "out", tokenizer, str(checkpoint))
        message = str(caught.value)
        assert "checkpoint-2" in message and not marker.exists(), name
        assert name in message or name in ("model.safetensors", "optimizer.pt", "scheduler.pt"), (name, message)
        assert "weights_only" not in message and len(message) < 600  # torch would advise to load it all the same
        (checkpoint / name).write_bytes(original)
    # In every file of the folder at once, and under the names that accelerate and version 0.1.0 unpickled.
    names = [path.name for path in checkpoint.iterdir()]
    others = ["pytorch_model.bin", "adapter_model.bin"]
    others += ["random_states_0.pkl", "custom_checkpoint_0.pkl", "sampler.bin"] if loop == "accelerate" else []
    for name in [*names, *others]:
        if name not in READ[loop]:
            (checkpoint / name).write_bytes(bomb)
    train(loop, tmp_path / "out", tokenizer, str(checkpoint))
    assert not marker.exists() and (tmp_path / "out" / "checkpoint-4").exists()
    for name in names:
        (checkpoint / name).write_bytes(bomb)
    with pytest.raises(HTCError):
        train(loop, tmp_path / "out", tokenizer, str(checkpoint))
    assert not marker.exists()


def test_parts_that_are_damaged_or_missing_are_named(written, tokenizer, tmp_path):
    loop, folder = written
    shutil.copytree(folder, tmp_path / "out")
    checkpoint = tmp_path / "out" / "checkpoint-2"
    for name in READ[loop]:
        original = (checkpoint / name).read_bytes()
        for damaged in (b"", original[: len(original) // 2], None):
            (checkpoint / name).unlink() if damaged is None else (checkpoint / name).write_bytes(damaged)
            with pytest.raises(HTCError, match="checkpoint-2") as caught:
                train(loop, tmp_path / "out", tokenizer, str(checkpoint))
            assert len(str(caught.value)) < 700
        (checkpoint / name).write_bytes(original)
    train(loop, tmp_path / "out", tokenizer, str(checkpoint))


def test_another_models_optimizer_and_random_numbers_of_another_kind_are_refused(written, tokenizer, tmp_path):
    loop, folder = written
    shutil.copytree(folder, tmp_path / "out")
    checkpoint = tmp_path / "out" / "checkpoint-2"
    name = READ[loop][2]
    original = (checkpoint / name).read_bytes()
    torch.save({"state": {}, "param_groups": []}, checkpoint / name)
    with pytest.raises(HTCError, match=r"'checkpoint-2': optimizer\..* is damaged, or of another model"):
        train(loop, tmp_path / "out", tokenizer, str(checkpoint))
    (checkpoint / name).write_bytes(original)
    random = checkpoint / READ[loop][4]
    if loop == "accelerate":
        from safetensors.torch import load_file, save_file

        save_file({**load_file(random), "python": torch.zeros(3, dtype=torch.int64)}, random, {"state": "{}"})
    else:
        torch.save({"python": 3}, random)
    with pytest.raises(HTCError, match=random.name):
        train(loop, tmp_path / "out", tokenizer, str(checkpoint))


def test_checkpoints_of_version_0_1_0_are_not_unpickled(tokenizer, tmp_path):
    train("accelerate", tmp_path, tokenizer)
    checkpoint = tmp_path / "checkpoint-4"
    (checkpoint / "loop_state.json").unlink()
    (checkpoint / "random_states_0.pkl").write_bytes(b"")
    with pytest.raises(HTCError, match="'checkpoint-4' was written by hf_htc 0.1.0, whose state would have to be unpickled"):
        train("accelerate", tmp_path, tokenizer, True)
