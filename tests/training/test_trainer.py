"""`build_trainer`: a plain Trainer that scales its loss rightly, evaluates, resumes, stops and warns."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import DatasetDict
from kills import end_of, kill
from tiny_models import VARIANTS, make_dag, make_model, make_tree
from training_data import make_dataset, without_dropout
from transformers import Trainer, TrainerCallback, TrainingArguments

import hf_htc
from hf_htc.data import HTCDataCollator
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer
from hf_htc.training import EitherMetricEarlyStopping, HTCTrainingArguments, build_trainer
from hf_htc.training.loop_checkpoints import last_checkpoint
from hf_htc.training.optimizer import is_classifier_parameter


METHODS = list(hf_htc.METHODS)
HERE = Path(__file__).parent


def make_arguments(folder, **options):
    options = {
        "num_train_epochs": 1, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "classifier_learning_rate": 1e-2,
        "logging_steps": 1, "disable_tqdm": True, "save_strategy": "no", "eval_strategy": "no", "load_best_model_at_end": False,
        "warmup_steps": 0, "seed": 3, **options,
    }  # fmt: skip
    return HTCTrainingArguments(str(folder), **options)


def losses_of(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("method", [*METHODS, *VARIANTS])
def test_one_large_batch_and_accumulated_small_ones_agree(method, tokenizer, tmp_path):
    runs = {}
    for size, accumulation in ((32, 1), (8, 4)):
        model = without_dropout(make_model(method, make_tree()))
        arguments = make_arguments(
            tmp_path,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            max_steps=3,
            optim="sgd",
            max_grad_norm=1e9,
        )
        trainer = build_trainer(model, arguments, make_dataset(96), tokenizer=tokenizer)
        trainer.train()
        logs = [entry for entry in trainer.state.log_history if "loss" in entry]
        runs[size] = ([float(e["loss"]) for e in logs], [float(e["grad_norm"]) for e in logs], dict(model.named_parameters()))
    assert runs[32][0] == pytest.approx(runs[8][0], rel=1e-4)
    assert runs[32][1] == pytest.approx(runs[8][1], rel=1e-3)
    for name, value in runs[32][2].items():
        torch.testing.assert_close(runs[8][2][name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_two_processes_agree_with_one(tokenizer, tmp_path):
    """One launch trains all methods: world size, loss curve, weights, metrics, with label rows of unequal width; signals on
    either side of a step's end, resumed runs, a NaN in one process."""
    for method in METHODS:
        make_model(method, make_tree()).save_pretrained(tmp_path / method)
        tokenizer.save_pretrained(tmp_path / method)
    results = {}
    for processes in (1, 2):
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
        output = tmp_path / f"{processes}.json"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]), "OMP_NUM_THREADS": "1"}
        finished = subprocess.run(
            [sys.executable, *launch, str(HERE / "run_processes.py"), str(output), str(processes), ",".join(METHODS)],
            env=environment, timeout=300, capture_output=True, text=True,
        )  # fmt: skip
        assert finished.returncode == 0, finished.stderr[-3000:]
        results[processes] = json.loads(output.read_text())
    for method in METHODS:
        one, two = results[1][method], results[2][method]
        assert one["world_size"] == 1 and two["world_size"] == 2
        assert len(set(two["widths"])) > 1  # the processes really had rows of unequal width to bring together
        assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
        assert two["weights"] == pytest.approx(one["weights"], rel=1e-4)
        counted = [key for key, value in one["metrics"].items() if isinstance(value, float) and ("_f1" in key or "match" in key)]
        assert len(counted) > 5
        for key in counted:
            assert two["metrics"][key] == pytest.approx(one["metrics"][key], abs=1e-9), key
    stops = results[2]["stops"]
    assert len(stops) == 2 and len(stops[0]) == 6
    steps = {
        "one alone, before a step": 3,
        "on either side of a step's end": 3,
        "one, and the other a step later": 2,
        "Ctrl-C": 3,
    }
    for seen in stops:
        for name in seen.keys() - {"nan"}:
            expected = {"at": steps.get(name, 3), "interrupted": True, "given_back": True, "resumed": 5, "same_weights": True}
            assert {key: value for key, value in seen[name].items() if key != "seconds"} == expected, name
            assert seen[name]["seconds"] < 30, name  # they do not wait for each other
        assert "NaN or infinite at step 3" in seen["nan"]


def test_evaluation_gives_loss_and_metrics_over_all_documents(tokenizer, tmp_path):
    model, dataset = make_model("hiagm", make_tree()), make_dataset(37)
    trainer = build_trainer(model, make_arguments(tmp_path, per_device_eval_batch_size=8), make_dataset(), dataset, tokenizer)
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] > 0 and metrics["eval_closure"] == "up"
    hierarchy = model.config.get_hierarchy()
    scorer = HierarchicalScorer(hierarchy.parents, hierarchy.num_labels, closure="up")
    predicted = [hierarchy.encode([row["labels"]])[0] for row in model.predict(dataset["text"], tokenizer)]
    scorer.add(predicted, dataset["labels"])
    expected = scorer.compute()
    for key in ("micro_f1", "macro_f1", "samples_f1", "level_2_micro_f1", "exact_match"):
        assert metrics[f"eval_{key}"] == pytest.approx(expected[key]), key
    again = trainer.evaluate()  # nothing is left over from the first evaluation
    assert again["eval_micro_f1"] == metrics["eval_micro_f1"]


def test_a_plain_trainer_works_with_nothing_but_our_collator(tokenizer, tmp_path):
    from hf_htc.data import tokenize_dataset

    model = make_model("hiagm", make_tree())
    dataset = tokenize_dataset(make_dataset(), tokenizer, max_length=16)
    arguments = TrainingArguments(str(tmp_path), max_steps=3, report_to="none", disable_tqdm=True, per_device_train_batch_size=8)
    trainer = Trainer(model, arguments, train_dataset=dataset, eval_dataset=dataset, data_collator=HTCDataCollator(tokenizer))
    assert trainer.train().training_loss > 0
    assert trainer.evaluate()["eval_loss"] > 0
    predictions = trainer.predict(dataset)
    assert predictions.predictions.shape == (len(dataset), model.config.num_labels)  # logits alone, no parts of the loss


def test_the_classifier_has_its_own_learning_rate(tokenizer, tmp_path):
    model = make_model("hiagm", make_tree())
    arguments = make_arguments(tmp_path, weight_decay=0.1)
    trainer = build_trainer(model, arguments, make_dataset(), tokenizer=tokenizer)
    optimizer = trainer.create_optimizer()
    names = {parameter: name for name, parameter in model.named_parameters()}
    seen = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[parameter]
            seen.add(name)
            assert group["lr"] == (1e-2 if name.startswith("classifier.") else 1e-3), name
            plain = "bias" in name or "norm" in name.lower()
            assert group["weight_decay"] == (0.0 if plain else 0.1), name
    assert seen == set(names.values())
    assert is_classifier_parameter("module.base_model.model.classifier.modules_to_save.default.out_weight")
    assert not is_classifier_parameter("model.encoder.layer.0.output.dense.weight")
    assert not is_classifier_parameter("module.classifier.mlm.dense.weight")  # pretrained as the encoder is


def test_recommended_learning_rates_fill_what_is_left_open(tokenizer, tmp_path):
    model = make_model("flat", make_tree())
    arguments = HTCTrainingArguments(str(tmp_path), eval_strategy="no")
    trainer = build_trainer(model, arguments, make_dataset(), tokenizer=tokenizer)
    assert (trainer.args.learning_rate, trainer.args.classifier_learning_rate) == (1e-4, 5e-3)


def test_label_statistics_are_taken_once(tokenizer, tmp_path):
    model, dataset = make_model("hiagm", make_tree(), statistics=False), make_dataset()
    build_trainer(model, make_arguments(tmp_path), dataset, tokenizer=tokenizer)
    assert model.config.num_train_documents == len(dataset) and model.config.label_closure == "closed"
    bias = model.classifier.out_bias.detach().clone()
    assert bias.abs().max() > 0
    build_trainer(model, make_arguments(tmp_path), make_dataset(10), tokenizer=tokenizer)
    assert torch.equal(model.classifier.out_bias, bias)  # going on with training does not reset it


def test_without_validation_data_nothing_is_evaluated(tokenizer, tmp_path, caplog):
    arguments = make_arguments(tmp_path, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True)
    trainer = build_trainer(make_model("flat", make_tree()), arguments, make_dataset(16), tokenizer=tokenizer)
    trainer.train()
    assert "No validation data" in caplog.text


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tokenizer": None}, ValueError, "`tokenizer` is missing"),
        (
            {"train_dataset": DatasetDict({"train": make_dataset(8), "test": make_dataset(8)})},
            TypeError,
            r"DatasetDict with the splits.*dataset\['train'\]",
        ),
        ({"closure": "down"}, ValueError, "`closure` is 'down'"),
        ({"eval_dataset": make_dataset(8).select([])}, ValueError, "`eval_dataset` is empty"),
    ],
)
def test_wrong_arguments_are_refused(tokenizer, tmp_path, change, error, message):
    arguments = {"args": make_arguments(tmp_path), "train_dataset": make_dataset(8), "tokenizer": tokenizer, **change}
    with pytest.raises(error, match=message):
        build_trainer(make_model("flat", make_tree()), **arguments)


def test_label_ids_outside_the_model_are_refused(tokenizer, tmp_path):
    dataset = make_dataset(8).map(lambda row: {"labels": [12, 13]})
    with pytest.raises(ValueError, match="holds the id 13"):
        build_trainer(make_model("flat", make_tree(), statistics=False), make_arguments(tmp_path), dataset, tokenizer=tokenizer)


def test_label_smoothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`label_smoothing_factor` is 0.1"):
        HTCTrainingArguments(str(tmp_path), label_smoothing_factor=0.1)


def test_nan_logits_stop_the_evaluation(tokenizer, tmp_path):
    model = make_model("flat", make_tree())
    with torch.no_grad():
        model.classifier.out_proj.weight.fill_(float("nan"))
    trainer = build_trainer(model, make_arguments(tmp_path), make_dataset(8), make_dataset(8), tokenizer)
    with pytest.raises(FloatingPointError, match="NaN logits"):
        trainer.evaluate()


# ---------------------------------------------------------------------------------------------- stopping and resuming


class _Kill(TrainerCallback):
    """Ends the process without a word, as a power cut does."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 5:
            kill()


def _resumable(folder, tokenizer, callbacks=None):
    model = make_model("hiagm", make_tree())  # with dropout: the random state must come back too
    arguments = make_arguments(folder, max_steps=8, save_strategy="steps", save_steps=2, save_total_limit=3)
    return build_trainer(model, arguments, make_dataset(), tokenizer=tokenizer, callbacks=callbacks)


def test_a_killed_and_resumed_run_has_the_same_loss_tail(tokenizer, tmp_path):
    whole = _resumable(tmp_path / "whole", tokenizer)
    whole.train()
    assert end_of(lambda: _resumable(tmp_path / "killed", tokenizer, [_Kill()]).train()) == -signal.SIGKILL
    checkpoint = last_checkpoint(tmp_path / "killed")
    assert Path(checkpoint).name == "checkpoint-4"
    resumed = _resumable(tmp_path / "killed", tokenizer)
    resumed.train(resume_from_checkpoint=checkpoint)
    assert resumed.state.global_step == 8
    assert losses_of(resumed) == losses_of(whole)
    for (name, a), b in zip(whole.model.named_parameters(), resumed.model.parameters()):
        assert torch.equal(a, b), name


def test_a_half_written_checkpoint_is_passed_over(tmp_path):
    for step, whole in ((2, True), (10, True), (12, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            for name in ("model.safetensors", "trainer_state.json"):
                (tmp_path / f"checkpoint-{step}" / name).write_text("{}")
    assert last_checkpoint(tmp_path).endswith("checkpoint-10")
    with pytest.raises(FileNotFoundError, match="no whole checkpoint"):
        last_checkpoint(tmp_path / "nothing")


class _Interrupt(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_leaves_a_resumable_checkpoint(tokenizer, tmp_path):
    whole = _resumable(tmp_path / "whole", tokenizer)
    whole.train()
    previous = signal.getsignal(signal.SIGINT)
    stopped = _resumable(tmp_path / "stopped", tokenizer, [_Interrupt()])
    stopped.train()
    assert stopped.state.global_step == 4
    assert signal.getsignal(signal.SIGINT) == previous
    resumed = _resumable(tmp_path / "stopped", tokenizer)
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped" / "checkpoint-4"))
    assert losses_of(resumed) == losses_of(whole)


def test_early_stopping_waits_for_either_metric():
    callback = EitherMetricEarlyStopping(2)
    state, control = type("State", (), {"log_history": []})(), type("Control", (), {"should_training_stop": False})()
    callback.on_train_begin(None, state, control)
    scores = [(0.5, 0.1), (0.4, 0.2), (0.4, 0.1), (0.6, 0.1), (0.5, 0.1), (0.6, 0.2)]
    stops = []
    for micro, macro in scores:
        callback.on_evaluate(None, state, control, {"eval_micro_f1": micro, "eval_macro_f1": macro})
        stops.append(control.should_training_stop)
    assert stops == [False, False, False, False, False, True]
    with pytest.raises(ValueError, match="watches 'macro_f1'"):
        callback.on_evaluate(None, state, control, {"eval_micro_f1": 0.1})
    with pytest.raises(ValueError, match="at least 1"):
        EitherMetricEarlyStopping(0)


def test_a_model_that_learned_nothing_is_told(tokenizer, tmp_path, caplog):
    model = make_model("flat", make_tree())
    with torch.no_grad():
        model.classifier.out_proj.weight.zero_()
        model.classifier.out_proj.bias.fill_(-5.0)
    arguments = make_arguments(tmp_path, eval_strategy="epoch", learning_rate=0.0, classifier_learning_rate=0.0)
    with caplog.at_level(logging.WARNING):
        build_trainer(model, arguments, make_dataset(), make_dataset(16, seed=1), tokenizer).train()
    assert "no more than the label prior" in caplog.text
    caplog.clear()
    learner = make_model("flat", make_tree())
    arguments = make_arguments(
        tmp_path, eval_strategy="epoch", num_train_epochs=25, classifier_learning_rate=3e-2, learning_rate=1e-2
    )
    trainer = build_trainer(learner, arguments, make_dataset(), make_dataset(16, seed=1), tokenizer)
    trainer.train()
    assert trainer.evaluate()["eval_micro_f1"] > 0.6
    assert "no more than the label prior" not in caplog.text


def test_as_given_labels_are_scored_as_given(tokenizer, tmp_path):
    hierarchy = make_dag()
    dataset = make_dataset(hierarchy=hierarchy).map(lambda row: {"labels": row["labels"][-1:]})
    model = make_model("flat", hierarchy, statistics=False)
    trainer = build_trainer(model, make_arguments(tmp_path), dataset, dataset, tokenizer)
    assert model.config.label_closure == "as_given"
    assert trainer.evaluate()["eval_closure"] == "none"
