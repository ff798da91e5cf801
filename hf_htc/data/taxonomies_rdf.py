"""Taxonomies in SKOS (RDF/XML, Turtle, N-Triples, JSON-LD), read by rdflib, and in OBO."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from urllib.parse import unquote
from xml.sax import SAXParseException

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


def read_skos(text, form, file, language=None):
    """
    The [`Draft`] of a SKOS concept scheme.

    Args:
        text (`str`), form (`str`): One of `"xml"`, `"turtle"`, `"nt"`, `"json-ld"`.
        language (`str`, *optional*): Of the names; by default the one that most concepts have.
    """
    try:
        import rdflib
        from rdflib.namespace import DCTERMS, RDF, RDFS, SKOS
    except ImportError as error:
        raise HTCImportError(f"{file}: reading SKOS needs rdflib: pip install 'hf_htc[skos]'.") from error
    logging.getLogger("rdflib.term").setLevel(logging.ERROR)  # it warns of every literal that is odd
    graph = rdflib.Graph(bind_namespaces="none")
    try:
        graph.parse(data=text, format=form)
    except RecursionError as error:
        raise HTCError("is nested too deeply to be read.", file=file) from error
    except Exception as error:  # every parser of rdflib has exceptions of its own
        line = error.getLineNumber() if isinstance(error, SAXParseException) else getattr(error, "lines", None)
        line = line + 1 if line is not None and not isinstance(error, SAXParseException) else line
        line = getattr(error, "lineno", line)
        raise HTCError(f"is no valid {FORMATS[form]}: {reason_of(error)}.", file=file, line=line) from error
    draft = Draft(file, f"SKOS in {FORMATS[form]}", "unique texts")
    parents = {}
    for predicate in (SKOS.broader, SKOS.broadMatch, SKOS.broaderTransitive, RDFS.subClassOf):
        if predicate in (SKOS.broadMatch, SKOS.broaderTransitive, RDFS.subClassOf) and parents:
            continue
        for child, parent in graph.subject_objects(predicate):
            parents.setdefault(child, {})[parent] = None
        if predicate == SKOS.broader:
            for child, row in parents.items():
                if len(row) > 1:  # in the order of the file
                    parents[child] = dict.fromkeys(graph.objects(child, predicate))
            for parent, child in graph.subject_objects(SKOS.narrower):
                parents.setdefault(child, {})[parent] = None
    concepts = dict.fromkeys(graph.subjects(RDF.type, SKOS.Concept))
    labels = {}
    for predicate in (SKOS.prefLabel, RDFS.label):
        for concept, label in graph.subject_objects(predicate):
            labels.setdefault(concept, {}).setdefault(label.language if isinstance(label, rdflib.Literal) else None, str(label))
    if not concepts:
        concepts = dict.fromkeys([*parents, *(parent for row in parents.values() for parent in row)])
        if not parents:
            raise HTCError("is RDF without concepts of SKOS (`skos:Concept`, `skos:broader`).", file=file,
                           mend="Give a concept scheme, or write it as `parent<TAB>child` lines.")  # fmt: skip
    for child, row in parents.items():  # a concept that is only named as one
        concepts.setdefault(child)
        concepts.update(dict.fromkeys(row))
    foreign = [concept for concept in concepts if concept not in labels and not graph.value(concept, RDF.type)]
    tags = Counter(tag for concept in concepts for tag in labels.get(concept, ()))
    language = language or next((str(tag) for tag in graph.objects(None, rdflib.URIRef(OWN + "language"))), None)
    draft.language = _chosen_language(tags, language, file)
    others = [tag for tag in tags if tag != draft.language and tag is not None]
    if others:
        draft.form += f", names in {draft.language!r} (also {', '.join(sorted(others)[:8])}; `language` takes another)"
    tops = {*graph.objects(None, SKOS.hasTopConcept), *graph.subjects(SKOS.topConceptOf)}
    draft.keep_root = bool(tops)
    deprecated = {c for c, value in graph.subject_objects(rdflib.OWL.deprecated) if str(value) in ("true", "1")}
    facts = _skos_facts(graph, rdflib, SKOS, DCTERMS, concepts, draft)
    for concept in concepts:
        if concept in deprecated or concept in foreign and concept not in parents:
            continue
        texts = labels.get(concept, {})
        text = texts.get(draft.language) or texts.get(None) or next(iter(texts.values()), None)
        uri = str(concept)
        own = None if uri.startswith(OWN + "name:") or isinstance(concept, rdflib.BNode) else uri
        own = unquote(uri[len(OWN + "id:") :]) if uri.startswith(OWN + "id:") else own
        kept = {"id": own, "text": text or (unquote(uri[len(OWN + "name:") :]) if own is None else None), **facts.get(concept, {})}
        kept["translations"] = {tag: word for tag, word in texts.items() if tag is not None and tag != draft.language}
        if uri.startswith(OWN + "name:") and "name" not in kept:
            kept["name"] = unquote(uri[len(OWN + "name:") :])
        above = [parent for parent in parents.get(concept, ()) if parent not in deprecated and parent != concept]
        draft.add(uri, None if not above else str(above[0]), None, **{k: v for k, v in kept.items() if v or v is False})
        for parent in above[1:]:
            draft.add(uri, str(parent))
    if foreign:
        draft.notes.append(f"{len(foreign)} concepts that other files describe have no name here.")
        for concept in foreign:
            if concept not in parents:
                draft.add(str(concept), None, id=str(concept))
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
        raise HTCError(
            f"no concept has a name in the language {language!r}; there are {', '.join(sorted(filter(None, tags))) or 'none with a language'}.",
            file=file, field="language", value=language,
        )  # fmt: skip
    return match


def _skos_facts(graph, rdflib, skos, dcterms, concepts, draft):
    facts = {}
    for predicate, what in ((skos.altLabel, "alternatives"), (skos.definition, "description"), (skos.scopeNote, "description")):
        for concept, value in graph.subject_objects(predicate):
            if concept not in concepts or not isinstance(value, rdflib.Literal):
                continue
            own = facts.setdefault(concept, {})
            if what == "alternatives":
                if what not in own:  # in the order of the file
                    own[what] = [str(word) for word in graph.objects(concept, predicate)]
            elif what not in own or (value.language == draft.language and own.get("_language") != draft.language):
                own[what], own["_language"] = str(value), value.language
    for predicate in (skos.notation, dcterms.identifier):
        name = predicate.rsplit("#", 1)[-1].rsplit("/", 1)[-1]
        for concept in dict.fromkeys(graph.subjects(predicate)):
            if concept in concepts:
                values = [str(value) for value in graph.objects(concept, predicate)]
                facts.setdefault(concept, {}).setdefault("attributes", {})[name] = values if len(values) > 1 else values[0]
    for key, kept in (("name", str), ("is_label", lambda value: str(value) == "true"), ("attributes", json.loads)):
        for concept, value in graph.subject_objects(rdflib.URIRef(OWN + key)):
            own = facts.setdefault(concept, {})
            own[key] = {**own.get(key, {}), **kept(value)} if key == "attributes" else kept(value)
    for own in facts.values():
        own.pop("_language", None)
    return facts


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
            raise HTCError(f"the id {term['id']!r} stands for two terms; the other one is in line {draft.nodes[term['id']].line}.",
                           file=file, line=term["line"])  # fmt: skip
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
