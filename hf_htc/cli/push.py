"""`hf-htc push FOLDER REPO_ID`: a checkpoint, a data set, the metric or a demo goes to the Hub."""

import os
from dataclasses import dataclass, field

from hf_htc.cli.common import parse, set_up_logging
from hf_htc.models.errors import HTCError


KINDS = ("model", "dataset", "metric", "space")


@dataclass
class PushArguments:
    """What goes where."""

    folder: str = field(
        metadata={
            "positional": True,
            "help": "A checkpoint folder, a data set folder, the name of a built-in data set, 'hierarchical_f1' for the metric, "
            "or what `hf-htc demo --space` wrote.",
        }
    )
    repo_id: str = field(metadata={"positional": True, "help": "Where it goes, e.g. 'me/news'; made if missing."})
    type: str | None = field(
        default=None, metadata={"choices": KINDS, "help": "What it is; found out from the folder by default."}
    )
    private: bool = field(default=False, metadata={"help": "Make a new repository private."})
    commit_message: str | None = field(default=None, metadata={"help": "Of the one commit."})


def run(arguments):
    (options,) = parse(
        [PushArguments],
        arguments,
        "hf-htc push",
        "Pushes a checkpoint folder, a data set folder, the metric or a demo to the Hub, in one commit.",
        "hf-htc push my_model me/my-model --private",
    )
    set_up_logging()
    from hf_htc.hub import push_checkpoint, push_dataset, push_metric, push_space

    kind = _kind(options.folder, options.type)
    common = {"private": options.private or None, "commit_message": options.commit_message}
    if kind == "metric":
        commit = push_metric(options.repo_id, **common)
    else:
        push = {"model": push_checkpoint, "dataset": push_dataset, "space": push_space}[kind]
        commit = push(options.folder, options.repo_id, **common)
    print(f"Pushed the {kind} to {commit.repo_url}")


def _kind(folder, wanted):
    """What is pushed. Raises `ValueError` when the folder holds something else than `--type` says."""
    from hf_htc.data import BUILDERS
    from hf_htc.hub.sharing import METRIC, kind_of

    if not os.path.exists(folder) and folder in (METRIC, *BUILDERS):
        found = "metric" if folder == METRIC else "dataset"
    else:
        found = kind_of(folder)
    if wanted not in (None, found):
        raise HTCError(f"`--type {wanted}`, but {folder!r} holds a {found}. Leave `--type` out, or name another folder.")
    return found
