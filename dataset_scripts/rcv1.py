"""
# RCV1-v2: Reuters news, labelled with topics

Lewis et al., *RCV1: A New Benchmark Collection for Text Categorization Research*, JMLR 5, 2004 (LYRL2004).

* **Files.** The news items are licensed by Reuters through NIST, https://trec.nist.gov/data/reuters/reuters.html: the zip files
  of the two CDs, one a day, with `<number>newsML.xml` in them. From the online appendices of LYRL2004,
  http://www.ai.mit.edu/projects/jmlr/papers/volume5/lewis04a/lyrl2004_rcv1v2_README.htm, come `rcv1-v2.topics.qrels` (appendix
  8) and `rcv1.topics.hier.orig` (appendix 2). Put all below one folder, packed (`.zip`, `.tar.xz`, `.gz`) or not.
* **Texts.** The paragraphs joined by a space; the scripts of HPT, HGCLR and HBGL join them without one, which makes words run
  together. Variant `paragraphs` (the default) has them alone, as those papers do; `title` puts the title before them, as HBM
  does.
* **Labels.** Topic codes by the qrels, `C151`, with all ancestors; 103 labels, four levels (4-55-43-1), several paths. A
  label's text is the description in the hierarchy file; HPT and HBM show the code itself to the model.
* **Splits.** Training documents are those of LYRL2004, numbers up to 26150, or those of `lyrl2004_tokens_train.dat` (or
  `lyrl2004_vectors_train.dat`) where it lies in the folder; the rest of the qrels is test. Ten per cent of the training
  documents, in order of their numbers, drawn as scikit-learn's `train_test_split` with `random_state=0` does, are validation,
  as in HPT, HGCLR and HBGL: 20,834 / 2,315 / 781,265. The papers print 20,833 / 2,316, which their released scripts do not
  give; HBM draws without a seed.
* **Time.** The days are read once a split, 365 zip files in all; `download_and_prepare(num_proc=...)` of the builder shares
  them out.
* **License.** Reuters' agreement with NIST for the texts; they stay on your machine. The appendices are public.
* **Checked.** With twins in NewsML and in the forms of the appendices; the originals could not be read here.

```python
>>> from hf_htc.data import load_htc_dataset
>>> dataset, hierarchy = load_htc_dataset("rcv1", data_dir="rcv1", config_name="title")  # doctest: +SKIP
```
"""

from __future__ import annotations

import re
import sys

import datasets

from hf_htc.data.archives import is_archive, list_files, parse_xml, text_lines
from hf_htc.models.errors import HTCError
from hf_htc.models.hierarchy import LabelHierarchy

from .originals import OriginalsBuilder, Variant, shuffled_split


LAST_TRAINING_DOCUMENT = 26_150
ITEM = re.compile(r"(\d+)newsml\.xml$", re.IGNORECASE)
EDGE = re.compile(r"\s*parent:\s*(\S+)\s+child:\s*(\S+)(?:\s+child-description:\s*(.*\S))?\s*$")
TRAINING_FILES = ("lyrl2004_tokens_train.dat", "lyrl2004_vectors_train.dat")
DOCUMENTS = {"train": 20_834, "validation": 2_315, "test": 781_265}
_TOPICS = {}  # of the last data set; every worker reads them once


def read_qrels(lines, name):
    """
    Topics of each document, `dict[int, tuple[str]]`, from lines `topic document 1`.

    Raises:
        `ValueError`: another form; file and line are named.
    """
    topics = {}
    for number, line in lines:
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 3 or not fields[1].isdigit():
            raise HTCError(f"{name}, line {number}: expected `topic document 1`, got {line!r}.")
        topics.setdefault(int(fields[1]), []).append(sys.intern(fields[0]))
    return {document: tuple(found) for document, found in topics.items()}


def read_topic_hierarchy(lines, name):
    """
    The [`LabelHierarchy`] of lines `parent: C15  child: C151  child-description: ACCOUNTS/EARNINGS`.

    Raises:
        `ValueError`: another form; file and line are named.
    """
    edges, texts = [], {}
    for number, line in lines:
        if not line.strip():
            continue
        match = EDGE.match(line)
        if match is None:
            raise HTCError(f"{name}, line {number}: expected `parent: ... child: ... child-description: ...`, got {line!r}.")
        parent, child, description = match.groups()
        if parent != "None":  # the line of the root itself
            edges.append((parent, child))
            texts[child] = description or child
    return LabelHierarchy.from_edges(edges, texts=texts)


def read_training_ids(lines, name):
    """Numbers of the documents of a LYRL2004 file of tokens (`.I 2286` lines) or vectors (`2286 864:0.05 ...`), ascending."""
    found = set()
    for _, line in lines:
        match = re.match(r"(?:\.I\s+(\d+)\s*|(\d+)\s+\d+:.*)$", line)
        if match:
            found.add(int(match[1] or match[2]))
    if not found:
        raise HTCError(f"{name}: no document numbers as in the files of LYRL2004. Get it again.")
    return sorted(found)


def read_item(data, name, with_title):
    """The text of a news item, paragraphs joined by a space."""
    root = parse_xml(data, name)
    if root.tag != "newsitem":
        raise HTCError(f"{name}: the root element is <{root.tag}>; <newsitem> is expected.")
    text = root.find("text")
    paragraphs = [] if text is None else ["".join(p.itertext()) for p in text.iter("p")]
    title = root.findtext("title") or "" if with_title else ""
    # A document without a paragraph is none, whatever its title.
    return " ".join(" ".join([title, *paragraphs]).split()) if any(p.strip() for p in paragraphs) else ""


class Rcv1(OriginalsBuilder):
    """RCV1-v2; see the module's card for texts, labels, variants, splits and files."""

    NAME = "rcv1"
    VARIANTS = {
        "paragraphs": Variant("The paragraphs of the news items.", DOCUMENTS, (4, 55, 43, 1)),
        "title": Variant("Titles and paragraphs of the news items.", DOCUMENTS, (4, 55, 43, 1)),
    }
    GET = (
        "The texts are licensed: ask for RCV1 at https://trec.nist.gov/data/reuters/reuters.html; get rcv1-v2.topics.qrels.gz "
        "and rcv1.topics.hier.orig from http://www.ai.mit.edu/projects/jmlr/papers/volume5/lewis04a/. Put the zip files of the "
        "CDs and both files into one folder and pass it as `data_dir`."
    )
    HOMEPAGE = "https://trec.nist.gov/data/reuters/reuters.html"
    LICENSE = "Reuters Corpus agreement (NIST)"

    def _split_generators(self, dl_manager):
        with self._file("rcv1.topics.hier.orig") as (name, stream):
            self.keep_taxonomy(read_topic_hierarchy(text_lines(stream, name), name))
        topics, training = self._topics(), self._training_ids()
        known = [document for document in training if document in topics]
        kept, held_out = shuffled_split(len(known), 0.1)
        parts = {"train": {known[i] for i in kept}, "validation": {known[i] for i in held_out}, "test": None}
        if not self.names(lambda name: ITEM.search(name) is not None):
            raise self.missing("the news items (<number>newsML.xml in the zip files of the CDs)")
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={
                    "shards": self.shards(),
                    "only": None if ids is None else frozenset(ids),
                    "without": frozenset(training) if ids is None else frozenset(),
                },
            )
            for split, ids in parts.items()
        ]

    def _file(self, start):
        return self.opened(lambda name: name.split("/")[-1].lower().startswith(start), f"`{start}`")

    def _topics(self):
        key = (str(self.root), self.hash)
        if key not in _TOPICS:
            _TOPICS.clear()
            with self._file("rcv1-v2.topics.qrels") as (name, stream):
                _TOPICS[key] = read_qrels(text_lines(stream, name), name)
        return _TOPICS[key]

    def _training_ids(self):
        plain = [path for path in list_files(self.root) if not is_archive(path.name)]
        for name, stream in self.files(lambda name: name.split("/")[-1].lower() in TRAINING_FILES, (plain, 0, 1)):
            return read_training_ids(text_lines(stream, name), name)
        return sorted(document for document in self._topics() if document <= LAST_TRAINING_DOCUMENT)

    def _generate_examples(self, shards, only, without):
        topics = self._topics()

        def wanted(name):
            match = ITEM.search(name)
            document = int(match[1]) if match else -1
            return document in topics and document not in without and (only is None or document in only)

        for shard in shards:
            for name, stream in self.files(wanted, shard):
                document = int(ITEM.search(name)[1])
                text = read_item(stream.read(), name, self.config.name == "title")
                if text:
                    yield document, {"id": str(document), "text": text, "labels": list(topics[document])}
