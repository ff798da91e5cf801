"""`hf-htc data check`: what is wrong or odd in a data set."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from hf_htc.cli.common import DataArguments, parse, set_up_logging


USAGE = """usage: hf-htc data check [options]

Reports unknown labels, missing ancestors, empty texts, duplicates within and across splits, conflicting duplicates, labels
without training data, depth statistics. `hf-htc data check --help` shows the options."""


@dataclass
class CheckArguments:
    """Where the findings go."""

    output: str | None = field(default=None, metadata={"help": "Also write them to this .json or .md file."})


def run(arguments):
    if arguments[:1] != ["check"]:
        is_help = arguments[:1] in ([], ["-h"], ["--help"])
        if not is_help:
            print(f"hf-htc data: there is no command {arguments[0]!r}; the command is check.", file=sys.stderr)
        else:
            print(USAGE)
        sys.exit(0 if is_help else 2)
    data, options = parse(
        [DataArguments, CheckArguments],
        arguments[1:],
        "hf-htc data check",
        "Reports what is wrong or odd in a data set.",
    )
    set_up_logging()
    report = check(data)
    print(report.to_markdown())
    if options.output is not None:
        path = Path(options.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) if path.suffix == ".json" else report.to_markdown()
        path.write_text(text + "\n", encoding="utf-8")
    if not report.ok:
        sys.exit(1)


def check(data):
    """The [`DatasetReport`] of the data options, without stopping at the first error."""
    from hf_htc.data import check_files

    return check_files(
        data.dataset,
        train_file=data.train_file,
        validation_file=data.validation_file,
        test_file=data.test_file,
        taxonomy=data.taxonomy,
        text_column=data.text_column,
        label_column=data.label_columns(),
        label_separator=data.label_separator,
        path_separator=data.path_separator,
        config_name=data.config_name,
        data_dir=data.data_dir,
    )
