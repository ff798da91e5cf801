"""The entry point: finds the command, reports errors in one line."""

import importlib
import os
import sys
import traceback

from hf_htc.cli.parsing import pick
from hf_htc.models.version import __version__


# name: (module, one line of help)
COMMANDS = {
    "textrcnn": ("textrcnn", "build a TextRCNN text encoder from a corpus, for `train --text_encoder`"),
    "train": ("train", "train a model on a data set or on your own files"),
    "tune": ("tune", "search a method's settings on the validation data; resumable"),
    "evaluate": ("evaluate", "score a checkpoint and write a report"),
    "calibrate": ("calibrate", "set thresholds and conformal sets of a checkpoint from validation data"),
    "compare": ("compare", "compare two prediction files: scores, difference, interval, p-value"),
    "predict": ("predict", "predict a JSONL file into a JSONL file; resumable"),
    "units": ("units", "show the units of one document: scores, thresholds, HBM's bounds"),
    "data": ("data", "look at data, publish it: `hf-htc data check | export`"),
    "info": ("info", "show a taxonomy or a checkpoint"),
    "demo": ("demo", "show a text's paths as a tree on a web page, or write it as a Space"),
    "export": ("export", "export a checkpoint to ONNX, checked against PyTorch"),
    "push": ("push", "push a checkpoint, a data set, the metric or a demo to the Hub"),
    "quickstart": ("quickstart", "train, compare, save, reload and predict on a built-in data set"),
}

EXIT_BUG = 70  # the `EX_SOFTWARE` of sysexits.h
EXIT_CODES = {
    0: "done",
    1: "an input, a file or the value of an option is wrong; `data check`: the data has errors",
    2: "a command or an option is missing, or has a value of another type",
    EXIT_BUG: "a fault of hf_htc",
    130: "stopped by Ctrl-C",
    143: "stopped by SIGTERM; `train` has written a checkpoint to go on from",
}
BUG = (
    "hf-htc {command}: this is a fault of hf_htc {version}, not of your input. Please report it to the project's issue tracker, "
    "with the lines above and the command."
)


def usage():
    lines = [
        "usage: hf-htc COMMAND [options]",
        "",
        "Hierarchical text classification on the Hugging Face stack.",
        "",
        "commands:",
    ]
    lines += [f"  {name:<12}{text}" for name, (_, text) in COMMANDS.items()]
    lines += [
        "",
        "`hf-htc COMMAND --help` shows a command's options, which may also stand in a YAML file: `hf-htc COMMAND settings.yaml`.",
        "",
        "exit codes:",
        *(f"  {code:<12}{text}" for code, text in EXIT_CODES.items()),
        "",
        "Set HF_HTC_TRACEBACK=1 to see where an error comes from.",
    ]
    return "\n".join(lines)


def main(arguments=None):
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    if arguments[0] == "--version":
        print(f"hf_htc {__version__}")
        return
    command = importlib.import_module(f"hf_htc.cli.{pick(COMMANDS, arguments[0], 'hf-htc')[0]}")
    try:
        command.run(arguments[1:])
    except KeyboardInterrupt:
        print("hf-htc: interrupted.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if os.environ.get("HF_HTC_TRACEBACK"):
            raise
        message = users_error(error)
        if message is None:
            traceback.print_exc()
            print(BUG.format(command=arguments[0], version=__version__), file=sys.stderr)
            sys.exit(EXIT_BUG)
        print(f"hf-htc {arguments[0]}: {message}", file=sys.stderr)
        sys.exit(1)


def users_error(error):
    """
    What an exception says of the input, in one line; `None` for a fault of the package.

    Our own errors name the culprit and the mend. What the operating system refuses (no space, no right to write) is no fault of
    ours either. Whatever else a library raises should have been turned into an [`HTCError`] where file and line are known.
    """
    from hf_htc.metrics.hierarchical_f1.errors import MetricError
    from hf_htc.models.errors import HTCError

    if isinstance(error, (HTCError, MetricError)):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        place = "" if error.filename is None else f"{os.fspath(error.filename)!r}: "
        return f"{place}{error.strerror}."
    if isinstance(error, _strict_error()) and isinstance(error.__cause__, (HTCError, TypeError)):
        return " ".join(str(error.__cause__).split())
    return None


def _strict_error():
    from huggingface_hub.errors import StrictDataclassError  # what a config raises

    return StrictDataclassError


if __name__ == "__main__":
    main()
