"""Which encoding bytes are in, where they are not UTF-8."""

from __future__ import annotations

import codecs
import re
import unicodedata

from charset_normalizer import from_bytes

from hf_htc.models.errors import HTCError


# UTF-32 first: its mark begins with that of UTF-16.
BOMS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8",
}
# Of encodings that read the bytes alike, the one whose name people know.
USUAL = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "koi8-r")
# Encodings of several bytes per letter: text that fits one of them is hardly ever anything else.
WIDE = {
    "euc_jis_2004": "euc_jp",
    "euc_jisx0213": "euc_jp",
    "euc_jp": "euc_jp",
    "cp932": "cp932",
    "shift_jis": "cp932",
    "shift_jis_2004": "cp932",
    "shift_jisx0213": "cp932",
    "cp949": "cp949",
    "euc_kr": "cp949",
    "johab": "johab",
    "big5": "big5",
    "big5hkscs": "big5hkscs",
    "cp950": "cp950",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "hz": "hz",
}


def encoding_name(encoding):
    """Python's name of an encoding of text. Raises [`HTCError`] for an unknown one."""
    try:
        found = codecs.lookup(encoding)
    except (LookupError, TypeError, ValueError) as error:
        raise HTCError(
            f"`encoding` is {encoding!r}, which Python does not know; common ones are 'utf-8', 'cp1252', 'latin-1', 'utf-16', "
            "'shift_jis', 'gb18030'.",
            field="encoding",
            value=encoding,
        ) from error
    if not found._is_text_encoding:
        raise HTCError(f"`encoding` is {encoding!r}, which is no encoding of text.", field="encoding", value=encoding)
    return "utf-8" if found.name == "utf-8-sig" else found.name


def guess_encoding(data):
    """
    The most plausible encoding of lines that are not UTF-8.

    Of encodings that read the bytes equally well the usual one of the Western world is taken, as long as no word then has a
    sign or a capital inside.

    Args:
        data (`bytes`): The lines that are not ASCII.

    Returns:
        `tuple[str, list[str]]`, or `None` when nothing fits: the encoding, and words by which a reader sees whether it is right.
    """
    matches = list(from_bytes(data))
    if not matches:
        return None
    best = matches[0]
    encoding = WIDE.get(best.encoding, best.encoding)
    if best.encoding not in WIDE:
        tied = [m for m in matches if m.chaos <= best.chaos + 0.03 and m.coherence >= best.coherence - 0.1]
        readings = {name: _decoded(data, name) for name in USUAL}
        choices = [name for name, text in readings.items() if text is not None and any(str(m) == text for m in tied)]
        if best.coherence == 0:  # too little text to know a language by: only what looks like words counts
            choices += [name for name in ("cp1252",) if readings[name] is not None and name not in choices]
        choices += [name for name in ("mac_roman",) if _decoded(data, name) is not None]
        encoding = min([*choices, encoding], key=lambda name: _oddities(_decoded(data, name) or data.decode(best.encoding)))
    text = _decoded(data, encoding)
    if text is None:
        encoding, text = best.encoding, str(best)
    words = dict.fromkeys(re.findall(r"\w*[^\x00-\x7f]+\w*", text))
    shown = [word for word in sorted(words, key=len, reverse=True) if len(word) < 30] or list(words)
    return encoding, [repr(word[:30]) for word in shown[:4]]


def _decoded(data, encoding):
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _oddities(text):
    """How often a word has what words do not have: a sign between its letters, a capital behind a small letter, a control."""
    # Icelandic's letters without its vowels are Turkish, read in the Western way.
    count = len(re.findall("[ðþýÐÞÝ]", text)) if not re.search("[áíúæ]", text) else 0
    for match in re.finditer(r"[^\x00-\x7f]", text):
        place, letter = match.start(), match.group()
        before, after = text[place - 1 : place], text[place + 1 : place + 2]
        category = unicodedata.category(letter)
        if category[0] == "C" and letter != "\u00ad":
            count += 2
        elif category[0] != "L":
            count += before.isalpha() and after.isalpha() and letter not in "’‘·-–—"
        elif category == "Lu":
            count += before.islower()
    return count
