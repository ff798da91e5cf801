"""Taxonomies of codes: the beginning of a code is its parent, in every fashion in which such codes are written."""

from __future__ import annotations

import re
from collections import defaultdict


RANGE = re.compile(r"^\s*([0-9A-Za-z.]+)\s*[-–—]\s*([0-9A-Za-z.]+)\s*$")
CHECK_DIGIT = re.compile(r"^(\d{6,})-\d$")
# Share of the codes below the first level whose parent must be there, so that codes count as hierarchical.
ENOUGH = 0.9


def code_parents(codes):
    """
    The parent of each code by its writing.

    Args:
        codes (`list[str]`): Unique.

    Returns:
        `tuple[dict[str, str | None], str]` or `None`: the parents and, in words, by which rule; `None` where the codes are not
        hierarchical. A number that counts rows is none.
    """
    codes = [code.strip() for code in codes]
    if len(codes) < 3 or any(not code or len(code) > 40 or " " in code.replace(" - ", "-") for code in codes):
        return None
    if sum(any(c.isdigit() for c in code) for code in codes) < 0.5 * len(codes):
        return None
    if all(code.isdigit() for code in codes):
        numbers = sorted(map(int, codes))
        if numbers[-1] - numbers[0] + 1 == len(codes) and all(code == str(int(code)) for code in codes):
            return None  # they count the rows
    for rule in (_padded, _dotted, _prefixes):
        found = rule(codes)
        if found is not None:
            return found
    return None


def _padded(codes):
    """Codes of one length, filled up with zeros: 20000000, 20100000, 20101500 (UNSPSC), 03110000-4 (CPV)."""
    plain = {code: CHECK_DIGIT.sub(r"\1", code) for code in codes}
    if len({len(p) for p in plain.values()}) != 1 or not all(p.isalnum() for p in plain.values()):
        return None
    width = len(next(iter(plain.values())))
    if width < 3 or len(set(plain.values())) < len(codes):
        return None
    known, best = {p: code for code, p in plain.items()}, None
    significant = {code: len(p.rstrip("0")) for code, p in plain.items()}
    if not any(length < width for length in significant.values()):
        return None
    # Finer steps first: a coarser one fits as well wherever a finer one does.
    for step in (1, 2, 3):
        for first in (1, 2, 3):
            if first >= width:
                continue
            cuts = [first, *range(first + step, width, step), width]
            parents, missing, below = {}, 0, 0
            for code, p in plain.items():
                level = next(i for i, cut in enumerate(cuts) if cut >= significant[code])
                parents[code] = None
                if level:
                    below += 1
                    missing += p[: cuts[level - 1]].ljust(width, "0") not in known
                    for cut in reversed(cuts[:level]):
                        parent = known.get(p[:cut].ljust(width, "0"))
                        if parent is not None:
                            parents[code] = parent
                            break
            tops = {plain[code] for code, parent in parents.items() if parent is None}
            # A code without a parent must be one of the first level.
            stray = sum(bool(p[first:].strip("0")) for p in tops)
            share = (below - missing - stray) / below if below else 0
            if share >= ENOUGH and (best is None or share > best[0] + 0.02):
                best = (share, parents)
    return None if best is None else (best[1], "codes filled up with zeros")


def _dotted(codes):
    """Codes of segments: 1.2.10, H01.456.313, A-01-02; the parent is the code without its last segment."""
    if any(_range(code) for code in codes):
        return None
    for sign in (".", "/", "_", "-"):
        # "1." and "1.2." are "1" and "1.2".
        plain = {code: code.rstrip(sign) if sign == "." else code for code in codes}
        if len(set(plain.values())) < len(codes):
            continue
        known = {p: code for code, p in plain.items()}
        deep = [code for code in codes if sign in plain[code]]
        if not deep:
            continue
        found = sum(plain[code].rpartition(sign)[0] in known for code in deep)
        if found < ENOUGH * len(deep) or not _is_outline(list(plain.values()), sign):
            continue
        parents = {}
        for code in codes:
            above, parents[code] = plain[code], None
            while sign in above and parents[code] is None:
                above = above.rpartition(sign)[0]
                parents[code] = known.get(above)
        return parents, f"codes of segments between {sign!r}"
    return None


def _is_outline(codes, sign):
    """Whether the last segment is one step, as in 1.9, 1.10 and H01.456, and not several, as the 11 of NACE's 01.11."""
    segments = defaultdict(set)
    for code in codes:
        above, _, last = code.rpartition(sign)
        if above:
            segments[above].add(last)
    for lasts in segments.values():
        short = {last for last in lasts if any(other != last and other.startswith(last) for other in lasts)}
        if short and all(last.isdigit() for last in lasts):
            numbers = sorted(map(int, lasts))
            if numbers[-1] - numbers[0] + 1 != len(numbers) or any(last.startswith("0") and len(last) > 1 for last in lasts):
                return False
        elif short:
            return False
    return True


def _prefixes(codes):
    """Codes whose beginning is another code: 1, 11, 111; A00-B99, A00-A09, A00, A00.1; letters that head the codes below."""
    known = set(codes)
    ranges = {code: _range(code) for code in codes if _range(code)}
    parents = {}
    for code in codes:
        parents[code] = next(
            (
                code[:n].rstrip(".")
                for n in range(len(code) - 1, 0, -1)
                if code[:n].rstrip(".") in known and code[:n].rstrip(".") != code and code not in ranges
            ),
            None,
        )
        if parents[code] is None and ranges:
            low, high = ranges.get(code, (code, code))
            around = [r for r, (a, b) in ranges.items() if r != code and a <= low[: len(a)] and high[: len(b)] <= b]
            # The narrowest one: that whose ends are nearest.
            parents[code] = max(around, key=lambda r: (ranges[r][0], [-ord(c) for c in ranges[r][1]]), default=None)
    sections = _sections(codes, parents)
    parents.update(sections)
    rule = "codes whose beginning is the parent" + (", ranges among them" if ranges else "")
    rule += ", below the letters before them" if sections else ""
    tops = [code for code in codes if parents[code] is None and code not in ranges]
    shortest = min(map(len, tops), default=0)
    below = [code for code in codes if len(code) > shortest and code not in ranges]
    if not below or sum(parents[code] is not None for code in below) < ENOUGH * len(below):
        return None
    return parents, rule


def _range(code):
    """The ends of a range such as 41-43 or A00-B99, or `None`."""
    match = RANGE.match(code)
    return match.groups() if match and len(match.group(1)) == len(match.group(2)) and match.group(1) < match.group(2) else None


def _sections(codes, parents):
    """Letters that head the codes behind them, as the sections of NACE and ISIC: A, 01, 01.1, 01.2, 02, B, 05, ..."""
    letters = [code for code in codes if code.isalpha() and len(code) <= 2]
    if len(letters) < 2 or codes[0] not in letters or any(parents[code] is not None for code in letters):
        return {}
    if any(parent in letters for parent in parents.values()):
        return {}
    found, section = {}, None
    for code in codes:
        if code in letters:
            section = code
        elif parents[code] is None:
            found[code] = section
    return found
