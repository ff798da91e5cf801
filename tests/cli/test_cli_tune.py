"""`hf-htc tune` on tiny files: the best trial's command repeats the trial, the search goes on, the test split stays untouched."""

import json
import shlex
import sys

import optuna
import pytest
import yaml
from tiny_models import make_encoder_config, make_label_sets, make_texts, make_tokenizer, make_tree
from transformers import AutoModel

from hf_htc.cli.main import main
from hf_htc.training import documents


SPACE = """
learning_rate: {type: log_uniform, low: 1e-3, high: 1e-1}
classifier_learning_rate: {type: log_uniform, low: 1e-3, high: 1e-1}
per_device_train_batch_size: {type: categorical, choices: [4, 8]}
node_dim: {type: integer, low: 4, high: 8}
weight_decay: null
num_structure_layers: null
"""
TRIALS = 3


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """An encoder, data files with words of their own for each label, a taxonomy, a search space."""
    folder = tmp_path_factory.mktemp("work")
    tree = make_tree()
    tree.save(folder / "taxonomy.tsv")
    AutoModel.from_config(make_encoder_config(num_hidden_layers=1)).save_pretrained(folder / "tiny-encoder")
    make_tokenizer().save_pretrained(folder / "tiny-encoder")
    for split, size in (("train", 40), ("validation", 12), ("test", 17)):
        names = tree.decode(make_label_sets(tree, size, seed=size))
        rows = [{"text": text, "labels": row} for text, row in zip(make_texts(size, seed=size), names)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "space.yaml").write_text(SPACE, encoding="utf-8")
    return folder


def tune_options(work, output_dir, *options, method="hiagm", trials=TRIALS):
    files = [part for split in ("train", "validation", "test") for part in (f"--{split}_file", work / f"{split}.jsonl")]
    options = [
        "tune", *files, "--taxonomy", work / "taxonomy.tsv", "--text_encoder", work / "tiny-encoder", "--method", method,
        "--search_space", work / "space.yaml", "--output_dir", output_dir, "--trials", trials, "--num_train_epochs", 2,
        "--disable_tqdm", "true", "--report_to", "none", *options,
    ]  # fmt: skip
    return [str(option) for option in options]


@pytest.fixture(scope="module")
def tuned(work):
    """A finished search: its folder, what it printed, and the splits that were tokenised."""
    sizes, printed = [], []
    with pytest.MonkeyPatch.context() as patch:
        tokenize = documents.tokenize_dataset

        def recording(dataset, *args, **kwargs):
            sizes.append(len(dataset))
            return tokenize(dataset, *args, **kwargs)

        def refuse(*args, **kwargs):
            raise AssertionError("a split was evaluated outside of the trials")

        patch.setattr(documents, "tokenize_dataset", recording)
        patch.setattr("hf_htc.evaluation.predictions.evaluate_model", refuse)
        patch.setattr("builtins.print", lambda *values, **kwargs: printed.append(" ".join(map(str, values))))
        options = ["--pruning", "--method_options", '{"transformation_dropout": 0.1}', "--objective", "macro_f1"]
        main(tune_options(work, work / "out", *options))
    return work / "out", "\n".join(printed), sizes


def trials_of(folder):
    return json.loads((folder / "trials.json").read_text(encoding="utf-8"))


def fails(capsys, arguments, code=1):
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == code
    return capsys.readouterr().err.rstrip("\n").split("\n")[-1]


def test_the_test_split_is_not_touched(tuned):
    folder, printed, sizes = tuned
    assert sizes == [40, 12]  # train and validation, once for all trials; the test split has 17 documents
    content = trials_of(folder)
    assert content["splits_used"] == ["train", "validation"] and set(content["scores"]) == {"validation"}
    assert "test" not in printed.split("hf-htc train")[0]


def test_files(tuned, work):
    folder, printed, _ = tuned
    # No checkpoint, no folder of a trial: only what the search is for.
    assert {path.name for path in folder.iterdir()} == {"study.db", "trials.json", "best.yaml"}
    text = (folder / "trials.json").read_text()
    assert str(work) not in text and "/tmp" not in text
    content = json.loads(text)
    assert content["seed"] == 42 and content["versions"]["torch"] and len(content["dataset"]["fingerprint"]) == 16
    assert set(content["search_space"]) == {
        "learning_rate", "classifier_learning_rate", "per_device_train_batch_size", "node_dim", "text_dropout", "prior",
        "structure_dropout", "recursive_regularization",
    }  # fmt: skip
    assert [trial["number"] for trial in content["trials"]] == list(range(TRIALS))
    values = {trial["number"]: trial["value"] for trial in content["trials"] if trial["state"] == "complete"}
    assert content["best"] == max(values, key=values.get)
    best = next(trial for trial in content["trials"] if trial["number"] == content["best"])
    assert best["value"] == best["scores"]["macro_f1"] == content["scores"]["validation"]["macro_f1"]
    assert f"macro_f1 {best['value']:.4f} on validation data" in printed
    settings = yaml.safe_load((folder / "best.yaml").read_text())
    for name, value in best["params"].items():
        assert value == (settings[name] if name in settings else settings["method_options"][name]), name
    assert settings["method_options"]["transformation_dropout"] == 0.1
    assert settings["metric_for_best_model"] == "macro_f1"  # the training keeps the epoch that the search valued


def test_the_printed_command_repeats_the_best_trial(tuned, work):
    """Learning rates, method options, label statistics and seed of a trial are those of a training: the scores are the same."""
    folder, printed, _ = tuned
    command = next(line for line in printed.splitlines() if line.startswith("hf-htc train --"))
    main(shlex.split(command)[1:])
    best = trials_of(folder)["scores"]["validation"]
    run = json.loads((folder / "best" / "run.json").read_text())
    assert run["dataset"]["fingerprint"] == trials_of(folder)["dataset"]["fingerprint"]
    for name in ("micro_f1", "macro_f1", "samples_f1"):
        assert run["scores"]["validation"][name] == pytest.approx(best[name], abs=1e-12), name
    main(["train", str(folder / "best.yaml"), "--output_dir", str(work / "again")])
    again = json.loads((work / "again" / "run.json").read_text())
    assert again["scores"] == run["scores"]


def test_an_interrupted_search_goes_on(work, tmp_path, monkeypatch, capsys):
    """Ctrl-C in the second trial: the first is kept, the second is done again with its values, then the rest follows."""
    from hf_htc.models.modeling_flat import FlatForHierarchicalTextClassification as Flat

    (tmp_path / "space.yaml").write_text("learning_rate: {type: log_uniform, low: 1e-3, high: 1e-1}\n")
    options = tune_options(work, tmp_path / "out", "--search_space", tmp_path / "space.yaml", method="flat")
    made, build = [], Flat.from_text_encoder.__func__

    def interrupted(cls, *args, **kwargs):
        made.append(kwargs)
        if len(made) == 3:  # one to set up, one a trial
            raise KeyboardInterrupt
        return build(cls, *args, **kwargs)

    monkeypatch.setattr(Flat, "from_text_encoder", classmethod(interrupted))
    with pytest.raises(SystemExit) as exit_:
        main(options)
    assert exit_.value.code == 130
    assert "Trials kept: 1. The same command goes on from them." in capsys.readouterr().out
    first = trials_of(tmp_path / "out")["trials"]
    assert [trial["state"] for trial in first] == ["complete", "cut off"]
    monkeypatch.undo()
    # A process that is killed leaves its trial running.
    study = optuna.load_study(study_name="hf_htc", storage=f"sqlite:///{tmp_path / 'out' / 'study.db'}")
    killed = study.ask({"learning_rate": optuna.distributions.FloatDistribution(1e-3, 1e-1, log=True)})
    main([*options, "--disable_tqdm", "false"])
    out = capsys.readouterr().out
    assert "Trials there already: 1." in out and "5 trials: 3 complete, 2 cut off" in out
    trials = trials_of(tmp_path / "out")["trials"]
    assert trials[0] == first[0]
    assert [trial["state"] for trial in trials] == ["complete", "cut off", "cut off", "complete", "complete"]
    assert trials[3]["params"] == first[1]["params"] and trials[3]["repeats"] == 1
    assert trials[4]["params"]["learning_rate"] == killed.params["learning_rate"] and trials[4]["repeats"] == 2
    # All trials are there: nothing is trained, the result is written anew.
    monkeypatch.setattr("transformers.Trainer.train", None)
    main(options)
    assert trials_of(tmp_path / "out")["trials"] == trials
    error = fails(capsys, [*options, "--num_train_epochs", "3"])
    assert "'study.db' was made with `num_train_epochs` 2" in error and "this run has 3" in error and "--overwrite" in error
    assert "with `objective` 'micro_f1', this run has 'samples_f1'" in fails(capsys, [*options, "--objective", "samples_f1"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--objective", "accuracy"], "`objective` is 'accuracy'; allowed are 'mean', 'micro_precision'"),
        (["--trials", "0"], "`--trials` is 0"),
        (["--resume_from_checkpoint", "true"], "`--resume_from_checkpoint` is no option of a search"),
        (["--push_to_hub", "true"], "`--push_to_hub` is no option of a search"),
        (["--loop", "accelerate"], "`--loop` is 'accelerate'"),
        (["--search_space", "none.yaml"], "no search space file 'none.yaml'"),
        (["--learning_rate", "1e-4"], "`learning_rate` has a value and an entry in the search space"),
        (["--triels", "3"], "Unknown option '--triels'. Did you mean ['--trials'"),
        (["--method", "hiagmm"], "no method 'hiagmm'"),
    ],
)
def test_errors(work, tmp_path, capsys, options, message):
    assert message in fails(capsys, tune_options(work, tmp_path / "out", *options))
    assert not (tmp_path / "out").exists()


def test_values_that_the_config_refuses_are_told_before_the_first_trial(work, tmp_path, capsys):
    (tmp_path / "space.yaml").write_text("text_dropout: {type: uniform, low: 0, high: 1.5}\n")
    error = fails(capsys, tune_options(work, tmp_path / "out", "--search_space", tmp_path / "space.yaml"))
    assert "text_dropout = 1.5, which does not work: `text_dropout` is 1.5; a dropout probability lies in [0, 1)" in error
    assert not (tmp_path / "out").exists()


def test_without_optuna_the_install_command_is_named(work, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    error = fails(capsys, tune_options(work, tmp_path / "out"))
    assert "pip install 'hf_htc[tune]'" in error


def test_help(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["tune", "--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: hf-htc tune")
    for option in ("--trials", "--timeout", "--study_file", "--objective", "--pruning", "--search_space", "--method"):
        assert f"{option} " in out
