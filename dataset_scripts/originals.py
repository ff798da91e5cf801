"""What the builders of licensed and foreign data sets share: they read the files as their owners distribute them.

A builder is given the folder (or the archive) with the original files as `data_dir`, reads them without unpacking, compares the
numbers of documents and labels with those of the papers, and says what differs. Nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np
from datasets.exceptions import DatasetGenerationError

from hf_htc.data.archives import is_archive, iter_files, list_files
from hf_htc.models.errors import HTCError, HTCFileNotFoundError
from hf_htc.models.hierarchy import LabelHierarchy


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Variant:
    """
    One form of a data set.

    Args:
        description (`str`)
        documents (`dict[str, int]`): Documents a split in the papers' tables.
        labels (`int` or `tuple[int]`): Labels in the papers' tables, in all or a level, first level first.
    """

    description: str
    documents: dict = field(default_factory=dict)
    labels: int | tuple = ()


def shuffled_split(count, fraction, seed=0):
    """
    The split that scikit-learn's `train_test_split(range(count), test_size=fraction, random_state=seed)` makes, which the papers'
    scripts call; without scikit-learn.

    Args:
        count (`int`): Rows.
        fraction (`float`): Share of the rows that is held out, rounded up to a whole number of rows.
        seed (`int`, *optional*, defaults to 0)

    Returns:
        `tuple[np.ndarray, np.ndarray]`: rows kept and rows held out, both in shuffled order.
    """
    order = np.random.RandomState(seed).permutation(count)
    held_out = math.ceil(fraction * count)
    return order[held_out:], order[:held_out]


class OriginalsBuilder(datasets.GeneratorBasedBuilder):
    """
    Base of the builders. Columns: `id` (of the original), `text`, `labels` (names).

    Args:
        data_dir (`str`): Folder with the original files, archived or not, or one archive.
        config_name (`str`, *optional*): One of `VARIANTS`; the first by default.
        cache_dir (`str`, *optional*): Cache of `datasets`. Names, sizes and times of the original files are part of the key.

    Raises:
        `FileNotFoundError`: no `data_dir`, or a file that is missing there; the message tells where to get it.
        `ValueError`: an unknown variant; a file that is not in its format (file and line are named); an unsafe archive.
    """

    VERSION = datasets.Version("1.0.0")
    NAME = None  # of the data set, as `load_htc_dataset` knows it
    VARIANTS = {}
    GET = None  # where the files come from and which they are
    HOMEPAGE = None
    LICENSE = None
    USED_LABELS_ONLY = False

    def __init__(self, cache_dir=None, dataset_name=None, config_name=None, hash=None, *args, data_dir=None, **kwargs):
        if config_name is not None and config_name not in self.VARIANTS:
            raise HTCError(f"{self.NAME!r} has no variant {config_name!r}; `config_name` is one of {list(self.VARIANTS)}.")
        if data_dir is None:
            here = f" (For the folder of this name write './{self.NAME}'.)" if Path(self.NAME).is_dir() else ""
            raise HTCFileNotFoundError(
                f"{self.NAME!r} is made from its original files; give their folder or archive as `data_dir`.{here} {self.GET}"
            )
        self.root = Path(data_dir).resolve()
        if not self.root.exists():
            raise HTCFileNotFoundError(
                f"There is no folder or archive {str(data_dir)!r} with the files of {self.NAME!r}. {self.GET}"
            )
        # The cache goes by the data set, not by the module, which may hold several.
        dataset_name = dataset_name or self.NAME
        super().__init__(cache_dir, dataset_name, config_name, hash or self._state(), *args, data_dir=str(self.root), **kwargs)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.BUILDER_CONFIGS = [
            datasets.BuilderConfig(name=name, version=cls.VERSION, description=variant.description)
            for name, variant in cls.VARIANTS.items()
        ]
        cls.DEFAULT_CONFIG_NAME = next(iter(cls.VARIANTS), None)

    @property
    def variant(self):
        """The [`Variant`] that is built."""
        return self.VARIANTS[self.config.name]

    def _state(self):
        """A digest of names, sizes and times of the files on top, so that changed originals are read again."""
        paths = [self.root] if self.root.is_file() else [*self.root.glob("*"), *self.root.glob("*/*")]
        states = [(path.relative_to(self.root).as_posix(), path.stat()) for path in paths if path.exists()]
        rows = sorted((name, state.st_size, state.st_mtime_ns) for name, state in states)
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]

    def _info(self):
        return datasets.DatasetInfo(
            description=self.config.description,
            features=datasets.Features(
                {
                    "id": datasets.Value("string"),
                    "text": datasets.Value("string"),
                    "labels": datasets.List(datasets.Value("string")),
                }
            ),
            homepage=self.HOMEPAGE or "",
            license=self.LICENSE or "",
        )

    # What builders read with.

    def files(self, wanted=None, shard=None):
        """
        `(name, stream)` of the original files and archive members, see [`~hf_htc.data.archives.iter_files`].

        Args:
            wanted (`Callable[[str], bool]`, *optional*): Which names.
            shard (`tuple`, *optional*): One of [`~OriginalsBuilder.shards`].
        """
        paths, part, parts = shard or (list_files(self.root), 0, 1)
        if parts == 1:
            return iter_files(paths, wanted, self.root)
        number = itertools.count()
        return iter_files(paths, lambda name: (wanted is None or wanted(name)) and next(number) % parts == part, self.root)

    def names(self, wanted):
        """Names of the original files and archive members that are wanted; none is unpacked for it."""
        found = []

        def note(name):
            if wanted(name):
                found.append(name)
            return False

        for _ in self.files(note):
            pass
        return found

    def shards(self, most=64):
        """
        The original files in at most `most` parts, as `num_proc` shares them out: `(paths, k, n)`, of whose wanted files every
        n-th counts, from the k-th on. Only a single zip archive is read in several parts; others have no index.
        """
        paths = list_files(self.root)
        if [path.suffix.lower() for path in paths if is_archive(path.name)] == [".zip"] and len(paths) < 8:
            return [(paths, part, 8) for part in range(8)]
        size = max(1, math.ceil(len(paths) / most))
        return [(paths[start : start + size], 0, 1) for start in range(0, len(paths), size)]

    @contextlib.contextmanager
    def opened(self, wanted, what):
        """
        `(name, stream)` of the first file that is wanted; files beside archives come before those in archives.

        Raises:
            `FileNotFoundError`: there is none; `what` says which one.
        """
        paths = list_files(self.root)
        for paths_of_kind in ([p for p in paths if not is_archive(p.name)], [p for p in paths if is_archive(p.name)]):
            for name, stream in iter_files(paths_of_kind, wanted, self.root):
                yield name, stream
                return
        raise self.missing(what)

    def missing(self, what):
        """The error for a file that is not there."""
        return HTCFileNotFoundError(f"{self.NAME!r} needs {what}, not found in {str(self.root)!r}. {self.GET}")

    # What is prepared.

    def _download_and_prepare(self, dl_manager, verification_mode, **kwargs):
        self._fresh = True
        super()._download_and_prepare(dl_manager, verification_mode, **kwargs)
        empty = [split for split, info in self.info.splits.items() if not info.num_examples]
        if empty:
            raise HTCError(
                f"{self.NAME!r} ({self.config.name}): no {empty[0]} document with a text and a label was found in "
                f"{str(self.root)!r}. Are the files complete? {self.GET}"
            )

    def _prepare_split_single(self, *args, **kwargs):
        # "An error occurred while generating" says nothing, and what caused it does not come out of a worker process.
        try:
            yield from super()._prepare_split_single(*args, **kwargs)
        except DatasetGenerationError as error:
            if isinstance(error.__cause__, ValueError):
                raise error.__cause__ from None
            raise

    def download_and_prepare(self, *args, **kwargs):
        """As in `datasets`; afterwards says where documents and labels differ from the papers' numbers."""
        self._fresh = False
        super().download_and_prepare(*args, **kwargs)
        if self._fresh:
            self._compare()

    def _compare(self):
        for split, expected in self.variant.documents.items():
            found = self.info.splits[split].num_examples if split in self.info.splits else 0
            if found != expected:
                logger.warning(f"{self.NAME} ({self.config.name}): {found} {split} documents, {expected} in the papers.")
        if self._file_format in (None, "arrow") and self.variant.labels:
            levels = tuple(self.taxonomy().statistics()["labels_per_level"])
            expected = self.variant.labels
            if (sum(levels) if isinstance(expected, int) else levels) != expected:
                shown = expected if isinstance(expected, int) else f"{sum(expected)} ({'-'.join(map(str, expected))})"
                logger.warning(
                    f"{self.NAME} ({self.config.name}): {sum(levels)} labels ({'-'.join(map(str, levels))} by level), "
                    f"{shown} in the papers."
                )

    def keep_taxonomy(self, hierarchy):
        """Writes the taxonomy of the originals beside the prepared data; called by `_split_generators`."""
        hierarchy.save(Path(self._output_dir) / "taxonomy.json")

    def taxonomy(self):
        """The [`LabelHierarchy`] of the labels; prepares the data if need be."""
        path = Path(self._output_dir) / "taxonomy.json"
        if not path.is_file() or not os.path.isfile(os.path.join(self._output_dir, "dataset_info.json")):
            self.download_and_prepare()
        hierarchy = LabelHierarchy.from_file(path)
        return hierarchy.restrict(sorted(self.used_labels())) if self.USED_LABELS_ONLY else hierarchy

    def used_labels(self):
        """Names of all labels that a document of any split has."""
        used = set()
        for rows in self.as_dataset().values():
            column = rows.with_format("arrow")["labels"][:]
            for chunk in column.chunks:
                used.update(name.as_py() for name in chunk.flatten().unique())
        return used


def two_level_hierarchy(pairs):
    """
    The hierarchy of `(first level name, second level name)` pairs, with the domains' names first.

    A second-level name that stands under two first-level names, or equals one, is called `first_second`.

    Args:
        pairs (`Iterable[tuple[str, str]]`): In the order in which labels get their ids; repeated pairs count once.

    Returns:
        `tuple[LabelHierarchy, dict[tuple[str, str], str]]`: the hierarchy, and the name of each pair's second level.
    """
    pairs = list(dict.fromkeys(pairs))
    tops = list(dict.fromkeys(top for top, _ in pairs))
    parents = {}
    for top, name in pairs:
        parents.setdefault(name, set()).add(top)
    ambiguous = {name for name, above in parents.items() if len(above) > 1} | set(tops)
    names = {(top, name): f"{top}_{name}" if name in ambiguous else name for top, name in pairs}
    edges = [("Root", top) for top in tops] + [(pair[0], names[pair]) for pair in pairs]
    texts = {names[pair]: pair[1].removeprefix(f"{pair[0]}_") for pair in pairs}
    return LabelHierarchy.from_edges(edges, texts=texts), names
