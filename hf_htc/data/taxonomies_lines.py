"""Taxonomies of plain lines: paths with or without an id in front, and indented lines."""

from __future__ import annotations

import re
from collections import Counter

from hf_htc.models.errors import HTCError
from hf_htc.models.hierarchy_identity import PATH_SEPARATORS

from .taxonomies_draft import Draft


# Separators that hardly stand inside a name.
UNMISTAKABLE = (" > ", " -> ", " >> ", " :: ", " » ", "->", ">>", "::", " | ", " / ")
# Boxes that `LabelHierarchy.tree` and the command `tree` draw, and marks of lists, count as indentation.
BOXES = str.maketrans(dict.fromkeys("│├└┌─┬╰╭|`+", " "))
BULLET = re.compile(r"^(\s*)(?:[-*•+o]\s+)")
# `123 - A > B`, `123<TAB>A > B`, `123: A`, `123, A`: an id holds a digit and no blank.
NUMBERED = re.compile(r"^\s*([^\s,;:]*\d[^\s,;:]*)(\s+[-–—:|]\s+|\t+|\s*[:;,|]\s*|\s{1,4})(\S.*)$")


def find_separator(paths):
    """
    What joins the segments of paths.

    Args:
        paths (`list[str]`): One per node or per leaf.

    Returns:
        `str` or `None`: the separator after which most lines go on below something that others go on below too, or that is a line
        itself.
    """
    known, best = set(paths), ((False, 0), None)
    for separator in PATH_SEPARATORS:
        split = [split_path(path, separator) for path in paths if separator in path]
        split = [segments for segments in split if all(segments)]
        if not split:
            continue
        firsts = Counter(segments[0] for segments in split)
        listed = [separator.join(segments[:-1]).strip() in known for segments in split]
        below = sum(firsts[segments[0]] > 1 or above for segments, above in zip(split, listed))
        words = sum(f"{separator} " in path for path in paths)
        if not separator[0].isspace() and separator in ".:-" and (words or len(split) < 0.8 * len(paths)):
            continue  # a sign of a sentence, as in "St. John"
        # Where every path has a line for what is above it, nothing else is needed.
        least = 0.3 * len(paths) if separator not in UNMISTAKABLE else 1
        if not (all(listed) and separator in UNMISTAKABLE) and (below < 0.5 * len(split) or below < least):
            continue
        rank = all(listed), below
        if rank > best[0]:
            best = rank, separator
    if best[1] is None:  # one path per branch: only a sign that has no other use tells
        return next((s for s in UNMISTAKABLE if sum(s in path for path in paths) >= 0.8 * len(paths)), None)
    return best[1]


def split_path(path, separator):
    """The segments of a path; a separator before the first or behind the last one means nothing, as in `/Arts/Music`."""
    segments = [segment.strip() for segment in f" {path.strip()} ".split(separator)]
    while len(segments) > 1 and not segments[0]:
        segments = segments[1:]
    while len(segments) > 1 and not segments[-1]:
        segments = segments[:-1]
    return segments


def read_paths(lines, file, separator=None, form="paths"):
    """
    Lines of paths, the nodes' texts from the first level on; an id may stand in front of each.

    Args:
        lines (`list[tuple[int, str]]`): With their numbers.
        separator (`str`, *optional*): Found where it is not given.

    Returns:
        [`Draft`]
    """
    ids = [NUMBERED.match(line) for _, line in lines]
    rests = [match.group(3) for match in ids] if all(ids) else []
    if len(lines) > 1 and rests and len({match.group(1) for match in ids}) == len(lines):
        numbered = separator is not None and any(separator in rest for rest in rests) or find_separator(rests) is not None
    else:
        numbered = False
    bodies = rests if numbered else [line.strip() for _, line in lines]
    chosen, note = _chosen(bodies, separator)
    if chosen is None:
        raise HTCError(
            f"its {len(lines)} lines hold no separator of paths, no tabs and no indentation: {bodies[0][:60]!r}.",
            file=file,
            line=lines[0][0],
            mend="Write `parent<TAB>child` lines or paths such as `sport/football` and give the `separator`; "
            "`format='paths'` reads a list of names without a hierarchy.",
        )
    said = f"{form} joined by {chosen!r}" + (", an id in front" if numbered else "")
    draft = Draft(file, said, "ids" if numbered else "texts", chosen, complete=False)
    draft.notes += note
    own = [match.group(1) for match in ids] if numbered else [None] * len(lines)
    add_paths(draft, ((number, split_path(body, chosen), i) for (number, _), body, i in zip(lines, bodies, own)))
    return draft


def _chosen(bodies, separator):
    found = find_separator(bodies)
    if separator is None:
        return found, []
    if any(separator in body for body in bodies) or found is None:
        return separator, []
    if separator.strip() and any(separator.strip() in body for body in bodies) and found.strip() == separator.strip():
        return found, []
    count = sum(found in body for body in bodies)
    return found, [f"No line holds the separator {separator!r}, but {count} of {len(bodies)} hold {found!r}, which is taken."]


def add_paths(draft, paths):
    """
    Adds every prefix of every path as a node.

    Args:
        draft ([`Draft`]): Its separator joins names.
        paths (`Iterable`): `(line, segments, id)` or `(line, segments, id, facts)`.
    """
    for number, segments, own, *more in paths:
        if not all(segments):
            raise HTCError(
                f"the path {draft.separator.join(segments)!r} has an empty name as a segment.",
                file=draft.file,
                line=number,
                mend=f"Write it like 'sport{draft.separator}football'.",
            )
        for depth in range(1, len(segments) + 1):
            key = tuple(segments[:depth])
            last = depth == len(segments)
            node = draft.nodes.get(key)
            if node is None:
                node = draft.add(key, key[:-1] or None, number, text=segments[-1] if last else key[-1])
                if draft.naming != "ids":
                    node.name = draft.separator.join(key)
        if last:
            if own is not None and node.id not in (None, own):
                raise HTCError(
                    f"the path {draft.separator.join(segments)!r} has the id {own!r} here and {node.id!r} in line {node.line}.",
                    file=draft.file,
                    line=number,
                )
            if own is not None:
                node.id, node.line = own, number
            if more and more[0]:
                draft.add(key, None, None, **more[0])
    if draft.naming == "ids":
        for key, node in draft.nodes.items():
            node.name = node.id or draft.separator.join(key)


def is_indented(lines):
    """Whether lines, beginning with one that is not indented, are indented below each other."""
    depths = [_indent(line) for _, line in lines]
    if depths[0][0] or not any(depth for depth, _ in depths) or any("\t" in text.strip() for _, text in depths):
        return False
    return any(depth for depth, _ in depths)


def _indent(line):
    plain = line.expandtabs(4).translate(BOXES) if line.lstrip()[:1] in "│├└┌╰╭|`+" else line.expandtabs(4)
    match = BULLET.match(plain)
    text = plain[match.end() :] if match else plain
    return len(plain) - len(plain.lstrip()), text.strip()


def read_indented(lines, file, separator=None):
    """Lines indented below their parent; a code may stand in front of each name. Returns a [`Draft`]."""
    parsed = [(number, *_indent(line)) for number, line in lines]
    ids = [re.match(r"^([^\s,;:]*\d[^\s,;:]*)(?:\s+[-–—:|]\s+|\s*[:;|]\s*|\s+)(\S.*)$", text) for _, _, text in parsed]
    numbered = len(parsed) > 1 and all(ids) and len({match.group(1) for match in ids}) == len(ids)
    draft = Draft(
        file,
        "indented lines" + (", a code in front" if numbered else ""),
        "ids" if numbered else "texts",
        separator,
        paths=separator is not None and not numbered,
    )
    stack, seen = [], {}
    for (number, depth, text), match in zip(parsed, ids):
        closed = None
        while stack and stack[-1][0] >= depth:
            closed = stack.pop()
        if closed is not None and closed[0] != depth:
            raise HTCError(
                f"{text!r} is indented by {depth}, between its parent and the line above.",
                file=file,
                line=number,
                mend="Indent all children of a node alike.",
            )
        own, name = (match.group(1), match.group(2)) if numbered else (None, text)
        parent = stack[-1][1] if stack else None
        first = seen.setdefault((parent, name), number)
        if first != number and not numbered:
            raise HTCError(
                f"{name!r} stands twice under the same parent, the first time in line {first} (duplicate name).",
                file=file,
                line=number,
                mend="Leave one out.",
            )
        draft.add(own or number, parent, number, id=own, text=name)
        stack.append((depth, own or number))
    return draft
