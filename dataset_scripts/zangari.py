"""
# Linux Bugs and Amazon 5x5 (and the WOS split) of Zangari et al.

Zangari et al., *Hierarchical Text Classification and Its Foundations: A Review of Current Research*, Electronics 13(7), 2024;
used by PTMTTaxoFormer. Linux Bugs (extended) after Lyubinets et al., 2018; Amazon 5x5 from the reviews of Ni et al., EMNLP
2019.

* **Files.** JSONL of https://doi.org/10.5281/zenodo.7319518, lines `{"text": ..., "labels": [first level, second level]}`, one
  training and one test file a data set, in archives or not.
* **Texts.** As they are.
* **Labels.** Second-level names stand behind their first level, `ACPI_Other`, as in the authors' taxonomies, also where a file
  gives `Other` alone. Two labels a document, a single path, closed.
* **Splits.** The test files as they are, a third of the documents; 20 % of the training documents, drawn as scikit-learn's
  `train_test_split` with `random_state=0` does, are validation. Which ones PTMTTaxoFormer took is not known; the numbers are
  its own.
* **Size.** Bugs: 35,050 reports, 18,692 / 4,674 / 11,684, 102 labels (17-85); the page of the files says 30,050,
  PTMTTaxoFormer's table 35,050. Amazon 5x5: 500,000 reviews, 266,666 / 66,667 / 166,667, 30 labels (5-25).
* **License.** That of the page of the files; reviews and bug reports belong to their authors.
* **Checked.** With twins of the described form; the files themselves could not be read here. Their names are not stated
  anywhere, so any `.jsonl` or `.json` counts whose path names the data set (`bug`, `amazon`) and `train` or `test`; where no
  path names it, all do.

```python
>>> from hf_htc.data import load_htc_dataset
>>> dataset, hierarchy = load_htc_dataset("bugs", data_dir="zenodo_7319518")  # doctest: +SKIP
>>> dataset, hierarchy = load_htc_dataset("amazon5x5", data_dir="zenodo_7319518")  # doctest: +SKIP
```
"""

from __future__ import annotations

import json

import datasets

from hf_htc.data.archives import text_lines
from hf_htc.models.errors import HTCError

from .originals import OriginalsBuilder, Variant, shuffled_split, two_level_hierarchy


def read_jsonl(lines, name):
    """
    Yields `(number, text, first level, second level)` of each line.

    Raises:
        `ValueError`: a line that is no JSON object with a text and two labels; file and line are named.
    """
    for number, line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise HTCError(f"{name}, line {number}: not JSON ({error}).") from error
        labels = row.get("labels") if isinstance(row, dict) else None
        complete = isinstance(labels, list) and len(labels) == 2 and all(isinstance(x, str) and x.strip() for x in labels)
        if not complete or not isinstance(row.get("text"), str):
            raise HTCError(f"{name}, line {number}: expected `{{'text': ..., 'labels': [first level, second level]}}`.")
        first, second = (label.strip() for label in labels)
        second = second if second.startswith(f"{first}_") else f"{first}_{second}"
        yield number, row["text"].strip(), first, second


class ZangariBuilder(OriginalsBuilder):
    """Reads the JSONL files of Zangari et al.; `KEYWORDS` are the words by which a path names the data set."""

    KEYWORDS = ()
    VALIDATION = 0.2

    def jsonl_files(self):
        """
        Names of the `"train"` and the `"test"` file; `None` when there is neither.

        Raises:
            `ValueError`: several files that could be one, or one without the other.
        """
        names = self.names(lambda name: name.lower().endswith((".jsonl", ".json")))
        paths = {name: f"{self.root.name}/{name}".lower() for name in names}
        named = [name for name in names if any(word in paths[name] for word in self.KEYWORDS)]
        found = {split: [n for n in named or names if split in paths[n].split("/")[-1]] for split in ("train", "test")}
        if not any(found.values()):
            return None
        for split, files in found.items():
            if len(files) != 1:
                raise HTCError(
                    f"{self.NAME!r} needs one {split} file (.jsonl); {str(self.root)!r} has {files or 'none'}. Keep one file "
                    f"with 'train' and one with 'test' in its name. {self.GET}"
                )
        return {split: files[0] for split, files in found.items()}

    def jsonl_generators(self, files):
        """The splits, after writing the taxonomy; `files` as [`~ZangariBuilder.jsonl_files`] gives them."""
        pairs, counts = set(), {}
        for split, file in files.items():
            with self.opened(lambda name, file=file: name == file, file) as (name, stream):
                for count, (_, _, first, second) in enumerate(read_jsonl(text_lines(stream, name), name), 1):  # noqa: B007
                    pairs.add((first, second))
                counts[split] = count
        self.keep_taxonomy(two_level_hierarchy(sorted(pairs))[0])
        train, validation = shuffled_split(counts["train"], self.VALIDATION)
        parts = {"train": ("train", train), "validation": ("train", validation), "test": ("test", range(counts["test"]))}
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"file": files[part], "part": part, "rows": frozenset(map(int, rows))})
            for split, (part, rows) in parts.items()
        ]

    def jsonl_examples(self, file, part, rows):
        """Examples of those rows of a file."""
        with self.opened(lambda name: name == file, file) as (name, stream):
            for row, (number, text, first, second) in enumerate(read_jsonl(text_lines(stream, name), name)):
                if row in rows and text:
                    yield row, {"id": f"{part}-{number}", "text": text, "labels": [first, second]}

    def _split_generators(self, dl_manager):
        files = self.jsonl_files()
        if files is None:
            raise self.missing("a training and a test file (.jsonl)")
        return self.jsonl_generators(files)

    def _generate_examples(self, file, part, rows):
        yield from self.jsonl_examples(file, part, rows)


class Bugs(ZangariBuilder):
    """Linux Bugs (extended); see the module's card for texts, labels, splits and files."""

    NAME = "bugs"
    KEYWORDS = ("bug",)
    VARIANTS = {
        "default": Variant("Linux kernel bugs, two levels.", {"train": 18_692, "validation": 4_674, "test": 11_684}, (17, 85))
    }
    GET = "Download the Bugs files of https://doi.org/10.5281/zenodo.7319518 and pass their folder as `data_dir`."
    HOMEPAGE = "https://doi.org/10.5281/zenodo.7319518"


class Amazon5x5(ZangariBuilder):
    """Amazon 5x5; see the module's card for texts, labels, splits and files."""

    NAME = "amazon5x5"
    KEYWORDS = ("amazon",)
    VARIANTS = {
        "default": Variant(
            "Product reviews, five by five categories.", {"train": 266_666, "validation": 66_667, "test": 166_667}, (5, 25)
        )
    }
    GET = "Download the Amazon files of https://doi.org/10.5281/zenodo.7319518 and pass their folder as `data_dir`."
    HOMEPAGE = "https://doi.org/10.5281/zenodo.7319518"
