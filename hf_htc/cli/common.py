"""What several commands share: data options, logging, loading a checkpoint, printing scores."""

import logging
import os
from dataclasses import dataclass, field, fields
from pathlib import Path

from hf_htc.cli.parsing import parse as parse
from hf_htc.hub.loading import load_checkpoint as load_checkpoint
from hf_htc.hub.loading import naming as naming
from hf_htc.models.errors import HTCError


# Options of [`DataArguments`] that name files; they are not remembered.
DATA_FILES = ("dataset", "data_dir", "train_file", "validation_file", "test_file", "taxonomy", "class_names")


@dataclass
class DataArguments:
    """Where texts, labels and taxonomy come from; the options of `load_htc_dataset`."""

    group = "data"

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

    def remember(self, checkpoint, revision=None):
        """
        Sets what is at its default to what the run of a checkpoint used (`run.json`), so that a file like the training file is
        read in the same way.

        Args:
            checkpoint (`str`): A checkpoint folder or Hub id.
            revision (`str`, *optional*): Branch, tag or commit of a Hub repository.

        Returns:
            `dict`: what was set.
        """
        settings = run_settings(checkpoint, revision)
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


@dataclass
class HubArguments:
    """How what lies on the Hub is loaded."""

    group = "model"

    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub repository."})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Let code run that lies in the repository; only of authors whom you trust."}
    )

    def options(self):
        """The keywords of `from_pretrained`, those at their defaults left out."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name)}


@dataclass
class LoadingArguments(HubArguments):
    """How a checkpoint is loaded; the options of [`load_checkpoint`]."""

    device: str | None = field(
        default=None,
        metadata={"help": "Where the model runs: 'cpu', 'cuda', 'cuda:1', 'mps'; by default on a GPU if there is one."},
    )
    dtype: str | None = field(
        default=None,
        metadata={
            "choices": ("float32", "bfloat16", "float16"),
            "help": "Precision of the weights; by default the checkpoint's.",
        },
    )


def run_settings(checkpoint, revision=None):
    """The `settings` of the run that made a checkpoint; empty where there is no `run.json`."""
    import json

    path = Path(checkpoint) / "run.json"
    if not path.is_file():
        if os.path.isdir(checkpoint):
            return {}
        path = _hub_run(checkpoint, revision)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8")) if path is not None else {}
    except (OSError, ValueError) as error:
        raise HTCError(f"The run.json of {str(checkpoint)!r} is no JSON: {error}.") from error
    settings = content.get("settings") if isinstance(content, dict) else None
    return settings if isinstance(settings, dict) else {}


def _hub_run(checkpoint, revision):
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    try:
        return hf_hub_download(str(checkpoint), "run.json", revision=revision)
    except (EntryNotFoundError, HfHubHTTPError, HFValidationError, OSError):
        return None


def set_up_logging():
    """Messages of ours, see `hf_htc.logging`, and warnings of other packages on stderr, one line each."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


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
