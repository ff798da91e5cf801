"""What a model card calls and cites."""

from hf_htc.methods import method_of


PACKAGE = """@software{hf_htc,
  title = {hf_htc: hierarchical text classification on the Hugging Face stack},
  author = {{The hf_htc authors}},
  year = {2026}
}"""


def title_and_citation(model_type):
    """
    How a card names a model.

    Args:
        model_type (`str`): Of its config.

    Returns:
        `tuple[str, str | None]`: the method's title and the BibTeX of its paper; of an unknown method the `model_type` itself.
    """
    info = method_of(model_type)
    return (model_type, None) if info is None else (info.title, info.citation)
