"""The command line, in this process: `main([...])` on tiny files; the help in processes of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from tiny_models import make_encoder_config, make_label_sets, make_texts, make_tokenizer, make_tree
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from hf_htc import METHODS, load_htc_dataset
from hf_htc.cli.common import DataArguments, parse
from hf_htc.cli.main import COMMANDS, main
from hf_htc.cli.quickstart import SENTENCES
from hf_htc.cli.train import public_arguments
from hf_htc.models.hierarchy import LabelHierarchy
from hf_htc.models.version import __version__
from hf_htc.training import InterruptCallback
from hf_htc.training.loop_checkpoints import last_checkpoint


FAST = ["--num_train_epochs", "1", "--report_to", "none", "--disable_tqdm", "true", "--save_total_limit", "1"]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder as a user has it: an encoder with its tokenizer, data files, a taxonomy."""
    folder = tmp_path_factory.mktemp("work")
    tree = make_tree()
    tree.save(folder / "taxonomy.tsv")
    AutoModel.from_config(make_encoder_config(num_hidden_layers=1)).save_pretrained(folder / "tiny-encoder")
    make_tokenizer().save_pretrained(folder / "tiny-encoder")
    for split, size in (("train", 40), ("validation", 12), ("test", 17)):
        names = tree.decode(make_label_sets(tree, size, seed=size))
        rows = [{"text": text, "labels": row} for text, row in zip(make_texts(size, seed=size), names)]
        write_jsonl(folder / f"{split}.jsonl", rows)
        csv = "".join(f"{row['text']},{';'.join(row['labels'])}\n" for row in rows)
        (folder / f"{split}.csv").write_text("body,topics\n" + csv, encoding="utf-8")
    return folder


def data_options(work, *splits):
    splits = splits or ("train", "validation", "test")
    files = [part for split in splits for part in (f"--{split}_file", str(work / f"{split}.jsonl"))]
    return [*files, "--taxonomy", str(work / "taxonomy.tsv")]


def train_options(work, output_dir, *options):
    return [
        "train",
        *data_options(work),
        "--text_encoder",
        str(work / "tiny-encoder"),
        "--output_dir",
        str(output_dir),
        *FAST,
        *options,
    ]


@pytest.fixture(scope="module")
def checkpoint(work):
    """A trained flat model."""
    folder = work / "out" / "flat-tiny"
    main(train_options(work, folder, "--classifier_learning_rate", "0.05"))
    return folder


@pytest.fixture(scope="module")
def incoherent(checkpoint, tmp_path_factory):
    """The same with more probable labels the deeper they are."""
    model, folder = AutoModelForSequenceClassification.from_pretrained(checkpoint), tmp_path_factory.mktemp("incoherent")
    with torch.no_grad():
        model.classifier.out_proj.bias.copy_(torch.as_tensor(model.config.get_hierarchy().levels) - 2.5)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)
    return folder


def fails(capsys, arguments, code=1):
    """The one line on stderr of a command that must fail."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(list(map(str, arguments)))
    assert exit_.value.code == code
    lines = capsys.readouterr().err.rstrip("\n").split("\n")
    command = " ".join(["hf-htc", str(arguments[0])]) if str(arguments[0]) in COMMANDS else "hf-htc"
    errors = [line for line in lines if line.startswith(command)]
    assert len(errors) == 1, lines
    assert lines[-1] == errors[0]
    assert "Traceback" not in "".join(lines)
    return errors[0]


class TestHelp:
    @pytest.mark.parametrize("argument", ["--help", "--version"])
    def test_top_level_imports_nothing_heavy(self, argument):
        code = (
            "import sys; from hf_htc.cli.main import main; main(); "
            "print([m for m in ('torch', 'transformers', 'datasets', 'numpy') if m in sys.modules])"
        )
        program = f"import sys; sys.argv = ['hf-htc', {argument!r}]; {code}"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.rstrip().endswith("\n[]")
        assert __version__ in done.stdout or "usage: hf-htc COMMAND" in done.stdout

    def test_module_imports_nothing_heavy(self):
        arguments = [sys.executable, "-X", "importtime", "-m", "hf_htc", "--help"]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
        assert "hf_htc.cli.main" in imported
        assert not {"torch", "transformers", "datasets", "numpy"} & imported
        assert done.stdout.startswith("usage: hf-htc COMMAND")

    @pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
    def test_usage_lists_all_commands(self, capsys, arguments):
        main(arguments)
        out = capsys.readouterr().out
        assert all(f"\n  {name} " in out for name in COMMANDS)

    def test_version(self, capsys):
        main(["--version"])
        assert capsys.readouterr().out == f"hf_htc {__version__}\n"

    @pytest.mark.parametrize(
        "arguments, options",
        [
            (["train"], ["--method", "--text_encoder", "--train_file", "--closure", "--lora", "--classifier_learning_rate"]),
            (["evaluate"], ["--checkpoint", "--split", "--threshold", "--score_closure", "--test_file"]),
            (["compare"], ["--first", "--second", "--split", "--score_closure", "--resamples", "--seed", "--test_file"]),
            (["predict"], ["--input", "--output", "--text_column", "--top_k"]),
            (["demo"], ["--port", "--share", "--examples", "--threshold", "--decoder", "--space", "--push"]),
            (["data", "check"], ["--train_file", "--taxonomy", "--output"]),
            (["info"], ["--max_nodes"]),
            (["quickstart"], ["--output_dir", "--epochs", "--seed"]),
            (["textrcnn"], ["--output_dir", "--word_vectors", "--train_file", "--min_count", "--max_length"]),
        ],
        ids=" ".join,
    )
    def test_commands(self, capsys, arguments, options):
        with pytest.raises(SystemExit) as exit_:
            main([*arguments, "--help"])
        assert exit_.value.code == 0
        out = capsys.readouterr().out
        assert out.startswith(f"usage: hf-htc {' '.join(arguments)}")
        assert all(f"{option} " in out for option in options)

    def test_every_command_is_tested(self):
        here = {"train", "evaluate", "predict", "data", "info", "quickstart", "textrcnn"}
        assert set(COMMANDS) == here | {
            "export",
            "tune",
            "push",
            "units",
            "compare",
            "calibrate",
            "demo",
        }  # in files of their own

    def test_data(self, capsys):
        with pytest.raises(SystemExit) as exit_:
            main(["data", "--help"])
        assert exit_.value.code == 0
        assert "usage: hf-htc data check" in capsys.readouterr().out


class TestTrain:
    def test_outputs(self, checkpoint, work):
        names = {file.name for file in checkpoint.iterdir()}
        assert {
            "README.md", "run.json", "report_test.md", "report_validation.md", "predictions_test.jsonl",
            "predictions_validation.jsonl", "model.safetensors", "config.json", "tokenizer.json", "taxonomy.json",
        } <= names  # fmt: skip
        records = [json.loads(line) for line in (checkpoint / "predictions_test.jsonl").read_text().splitlines()]
        assert [record["id"] for record in records] == list(range(17))
        assert {record["checkpoint"] for record in records} == {"flat-tiny"}
        assert (checkpoint / "report_test.md").read_text().startswith("# flat on own files, test\n")

    def test_manifest(self, checkpoint, work):
        text = (checkpoint / "run.json").read_text()
        assert str(work) not in text
        assert "/tmp" not in text
        run = json.loads(text)
        assert run["command"].startswith("hf-htc train --train_file train.jsonl --validation_file validation.jsonl")
        assert run["dataset"]["name"] == "own files"
        assert run["dataset"]["documents"] == {"train": 40, "validation": 12, "test": 17}
        assert run["text_encoder"] is None  # a local folder is no public encoder
        assert run["settings"]["text_encoder"] == "tiny-encoder"
        assert run["settings"]["classifier_learning_rate"] == 0.05
        assert run["settings"]["learning_rate"] == 1e-4  # the recommendation, filled in
        assert run["settings"]["num_train_epochs"] == 1
        assert "output_dir" not in run["settings"]
        assert set(run["scores"]) == {"validation", "test"}
        assert run["log"][-1]["eval_micro_f1"] == pytest.approx(run["scores"]["validation"]["micro_f1"], abs=1e-12)
        card = (checkpoint / "README.md").read_text()
        assert str(work) not in card
        assert f"| micro-F1 | {run['scores']['test']['micro_f1']:.4f} |" in card

    def test_checkpoint_predicts_what_the_file_says(self, checkpoint, work):
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        texts = [json.loads(line)["text"] for line in (work / "test.jsonl").read_text().splitlines()]
        records = [json.loads(line) for line in (checkpoint / "predictions_test.jsonl").read_text().splitlines()]
        predicted = model.predict(texts, tokenizer)
        assert [p["labels"] for p in predicted] == [record["labels"] for record in records]

    def test_yaml(self, work, tmp_path, capsys):
        """CSV files, HiAGM and its options from a YAML file; the command line has the last word."""
        settings = {
            **{f"{split}_file": str(work / f"{split}.csv") for split in ("train", "test")},
            "taxonomy": str(work / "taxonomy.tsv"), "text_column": "body", "label_column": "topics", "label_separator": ";",
            "method": "hiagm", "method_options": {"node_dim": 6, "prior": "sibling"}, "validation_fraction": 0.25,
            "text_encoder": str(work / "tiny-encoder"), "output_dir": str(tmp_path / "out"), "max_length": 9,
            "num_train_epochs": 5, "report_to": "none", "disable_tqdm": True, "seed": 7,
        }  # fmt: skip
        text = yaml.safe_dump(settings) + "learning_rate: 2e-4\n"  # a string in YAML 1.1
        (tmp_path / "run.yaml").write_text(text)
        main(["train", str(tmp_path / "run.yaml"), "--num_train_epochs", "1"])
        out = capsys.readouterr().out
        assert "train 30, validation 10, test 17" in out
        assert "hiagm, test" in out
        run = json.loads((tmp_path / "out" / "run.json").read_text())
        assert run["command"] == "hf-htc train run.yaml --num_train_epochs 1"
        assert (run["settings"]["learning_rate"], run["settings"]["num_train_epochs"], run["seed"]) == (2e-4, 1, 7)
        assert (run["settings"]["node_dim"], run["settings"]["prior"]) == (6, "sibling")
        assert str(work) not in json.dumps(run)
        assert str(tmp_path) not in json.dumps(run)
        config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").config
        assert (config.model_type, config.node_dim, config.prior, config.max_text_length) == ("htc_hiagm", 6, "sibling", 9)

    def test_lora(self, work, tmp_path):
        output = tmp_path / "out"
        main(
            train_options(work, output, "--lora", "--lora_rank", "2", "--method", "hiagm", "--method_options", '{"node_dim": 6}')
        )
        model = AutoModelForSequenceClassification.from_pretrained(output)
        assert not [name for name, _ in model.named_parameters() if "lora" in name]
        assert not (output / "adapter_config.json").exists()
        run = json.loads((output / "run.json").read_text())
        assert (run["settings"]["lora"], run["settings"]["lora_rank"]) == (True, 2)
        encoder = AutoModel.from_pretrained(work / "tiny-encoder")
        before, after = (m.state_dict()["encoder.layer.0.attention.self.query.weight"] for m in (encoder, model.model))
        assert not before.equal(after)  # merged
        assert encoder.get_input_embeddings().weight.equal(model.get_input_embeddings().weight)  # no adapter there

    def test_resume(self, work, tmp_path, capsys):
        """Four steps at once, and two resumed to four, end with the same weights."""
        whole, resumed = tmp_path / "whole", tmp_path / "resumed"
        options = ["--max_steps", "4", "--lr_scheduler_type", "constant", "--warmup_steps", "0", "--eval_strategy", "no",
                   "--save_strategy", "steps", "--save_steps", "1", "--save_total_limit", "9",
                   "--load_best_model_at_end", "false"]  # fmt: skip
        main(train_options(work, whole, *options))
        shutil.copytree(whole, resumed)
        for step in (1, 3, 4):
            shutil.rmtree(resumed / f"checkpoint-{step}")
        (resumed / "checkpoint-9").mkdir()  # cut off while it was written
        assert last_checkpoint(resumed) == str(resumed / "checkpoint-2")
        (resumed / "model.safetensors").unlink()
        main(train_options(work, resumed, *options, "--resume_from_checkpoint", "true"))
        assert sorted(f.name for f in resumed.glob("checkpoint-*")) == [
            f"checkpoint-{n}" for n in (2, 3, 4, 9)
        ]  # not from the start
        models = [AutoModelForSequenceClassification.from_pretrained(folder).state_dict() for folder in (whole, resumed)]
        assert all(models[0][key].equal(models[1][key]) for key in models[0])
        main(train_options(work, resumed, *options, "--resume_from_checkpoint", str(resumed / "checkpoint-4")))
        assert str(tmp_path) not in (resumed / "run.json").read_text()
        error = fails(capsys, train_options(work, tmp_path / "new", *options, "--resume_from_checkpoint", "true"))
        assert "There is no whole checkpoint to resume from in" in error

    @pytest.mark.parametrize("loop, number, code", [("trainer", signal.SIGTERM, 143), ("accelerate", signal.SIGTERM, 143),
                                                    ("trainer", signal.SIGINT, 130)])  # fmt: skip
    def test_a_signal_leaves_what_goes_on(self, loop, number, code, work, tmp_path, monkeypatch, capsys):
        """SIGTERM, as a scheduler sends it, ends like Ctrl-C: a checkpoint, no half of a result, the exit code of the signal."""
        options = ["--loop", loop, "--max_steps", "4", "--per_device_train_batch_size", "8", "--eval_strategy", "no"]
        main(train_options(work, tmp_path / "whole", *options))
        on_step_end, output = InterruptCallback.on_step_end, tmp_path / "stopped"

        def stop(self, args, state, control, **kwargs):
            on_step_end(self, args, state, control, **kwargs)
            if state.global_step == 1:
                os.kill(os.getpid(), number)

        with monkeypatch.context() as patched:
            patched.setattr(InterruptCallback, "on_step_end", stop)
            with pytest.raises(SystemExit) as exit_:
                main(train_options(work, output, *options))
        assert exit_.value.code == code
        assert "go on with `--resume_from_checkpoint true`" in capsys.readouterr().err
        assert [path.name for path in output.iterdir()] == ["checkpoint-2"]
        main(train_options(work, output, *options, "--resume_from_checkpoint", "true"))
        folders = [tmp_path / name for name in ("whole", "stopped")]
        models = [AutoModelForSequenceClassification.from_pretrained(folder).state_dict() for folder in folders]
        assert all(models[0][key].equal(models[1][key]) for key in models[0])

    def test_without_validation_and_test(self, work, tmp_path, capsys):
        options = [
            "--train_file",
            str(work / "train.jsonl"),
            "--taxonomy",
            str(work / "taxonomy.tsv"),
            "--validation_fraction",
            "0",
        ]
        encoder = ["--text_encoder", str(work / "tiny-encoder")]
        main(["train", *options, *encoder, "--output_dir", str(tmp_path / "out"), *FAST])
        names = {file.name for file in (tmp_path / "out").iterdir()}
        assert {"README.md", "run.json", "model.safetensors"} <= names
        assert not [name for name in names if name.startswith(("report", "predictions"))]
        assert "## Scores" not in (tmp_path / "out" / "README.md").read_text()

    def test_public_arguments(self, tmp_path):
        folder = str(tmp_path / "data")
        assert public_arguments(
            ["run.yaml", "--train_file", f"{folder}/a.csv", f"--test_file={folder}/b.csv", "--output_dir", "~/out", "--x", "../y",
             "--hub_token", "secret", "--push_to_hub_token=secret", "--hub_model_id", "me/model", "--seed", "3"]
        ) == [
            "run.yaml", "--train_file", "a.csv", "--test_file=b.csv", "--output_dir", "out", "--x", "y",
            "--hub_token", "***", "--push_to_hub_token=***", "--hub_model_id", "me/model", "--seed", "3",
        ]  # fmt: skip

    def test_token_stays_private(self, work, tmp_path):
        main(train_options(work, tmp_path / "out", "--hub_token", "hf_secret"))
        for name in ("run.json", "README.md", "config.json"):
            assert "hf_secret" not in (tmp_path / "out" / name).read_text()


class TestTrainErrors:
    def test_missing_encoder(self, work, capsys):
        error = fails(capsys, ["train", *data_options(work)])
        assert error.startswith("hf-htc train: `--text_encoder` is missing: name a pretrained encoder, e.g.")

    def test_encoder_that_does_not_exist(self, work, capsys, tmp_path):
        for name in ("no/such-encoder", tmp_path / "none"):
            options = ["--text_encoder", name, "--output_dir", tmp_path / "out"]
            assert f"There is no text encoder '{name}' that can be loaded" in fails(
                capsys, ["train", *data_options(work), *options]
            )
        assert not (tmp_path / "out").exists()

    def test_unknown_method(self, work, capsys, tmp_path):
        error = fails(capsys, train_options(work, tmp_path / "out", "--method", "hiagn"))
        assert error == f"hf-htc train: There is no method 'hiagn'; the methods are {', '.join(METHODS)}."

    @pytest.mark.parametrize(
        "options, message",
        [
            ("{node_dim: 3}", "`--method_options` is not valid JSON"),
            ("[3]", "`--method_options` must be a JSON object"),
            ('{"node_dims": 3}', "HiAGMConfig has no option 'node_dims'. Did you mean ['node_dim'"),
            ('{"node_dim": 0}', "`node_dim` is 0"),
            ('{"prior": "x"}', "`prior` is 'x'; allowed are 'ratio', 'sibling'"),
            ('{"structure_dropout": 1}', "`structure_dropout` is 1; a dropout probability lies in [0, 1)"),
            ('{"node_dim": [1]}', "node_dim"),
        ],
    )
    def test_method_options(self, work, capsys, tmp_path, options, message):
        assert message in fails(capsys, train_options(work, tmp_path / "out", "--method", "hiagm", "--method_options", options))

    @pytest.mark.parametrize(
        "content, message",
        [
            ("learning_rat: 1e-4\n", "'run.yaml' has the unknown option 'learning_rat'. Did you mean ['learning_rate'"),
            ("- a\n- b\n", "'run.yaml' must hold `option: value` lines; it holds a list"),
            ("a: [b\n", "'run.yaml' is not valid YAML"),
        ],
    )
    def test_yaml(self, capsys, tmp_path, content, message):
        (tmp_path / "run.yaml").write_text(content)
        assert message in fails(capsys, ["train", tmp_path / "run.yaml"])

    def test_missing_yaml(self, capsys, tmp_path):
        assert "There is no settings file" in fails(capsys, ["train", tmp_path / "none.yaml"])

    def test_unknown_option(self, capsys):
        error = fails(capsys, ["train", "--learning_rates", "3"])
        assert error.startswith("hf-htc train: Unknown option '--learning_rates'. Did you mean ['--learning_rate'")

    def test_value_of_the_wrong_type(self, capsys):
        error = fails(capsys, ["train", "--num_train_epochs", "many"], code=2)
        assert "invalid float value: 'many'" in error
        assert "`hf-htc train --help` shows the options" in error

    def test_data(self, work, capsys, tmp_path):
        encoder = ["--text_encoder", work / "tiny-encoder", "--output_dir", tmp_path / "out"]
        assert "no train file" in fails(capsys, ["train", "--train_file", work / "trian.jsonl", *encoder])
        assert "Pass either `name_or_path` or files" in fails(capsys, ["train", *encoder])
        test_only = ["train", *data_options(work, "test"), *encoder]
        assert "There is no training data; the splits are ['test']" in fails(capsys, test_only)

    def test_label_smoothing(self, work, capsys, tmp_path):
        error = fails(capsys, train_options(work, tmp_path / "out", "--label_smoothing_factor", "0.1"))
        assert "`label_smoothing_factor` is 0.1" in error

    def test_lora_rank(self, work, capsys, tmp_path):
        assert "`--lora_rank` is 0" in fails(capsys, train_options(work, tmp_path / "out", "--lora", "--lora_rank", "0"))


class TestEvaluate:
    def test_scores_of_training(self, checkpoint, work, tmp_path, capsys):
        """The scores of `train`, again from the saved folder alone: its taxonomy is the data's."""
        main(["evaluate", str(checkpoint), "--test_file", str(work / "test.jsonl"), "--output_dir", str(tmp_path / "ev")])
        scores = json.loads((tmp_path / "ev" / "scores_test.json").read_text())
        assert scores == json.loads((checkpoint / "run.json").read_text())["scores"]["test"]
        out = capsys.readouterr().out
        assert f"{scores['micro_f1']:.4f}" in out
        assert "closure up, 17 documents" in out
        same = [(folder / "predictions_test.jsonl").read_text() for folder in (tmp_path / "ev", checkpoint)]
        assert same[0] == same[1]
        assert (tmp_path / "ev" / "report_test.md").read_text().startswith("# flat-tiny on own files, test\n")

    def test_results_of_another_evaluation_are_kept(self, checkpoint, work, tmp_path, capsys):
        def evaluate(*options, folder=tmp_path / "ev"):
            arguments = ["evaluate", checkpoint, "--test_file", work / "test.jsonl", "--output_dir", folder, *options]
            return [str(argument) for argument in arguments]

        def contents():
            return {file.name: file.read_bytes() for file in sorted((tmp_path / "ev").iterdir())}

        main(evaluate())
        before = contents()
        main(evaluate())  # made from the same: once more
        assert contents().keys() == before.keys()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hf_htc.models.prediction.PredictionMixin.iter_logits", None)  # told before anything is predicted
            error = fails(capsys, evaluate("--threshold", "0.9"))
            assert "'scores_test.json' was made with `threshold` None, this run has 0.9. Give `--overwrite`" in error
            assert "with `data`" in fails(capsys, evaluate("--test_file", work / "validation.jsonl"))
            shutil.copytree(checkpoint, tmp_path / "flat-tiny")
            config = json.loads((tmp_path / "flat-tiny" / "config.json").read_text())
            (tmp_path / "flat-tiny" / "config.json").write_text(json.dumps({**config, "thresholds": 0.3}))
            error = fails(capsys, [evaluate()[0], str(tmp_path / "flat-tiny"), *evaluate()[2:]])
            assert "with the model's `thresholds` None, this run has 0.3" in error
            # What nobody knows the making of: here, what the training has written.
            assert "Nothing says what 'predictions_test.jsonl' was made with" in fails(capsys, evaluate(folder=checkpoint))
        assert contents().keys() == before.keys()
        assert contents()["scores_test.json"] == before["scores_test.json"]
        main(evaluate("--threshold", "0.9", "--overwrite"))
        assert contents()["predictions_test.jsonl"] != before["predictions_test.jsonl"]
        run = [json.loads(line) for line in contents()["scores_test.json.run.jsonl"].splitlines()]
        assert run[0]["options"]["threshold"] == 0.9 and run[1:] == [{"finished": True}]

    def test_options(self, checkpoint, work, capsys):
        main(["evaluate", str(checkpoint), *data_options(work, "validation"), "--split", "validation", "--score_closure", "none",
              "--threshold", "0.0"])  # fmt: skip
        out = capsys.readouterr().out
        assert "closure none, 12 documents" in out
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
        gold = [json.loads(line)["labels"] for line in (work / "validation.jsonl").read_text().splitlines()]
        precision = sum(map(len, gold)) / (12 * model.config.num_labels)  # everything is predicted
        assert f"{2 * precision / (precision + 1):.4f}" in out

    def test_coherence(self, incoherent, work, tmp_path):
        """Decoded coherently, the labels as they are predicted score what closed ones do, in files too."""

        def scores(*options):
            folder = tmp_path / "-".join(options)
            main(["evaluate", str(incoherent), "--test_file", str(work / "test.jsonl"), "--output_dir", str(folder), *options])
            return json.loads((folder / "scores_test.json").read_text())

        open_, closed = scores("--score_closure", "none"), scores("--score_closure", "up")
        decoded = scores("--score_closure", "none", "--coherence", "decoder")
        assert open_["consistency"] < decoded["consistency"] == 1
        assert open_["micro_f1"] != decoded["micro_f1"] == closed["micro_f1"]
        assert scores("--score_closure", "none", "--coherence", "none") == open_

    def test_errors(self, checkpoint, work, capsys, tmp_path):
        test = ["--test_file", work / "test.jsonl"]
        assert "no test file" in fails(capsys, ["evaluate", checkpoint, "--test_file", work / "none.jsonl"])
        assert "`--threshold` is 1.5" in fails(capsys, ["evaluate", checkpoint, *test, "--threshold", "1.5"])
        assert "`closure` is 'down'" in fails(capsys, ["evaluate", checkpoint, *test, "--score_closure", "down"])
        assert "no split 'dev'; its splits are ['test']" in fails(capsys, ["evaluate", checkpoint, *test, "--split", "dev"])
        assert "There is no checkpoint" in fails(capsys, ["evaluate", tmp_path / "none", *test])
        assert "There is no checkpoint 'no/such-model'" in fails(capsys, ["evaluate", "no/such-model", *test])
        assert "not a model of hf_htc" in fails(capsys, ["evaluate", work / "tiny-encoder", *test])
        coherence = [*test, "--coherence", "decoder"]
        assert "not a model of hf_htc" in fails(capsys, ["evaluate", work / "tiny-encoder", *coherence])
        assert "`coherence` is 'all'; allowed are" in fails(capsys, ["evaluate", checkpoint, *coherence[:-1], "all"])
        assert "required: --checkpoint" in fails(capsys, ["evaluate", *test], code=2)
        assert list(tmp_path.iterdir()) == []

    def test_other_labels(self, checkpoint, capsys, tmp_path):
        write_jsonl(tmp_path / "test.jsonl", [{"text": "a", "labels": ["x"]}])
        (tmp_path / "taxonomy.tsv").write_text("Root\tx\n")
        data = ["--test_file", tmp_path / "test.jsonl"]
        error = fails(capsys, ["evaluate", checkpoint, *data, "--taxonomy", tmp_path / "taxonomy.tsv"])
        assert "The checkpoint has other labels than the data (13 and 1): 'x' only in the data" in error
        assert "'x'" in fails(capsys, ["evaluate", checkpoint, *data])


class TestPredict:
    def test_resumed(self, checkpoint, work, tmp_path, capsys):
        output = tmp_path / "out.jsonl"
        arguments = ["predict", str(checkpoint), "--input", str(work / "test.jsonl"), "--output", str(output), "--top_k", "2"]
        main(arguments)
        assert capsys.readouterr().out == f"17 documents predicted into {output}.\n"
        content = output.read_bytes()
        records = [json.loads(line) for line in content.splitlines()]
        expected = [json.loads(line) for line in (checkpoint / "predictions_test.jsonl").read_text().splitlines()]
        assert [record["labels"] for record in records] == [record["labels"] for record in expected]
        assert {len(record["top_k"]) for record in records} == {2}
        output.write_bytes(content[: len(content) // 2])
        main(arguments)
        assert output.read_bytes() == content
        capsys.readouterr()
        main(arguments)
        assert capsys.readouterr().out == f"Nothing to do: all 17 documents are in {output} already.\n"
        error = fails(capsys, [*arguments, "--threshold", "0.1"])
        assert "'out.jsonl' was made with `threshold` None, this run has 0.1. Give `--overwrite` to start anew" in error
        main([*arguments, "--threshold", "0.1", "--overwrite"])
        assert capsys.readouterr().out == f"17 documents predicted into {output}.\n"
        assert output.read_bytes() != content

    def test_coherence(self, incoherent, work, tmp_path):
        found = {}
        for coherence in ("none", "decoder"):
            output = tmp_path / f"{coherence}.jsonl"
            main(["predict", str(incoherent), "--input", str(work / "test.jsonl"), "--output", str(output), "--closure", "none",
                  "--coherence", coherence])  # fmt: skip
            found[coherence] = [json.loads(line)["labels"] for line in output.read_text().splitlines()]
        tree = AutoModelForSequenceClassification.from_pretrained(incoherent).config.get_hierarchy()
        sets = {coherence: tree.encode(rows) for coherence, rows in found.items()}
        assert not tree.is_closed(sets["none"])
        assert [sorted(row) for row in sets["decoder"]] == tree.close(sets["none"])

    def test_errors(self, checkpoint, work, tmp_path, capsys):
        def predict(*options, source=work / "test.jsonl", code=1):
            return fails(capsys, ["predict", checkpoint, "--input", source, "--output", tmp_path / "out.jsonl", *options], code)

        assert "There is no input file" in predict(source=tmp_path / "none.jsonl")
        assert "Line 1 of 'test.jsonl' has no column 'body'; it has ['labels', 'text']" in predict("--text_column", "body")
        assert "is not valid JSON" in predict(source=work / "test.csv")
        assert "`--threshold` is -1.0" in predict("--threshold", "-1")
        assert "`closure` is 'x'" in predict("--closure", "x")
        assert "required: --output" in fails(capsys, ["predict", checkpoint, "--input", work / "test.jsonl"], code=2)
        assert list(tmp_path.iterdir()) == []  # nothing is opened before everything is checked


class TestInfo:
    def test_versions(self, capsys):
        main(["info"])
        out = capsys.readouterr().out
        assert f"hf_htc {__version__}\n" in out
        assert "\ntorch " in out
        assert "accelerator " in out

    def test_taxonomy_file(self, work, capsys):
        main(["info", str(work / "taxonomy.tsv"), "--max_nodes", "2"])
        out = capsys.readouterr().out
        assert out.startswith("LabelHierarchy(tree of 13 labels, 3 levels)\n")
        assert "labels_per_level: [4, 6, 3]\n" in out
        assert f"fingerprint: {make_tree().fingerprint()}" not in out  # the file has no texts of its own
        assert out.endswith("sport\n├── sport/football\n... and 11 more nodes\n")

    def test_data_set_folder(self, dag, tmp_path, capsys):
        """The .json knows what is no label; the lines do not."""
        dag.save(tmp_path / "taxonomy.tsv")
        main(["info", str(tmp_path)])
        assert "DAG of 9 labels" in capsys.readouterr().out
        dag.save(tmp_path / "taxonomy.json")
        main(["info", str(tmp_path)])
        assert "DAG of 8 labels, 1 structure-only nodes" in capsys.readouterr().out

    def test_checkpoint(self, checkpoint, capsys):
        capsys.readouterr()
        main(["info", str(checkpoint)])
        captured = capsys.readouterr()
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
        sizes = model.num_parameters(), sum(p.numel() for p in model.classifier.parameters())
        assert f"htc_flat, written by hf_htc {__version__}; text encoder bert, pooling cls\n" in captured.out
        assert f"parameters: {sizes[0]:,}, classifier {sizes[1]:,}\n" in captured.out
        assert "trained on 40 documents, labels closed, 0 labels without a document\n" in captured.out
        assert "max_text_length: 24; thresholds: 0.5\n" in captured.out
        assert "does not know" not in captured.err

    def test_errors(self, work, capsys, tmp_path):
        name = "no/such-thing"
        assert f"no taxonomy file, data set folder or checkpoint '{name}'" in fails(capsys, ["info", name])
        assert f"There is no file or folder '{tmp_path}/none'" in fails(capsys, ["info", tmp_path / "none"])
        assert "is a bert checkpoint, not one of hf_htc" in fails(capsys, ["info", work / "tiny-encoder"])
        (tmp_path / "t.json").write_text("{")
        assert "t.json, line 1: is not valid JSON" in fails(capsys, ["info", tmp_path / "t.json"])
        assert "`--output` needs `--to`" in fails(capsys, ["info", tmp_path / "t.json", "--output", "x"])

    def test_a_taxonomy_in_another_form(self, tmp_path, capsys, caplog):
        (tmp_path / "t.csv").write_text("code;parent;name_en;name_de\n1;;sport;Sport\n2;1;football;Fußball\n3;;art;Kunst\n")
        main(["info", str(tmp_path / "t.csv"), "--to", "paths", "--language", "de", "--delimiter", ";", "--header"])
        assert capsys.readouterr().out == "1\tSport\n2\tSport > Fußball\n3\tKunst\n"
        assert "paths cannot hold the language and translations; json keeps everything." in caplog.text
        expected = LabelHierarchy.from_file(tmp_path / "t.csv")
        for form, name in (("skos", "t.ttl"), ("csv", "again.csv"), ("json", "t.json"), ("obo", "t.obo")):
            main(["info", str(tmp_path / "t.csv"), "--to", form, "--output", str(tmp_path / name)])
            assert f"is in '{tmp_path / name}' as {form}." in capsys.readouterr().out
            copy = LabelHierarchy.from_file(tmp_path / name)
            assert (copy.names, copy.ids, copy.texts, copy.parents) == (
                expected.names,
                expected.ids,
                expected.texts,
                expected.parents,
            )

    def test_the_root_is_kept_when_asked_for(self, tmp_path, capsys):
        (tmp_path / "t.tsv").write_text("all\ta\nall\tb\n")
        main(["info", str(tmp_path / "t.tsv")])
        assert "num_labels: 2\n" in capsys.readouterr().out
        main(["info", str(tmp_path / "t.tsv"), "--keep_root"])
        assert "num_labels: 3\n" in capsys.readouterr().out

    def test_the_taxonomy_of_a_checkpoint_in_another_form(self, checkpoint, capsys):
        main(["info", str(checkpoint), "--to", "json"])
        copy = LabelHierarchy.from_dict(json.loads(capsys.readouterr().out))
        assert (copy.names, copy.parents) == (make_tree().names, make_tree().parents)


class TestDataCheck:
    def test_good_data(self, work, capsys, tmp_path):
        main(["data", "check", *data_options(work), "--output", str(tmp_path / "new" / "report.json")])
        assert capsys.readouterr().out.startswith("# Data check\n\n0 errors, ")
        report = json.loads((tmp_path / "new" / "report.json").read_text())
        assert report["ok"]
        assert report["splits"]["train"]["documents"] == 40
        main(["data", "check", *data_options(work), "--output", str(tmp_path / "report.md")])
        assert (tmp_path / "report.md").read_text().strip() == capsys.readouterr().out.strip()

    def test_bad_data(self, work, capsys, tmp_path):
        rows = [
            {"text": "a match", "labels": ["sport"]},
            {"text": " ", "labels": ["weather"]},
            {"text": "a vote", "labels": ["politix"]},
            {"text": "a law", "labels": []},
        ]
        write_jsonl(tmp_path / "bad.jsonl", rows)
        arguments = ["data", "check", "--train_file", str(tmp_path / "bad.jsonl"), "--taxonomy", str(work / "taxonomy.tsv")]
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 1
        out = capsys.readouterr().out
        assert "* **error** `empty_text`" in out
        assert "* **error** `unknown_label`" in out
        assert "'politix'" in out
        assert "bad.jsonl, line 3" in out
        assert "* **error** `no_labels`" in out

    def test_several_columns(self, capsys, tmp_path):
        (tmp_path / "train.csv").write_text("text,first,second\na,sport,tennis\nb,sport,chess\nc,weather,\n")
        main(["data", "check", "--train_file", str(tmp_path / "train.csv"), "--label_column", "first,second"])
        assert "* tree of 4 labels (4 nodes) on 2 levels: 2-2" in capsys.readouterr().out
        settings = {"train_file": str(tmp_path / "train.csv"), "label_column": ["first", "second"]}
        (tmp_path / "check.yaml").write_text(yaml.safe_dump(settings))
        main(["data", "check", str(tmp_path / "check.yaml")])
        assert "* tree of 4 labels (4 nodes) on 2 levels: 2-2" in capsys.readouterr().out

    def test_a_data_set_of_the_papers(self, capsys, tmp_path):
        """Made from its original files; where they lie is no public knowledge, which variant it is, is."""
        queries = {part: [[f"{part} query", "transfer"]] for part in ("train", "val", "test")}
        (tmp_path / "data_full.json").write_text(json.dumps({**queries, **{f"oos_{p}": [[f"{p} ?", "oos"]] for p in queries}}))
        (tmp_path / "domains.json").write_text(json.dumps({"banking": ["transfer"]}))
        options = ["--dataset", "clinc150", "--data_dir", str(tmp_path), "--config_name", "with_oos"]
        main(["data", "check", *options])
        assert "* tree of 3 labels (3 nodes) on 2 levels: 2-1" in capsys.readouterr().out
        (data,) = parse([DataArguments], options, "hf-htc", "")
        assert data.load().hierarchy.num_labels == 3
        assert data.settings() == {"config_name": "with_oos"} and data.name() == "clinc150"

    def test_errors(self, capsys, tmp_path):
        assert "no train file" in fails(capsys, ["data", "check", "--train_file", tmp_path / "none.jsonl"])
        assert "there is no command 'chekc'; the commands are check" in fails(capsys, ["data", "chekc"], code=2)


def test_quickstart(work, tmp_path, capfd):
    """Two models, a linear one beside them, a checkpoint that a new process loads and predicts with."""
    loaded = load_htc_dataset(**{f"{s}_file": work / f"{s}.jsonl" for s in ("train", "test")}, taxonomy=work / "taxonomy.tsv")
    loaded.save(tmp_path / "tiny-data")
    output = tmp_path / "out"
    main(["quickstart", "--dataset", str(tmp_path / "tiny-data"), "--epochs", "1", "--output_dir", str(output)])
    out = capfd.readouterr().out
    scores, reloaded = out.split("Test scores (closure up):")[1].split("Reloaded in a new process")
    run = json.loads((output / "run.json").read_text())
    names = [line.split("  ")[0] for line in scores.split("\n\nSaved to")[0].strip().split("\n")[1:]]
    assert names == ["flat", "hiagm", "TF-IDF + linear SVM"]
    assert f"{run['scores']['test']['micro_f1']:.4f}" in scores
    assert all(sentence in reloaded for sentence in SENTENCES)
    assert set(run["comparison"]) == set(names)
    assert run["dataset"]["name"] == "tiny-data"
    for file in ("README.md", "run.json", "report_test.md", "config.json", "tokenizer_config.json"):
        assert str(tmp_path) not in (output / file).read_text(), file


def test_weights_spread_by_fsdp_need_the_accelerate_loop(work, tmp_path, monkeypatch, capsys):
    from types import SimpleNamespace

    monkeypatch.setattr("hf_htc.training.build_trainer", lambda *args, **kwargs: SimpleNamespace(is_fsdp_enabled=True))
    assert "--loop accelerate" in fails(capsys, train_options(work, tmp_path / "out"))


def test_textrcnn_builds_an_encoder_that_train_takes(work, tmp_path, capsys):
    encoder, output = tmp_path / "textrcnn", tmp_path / "out"
    options = ["--embedding_size", "8", "--num_filters", "4", "--gru_hidden_size", "3", "--min_count", "1", "--max_length", "9"]
    main(["textrcnn", *data_options(work), "--output_dir", str(encoder), *options])
    assert "Saved to" in capsys.readouterr().out
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    assert tokenizer.model_max_length == 9 and "match" in tokenizer.get_vocab()
    arguments = train_options(work, output, "--method", "hiagm", "--method_options", '{"node_dim": 4, "variant": "la"}')
    arguments[arguments.index("--text_encoder") + 1] = str(encoder)
    main(arguments)
    run = json.loads((output / "run.json").read_text())
    assert float(run["settings"]["learning_rate"]) == 2e-3  # the encoder's own recommendation
    model = AutoModelForSequenceClassification.from_pretrained(output)
    assert model.config.text_config.model_type == "htc_textrcnn" and model.config.max_text_length == 9
    assert len(model.predict("the match", tokenizer, top_k=2)["labels"]) == 2
    capsys.readouterr()
    assert "`--output_dir` is missing" in fails(capsys, ["textrcnn", *data_options(work)])
    missing = ["textrcnn", *data_options(work), "--output_dir", str(tmp_path / "no"), "--word_vectors", "none.txt"]
    assert "There is no file of word vectors 'none.txt'" in fails(capsys, missing)
    assert not (tmp_path / "no").exists()
    assert "There is no training data" in fails(capsys, ["textrcnn", *data_options(work, "test"), "--output_dir", str(tmp_path)])


class TestEntryPoint:
    def test_unknown_command(self, capsys):
        error = fails(capsys, ["trian"], code=2)
        assert error == "hf-htc: there is no command 'trian'; the commands are " + ", ".join(COMMANDS) + "."

    def test_traceback_on_request(self, monkeypatch):
        monkeypatch.setenv("HF_HTC_TRACEBACK", "1")
        with pytest.raises(ValueError, match="`--text_encoder` is missing"):
            main(["train"])

    @pytest.mark.parametrize("bug", [KeyError("a bug"), TypeError("a bug"), ValueError("a bug"), RuntimeError("a bug")])
    def test_a_bug_is_shown_as_a_bug(self, work, monkeypatch, capsys, bug):
        def show(*arguments):
            raise bug

        monkeypatch.setattr("hf_htc.cli.info.show_hierarchy", show)
        with pytest.raises(SystemExit) as exit_:
            main(["info", str(work / "taxonomy.tsv")])
        error = capsys.readouterr().err
        assert exit_.value.code == 70
        assert "Traceback" in error and "a bug" in error and "fault of hf_htc" in error.splitlines()[-1]

    def test_what_the_system_refuses_is_no_bug(self, work, monkeypatch, capsys):
        def show(*arguments):
            raise OSError(28, "No space left on device", "out.json")

        monkeypatch.setattr("hf_htc.cli.info.show_hierarchy", show)
        assert fails(capsys, ["info", work / "taxonomy.tsv"]) == "hf-htc info: 'out.json': No space left on device."

    def test_interrupted(self, monkeypatch, capsys):
        def interrupt(arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr("hf_htc.cli.info.run", interrupt)
        with pytest.raises(SystemExit) as exit_:
            main(["info"])
        assert exit_.value.code == 130
        assert capsys.readouterr().err == "hf-htc: interrupted.\n"
