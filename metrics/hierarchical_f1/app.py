"""The page of the metric on a Space: type a taxonomy and label sets, see the scores under every closure policy."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import evaluate


AVERAGES = ("micro", "macro", "samples", "weighted")
CLOSURES = ("none", "up", "prune")

# The example of README.md.
TAXONOMY = """\
Arts > Music > Jazz
Arts > Music > Opera
Arts > Film
Sport > Tennis"""
REFERENCES = """\
Arts, Music, Jazz
Arts, Film
Sport, Tennis"""
PREDICTIONS = """\
Arts, Music, Opera
Film
Sport, Tennis, Arts"""


@lru_cache(maxsize=1)
def load_metric() -> Any:
    """The metric beside this file."""
    # By the path of the script, because a Space may have any folder name; in memory, because `evaluate` keeps the lock
    # of its cache file after an error, and a page meets many errors.
    return evaluate.load(str(Path(__file__).with_name("hierarchical_f1.py")), keep_in_memory=True)


def parse_taxonomy(text: str) -> dict[str, list[str]]:
    """
    Lines such as `Arts > Music > Jazz` as a dict of parents.

    Args:
        text (`str`): one path or one edge a line, from the top down, parts separated by `>`. A name is one node
            wherever it stands; a node below two others has two parents.

    Returns:
        `dict[str, list[str]]`: label -> parents, in the order of the first mention.

    Raises:
        ValueError: for an empty part, naming the line, or an empty taxonomy.
    """
    parents: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        names = [name.strip() for name in line.split(">")]
        if not all(names):
            raise ValueError(f"Taxonomy line {number} has an empty name: {line!r}. Write for example 'Arts > Music > Jazz'.")
        for position, name in enumerate(names):
            above = parents.setdefault(name, [])
            if position and names[position - 1] not in above:
                above.append(names[position - 1])
    if not parents:
        raise ValueError("The taxonomy is empty. Write one path a line, for example 'Arts > Music > Jazz'.")
    return parents


def parse_label_sets(text: str) -> list[list[str]]:
    """One document a line, labels separated by commas; an empty line is a document without labels."""
    return [[name.strip() for name in line.split(",") if name.strip()] for line in text.splitlines()]


def score(taxonomy: str, references: str, predictions: str, average: str = "micro", beta: float = 1.0) -> list[list]:
    """
    The scores of typed label sets under every closure policy.

    Args:
        taxonomy (`str`): see [`parse_taxonomy`].
        references, predictions (`str`): see [`parse_label_sets`].
        average (`str`, *optional*, defaults to `"micro"`): `"micro"`, `"macro"`, `"samples"` or `"weighted"`.
        beta (`float`, *optional*, defaults to 1.0): weight of recall in F.

    Returns:
        `list[list]`: one row a score: its name, then its value with `closure="none"`, `"up"` and `"prune"`, rounded to
        four places.

    Raises:
        ValueError: for unknown labels, unequal numbers of lines and malformed taxonomies, naming the culprit.
    """
    columns = [
        load_metric().compute(
            predictions=parse_label_sets(predictions),
            references=parse_label_sets(references),
            parents=parse_taxonomy(taxonomy),
            average=average,
            beta=beta,
            closure=closure,
            per_level=True,
            constrained=True,
        )
        for closure in CLOSURES
    ]
    echoed = ("average", "closure", "beta", "labels", "num_documents", "num_labels")
    return [[name, *(round(column[name], 4) for column in columns)] for name in columns[0] if name not in echoed]


def build() -> Any:
    """The Gradio page around [`score`]."""
    import gradio

    def show(*inputs):
        try:
            return score(*inputs)
        except (TypeError, ValueError) as error:
            raise gradio.Error(str(error)) from error

    return gradio.Interface(
        fn=show,
        inputs=[
            gradio.Textbox(TAXONOMY, lines=6, label="Taxonomy: one path a line"),
            gradio.Textbox(REFERENCES, lines=4, label="Gold labels: one document a line"),
            gradio.Textbox(PREDICTIONS, lines=4, label="Predicted labels: one document a line"),
            gradio.Dropdown(list(AVERAGES), value="micro", label="Average"),
            gradio.Number(1.0, label="Beta"),
        ],
        outputs=gradio.Dataframe(headers=["score", *(f'closure="{closure}"' for closure in CLOSURES)]),
        title="Hierarchical F1",
        description="Precision, recall and F of label sets over a taxonomy. The definitions are in the metric card.",
        article=Path(__file__).with_name("README.md").read_text(encoding="utf-8").split("---", 2)[-1],
    )


if __name__ == "__main__":
    build().launch()
