"""A hierarchy written in the forms in which taxonomies are exchanged; what a form cannot hold is said or refused."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path
from urllib.parse import quote

from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError
from hf_htc.models.whole_files import whole_file

from .taxonomies import COMMENTS
from .taxonomies_columns import Column
from .taxonomies_draft import ROOT_WORDS
from .taxonomies_rdf import OWN


logger = get_logger(__name__)

# Form: what it is, in words.
FORMS = {
    "skos": "SKOS in Turtle",
    "csv": "a table with a row per node and parent",
    "json": "what `LabelHierarchy.save` writes, which keeps everything",
    "paths": "one path of texts per node",
    "obo": "OBO",
}
SEPARATORS = (" > ", " / ", " | ", " :: ", " -> ")
TAG = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")


def write_taxonomy(hierarchy, path, form):
    """
    Writes a hierarchy to a file, as a whole or not at all.

    Args:
        hierarchy ([`LabelHierarchy`]), path (`str` or `os.PathLike`), form (`str`): As in [`taxonomy_text`].
    """
    text = taxonomy_text(hierarchy, form)
    with whole_file(path) as partial:
        Path(partial).write_text(text, encoding="utf-8", newline="")


def taxonomy_text(hierarchy, form):
    """
    A hierarchy in one of the forms of [`FORMS`], as [`LabelHierarchy.from_file`] reads it back.

    Args:
        hierarchy ([`LabelHierarchy`]).
        form (`str`): `"skos"`, `"csv"`, `"json"`, `"paths"` or `"obo"`. What would be lost is named in one warning.

    Returns:
        `str`

    Raises:
        [`HTCError`]: an unknown form; a hierarchy whose nodes or edges the form cannot hold.
    """
    writers = {"skos": _skos, "csv": _csv, "json": _json, "paths": _paths, "obo": _obo}
    if form not in writers:
        raise HTCError(f"`format` is {form!r}; a taxonomy is written as {', '.join(writers)}.", field="format", value=form)
    text, lost = writers[form](hierarchy)
    if lost:
        logger.warning(f"{form} cannot hold {', '.join(lost)}; json keeps everything.")
    return text


def _json(hierarchy):
    return json.dumps(hierarchy.to_dict(), ensure_ascii=False) + "\n", []


def _has_padding(values):
    return any(isinstance(value, str) and value != value.strip() for value in values or ())


def _has_one_root(hierarchy):
    """Whether one node stands above all others, which a reader would take for a root that is no label."""
    return len(hierarchy.top_nodes) == 1 and len(hierarchy.children[hierarchy.top_nodes[0]]) > 1


# ------------------------------------------------------------------ tables


def _csv(hierarchy):
    for what, values in (("name", hierarchy.names), ("id", hierarchy.ids or ())):
        bad = next((value for value in values if value and value != value.strip()), None)
        if bad is not None:
            raise HTCError(f"The {what} {bad!r} begins or ends with a blank, which a table loses.", mend="Write json instead.")
    names, ids = hierarchy.names, hierarchy.ids
    texts = None if hierarchy.texts == names and ids is None else hierarchy.texts
    columns = {"name": names, "parent_name" if texts or ids else "parent": None}
    if ids is not None:
        columns["id"] = ids
    if texts is not None:
        columns["text"] = texts
    lost = [] if hierarchy.language is None else ["the language of the texts"]
    for tag, translated in hierarchy.translations.items():
        columns[f"text_{tag}"] = translated
        if Column(f"text_{tag}").language != tag:
            raise HTCError(f"The language tag {tag!r} is no name of a column.", mend="Write skos or json instead.")
    if hierarchy.alternative_names is not None:
        columns["alternative_names"] = [json.dumps(row, ensure_ascii=False) if row else "" for row in hierarchy.alternative_names]
    if hierarchy.descriptions is not None:
        columns["description"] = hierarchy.descriptions
    if hierarchy.attributes is not None:
        columns["attributes"] = [json.dumps(row, ensure_ascii=False) if row else "" for row in hierarchy.attributes]
    if hierarchy.num_labels < hierarchy.num_nodes:
        columns["is_label"] = [int(i < hierarchy.num_labels) for i in range(hierarchy.num_nodes)]
    if any(_has_padding(columns.get(key)) for key in ("text", "description", *(f"text_{t}" for t in hierarchy.translations))):
        lost.append("blanks around texts")
    root = "Root" if _has_one_root(hierarchy) and not any(name.casefold() in ROOT_WORDS for name in names) else ""
    stream = io.StringIO()
    # Everything in quotes: a name may begin like a comment.
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(columns)
    for node, row in enumerate(hierarchy.parents):
        for count, parent in enumerate(row or [None]):
            above = root if parent is None else names[parent]
            facts = ["" if values[node] is None or count else values[node] for key, values in list(columns.items())[2:]]
            writer.writerow([names[node], above, *facts])
    if root == "" and _has_one_root(hierarchy):
        lost.append(f"that {names[hierarchy.top_nodes[0]]!r} is a label and no root (read it with `root=False`)")
    return stream.getvalue(), lost


def _paths(hierarchy):
    if not hierarchy.is_tree:
        node = next(i for i, row in enumerate(hierarchy.parents) if len(row) > 1)
        raise HTCError(f"Paths are for trees; {hierarchy.names[node]!r} has several parents.", mend="Write csv, skos or json.")
    if not len(hierarchy.edges):
        raise HTCError("A hierarchy without edges has no paths.", mend="Write csv, skos or json.")
    separator = next(
        (
            s
            for s in SEPARATORS
            if not any(s in text or text.startswith(s.strip()) or text.endswith(s.strip()) for text in hierarchy.texts)
        ),
        None,
    )
    if separator is None:
        raise HTCError(f"The texts hold every separator of paths ({', '.join(SEPARATORS)}).", mend="Write csv, skos or json.")
    lines, seen = [], {}
    for node in range(hierarchy.num_nodes):
        path = separator.join(hierarchy.texts[i] for i in hierarchy.paths(node)[0])
        if path in seen:
            raise HTCError(
                f"{hierarchy.names[seen[path]]!r} and {hierarchy.names[node]!r} have the same path {path!r}.",
                mend="Write csv, skos or json.",
            )
        seen[path] = node
        lines.append(path)
    for text in hierarchy.texts:
        if re.search(r"[\t\n\r]", text) or text != text.strip() or not text:
            raise HTCError(
                f"The text {text!r} holds a tab or a line break, begins or ends with a blank, or is empty.",
                mend="Write csv, skos or json.",
            )
    lost = []
    own = hierarchy.ids
    plain = own is not None and all(value and re.fullmatch(r"\S*\d\S*", value) for value in own)
    if plain:
        lines = [f"{value}\t{line}" for value, line in zip(own, lines)]
        names = own
    else:
        names = list(seen)
        if own is not None:
            lost.append("these ids (every node needs one, with a digit and without blanks)")
    bad = next((line for line in lines if line.startswith(COMMENTS)), None)
    if bad is not None:
        raise HTCError(f"The line {bad!r} would be read as a comment.", mend="Write csv, skos or json.")
    if names != hierarchy.names:
        lost.append("names (they become " + ("the ids)" if plain else "the paths)"))
    for what, given in (
        ("structure-only nodes (they become labels)", hierarchy.num_labels < hierarchy.num_nodes),
        ("descriptions", hierarchy.descriptions is not None and any(hierarchy.descriptions)),
        ("the language and translations", hierarchy.language is not None or bool(hierarchy.translations)),
        ("alternative names", hierarchy.alternative_names is not None),
        ("attributes", hierarchy.attributes is not None),
        ("that the first node is a label and no root (read it with `root=False`)", _has_one_root(hierarchy)),
    ):
        if given:
            lost.append(what)
    return "".join(line + "\n" for line in lines), lost


# ------------------------------------------------------------------ SKOS


def _is_uri(value):
    return re.fullmatch(r"(?:[a-z][a-z0-9+.-]*://|urn:)[^\s<>\"{}|\\^`\x00-\x20]+", value) is not None and not value.startswith(
        OWN
    )


def _uris(hierarchy):
    found = []
    for name, own in zip(hierarchy.names, hierarchy.ids or [None] * hierarchy.num_nodes):
        if own is None:
            found.append(f"{OWN}name:{quote(name, safe='')}")
        else:
            found.append(own if _is_uri(own) else f"{OWN}id:{quote(own, safe='')}")
    return found


def _literal(text, tag=None):
    if tag is not None and not TAG.fullmatch(tag):
        raise HTCError(f"{tag!r} is no language tag, such as 'en'.", field="language", value=tag, mend="Write json instead.")
    return json.dumps(str(text), ensure_ascii=False) + (f"@{tag}" if tag else "")


def _skos(hierarchy):
    lines = [
        "@prefix skos: <http://www.w3.org/2004/02/skos/core#> .",
        f"@prefix htc: <{OWN}> .",
        "",
        "<"
        + OWN
        + "scheme> a skos:ConceptScheme"
        + (f" ; htc:language {_literal(hierarchy.language)}" if hierarchy.language is not None else "")
        + " .",
    ]
    uris, counts = _uris(hierarchy), Counter(hierarchy.texts)
    for node, (name, text, row) in enumerate(zip(hierarchy.names, hierarchy.texts, hierarchy.parents)):
        said = ["a skos:Concept", f"skos:prefLabel {_literal(text, hierarchy.language)}"]
        if name != text or counts[text] > 1:
            said.append(f"htc:name {_literal(name)}")
        said += [f"skos:broader <{uris[parent]}>" for parent in row]
        if not row:
            said.append(f"skos:topConceptOf <{OWN}scheme>")
        for tag, translated in hierarchy.translations.items():
            if translated[node]:
                said.append(f"skos:prefLabel {_literal(translated[node], tag)}")
        said += [
            f"skos:altLabel {_literal(word, hierarchy.language)}" for word in (hierarchy.alternative_names or {node: ()})[node]
        ]
        if hierarchy.descriptions is not None and hierarchy.descriptions[node]:
            said.append(f"skos:definition {_literal(hierarchy.descriptions[node], hierarchy.language)}")
        attributes = dict((hierarchy.attributes or {node: {}})[node])
        said += [f"skos:notation {_literal(code)}" for code in _codes(attributes)]
        if attributes:
            said.append(f"htc:attributes {_literal(json.dumps(attributes, ensure_ascii=False))}")
        if node >= hierarchy.num_labels:
            said.append('htc:is_label "false"')
        lines.append(f"<{uris[node]}> " + " ; ".join(said) + " .")
    return "\n".join(lines) + "\n", []


def _codes(attributes):
    """Takes the notation out of attributes, where SKOS has a word for it."""
    codes = attributes.get("notation")
    if isinstance(codes, str):
        return [attributes.pop("notation")]
    if (
        isinstance(codes, list)
        and len(codes) > 1
        and all(isinstance(code, str) for code in codes)
        and len(set(codes)) == len(codes)
    ):
        return attributes.pop("notation")
    return []


# ------------------------------------------------------------------ OBO


def _escaped(text):
    return re.sub(r"[\\!{}\"]", lambda match: "\\" + match.group(), text).replace("\n", "\\n").replace("\t", "\\t")


def _obo(hierarchy):
    uris = [
        own or f"{OWN}name:{quote(name, safe='')}"
        for name, own in zip(hierarchy.names, hierarchy.ids or [None] * hierarchy.num_nodes)
    ]
    lost = [] if hierarchy.language is None and not hierarchy.translations else ["the language and translations"]
    if _has_padding(hierarchy.texts) or _has_padding(hierarchy.ids) or any("\r" in text for text in hierarchy.texts):
        lost.append("blanks around texts and ids")
    if _has_one_root(hierarchy):
        lost.append("that the first node is a label and no root (read it with `root=False`)")
    parts = ["format-version: 1.2\n"]
    counts = Counter(hierarchy.texts)
    for node, (name, text, row) in enumerate(zip(hierarchy.names, hierarchy.texts, hierarchy.parents)):
        lines = ["[Term]", f"id: {_escaped(uris[node])}", f"name: {_escaped(text)}"]
        if hierarchy.descriptions is not None and hierarchy.descriptions[node]:
            lines.append(f'def: "{_escaped(hierarchy.descriptions[node])}" []')
        lines += [f'synonym: "{_escaped(word)}" EXACT []' for word in (hierarchy.alternative_names or {node: ()})[node]]
        lines += [f"is_a: {_escaped(uris[parent])}" for parent in row]
        if name != text or counts[text] > 1:
            lines.append(f'property_value: {OWN}name "{_escaped(name)}" xsd:string')
        attributes = (hierarchy.attributes or {node: {}})[node]
        if attributes:
            lines.append(f'property_value: {OWN}attributes "{_escaped(json.dumps(attributes, ensure_ascii=False))}" xsd:string')
        if node >= hierarchy.num_labels:
            lines.append(f'property_value: {OWN}is_label "false" xsd:boolean')
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts), lost
