"""Small twins of original files, for the builders' tests."""

import io
import logging
import os
import tarfile
import zipfile
from pathlib import Path


# Whole data sets in Parquet and real taxonomies, where there are any: beside the repository, or in the given folder.
REAL = Path(os.environ.get("HF_HTC_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")


def zipped(files):
    """A zip archive of `{name: bytes or str}`, as bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files):
    """A .tgz archive of `{name: bytes or str}`, as bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def written(folder, files):
    """Writes `{name: bytes or str}` below a folder and returns it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def rows(dataset, hierarchy):
    """`{split: {id: (text, sorted label names)}}`."""
    names = hierarchy.names
    return {
        split: {row["id"]: (row["text"], sorted(names[i] for i in row["labels"])) for row in part}
        for split, part in dataset.items()
    }


def warnings_of(caplog):
    """The messages of the builders' logger at warning level."""
    return [r.getMessage() for r in caplog.records if r.name.endswith("originals") and r.levelno >= logging.WARNING]
