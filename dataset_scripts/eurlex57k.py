"""
# EURLEX57K: laws of the European Union, labelled with EuroVoc concepts

Chalkidis et al., *Large-Scale Multi-Label Text Classification on EU Legislation*, ACL 2019.

* **Files.** `datasets.zip` (with `dataset/train/*.json`, `dev`, `test`) and the concepts, `eurovoc_en.json`, which most code
  calls `EURLEX57K.json`; both from http://nlp.cs.aueb.gr/software_and_datasets/EURLEX57K/. Put them into one folder, zipped or
  not.
* **Texts.** Title, header, recitals and the articles of the main body, joined by line breaks; attachments are left out, as in
  the papers. Nothing else is changed or cut.
* **Labels.** Names of the concepts. A name that several concepts share gets the concept's id behind it.
* **Variants.** `as_given`: the concepts that the documents were given, 4,271 labels; ancestors are not added, and those that
  are no label of any document are structure-only nodes of the hierarchy (4,513 nodes, depth 6, a DAG). This is the form of HBM
  and HiMatch. `closed`: every concept with all its ancestors, 4,513 labels. `microthesauri`: EuroVoc's 21 domains and 127
  microthesauri, a tree of two levels with several paths a law; a document without a concept in any microthesaurus (of the
  57,000 there is none) is left out.
* **Microthesauri.** The concept file does not hold them. `microthesauri` also needs `microthesauri.tsv`, tab-separated with a
  header and the columns `concept_id`, `microthesaurus`, `domain` (others are passed over; a concept may have several lines),
  made from EuroVoc, https://op.europa.eu/en/web/eu-vocabularies (`skos:inScheme` of each concept, and the domain of each
  scheme).
* **Splits.** As distributed: 45,000 / 6,000 / 6,000. A document was given 5.07 / 5.04 / 5.06 concepts on average; the papers
  print 5.00.
* **License.** CC BY-SA 4.0 by the card of `eurlex` on the Hub; the texts are EU legislation.
* **Checked.** With all 57,000 laws, packed in the original form from a copy in Parquet, in the variants `as_given` and
  `microthesauri`. The original zip file itself could not be read here; of the concepts' JSON the keys `label` and `parents` are
  expected (`parent_ids` and `broader` are taken for `parents`, too).

```python
>>> from hf_htc.data import load_htc_dataset
>>> dataset, hierarchy = load_htc_dataset("eurlex57k", data_dir="EURLEX57K")  # doctest: +SKIP
>>> dataset, hierarchy = load_htc_dataset("eurlex57k", data_dir="EURLEX57K", config_name="microthesauri")  # doctest: +SKIP
```
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter

import datasets

from hf_htc.data.archives import text_lines
from hf_htc.models.errors import HTCError
from hf_htc.models.hierarchy import LabelHierarchy

from .originals import OriginalsBuilder, Variant


CONCEPT_FILES = ("eurlex57k.json", "eurovoc_en.json", "eurovoc_concepts.json")
SPLITS = {"train": ("train",), "validation": ("dev", "validation"), "test": ("test",)}
DOCUMENTS = {"train": 45_000, "validation": 6_000, "test": 6_000}


def read_concepts(stream, name):
    """
    Names and parents of the concepts.

    Returns:
        `tuple[dict[str, str], dict[str, list[str]]]`: unique name and parents' ids, by concept id. Parents that the file does not
        describe are left out.

    Raises:
        `ValueError`: not JSON, or not an object of concepts with a `label`.
    """
    try:
        content = json.load(stream)
    except ValueError as error:
        raise HTCError(f"{name}: not JSON ({error}).") from error
    if not isinstance(content, dict) or not all(
        isinstance(c, dict) and str(c.get("label", "")).strip() for c in content.values()
    ):
        raise HTCError(f"{name}: expected an object `concept id: {{'label': ..., 'parents': [...]}}` with a label everywhere.")
    labels = {concept: str(row["label"]).strip() for concept, row in content.items()}
    times = Counter(labels.values())
    names = {concept: label if times[label] == 1 else f"{label} ({concept})" for concept, label in labels.items()}
    parents = {}
    for concept, row in content.items():
        above = next((row[key] for key in ("parents", "parent_ids", "broader") if row.get(key)), [])
        parents[concept] = [parent for parent in dict.fromkeys(map(str, above)) if parent in content]
    return names, parents


def read_microthesauri(lines, name):
    """
    What concepts belong to.

    Args:
        lines (`Iterable[tuple[int, str]]`): Numbered lines of `microthesauri.tsv`.

    Returns:
        `tuple[dict[str, list[str]], list[tuple[str, str]]]`: domains and microthesauri by concept id, and all pairs of domain and
        microthesaurus in alphabetical order.

    Raises:
        `ValueError`: a missing column or an empty field; file and line are named.
    """
    reader = csv.DictReader((line for _, line in lines), delimiter="\t", quoting=csv.QUOTE_NONE)
    columns = ("concept_id", "microthesaurus", "domain")
    if not set(columns) <= set(reader.fieldnames or ()):
        raise HTCError(f"{name}, line 1: the columns are {reader.fieldnames}; {', '.join(columns)} are needed, tab-separated.")
    groups, pairs = {}, set()
    for row in reader:
        if not all((row[column] or "").strip() for column in columns):
            raise HTCError(f"{name}, line {reader.line_num}: an empty field among {', '.join(columns)}.")
        concept, group, domain = (row[column].strip() for column in columns)
        groups.setdefault(concept, set()).update((domain, group))
        pairs.add((domain, group))
    return {concept: sorted(found) for concept, found in groups.items()}, sorted(pairs)


def concept_hierarchy(names, parents):
    """The [`LabelHierarchy`] of all concepts; those without parents are on top."""
    edges = []
    for concept, above in parents.items():
        edges.extend((names[parent], names[concept]) for parent in above)
        if not above:
            edges.append(("Root", names[concept]))
    return LabelHierarchy.from_edges(edges)


def with_ancestors(concepts, parents):
    """The concepts and all their ancestors, a set of ids."""
    found, stack = set(), list(concepts)
    while stack:
        concept = stack.pop()
        if concept not in found:
            found.add(concept)
            stack.extend(parents[concept])
    return found


class Eurlex57k(OriginalsBuilder):
    """EURLEX57K; see the module's card for texts, labels, variants and files."""

    NAME = "eurlex57k"
    VARIANTS = {
        "as_given": Variant("The assigned concepts, without ancestors.", DOCUMENTS, 4271),
        "closed": Variant("The assigned concepts and all their ancestors.", DOCUMENTS, 4513),
        "microthesauri": Variant("EuroVoc domains and microthesauri.", DOCUMENTS, (21, 127)),
    }
    GET = (
        "Download datasets.zip and eurovoc_en.json from http://nlp.cs.aueb.gr/software_and_datasets/EURLEX57K/ into one folder "
        "and pass the folder as `data_dir`."
    )
    HOMEPAGE = "http://nlp.cs.aueb.gr/software_and_datasets/EURLEX57K/"
    LICENSE = "CC BY-SA 4.0"
    USED_LABELS_ONLY = True

    def _split_generators(self, dl_manager):
        if self.config.name == "microthesauri":
            _, pairs = self._microthesauri()
            domains = [("Root", domain) for domain in dict.fromkeys(domain for domain, _ in pairs)]
            self.keep_taxonomy(LabelHierarchy.from_edges(domains + pairs))
        else:
            self.keep_taxonomy(concept_hierarchy(*self._concepts()))
        found = {name.split("/")[-2].lower() for name in self.names(_is_document)}
        for split, folders in SPLITS.items():
            if not found & set(folders):
                raise self.missing(f"the folder {folders[0]!r} with the {split} documents (.json)")
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"shards": self.shards(), "folders": folders})
            for split, folders in SPLITS.items()
        ]

    def _concepts(self):
        with self.opened(lambda name: name.split("/")[-1].lower() in CONCEPT_FILES, "the concepts (eurovoc_en.json)") as (
            name,
            stream,
        ):
            return read_concepts(stream, name)

    def _microthesauri(self):
        what = "`microthesauri.tsv` (see hf_htc.dataset_scripts.eurlex57k)"
        with self.opened(lambda name: name.split("/")[-1].lower() == "microthesauri.tsv", what) as (name, stream):
            return read_microthesauri(text_lines(stream, name), name)

    def _generate_examples(self, shards, folders):
        if self.config.name == "microthesauri":
            labels_of, parents = self._microthesauri()[0], None
        else:
            names, parents = self._concepts()
            labels_of = {concept: (name,) for concept, name in names.items()}
        for shard in shards:
            for name, stream in self.files(lambda n: _is_document(n) and n.split("/")[-2].lower() in folders, shard):
                document = read_document(stream, name)
                concepts = document["concepts"]
                if parents is not None:
                    unknown = [concept for concept in concepts if concept not in parents]
                    if unknown:
                        raise HTCError(f"{name}: the concept {unknown[0]!r} is not in the concept file. Get both files again.")
                    if self.config.name == "closed":
                        concepts = with_ancestors(concepts, parents)
                labels = sorted({label for concept in concepts for label in labels_of.get(concept, ())})
                if labels and document["text"]:
                    yield document["id"], {"id": document["id"], "text": document["text"], "labels": labels}


def _is_document(name):
    return re.search(r"(^|/)(train|dev|validation|test)/[^/]+\.json$", name, re.IGNORECASE) is not None


def read_document(stream, name):
    """
    `id`, `text` and `concepts` of one law.

    Raises:
        `ValueError`: not JSON, or a key is missing; the file is named.
    """
    try:
        law = json.load(stream)
    except ValueError as error:
        raise HTCError(f"{name}: not JSON ({error}).") from error
    try:
        body = law["main_body"]
        parts = [law["title"], law["header"], law["recitals"], *([body] if isinstance(body, str) else body)]
        concepts = list(dict.fromkeys(map(str, law["concepts"])))
        identifier = law["celex_id"]
    except (KeyError, TypeError) as error:
        raise HTCError(
            f"{name}: no law of EURLEX57K ({type(error).__name__}: {error}); celex_id, title, header, recitals, main_body and "
            "concepts are needed."
        ) from error
    return {"id": identifier, "text": "\n".join(part.strip() for part in parts if part and part.strip()), "concepts": concepts}
