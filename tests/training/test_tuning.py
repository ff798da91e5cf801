"""The search of settings: spaces, what reaches a trial's optimizer and model, failures, pruning, seeds."""

import json
import math
import os
import shutil
import signal
import sqlite3

import optuna
import pytest
import torch
from kills import kill_at, moments, operations
from tiny_models import make_encoder_config, make_model, make_tokenizer, make_tree
from training_data import make_dataset
from transformers import AutoModel, AutoModelForMaskedLM, TrainerCallback

import hf_htc
from hf_htc.evaluation.fingerprint import fingerprint, weights_digest
from hf_htc.models.configuration_textrcnn import TextRCNNConfig
from hf_htc.models.errors import HTCError
from hf_htc.models.modeling_textrcnn import TextRCNNModel
from hf_htc.models.whole_files import whole_file
from hf_htc.training import HTCTrainingArguments, search_spaces
from hf_htc.training.optimizer import is_classifier_parameter
from hf_htc.training.search_spaces import check_against_config, read_search_space, search_space, suggest
from hf_htc.training.tuning import (
    MedianAtSameShare,
    enqueue,
    finished_trials,
    objectives,
    open_study,
    remove_study,
    search,
    starting_values,
    trial_records,
)


HIAGM = hf_htc.config_class("hiagm")
RATES = {
    "learning_rate": {"type": "log_uniform", "low": 1e-4, "high": 1e-2},
    "classifier_learning_rate": {"type": "log_uniform", "low": 1e-3, "high": 1e-1},
}


def arguments(folder, **options):
    options = {"num_train_epochs": 1, "per_device_train_batch_size": 16, "disable_tqdm": True, "seed": 3, **options}
    return HTCTrainingArguments(str(folder), **options)


def run_search(folder, tokenizer, space, make=None, study=None, trials=2, **options):
    """A search over tiny HiAGM models; `make` stands in for their making."""
    training = {key: options.pop(key) for key in list(options) if key in HTCTrainingArguments.__dataclass_fields__}
    study = study or open_study(seed=0)
    make = make or (lambda options: make_model("hiagm", make_tree(), statistics=False, **options))
    best = search(
        make,
        arguments(folder, **training),
        make_dataset(32),
        make_dataset(12, seed=5),
        tokenizer,
        space,
        study,
        trials,
        **options,
    )
    return study, best


class _Seen(TrainerCallback):
    """What each trial really trains with."""

    def __init__(self):
        self.trials = []

    def on_train_begin(self, args, state, control, model, optimizer, train_dataloader, **kwargs):
        groups = {}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                groups[id(parameter)] = group
        named = {name: groups[id(parameter)] for name, parameter in model.named_parameters()}
        rates = {True: set(), False: set()}
        for name, group in named.items():
            rates[is_classifier_parameter(name)].add(group["initial_lr"])
        self.trials.append(
            {
                "learning_rate": rates[False],
                "classifier_learning_rate": rates[True],
                "weight_decay": {group["weight_decay"] for name, group in named.items() if name.endswith("dense.weight")},
                "per_device_train_batch_size": {len(next(iter(train_dataloader))["input_ids"])},
                "node_dim": {model.config.node_dim},
                "structure_dropout": {model.classifier.structure_encoder[0].dropout.p},
                "max_length": model.config.max_text_length,
                "counts": model.config.label_counts,
                "bias": model.classifier.out_bias.detach().clone(),
                "encoder": model.get_input_embeddings().weight.detach().clone(),
                "random": torch.rand(3),
            }
        )  # fmt: skip


def test_every_option_reaches_model_and_optimizer(tokenizer, tmp_path):
    space = {
        **RATES,
        "weight_decay": {"type": "uniform", "low": 0.01, "high": 0.2},
        "per_device_train_batch_size": {"type": "categorical", "choices": [4, 8, 16]},
        "node_dim": {"type": "integer", "low": 3, "high": 9},
        "structure_dropout": {"type": "uniform", "low": 0.0, "high": 0.3},
    }
    seen = _Seen()
    study, _ = run_search(tmp_path, tokenizer, space, trials=4, callbacks=[seen], max_length=7)
    assert len(seen.trials) == 4
    for trial, real in zip(study.trials, seen.trials):
        for name in space:
            assert real[name] == {trial.params[name]}, name
    # Four trials, four values: nothing is left over from the trial before.
    assert len({trial.params["learning_rate"] for trial in study.trials}) == 4
    # Every model has its own label statistics, and starts from the same random state as the others.
    for real in seen.trials:
        assert real["max_length"] == 7 and sum(real["counts"]) > 0 and real["bias"].abs().min() > 0
        assert torch.equal(real["encoder"], seen.trials[0]["encoder"]) and torch.equal(real["random"], seen.trials[0]["random"])
    assert list(tmp_path.iterdir()) == []  # no checkpoint, no folder


def test_the_first_trial_has_the_settings_without_a_search(tokenizer, tmp_path):
    space = {
        **RATES,
        "node_dim": {"type": "integer", "low": 7, "high": 9},
        "prior": {"type": "categorical", "choices": ["ratio", "sibling"]},
    }
    study, _ = run_search(tmp_path, tokenizer, space, trials=1)
    params = study.trials[0].params
    # The recommended rate of the encoder lies in the space, so does the classifier's; the tiny node dimension, 6, does not.
    assert (params["learning_rate"], params["classifier_learning_rate"], params["prior"]) == (1e-4, 1e-3, "ratio")
    assert params["node_dim"] in (7, 8, 9)


@pytest.mark.parametrize("objective", ["micro_f1", "mean", "samples_f1", "level_2_micro_f1", "consistency", "loss"])
def test_a_trial_has_the_value_of_the_epoch_that_would_be_kept(tokenizer, tmp_path, objective):
    metric = "micro_f1" if objective == "mean" else objective

    class Log(TrainerCallback):
        def on_train_end(self, args, state, control, **kwargs):
            self.log = [entry for entry in state.log_history if "eval_loss" in entry]

    log = Log()
    study, best = run_search(
        tmp_path, tokenizer, RATES, trials=1, objective=objective, callbacks=[log], num_train_epochs=4,
        metric_for_best_model=metric, learning_rate=3e-3, classifier_learning_rate=0.05, greater_is_better=objective != "loss",
        study=open_study(seed=0, direction=objectives(make_tree())[objective]),
    )  # fmt: skip
    kept = (min if objective == "loss" else max)(log.log, key=lambda entry: entry[f"eval_{metric}"])
    assert len({entry["eval_micro_f1"] for entry in log.log}) > 1
    expected = {**kept, "eval_mean": (kept["eval_micro_f1"] + kept["eval_macro_f1"]) / 2}[f"eval_{objective}"]
    assert best.value == pytest.approx(expected, abs=1e-12)
    assert {name for name in objectives(make_tree()) if name != "mean"} <= set(best.user_attrs["scores"])
    assert best.user_attrs["scores"]["epoch"] == kept["epoch"] and best.user_attrs["scores"]["micro_f1"] == kept["eval_micro_f1"]


def test_the_last_epoch_counts_where_the_best_is_not_kept(tokenizer, tmp_path):
    class Falling(TrainerCallback):
        def on_evaluate(self, args, state, control, model, **kwargs):
            with torch.no_grad():
                model.classifier.out_bias.fill_(-50.0)  # from the second evaluation on nothing is predicted

    options = {"num_train_epochs": 2, "callbacks": [Falling()], "trials": 1}
    assert run_search(tmp_path, tokenizer, RATES, load_best_model_at_end=False, **options)[1].value == 0
    assert run_search(tmp_path, tokenizer, RATES, **options)[1].value > 0


def test_a_failed_trial_is_recorded_and_the_search_goes_on(tokenizer, tmp_path):
    """The first trial breaks in the middle of an evaluation, the second while its model is made; the third is as if alone."""
    made = []

    def make(options):
        made.append(options)
        model = make_model("hiagm", make_tree(), statistics=False)
        if len(made) == 2:
            calls = []

            def broken(model, inputs, output):
                calls.append(model.training)
                if calls.count(False) == 3:
                    output.logits.fill_(math.nan)

            model.register_forward_hook(broken)
        if len(made) == 3:
            raise RuntimeError("no room\nfor this model")
        return model

    study, best = run_search(tmp_path, tokenizer, RATES, make, trials=3, per_device_eval_batch_size=4)
    first, second, third = trial_records(study)
    assert first["state"] == "failed" and "FloatingPointError: The model gave NaN logits" in first["reason"]
    assert second["state"] == "failed" and second["reason"] == "RuntimeError: no room for this model"
    assert second["params"].keys() == RATES.keys()
    assert third["state"] == "complete" and best.number == 2 and len(finished_trials(study)) == 3
    # The half evaluation of the first trial is not counted with the last one.
    alone = open_study(seed=0)
    alone.enqueue_trial(third["params"])
    assert run_search(tmp_path, tokenizer, RATES, study=alone, trials=1)[1].value == third["value"]


def test_ctrl_c_ends_the_search(tokenizer, tmp_path):
    class Interrupt(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            os.kill(os.getpid(), signal.SIGINT)

    study = open_study(seed=0)
    with pytest.raises(KeyboardInterrupt):
        run_search(tmp_path, tokenizer, RATES, study=study, callbacks=[Interrupt()])
    assert [record["state"] for record in trial_records(study)] == ["cut off"]
    assert not finished_trials(study) and list(tmp_path.iterdir()) == []


def test_a_search_without_a_complete_trial_says_why(tokenizer, tmp_path):
    made = []

    def make(options):
        made.append(options)
        if len(made) > 1:
            raise ValueError("never works")
        return make_model("hiagm", make_tree())

    with pytest.raises(ValueError, match="No trial was complete; 2 failed, the last one because: ValueError: never works"):
        run_search(tmp_path, tokenizer, RATES, make)


def test_wrong_arguments_are_refused(tokenizer, tmp_path):
    with pytest.raises(HTCError, match="`objective` is 'f1'; allowed are 'mean', .*'level_3_micro_f1', .*'loss'"):
        run_search(tmp_path, tokenizer, RATES, objective="f1")
    with pytest.raises(HTCError, match="The study has the direction 'maximize'; 'loss' needs 'minimize'"):
        run_search(tmp_path, tokenizer, RATES, objective="loss")
    with pytest.raises(ValueError, match="`trials` is 0"):
        run_search(tmp_path, tokenizer, RATES, trials=0)
    with pytest.raises(ValueError, match="no validation data"):
        search(None, arguments(tmp_path), make_dataset(8), None, tokenizer, RATES, open_study())


# ---------------------------------------------------------------------------------------------- pruning and seeds


def record(study, steps, values, complete=True):
    trial = study.ask()
    trial.set_user_attr("steps", steps)
    for step, value in values.items():
        trial.report(value, step)
    if complete:
        study.tell(trial, max(values.values()))
    return trial


def test_pruning_compares_at_the_same_share_of_training():
    study = open_study(pruning=True)
    for values in ({10: 0.2, 20: 0.8}, {10: 0.4, 20: 0.8}, {10: 0.6, 20: 0.8}):
        record(study, 20, values)
    half = {"steps": 200, "values": {100: 0.1}, "complete": False}
    assert not record(study, **half).should_prune()  # three complete trials are too few
    record(study, 40, {20: 0.8, 40: 0.8})
    assert record(study, **half).should_prune()  # the median at half of the training is 0.5
    assert not record(study, 200, {100: 0.51}, complete=False).should_prune()
    assert record(study, 200, {200: 0.7}, complete=False).should_prune()  # at the end it is 0.8
    assert not record(study, 200, {40: 0.0}, complete=False).should_prune()  # nobody was evaluated as early
    assert not open_study().pruner.prune(study, study.trials[-1])
    assert MedianAtSameShare().min_trials == 4
    losses = open_study(pruning=True, direction="minimize")
    for value in (0.2, 0.4, 0.6, 0.8):
        record(losses, 20, {10: value})
    assert not record(losses, 20, {10: 0.49}, complete=False).should_prune()
    assert record(losses, 20, {10: 0.51}, complete=False).should_prune()


def test_a_trial_behind_the_others_is_stopped(tokenizer, tmp_path):
    study = open_study(seed=0, pruning=True)
    for _ in range(4):
        record(study, 4, {1: 1.0, 4: 1.0})
    with_room = {"trials": 6, "num_train_epochs": 3}
    study, _ = run_search(tmp_path, tokenizer, RATES, study=study, **with_room)
    records = trial_records(study)[4:]
    assert [r["state"] for r in records] == ["pruned", "pruned"]
    assert records[0]["scores"]["epoch"] == 1.0 and records[0]["value"] is None


def test_a_resumed_study_draws_new_values_and_repeats_what_was_cut_off(tmp_path):
    file, settings = tmp_path / "new" / "study.db", fingerprint({"method": "flat", "seed": 1})

    def draw(count):
        study = open_study(file, seed=1, settings=settings)
        for _ in range(count):
            trial = study.ask()
            suggest(trial, RATES)
            study.tell(trial, 0.5)
        return study

    draw(2)
    study = draw(3)
    rates = [trial.params["learning_rate"] for trial in study.trials]
    assert len(set(rates)) == 5
    again = open_study(seed=1)
    assert suggest(again.ask(), RATES)["learning_rate"] == rates[0]  # the seed decides
    suggest(study.ask(), RATES)  # left running by a process that is gone
    study = open_study(file, seed=1, settings=settings)
    assert [trial.state.name for trial in study.trials[5:]] == ["FAIL", "WAITING"]
    assert len(finished_trials(study)) == 5
    assert len(open_study(file, seed=1, settings=settings).trials) == 7  # repeated once, not once more
    with pytest.raises(ValueError, match=r"'study.db' was made with `method` 'flat', this run has 'hiagm'. Give `--overwrite`"):
        open_study(file, seed=1, settings=fingerprint({"method": "hiagm", "seed": 1}))


# ---------------------------------------------------------------------------------------------- search spaces


@pytest.mark.parametrize("method", hf_htc.METHODS)
def test_every_method_has_a_space_that_its_config_takes(method):
    config_class = hf_htc.config_class(method)
    space = search_space(method, config_class)
    assert {"learning_rate", "classifier_learning_rate", "text_dropout"} <= set(space)
    check_against_config(space, lambda **option: config_class(hierarchy=make_tree(), **option))
    defaults = config_class(hierarchy=make_tree())
    for name, entry in space.items():
        value = defaults.recommended_training.get(name, getattr(defaults, name, None))
        assert value is None or search_spaces.holds(entry, value), name  # the search can only improve on the defaults


def test_changes_add_replace_and_take_out(tmp_path):
    (tmp_path / "space.yaml").write_text(
        "learning_rate: {type: log_uniform, low: 1e-6, high: 1e-5}\n"  # strings in YAML 1.1
        "node_dim: null\nnum_train_epochs: {type: integer, low: 2, high: 5}\n"
        "initializer_range: {type: categorical, choices: [1e-2, 0.02]}\n"
    )
    changes = read_search_space(tmp_path / "space.yaml")
    space = search_space("hiagm", HIAGM, changes=changes, fixed=["weight_decay", "prior"])
    assert space["learning_rate"] == {"type": "log_uniform", "low": 1e-6, "high": 1e-5}
    assert space["initializer_range"]["choices"] == [0.01, 0.02]
    assert "num_train_epochs" in space and not {"node_dim", "weight_decay", "prior"} & set(space)
    assert "node_dim" in search_space("hiagm", HIAGM, num_nodes=2000)
    assert "node_dim" not in search_space("hiagm", HIAGM, num_nodes=2001)
    around = {"type": "log_uniform", "low": 1e-4, "high": 5e-3}
    assert search_space("hiagm", HIAGM, encoder_rate=1e-3)["learning_rate"] == pytest.approx(around)
    assert "learning_rate" not in search_space("hiagm", HIAGM, encoder_rate=1e-3, fixed=["learning_rate"])
    assert search_space("hiagm", HIAGM, encoder_rate=1e-3, changes=changes)["learning_rate"] == space["learning_rate"]
    with pytest.raises(ValueError, match="Nothing is left to search"):
        search_space("flat", hf_htc.config_class("flat"), fixed=hf_htc.METHODS["flat"].search_space)


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("learning_rat", {"type": "uniform", "low": 0, "high": 1}, r"cannot be searched. Did you mean \['learning_rate'"),
        ("thresholds", {"type": "uniform", "low": 0, "high": 1}, "'thresholds', which cannot be searched"),
        ("num_labels", {"type": "integer", "low": 1, "high": 2}, "'num_labels', which cannot be searched"),
        ("learning_rate", {"type": "loguniform", "low": 1, "high": 2}, "give a `type`, one of 'log_uniform'"),
        ("learning_rate", 1e-4, "is 0.0001; give a `type`"),
        ("learning_rate", {"type": "uniform", "low": 1}, "lacks 'high'"),
        ("learning_rate", {"type": "uniform", "low": 1, "high": 2, "hi": 3}, "unknown key 'hi'.*Did you mean 'high'"),
        ("learning_rate", {"type": "uniform", "low": 2, "high": 1}, "goes from 2.0 to 1.0"),
        ("learning_rate", {"type": "log_uniform", "low": 0, "high": 1}, "'log_uniform' begins above 0"),
        ("learning_rate", {"type": "uniform", "low": "small", "high": 1}, "is 'small'; it must be a number"),
        ("learning_rate", {"type": "uniform", "low": 0, "high": math.inf}, "is inf; it must be a number"),
        ("learning_rate", {"type": "uniform", "low": -1, "high": 1}, "holds -1.0; the option takes numbers of at least 0"),
        ("node_dim", {"type": "integer", "low": 1.5, "high": 8}, "is 1.5; 'integer' needs whole numbers"),
        ("node_dim", {"type": "categorical", "choices": []}, "give a list"),
        ("node_dim", {"type": "categorical", "choices": [8, 8]}, "hold a value twice"),
        ("per_device_train_batch_size", {"type": "uniform", "low": 1, "high": 8}, "is 'uniform'; the option takes whole numbers"),
        ("per_device_train_batch_size", {"type": "categorical", "choices": [0, 8]}, "holds 0; the option takes whole numbers"),
        ("lr_scheduler_type", {"type": "categorical", "choices": ["linear", "cosin"]}, "holds 'cosin'; the option takes"),
    ],
)  # fmt: skip
def test_bad_entries_are_named(name, entry, message):
    with pytest.raises(ValueError, match=message):
        search_space("hiagm", HIAGM, changes={name: entry})


def test_bad_files_are_named(tmp_path):
    for content, message in (("- a\n", "must hold `option: entry` lines"), ("a: [", "is not valid YAML")):
        (tmp_path / "space.yaml").write_text(content)
        with pytest.raises(ValueError, match=f"'space.yaml' {message}"):
            read_search_space(tmp_path / "space.yaml")


def test_values_come_from_their_ranges():
    space = {
        "a": {"type": "log_uniform", "low": 1e-4, "high": 1e-2},
        "b": {"type": "uniform", "low": 0.1, "high": 0.2},
        "c": {"type": "integer", "low": 1, "high": 3},
        "d": {"type": "categorical", "choices": ["x", 2]},
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [suggest(study.ask(), space) for _ in range(60)]
    assert {values["c"] for values in drawn} == {1, 2, 3} and {values["d"] for values in drawn} == {"x", 2}
    assert all(0.1 <= values["b"] <= 0.2 for values in drawn)
    small = sum(values["a"] < 1e-3 for values in drawn)
    assert 18 < small < 42  # half of a log-uniform range lies below its geometric mean
    trial = study.ask()
    assert suggest(trial, space) == suggest(trial, space)


# ---------------------------------------------------------------------------------------------- the defaults, and kills


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Folders of tiny encoders, with and without a head of masked language modelling."""
    folder = tmp_path_factory.mktemp("encoders")
    tokenizer = make_tokenizer()
    for name, config, auto in (
        ("bert", make_encoder_config(), AutoModel),
        ("bert_mlm", make_encoder_config(), AutoModelForMaskedLM),
        ("roberta_mlm", make_encoder_config("roberta", max_position_embeddings=70), AutoModelForMaskedLM),
        ("gpt2", make_encoder_config("gpt2"), AutoModel),
        ("textrcnn", TextRCNNConfig(vocab_size=len(tokenizer), embedding_size=8, gru_hidden_size=4, num_filters=4), None),
    ):
        (TextRCNNModel(config) if auto is None else auto.from_config(config)).save_pretrained(folder / name)
    return folder


@pytest.mark.parametrize("method", hf_htc.METHODS)
def test_trial_0_is_a_run_without_a_search(method, encoders, tokenizer, tmp_path):
    """On every kind of encoder the resolved defaults lie in the space, and all that is drawn from it makes a model."""
    model_class, config_class, tree = hf_htc.model_class(method), hf_htc.config_class(method), make_tree()
    seen = []
    for encoder in sorted(encoders.iterdir()):
        if encoder.name == "textrcnn" and method in ("hpt", "ptmt"):
            continue  # refused: its tokens do not attend to each other

        def make(options, encoder=encoder):
            torch.manual_seed(7)
            return model_class.from_text_encoder(str(encoder), hierarchy=tree, tokenizer=tokenizer, **options)

        args, default = arguments(tmp_path), make({})
        names = search_space(method, config_class)
        rate = getattr(default.config.text_config, "recommended_learning_rate", None)
        defaults = search_spaces.default_values(names, args, default.config)
        space = search_space(method, config_class, tree.num_nodes, encoder_rate=rate, defaults=defaults)
        assert space.keys() == names.keys() and None not in defaults.values()
        values = starting_values(space, args, default.config)
        assert values == defaults
        study = open_study(seed=0)
        enqueue(study, values)
        first = suggest(study.ask(), space)
        assert first == defaults
        again = make({name: first[name] for name in search_spaces.method_part(space)})
        assert again.config.to_dict() == default.config.to_dict()
        assert weights_digest(again) == weights_digest(default)
        for name, value in default.config.recommended_training.items():
            assert first[name] == value, name
        for name in search_spaces.training_part(space):
            assert name in default.config.recommended_training or first[name] == getattr(args, name), name
        for _ in range(6):
            drawn = suggest(study.ask(), space)
            options = {name: drawn[name] for name in search_spaces.method_part(space)}
            config_class(text_config=default.config.text_config, hierarchy=tree, **options)
        seen.append((encoder.name, defaults))
    if method == "ptmt":
        assert {name: values["mlm_alpha"] for name, values in seen} == {
            "bert": 0.0, "bert_mlm": 0.7, "gpt2": 0.0, "roberta_mlm": 0.7,
        }  # fmt: skip


def test_options_that_the_user_gives_move_the_defaults(encoders, tokenizer, tmp_path):
    """HiMatch's product has a joint embedding of twice the encoder's width, which no list of numbers can know."""
    himatch, tree = hf_htc.model_class("himatch"), make_tree()
    fixed = {"prediction": "dot_product"}
    model = himatch.from_text_encoder(str(encoders / "bert"), hierarchy=tree, tokenizer=tokenizer, **fixed)
    names = search_space("himatch", himatch.config_class, fixed=fixed)
    defaults = search_spaces.default_values(names, arguments(tmp_path), model.config)
    changes = {"gamma": {"type": "uniform", "low": 0.1, "high": 0.3}}
    space = search_space("himatch", himatch.config_class, fixed=fixed, changes=changes, defaults=defaults)
    assert space["joint_dim"]["choices"] == sorted([2 * model.config.text_config.hidden_size, 100, 200, 400])
    assert space["gamma"] == changes["gamma"]  # the user's range is the user's, also without the default, 0.5
    assert set(starting_values(space, arguments(tmp_path), model.config)) == set(space) - {"gamma"}


@pytest.mark.parametrize(
    ("entry", "value", "expected"),
    [
        ({"type": "uniform", "low": 0.7, "high": 0.99}, 0.0, {"type": "uniform", "low": 0.0, "high": 0.99}),
        ({"type": "log_uniform", "low": 0.1, "high": 1.0}, 10, {"type": "log_uniform", "low": 0.1, "high": 10}),
        ({"type": "log_uniform", "low": 0.1, "high": 1.0}, 0, {"type": "uniform", "low": 0, "high": 1.0}),
        ({"type": "integer", "low": 1, "high": 3}, 5, {"type": "integer", "low": 1, "high": 5}),
        ({"type": "integer", "low": 1, "high": 3}, 0.5, {"type": "uniform", "low": 0.5, "high": 3}),
        ({"type": "integer", "low": 1, "high": 3}, 2, {"type": "integer", "low": 1, "high": 3}),
        ({"type": "categorical", "choices": [1, 3]}, 2, {"type": "categorical", "choices": [1, 2, 3]}),
        ({"type": "categorical", "choices": ["b", "c"]}, "a", {"type": "categorical", "choices": ["b", "c", "a"]}),
        ({"type": "integer", "low": 1, "high": 3}, "auto", {"type": "categorical", "choices": ["auto"]}),
    ],
)
def test_an_entry_grows_to_its_default(entry, value, expected):
    assert search_spaces.grown(entry, value) == expected
    assert search_spaces.holds(expected, value)


@pytest.mark.slow
def test_a_search_killed_at_any_moment_goes_on_to_the_same_trials(tokenizer, tmp_path):
    """
    Every value that SQLite holds is written in between. What stands for the training here is a sum, so that it is quick; that a
    training gives the same scores twice, another test says.
    """
    space = {
        **RATES,
        "node_dim": {"type": "integer", "low": 3, "high": 9},
        "prior": {"type": "categorical", "choices": ["a", "b"]},
    }
    settings = fingerprint({"method": "hiagm"})

    def run(file, number):
        study = open_study(file, seed=3, settings=settings)
        if not study.trials:
            enqueue(study, {"learning_rate": 1e-3, "node_dim": 6})
        while len(finished_trials(study)) < number:
            trial = study.ask()
            values = suggest(trial, space)
            trial.set_user_attr("steps", 1)
            study.tell(trial, values["learning_rate"] * values["node_dim"] - values["classifier_learning_rate"])
        with whole_file(file.with_suffix(".json")) as partial:
            partial.write_text(json.dumps([(trial.params, trial.value) for trial in finished_trials(study)]))

    file, kills = tmp_path / "study.db", 0
    run(tmp_path / "ten.db", 10)  # from the eleventh on the sampler looks at the values of the others
    for start, number in ((None, 1), (tmp_path / "ten.db", 12)):

        def begin(start=start):
            remove_study(file)
            file.with_suffix(".json").unlink(missing_ok=True)
            if start is not None:
                shutil.copy(start, file)

        begin()
        done = operations(lambda number=number: run(file, number))
        expected = file.with_suffix(".json").read_bytes()
        assert len(json.loads(expected)) == number and json.loads(expected)[0][0]["node_dim"] == 6
        for moment in moments(done, least=10):
            begin()
            kill_at(lambda number=number: run(file, number), moment)
            run(file, number)
            assert file.with_suffix(".json").read_bytes() == expected, moment
            kills += 1
    assert kills == 20


@pytest.mark.slow
def test_real_trials_of_a_killed_search_are_done_again(tokenizer, tmp_path):
    """The same with models that are trained: a trial that a kill has cut off has the value that it would have had."""
    file, settings = tmp_path / "study.db", fingerprint({"method": "hiagm"})

    def run():
        study = open_study(file, seed=0, settings=settings)
        run_search(tmp_path / "out", tokenizer, RATES, study=study, trials=3)
        return [(record["params"], record["value"]) for record in trial_records(study) if record["state"] != "cut off"]

    expected = run()
    assert len(expected) == 3 and len({value for _, value in expected}) > 1
    remove_study(file)
    done = operations(run)
    for moment in moments(done[len(done) // 4 :], least=4):
        remove_study(file)
        kill_at(run, moment + len(done) // 4)
        assert run() == expected, moment


@pytest.mark.parametrize("content", [b"no database at all, but a text of some length", b"SQLite format 3\x00" + b"\x00" * 2000])
def test_a_file_that_is_no_study_is_named(tmp_path, content):
    (tmp_path / "study.db").write_bytes(content)
    with pytest.raises(HTCError, match="The study file .*study.db' cannot be used: .* made anew with `--overwrite`"):
        open_study(tmp_path / "study.db")
    assert (tmp_path / "study.db").read_bytes() == content


def test_a_study_that_another_process_writes_is_named(tmp_path, monkeypatch):
    file = tmp_path / "study.db"
    open_study(file, settings=fingerprint({}))
    writer = sqlite3.connect(file)
    writer.execute("BEGIN EXCLUSIVE")
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3.dbapi2, "connect", lambda *args, **kwargs: connect(*args, **{**kwargs, "timeout": 0.01}))
    with pytest.raises(HTCError, match="study.db' cannot be used: .*locked.* Is another search writing it"):
        open_study(file, settings=fingerprint({}))
    writer.close()
