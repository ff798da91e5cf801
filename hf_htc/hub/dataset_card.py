"""The README of a data set on the Hub: what is in it, how much, whose it is, how it is loaded.

Legend: `S` documents, `N` labels.
"""

import numpy as np
import yaml

from hf_htc.data.front_matter import split_front_matter
from hf_htc.data.splits import label_csr
from hf_htc.models.whole_files import write_text


def describe_dataset(readme, loaded, name, license=None, citation=None, description=None):
    """
    Completes the `README.md` that [`HTCDataset.save`] wrote: front matter, statistics, licence, citation, how to load it.

    Args:
        readme (`Path`): The file; it is changed.
        loaded ([`HTCDataset`]), name (`str`): The data, and what `load_htc_dataset` is to be called with.
        license (`str`, *optional*): The Hub's identifier, e.g. `"cc-by-4.0"`, or words of your own.
        citation (`str`, *optional*): BibTeX.
        description (`str`, *optional*): A paragraph in front.
    """
    head, body = split_front_matter(readme.read_text(encoding="utf-8"))
    head.setdefault("tags", []).append("hierarchical-text-classification")
    head.setdefault("task_categories", ["text-classification"])
    if license:
        head["license"] = license if _is_identifier(license) else "other"
        if head["license"] == "other":
            head["license_name"] = license
    parts = [body.rstrip()]
    if description:
        parts.append(description.strip())
    parts += [_overview(loaded), _tables(loaded)]
    if license:
        parts.append(f"Licence: {license}.")
    if citation:
        parts.append(f"```bibtex\n{citation.strip()}\n```")
    parts.append(f'```python\nfrom hf_htc import load_htc_dataset\n\ndataset, hierarchy = load_htc_dataset("{name}")\n```')
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    write_text(readme, f"---\n{front}---\n\n" + "\n\n".join(parts) + "\n")


def _is_identifier(license):
    return " " not in license and license == license.lower()


def _overview(loaded):
    statistics = loaded.hierarchy.statistics()
    sizes = ", ".join(f"{split} {len(rows):,}" for split, rows in loaded.dataset.items())
    kind = "tree" if loaded.hierarchy.is_tree else "DAG"
    extra = loaded.hierarchy.num_nodes - loaded.hierarchy.num_labels
    text = f"{statistics['num_labels']:,} labels on {statistics['num_levels']} levels, a {kind}"
    text += f" with {extra:,} more nodes that are no labels" if extra else ""
    text += f"; documents: {sizes}. The labels are "
    if loaded.label_closure == "closed":
        return text + "closed: every document carries all ancestors of its labels."
    return text + "as given: a document need not carry the ancestors of its labels."


def _tables(loaded):
    hierarchy = loaded.hierarchy
    rows = [["split", "documents", "labels per document", "words per document (median)", "labels that occur"]]
    for split, documents in loaded.dataset.items():
        indptr, indices = label_csr(documents)
        words = np.median([len(text.split()) for text in documents["text"]]) if len(documents) else 0
        mean = len(indices) / max(1, len(documents))
        rows.append([split, f"{len(documents):,}", f"{mean:.2f}", f"{words:,.0f}", f"{len(np.unique(indices)):,}"])
    levels = [["level", *(str(level) for level in range(1, hierarchy.num_levels + 1))]]
    levels.append(["labels", *(f"{len(unit):,}" for unit in hierarchy.level_units())])
    return _table(rows) + "\n" + _table(levels)


def _table(rows):
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join("| " + " | ".join(row) + " |\n" for row in lines)
