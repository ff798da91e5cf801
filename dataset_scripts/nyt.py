"""
# NYT: articles of The New York Times, labelled with paths of its online taxonomy

Sandhaus, *The New York Times Annotated Corpus*, LDC2008T19; as HiAGM and its successors use it.

* **Files.** The corpus is licensed by the Linguistic Data Consortium, https://catalog.ldc.upenn.edu/LDC2008T19:
  `data/<year>/<month>.tgz` with NITF XML. From the folder `data` of https://github.com/Alibaba-NLP/HiAGM come the lists of
  documents, `idnewnyt_train.json`, `idnewnyt_val.json`, `idnewnyt_test.json` (lines `Nytimes/2001/1354702.xml`), and the 166
  labels, `nyt.taxonomy` or `nyt_label.vocab`. Put all below one folder.
* **Texts.** All paragraphs (`<p>`) but the first, as in the papers' scripts, joined by a space; the scripts join them without
  one. The first is the abstract or the lead, which often stands in the text once more.
* **Labels.** Of each taxonomic classifier with at least three parts, `Top/News/Sports`, every prefix that is among the 166
  labels. Names are paths, since 24 last parts occur more than once; a label's text is its last part. Closed, eight levels
  (4-27-51-47-17-12-6-2), several paths, also partial ones.
* **Splits.** By the lists: 23,345 / 5,834 / 7,292. Listed documents without a text or a label are left out.
* **Time.** Every month is unpacked once a split; `download_and_prepare(num_proc=...)` of the builder shares the months out.
* **License.** LDC's agreement; the texts stay on your machine.
* **Checked.** With twins in NITF and, where present, the real taxonomy; the corpus could not be read here.

```python
>>> from hf_htc.data import load_htc_dataset
>>> dataset, hierarchy = load_htc_dataset("nyt", data_dir="nyt_corpus")  # doctest: +SKIP
```
"""

from __future__ import annotations

import re

import datasets

from hf_htc.data.archives import parse_xml, text_lines
from hf_htc.models.errors import HTCError
from hf_htc.models.hierarchy import LabelHierarchy

from .originals import OriginalsBuilder, Variant


ARTICLE = re.compile(r"(?:^|/)(\d+)\.xml$", re.IGNORECASE)
LISTS = {"train": "idnewnyt_train.json", "validation": "idnewnyt_val.json", "test": "idnewnyt_test.json"}
LABEL_FILES = ("nyt.taxonomy", "nyt_label.vocab")
MIN_PARTS = 3  # of a taxonomic classifier, `Top` included


def read_document_list(lines, name):
    """
    Numbers of the listed documents, a `frozenset`.

    Raises:
        `ValueError`: a line that ends in no `<number>.xml`; file and line are named.
    """
    found = set()
    for number, line in lines:
        match = ARTICLE.search(line.strip())
        if line.strip() and match is None:
            raise HTCError(f"{name}, line {number}: expected `Nytimes/<year>/<number>.xml`, got {line!r}.")
        if match:
            found.add(int(match[1]))
    return frozenset(found)


def read_label_paths(lines, name):
    """
    The [`LabelHierarchy`] of all paths in a file, one or several a line, separated by tabs; `Root` and `Top` are none.

    Raises:
        `ValueError`: a name that does not begin with `Top/`, or whose parent is not listed.
    """
    paths = {}
    for number, line in lines:
        for path in filter(None, (part.strip() for part in line.split("\t"))):
            if path in ("Root", "Top"):
                continue
            if not path.startswith("Top/"):
                raise HTCError(f"{name}, line {number}: the label {path!r} does not begin with 'Top/'.")
            paths.setdefault(path, number)
    edges = []
    for path, number in paths.items():
        parent = path.rpartition("/")[0]
        if parent != "Top" and parent not in paths:
            raise HTCError(f"{name}, line {number}: {path!r} is listed without its parent {parent!r}.")
        edges.append(("Root" if parent == "Top" else parent, path))
    return LabelHierarchy.from_edges(edges, texts={path: path.rpartition("/")[2] for path in paths})


def read_article(data, name, labels):
    """
    Text and labels of an article.

    Args:
        labels (`Container[str]`): The paths that count.

    Returns:
        `tuple[str, list[str]]`
    """
    root = parse_xml(data, name)
    paragraphs = ["".join(p.itertext()) for p in root.iter("p")]
    found = {}
    for classifier in root.iter("classifier"):
        parts = "".join(classifier.itertext()).strip().split("/")
        if classifier.get("type") == "taxonomic_classifier" and len(parts) >= MIN_PARTS:
            prefixes = ("/".join(parts[:length]) for length in range(2, len(parts) + 1))
            found.update((prefix, None) for prefix in prefixes if prefix in labels)
    return " ".join(" ".join(paragraphs[1:]).split()), list(found)


class Nyt(OriginalsBuilder):
    """The New York Times Annotated Corpus; see the module's card for texts, labels, splits and files."""

    NAME = "nyt"
    VARIANTS = {
        "default": Variant(
            "Articles and the prefixes of their taxonomic classifiers.",
            {"train": 23_345, "validation": 5_834, "test": 7_292},
            (4, 27, 51, 47, 17, 12, 6, 2),
        )
    }
    GET = (
        "The corpus is licensed: LDC2008T19, https://catalog.ldc.upenn.edu/LDC2008T19; its lists idnewnyt_train.json, "
        "idnewnyt_val.json, idnewnyt_test.json and nyt.taxonomy lie in `data` of https://github.com/Alibaba-NLP/HiAGM. "
        "Put `data/<year>/<month>.tgz` and the four files into one folder and pass it as `data_dir`."
    )
    HOMEPAGE = "https://catalog.ldc.upenn.edu/LDC2008T19"
    LICENSE = "LDC User Agreement"

    def _split_generators(self, dl_manager):
        self.keep_taxonomy(self._labels())
        lists = {}
        for split, file in LISTS.items():
            with self.opened(lambda name, file=file: name.split("/")[-1].lower() == file, f"`{file}`") as (name, stream):
                lists[split] = read_document_list(text_lines(stream, name), name)
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"shards": self.shards(), "documents": documents})
            for split, documents in lists.items()
        ]

    def _labels(self):
        what = "the labels (nyt.taxonomy or nyt_label.vocab)"
        with self.opened(lambda name: name.split("/")[-1].lower() in LABEL_FILES, what) as (name, stream):
            return read_label_paths(text_lines(stream, name), name)

    def _generate_examples(self, shards, documents):
        labels = frozenset(self._labels().names)

        def wanted(name):
            match = ARTICLE.search(name)
            return match is not None and int(match[1]) in documents

        for shard in shards:
            for name, stream in self.files(wanted, shard):
                text, found = read_article(stream.read(), name, labels)
                document = ARTICLE.search(name)[1]
                if text and found:
                    yield document, {"id": document, "text": text, "labels": found}
