"""`hf-htc demo CHECKPOINT`: a page that shows a text's paths as a tree; `--space` writes it as a Space."""

from dataclasses import dataclass, field

from hf_htc.cli.common import DECODER_HELP, LoadingArguments, parse, set_up_logging
from hf_htc.models.errors import HTCError


@dataclass
class DemoArguments:
    """What is shown, and where."""

    checkpoint: str = field(
        metadata={"positional": True, "help": "A checkpoint folder or Hub id, or a folder that `hf-htc export` wrote."}
    )
    port: int | None = field(
        default=None, metadata={"range": "[1, 65535]", "help": "Of the page; by default the first free one from 7860 on."}
    )
    share: bool = field(default=False, metadata={"help": "Also a public address for a week, over Gradio's servers."})
    no_browser: bool = field(default=False, metadata={"help": "Does not open the page."})
    examples: str | None = field(
        default=None,
        metadata={
            "help": "Texts to choose from: a .jsonl file with the key `text`, or a text file with one a line; by default the "
            "`widget` texts of the checkpoint's card, if it has any."
        },
    )
    threshold: float | None = field(
        default=None,
        metadata={
            "range": "[0, 1]",
            "help": "Score above which a label is predicted at first; by default the checkpoint's, else 0.5.",
        },
    )
    decoder: str = field(default="threshold", metadata={"help": DECODER_HELP})
    title: str | None = field(default=None, metadata={"help": "The heading; by default the checkpoint's name."})
    space: str | None = field(
        default=None, metadata={"help": "Serves nothing: writes the files of a Hugging Face Space into this new folder."}
    )
    push: str | None = field(default=None, metadata={"help": "With --space: also pushes it to this Space, e.g. 'me/news-demo'."})
    private: bool = field(default=False, metadata={"help": "With --push: whether a new Space is private."})


def run(arguments):
    loading, options = parse(
        [LoadingArguments, DemoArguments],
        arguments,
        "hf-htc demo",
        "Opens a page that shows a text's paths as a tree, or writes it as a Hugging Face Space.",
        "hf-htc demo my_model --space my_demo --push me/news-demo",
    )
    loading = loading.options()
    _check(options, loading)
    set_up_logging()
    common = {name: getattr(options, name) for name in ("examples", "threshold", "decoder", "title")}
    if options.space is None:
        from hf_htc.hub.demo import launch_demo

        browser = not options.no_browser
        return launch_demo(options.checkpoint, port=options.port, share=options.share, open_browser=browser, **common, **loading)
    from hf_htc.hub.space import push_space, write_space

    folder = write_space(options.checkpoint, options.space, **common)
    print(f"Written to {folder}. Try it with `python app.py` there.")
    if options.push is not None:
        print(f"Pushed to {push_space(folder, options.push, options.private or None).repo_url}.")


def _check(options, loading):
    """Raises `ValueError` for options that do not go together, before anything is loaded."""
    if options.push is not None and options.space is None:
        raise HTCError("`--push` needs `--space FOLDER`, where the files are written first.")
    if options.private and options.push is None:
        raise HTCError("`--private` is about the Space that `--push` makes; give `--push`, too.")
    if options.space is not None and (options.port is not None or options.share or options.no_browser):
        raise HTCError("`--space` writes files and serves no page: leave out `--port`, `--share` and `--no_browser`.")
    if options.space is not None and loading:
        raise HTCError(
            f"`--{next(iter(loading))}` says how the page loads the checkpoint; a Space loads it as it is: leave the option out."
        )
