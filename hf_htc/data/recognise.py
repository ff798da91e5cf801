"""What a text file is, before it is read: compression, encoding, line ends; delimiter, quoting and header of a table.

Whatever is recognised here can be said in one line, [`Recognised.describe`], and set by an option instead. What is ambiguous is
refused by name.
"""

from __future__ import annotations

import codecs
import io
import re
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hf_htc.models.errors import HTCError, HTCImportError, refusing

from .archives import BROKEN, FILE_SUFFIXES, counted, is_litter
from .encodings import BOMS, encoding_name, guess_encoding
from .sniffing import TableFacts, sniff_table


__all__ = ["Recognised", "TableFacts", "TextFile", "markup_of", "open_binary", "open_text", "sniff_table"]


SAMPLE_CHARACTERS = 1 << 18
CHUNK = 1 << 22
# First bytes -> how the file is packed.
PACKINGS = {
    b"\x1f\x8b": "gzip",
    b"BZh91AY&": "bzip2",  # the digit is the size of its blocks
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
}
OPENERS = {"gzip": FILE_SUFFIXES[".gz"], "bzip2": FILE_SUFFIXES[".bz2"], "xz": FILE_SUFFIXES[".xz"]}
# First bytes of what is no text: (kind, what to do about it). Readers take the kinds without advice.
BINARIES = (
    (b"PAR1", "parquet", None),
    (b"ARROW1", "arrow", None),
    (b"\xff\xff\xff\xff", "arrow", None),
    (b"FEA1", "an old Feather file", "Write it again as Parquet."),
    (b"%PDF", "a PDF document", "Export its text and labels as CSV or JSONL."),
    (b"\xd0\xcf\x11\xe0", "an old Office document (.xls, .doc)", "Save it as .xlsx or CSV."),
    (b"SQLite format 3", "an SQLite data base", "Export the table as CSV."),
    (b"\x89HDF", "an HDF5 file", "Write it as Parquet."),
    (b"\x93NUMPY", "a NumPy file", "Write it as Parquet or JSONL."),
    (b"\x80\x02", "a Python pickle", "Write it as Parquet or JSONL; pickles can run code, and are not opened."),
    (b"\x80\x03", "a Python pickle", "Write it as Parquet or JSONL; pickles can run code, and are not opened."),
    (b"\x80\x04", "a Python pickle", "Write it as Parquet or JSONL; pickles can run code, and are not opened."),
    (b"\x80\x05", "a Python pickle", "Write it as Parquet or JSONL; pickles can run code, and are not opened."),
    (b"\x89PNG", "a picture", "Give a file of texts."),
    (b"\xff\xd8\xff", "a picture", "Give a file of texts."),
)
# A member that only documents of this kind have.
ZIPPED = {"xl/workbook.xml": "xlsx", "word/document.xml": "a Word document", "content.xml": "an OpenDocument file"}
NEWLINES = {"\n": "LF", "\r\n": "CRLF", "\r": "CR (old Mac)"}


@dataclass
class Recognised:
    """
    What a file was taken for.

    Attributes:
        name (`str`): File name.
        kind (`str`, *optional*): `"table"`, `"jsonl"`, `"json"`, `"fasttext"`, `"parquet"`, ...; set by the reader.
        compression (`str`, *optional*): `"gzip"`, `"zip"`, `"zstandard"`, ...
        member (`str`, *optional*): Which file of a zip archive.
        encoding (`str`, *optional*): Python's name of it; `None` for what is no text.
        bom (`bool`): Whether the text begins with a byte order mark.
        words (`list[str]`): Words that tell whether a guessed encoding is right; empty where nothing was guessed.
        newline (`str`): `"\\n"`, `"\\r\\n"` or `"\\r"`.
        bad_lines (`list[int]`): Up to ten lines that are not UTF-8, where the rest is.
        table ([`TableFacts`], *optional*): Of a table.
        notes (`list[str]`): Further sentences.
    """

    name: str
    kind: str | None = None
    compression: str | None = None
    member: str | None = None
    encoding: str | None = None
    bom: bool = False
    words: list = field(default_factory=list)
    newline: str = "\n"
    bad_lines: list = field(default_factory=list)
    table: TableFacts | None = None
    notes: list = field(default_factory=list)

    def describe(self):
        """What was recognised, in one line."""
        kind = KINDS.get(self.kind, self.kind or "text")
        parts = [kind] if self.table is None or self.kind == "xlsx" else []
        parts += [] if self.table is None else [self.table.describe()]
        if self.encoding is not None:
            encoding = "UTF-8" if self.encoding == "utf-8" else self.encoding
            if self.words:
                encoding = f"encoding guessed as {encoding} ({', '.join(self.words[:4])}; `encoding` sets another)"
            parts.append(encoding + (" with a byte order mark" if self.bom else ""))
            if self.newline != "\n":
                parts.append(f"{NEWLINES[self.newline]} line ends")
        if self.compression:
            parts.append(f"packed with {self.compression}" + (f" ({self.member})" if self.member else ""))
        return f"{self.name}: " + ", ".join(parts) + "." + "".join(f" {note}" for note in self.notes)

    @property
    def is_plain(self):
        """Whether there is nothing to say: UTF-8 without a mark, usual line ends, nothing packed."""
        is_usual = self.encoding in (None, "utf-8") and self.newline != "\r"
        return is_usual and not (self.compression or self.bom or self.words or self.notes)


KINDS = {
    "jsonl": "JSON lines",
    "json": "JSON",
    "fasttext": "fastText lines (`__label__A text`)",
    "lines": "one text per line",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "xlsx": "Excel",
}


class TextFile:
    """
    A text file whose encoding and line ends are known; every call opens it anew.

    Attributes:
        path (`Path`), name (`str`), facts ([`Recognised`]).
        suffix (`str`): Of the file, or of what is packed in it: `".csv"` of `train.csv.gz`.
    """

    def __init__(self, path, facts, size):
        self.path, self.facts, self.name, self.size = path, facts, facts.name, size
        self.suffix = packed_suffix(path, facts)

    @contextmanager
    def stream(self):
        """The text as a stream; lines end as in the file. Bytes that are not UTF-8 among such that are become lone surrogates."""
        with open_binary(self.path) as (raw, _):
            encoding = "utf-8-sig" if self.facts.encoding == "utf-8" else self.facts.encoding
            errors = "surrogateescape" if self.facts.bad_lines else "strict"
            # A lone carriage return ends lines only where nothing else does; elsewhere it is part of a text.
            newline = "\r" if self.facts.newline == "\r" else "\n"
            yield io.TextIOWrapper(io.BufferedReader(raw, 1 << 20), encoding=encoding, errors=errors, newline=newline)

    def lines(self):
        """Yields `(number, line)` without line ends; numbers start at 1."""
        with self.stream() as text:
            for number, line in enumerate(text, 1):
                yield number, line.rstrip("\r\n")

    def read(self):
        """The whole text."""
        with self.stream() as text:
            return text.read()

    def sample(self, characters=SAMPLE_CHARACTERS):
        """`(text, whole)`: the beginning, cut behind its last line end, and whether that is all."""
        with self.stream() as text:
            start = text.read(characters + 1)
        if len(start) <= characters:
            return start, True
        cut = start.rfind("\r" if self.facts.newline == "\r" else "\n") + 1
        return (start[:cut] if cut else start), False


def open_text(path, encoding=None, name=None, strict=True):
    """
    Recognises compression, encoding and line ends of a text file.

    Args:
        path (`str` or `os.PathLike`): A file, plain or packed (`.gz`, `.bz2`, `.xz`, `.zst`, `.zip` with one file in it); told
            by its content, whatever its ending.
        encoding (`str`, *optional*): Python's name of an encoding. By default a byte order mark tells, then UTF-8 is tried on the
            whole file, and only then the encoding is guessed (`charset-normalizer`).
        name (`str`, *optional*): For messages; defaults to the file's name.
        strict (`bool`, *optional*, defaults to `True`): Whether a UTF-8 file with some lines that are not UTF-8 is refused.
            Otherwise `facts.bad_lines` names them, and their bytes become lone surrogates.

    Returns:
        [`TextFile`]

    Raises:
        [`HTCError`]: no text, an unknown encoding, bytes that the encoding does not have (line named), a damaged archive.
    """
    path = Path(path)
    facts = Recognised(name or path.name)
    with open_binary(path) as (raw, packed):
        facts.compression, facts.member = packed
        start = raw.read(1 << 16)
        refuse_binary(start, facts.name)
        mark = next((mark for mark in BOMS if start.startswith(mark)), None)
        facts.bom = mark is not None
        facts.encoding = encoding_name(encoding) if encoding is not None else BOMS[mark] if mark else _wide(start) or "utf-8"
        scan = _Scan(facts, start, raw)
    if scan.problem is not None and encoding is None and mark is None and facts.encoding == "utf-8":
        _settle(path, facts, scan, strict)
    elif scan.problem is not None:
        raise HTCError(
            f"is not {facts.encoding} text: {scan.problem}.",
            file=facts.name,
            line=scan.line,
            mend="Give its true `encoding`, or save the file as UTF-8.",
        )
    facts.newline = scan.newline()
    return TextFile(path, facts, scan.size)


class _Scan:
    """One pass over a file: is every byte of the encoding, and how do lines end?"""

    def __init__(self, facts, start, raw):
        self.problem, self.line, self.size = None, None, 0
        self.pairs = self.feeds = self.returns = 0
        decoder = codecs.getincrementaldecoder(facts.encoding)()
        lines, last = 1, ""
        chunk = start
        while True:
            self.size += len(chunk)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                if self.problem is None:
                    bad = error.object[error.start]
                    self.problem, self.line = (
                        f"{error.reason}, byte 0x{bad:02x}",
                        lines + error.object[: error.start].count(b"\n"),
                    )
                text = chunk.decode("latin-1")
                decoder.reset()
            if self.problem is None:
                lines += text.count("\n")
            self.pairs += text.count("\r\n") + (last == "\r" and text[:1] == "\n")
            self.feeds += text.count("\n")
            self.returns += text.count("\r")
            last = text[-1:] if text else last
            if not chunk:
                break
            chunk = raw.read(CHUNK)

    def newline(self):
        if not self.feeds and self.returns:
            return "\r"
        return "\r\n" if self.pairs and 2 * self.pairs >= self.feeds else "\n"


def _wide(start):
    """UTF-16 without a mark: every second byte of what is mostly Latin text is zero."""
    pairs = len(start) // 2
    if pairs < 4:
        return None
    even, odd = start[0 : 2 * pairs : 2].count(0), start[1 : 2 * pairs : 2].count(0)
    if odd > 0.4 * pairs and even < 0.05 * pairs:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 * pairs and odd < 0.05 * pairs else None


def _settle(path, facts, scan, strict):
    """The encoding of what is not UTF-8: some broken lines in UTF-8, or another encoding."""
    with open_binary(path) as (raw, _):
        good, num_bad, bad, other, size = 0, 0, [], [], 0
        for number, line in enumerate(io.BufferedReader(raw, 1 << 20), 1):
            if line.isascii():
                continue
            try:
                line.decode("utf-8")
                good += 1
            except UnicodeDecodeError:
                num_bad += 1
                if len(bad) < 10:
                    bad.append(number)
                if size < SAMPLE_CHARACTERS:
                    other.append(line)
                    size += len(line)
    # A line of another encoding is UTF-8 by chance only where it is very short.
    if 4 * good > num_bad:
        facts.bad_lines = bad
        if strict:
            raise HTCError(
                f"is not UTF-8 text ({scan.problem}), though other lines are.",
                file=facts.name,
                line=bad[0],
                mend="Mend the line, or give the `encoding` of the whole file.",
            )
        return
    guess = guess_encoding(b"".join(other))
    if guess is None:
        raise HTCError(
            f"is not UTF-8 text ({scan.problem}), and no other encoding fits.",
            file=facts.name,
            line=scan.line,
            mend="Give its `encoding`, or save the file as UTF-8.",
        )
    facts.encoding, facts.words = guess
    with open_binary(path) as (raw, _):
        check = _Scan(facts, raw.read(1 << 16), raw)
    if check.problem is not None:
        raise HTCError(
            f"is neither UTF-8 text nor {facts.encoding}, which its first lines look like ({check.problem}).",
            file=facts.name,
            line=check.line,
            mend="Give its `encoding`, or save the file as UTF-8.",
        )


@contextmanager
def open_binary(path):
    """
    A file as a raw stream, unpacked when it is packed, and `(compression, member)`.

    Raises:
        [`HTCError`]: a damaged archive, one with several files, or a bomb; [`HTCImportError`]: `zstandard` is missing.
    """
    path = Path(path)
    with open(path, "rb") as stream:
        start = stream.read(8)
        stream.seek(0)
        if start.startswith(b"BZh"):
            start = start[:3] + b"9" + start[4:]
        packing = next((kind for mark, kind in PACKINGS.items() if start.startswith(mark)), None)
        member, errors = None, BROKEN
        if packing == "zip":
            with refusing(f"{path.name!r} is no archive of its kind or is damaged", BROKEN, mend="Get the file again."):
                archive = zipfile.ZipFile(stream)
            names = [info for info in archive.infolist() if not info.is_dir() and not is_litter(info.filename)]
            document = next((kind for inner, kind in ZIPPED.items() if any(info.filename == inner for info in names)), None)
            if document == "xlsx":
                yield stream, (None, None)
                return
            if document is not None:
                raise HTCError(f"is {document}, which is not read.", file=path.name, mend="Export it as CSV or .xlsx.")
            if len(names) != 1:
                held = [info.filename for info in names[:10]]
                raise HTCError(
                    f"is an archive of {len(names)} files ({', '.join(held)}); one is read.",
                    file=path.name,
                    mend="Unpack it and give the file.",
                )
            member = names[0].filename
            if names[0].flag_bits & 1:
                raise HTCError(f"holds {member!r} encrypted.", file=path.name, mend="Unpack it with its password.")
            with refusing(f"{member!r} cannot be unpacked", (*BROKEN, NotImplementedError, RuntimeError), file=path.name):
                opened = archive.open(names[0])
        elif packing == "zstandard":
            try:
                import zstandard
            except ImportError as error:
                raise HTCImportError(f"Reading {path.name!r} needs zstandard: pip install 'hf_htc[zstd]'.") from error
            opened = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
            errors = (*BROKEN, zstandard.ZstdError)
        else:
            opened = OPENERS[packing](stream) if packing else None
        if opened is None:
            yield stream, (None, None)
        else:
            yield counted(opened, path, errors), (packing, member)


def packed_suffix(path, facts):
    """The ending that tells the kind: of the packed file, or of the file without `.gz`."""
    if facts.member:
        return Path(facts.member).suffix.lower()
    path = Path(path)
    return Path(path.stem).suffix.lower() if facts.compression else path.suffix.lower()


def refuse_binary(start, name):
    """Raises [`HTCError`] for the first bytes of what is no text, naming what it is."""
    for mark, kind, advice in BINARIES:
        if start.startswith(mark):
            raise HTCError(f"is {kind}, not text." if advice else f"is a {kind} file, not text.", file=name, mend=advice)
    marked = any(start.startswith(mark) for mark in BOMS)
    if b"\0" in start and not marked and _wide(start) is None:
        raise HTCError("is no text (it holds null bytes).", file=name, mend="Give a file of texts, e.g. CSV or JSONL.")


MARKUP = re.compile(r"\s*(<\?xml|<!doctype|<html|<rdf|<[a-z][a-z0-9:]*[\s>])", re.IGNORECASE)


def markup_of(sample):
    """`"HTML"` or `"XML"` when a text begins like one, otherwise `None`."""
    if not MARKUP.match(sample):
        return None
    return "HTML" if re.match(r"\s*<(!doctype html|html)", sample, re.IGNORECASE) else "XML"
