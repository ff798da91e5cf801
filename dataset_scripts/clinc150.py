"""
# CLINC150: queries to an assistant, labelled with domain and intent

Larson et al., *An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction*, EMNLP 2019.

* **Files.** `data/data_full.json` and `data/domains.json` of https://github.com/clinc/oos-eval, in a folder or in GitHub's zip
  file of the repository.
* **Texts.** The queries as they are, 8 words on average.
* **Labels.** `[domain, intent]`; 160 labels, two levels (10-150), a single path, closed, 150 queries an intent.
* **Variants.** `in_scope` (the default): 15,000 / 3,000 / 4,500. `with_oos`: the out-of-scope queries too, 100 / 100 / 1,000,
  under a first-level label `oos` without children: 161 labels (11-150).
* **Splits.** As distributed. Five queries stand in two splits, four of them with different labels.
* **License.** CC BY 3.0.
* **Checked.** With twins, `domains.json` and counts against the whole data set in Parquet.

```python
>>> from hf_htc.data import load_htc_dataset
>>> dataset, hierarchy = load_htc_dataset("clinc150", data_dir="oos-eval-master.zip")  # doctest: +SKIP
```
"""

from __future__ import annotations

import json

import datasets

from hf_htc.models.errors import HTCError
from hf_htc.models.hierarchy import LabelHierarchy

from .originals import OriginalsBuilder, Variant


PARTS = {"train": "train", "validation": "val", "test": "test"}
OUT_OF_SCOPE = "oos"


def domain_hierarchy(domains, name, with_oos=False):
    """
    The [`LabelHierarchy`] of `domains.json`, `{domain: [intent, ...]}`.

    Raises:
        `ValueError`: another form, or an intent in two domains.
    """
    if not isinstance(domains, dict) or not all(isinstance(intents, list) and intents for intents in domains.values()):
        raise HTCError(f"{name}: expected an object `domain: [intent, ...]`.")
    domain_of = {}
    for domain, intents in domains.items():
        for intent in intents:
            other = domain_of.setdefault(intent, domain)
            if other != domain or intent in domains:
                raise HTCError(f"{name}: the intent {intent!r} of {domain!r} is in {other!r} too, or names a domain.")
    tops = [("Root", domain) for domain in [*domains, *([OUT_OF_SCOPE] if with_oos else [])]]
    texts = {label: label.replace("_", " ") for label in [*domains, *domain_of]}
    if with_oos:
        texts[OUT_OF_SCOPE] = "out of scope"
    return LabelHierarchy.from_edges(tops + [(domain, intent) for intent, domain in domain_of.items()], texts=texts)


class Clinc150(OriginalsBuilder):
    """CLINC150; see the module's card for texts, labels, variants and files."""

    NAME = "clinc150"
    VARIANTS = {
        "in_scope": Variant("Queries with an intent.", {"train": 15_000, "validation": 3_000, "test": 4_500}, (10, 150)),
        "with_oos": Variant(
            "Queries with an intent or out of scope.", {"train": 15_100, "validation": 3_100, "test": 5_500}, (11, 150)
        ),
    }
    GET = (
        "Download data_full.json and domains.json from the folder `data` of https://github.com/clinc/oos-eval into one folder "
        "and pass it as `data_dir`."
    )
    HOMEPAGE = "https://github.com/clinc/oos-eval"
    LICENSE = "CC BY 3.0"

    def _split_generators(self, dl_manager):
        if not self.names(lambda name: name.split("/")[-1] == "data_full.json"):
            raise self.missing("`data_full.json`")
        name, domains = self._json("domains.json")
        self.keep_taxonomy(domain_hierarchy(domains, name, self.config.name == "with_oos"))
        return [datasets.SplitGenerator(name=split, gen_kwargs={"part": part}) for split, part in PARTS.items()]

    def _json(self, file):
        with self.opened(lambda name: name.split("/")[-1] == file, f"`{file}`") as (name, stream):
            try:
                return name, json.load(stream)
            except ValueError as error:
                raise HTCError(f"{name}: not JSON ({error}).") from error

    def _generate_examples(self, part):
        domain_of = {intent: domain for domain, intents in self._json("domains.json")[1].items() for intent in intents}
        name, content = self._json("data_full.json")
        for key in [part, *([f"oos_{part}"] if self.config.name == "with_oos" else [])]:
            rows = content.get(key) if isinstance(content, dict) else None
            if not isinstance(rows, list):
                raise HTCError(f"{name}: there is no list {key!r}.")
            for number, row in enumerate(rows):
                if not (isinstance(row, list) and len(row) == 2 and row[1] in {*domain_of, OUT_OF_SCOPE}):
                    raise HTCError(f"{name}: row {number} of {key!r} is {row!r}; expected [query, intent of domains.json].")
                query, intent = row
                labels = [OUT_OF_SCOPE] if intent == OUT_OF_SCOPE else [domain_of[intent], intent]
                yield f"{key}-{number}", {"id": f"{key}-{number}", "text": query, "labels": labels}
