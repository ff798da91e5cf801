"""
# Python docs: docstrings of the standard library, labelled by the Library Reference

A hierarchical text classification data set that every Python installation already has: the docstrings of the running
interpreter's standard library, labelled with the place of their module in the Python Library Reference, chapter >
module > submodule. Nothing is downloaded, shipped or imported: the sources are parsed with `ast`.

* **Texts.** Docstrings of modules, classes, methods and functions with at least 8 words, cleaned as `inspect.cleandoc`
  does and otherwise unchanged. Nothing is added to them: no module name, no signature, no qualified name. A docstring
  that mentions its own module does so because its author wrote it.
* **Labels.** `chapter`, `chapter/module`, `chapter/module/submodule`, e.g. `Concurrent Execution`,
  `Concurrent Execution/asyncio`, `Concurrent Execution/asyncio/asyncio.queues`. Every text has all ancestors of its
  labels (closed). Chapters follow the Library Reference of Python 3.13; modules of other versions are put where they
  belong. A private implementation file counts for the module that it implements (`_pydecimal` for `decimal`).
* **Left out.** Modules that the Library Reference does not document, tests, IDLE, lib2to3, bundled pip, the generated
  tables of `encodings`, functions nested in functions.
* **Duplicates.** Texts equal up to case and white space are one example, with the labels of all places where they
  stand; a few examples therefore have several paths.
* **Splits.** 80/10/10 by a hash of the normalized text, so no text is in two splits and every machine with the same
  Python gets the same splits.
* **Small nodes.** A module or submodule becomes a label only with at least 10 training texts, and only when it does not
  hold all of its parent's training texts; its texts keep the labels above. A chapter below 10 is left out with its
  texts.
* **Size.** 5,605 texts (4,469/570/566) and 159 labels (28-83-48 by level) on CPython 3.11.7; 5,200 to 5,600 texts on
  3.10 to 3.13. Numbers are comparable between machines with equal `hf_htc.data.dataset_fingerprint`.
* **License.** The docstrings are part of CPython, PSF License; they stay on your machine.

```python
>>> from hf_htc.data import load_htc_dataset
>>> dataset, hierarchy = load_htc_dataset("python_docs")  # doctest: +SKIP
```
"""

from __future__ import annotations

import ast
import hashlib
import platform
import sysconfig
import warnings
from collections import Counter
from pathlib import Path

import datasets

from hf_htc.models.errors import HTCFileNotFoundError
from hf_htc.models.hierarchy import LabelHierarchy


MIN_WORDS = 8
MIN_TRAIN_TEXTS = 10

# Chapter -> documented modules. A dotted entry is one that the reference lists in another chapter than its package, or
# whose package is a mere container; every other submodule goes with its package.
CHAPTERS = {
    "Text Processing Services": "string re difflib textwrap unicodedata stringprep readline rlcompleter",
    "Binary Data Services": "struct codecs",
    "Data Types": ("datetime zoneinfo calendar collections heapq bisect array weakref types copy pprint reprlib enum graphlib"),
    "Numeric and Mathematical Modules": "numbers math cmath decimal fractions random statistics",
    "Functional Programming Modules": "itertools functools operator",
    "File and Directory Access": "pathlib os.path stat filecmp tempfile glob fnmatch linecache shutil",
    "Data Persistence": "pickle copyreg shelve marshal dbm sqlite3",
    "Data Compression and Archiving": "zlib gzip bz2 lzma zipfile tarfile compression",
    "File Formats": "csv configparser tomllib netrc plistlib",
    "Cryptographic Services": "hashlib hmac secrets",
    "Generic Operating System Services": "os io time logging platform errno ctypes",
    "Command-Line Interface Libraries": "argparse optparse getpass fileinput curses cmd",
    "Concurrent Execution": (
        "threading multiprocessing concurrent.futures concurrent.interpreters subprocess sched queue contextvars asyncio"
    ),
    "Networking and Interprocess Communication": "socket ssl select selectors signal mmap",
    "Internet Data Handling": "email json mailbox mimetypes base64 binascii quopri",
    "Structured Markup Processing Tools": "html xml",
    "Internet Protocols and Support": (
        "webbrowser wsgiref urllib http ftplib poplib imaplib smtplib uuid socketserver xmlrpc ipaddress"
    ),
    "Multimedia Services": "wave colorsys",
    "Internationalization": "gettext locale",
    "Graphical User Interfaces with Tk": (
        "tkinter tkinter.ttk tkinter.tix tkinter.font tkinter.filedialog tkinter.simpledialog tkinter.messagebox "
        "tkinter.colorchooser tkinter.scrolledtext tkinter.dnd turtle"
    ),
    "Development Tools": "typing pydoc doctest unittest",
    "Debugging and Profiling": "bdb faulthandler pdb profile pstats cProfile timeit trace tracemalloc profiling",
    "Software Packaging and Distribution": "distutils venv zipapp",
    "Python Runtime Services": (
        "sys sysconfig builtins warnings dataclasses contextlib abc atexit traceback gc inspect site annotationlib"
    ),
    "Custom Python Interpreters": "code codeop",
    "Importing Modules": "zipimport pkgutil modulefinder runpy importlib",
    "Python Language Services": ("ast symtable token keyword tokenize tabnanny pyclbr py_compile compileall dis pickletools"),
    "Unix Specific Services": "shlex posix pwd grp termios tty pty fcntl resource syslog",
    "Superseded Modules": (
        "aifc asynchat asyncore audioop cgi cgitb chunk crypt getopt imghdr imp mailcap msilib "
        "nis nntplib ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib uu xdrlib"
    ),
}
CHAPTER_OF = {module: chapter for chapter, modules in CHAPTERS.items() for module in modules.split()}

# Files that hold the implementation of a documented module under another name.
IMPLEMENTS = {
    "_collections_abc": "collections.abc",
    "_markupbase": "html.parser",
    "_py_abc": "abc",
    "_pydatetime": "datetime",
    "_pydecimal": "decimal",
    "_pyio": "io",
    "_sitebuiltins": "site",
    "_strptime": "time",
    "_threading_local": "threading",
    "_weakrefset": "weakref",
    "genericpath": "os.path",
    "ntpath": "os.path",
    "nturl2path": "urllib.request",
    "opcode": "dis",
    "posixpath": "os.path",
    "sre_compile": "re",
    "sre_constants": "re",
    "sre_parse": "re",
}


def label_path(module):
    """
    Place of a module in the reference.

    Args:
        module (`str`): Dotted name of a source file of the standard library.

    Returns:
        `list[str]`: chapter, module and, for a public part of a package, submodule; empty for undocumented modules.
    """
    segments = IMPLEMENTS.get(module, module).split(".")
    length = 2 if ".".join(segments[:2]) in CHAPTER_OF else 1
    top = ".".join(segments[:length])
    if top not in CHAPTER_OF:
        return []
    # Private parts of a package implement its public face, so their texts stop at the package.
    submodule = segments[length : length + 1]
    submodule = [f"{top}.{submodule[0]}"] if submodule and not submodule[0].startswith("_") else []
    return [CHAPTER_OF[top], top, *submodule]


def normalized(text):
    """The text without differences of case and white space: what duplicates and splits go by."""
    return " ".join(text.lower().split())


def split_of(text):
    """`"train"`, `"validation"` or `"test"` (80/10/10), by a hash of the normalized text."""
    bucket = int.from_bytes(hashlib.sha256(normalized(text).encode()).digest()[:8], "big") % 10
    return "train" if bucket < 8 else "validation" if bucket == 8 else "test"


def docstrings(source):
    """
    Docstrings of a module's source: `(qualified name, text)` of the module (name `""`), classes, methods and functions.

    Definitions under `if`, `try` and `with` count; functions inside functions do not.
    """
    stack = [("", ast.parse(source))]
    while stack:
        name, node = stack.pop()
        definition = isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if definition:
            name = f"{name}.{node.name}" if name else node.name
        if definition or isinstance(node, ast.Module):
            text = ast.get_docstring(node)
            if text:
                yield name, text
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            stack.extend((name, child) for child in reversed(list(ast.iter_child_nodes(node))) if isinstance(child, ast.stmt))
            # `except` clauses are no statements but hold them.
            stack.extend((name, child) for handler in getattr(node, "handlers", []) for child in reversed(handler.body))


def source_files(stdlib):
    """`(module name, file)` of the documented modules' sources below `stdlib`, sorted by name."""
    found = []
    # Only documented names are entered: site-packages below the same folder may hold many thousand files.
    for name in sorted({module.split(".")[0] for module in [*CHAPTER_OF, *IMPLEMENTS]}):
        for file in [stdlib / f"{name}.py", *(stdlib / name).rglob("*.py")]:
            parts = file.relative_to(stdlib).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if file.is_file() and not {"test", "tests"} & set(parts) and label_path(module):
                found.append((module, file))
    return sorted(found)


class PythonDocs(datasets.GeneratorBasedBuilder):
    """
    Docstrings of the running interpreter's standard library; see the module's card for texts, labels and splits.

    Columns: `id` (`module:qualified name`, with `#2` where the name is defined again), `text`, `labels` (names, chapter
    first). The cache is keyed by the Python version and the version of this builder.

    Raises:
        `FileNotFoundError`: the interpreter comes without the sources of its standard library.

    Example:

    ```python
    >>> builder = PythonDocs()  # doctest: +SKIP
    >>> builder.download_and_prepare()  # doctest: +SKIP
    >>> dataset, hierarchy = builder.as_dataset(), builder.taxonomy()  # doctest: +SKIP
    ```
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIGS = [
        datasets.BuilderConfig(
            name=f"{platform.python_implementation().lower()}-{platform.python_version()}",
            version=VERSION,
            description="Docstrings of this Python's standard library, labelled by the Library Reference.",
        )
    ]

    def _info(self):
        return datasets.DatasetInfo(
            description=self.config.description,
            features=datasets.Features(
                {
                    "id": datasets.Value("string"),
                    "text": datasets.Value("string"),
                    "labels": datasets.List(datasets.Value("string")),
                }
            ),
            homepage="https://docs.python.org/3/library/",
            license="PSF-2.0",
        )

    def _split_generators(self, dl_manager):
        examples = self._examples()
        return [
            datasets.SplitGenerator(
                name=name,
                gen_kwargs={"examples": [example for example in examples if split_of(example["text"]) == name]},
            )
            for name in ("train", "validation", "test")
        ]

    def _generate_examples(self, examples):
        for example in examples:
            yield example["id"], example

    def _examples(self):
        """All examples, labels of small nodes taken away."""
        stdlib = Path(sysconfig.get_paths()["stdlib"])
        files = source_files(stdlib) if stdlib.is_dir() else []
        if len(files) < 100:
            raise HTCFileNotFoundError(
                f"The sources of the standard library are not at {str(stdlib)!r} ({len(files)} "
                "of some 400 files found). `python_docs` reads them; use a Python that "
                "comes with its .py files, not an embedded or zipped one."
            )
        merged, seen = {}, Counter()
        for module, file in files:
            path = label_path(module)
            labels = ["/".join(path[:depth]) for depth in range(1, len(path) + 1)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old sources hold escapes that newer parsers warn about
                found = list(docstrings(file.read_bytes()))
            for name, text in found:
                if len(text.split()) < MIN_WORDS:
                    continue
                # A name may be defined twice: getter and setter, or both branches of an `if`.
                key = f"{module}:{name}"
                seen[key] += 1
                key = key if seen[key] == 1 else f"{key}#{seen[key]}"
                example = merged.setdefault(normalized(text), {"id": key, "text": text, "labels": set()})
                example["labels"].update(labels)
        counts = Counter(
            label for example in merged.values() if split_of(example["text"]) == "train" for label in example["labels"]
        )
        kept = set()
        for label in sorted(counts):  # a parent sorts before its children
            parent = label.rpartition("/")[0]
            distinct = not parent or (parent in kept and counts[label] < counts[parent])
            if counts[label] >= MIN_TRAIN_TEXTS and distinct:
                kept.add(label)
        examples = [{**example, "labels": sorted(example["labels"] & kept)} for example in merged.values()]
        return [example for example in examples if example["labels"]]

    def taxonomy(self):
        """The [`LabelHierarchy`] of the labels, ids in alphabetical order of the names; prepares the data if need "
        "be."""
        self.download_and_prepare()
        rows = self.as_dataset(split="train").with_format("arrow")["labels"]
        return LabelHierarchy.from_paths(sorted({name.as_py() for chunk in rows[:].chunks for name in chunk.flatten().unique()}))
