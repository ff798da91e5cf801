"""`hf-htc units CHECKPOINT`: how a unit method decided about one document."""

import json
from dataclasses import dataclass, field

from hf_htc.cli.common import DataArguments, LoadingArguments, load_checkpoint, parse, set_up_logging
from hf_htc.methods import METHODS
from hf_htc.models.errors import HTCError
from hf_htc.models.whole_files import write_text


@dataclass
class UnitsArguments:
    """Which document is looked at."""

    checkpoint: str = field(metadata={"positional": True, "help": lambda: f"A checkpoint folder or Hub id of {unit_methods()}."})
    text: str | None = field(default=None, metadata={"help": "A text; without one, a document of the data set."})
    split: str = field(default="test", metadata={"help": "The split of the document."})
    row: int = field(default=0, metadata={"range": "[0, inf)", "help": "Its number in the split, from 0."})
    most: int = field(
        default=8, metadata={"range": "[1, inf)", "help": "Entries printed of a unit, beside the chosen and the gold ones."}
    )
    plot: str | None = field(default=None, metadata={"help": "An image file to draw the units into."})
    output: str | None = field(default=None, metadata={"help": "A JSON file to write the units into."})


def unit_methods():
    """The methods that decide in units, in words."""
    return ", ".join(info.name for info in METHODS.values() if info.decides_in_units)


def run(arguments):
    data, loading, options = parse(
        [DataArguments, LoadingArguments, UnitsArguments],
        arguments,
        "hf-htc units",
        "Shows how a method that decides in units decided about one document: scores, thresholds, HBM's bounds.",
        "hf-htc units my_model --text 'The match went to penalties.' --plot units.png",
    )
    set_up_logging()
    from hf_htc.data import as_split
    from hf_htc.evaluation.predictions import check_same_labels
    from hf_htc.evaluation.unit_view import plot_units, unit_text, unit_view

    model, tokenizer, _ = load_checkpoint(options.checkpoint, **loading.options())
    text, labels = options.text, None
    if text is None:
        own = model.config.get_hierarchy()
        dataset, hierarchy = data.load(taxonomy=own if data.taxonomy is None else None)
        check_same_labels(own, hierarchy)
        rows = as_split(dataset, options.split)
        if not 0 <= options.row < len(rows):
            raise HTCError(f"`--row` is {options.row}; the split {options.split!r} has the rows 0 to {len(rows) - 1}.")
        text, labels = rows[options.row]["text"], rows[options.row]["labels"]
    views = unit_view(model, tokenizer, text, labels)
    print(unit_text(views, options.most))
    for file, write in ((options.plot, plot_units), (options.output, _write_json)):
        if file is not None:
            write(views, file)


def _write_json(views, path):
    write_text(path, json.dumps(views, indent=1, ensure_ascii=False) + "\n")
