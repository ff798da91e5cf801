"""What is published tells nothing about the machine it was made on: looked for in the files that were written.

A local path is what begins with the home, the working or the temporary folder or with a path that was given, and a JSON value
that is the absolute path of something that exists here. URLs, paths of labels and other words with a `/` are none; texts and
labels of documents are not looked at.
"""

import json
import os
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from hf_htc.models.errors import HTCError, reason_of
from hf_htc.models.saving import public_name
from hf_htc.models.whole_files import write_text


_TEXT_FILES = (".json", ".md", ".yaml", ".yml", ".html", ".py", ".txt", ".toml")
_DOCUMENT_FILES = ("taxonomy.", "examples.", "vocab.", "merges.", "tokenizer.json", "added_tokens.json")
# Keys of a config under which labels stand.
_LABELS = {"id2label", "label2id", "hierarchy"}
# Keys whose value only says where something was found.
_BLANKED = {
    "name_or_path",
    "_name_or_path",
    "tokenizer_file",
    "vocab_file",
    "merges_file",
    "special_tokens_map_file",
    "cache_dir",
}
# An adapter on this machine needs the folder of its base; `check_adapter_base` refuses to push it.
_NEEDED = {"base_model_name_or_path"}
# The records of a run: every path in them is cut to its last part, as on the command line.
_RECORDS = {"run.json", "export.json"}


class _Here(NamedTuple):
    """Folders of this machine, and the expression that finds paths below them in a text."""

    folders: list
    expression: re.Pattern


def remove_local_paths(folder, given=()):
    """
    Takes local paths out of a folder that is to be published, where they only say where something was found.

    Args:
        folder (`str`): What [`save`] or an export wrote; files in folders of it count, hidden ones but `.eval_results` do not.
        given (`Iterable[str]`, *optional*): Further local paths, such as those of the command line.

    Raises:
        `ValueError`: a local path elsewhere; the message names the first file, the key or line, and the path.
    """
    folder, here, problem = Path(folder), _here(given), None
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        try:
            if path.suffix == ".parquet":
                _check_parquet(path, name, here)
            elif path.suffix == ".json":
                _mend_json(path, name, here)
            else:
                text = path.read_text(encoding="utf-8", errors="replace")
                found = _first(text, here)
                if found is not None:
                    raise _error(name, f"line {text.count(chr(10), 0, text.index(found)) + 1}", found)
        except HTCError as error:
            problem = problem or error
    if problem is not None:
        raise problem


def cut_local_paths(value, given=()):
    """A JSON value with every local path in it cut to its last part, as the records of a run show them."""
    return _mended(value, next(iter(_RECORDS)), "", _here(given))


def _files(folder):
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        is_hidden = any(part.startswith(".") for part in parts) and parts[0] != ".eval_results"
        is_text = path.suffix in _TEXT_FILES and not path.name.startswith(_DOCUMENT_FILES)
        if not is_hidden and (is_text or path.suffix == ".parquet") and path.is_file():
            yield path


def _here(given):
    folders = [Path.home(), Path.cwd(), tempfile.gettempdir(), *given]
    folders = {spelling for folder in folders for spelling in (os.path.abspath(folder), os.path.realpath(folder))}
    folders = sorted((folder for folder in folders if os.path.dirname(folder) != folder), key=len, reverse=True)
    # In a text, a path ends at a space, a quotation mark or a bracket, and is none in the middle of a word, URL or other path.
    inside = r"""[^\s"'`<>|;,()\[\]{}]*"""
    start = r"(?<![\w/.:~-])(?:file://)?"
    return _Here(folders, re.compile(f"{start}((?:{'|'.join(map(re.escape, folders))})(?![\\w.-]){inside})"))


def _first(text, here):
    """The first local path in a text, or `None`. Of the temporary folder, which texts name too, what exists."""
    temporary = tempfile.gettempdir()
    for found in here.expression.finditer(text):
        below = os.path.relpath(found[1], temporary).split(os.sep)[0]
        if below == ".." or (below != "." and os.path.exists(os.path.join(temporary, below))):
            return found[1]
    return None


def _mend_json(path, name, here):
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HTCError(f"{name!r} is not valid JSON: {reason_of(error)}. It is not to be published.") from error
    mended = _mended(content, name, "", here)
    if mended != content:
        write_text(path, json.dumps(mended, indent=2, ensure_ascii=False) + "\n")


def _mended(value, name, key, here):
    last = key.rpartition(".")[2]
    if isinstance(value, dict):
        known = {k: v for k, v in value.items() if k in _LABELS}
        return {k: _mended(v, name, f"{key}.{k}" if key else k, here) for k, v in value.items() if k not in known} | known
    if isinstance(value, list):
        return [_mended(v, name, key, here) for v in value]
    if not isinstance(value, str) or last in _NEEDED:
        return value
    if last in _BLANKED:
        return public_name(value)
    deep = os.path.isabs(value) and value.count(os.sep) > 1  # else the name of a first-level label, such as "/media"
    whole = deep and (os.path.exists(value) or here.expression.fullmatch(value) is not None)
    found = value if whole else _first(value, here)
    if found is None:
        return value
    if name in _RECORDS:
        return Path(value).name if whole else here.expression.sub(lambda path: Path(path[1]).name, value)
    raise _error(name, f"key {key!r}", found)


def _check_parquet(path, name, here):
    """The metadata of the schema, and the columns of strings other than the texts."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from pyarrow import types

    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        for key, value in (schema.metadata or {}).items():
            found = _first(value.decode("utf-8", errors="replace"), here)
            if found is not None:
                raise _error(name, f"metadata {key.decode('utf-8', errors='replace')!r}", found)
        columns = [field.name for field in schema if types.is_string(field.type) or types.is_large_string(field.type)]
        columns = [column for column in columns if column != "text"]
        for batch in file.iter_batches(columns=columns) if columns else ():
            for column in columns:
                for folder in here.folders:
                    hits = batch.column(column).filter(pc.starts_with(batch.column(column), folder + os.sep))
                    if len(hits):
                        raise _error(name, f"column {column!r}", hits[0].as_py())


def _error(name, where, path):
    return HTCError(
        f"{name!r} holds a path of this machine, {path!r} ({where}). It is not to be published like that: take the path out, or "
        "put a name in its place.",
        field=where,
        value=path,
    )
