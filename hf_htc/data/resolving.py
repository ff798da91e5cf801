"""From what data call a label to the node of a taxonomy: every way in which files differ, each said in one line."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import defaultdict
from functools import cached_property
from pathlib import Path

from hf_htc.models.errors import HTCError, reason_of
from hf_htc.models.hierarchy_identity import PATH_SEPARATORS, plain_name

from .json_files import UNREADABLE, parse_json
from .lines import split_lines
from .recognise import open_text, sniff_table
from .sniffing import split_rows


WHOLE_NUMBER = re.compile(r"[-+]?\d+\.0+")
NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
# Characters that nobody sees and that make two names of one; joiners are not among them, which some scripts need.
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff\u00ad"))


def clean_name(name):
    """A label's name as it is meant: one Unicode form, single blanks, no invisible characters."""
    return plain_name(name.translate(INVISIBLE)) if not name.isascii() else " ".join(name.split())


class LabelResolver:
    """
    Finds the node that a name in the data means.

    Args:
        hierarchy ([`LabelHierarchy`]).
        path_separator (`str`, *optional*): What joins the labels of the data if they are paths.
        class_names (`dict[str, str]`, *optional*): What numbers stand for.
        is_fixed (`bool`, *optional*, defaults to `False`): Whether the hierarchy is an object, such as that of a checkpoint, to
            which nothing can be added.

    Attributes:
        taken (`dict[str, dict[str, str]]`): By way (`"a last segment"`), name in the data -> name of the node.
    """

    WAYS = {
        "code": "as numbers with a fraction or without their leading zeros",
        "segment": "by their last segments",
        "tail": "by the ends of their paths",
        "case": "though upper and lower case differ",
        "other": "by ids, texts or alternative names",
    }

    def __init__(self, hierarchy, path_separator=None, class_names=None, is_fixed=False):
        self.hierarchy, self.path_separator, self.is_fixed = hierarchy, path_separator, is_fixed
        self.class_names = class_names or {}
        self.taken = {}

    def find(self, name):
        """The nodes that `name` may mean: one, none where it is unknown, several where it is ambiguous."""
        name = self.class_names.get(name, name)
        if name in self.hierarchy:
            return [self.hierarchy.id(name)]
        if self.path_separator and self.path_separator in name:
            found = self._by_segments(name.split(self.path_separator))
            if found:
                return found
        for way, found in self._ways(name):
            if found:
                if len(found) == 1:
                    self.taken.setdefault(way, {})[name] = self.hierarchy.names[found[0]]
                return found
        return []

    def _ways(self, name):
        if self._separator_of_several(name) is not None:  # two labels and a path of two nodes look alike
            return
        yield "other", self.hierarchy.find_all(name)
        code = name[: name.index(".")] if WHOLE_NUMBER.fullmatch(name) else name
        if code != name:
            yield "code", self.hierarchy.find_all(code)
        if code.isdecimal():
            yield "code", self._by_code.get(code.lstrip("0") or "0", [])
        yield "segment", self._by_last_segment.get(clean_name(name), [])
        segments = self._segments(name)
        if len(segments) > 1:
            yield "tail", self._by_tail(segments)
        yield "case", self._by_case.get(clean_name(name).casefold(), [])

    def _separator_of_several(self, name):
        """The sign that parts a name into names of nodes, unless paths are joined by it."""
        for separator in (";", "|", ",", "\t"):
            parts = [part.strip() for part in name.split(separator) if part.strip()] if separator != self.path_separator else []
            if len(parts) > 1 and all(self.hierarchy.find_all(part) for part in parts):
                return separator
        return None

    def _by_segments(self, segments):
        """The node that a path leads to where nodes are named by segments."""
        segments = [segment.strip() for segment in segments]
        found = self.hierarchy.find_path(segments)
        if found:
            return found
        nodes = []
        for segment in segments:
            here = self.hierarchy.find_all(segment)
            if len(here) != 1:
                return []
            nodes.append(here[0])
        linked = all(parent in self.hierarchy.parents[child] for parent, child in zip(nodes, nodes[1:]))
        return nodes[-1:] if linked else []

    def _segments(self, name):
        separator = self.path_separator or next((s for s in PATH_SEPARATORS if s in name), None)
        return [clean_name(segment) for segment in name.split(separator)] if separator else [name]

    def _by_tail(self, segments):
        """Nodes whose texts and those of their ancestors end with these segments."""
        found = []
        for node in self._by_last_segment.get(segments[-1], []):
            above, fits = [node], True
            for segment in reversed(segments[:-1]):
                above = [
                    p for n in above for p in self.hierarchy.parents[n] if clean_name(str(self.hierarchy.texts[p])) == segment
                ]
                fits = fits and bool(above)
            if fits:
                found.append(node)
        return found

    @cached_property
    def _by_code(self):
        table = defaultdict(list)
        names = [*enumerate(self.hierarchy.names), *((i, own) for i, own in enumerate(self.hierarchy.ids or ()) if own)]
        for node, name in names:
            if name.isdecimal() and node not in table[name.lstrip("0") or "0"]:
                table[name.lstrip("0") or "0"].append(node)
        return table

    @cached_property
    def _by_last_segment(self):
        table = defaultdict(list)
        for node, (name, text) in enumerate(zip(self.hierarchy.names, self.hierarchy.texts)):
            # A node is named by its path only where its parent's name begins that path.
            tails = {clean_name(str(text))}
            for parent in self.hierarchy.parents[node]:
                above = self.hierarchy.names[parent]
                if name.startswith(above) and len(name) > len(above):
                    tails.add(clean_name(name[len(above) :].lstrip(" />|\\:»–-.;")))
            for tail in tails:
                table[tail].append(node)
        return table

    @cached_property
    def _by_case(self):
        table = defaultdict(list)
        for node, (name, text) in enumerate(zip(self.hierarchy.names, self.hierarchy.texts)):
            for key in {clean_name(name).casefold(), clean_name(str(text)).casefold()}:
                table[key].append(node)
        return table

    def report(self, log):
        """Says which names were found in another way than by name."""
        for way, pairs in self.taken.items():
            shown = ", ".join(f"{name!r} as {node!r}" for name, node in list(pairs.items())[:3])
            severity = "warning" if way in ("case", "code", "tail") else "note"
            log.add(
                "label_found_otherwise",
                severity,
                f"{len(pairs)} label{' was' if len(pairs) == 1 else 's were'} found in the taxonomy {self.WAYS[way]}: {shown}"
                + (", ..." if len(pairs) > 3 else "."),
                len(pairs),
                [f"{name} -> {node}" for name, node in pairs.items()],
            )

    def advice(self, name, found=()):
        """What may be wrong with a name that is unknown or ambiguous."""
        if len(found) > 1:
            nodes = [self.hierarchy.names[node] for node in found[:5]]
            return f" It may be {' or '.join(map(repr, nodes))}: write the whole path or the id."
        separator = self._separator_of_several(name)
        if separator is not None:
            return f" It looks like several labels: pass `label_separator={separator!r}`."
        separator = self.path_separator
        if separator and separator in name and all(self.hierarchy.find_all(segment) for segment in name.split(separator)):
            return " Its segments are nodes of the taxonomy, but not each the parent of the next."
        close = difflib.get_close_matches(name, self.hierarchy.label_names, n=3)
        mend = " Add it to the taxonomy or correct the data."
        if self.is_fixed:
            mend = (
                " Correct the data, or have the label counted as missed: `unknown_labels='missed'` "
                "(`hf-htc evaluate --unknown_labels missed`)."
            )
        return (f" Close names: {close}." if close else "") + mend


# ---------------------------------------------------------------- paths without a separator that was given


# Signs that hardly ever stand in a name with blanks around them.
STRONG = (" > ", " -> ", " >> ", " » ", " :: ", " | ", "->", ">>", "::", "»", "--", ">", "\\", " / ", "|", "/")
WEAK = (".",)


def guess_path_separator(names):
    """
    What joins the segments of labels that look like paths.

    Args:
        names (`Iterable[str]`): Different labels.

    Returns:
        `str`, or `None`: nine of ten labels hold it, and labels share their first segments; a dot only where every label holds
        it, none has a blank, a colon or a slash, as addresses do, and no segment is a number.
    """
    names = [name for name in names if name]
    if len(names) < 2:
        return None
    for separator in (*STRONG, *WEAK):
        sign = separator.strip() or separator
        split = [[part.strip() for part in name.strip(sign + " ").split(separator.strip() or separator)] for name in names]
        deep = [row for row in split if len(row) > 1]
        tops = {row[0] for row in split}
        if separator in WEAK:
            plain = all(not re.search(r"[\s:/\\]", name) for name in names) and len(deep) == len(names)
            if not plain or any(not part or part.isdecimal() for row in split for part in row):
                continue
        held = sum(separator in name for name in names)
        shared = len({row[0] for row in deep}) < len({tuple(row) for row in deep})
        # A first level that stands alone is a label too: "Sport", "Sport/Tennis".
        lone = sum(len(row) == 1 and row[0] in {d[0] for d in deep} for row in split)
        if deep and shared and held + lone >= 0.9 * len(names) and all(all(row) for row in split) and len(tops) < len(names):
            return separator
    return None


# ---------------------------------------------------------------- what numbers stand for


def read_class_names(path):
    """
    Names of numbered labels: one per line, counted from 0; a JSON list, or an object of numbers and names; a table of two
    columns.

    Returns:
        `dict[str, str]`: number as a string -> name.
    """
    path = Path(path)
    file = open_text(path)
    text = file.read().lstrip("\ufeff")
    if text.lstrip()[:1] in ("[", "{"):
        try:
            content = parse_json(text)
        except UNREADABLE as error:
            raise HTCError(f"is no JSON: {reason_of(error)}.", file=path.name) from error
        return _json_class_names(content, path.name)
    lines = [line.strip() for line in text.split("\r" if file.facts.newline == "\r" else "\n")]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise HTCError("is empty.", file=path.name, mend="Give one name per line.")
    pairs = _numbered(text, file)
    return pairs or {str(number): line for number, line in enumerate(lines)}


def _json_class_names(content, name):
    if isinstance(content, list) and all(isinstance(entry, str) for entry in content):
        return {str(number): entry for number, entry in enumerate(content)}
    if isinstance(content, dict):
        content = content.get("id2label", content)
        if all(isinstance(value, str) for value in content.values()):
            return dict(content)
        if all(isinstance(value, int) for value in content.values()):
            return {str(number): entry for entry, number in content.items()}
    raise HTCError("holds no names of labels.", file=name, mend='Give a list of names, or {"0": "name", ...}.')


def _numbered(text, file):
    """Pairs of number and name in a table of two columns; `None` for plain lines."""
    try:
        facts = sniff_table(text, file.name, suffix=file.suffix, newline=file.facts.newline)
    except HTCError:
        return None
    if len(facts.columns) != 2:
        return None
    lines = [line + "\n" for line in split_lines(text)[facts.skip :]]
    rows = [row for _, _, row in split_rows(lines, facts.delimiter, facts.quoting) if isinstance(row, list) and row]
    rows = [[cell.strip() for cell in row] for row in rows[facts.header :]]
    for number, name in ((0, 1), (1, 0)):
        if rows and all(len(row) == 2 and row[number].isdecimal() for row in rows):
            return {row[number]: row[name] for row in rows}
    return None


def class_lines(path, numbers):
    """
    Class names from a taxonomy file that is a plain list, for labels that are numbers; `None` where it is none.

    Raises:
        [`HTCError`]: the numbers may count from 0 or from 1.
    """
    names = read_class_names(path)
    values = sorted(map(int, numbers))
    if list(names) != [str(number) for number in range(len(names))] or values[0] < 0 or values[-1] > len(names):
        return None
    if values[0] == 0 and values[-1] < len(names):
        return names
    if values[-1] == len(names) and values[0] >= 1:
        return {str(number + 1): name for number, name in enumerate(names.values())}
    if values[0] == 0:
        return None
    raise HTCError(
        f"The labels are numbers from {values[0]} to {values[-1]}, and {Path(path).name} has {len(names)} lines: they may "
        "count from 0 or from 1. Give `class_names`, a table of number and name."
    )


def unicode_key(name):
    """What names that only differ in case, Unicode forms, blanks, `x` and `x.0` have in common."""
    name = unicodedata.normalize("NFKC", clean_name(name)).casefold()
    name = re.sub(r"\s*([/>|\\:;,.&-])\s*", r"\1", name)
    return name.split(".")[0] if WHOLE_NUMBER.fullmatch(name) else name
