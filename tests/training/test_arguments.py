"""Settings of evaluation and saving follow each other; the caller's objects are never changed."""

import copy
import dataclasses

import pytest
from datasets import Dataset
from loop_runs import QUIET
from tiny_models import make_model, make_tree
from training_data import make_dataset

from hf_htc.cli.common import parse
from hf_htc.training import EitherMetricEarlyStopping, HTCTrainingArguments, build_trainer, train_with_accelerate


# What is set, and what the five become: evaluation, its steps, saving, its steps, whether the best one is taken.
FOLLOWED = [
    ({}, ("epoch", None, "epoch", 500, True)),
    ({"eval_strategy": "no"}, ("no", None, "epoch", 500, False)),
    ({"save_strategy": "no"}, ("epoch", None, "no", 500, False)),
    ({"save_strategy": "steps"}, ("steps", 500, "steps", 500, True)),
    ({"eval_strategy": "steps"}, ("steps", 500, "steps", 500, True)),
    ({"eval_strategy": "steps", "logging_steps": 7}, ("steps", 7, "steps", 7, True)),
    ({"save_steps": 20}, ("steps", 20, "steps", 20, True)),
    ({"eval_steps": 20}, ("steps", 20, "steps", 20, True)),
    ({"eval_steps": 20, "save_steps": 40}, ("steps", 20, "steps", 40, True)),
    ({"eval_steps": 20, "save_steps": 30}, ("steps", 20, "steps", 30, False)),
    ({"eval_steps": 0.1, "save_steps": 0.2}, ("steps", 0.1, "steps", 0.2, True)),
    ({"save_strategy": "best"}, ("epoch", None, "best", 500, True)),
    ({"eval_strategy": "epoch", "save_strategy": "steps"}, ("epoch", None, "steps", 500, False)),
    ({"load_best_model_at_end": False}, ("epoch", None, "epoch", 500, False)),
    ({"load_best_model_at_end": True, "save_strategy": "steps", "save_steps": 30}, ("steps", 30, "steps", 30, True)),
]


def five(arguments):
    return (
        arguments.eval_strategy.value, arguments.eval_steps, arguments.save_strategy.value, arguments.save_steps,
        arguments.load_best_model_at_end,
    )  # fmt: skip


@pytest.mark.parametrize("options, expected", FOLLOWED)
def test_what_is_left_open_follows_what_is_set(options, expected, tmp_path):
    arguments = HTCTrainingArguments(str(tmp_path), **options)
    assert five(arguments) == expected
    assert not arguments.left_open & set(options)
    assert five(dataclasses.replace(arguments, seed=3)) == expected  # a copy passes all values
    line = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    (parsed,) = parse([HTCTrainingArguments], ["--output_dir", str(tmp_path), *line], "hf-htc train", "")
    assert five(parsed) == expected
    settings = tmp_path / "settings.yaml"
    settings.write_text("".join(f"{name}: {value}\n" for name, value in {"output_dir": "out", **options}.items()))
    (read,) = parse([HTCTrainingArguments], [str(settings)], "hf-htc train", "")
    assert five(read) == expected


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"load_best_model_at_end": True, "save_strategy": "no"},
            "needs evaluations and checkpoints, and `save_strategy` is 'no'",
        ),
        (
            {"load_best_model_at_end": True, "eval_strategy": "no"},
            "needs evaluations and checkpoints, and `eval_strategy` is 'no'",
        ),
        ({"save_strategy": "best", "eval_strategy": "no"}, "`save_strategy='best'` needs evaluations"),
        (
            {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_steps": 5},
            "evaluation is set to 'epoch' and saving to every 5 steps. Set only one of them",
        ),
        ({"load_best_model_at_end": True, "eval_steps": 2, "save_steps": 3}, "to every 2 steps and saving to every 3 steps"),
        ({"eval_strategy": "sometimes"}, "`eval_strategy` is 'sometimes'; it is one of 'no', 'steps', 'epoch'"),
    ],
)
def test_what_contradicts_itself_is_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        HTCTrainingArguments(str(tmp_path), **options)


def test_the_switch_alone_means_yes_and_a_loss_is_better_when_smaller(tmp_path):
    (parsed,) = parse([HTCTrainingArguments], ["--output_dir", str(tmp_path), "--load_best_model_at_end"], "hf-htc train", "")
    assert parsed.load_best_model_at_end and "load_best_model_at_end" not in parsed.left_open
    assert HTCTrainingArguments(str(tmp_path)).greater_is_better
    assert not HTCTrainingArguments(str(tmp_path), metric_for_best_model="loss").greater_is_better
    assert HTCTrainingArguments(str(tmp_path), metric_for_best_model="loss", greater_is_better=True).greater_is_better


def test_one_object_serves_several_trainers(tokenizer, tmp_path):
    arguments = HTCTrainingArguments(str(tmp_path), lr_scheduler_kwargs={}, max_steps=1, disable_tqdm=True, logging_steps=1)
    before = copy.copy(vars(arguments))
    rates = {}
    for method in ("flat", "hidec", "ptmt"):
        trainer = build_trainer(make_model(method, make_tree()), arguments, make_dataset(16), tokenizer=tokenizer)
        rates[method] = (trainer.args.learning_rate, trainer.args.classifier_learning_rate)
        recommended = trainer.model.config.recommended_training
        assert rates[method] == (recommended["learning_rate"], recommended["classifier_learning_rate"])
        assert trainer.args.eval_strategy == "no" and not trainer.args.load_best_model_at_end  # there is no validation data
    assert len(set(rates.values())) == 3
    train_with_accelerate(make_model("hidec", make_tree()), arguments, make_dataset(16), None, tokenizer)
    build_trainer(
        make_model("flat", make_tree()),
        arguments,
        make_dataset(16),
        make_dataset(8),
        tokenizer,
        compute_metrics=lambda p: {"x": 1.0},
    )
    assert vars(arguments) == before and arguments.eval_strategy == "epoch" and arguments.batch_eval_metrics


def test_what_the_caller_gave_stays_as_it_was(tokenizer, tmp_path):
    tree = make_tree()
    rows = [{"text": text, "labels": tree.decode([labels])[0]} for text, labels in zip(*make_dataset(16)[:].values())]
    dataset, callbacks, sets = Dataset.from_list(rows), [EitherMetricEarlyStopping(1)], {"a": make_dataset(8)}
    keywords = {"compute_metrics": None, "callbacks": callbacks}
    given = copy.deepcopy((rows, sets["a"][:], keywords["compute_metrics"]))
    for documents in (rows, dataset):
        trainer = build_trainer(
            make_model("flat", tree), HTCTrainingArguments(str(tmp_path), **QUIET), documents, sets, tokenizer, **keywords
        )
        trainer.evaluate()
        assert trainer.train_dataset["labels"][0] == tree.encode([rows[0]["labels"]])[0]
    assert (rows, sets["a"][:], keywords["compute_metrics"]) == given and list(sets) == ["a"] and len(callbacks) == 1
    assert dataset[:] == Dataset.from_list(rows)[:] and dataset.column_names == ["text", "labels"]
