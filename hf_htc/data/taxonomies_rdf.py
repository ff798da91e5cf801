"""Taxonomies in SKOS (RDF/XML, Turtle, N-Triples, JSON-LD), read by rdflib, and in OBO."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from urllib.parse import unquote
from xml.sax import SAXException, SAXParseException

from hf_htc.models.errors import HTCError, HTCImportError, reason_of

from .taxonomies_draft import Draft


# How a node without a URI of its own is written, and what only hf_htc's own files have.
OWN = "urn:hf-htc:"
FORMATS = {"xml": "RDF/XML", "turtle": "Turtle", "nt": "N-Triples", "json-ld": "JSON-LD"}


def rdf_format(text):
    """Which form of RDF a text is in, `None` for no RDF."""
    start = text.lstrip()[:4000]
    if re.match(r"(?s)(<\?xml.*?\?>\s*)?(<!--.*?-->\s*|<!DOCTYPE.*?\]?>\s*)*<([\w-]+:)?RDF\b", start):
        return "xml"
    if re.search(r"(?im)^\s*(@prefix|@base|prefix\s+[\w-]*:\s*<|base\s+<)", start):
        return "turtle"
    if re.match(r"(?:\s*(?:#.*)?\n)*\s*(<[^>\s]+>|_:\w+)\s+<[^>\s]+>\s+(<|\"|_:)", start):
        return "nt"
    if start[:1] in "{[" and re.search(r'"@(context|graph|id|type)"\s*:', start):
        return "json-ld"
    return None


def _statements(text, form, file):
    """The statements of a text, as a graph of rdflib that keeps them by predicate and subject, in the order of the file."""
    try:
        import rdflib
    except ImportError as error:
        raise HTCImportError(f"{file}: reading SKOS needs rdflib: pip install 'hf_htc[skos]'.") from error

    class Statements(rdflib.Graph):
        # The stores of rdflib index each statement several times, which takes longer than the parsing.
        def __init__(self):
            super().__init__(store="SimpleMemory", bind_namespaces="none")
            self.by_predicate = {}

        def add(self, triple):
            subject, predicate, value = triple
            row = self.by_predicate.setdefault(predicate, {}).setdefault(subject, [])
            if value not in row:
                row.append(value)
            return self

        def rows(self, predicate):
            """The values of each subject, `dict[subject, list]`."""
            return self.by_predicate.get(predicate, {})

    logging.getLogger("rdflib.term").setLevel(logging.ERROR)  # it warns of every literal that is odd
    graph = Statements()
    try:
        if form == "json-ld":  # its parser adds to the store itself
            parsed = rdflib.Graph(bind_namespaces="none").parse(data=text, format=form)
            for triple in parsed:
                graph.add(triple)
        else:
            graph.parse(data=text, format=form)
    except RecursionError as error:
        raise HTCError("is nested too deeply to be read.", file=file) from error
    except (
        SyntaxError,
        SAXException,
        rdflib.exceptions.Error,
        ValueError,
        OSError,
    ) as error:  # the last one of a context on the web
        if isinstance(error, SAXParseException):
            line = error.getLineNumber()
        else:  # Turtle's parser counts lines from 0
            line = error.lines + 1 if isinstance(getattr(error, "lines", None), int) else getattr(error, "lineno", None)
        raise HTCError(f"is no valid {FORMATS[form]}: {reason_of(error)}.", file=file, line=line) from error
    return graph


def read_skos(text, form, file, language=None):
    """
    The [`Draft`] of a SKOS concept scheme.

    Args:
        text (`str`), form (`str`): One of `"xml"`, `"turtle"`, `"nt"`, `"json-ld"`.
        language (`str`, *optional*): Of the names; by default the one that most concepts have.
    """
    graph = _statements(text, form, file)
    from rdflib.namespace import OWL, RDF, RDFS, SKOS
    from rdflib.term import BNode, Literal, URIRef

    draft = Draft(file, f"SKOS in {FORMATS[form]}", "unique texts")
    parents = {child: dict.fromkeys(row) for child, row in graph.rows(SKOS.broader).items()}
    for parent, row in graph.rows(SKOS.narrower).items():
        for child in row:
            parents.setdefault(child, {})[parent] = None
    for predicate in (SKOS.broaderTransitive, RDFS.subClassOf):
        if not parents:
            parents = {child: dict.fromkeys(row) for child, row in graph.rows(predicate).items()}
    types = graph.rows(RDF.type)
    concepts = {concept: None for concept, row in types.items() if SKOS.Concept in row}
    if not concepts and not parents:
        raise HTCError(
            "is RDF without concepts of SKOS (`skos:Concept`, `skos:broader`).",
            file=file,
            mend="Give a concept scheme, or write it as `parent<TAB>child` lines.",
        )
    for child, row in parents.items():  # a concept that is only named as one
        concepts.setdefault(child)
        concepts.update(dict.fromkeys(row))
    labels = {}
    for predicate in (SKOS.prefLabel, RDFS.label):
        for concept, row in graph.rows(predicate).items():
            for label in row:
                labels.setdefault(concept, {}).setdefault(label.language if isinstance(label, Literal) else None, str(label))
    tags = Counter(tag for concept in concepts for tag in labels.get(concept, ()))
    declared = next((str(row[0]) for row in graph.rows(URIRef(OWN + "language")).values()), None)
    draft.language = _chosen_language(tags, language or declared, file)
    others = [tag for tag in tags if tag != draft.language and tag is not None]
    if others:
        draft.form += f", names in {draft.language!r} (also {', '.join(sorted(others)[:8])}; `language` takes another)"
    draft.keep_root = bool(graph.rows(SKOS.hasTopConcept) or graph.rows(SKOS.topConceptOf))
    deprecated = {concept for concept, row in graph.rows(OWL.deprecated).items() if str(row[0]) in ("true", "1")}
    facts = _skos_facts(graph, concepts, draft)
    num_foreign = 0
    for concept in concepts:
        if concept in deprecated:
            continue
        num_foreign += concept not in labels and concept not in types
        texts, uri = labels.get(concept, {}), str(concept)
        own, named = uri, None
        if isinstance(concept, BNode):
            own = None
        elif uri.startswith(OWN + "name:"):
            own, named = None, unquote(uri[len(OWN + "name:") :])
        elif uri.startswith(OWN + "id:"):
            own = unquote(uri[len(OWN + "id:") :])
        text = texts.get(draft.language) or texts.get(None) or next(iter(texts.values()), named)
        kept = {"id": own, "text": text, "name": named, **facts.get(concept, {})}
        kept["translations"] = {tag: word for tag, word in texts.items() if tag is not None and tag != draft.language}
        above = [parent for parent in parents.get(concept, ()) if parent not in deprecated and parent != concept]
        draft.add(uri, str(above[0]) if above else None, None, **{k: v for k, v in kept.items() if v or v is False})
        for parent in above[1:]:
            draft.add(uri, str(parent))
    if num_foreign:
        draft.notes.append(f"{num_foreign} concepts are described elsewhere and have no name here.")
    if deprecated:
        draft.notes.append(f"{len(deprecated)} deprecated concepts are left out.")
    return draft


def _chosen_language(tags, language, file):
    if language is None:
        best = max(tags.values(), default=0)
        # A language that nearly all concepts have; English before others, as in most schemes.
        full = [tag for tag, count in tags.items() if count == best]
        return next((tag for tag in (None, "en") if tag in full), sorted(full, key=str)[0] if full else None)
    match = next((tag for tag in tags if tag is not None and tag.lower() == language.lower()), None)
    match = match or next((tag for tag in sorted(filter(None, tags)) if tag.lower().split("-")[0] == language.lower()), None)
    if match is None:
        known = ", ".join(sorted(filter(None, tags))) or "none with a language"
        raise HTCError(
            f"no concept has a name in the language {language!r}; there are {known}.",
            file=file,
            field="language",
            value=language,
        )
    return match


def _skos_facts(graph, concepts, draft):
    """Alternative names, description, notation and what hf_htc itself writes, by concept."""
    from rdflib.namespace import DCTERMS, SKOS
    from rdflib.term import URIRef

    facts = {}
    for concept, row in graph.rows(SKOS.altLabel).items():
        facts.setdefault(concept, {})["alternatives"] = [str(word) for word in row]
    for predicate in (SKOS.scopeNote, SKOS.definition):  # a definition counts more
        for concept, row in graph.rows(predicate).items():
            chosen = next((value for value in row if getattr(value, "language", None) == draft.language), row[0])
            if not isinstance(chosen, URIRef):
                facts.setdefault(concept, {})["description"] = str(chosen)
    for predicate, name in ((SKOS.notation, "notation"), (DCTERMS.identifier, "identifier")):
        for concept, row in graph.rows(predicate).items():
            values = [str(value) for value in row]
            facts.setdefault(concept, {}).setdefault("attributes", {})[name] = values if len(values) > 1 else values[0]
    for concept, row in graph.rows(URIRef(OWN + "attributes")).items():
        facts.setdefault(concept, {}).setdefault("attributes", {}).update(json.loads(str(row[0])))
    for concept, row in graph.rows(URIRef(OWN + "name")).items():
        facts.setdefault(concept, {})["name"] = str(row[0])
    for concept, row in graph.rows(URIRef(OWN + "is_label")).items():
        facts.setdefault(concept, {})["is_label"] = str(row[0]) == "true"
    return {concept: own for concept, own in facts.items() if concept in concepts}


# ------------------------------------------------------------------ OBO


QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def is_obo(text):
    """Whether a text is in OBO."""
    return re.search(r"(?m)^\[Term\]\s*$", text) is not None and re.search(r"(?m)^id:\s*\S", text) is not None


def read_obo(text, file):
    """The [`Draft`] of an ontology in OBO: `is_a` makes the hierarchy; obsolete terms are left out."""
    draft = Draft(file, "OBO, `is_a` as the hierarchy", "unique texts")
    term, terms, obsolete = None, [], 0
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            term = {"line": number, "is_a": [], "attributes": {}, "alternatives": []} if line == "[Term]" else None
            if term is not None:
                terms.append(term)
        elif term is not None and ":" in line and not line.startswith("!"):
            tag, _, value = line.partition(":")
            _obo_tag(term, tag.strip(), value.strip(), file, number)
    for term in terms:
        if term.get("obsolete"):
            obsolete += 1
            continue
        if not term.get("id"):
            raise HTCError("a [Term] has no `id`.", file=file, line=term["line"])
        facts = {what: term.get(what) for what in ("name", "text", "description", "alternatives", "attributes", "is_label")}
        own = term["id"] if not term["id"].startswith(OWN + "name:") else None
        if own is None and facts["name"] is None:
            facts["name"] = unquote(term["id"][len(OWN + "name:") :])
        if term["id"] in draft.nodes:
            raise HTCError(
                f"the id {term['id']!r} stands for two terms; the other one is in line {draft.nodes[term['id']].line}.",
                file=file,
                line=term["line"],
            )
        draft.add(term["id"], None, term["line"], id=own, **{k: v for k, v in facts.items() if v or v is False})
        for parent, line in term["is_a"]:
            draft.add(term["id"], parent, line)
    if obsolete:
        draft.notes.append(f"{obsolete} obsolete terms are left out.")
    return draft


def _obo_tag(term, tag, value, file, line):
    if tag == "id":
        term["id"] = _plain(value)
    elif tag == "name":
        term["text"] = _plain(value)
    elif tag == "is_a":
        term["is_a"].append((_plain(value), line))
    elif tag == "is_obsolete":
        term["obsolete"] = value.startswith("true")
    elif tag in ("def", "synonym"):
        match = QUOTED.match(value)
        if match is None:
            raise HTCError(f"`{tag}` holds no text in quotes: {value[:60]!r}.", file=file, line=line)
        text = _unescaped(match.group(1))
        if tag == "def":
            term["description"] = text
        else:
            term["alternatives"].append(text)
    elif tag == "property_value" and value.startswith(OWN):
        key, _, rest = value[len(OWN) :].partition(" ")
        match = QUOTED.match(rest)
        held = _unescaped(match.group(1)) if match else rest.split()[0]
        if key == "attributes":
            term["attributes"] = json.loads(held)
        else:
            term["name" if key == "name" else key] = held == "true" if key == "is_label" else held
    elif tag in ("namespace", "alt_id", "comment", "subset"):
        old = term["attributes"].get(tag)
        value = _plain(value)
        term["attributes"][tag] = value if old is None else [*(old if isinstance(old, list) else [old]), value]


def _plain(value):
    """A value without the comment and the modifiers behind it (`is_a: GO:1 {source="x"} ! name`)."""
    value = re.split(r"\s!(?:\s|$)", value)[0]
    return _unescaped(re.sub(r"\s(?<!\\)\{.*\}\s*$", "", value).strip())


def _unescaped(value):
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t", "W": " "}.get(match.group(1), match.group(1)), value)
