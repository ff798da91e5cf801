"""The parser of all commands: places, files of options, groups, switches, and help that imports nothing heavy."""

import subprocess
import sys
from dataclasses import dataclass, field, fields

import pytest
from transformers import TrainingArguments

from hf_htc.cli.common import LoadingArguments
from hf_htc.cli.main import COMMANDS, EXIT_CODES, main
from hf_htc.cli.parsing import given_options, option_parser, parse
from hf_htc.models.errors import HTCError
from hf_htc.training import HTCTrainingArguments
from hf_htc.training.options import TrainingOptions


WITH_HELP = [[name] for name in COMMANDS if name != "data"] + [["data", "check"], ["data", "export"]]
HEAVY = ("torch", "transformers", "datasets", "accelerate", "numpy")


@dataclass
class Options:
    """Of a command that is none."""

    first: str = field(metadata={"positional": True, "help": "100 % of it."})
    second: str | None = field(default=None, metadata={"positional": True})
    count: int = field(default=3, metadata={"range": "[1, 9]"})
    kind: str | None = field(default=None, metadata={"choices": ("a", "b")})
    some_switch: bool = False
    other_switch: bool = True
    either: bool | None = None
    output_dir: str = "out"


def parsed(*arguments):
    (options,) = parse([Options], list(arguments), "hf-htc nothing")
    return options


def test_options_by_their_place_stand_anywhere():
    for arguments in (
        ["x", "y", "--count", "4"],
        ["--count", "4", "x", "y"],
        ["x", "--count=4", "--second", "y"],
        ["x", "--count", "4", "y"],
    ):
        assert (lambda o: (o.first, o.second, o.count))(parsed(*arguments)) == ("x", "y", 4)
    assert parsed("--first", "z").first == "z" and parsed("x", "--first", "z").first == "z"
    with pytest.raises(HTCError, match="Unknown option 'w'"):
        parsed("x", "y", "w")
    with pytest.raises(HTCError, match=r"Unknown option '--cuont'. Did you mean \['--count'"):
        parsed("x", "--cuont", "3")


def test_what_is_missing(capsys):
    with pytest.raises(SystemExit) as exit_:
        parsed("--count", "3")
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (
        "hf-htc nothing: the following arguments are required: --first. `hf-htc nothing --help` shows the options.\n"
    )


def test_files_of_options(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("first: x\nsecond: y\ncount: 5\nother_switch: false\nkind: b\n")
    for arguments in ([str(file)], ["--settings", str(file)], [f"--settings={file}"]):
        found = parsed(*arguments)
        assert (found.first, found.second, found.count, found.other_switch, found.kind) == ("x", "y", 5, False, "b")
    found = parsed(str(file), "z", "--count", "6", "--other_switch")
    assert (found.first, found.second, found.count, found.other_switch) == ("z", "y", 6, True)
    assert given_options([str(file), "--some-switch"], [Options], "") == {
        "first": "x", "second": "y", "count": 5, "other_switch": False, "kind": "b", "some_switch": True,
    }  # fmt: skip
    (options,) = parse([Options], [str(file)], "hf-htc nothing", first_is_settings=False)
    assert options.first == str(file)
    file.write_text("kind: c\nfirst: x\n")
    with pytest.raises(HTCError, match="`--kind` is 'c'; it is one of 'a', 'b'"):
        parsed(str(file))
    file.write_text("settings: x\n")
    with pytest.raises(HTCError, match="unknown option 'settings'"):
        parsed(str(file))


def test_switches_and_choices(capsys):
    assert (lambda o: (o.some_switch, o.other_switch, o.either))(parsed("x")) == (False, True, None)
    on = parsed("x", "--some_switch", "--no_other_switch", "--either")
    assert (on.some_switch, on.other_switch, on.either) == (True, False, True)
    off = parsed("x", "--some-switch", "no", "--other-switch", "FALSE", "--no-either")
    assert (off.some_switch, off.other_switch, off.either) == (False, False, False)
    for arguments in (["--some_switch", "perhaps"], ["--kind", "c"], ["--count", "many"]):
        with pytest.raises(SystemExit) as exit_:
            parsed("x", *arguments)
        assert exit_.value.code == 2 and arguments[0] in capsys.readouterr().err
    with pytest.raises(HTCError, match="`--count` is 10"):
        parsed("x", "--count", "10")


def test_help_has_groups_defaults_and_an_example():
    text = option_parser([Options, LoadingArguments], "hf-htc nothing", "What it does.", "hf-htc nothing x").format_help()
    assert text.startswith("usage: hf-htc nothing FIRST [SECOND] [options]\n\nWhat it does.\n")
    places = [
        text.index(part)
        for part in ("\nmodel:", "--device", "\noptions:", "--count", "\noutput:", "--output_dir", "example:\n  hf-")
    ]
    assert places == sorted(places)
    assert "100 % of it. (needed; or by its place" in " ".join(text.split())
    assert "(in [1, 9]; default: 3)" in text and "--some-switch" not in text and "FIRST" not in text.split("[options]")[1]


def test_a_type_that_the_parser_does_not_know_is_a_fault():
    @dataclass
    class Odd:
        names: list[str] | None = None

    with pytest.raises(TypeError, match="the field 'names' of a command"):
        option_parser([Odd])


@pytest.mark.parametrize("command", WITH_HELP, ids=" ".join)
def test_help_of_every_command_is_light(command):
    """A start of the command takes as long as what it imports."""
    code = (
        f"import sys, io; from hf_htc.cli.main import main\n"
        f"try: main({[*command, '--help']})\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *text, imported = done.stdout.splitlines()
    assert imported == "[]"
    assert text[0].startswith(f"usage: hf-htc {' '.join(command)}")
    assert "example:" in text and any(line.startswith(f"  hf-htc {' '.join(command)}") for line in text)


def test_data_check_imports_no_torch(tmp_path):
    (tmp_path / "train.csv").write_text("text,labels\none,a/b\ntwo,a/c\n")
    code = (
        "import sys; from hf_htc.cli.main import main\n"
        f"main(['data', 'check', '--train_file', {str(tmp_path / 'train.csv')!r}, '--path_separator', '/'])\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_short_help_of_train_is_true_of_the_trainer():
    trainer = {f.name: f for f in fields(TrainingArguments)}
    whole = {f.name: f for f in fields(HTCTrainingArguments)}
    ours = {
        "learning_rate", "classifier_learning_rate", "per_device_train_batch_size", "per_device_eval_batch_size", "warmup_steps",
        "eval_strategy", "eval_steps", "save_strategy", "save_steps", "save_total_limit", "load_best_model_at_end",
        "metric_for_best_model", "greater_is_better",
    }  # fmt: skip
    for f in fields(TrainingOptions):
        assert whole[f.name].default == f.default, f.name
        if f.name not in ours:
            assert trainer[f.name].default == f.default, f.name
    assert list(whole)[: len(trainer)] == list(trainer)  # the order of positional arguments


def test_help_all_shows_the_options_of_the_trainer(capsys):
    for command in ("train", "tune"):
        with pytest.raises(SystemExit) as exit_:
            main([command, "--help_all"])
        out = capsys.readouterr().out
        assert (
            exit_.value.code == 0 and "--lr_scheduler_type" in out and "--method" in out and "--classifier_learning_rate" in out
        )


def test_usage_states_the_exit_codes(capsys):
    main(["--help"])
    out = capsys.readouterr().out
    assert all(f"\n  {code} " in out for code in EXIT_CODES) and set(EXIT_CODES) == {0, 1, 2, 70, 130, 143}


@pytest.fixture
def loaded_with(monkeypatch):
    """The options with which transformers' Auto classes are asked to load, by their names; they load nothing."""
    asked = {}

    def record(name):
        def from_pretrained(name_or_path, **options):
            asked[name] = (name_or_path, {k: options[k] for k in ("revision", "trust_remote_code", "dtype") if k in options})
            raise OSError("nothing is loaded")

        return from_pretrained

    for name in ("AutoConfig", "AutoTokenizer", "AutoModelForSequenceClassification"):
        monkeypatch.setattr(f"transformers.{name}.from_pretrained", record(name))
    return asked


MODEL, IN_16 = "AutoModelForSequenceClassification", ["--dtype", "bfloat16"]
HUB = ["--revision", "v2", "--trust_remote_code"]


@pytest.mark.parametrize(
    ("command", "by"),
    [
        (["evaluate", "me/model", *IN_16], MODEL),
        (["predict", "me/model", "--input", "in.jsonl", "--output", "out.jsonl", *IN_16], MODEL),
        (["calibrate", "me/model", "--thresholds", "none", "--output_dir", "{new}", *IN_16], MODEL),
        (["units", "me/model", "--text", "a", *IN_16], MODEL),
        (["export", "me/model", "{new}", *IN_16], MODEL),
        (["info", "me/model"], "AutoConfig"),
        (["train", "--text_encoder", "me/model", "--output_dir", "{new}"], "AutoTokenizer"),
        (["tune", "--text_encoder", "me/model", "--output_dir", "{new}"], "AutoTokenizer"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_how_to_load_is_passed_on(command, by, loaded_with, capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        main([word.format(new=tmp_path / "new") for word in command] + HUB)
    assert exit_.value.code == 1 and "'me/model'" in capsys.readouterr().err
    expected = {"revision": "v2", "trust_remote_code": True, **({"dtype": "bfloat16"} if "--dtype" in command else {})}
    assert loaded_with[by] == ("me/model", expected)


def test_a_space_loads_as_it_is(capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        main(["demo", "me/model", "--space", str(tmp_path / "space"), "--dtype", "float16"])
    assert exit_.value.code == 1 and "`--dtype` says how the page loads the checkpoint" in capsys.readouterr().err
