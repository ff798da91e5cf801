"""The accelerate loop's checkpoints and endings: killed, interrupted, NaN, resumed; never half written, the best one kept."""

import os
import signal
from pathlib import Path

import pytest
import torch
from kills import end_of, kill
from loop_runs import SAVING, at_training_forward, equal_weights, losses, make_arguments, run
from tiny_models import make_model, make_tree
from training_data import make_dataset
from transformers import AutoModelForSequenceClassification
from transformers.trainer_callback import TrainerState

from hf_htc.training import InterruptCallback, build_trainer
from hf_htc.training.loop_checkpoints import checkpoint_to_resume, last_checkpoint


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_killed_and_resumed_run_goes_on_bit_for_bit(accumulated, tokenizer, tmp_path):
    options = {**SAVING, "gradient_accumulation_steps": accumulated, "per_device_train_batch_size": 8 // accumulated}
    whole, result = run(tmp_path / "whole", tokenizer, **options)
    folder = tmp_path / "killed"
    # In the second epoch: what it has drawn at its beginning counts, too.
    spoiled = at_training_forward(make_model("hiagm", make_tree()), 7 * accumulated + 1, kill)
    assert end_of(lambda: run(folder, tokenizer, model=spoiled, **options)) == -signal.SIGKILL
    assert Path(last_checkpoint(folder)).name == "checkpoint-6"
    model, resumed = run(folder, tokenizer, loop={"resume_from_checkpoint": True}, **options)
    assert resumed.state.global_step == 8 and len(losses(resumed)) == 8
    assert losses(resumed) == losses(result) and equal_weights(model, whole)


def test_a_checkpoint_cut_off_while_written_is_no_checkpoint(tokenizer, tmp_path, monkeypatch):
    written = []
    save = TrainerState.save_to_json

    def cut_off(self, path):
        written.append(path)
        kill() if len(written) == 2 else save(self, path)

    monkeypatch.setattr(TrainerState, "save_to_json", cut_off)
    assert end_of(lambda: run(tmp_path, tokenizer, **SAVING)) == -signal.SIGKILL
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".checkpoint-4.partial", "checkpoint-2"]
    assert Path(last_checkpoint(tmp_path)).name == "checkpoint-2"
    (tmp_path / ".checkpoint-99.partial").mkdir()
    run(tmp_path, tokenizer, **{**SAVING, "resume_from_checkpoint": "true"})  # the option of the command line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-6", "checkpoint-8"]


def test_a_checkpoint_loads_as_a_model(tokenizer, tmp_path):
    model, _ = run(tmp_path, tokenizer, **{**SAVING, "max_steps": 2})
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint-2")
    assert equal_weights(loaded, model)
    assert (tmp_path / "checkpoint-2" / "tokenizer.json").exists()


@pytest.mark.parametrize("limit", [1, 2])
def test_the_best_checkpoint_is_never_deleted_and_ends_in_the_model(limit, tokenizer, tmp_path):
    # The first evaluation is the best one: the loss of the training documents falls, and here more is better.
    options = {"num_train_epochs": 4, "save_total_limit": limit, "metric_for_best_model": "eval_loss", "greater_is_better": True,
               "classifier_learning_rate": 5e-2}  # fmt: skip
    model, result = run(tmp_path, tokenizer, eval_dataset=make_dataset(), **options)
    scores = [entry["eval_loss"] for entry in result.state.log_history if "eval_loss" in entry]
    assert scores.index(max(scores)) == 0 and result.state.best_metric == scores[0]
    assert Path(result.state.best_model_checkpoint) == tmp_path / "checkpoint-6"
    assert {path.name for path in tmp_path.iterdir()} == ({"checkpoint-6"} if limit == 1 else {"checkpoint-6", "checkpoint-24"})
    assert equal_weights(AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint-6"), model)
    # A resumed run knows the best one, also in a folder that has moved.
    moved = tmp_path.rename(tmp_path.with_name(tmp_path.name + "-moved"))
    if limit == 2:
        _, again = run(moved, tokenizer, loop={"resume_from_checkpoint": True}, eval_dataset=make_dataset(), **options)
        assert Path(again.state.best_model_checkpoint) == moved / "checkpoint-6" and again.state.best_metric == scores[0]


@pytest.mark.parametrize("options", [SAVING, {}], ids=["steps", "epochs"])
def test_ctrl_c_finishes_the_step_and_leaves_a_checkpoint(options, tokenizer, tmp_path):
    data = {} if options else {"eval_dataset": make_dataset(19, seed=5)}
    whole, result = run(tmp_path / "whole", tokenizer, **data, **options)
    before = signal.getsignal(signal.SIGINT)
    model = at_training_forward(make_model("hiagm", make_tree()), 5, lambda _: os.kill(os.getpid(), signal.SIGINT))
    _, stopped = run(tmp_path / "stopped", tokenizer, model=model, **data, **options)
    assert stopped.interrupted and stopped.state.global_step == 5 and not result.interrupted
    assert not any("eval_loss" in entry for entry in stopped.state.log_history)  # whoever presses Ctrl-C wants the end
    assert signal.getsignal(signal.SIGINT) == before
    resumed, again = run(tmp_path / "stopped", tokenizer, loop={"resume_from_checkpoint": True}, **data, **options)
    assert losses(again) == losses(result) and equal_weights(resumed, whole)
    assert again.state.best_metric == result.state.best_metric


def test_a_second_ctrl_c_stops_at_once(tokenizer, tmp_path):
    def twice(_):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tokenizer, model=at_training_forward(make_model("flat", make_tree()), 3, twice), **SAVING)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
    assert signal.getsignal(signal.SIGINT) == before


def test_ctrl_c_in_the_last_evaluation_changes_nothing(tokenizer, tmp_path):
    """All steps are done: the run ends as it would have, with the best weights."""
    model, evaluations = make_model("hiagm", make_tree()), []

    def press(module, inputs, outputs):
        evaluations.append(not module.training)
        if sum(evaluations) == 5:  # 19 documents, 5 at a time: in the second evaluation
            os.kill(os.getpid(), signal.SIGINT)

    model.register_forward_hook(press)
    _, result = run(tmp_path, tokenizer, model=model, eval_dataset=make_dataset(19, seed=5))
    assert sum(evaluations) == 8 and not result.interrupted and result.state.global_step == 12
    assert equal_weights(AutoModelForSequenceClassification.from_pretrained(result.state.best_model_checkpoint), model)


def test_a_launchers_echo_of_ctrl_c_is_no_second_one(monkeypatch):
    """The terminal tells all processes, and torchrun tells its own once more."""
    clock = [100.0]
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr("hf_htc.training.callbacks.time.monotonic", lambda: clock[0])
    callback = InterruptCallback()
    callback._handle(signal.SIGINT, None)
    clock[0] += 0.5
    callback._handle(signal.SIGINT, None)
    assert callback.interrupted
    clock[0] += 1.0
    with pytest.raises(KeyboardInterrupt):
        callback._handle(signal.SIGINT, None)


def test_nan_stops_the_run_before_the_weights_take_harm(tokenizer, tmp_path):
    model = make_model("flat", make_tree())

    def spoil(outputs):
        outputs.loss = outputs.loss / 0.0

    with pytest.raises(FloatingPointError, match="NaN or infinite at step 4"):
        run(tmp_path, tokenizer, model=at_training_forward(model, 4, spoil), **SAVING)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_what_cannot_be_resumed_is_refused(tokenizer, tmp_path):
    trainer = build_trainer(
        make_model("hiagm", make_tree()), make_arguments(tmp_path / "trainer", **SAVING), make_dataset(45), tokenizer=tokenizer
    )
    trainer.train()
    run(tmp_path / "loop", tokenizer, **SAVING)
    with pytest.raises(ValueError, match="'checkpoint-8' was written by `--loop trainer`"):
        run(tmp_path / "trainer", tokenizer, loop={"resume_from_checkpoint": True}, **SAVING)
    with pytest.raises(ValueError, match="'checkpoint-8' was written by `--loop accelerate`"):
        checkpoint_to_resume("true", tmp_path / "loop", "trainer")
    with pytest.raises(ValueError, match="was written with 8 documents per step and process, and this run has 4"):
        options = {**SAVING, "per_device_train_batch_size": 4}
        run(tmp_path / "loop", tokenizer, loop={"resume_from_checkpoint": True}, **options)
    state = tmp_path / "loop" / "checkpoint-8" / "loop_state.json"
    state.write_text(state.read_text().replace('"processes": 1', '"processes": 2'))
    with pytest.raises(ValueError, match="was written with 2 processes, and this run has 1"):
        run(tmp_path / "loop", tokenizer, loop={"resume_from_checkpoint": True}, **SAVING)
    (tmp_path / "loop" / "checkpoint-6" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(OSError, match="The weights in 'checkpoint-6' are missing, damaged"):
        run(tmp_path / "loop", tokenizer, loop={"resume_from_checkpoint": str(tmp_path / "loop" / "checkpoint-6")}, **SAVING)
    with pytest.raises(FileNotFoundError, match="no whole checkpoint"):
        run(tmp_path / "nothing", tokenizer, loop={"resume_from_checkpoint": True}, **SAVING)
    with pytest.raises(FileNotFoundError, match="no whole checkpoint .*nothing"):
        checkpoint_to_resume(str(tmp_path / "nothing"), tmp_path, "accelerate")
    assert checkpoint_to_resume("false", tmp_path, "trainer") is None and checkpoint_to_resume(None, tmp_path, "trainer") is None
