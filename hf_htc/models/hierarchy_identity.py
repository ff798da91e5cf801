"""What a node is known by beside its name: an id of its own, names in other languages, alternative names, free attributes.

Legend: `M` nodes.
"""

import difflib
import unicodedata
from collections import defaultdict
from functools import cached_property

from .errors import HTCError, HTCTypeError


# What joins the segments of a path in files; the longer ones first, so that "A -> B" is not split at its ">".
PATH_SEPARATORS = (
    " -> ",
    " > ",
    " >> ",
    " / ",
    " | ",
    " :: ",
    " » ",
    " – ",
    " - ",
    "->",
    ">>",
    "::",
    "--",
    "/",
    ">",
    "|",
    "\\",
    "»",
    ";",
    ".",
    ":",
)
# How many nodes an error lists.
MAX_CANDIDATES = 5
# Keywords of the class that this part of it takes.

IDENTITY = ("ids", "language", "translations", "alternative_names", "attributes")


class NodeIdentity:
    """
    The part of [`LabelHierarchy`] that finds a node by whatever it is called.

    Attributes:
        ids (`list[str | None]` of length `M`, *optional*): A node's own id, a code or a URI; unique.
        language (`str`, *optional*): Language of the texts, a tag such as `"en"`.
        translations (`dict[str, list[str | None]]`): Texts in other languages, by language.
        alternative_names (`list[list[str]]` of length `M`, *optional*): Synonyms.
        attributes (`list[dict]` of length `M`, *optional*): Anything else that was said of a node; plain values.
        left_out_root (`str`, *optional*): The node above all others that a file has and that was left out when it was read. Not
            saved.
    """

    left_out_root = None

    def _set_identity(self, ids, language, translations, alternative_names, attributes):
        self.ids = self._facts("ids", ids, str, None)
        self.language = language
        self.translations = {}
        for tag, values in (translations or {}).items():
            if (found := self._facts(f"translations[{tag!r}]", values, str, None)) is not None:
                self.translations[tag] = found
        self.alternative_names = self._facts("alternative_names", alternative_names, list, ())
        self.attributes = self._facts("attributes", attributes, dict, ())
        holders = {}
        for node, own in enumerate(self.ids or ()):
            if own is not None and own in holders:
                raise HTCError(
                    f"The id {own!r} stands for two nodes, {self.names[holders[own]]!r} and {self.names[node]!r}.",
                    field="ids",
                    value=own,
                    mend="Give every node an id of its own.",
                )
            holders[own] = node

    def _facts(self, what, values, kind, nothing):
        """One value per node from a list or from a `dict` by node number, as JSON keeps it; `None` where no node has one."""
        if isinstance(values, dict):
            numbered, values = values, [None] * self.num_nodes
            for number, value in numbered.items():
                if not str(number).isdigit() or int(number) >= self.num_nodes:
                    raise HTCError(
                        f"`{what}` has the node number {number!r}; they go from 0 to {self.num_nodes - 1}.", field=what
                    )
                values[int(number)] = value
        values = self._checked_texts(what, values, None) or []
        found = []
        for node, value in enumerate(values):
            if value is None or value == "" or (kind is not str and not value):
                found.append(None if nothing is None else kind(nothing))
            elif isinstance(value, kind) or (kind is list and isinstance(value, tuple)):
                found.append(value if kind is str else kind(value))
            else:
                raise HTCTypeError(
                    f"`{what}` of {self.names[node]!r} is {value!r} of type {type(value).__name__}; give a {kind.__name__}.",
                    field=what,
                    value=value,
                )
        return found if any(found) else None

    def _identity_dict(self):
        """What was given of these, sparse: a fact that only some nodes have is a `dict` by node number."""
        content = {}
        for key in ("ids", "alternative_names", "attributes"):
            if getattr(self, key) is not None:
                content[key] = _sparse(getattr(self, key))
        if self.language is not None:
            content["language"] = self.language
        if self.translations:
            content["translations"] = {tag: _sparse(texts) for tag, texts in self.translations.items()}
        return content

    def _facts_of(self, nodes):
        """The keywords of the class for a hierarchy of other nodes: a fact of node `i` is that of `nodes[i]` here, `None` for one
        that is new."""
        facts = {"language": self.language}
        for key in ("texts", "descriptions", "ids", "alternative_names", "attributes"):
            values = getattr(self, key)
            facts[key] = None if values is None else [values[i] for i in nodes]
        facts["translations"] = {tag: [texts[i] for i in nodes] for tag, texts in self.translations.items()}
        return facts

    def own_id(self, node):
        """`str` or `None`: the id of a node's own (a code, a URI) by its number."""
        return None if self.ids is None else self.ids[node]

    def in_language(self, language):
        """
        The same nodes with the texts of another language; a node that has none keeps its text.

        Args:
            language (`str`): One of `translations`, or the language of the texts.

        Raises:
            [`HTCError`]: the hierarchy has no texts in this language; those that it has are named.
        """
        if language == self.language:
            return self
        if language not in self.translations:
            known = [tag for tag in [self.language, *self.translations] if tag]
            raise HTCError(
                f"The taxonomy has no texts in the language {language!r}; it has {known}.",
                field="language",
                value=language,
            )
        facts = self._facts_of(range(self.num_nodes))
        chosen = facts["translations"].pop(language)
        if self.language is not None:
            facts["translations"][self.language] = [old if new else None for old, new in zip(facts["texts"], chosen)]
        facts.update(language=language, texts=[new or old for old, new in zip(facts["texts"], chosen)])
        return type(self)(self.names, self.parents, self.num_labels, **facts)

    # ------------------------------------------------------------------ finding a node

    def id(self, name):
        """The id of a node name. Raises `ValueError` with close names when there is none."""
        try:
            return self._ids[name]
        except (KeyError, TypeError):
            close = difflib.get_close_matches(str(name), self.names, n=3)
            raise HTCError(
                f"There is no label {name!r} in the hierarchy." + (f" Close names: {close}." if close else "")
            ) from None

    def encode(self, name_sets):
        """Label ids of rows of label names; raises `ValueError` naming the row and the unknown or structure-only name,
        `TypeError` for a row that is a string."""
        encoded = []
        for row, names in enumerate(name_sets):
            if isinstance(names, str):  # its letters would be looked up as labels
                raise HTCTypeError(f"Row {row} is the string {names!r}; give a list of label names a row.")
            ids = []
            for name in names:
                node = self._ids.get(name)
                if node is None or node >= self.num_labels:
                    if node is not None:
                        raise HTCError(f"Row {row}: {name!r} is a structure-only node of the hierarchy, not a label.")
                    close = difflib.get_close_matches(str(name), self.label_names, n=3)
                    raise HTCError(f"Row {row}: unknown label {name!r}." + (f" Close names: {close}." if close else ""))
                ids.append(node)
            encoded.append(ids)
        return encoded

    def decode(self, id_sets):
        """Names of rows of node ids. Raises `ValueError` naming the row and an id out of range, such as the padding -100."""
        decoded = []
        for row, ids in enumerate(id_sets):
            for i in ids:
                if not 0 <= i < self.num_nodes:
                    raise HTCError(f"Row {row} holds the id {i}; node ids are 0 to {self.num_nodes - 1}.")
            decoded.append([self.names[i] for i in ids])
        return decoded

    def find(self, key):
        """
        The number of the node that is called `key`, by the first of these that knows it: its name; its own id (or its attribute
        `notation`); its text; its text in another language; an alternative name; the path of texts that leads to it, with any
        usual separator. Blanks and Unicode forms make no difference. May give a structure-only node.

        Whoever reads labels asks [`~NodeIdentity.find_all`] once per distinct value: no node is an unknown label, several are an
        ambiguous one.

        Args:
            key (`str` or `int`): What data calls the label.

        Returns:
            `int`: the node's number.

        Raises:
            [`HTCError`]: no node, close names are given; or several, the candidates are listed.
        """
        found = self.find_all(key)
        if len(found) == 1:
            return found[0]
        if found:
            shown = [self._shown(node) for node in found[:MAX_CANDIDATES]]
            more = f" and {len(found) - MAX_CANDIDATES} more" if len(found) > MAX_CANDIDATES else ""
            raise HTCError(
                f"{key!r} stands for {len(found)} nodes: {', '.join(shown)}{more}.",
                value=key,
                mend="Use a name or an id instead.",
            )
        if key == self.left_out_root:
            raise HTCError(
                f"{key!r} stands above all other nodes of the taxonomy and was left out as its root.",
                value=key,
                mend="Read the taxonomy with `root=False` (`--keep_root` on the command line) to keep it.",
            )
        close = difflib.get_close_matches(str(key), self.names, n=3)
        raise HTCError(f"There is no label {key!r} in the hierarchy." + (f" Close names: {close}." if close else ""), value=key)

    def find_all(self, key):
        """`list[int]`: all nodes that `key` may mean, see [`~NodeIdentity.find`]; empty for an unknown one."""
        key = str(key)
        if key in self:
            return [self.id(key)]
        key = plain_name(key)
        for table in self._lookup_tables:
            if key in table:
                return list(dict.fromkeys(table[key]))
        for separator in PATH_SEPARATORS:
            if separator in key:
                found = self.find_path([segment.strip() for segment in key.split(separator)])
                if found:
                    return found
        return []

    def find_path(self, segments):
        """`list[int]`: the nodes to which a path of texts leads, first level first; usually none or one."""
        segments = [plain_name(segment) for segment in segments if segment]
        table = self._children_by_text
        if segments and self.left_out_root is not None and segments[0] == plain_name(self.left_out_root):
            segments = segments[1:]
        nodes = [None] if segments else []
        for segment in segments:
            nodes = list(dict.fromkeys(child for node in nodes for child in table.get((node, segment), ())))
        return nodes

    @cached_property
    def _lookup_tables(self):
        names, own, texts, others, alternatives = (defaultdict(list) for _ in range(5))
        for node, (name, text) in enumerate(zip(self.names, self.texts)):
            names[plain_name(name)].append(node)
            texts[plain_name(str(text))].append(node)
        for node, value in enumerate(self.ids or ()):
            if value is not None:
                own[plain_name(value)].append(node)
        for node, attributes in enumerate(self.attributes or ()):
            notation = attributes.get("notation", ())
            for code in notation if isinstance(notation, (list, tuple)) else [notation]:
                own[plain_name(str(code))].append(node)
        for translated in self.translations.values():
            for node, text in enumerate(translated):
                if text:
                    others[plain_name(text)].append(node)
        for node, words in enumerate(self.alternative_names or ()):
            for word in words:
                alternatives[plain_name(str(word))].append(node)
        return names, own, texts, others, alternatives

    @cached_property
    def _children_by_text(self):
        table = defaultdict(list)
        for node, row in enumerate(self.parents):
            for parent in row or [None]:
                table[parent, plain_name(str(self.texts[node]))].append(node)
        return table

    def _shown(self, node):
        own = self.own_id(node)
        return repr(self.names[node]) + (f" (id {own})" if own not in (None, self.names[node]) else "")


def plain_name(name):
    """A name in one Unicode form, with single blanks inside and none around."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def _sparse(values):
    """A list where every node has a value, else a `dict` by node number."""
    return list(values) if all(values) else {str(node): value for node, value in enumerate(values) if value}
