"""`hf-htc info`: shows a taxonomy file or a checkpoint, or writes its taxonomy in another form."""

import os
import sys
from dataclasses import dataclass, field

from hf_htc.cli.common import HubArguments, naming, parse, set_up_logging
from hf_htc.models.errors import HTCError, HTCFileNotFoundError


FORMS = ("skos", "csv", "json", "paths", "obo")


@dataclass
class InfoArguments:
    """What is shown, and in which form."""

    name: str | None = field(
        default=None,
        metadata={"positional": True, "help": "A taxonomy file, a data set folder, a checkpoint folder or a Hub id."},
    )
    max_nodes: int = field(default=40, metadata={"range": "[1, inf)", "help": "Lines of the printed tree."})
    to: str | None = field(default=None, metadata={"choices": FORMS, "help": "Form in which the taxonomy is written."})
    output: str | None = field(default=None, metadata={"help": "File for `--to`; by default it is printed."})
    language: str | None = field(default=None, metadata={"help": "Language of the texts, where the taxonomy has several."})


@dataclass
class ReadingArguments:
    """How a taxonomy file is read, where it is not recognised."""

    group = "data"

    format: str | None = field(
        default=None, metadata={"help": "Form of the file: table, edges, paths, indented, json, skos or obo; recognised."}
    )
    separator: str | None = field(
        default=None, metadata={"help": "What joins the segments of a path, e.g. '--separator=--'; recognised."}
    )
    encoding: str | None = field(default=None, metadata={"help": "Encoding of the file, e.g. 'cp1252'; recognised."})
    delimiter: str | None = field(default=None, metadata={"help": "What splits the columns, e.g. ';' or 'tab'; recognised."})
    header: bool | None = field(default=None, metadata={"help": "Whether the first line names the columns; recognised."})
    root: str | None = field(default=None, metadata={"help": "Name of the root, which is no label."})
    keep_root: bool = field(default=False, metadata={"help": "Keep a node above all others as a label."})


def run(arguments):
    options, reading, hub = parse(
        [InfoArguments, ReadingArguments, HubArguments],
        arguments,
        "hf-htc info",
        "Shows a taxonomy or a checkpoint, or writes its taxonomy in another form; without a name, versions.",
        "hf-htc info taxonomy.csv --to skos --output taxonomy.ttl",
        first_is_settings=False,  # a taxonomy may be a YAML file
    )
    if options.output is not None and options.to is None:
        raise HTCError("`--output` needs `--to`, the form to write: skos, csv, json, paths or obo.", field="output")
    set_up_logging()
    if options.name is None:
        from hf_htc.training.manifest import accelerator_name, versions

        print("\n".join(f"{name} {version}" for name, version in versions().items()))
        print(f"accelerator {accelerator_name()}")
        return
    file = _taxonomy_file(options.name)
    if options.to is not None:
        _write(_read(file, options, reading) if file else _of_checkpoint(options, hub.options()), options)
    elif file is not None:
        show_hierarchy(_read(file, options, reading), options.max_nodes)
    else:
        show_checkpoint(options.name, options.max_nodes, options.language, hub.options())


def _taxonomy_file(name):
    """The file itself, or the taxonomy of a data set folder; `None` for a checkpoint."""
    if os.path.isfile(name):
        return name
    if os.path.isdir(name) and not os.path.exists(os.path.join(name, "config.json")):
        # As `load_htc_dataset` does: the lines of the .tsv lack texts and structure-only nodes.
        files = (os.path.join(name, file) for file in ("taxonomy.json", "taxonomy.tsv"))
        return next(filter(os.path.exists, files), None)
    return None


def _read(path, options, reading):
    from hf_htc.models.hierarchy import LabelHierarchy

    keywords = {key: getattr(reading, key) for key in ("format", "separator", "encoding", "delimiter", "header")}
    root = False if reading.keep_root else reading.root
    return LabelHierarchy.from_file(path, root=root, language=options.language, **keywords)


def _of_checkpoint(options, hub):
    hierarchy = _config(options.name, hub).get_hierarchy()
    return hierarchy if options.language is None else hierarchy.in_language(options.language)


def _write(hierarchy, options):
    from hf_htc.data.taxonomies_writing import taxonomy_text

    if options.output is None:
        sys.stdout.write(taxonomy_text(hierarchy, options.to))
    else:
        hierarchy.save(options.output, options.to)
        print(f"{hierarchy} is in {options.output!r} as {options.to}.")


def show_hierarchy(hierarchy, max_nodes):
    print(hierarchy)
    for key, value in hierarchy.statistics().items():
        print(f"{key}: {value}")
    print(f"fingerprint: {hierarchy.fingerprint()}\n")
    print(hierarchy.tree(max_nodes))


def _config(name, hub):
    from transformers import AutoConfig

    if os.path.sep in name and not os.path.isdir(name) and name.count("/") != 1:
        raise HTCFileNotFoundError(f"There is no file or folder {name!r}.")
    with naming("taxonomy file, data set folder or checkpoint", name):
        config = AutoConfig.from_pretrained(name, **hub)
    if not hasattr(config, "get_hierarchy"):
        raise HTCError(f"{name!r} is a {config.model_type} checkpoint, not one of hf_htc.")
    return config


def show_checkpoint(name, max_nodes, language, hub):
    """Prints method, size, settings, training labels and taxonomy of a checkpoint."""
    config = _config(name, hub)
    print(
        f"{config.model_type}, written by hf_htc {config.hf_htc_version}; text encoder {config.text_config.model_type}, "
        f"pooling {config.pooling}"
    )
    weights = os.path.join(name, "model.safetensors")
    if os.path.exists(weights):
        from safetensors import safe_open

        with safe_open(weights, "pt") as file:
            sizes = {key: _size(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118, not a dict
        classifier = sum(size for key, size in sizes.items() if key.startswith("classifier"))
        print(f"parameters: {sum(sizes.values()):,}, classifier {classifier:,}")
    if config.label_counts is not None:
        unseen = sum(count == 0 for count in config.label_counts)
        print(
            f"trained on {config.num_train_documents:,} documents, labels {config.label_closure}, "
            f"{unseen:,} labels without a document"
        )
    print(f"max_text_length: {config.max_text_length}; thresholds: {'0.5' if config.thresholds is None else 'tuned'}\n")
    hierarchy = config.get_hierarchy()
    show_hierarchy(hierarchy if language is None else hierarchy.in_language(language), max_nodes)


def _size(shape):
    size = 1
    for n in shape:
        size *= n
    return size
