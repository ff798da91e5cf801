"""
# 20 Newsgroups, the version sorted by date

Lang, *NewsWeeder: Learning to Filter Netnews*, ICML 1995; the collection of J. Rennie.

* **Files.** `20news-bydate.tar.gz` from http://qwone.com/~jason/20Newsgroups/, packed or not:
  `20news-bydate-train/<group>/<number>` and `20news-bydate-test/<group>/<number>`.
* **Texts.** Whole posts with the headers that this version keeps (`From`, `Subject`, ...); UTF-8, or Latin-1 where that fails.
* **Labels.** The collection has no hierarchy but the groups' names; here every part that branches is a label: `comp`,
  `comp.sys`, `comp.sys.mac.hardware`, while `comp.os` with its only group is none. 30 labels, three levels (7-16-7), a single
  path, closed.
* **Splits.** Train and test as distributed, 11,314 / 7,532. There is no validation split; `load_htc_dataset` takes one from
  train.
* **License.** None is stated; posts of Usenet with names and addresses of their authors.
* **Checked.** With twins, and labels and counts against the whole collection in Parquet.

```python
>>> from hf_htc.data import load_htc_dataset
>>> dataset, hierarchy = load_htc_dataset("newsgroups20", data_dir="20news-bydate.tar.gz")  # doctest: +SKIP
```
"""

from __future__ import annotations

import re

import datasets

from hf_htc.models.hierarchy import LabelHierarchy

from .originals import OriginalsBuilder, Variant


POST = re.compile(r"20news-bydate-(train|test)/([^/]+)/([^/]+)$")


def group_labels(groups):
    """
    Labels of each newsgroup, first level first.

    Args:
        groups (`Iterable[str]`): Names of all groups, `"comp.sys.mac.hardware"`.

    Returns:
        `dict[str, list[str]]`: the first part, every further beginning below which groups differ, and the group itself.
    """
    groups = sorted(set(groups))
    children = {}
    for group in groups:
        parts = group.split(".")
        for length in range(1, len(parts)):
            children.setdefault(".".join(parts[:length]), set()).add(".".join(parts[: length + 1]))
    labels = {}
    for group in groups:
        parts = group.split(".")
        above = [".".join(parts[:length]) for length in range(1, len(parts))]
        labels[group] = [name for name in above if "." not in name or len(children[name]) > 1] + [group]
    return labels


class Newsgroups20(OriginalsBuilder):
    """20 Newsgroups by date; see the module's card for texts, labels, splits and files."""

    NAME = "newsgroups20"
    VARIANTS = {"bydate": Variant("Posts of 20 newsgroups, sorted by date.", {"train": 11_314, "test": 7_532}, (7, 16, 7))}
    GET = "Download 20news-bydate.tar.gz from http://qwone.com/~jason/20Newsgroups/ and pass it as `data_dir`."
    HOMEPAGE = "http://qwone.com/~jason/20Newsgroups/"

    def _split_generators(self, dl_manager):
        posts = [match for name in self.names(self._match) if (match := self._match(name))]
        for split in ("train", "test"):
            if not any(match[1] == split for match in posts):
                raise self.missing(f"the folder `20news-bydate-{split}`")
        labels = group_labels(match[2] for match in posts)
        edges = {}
        for path in labels.values():
            edges.update(dict.fromkeys(zip(["Root", *path], path)))
        texts = {child: child.removeprefix(f"{parent}.") for parent, child in edges}
        self.keep_taxonomy(LabelHierarchy.from_edges(edges, texts=texts))
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"shards": self.shards(), "split": split, "labels": labels})
            for split in ("train", "test")
        ]

    def _match(self, name):
        # The folder itself may be one of the two.
        return POST.search(f"{self.root.name}/{name}")

    def _generate_examples(self, shards, split, labels):
        for shard in shards:
            for name, stream in self.files(lambda n: (found := self._match(n)) is not None and found[1] == split, shard):
                data = stream.read()
                try:
                    text = data.decode("utf-8")
                except UnicodeDecodeError:
                    text = data.decode("latin-1")
                _, group, number = self._match(name).groups()
                if text.strip():
                    key = f"{group}/{number}"
                    yield key, {"id": key, "text": text, "labels": labels[group]}
