"""Where a data set comes from: a builder, a folder in the Hub's layout, a Hub repository, own files."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path

import yaml
from datasets import DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError
from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from hf_htc.models.errors import HTCError, HTCFileNotFoundError, refusing

from .front_matter import split_front_matter
from .memory import as_dataset, as_splits, in_memory
from .problems import Origin
from .readers import PACKED, SUFFIXES, check_file, data_suffix, quiet_unless_big, raw_split, read_files


# Data sets that come with a builder class: name -> "module:class". All but the first are made from their owners' files.
BUILDERS = {
    "python_docs": "hf_htc.dataset_scripts.python_docs:PythonDocs",
    "eurlex57k": "hf_htc.dataset_scripts.eurlex57k:Eurlex57k",
    "wos": "hf_htc.dataset_scripts.wos:Wos",
    "rcv1": "hf_htc.dataset_scripts.rcv1:Rcv1",
    "nyt": "hf_htc.dataset_scripts.nyt:Nyt",
    "bgc": "hf_htc.dataset_scripts.bgc:Bgc",
    "bugs": "hf_htc.dataset_scripts.zangari:Bugs",
    "amazon5x5": "hf_htc.dataset_scripts.zangari:Amazon5x5",
    "newsgroups20": "hf_htc.dataset_scripts.newsgroups20:Newsgroups20",
    "clinc150": "hf_htc.dataset_scripts.clinc150:Clinc150",
}

SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
# The .json form keeps structure-only nodes, texts and descriptions, so it wins where both are there.
TAXONOMY_FILES = ("taxonomy.json", "taxonomy.tsv", "taxonomy.txt")


@dataclass
class Source:
    """
    Raw splits and what is known of the taxonomy.

    Attributes:
        splits (`dict[str, RawSplit]`): In the order train, validation, test, others.
        taxonomy ([`LabelHierarchy`] or `Path`, *optional*): Found with the data; `None` if there is none.
    """

    splits: dict
    taxonomy: object = None


def open_source(name_or_path, files, taxonomy, options, log, config_name, data_dir, cache_dir, revision, token):
    """Finds and reads the raw splits; arguments as in [`load_htc_dataset`], `files` a `dict` split -> path."""
    needs = {"train": True}  # other splits may be without labels where that is allowed
    if files:
        _refuse_repeated_files(files)
        splits = {}
        for name, value in files.items():
            labels = needs.get(name, not options.allow_unlabelled)
            if in_memory(value):
                splits[name] = raw_split(as_dataset(value, name), Origin(name), options, log, labels)
            elif Path(value).is_dir():
                dataset = _saved(Path(value), f"{name}_file")
                splits[name] = raw_split(dataset, Origin(f"{Path(value).name}"), options, log, labels)
            else:
                splits[name] = read_files([check_file(value, f"{name} file")], options, log, cache_dir, labels)
        return Source(splits, _own_taxonomy(taxonomy))
    if in_memory(name_or_path):
        return Source(_named_splits(as_splits(name_or_path), "data", options, log), _own_taxonomy(taxonomy))
    hub_only = {"revision": revision, "token": token}
    if str(name_or_path) in BUILDERS:
        return _from_builder(str(name_or_path), taxonomy, options, log, config_name, data_dir, cache_dir, hub_only)
    folder = Path(name_or_path)
    if folder.is_dir():
        _refuse_options(hub_only, f"the folder {str(name_or_path)!r}")
        return _from_folder(folder, taxonomy, options, log, config_name, data_dir, cache_dir)
    if folder.is_file():
        raise HTCError(f"{str(name_or_path)!r} is a file; pass it as `train_file`, `validation_file` or `test_file`.")
    return _from_hub(str(name_or_path), taxonomy, options, log, config_name, data_dir, cache_dir, revision, token)


def _is_saved(folder):
    """Whether a folder was written by `save_to_disk`."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _saved(folder, argument=None):
    """What `save_to_disk` wrote into a folder; with `argument` it must be one split."""
    if not _is_saved(folder):
        raise HTCError(f"{str(folder)!r} is a folder that `save_to_disk` did not write; pass it as `name_or_path` (`--dataset`).")
    with refusing(f"{str(folder)!r} cannot be read", (ValueError, TypeError, KeyError, FileNotFoundError), mend="Save it again."):
        dataset = load_from_disk(str(folder))
    if argument is not None and isinstance(dataset, DatasetDict):
        raise HTCError(
            f"{str(folder)!r} holds the splits {list(dataset)}; pass it as `name_or_path` (`--dataset`), or one of them as "
            f"`{argument}`."
        )
    return dataset


def _refuse_repeated_files(files):
    seen = {}
    for name, path in files.items():
        if in_memory(path):
            continue
        if not isinstance(path, (str, os.PathLike)):
            as_dataset(path, f"{name}_file")  # says what may be given
        other = seen.setdefault(Path(path).resolve(), name)
        if other != name:
            raise HTCError(f"{str(path)!r} is given as {other}_file and as {name}_file. Every split needs a file of its own.")


def _refuse_options(options, where):
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise HTCError(f"`{given[0]}` means nothing for {where}. Leave it out.")


def _own_taxonomy(taxonomy):
    return Path(taxonomy) if isinstance(taxonomy, str) else taxonomy


def _from_builder(name, taxonomy, options, log, config_name, data_dir, cache_dir, hub_only):
    module, _, attribute = BUILDERS[name].partition(":")
    cls = getattr(importlib.import_module(module), attribute)
    variant = {"config_name": config_name, "data_dir": data_dir}
    from_originals = hasattr(cls, "VARIANTS")
    _refuse_options(hub_only if from_originals else {**variant, **hub_only}, f"the built-in {name!r}")
    builder = cls(cache_dir=cache_dir, **(variant if from_originals else {}))
    with quiet_unless_big(0):
        builder.download_and_prepare()
        splits = builder.as_dataset()
    taxonomy = builder.taxonomy() if taxonomy is None else _own_taxonomy(taxonomy)
    return Source(_named_splits(splits, name, options, log), taxonomy)


def split_files(names):
    """
    Data files by split, from file names relative to a folder: `train.parquet`, `data/train-00000-of-00002.parquet`,
    `dev.jsonl`. Of several kinds Parquet wins, then the order of the known kinds.
    """
    found = {}
    for name in sorted(names):
        path = Path(name)
        suffix = data_suffix(name)
        if path.parent.as_posix() not in (".", "data") or suffix is None:
            continue
        stem = path.name[: path.name.lower().rindex(suffix)]
        for split, words in SPLIT_NAMES.items():
            if stem in words or stem.startswith(tuple(f"{word}-" for word in words)):
                found.setdefault(split, {}).setdefault(suffix, []).append(name)
    return {
        split: next(found[split][suffix] for suffix in SUFFIXES if suffix in found[split])
        for split in SPLIT_NAMES
        if split in found
    }


def has_configs(readme):
    """Whether a README's front matter declares `configs`, which then say where the data files are."""
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    try:
        return bool(split_front_matter(text)[0].get("configs"))
    except yaml.YAMLError:
        return False


def _from_folder(folder, taxonomy, options, log, config_name, data_dir, cache_dir):
    root = folder / data_dir if data_dir else folder
    if not root.is_dir():
        raise HTCFileNotFoundError(f"{str(folder)!r} has no folder {str(data_dir)!r}; correct `data_dir`.")
    if isinstance(taxonomy, (str, Path)):
        inside = root / taxonomy
        if not inside.is_file() and not Path(taxonomy).is_file():
            raise HTCFileNotFoundError(
                f"There is no taxonomy {str(taxonomy)!r}, neither in {str(root)!r} nor here. The folder holds "
                f"{sorted(p.name for p in root.iterdir() if p.is_file())[:20]}."
            )
        taxonomy = inside if inside.is_file() else Path(taxonomy)
    elif taxonomy is None:
        taxonomy = next((root / name for name in TAXONOMY_FILES if (root / name).is_file()), None)
    if _is_saved(root):
        return Source(_named_splits(as_splits(_saved(root)), folder.name, options, log), taxonomy)
    if has_configs(root / "README.md"):
        size = sum(p.stat().st_size for p in root.rglob("*") if p.is_file())
        with quiet_unless_big(size), refusing(f"{str(root)!r} cannot be read", (DatasetGenerationError, ValueError, TypeError)):
            splits = load_dataset(str(root), name=config_name, cache_dir=cache_dir)
        return Source(_named_splits(splits, folder.name, options, log), taxonomy)
    if config_name is not None:
        raise HTCError(f"The README.md of {str(root)!r} declares no `configs`, so there is no configuration {config_name!r}.")
    files = split_files([p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()])
    if not files:
        raise HTCFileNotFoundError(
            f"{str(root)!r} holds no data files. Expected train, validation and test as `train.parquet`, "
            f"`data/train-*.parquet` or another of {', '.join(SUFFIXES)}; it has "
            f"{sorted(p.name for p in root.iterdir())[:20]}."
        )
    splits = {
        split: read_files(
            [root / name for name in names], options, log, cache_dir, split == "train" or not options.allow_unlabelled
        )
        for split, names in files.items()
    }
    return Source(splits, taxonomy)


def _named_splits(splits, name, options, log):
    """Splits of a loaded `DatasetDict` under the names train, validation, test; others keep theirs."""
    standard = {word: split for split, words in SPLIT_NAMES.items() for word in words}
    named = {}
    for split, dataset in splits.items():
        known = standard.get(split, split)
        needs_labels = known == "train" or not options.allow_unlabelled
        named[known] = raw_split(dataset, Origin(f"{name}/{split}"), options, log, needs_labels)
    order = [
        *(split for split in SPLIT_NAMES if split in named),
        *(split for split in named if split not in SPLIT_NAMES),
    ]
    return {split: named[split] for split in order}


def _from_hub(repo_id, taxonomy, options, log, config_name, data_dir, cache_dir, revision, token):
    hub = {"repo_type": "dataset", "revision": revision, "token": token}
    try:
        readme = _hub_file(repo_id, "README.md", hub)
        if config_name is None and (data_dir or not (readme and has_configs(readme))):
            # Left to itself, `load_dataset` takes the most frequent kind of file, which may be the taxonomies.
            patterns = [f"{data_dir.rstrip('/')}/*"] if data_dir else _data_patterns()
            folder = Path(snapshot_download(repo_id, allow_patterns=patterns, **hub))
        else:
            folder = None
            splits = load_dataset(repo_id, name=config_name, cache_dir=cache_dir, revision=revision, token=token)
    except (FileNotFoundError, HfHubHTTPError, HFValidationError, ConnectionError) as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise HTCFileNotFoundError(
            f"{repo_id!r} is neither a built-in data set ({', '.join(BUILDERS)}), nor a folder here, nor a data set "
            f"that the Hub gave ({reason}). For own files pass `train_file`."
        ) from error
    if folder is not None:
        return _from_folder(folder, taxonomy, options, log, None, data_dir, cache_dir)
    if taxonomy is None:
        found = (_hub_file(repo_id, name, hub) for name in TAXONOMY_FILES)
        taxonomy = next((path for path in found if path), None)
    elif isinstance(taxonomy, (str, Path)) and not Path(taxonomy).is_file():
        taxonomy = _hub_file(repo_id, str(taxonomy), hub) or Path(taxonomy)
    return Source(_named_splits(splits, repo_id, options, log), _own_taxonomy(taxonomy))


def _data_patterns():
    """What of a repository without `configs` is downloaded: data files of the known splits, and taxonomies."""
    words = [word for row in SPLIT_NAMES.values() for word in row]
    files = [f"{word}{tail}" for word in words for suffix in _suffixes() for tail in (suffix, f"-*{suffix}")]
    return [*files, *(f"data/{name}" for name in files), *TAXONOMY_FILES, "*.tsv", "README.md"]


def _suffixes():
    return [suffix + packing for suffix in SUFFIXES for packing in ("", *PACKED)]


def _hub_file(repo_id, name, hub):
    """Local path of a repository's file; `None` when the repository has no such file."""
    try:
        return Path(hf_hub_download(repo_id, name, **hub))
    except LocalEntryNotFoundError as error:
        # Offline, a file that was asked for before and did not exist is known not to exist.
        known = try_to_load_from_cache(repo_id, name, revision=hub["revision"], repo_type="dataset")
        if known is not None and not isinstance(known, str):  # neither not asked for nor a path: known to be missing
            return None
        raise HTCFileNotFoundError(
            f"{name!r} of {repo_id!r} is not in the cache and the Hub cannot be reached. Go online, or pass local files."
        ) from error
    except EntryNotFoundError:
        return None
