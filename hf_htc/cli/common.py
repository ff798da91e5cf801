"""What several commands share: data options, YAML files, logging, loading a checkpoint, printing scores."""

import argparse
import copy
import difflib
import logging
import os
from dataclasses import dataclass, field, fields
from pathlib import Path

from hf_htc.hub.loading import load_checkpoint as load_checkpoint
from hf_htc.hub.loading import naming as naming
from hf_htc.models.errors import HTCError, HTCFileNotFoundError, check_number, refusing


# Options of [`DataArguments`] that name files; they are not remembered.
DATA_FILES = ("dataset", "data_dir", "train_file", "validation_file", "test_file", "taxonomy", "class_names")


@dataclass
class DataArguments:
    """Where texts, labels and taxonomy come from; the options of `load_htc_dataset`."""

    dataset: str | None = field(
        default=None,
        metadata={"help": "A built-in data set ('python_docs', 'wos', 'rcv1', ...), a data set folder, or a Hub id."},
    )
    data_dir: str | None = field(
        default=None,
        metadata={"help": "The folder or archive with the original files of a built-in data set; or a sub-folder of a data set."},
    )
    config_name: str | None = field(
        default=None, metadata={"help": "The variant of a built-in data set ('145' of 'wos'), or a configuration."}
    )
    train_file: str | None = field(
        default=None,
        metadata={
            "help": "Own training file of any kind, told by its content: CSV and other tables, JSON lines, JSON, fastText lines, "
            "Parquet, Arrow, Excel, exports of Label Studio and doccano; also packed (.gz, .zip, .zst)."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "Own validation file."})
    test_file: str | None = field(default=None, metadata={"help": "Own test file."})
    taxonomy: str | None = field(
        default=None, metadata={"help": "Taxonomy file of any form: edges, paths, levels, JSON, SKOS, ..."}
    )
    text_column: str = field(
        default="text", metadata={"help": "Column of the texts, or several, comma-separated, which are joined."}
    )
    label_column: str = field(
        default="labels",
        metadata={
            "help": "Column of the labels, or several, comma-separated: the levels of a path, or columns of 0 and 1. Given "
            "several "
            "times, each is a path of its own: --label_column a1,a2 --label_column b1,b2."
        },
    )
    label_separator: str | None = field(default=None, metadata={"help": "Splits a string into labels, e.g. ';'."})
    path_separator: str | None = field(
        default=None,
        metadata={
            "help": "The labels are paths, e.g. '/' for 'sport/football'; recognised where there is no taxonomy. 'none': no "
            "paths."
        },
    )
    class_names: str | None = field(
        default=None,
        metadata={"help": "File with the names of labels that are numbers: one per line, from 0; or JSON, or a table."},
    )
    labels: str = field(default="all", metadata={"help": "'all' nodes of the taxonomy are labels, or those 'used' in the data."})
    closure: str | None = field(default=None, metadata={"help": "'up' adds the ancestors of every label."})
    delimiter: str | None = field(
        default=None,
        metadata={"help": "What parts the columns of a text table: a character, or 'tab', 'semicolon', ...; recognised."},
    )
    encoding: str | None = field(default=None, metadata={"help": "Encoding of text files, e.g. 'cp1252'; recognised."})
    quoting: str | None = field(
        default=None,
        metadata={"help": "'quotes': fields in double quotes may hold delimiters; 'none': quotes are characters; recognised."},
    )
    header: str | None = field(
        default=None,
        metadata={
            "help": "'yes' or 'no': whether the first line names the columns, which are else called 1, 2, ...; recognised."
        },
    )
    missing_values: str | None = field(
        default=None,
        metadata={"help": "What stands for a missing level, comma-separated; by default nan, N/A, unknown, - and the like."},
    )
    level_gaps: str = field(
        default="refuse", metadata={"help": "'close' takes the filled levels as the path where one between them is empty."}
    )
    skip_bad_rows: bool = field(
        default=False, metadata={"help": "Leave out rows that cannot be read or have malformed labels; they are counted."}
    )
    skip_empty_texts: bool = field(default=False, metadata={"help": "Leave out rows without a text; they are counted."})
    allow_unlabelled: bool = field(
        default=False, metadata={"help": "Keep rows without labels; test files need no column of labels then."}
    )
    language: str | None = field(default=None, metadata={"help": "Language of the taxonomy's texts, where it has several."})
    keep_root: bool = field(default=False, metadata={"help": "Keep a node above all others of the taxonomy as a label."})
    validation_fraction: float = field(
        default=0.1, metadata={"range": "[0, 1)", "help": "Share of the training data for validation where there is none."}
    )

    def options(self):
        """The keywords of `load_htc_dataset`, and of `check_files`."""
        options = {f.name: getattr(self, f.name) for f in fields(DataArguments)}
        options["name_or_path"] = options.pop("dataset")
        return options

    def load(self, seed=42, taxonomy=None, unknown_labels="refuse"):
        """The [`HTCDataset`] of these options; `taxonomy`, a [`LabelHierarchy`], takes the place of theirs."""
        from hf_htc.data import load_htc_dataset

        options = self.options()
        if taxonomy is not None:
            options["taxonomy"], options["labels"] = taxonomy, "all"
        return load_htc_dataset(seed=seed, unknown_labels=unknown_labels, **options)

    def settings(self):
        """How the data was read, where that differs from the defaults; no files."""
        own = [f for f in fields(DataArguments) if f.name not in DATA_FILES]
        return {f.name: getattr(self, f.name) for f in own if getattr(self, f.name) != f.default}

    def remember(self, checkpoint):
        """
        Sets what is at its default to what the run of a checkpoint used (`run.json`), so that a file like the training file is
        read in the same way.

        Args:
            checkpoint (`str`): A checkpoint folder or Hub id.

        Returns:
            `dict`: what was set.
        """
        settings = run_settings(checkpoint)
        # These say which documents and labels a run had, not how a file is read.
        others = (
            *DATA_FILES,
            "config_name",
            "labels",
            "validation_fraction",
            "skip_bad_rows",
            "skip_empty_texts",
            "allow_unlabelled",
        )
        remembered = {}
        for f in fields(DataArguments):
            if f.name in settings and f.name not in others and getattr(self, f.name) == f.default:
                remembered[f.name] = settings[f.name]
                setattr(self, f.name, settings[f.name])
        return remembered

    def name(self):
        """What a card calls the data: a public name, never a local path."""
        if self.dataset is None:
            return "own files"
        return Path(self.dataset).name if os.path.exists(self.dataset) else self.dataset


def run_settings(checkpoint):
    """The `settings` of the run that made a checkpoint; empty where there is no `run.json`."""
    import json

    path = Path(checkpoint) / "run.json"
    if not path.is_file():
        if os.path.isdir(checkpoint):
            return {}
        path = _hub_run(checkpoint)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8")) if path is not None else {}
    except (OSError, ValueError) as error:
        raise HTCError(f"The run.json of {str(checkpoint)!r} is no JSON: {error}.") from error
    settings = content.get("settings") if isinstance(content, dict) else None
    return settings if isinstance(settings, dict) else {}


def _hub_run(checkpoint):
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    try:
        return hf_hub_download(str(checkpoint), "run.json")
    except (EntryNotFoundError, HfHubHTTPError, HFValidationError, OSError):
        return None


def join_repeated(arguments, option):
    """Arguments in which an option that is given several times stands once, its values joined by `;`."""
    values, others, place = [], [], None
    arguments = iter(arguments)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name != option:
            others.append(argument)
            continue
        place = len(others) if place is None else place
        value = value if equals else next(arguments, None)
        if value is None:
            return [*others, option]  # the parser says what is missing
        values.append(value)
    return others if place is None else [*others[:place], f"{option}={';'.join(values)}", *others[place:]]


def option_parser(dataclasses, **options):
    """
    The parser of the options of dataclasses.

    Args:
        dataclasses (`list[type]`): A numeric field has its range in its metadata, in the notation of mathematics:
            `"range": "[1, inf)"`; [`parse`] checks it.
        options: Of `HfArgumentParser`.
    """
    from transformers import HfArgumentParser

    class Parser(HfArgumentParser):
        def error(self, message):  # in one line, without a hundred options of the Trainer before it
            dashes = " (a value that begins with - is given as --option=value)" if "expected one argument" in message else ""
            self.exit(2, f"{self.prog}: {message}{dashes}. `{self.prog} --help` shows the options.\n")

        def _get_values(self, action, arg_strings):
            if arg_strings == ["--"] and action.nargs is None:  # argparse would drop it: `--path_separator=--`
                return self._get_value(action, "--")
            return super()._get_values(action, arg_strings)

        @staticmethod
        def _parse_dataclass_field(parser, field):
            if "range" in field.metadata:  # ours; argparse would refuse it
                field = copy.copy(field)
                field.metadata = {key: value for key, value in field.metadata.items() if key != "range"}
            HfArgumentParser._parse_dataclass_field(parser, field)
            action = parser._option_string_actions[f"--{field.name}"]
            if field.type == bool | None and action.nargs is None:  # `--option` alone means yes, as for other switches
                action.nargs, action.const = "?", True

    # An abbreviation that is right today would be another option tomorrow.
    return Parser(dataclasses, allow_abbrev=False, **options)


def parse(dataclasses, arguments, program, description):
    """
    Instances of the dataclasses from the command line; `config.yaml` as first argument gives defaults.

    Raises:
        [`HTCError`]: an option that is none (close names are given), a number out of its range. `SystemExit`: a value of the
        wrong type.
    """
    parser = option_parser(dataclasses, prog=program, description=description)
    arguments = join_repeated(_yaml_defaults(parser, arguments), "--label_column")
    try:
        *instances, rest = parser.parse_args_into_dataclasses(arguments, return_remaining_strings=True)
    except HTCError:
        raise
    except (ValueError, TypeError, ImportError) as error:  # of `TrainingArguments`
        raise HTCError(" ".join(str(error).split())) from error
    if rest:
        close = difflib.get_close_matches(rest[0].split("=")[0], list(parser._option_string_actions), n=3)
        raise HTCError(f"Unknown option {rest[0]!r}." + (f" Did you mean {close}?" if close else "") + " See `--help`.")
    for instance in instances:
        for f in fields(instance):
            value = getattr(instance, f.name)
            if "range" in f.metadata and value is not None:
                check_number(f"--{f.name}", value, f.metadata["range"], whole=isinstance(value, int))
    return instances


def _yaml_defaults(parser, arguments):
    """Takes a YAML file, given as first argument, as the parser's defaults; returns the other arguments."""
    if arguments and not arguments[0].startswith("-") and arguments[0].endswith((".yaml", ".yml")):
        parser.set_defaults(**read_yaml(arguments[0], {action.dest for action in parser._actions}))
        return arguments[1:]
    return arguments


def given_options(arguments, dataclasses, program):
    """The options that the command line, or its YAML file, gives a value, `dict` by name; unknown ones are left to [`parse`]."""
    parser = option_parser(dataclasses, prog=program)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    arguments = join_repeated(_yaml_defaults(parser, arguments), "--label_column")
    given = vars(parser.parse_known_args(arguments)[0])
    return {name: value for name, value in given.items() if value is not None}


def read_yaml(path, known):
    """The settings of a YAML file. Raises `ValueError` for a key that is no option (close names are given)."""
    import yaml

    if not os.path.isfile(path):
        raise HTCFileNotFoundError(f"There is no settings file {path!r}.")
    errors = (yaml.YAMLError, UnicodeDecodeError, RecursionError)
    with open(path, encoding="utf-8") as stream, refusing(f"{Path(path).name!r} is not valid YAML", errors):
        content = yaml.safe_load(stream) or {}
    if not isinstance(content, dict):
        raise HTCError(f"{Path(path).name!r} must hold `option: value` lines; it holds a {type(content).__name__}.")
    for key in content:
        if key not in known:
            close = difflib.get_close_matches(str(key), sorted(known), n=3)
            raise HTCError(f"{Path(path).name!r} has the unknown option {key!r}." + (f" Did you mean {close}?" if close else ""))
    # Numbers such as 1e-4 are strings in YAML 1.1; argparse converts string defaults by the option's type.
    return {key: str(value) if isinstance(value, float) else value for key, value in content.items()}


def set_up_logging():
    """Messages of ours and of transformers on stderr, one line each."""
    from transformers.utils import logging as transformers_logging

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("hf_htc").setLevel(logging.INFO)
    transformers_logging.set_verbosity_warning()


COHERENCE_HELP = (
    "'decoder' gives every label the largest score among itself and its descendants, so that none is predicted without its "
    "ancestors; 'none' takes that out; by default as the checkpoint has it."
)


DECODER_HELP = (
    "How scores become labels: 'threshold', 'top_down' (only with a predicted path above), 'coherent' (with all ancestors), "
    "'single_path', 'one_per_level' or 'expected_f' (the closed set of the largest expected F1)."
)


def score_table(rows):
    """A text table of scores: `rows` are (name, scores) pairs, one column a score."""
    names = ["micro_f1", "macro_f1", "samples_f1"]
    levels = sorted(
        {int(key.split("_")[1]) for _, scores in rows for key in scores if key.startswith("level_") and key.endswith("micro_f1")}
    )
    names += [f"level_{level}_micro_f1" for level in levels]
    head = ["", "micro-F1", "macro-F1", "samples-F1", *(f"level {level}" for level in levels)]
    cells = [[name, *(f"{scores[key]:.4f}" if key in scores else "-" for key in names)] for name, scores in rows]
    widths = [max(len(row[i]) for row in [head, *cells]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        for row in [head, *cells]
    )
