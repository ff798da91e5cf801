"""`hf-htc info`: shows a taxonomy file or a checkpoint."""

import argparse
import os

from hf_htc.cli.common import naming
from hf_htc.models.errors import HTCError, HTCFileNotFoundError


def run(arguments):
    parser = argparse.ArgumentParser(prog="hf-htc info", description="Shows a taxonomy or a checkpoint; without one, versions.")
    parser.add_argument("name", nargs="?", help="a taxonomy file, a data set folder, a checkpoint folder or a Hub id")
    parser.add_argument("--max_nodes", type=int, default=40, help="lines of the printed tree")
    options = parser.parse_args(arguments)
    if options.name is None:
        from hf_htc.training.manifest import accelerator_name, versions

        print("\n".join(f"{name} {version}" for name, version in versions().items()))
        print(f"accelerator {accelerator_name()}")
        return
    if os.path.isfile(options.name):
        show_hierarchy(_read(options.name), options.max_nodes)
        return
    if os.path.isdir(options.name) and not os.path.exists(os.path.join(options.name, "config.json")):
        # As `load_htc_dataset` does: the lines of the .tsv lack texts and structure-only nodes.
        for file in ("taxonomy.json", "taxonomy.tsv"):
            if os.path.exists(os.path.join(options.name, file)):
                show_hierarchy(_read(os.path.join(options.name, file)), options.max_nodes)
                return
    show_checkpoint(options.name, options.max_nodes)


def _read(path):
    from hf_htc.models.hierarchy import LabelHierarchy

    return LabelHierarchy.from_file(path)


def show_hierarchy(hierarchy, max_nodes):
    print(hierarchy)
    for key, value in hierarchy.statistics().items():
        print(f"{key}: {value}")
    print(f"fingerprint: {hierarchy.fingerprint()}\n")
    print(hierarchy.tree(max_nodes))


def show_checkpoint(name, max_nodes):
    """Prints method, size, settings, training labels and taxonomy of a checkpoint."""
    from transformers import AutoConfig

    import hf_htc

    hf_htc.register()
    if os.path.sep in name and not os.path.isdir(name) and name.count("/") != 1:
        raise HTCFileNotFoundError(f"There is no file or folder {name!r}.")
    with naming("taxonomy file, data set folder or checkpoint", name):
        config = AutoConfig.from_pretrained(name)
    if not hasattr(config, "get_hierarchy"):
        raise HTCError(f"{name!r} is a {config.model_type} checkpoint, not one of hf_htc.")
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
    show_hierarchy(config.get_hierarchy(), max_nodes)


def _size(shape):
    size = 1
    for n in shape:
        size *= n
    return size
