"""
# WOS-46985: abstracts of the Web of Science, labelled with domain and area

Kowsari et al., *HDLTex: Hierarchical Deep Learning for Text Classification*, ICMLA 2017.

* **Files.** The archive of Mendeley Data, https://data.mendeley.com/datasets/9rw3vkcfy4, or its `Meta-data` folder. Read is the
  tab-separated `Data.txt` with the columns `Y1 Y2 Y Domain area keywords Abstract`; where there is only the Excel sheet beside
  it (`Data.xls`, `Data.xlsx`), save the sheet as tab-separated text under this name. For the variant `145`, better the JSONL
  files of https://doi.org/10.5281/zenodo.7319518 (Zangari et al.).
* **Texts.** The abstracts as they are, without the quotes that a spreadsheet puts around them. HiAGM's and others' clean-up,
  lower case and removed punctuation, is left to the tokenizer.
* **Variant `141`** (the default; HiAGM, HiMatch, HiTIN, HPT, HBM, HiSR): 7 domains and 134 areas. While the file is read from
  top to bottom, an area gives way to the first more frequent area that was seen with the same `Y1` and `Y2` so far; frequencies
  are those of the whole file. `Electrical generator` so keeps exactly one document, which precedes the first of `Analog signal
  processing`; it falls into the test split and counts in a macro-F1 over 141 labels. Split: rows shuffled by NumPy's seed 7,
  then 20 % test, and 20 % of the rest validation, as scikit-learn's `train_test_split` with `random_state=0` does: 30,070 /
  7,518 / 9,397.
* **Variant `145`** (Zangari et al., PTMTTaxoFormer): 7 domains and the 138 areas with at least ten documents, called
  `Medical_Cancer`, 46,960 documents. From the JSONL files the test split is theirs, and 20 % of the training documents, drawn
  as above, are validation: 25,044 / 6,262 / 15,654 (PTMTTaxoFormer prints 31,306 training documents, which still holds the
  6,262). From `Data.txt` the split is that of the variant `141`, with a warning.
* **Labels.** `[domain, area]`, closed.
* **Splits.** Those of the variants; the two have different test documents, so their scores do not compare.
* **License.** MIT wording by its authors.
* **Checked.** Label counts against the label columns of all 46,985 documents; texts on rows of the same layout. The whole
  original archive could not be read here. The names inside the JSONL archives are not stated anywhere; any file name with
  `train` and `test` in it will do.

```python
>>> from hf_htc.data import load_htc_dataset
>>> dataset, hierarchy = load_htc_dataset("wos", data_dir="WebOfScience")  # doctest: +SKIP
```
"""

from __future__ import annotations

import re
from collections import Counter

import datasets
import numpy as np

from hf_htc.data.archives import text_lines
from hf_htc.models.errors import HTCError

from .originals import Variant, logger, shuffled_split, two_level_hierarchy
from .zangari import ZangariBuilder


COLUMNS = ("Y1", "Y2", "Y", "Domain", "area", "keywords", "Abstract")
ENCODINGS = ("utf-8", "cp1252", "latin-1")
MIN_DOCUMENTS = 10  # of an area in the variant 145


def read_rows(lines, name):
    """
    Yields `(code, domain, area, abstract)` of each document of `Data.txt`; the code is `"Y1-Y2"`.

    Raises:
        `ValueError`: other columns, or a line without seven of them; file and line are named.
    """
    for number, line in lines:
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")]
        if number == 1:
            if [field.lower() for field in fields[:7]] != [column.lower() for column in COLUMNS]:
                raise HTCError(f"{name}, line 1: the columns are {fields[:7]}; expected {list(COLUMNS)}, tab-separated.")
            continue
        if len(fields) != 7:
            raise HTCError(f"{name}, line {number}: {len(fields)} tab-separated fields; expected {len(COLUMNS)}.")
        y1, y2, _, domain, area, _, abstract = (_unquoted(field) for field in fields)
        if not (domain and area and abstract):
            raise HTCError(f"{name}, line {number}: an empty domain, area or abstract.")
        yield f"{y1}-{y2}", domain, area, abstract


def _unquoted(field):
    """A field without the quotes of a spreadsheet program."""
    if len(field) > 1 and field[0] == field[-1] == '"':
        field = field[1:-1].replace('""', '"')
    return field.strip().strip('"').strip()


def merged_areas(rows):
    """
    The areas after HiAGM's merging, one a row.

    Args:
        rows (`list[tuple[str, str, str]]`): (code, domain, area) in the order of the file.
    """
    counts = Counter((domain, area) for _, domain, area in rows)
    seen, merged = {}, []
    for code, domain, area in rows:
        names = seen.setdefault(code, {})
        names.setdefault(area)
        larger = (other for other in names if counts[domain, other] > counts[domain, area])
        merged.append(next(larger, area))
    return merged


def splits_of_rows(count):
    """
    Row numbers of `"train"`, `"validation"` and `"test"` as HiAGM's script draws them.

    Returns:
        `dict[str, np.ndarray]`
    """
    order = list(range(count))
    np.random.RandomState(7).shuffle(order)
    order = np.array(order)
    rest, test = shuffled_split(count, 0.2)
    train, validation = shuffled_split(len(rest), 0.2)
    return {"train": order[rest[train]], "validation": order[rest[validation]], "test": order[test]}


def zangari_area(domain, area):
    """The name of an area in the taxonomy of Zangari et al.: `"Medical_HIVAIDS"`."""
    return f"{domain}_{re.sub('[^A-Za-z0-9 ]', '', area).replace(' ', '-')}"


class Wos(ZangariBuilder):
    """WOS-46985; see the module's card for texts, labels, variants and files."""

    NAME = "wos"
    KEYWORDS = ("wos", "webofscience", "web-of-science", "web_of_science")
    VARIANTS = {
        "141": Variant("Areas merged as by HiAGM, its split.", {"train": 30_070, "validation": 7_518, "test": 9_397}, (7, 134)),
        "145": Variant(
            "Areas with ten documents, the split of Zangari et al.",
            {"train": 25_044, "validation": 6_262, "test": 15_654},
            (7, 138),
        ),
    }
    GET = (
        "Download WebOfScience from https://data.mendeley.com/datasets/9rw3vkcfy4, save the sheet of its Meta-data folder as "
        "tab-separated text `Data.txt` if it is not there, and pass the folder as `data_dir`; for the variant '145' download the "
        "WOS files of https://doi.org/10.5281/zenodo.7319518 instead."
    )
    HOMEPAGE = "https://data.mendeley.com/datasets/9rw3vkcfy4"
    LICENSE = "MIT"

    def _split_generators(self, dl_manager):
        if self.config.name == "145":
            files = self.jsonl_files()
            if files:
                return self.jsonl_generators(files)
        with self._opened() as (name, stream):
            rows = [row[:3] for row in read_rows(text_lines(stream, name, ENCODINGS), name)]
        if self.config.name == "141":
            pairs = list(zip([domain for _, domain, _ in rows], merged_areas(rows)))
            hierarchy, names = two_level_hierarchy(sorted(set(pairs)))
            labels = [(domain, names[domain, area]) for domain, area in pairs]
        else:
            logger.warning(
                "wos (145): the JSONL files of Zangari et al. are not there, so the split is that of the variant '141', with "
                "other test documents."
            )
            counts = Counter((domain, area) for _, domain, area in rows)
            kept = [pair for pair in sorted(counts) if counts[pair] >= MIN_DOCUMENTS]
            hierarchy, _ = two_level_hierarchy((domain, zangari_area(domain, area)) for domain, area in kept)
            labels = [(d, zangari_area(d, a)) if counts[d, a] >= MIN_DOCUMENTS else None for _, d, a in rows]
        self.keep_taxonomy(hierarchy)
        return [
            datasets.SplitGenerator(
                name=split, gen_kwargs={"labels": {int(i): labels[i] for i in numbers if labels[i] is not None}}
            )
            for split, numbers in splits_of_rows(len(rows)).items()
        ]

    def _opened(self):
        return self.opened(lambda name: name.split("/")[-1].lower() == "data.txt", "`Meta-data/Data.txt`")

    def _generate_examples(self, labels=None, **jsonl):
        if jsonl:
            yield from self.jsonl_examples(**jsonl)
            return
        with self._opened() as (name, stream):
            for number, row in enumerate(read_rows(text_lines(stream, name, ENCODINGS), name)):
                if number in labels:
                    yield number, {"id": str(number), "text": row[3], "labels": list(labels[number])}
