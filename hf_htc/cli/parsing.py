"""The parser of every command: options are the fields of dataclasses, and may stand in a YAML file.

A field has in its metadata `help`, and where it needs them: `"positional": True` (it may be given by its place, too),
`"range": "[1, inf)"` in the notation of mathematics for a number, and `"choices": (...)`. In `--help` it stands below the heading
that the attribute `group` of its class names, "options" without one; some names have the same heading in every command.
"""

import argparse
import difflib
import os
import sys
import types
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Union, get_args, get_origin

from hf_htc.models.errors import HTCError, HTCFileNotFoundError, check_number, refusing


GROUPS = ("data", "model", "training", "search", "options", "output")
SAME_GROUP = {
    "early_stopping_patience": "training", "paper_settings": "training", "loop": "training",
    "checkpoint": "model", "coherence": "model",
    **dict.fromkeys(("output", "output_dir", "overwrite", "plot", "space", "push", "private"), "output"),
}  # fmt: skip
SETTINGS = "Take options from this YAML file; those of the command line win."


class Parser(argparse.ArgumentParser):
    """Errors in one line, and values that look like options."""

    def error(self, message):
        dashes = " (a value that begins with - is given as --option=value)" if "expected one argument" in message else ""
        self.exit(2, f"{self.prog}: {message}{dashes}. `{self.prog} --help` shows the options.\n")

    def _get_values(self, action, arg_strings):
        if arg_strings == ["--"] and action.nargs is None:  # argparse would drop it: `--path_separator=--`
            return self._get_value(action, "--")
        return super()._get_values(action, arg_strings)


def option_parser(dataclasses, program=None, description="", example=None):
    """
    The parser of the options of dataclasses.

    Args:
        dataclasses (`list[type]`): Ours, or subclasses of `TrainingArguments`, whose fields `HfArgumentParser` reads.
        program (`str`, *optional*), description (`str`, *optional*), example (`str`, *optional*): For `--help`.
    """
    places = [f for c in dataclasses for f in fields(c) if f.metadata.get("positional")]
    shown = [f.name.upper() if f.default is MISSING else f"[{f.name.upper()}]" for f in places]
    trainers = [trainer_options(c) for c in dataclasses if is_trainers(c)]
    parser = Parser(
        prog=program,
        usage=" ".join([program or "", *shown, "[options]"]),
        description=description,
        epilog=example and f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,  # one that is right today would be another option tomorrow
        parents=trainers,
    )
    own = [
        (f, SAME_GROUP.get(f.name, getattr(c, "group", "options"))) for c in dataclasses if not is_trainers(c) for f in fields(c)
    ]
    for title in sorted({title for _, title in own}, key=GROUPS.index):
        group = parser.add_argument_group(title)
        for f, of_group in own:
            if of_group == title:
                add_option(group, f)
    for f in places:
        parser.add_argument(f.name.upper(), nargs="?", help=argparse.SUPPRESS)
    general = parser.add_argument_group("general")
    general.add_argument("-h", "--help", action="help", help="Show the options and end.")
    general.add_argument("--settings", metavar="FILE", help=SETTINGS)
    return parser


def is_trainers(dataclass):
    """Whether a class holds the options of transformers' Trainer; asks without importing transformers."""
    return any(c.__module__.startswith("transformers.") for c in dataclass.__mro__)


def trainer_options(dataclass):
    """The parser of a subclass of `TrainingArguments`."""
    from transformers import HfArgumentParser

    parser = HfArgumentParser(dataclass, add_help=False)
    for f in fields(dataclass):
        if f.init and f.type == bool | None:  # `--option` alone means yes, as for other switches
            action = parser._option_string_actions[f"--{f.name}"]
            if action.nargs is None:
                action.nargs, action.const = "?", True
    return parser


def add_option(group, f):
    """The option, or the two options of a switch, of a field."""
    kinds = [
        kind
        for kind in (get_args(f.type) if get_origin(f.type) in (Union, types.UnionType) else [f.type])
        if kind is not type(None)
    ]
    if len(kinds) != 1 or kinds[0] not in (str, int, float, bool):
        raise TypeError(f"the field {f.name!r} of a command has the type {f.type}")
    default = None if f.default is MISSING else f.default
    keywords = {"type": kinds[0], "dest": f.name, "metavar": {str: "TEXT", int: "N", float: "X"}.get(kinds[0])}
    if kinds[0] is bool:
        keywords.update(type=yes_or_no, nargs="?", const=True, metavar="BOOL")
    elif "choices" in f.metadata:
        keywords.update(choices=f.metadata["choices"], metavar=None)
    group.add_argument(f"--{f.name}", default=default, help=_help(f), **keywords)
    hidden = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}  # as transformers' parser takes them, too
    if "_" in f.name:
        group.add_argument(f"--{f.name.replace('_', '-')}", **hidden, **keywords)
    if kinds[0] is bool and default is not False:
        for name in dict.fromkeys((f"--no_{f.name}", f"--no-{f.name.replace('_', '-')}")):
            group.add_argument(name, action="store_false", dest=f.name, **hidden)


def _help(f):
    """The help text of a field, with its range and its default; `%` is argparse's sign of a variable."""
    text = f.metadata.get("help", "")
    text = (text() if callable(text) else text).replace("%", "%%")
    more = [f"in {f.metadata['range']}"] if "range" in f.metadata else []
    if f.default not in (MISSING, None, False):
        more.append("default: %(default)s")
    if f.default is MISSING:
        more.append("needed")
    if f.metadata.get("positional"):
        more.append(f"or by its place, without `--{f.name}`")
    return text + (f" ({'; '.join(more)})" if more else "")


def yes_or_no(text):
    """The value of a switch."""
    if text.lower() in ("yes", "true", "t", "y", "1"):
        return True
    if text.lower() in ("no", "false", "f", "n", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither yes nor no: give true or false")


def parse(dataclasses, arguments, program, description="", example=None, first_is_settings=True):
    """
    Instances of the dataclasses from the command line.

    Args:
        dataclasses (`list[type]`), program (`str`), description (`str`), example (`str`): See [`option_parser`].
        arguments (`list[str]`): What stands behind the program's name. A first one that ends with `.yaml` or `.yml`, or one
            behind `--settings`, is a file of options, `name: value`; what the command line gives wins.
        first_is_settings (`bool`, *optional*, defaults to `True`): `False` where a first argument may be a YAML file of another
            kind.

    Raises:
        [`HTCError`]: an option that is none (close names are given), a number out of its range. `SystemExit`: one that is
        missing, a value of the wrong type.
    """
    parser = option_parser(dataclasses, program, description, example)
    arguments, settings = with_settings(parser, arguments, first_is_settings)
    known, rest = parser.parse_known_intermixed_args(arguments)
    unknown = next((word for word in rest if word.startswith("-")), rest[0] if rest else None)
    if unknown is not None:
        close = difflib.get_close_matches(unknown.split("=")[0], list(parser._option_string_actions), n=3)
        raise HTCError(f"Unknown option {unknown!r}." + (f" Did you mean {close}?" if close else "") + " See `--help`.")
    found = vars(known)
    instances = []
    for dataclass in dataclasses:
        values = {}
        for f in fields(dataclass):
            if not f.init:
                continue
            values[f.name] = found[f.name]
            by_place = found.get(f.name.upper()) if f.metadata.get("positional") else None
            # Where both are given the one with a name counts, but for one from the file of options.
            if by_place is not None and values[f.name] in (None, settings.get(f.name)):
                values[f.name] = by_place
        missing = [f for f in fields(dataclass) if f.init and f.default is f.default_factory and values[f.name] is None]
        if missing:
            parser.error(f"the following arguments are required: {', '.join(f'--{f.name}' for f in missing)}")
        instances.append(made(dataclass, values))
    return instances


def made(dataclass, values):
    """An instance; what `TrainingArguments` refuses becomes an [`HTCError`], and so does a number out of its range."""
    try:
        instance = dataclass(**values)
    except HTCError:
        raise
    except (ValueError, TypeError, ImportError) as error:
        raise HTCError(" ".join(str(error).split())) from error
    for f in fields(instance):
        value = getattr(instance, f.name)
        if "choices" in f.metadata and value not in (None, *f.metadata["choices"]):  # argparse does not look at those of a file
            raise HTCError(f"`--{f.name}` is {value!r}; it is one of {', '.join(map(repr, f.metadata['choices']))}.")
        if "range" in f.metadata and value is not None:
            check_number(f"--{f.name}", value, f.metadata["range"], whole=isinstance(value, int))
    return instance


def pick(commands, name, program):
    """The entry of a command; ends the program, with 2, where there is none of that name."""
    if name not in commands:
        print(f"{program}: there is no command {name!r}; the commands are {', '.join(commands)}.", file=sys.stderr)
        sys.exit(2)
    return commands[name]


def show_help(arguments, dataclasses, program, description, example=None):
    """Prints the options of light dataclasses and ends, where `--help` asks for it, before heavy ones are imported."""
    if {"-h", "--help"} & set(arguments):
        option_parser(dataclasses, program, description, example).parse_args(["--help"])


def with_settings(parser, arguments, first_is_settings=True):
    """Takes the options of a YAML file as the parser's defaults; returns the arguments without it, repeated ones joined,
    and what it holds."""
    arguments, content = list(arguments), {}
    if first_is_settings and arguments and not arguments[0].startswith("-") and arguments[0].endswith((".yaml", ".yml")):
        arguments.insert(0, "--settings")
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--settings":
            length = 1 if equals else 2
            if place + length > len(arguments):
                break  # the parser says what is missing
            path = value if equals else arguments[place + 1]
            known = {action.dest for action in parser._actions if action.option_strings} - {"help", "settings"}
            content = read_yaml(path, known)
            for action in parser._actions:  # not `set_defaults`, which would have every name of an option set its value
                if action.dest in content and action.help is not argparse.SUPPRESS:
                    action.default = content[action.dest]
            arguments[place : place + length] = []
            break
    return join_repeated(arguments, "--label_column"), content


def join_repeated(arguments, option):
    """Arguments in which an option that is given several times stands once, its values joined by `;`."""
    values, others, place = [], [], None
    arguments = iter(arguments)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name != option:
            others.append(argument)
            continue
        place = len(others) if place is None else place
        value = value if equals else next(arguments, None)
        if value is None:
            return [*others, option]  # the parser says what is missing
        values.append(value)
    return others if place is None else [*others[:place], f"{option}={';'.join(values)}", *others[place:]]


def given_options(arguments, dataclasses, program):
    """The options that the command line, or its YAML file, gives a value, `dict` by name; unknown ones are left to [`parse`]."""
    parser = option_parser(dataclasses, program)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    arguments, _ = with_settings(parser, arguments)
    given = vars(parser.parse_known_args(arguments)[0])
    return {name: value for name, value in given.items() if value is not None}


def read_yaml(path, known):
    """The settings of a YAML file. Raises `ValueError` for a key that is no option (close names are given)."""
    import yaml

    if not os.path.isfile(path):
        raise HTCFileNotFoundError(f"There is no settings file {path!r}.")
    errors = (yaml.YAMLError, UnicodeDecodeError, RecursionError)
    with open(path, encoding="utf-8") as stream, refusing(f"{Path(path).name!r} is not valid YAML", errors):
        content = yaml.safe_load(stream) or {}
    if not isinstance(content, dict):
        raise HTCError(f"{Path(path).name!r} must hold `option: value` lines; it holds a {type(content).__name__}.")
    for key in content:
        if key not in known:
            close = difflib.get_close_matches(str(key), sorted(known), n=3)
            raise HTCError(f"{Path(path).name!r} has the unknown option {key!r}." + (f" Did you mean {close}?" if close else ""))
    # Numbers such as 1e-4 are strings in YAML 1.1; argparse converts string defaults by the option's type.
    return {key: str(value) if isinstance(value, float) else value for key, value in content.items()}
