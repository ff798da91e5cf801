"""Lines of a text."""

import re


def split_lines(text):
    """Lines of a text, without their ends; `str.splitlines` also cuts at characters that stand inside a line, such as U+2028."""
    return re.split(r"\r\n|\r|\n", text)
