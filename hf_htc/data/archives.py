"""Original files of data sets as streams, from folders and from zip and tar archives, also nested ones.

Nothing is unpacked: a member is read while the archive is walked, so no path of an archive ever becomes a path here. What is
unsafe is refused all the same, with the archive and the member named: paths that leave the archive, links, devices, sparse and
encrypted members, and archives that are larger unpacked than [`ArchiveLimits`] allows. XML is read without entities of its own.
"""

from __future__ import annotations

import bz2
import gzip
import html
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import TreeBuilder
from xml.parsers import expat

from hf_htc.models.errors import HTCError, HTCFileNotFoundError


def _gunzip(stream):
    return gzip.GzipFile(fileobj=stream)


TAR_SUFFIXES = {
    ".tar": None,
    ".tgz": _gunzip,
    ".tar.gz": _gunzip,
    ".tbz2": bz2.BZ2File,
    ".tar.bz2": bz2.BZ2File,
    ".txz": lzma.LZMAFile,
    ".tar.xz": lzma.LZMAFile,
}
FILE_SUFFIXES = {".gz": _gunzip, ".bz2": bz2.BZ2File, ".xz": lzma.LZMAFile}
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError)


class ArchiveError(HTCError):
    """An archive that is broken or not safe to read; the message names it and the member."""


@dataclass(frozen=True)
class ArchiveLimits:
    """
    What one archive, with all archives inside it, may amount to.

    Args:
        members (`int`, *optional*, defaults to 5,000,000): Files.
        member_size (`int`, *optional*, defaults to 8 GiB): Bytes of one file, unpacked.
        total_size (`int`, *optional*, defaults to 256 GiB): Bytes of all files, unpacked.
        ratio (`int`, *optional*, defaults to 200): Unpacked bytes by bytes of the archive on disk; texts have 3 to 20.
        depth (`int`, *optional*, defaults to 3): Archives inside archives.
        free (`int`, *optional*, defaults to 16 MiB): Unpacked bytes below which `ratio` does not count: a small archive of equal
            lines is harmless.
    """

    members: int = 5_000_000
    member_size: int = 8 * 2**30
    total_size: int = 256 * 2**30
    ratio: int = 200
    depth: int = 3
    free: int = 16 * 2**20


class _Budget:
    """What has been read of one archive on disk so far."""

    def __init__(self, path, limits):
        self.name, self.limits = path.name, limits
        self.allowed = min(limits.total_size, max(limits.free, limits.ratio * path.stat().st_size))
        self.members = self.bytes = 0

    def add_member(self, name, size):
        self.members += 1
        if self.members > self.limits.members:
            raise ArchiveError(f"{self.name!r} holds more than {self.limits.members} files, the limit.")
        if size > self.limits.member_size:
            raise ArchiveError(f"{name!r} says that it is {size} bytes large; the limit is {self.limits.member_size}.")

    def add_bytes(self, name, count):
        self.bytes += count
        if self.bytes > self.allowed:
            raise ArchiveError(
                f"{self.name!r} unpacks to more than {self.allowed} bytes (at {name!r}), which is {self.limits.ratio} times its "
                "own size or the limit of all sizes. It looks like an archive bomb; if it is none, unpack it yourself and give "
                "the folder."
            )


class _Counted(io.RawIOBase):
    """A stream whose bytes count against the budget, whatever headers say; damage in it is told with its name."""

    def __init__(self, stream, name, budget, errors=BROKEN):
        self._stream, self._name, self._budget, self._errors = stream, name, budget, errors

    def readable(self):
        return True

    def readinto(self, buffer):
        try:
            data = self._stream.read(len(buffer))
        except self._errors as error:
            raise ArchiveError(f"{self._name!r} is damaged: {error or type(error).__name__}. Get the file again.") from error
        buffer[: len(data)] = data
        if self._budget is not None:
            self._budget.add_bytes(self._name, len(data))
        return len(data)


def counted(stream, path, errors=BROKEN, limits=None):
    """
    The unpacked bytes of a packed file, which may not be more than [`ArchiveLimits`] allow.

    Args:
        stream: What unpacks.
        path (`Path`): The packed file.
        errors (`tuple[type]`, *optional*): What the stream raises when the file is damaged.
        limits ([`ArchiveLimits`], *optional*)

    Returns:
        `io.RawIOBase`: raises [`ArchiveError`] for damage and for a bomb.
    """
    return _Counted(stream, path.name, _Budget(path, limits or ArchiveLimits()), errors)


def _suffix(name, suffixes):
    lowered = name.lower()
    return next((suffix for suffix in sorted(suffixes, key=len, reverse=True) if lowered.endswith(suffix)), None)


def is_archive(name):
    """Whether a file of this name is read as an archive: `.zip`, `.tar`, `.tgz`, `.tar.gz`, also with bz2 and xz."""
    return name.lower().endswith(".zip") or _suffix(name, TAR_SUFFIXES) is not None


def safe_member_name(name, archive):
    """
    A member's path with forward slashes and without `.` segments.

    Raises:
        [`ArchiveError`]: an empty or absolute path, a drive letter, a `..` segment, a null character.
    """
    plain = name.replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if not parts or plain.startswith("/") or re.match("[A-Za-z]:", plain) or ".." in parts or "\0" in plain:
        raise ArchiveError(
            f"{archive!r} holds the path {name!r}, which leaves the archive or is empty. Do not use this archive; get "
            "it from its owner."
        )
    return "/".join(parts)


def is_litter(name):
    """Files that macOS puts beside others."""
    parts = name.split("/")
    return "__MACOSX" in parts or parts[-1] == ".DS_Store" or parts[-1].startswith("._")


def list_files(root):
    """
    Files of a folder, with all sub-folders, sorted by path; `root` itself when it is a file. Links are followed, since they are
    the user's own; a folder that is reached twice counts once.

    Raises:
        `FileNotFoundError`: there is neither.
    """
    root = Path(root)
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise HTCFileNotFoundError(f"There is no folder or archive {str(root)!r}.")
    found, seen = [], set()
    for folder, folders, names in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:  # a link in a circle
            folders.clear()
            continue
        seen.add(place)
        folders.sort()
        found.extend(Path(folder) / name for name in names)
    return sorted(path for path in found if path.is_file() and not is_litter(path.relative_to(root).as_posix()))


def iter_files(paths, wanted=None, root=None, limits=None):
    """
    Yields `(name, stream)` of files, of the members of archives and of archives inside them.

    Args:
        paths (`list[Path]`): Files and archives, as [`list_files`] gives them.
        wanted (`Callable[[str], bool]`, *optional*): Which names to give; the others are passed over, in zip archives without
            being unpacked.
        root (`Path`, *optional*): Names are relative to this folder; file names alone without it. A member's name begins with
            its archive's: `"CD1/19960820.zip/2286newsML.xml"`. A file `x.gz` is given unpacked, as `x`.
        limits ([`ArchiveLimits`], *optional*)

    Yields:
        `tuple[str, io.BufferedReader]`: The stream can be read until the next step.

    Raises:
        [`ArchiveError`]: a broken archive, an unsafe path, a link, too many files or bytes.
    """
    limits = limits or ArchiveLimits()
    for path in paths:
        # A root that is a file itself has no names relative to it.
        name = path.name if root is None or path == Path(root) else path.relative_to(root).as_posix()
        packed = _suffix(name, FILE_SUFFIXES)
        with open(path, "rb") as stream:
            if is_archive(name):
                yield from _members(stream, name, wanted, _Budget(path, limits), 1)
            elif packed and (wanted is None or wanted(name[: -len(packed)])):
                opened = FILE_SUFFIXES[packed](stream)
                yield name[: -len(packed)], io.BufferedReader(_Counted(opened, name, _Budget(path, limits)))
            elif not packed and (wanted is None or wanted(name)):
                yield name, stream


def _members(stream, name, wanted, budget, depth):
    if depth > budget.limits.depth:
        raise ArchiveError(f"{name!r} lies in more than {budget.limits.depth - 1} other archives. Unpack it and give the folder.")
    try:
        if name.lower().endswith(".zip"):
            yield from _zip_members(stream, name, wanted, budget, depth)
        else:
            yield from _tar_members(stream, name, wanted, budget, depth)
    except BROKEN as error:
        raise ArchiveError(f"{name!r} is no archive of its kind or is damaged: {error}. Get the file again.") from error


def _zip_members(stream, name, wanted, budget, depth):
    if depth > 1:  # a zip archive is read from its end, which a stream inside another archive does not reach
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(stream, copy)
            copy.seek(0)
            yield from _open_zip(copy, name, wanted, budget, depth)
    else:
        yield from _open_zip(stream, name, wanted, budget, depth)


def _open_zip(stream, name, wanted, budget, depth):
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            inner = safe_member_name(info.filename, name)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveError(f"{name!r} holds {inner!r}, which is a link or no file. Unpack it and give the folder.")
            if info.is_dir() or is_litter(inner):
                continue
            budget.add_member(f"{name}/{inner}", info.file_size)
            if info.flag_bits & 1:
                raise ArchiveError(
                    f"{name!r} holds {inner!r}, which is encrypted. Unpack it with its password and give the folder."
                )
            yield from _member(lambda info=info: archive.open(info), f"{name}/{inner}", wanted, budget, depth)


def _tar_members(stream, name, wanted, budget, depth):
    opener = TAR_SUFFIXES[_suffix(name, TAR_SUFFIXES)]
    # Counted here, since what is passed over in a tar archive is unpacked too.
    unpacked = io.BufferedReader(_Counted(opener(stream) if opener else stream, name, budget))
    with tarfile.open(fileobj=unpacked, mode="r|") as archive:
        for info in archive:
            if info.isdir() and info.name in ("", "."):
                continue
            inner = safe_member_name(info.name, name)
            if info.isdir() or is_litter(inner):
                continue
            if not info.isreg() or info.issparse():
                raise ArchiveError(f"{name!r} holds {inner!r}, which is a link or no plain file. Unpack it and give the folder.")
            budget.add_member(f"{name}/{inner}", info.size)
            yield from _member(
                lambda info=info: archive.extractfile(info), f"{name}/{inner}", wanted, budget, depth, counted=True
            )


def _member(opener, name, wanted, budget, depth, counted=False):
    """One member: given, descended into, or passed over without being opened."""
    packed = _suffix(name, FILE_SUFFIXES)
    if is_archive(name):
        with opener() as stream:
            whole = stream if counted else io.BufferedReader(_Counted(stream, name, budget))
            yield from _members(whole, name, wanted, budget, depth + 1)
    elif packed and (wanted is None or wanted(name[: -len(packed)])):
        with opener() as stream:
            yield name[: -len(packed)], io.BufferedReader(_Counted(FILE_SUFFIXES[packed](stream), name, budget))
    elif not packed and (wanted is None or wanted(name)):
        with opener() as stream:
            yield name, io.BufferedReader(_Counted(stream, name, None if counted else budget))


def text_lines(stream, name, encodings=("utf-8",)):
    """
    Yields `(number, line)` of a text, without line ends; numbers start at 1. A byte order mark of UTF-8 or UTF-16 is honoured.

    Args:
        encodings (`tuple[str]`): Tried one after the other, line by line.

    Raises:
        `ValueError`: a line that none of the encodings reads; file and line are named.
    """
    start = stream.peek(2)[:2] if hasattr(stream, "peek") else b""
    if start in (b"\xff\xfe", b"\xfe\xff"):
        number = 0
        try:
            for number, line in enumerate(io.TextIOWrapper(stream, encoding="utf-16", newline="\n"), 1):  # noqa: B007
                yield number, line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise HTCError(f"{name}, after line {number}: not UTF-16 text, as its first bytes say ({error}).") from error
        return
    for number, raw in enumerate(stream, 1):
        raw = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        for encoding in encodings:
            try:
                line = raw.decode(encoding)
                break
            except UnicodeDecodeError:
                continue
        else:
            raise HTCError(f"{name}, line {number}: not {' or '.join(encodings)} text. Save the file in that encoding.")
        yield number, line.rstrip("\r\n")


def parse_xml(data, name):
    """
    The root element of an XML document, read without a DTD and without entities of its own.

    A document type that only names a DTD is passed over; what its entities would be is taken from HTML's (`&mdash;`).

    Args:
        data (`bytes`)
        name (`str`): For messages.

    Raises:
        `ValueError`: not well-formed (line named), or a declaration of entities.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def refuse(entity, *_):
        raise HTCError(f"{name} declares the XML entity {entity!r}. Original files declare none; do not use this one.")

    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.SkippedEntityHandler = lambda entity, _: builder.data(html.unescape(f"&{entity};"))
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise HTCError(f"{name}, line {error.lineno}: not well-formed XML ({error}). Get the file again.") from error
    return builder.close()
