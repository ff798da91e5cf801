"""`hf-htc data check`: what is wrong or odd in a data set; `hf-htc data export`: the data set in the Hub's layout."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from hf_htc.cli.common import DataArguments, parse, set_up_logging
from hf_htc.cli.parsing import pick
from hf_htc.models.errors import HTCFileNotFoundError
from hf_htc.models.whole_files import new_folder, write_text


USAGE = """usage: hf-htc data check | export [options]

check   reports unknown labels, missing ancestors, empty texts, duplicates within and across splits, conflicting duplicates,
        labels without training data, depth statistics.
export  writes parquet files, the taxonomy and a README with statistics, licence and citation, and pushes them to the Hub.

`hf-htc data check --help` and `hf-htc data export --help` show the options."""


@dataclass
class CheckArguments:
    """Where the findings go."""

    output: str | None = field(default=None, metadata={"help": "Also write them to this .json or .md file."})


@dataclass
class ExportArguments:
    """Where the data set goes and what is said of it."""

    group = "output"

    output_dir: str = field(metadata={"help": "A new folder."})
    title: str | None = field(default=None, metadata={"help": "What the README calls it; by default the folder's name."})
    license: str | None = field(default=None, metadata={"help": "The Hub's identifier, e.g. 'cc-by-4.0', or words of your own."})
    citation: str | None = field(default=None, metadata={"help": "A BibTeX file."})
    description: str | None = field(default=None, metadata={"help": "A paragraph about the data."})
    push: str | None = field(default=None, metadata={"help": "Also push it to this data set repository, e.g. 'me/news'."})
    private: bool = field(default=False, metadata={"help": "Whether a new repository is private."})


def run(arguments):
    commands = {"check": run_check, "export": run_export}
    if arguments[:1] in ([], ["-h"], ["--help"]):
        print(USAGE)
        sys.exit(0)
    pick(commands, arguments[0], "hf-htc data")(arguments[1:])


def run_export(arguments):
    data, options = parse(
        [DataArguments, ExportArguments],
        arguments,
        "hf-htc data export",
        "Writes a data set in the Hub's layout: `load_dataset` and `load_htc_dataset` read it.",
        "hf-htc data export --train_file train.csv --output_dir my_data --license cc-by-4.0",
    )
    set_up_logging()
    citation = None
    if options.citation is not None:
        if not Path(options.citation).is_file():
            raise HTCFileNotFoundError(f"There is no citation file {options.citation!r}.")
        citation = Path(options.citation).read_text(encoding="utf-8")
    from hf_htc.hub import push_dataset
    from hf_htc.hub.dataset_card import describe_dataset
    from hf_htc.hub.local_paths import remove_local_paths

    loaded, folder = data.load(), Path(options.output_dir)
    own_name = folder.resolve().name
    title = f"# {options.title or own_name}"
    description = title if options.description is None else f"{title}\n\n{options.description}"
    given = (data.dataset, data.train_file, data.validation_file, data.test_file, data.taxonomy, data.data_dir, folder)
    with new_folder(folder) as partial:
        loaded.save(partial)
        describe_dataset(partial / "README.md", loaded, options.push or own_name, options.license, citation, description)
        remove_local_paths(partial, [path for path in given if path is not None and Path(path).exists()] + [partial])
    sizes = ", ".join(f"{split} {len(rows):,}" for split, rows in loaded.dataset.items())
    print(f"{loaded.hierarchy}; {sizes}; fingerprint {loaded.fingerprint}\nWritten to {folder}.")
    if options.push is not None:
        print(f"Pushed to {push_dataset(folder, options.push, options.private or None).repo_url}.")


def run_check(arguments):
    data, options = parse(
        [DataArguments, CheckArguments],
        arguments,
        "hf-htc data check",
        "Reports what is wrong or odd in a data set.",
        "hf-htc data check --train_file train.csv --taxonomy taxonomy.csv --output findings.md",
    )
    set_up_logging()
    report = check(data)
    print(report.to_markdown())
    if options.output is not None:
        is_json = options.output.endswith(".json")
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) if is_json else report.to_markdown()
        write_text(options.output, text + "\n")
    if not report.ok:
        sys.exit(1)


def check(data):
    """The [`DatasetReport`] of the data options, without stopping at the first error."""
    from hf_htc.data import check_files

    return check_files(**data.options())
