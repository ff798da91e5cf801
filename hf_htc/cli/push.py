"""`hf-htc push FOLDER REPO_ID`: a checkpoint, a data set, the metric or a demo goes to the Hub."""

import argparse
import os

from hf_htc.models.errors import HTCError


KINDS = ("model", "dataset", "metric", "space")


def run(arguments):
    parser = argparse.ArgumentParser(
        prog="hf-htc push",
        description="Pushes a checkpoint folder, a data set folder, the metric or a demo to the Hub, in one commit.",
    )
    parser.add_argument(
        "folder",
        help="a checkpoint folder, a data set folder, the name of a built-in data set, 'hierarchical_f1' for the metric, or what "
        "`hf-htc demo --space` wrote",
    )
    parser.add_argument("repo_id", help="where it goes, e.g. 'me/news'; made if missing")
    parser.add_argument("--type", choices=KINDS, help="what it is; found out from the folder by default")
    parser.add_argument("--private", action="store_true", help="a new repository is private")
    parser.add_argument("--commit_message", help="of the one commit")
    options = parser.parse_args(arguments)
    from hf_htc.cli.common import set_up_logging

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
