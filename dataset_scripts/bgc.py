"""
# BGC: blurbs of books, labelled with genres (BlurbGenreCollection-EN)

Aly et al., *Hierarchical Multi-label Classification of Text with Capsule Networks*, ACL SRW 2019.

* **Files.** The archive of the University of Hamburg, `blurbgenrecollectionen.zip`, from
  https://www.inf.uni-hamburg.de/en/inst/ab/lt/resources/data/blurb-genre-collection.html, with
  `BlurbGenreCollection_EN_train.txt`, `_dev.txt`, `_test.txt` and `hierarchy.txt`. Pass the zip file or its folder.
* **Texts.** The blurb (`<body>`) alone, as in the papers, without title and author; character references (`&amp;`) are
  resolved, markup inside a blurb stays as it is.
* **Labels.** The genres of all depths (`<d0>` to `<d3>`), as given; every ancestor is among them by the policy of the
  collection. The hierarchy has 152 genres; the six that no book has are left out: 146 labels (7-46-77-16), four levels, several
  paths.
* **Splits.** As distributed: 58,715 / 14,785 / 18,394 (91,894; some papers count 91,892).
* **License.** CC BY-NC 4.0; the blurbs belong to Penguin Random House.
* **Checked.** With twins of the form that other readers of the collection agree on: `<book>` elements one after the other
  without a root, and unescaped `&` in them, so the files are read by their tags, line by line, and not as XML. The archive
  itself could not be read here.

```python
>>> from hf_htc.data import load_htc_dataset
>>> dataset, hierarchy = load_htc_dataset("bgc", data_dir="blurbgenrecollectionen.zip")  # doctest: +SKIP
```
"""

from __future__ import annotations

import html
import re

import datasets

from hf_htc.data.archives import text_lines
from hf_htc.models.errors import HTCError
from hf_htc.models.hierarchy import LabelHierarchy

from .originals import OriginalsBuilder, Variant


FILES = {"train": "train", "validation": "dev", "test": "test"}
BEGIN = re.compile(r"<book(?=[\s>]|$)")
BODY = re.compile(r"<body>(.*?)</body>", re.DOTALL)
TOPICS = re.compile(r"<topics>(.*?)</topics>", re.DOTALL)
GENRE = re.compile(r"<d(\d)>(.*?)</d\1>", re.DOTALL)
ISBN = re.compile(r"<isbn>(.*?)</isbn>", re.DOTALL)
MAX_LINES = 10_000  # of one book


def read_books(lines, name):
    """
    Yields `(number of its first line, isbn or "", blurb, genres)` of each book.

    Raises:
        `ValueError`: a book without an end, a blurb or genres; file and line are named.
    """
    book, start = None, 0
    for number, line in lines:
        rest = line
        while rest is not None:
            if book is None:
                begin = BEGIN.search(rest)
                if begin is None:
                    break
                book, start, rest = [], number, rest[begin.end() :]
            content, end, after = rest.partition("</book>")
            if BEGIN.search(content) or len(book) > MAX_LINES:
                raise HTCError(f"{name}, line {number}: the book that begins in line {start} has no end (</book>).")
            book.append(content)
            if not end:
                break
            yield _book("\n".join(book), name, start)
            book, rest = None, after
    if book is not None:
        raise HTCError(f"{name}, line {start}: this book has no end (</book>); the file is cut off. Get it again.")


def _book(content, name, start):
    body, topics, isbn = BODY.search(content), TOPICS.search(content), ISBN.search(content)
    genres = [html.unescape(genre).strip() for _, genre in GENRE.findall(topics[1])] if topics else []
    if body is None or not genres or not all(genres):
        raise HTCError(f"{name}, line {start}: this book has no {'<body>' if body is None else 'genres (<d0> in <topics>)'}.")
    return start, isbn[1].strip() if isbn else "", html.unescape(body[1]).strip(), list(dict.fromkeys(genres))


def read_hierarchy(lines, name):
    """
    The [`LabelHierarchy`] of `hierarchy.txt`: lines `parent<TAB>child`; a name alone is a first-level genre without children.

    Raises:
        `ValueError`: a line with more than two names.
    """
    edges, alone = [], []
    for number, line in lines:
        names = [html.unescape(part).strip() for part in line.split("\t") if part.strip()]
        if len(names) > 2:
            raise HTCError(f"{name}, line {number}: expected `parent<TAB>child` or one name, got {line!r}.")
        if len(names) == 2:
            edges.append(tuple(names))
        alone.extend(names if len(names) == 1 else [])
    children = {child for _, child in edges}
    tops = [top for top in dict.fromkeys([*(parent for parent, _ in edges), *alone]) if top not in children]
    return LabelHierarchy.from_edges([("Root", top) for top in tops] + list(dict.fromkeys(edges)))


class Bgc(OriginalsBuilder):
    """BlurbGenreCollection-EN; see the module's card for texts, labels, splits and files."""

    NAME = "bgc"
    VARIANTS = {
        "default": Variant(
            "Blurbs of books and their genres.", {"train": 58_715, "validation": 14_785, "test": 18_394}, (7, 46, 77, 16)
        )
    }
    GET = (
        "Download blurbgenrecollectionen.zip from "
        "https://www.inf.uni-hamburg.de/en/inst/ab/lt/resources/data/blurb-genre-collection.html and pass it as `data_dir`."
    )
    HOMEPAGE = "https://www.inf.uni-hamburg.de/en/inst/ab/lt/resources/data/blurb-genre-collection.html"
    LICENSE = "CC BY-NC 4.0"
    USED_LABELS_ONLY = True

    def _split_generators(self, dl_manager):
        with self.opened(lambda name: name.split("/")[-1].lower() == "hierarchy.txt", "`hierarchy.txt`") as (name, stream):
            self.keep_taxonomy(read_hierarchy(text_lines(stream, name), name))
        files = self.names(lambda name: name.lower().endswith(".txt"))
        generators = []
        for split, part in FILES.items():
            found = [name for name in files if name.lower().endswith(f"_en_{part}.txt")]
            if len(found) != 1:
                raise self.missing(f"one file BlurbGenreCollection_EN_{part}.txt (there are {len(found)})")
            generators.append(datasets.SplitGenerator(name=split, gen_kwargs={"file": found[0], "part": part}))
        return generators

    def _generate_examples(self, file, part):
        with self.opened(lambda name: name == file, file) as (name, stream):
            for number, (start, isbn, text, genres) in enumerate(read_books(text_lines(stream, name), name)):
                if text:
                    # An ISBN may be missing or stand twice, so the place in the file makes the id unique.
                    yield number, {"id": f"{part}-{start}" + (f"-{isbn}" if isbn else ""), "text": text, "labels": genres}
