"""The demo: a Gradio page that shows a text's predicted paths as a tree with scores.

Legend: `N` labels.
"""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hf_htc.data.front_matter import split_front_matter
from hf_htc.data.json_files import UNREADABLE, parse_json
from hf_htc.data.lines import split_lines
from hf_htc.evaluation.predictions import predict_batches
from hf_htc.models.errors import HTCError, HTCFileNotFoundError, HTCImportError, HTCOSError, reason_of
from hf_htc.models.prediction import DECODERS, check_texts, encode_texts

from .citations import title_and_citation
from .loading import load_classifier
from .prediction_html import labels_html, message_html, tree_html


if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_htc.annotations import DecoderKind, StrPath, Thresholds


EMPTY = "Type a text, or choose an example."


def launch_demo(
    checkpoint: StrPath,
    examples: StrPath | Sequence[str] | None = None,
    threshold: Thresholds | None = None,
    decoder: DecoderKind = "threshold",
    title: str | None = None,
    port: int | None = None,
    share: bool = False,
    open_browser: bool = False,
    **loading: Any,
) -> None:
    """
    Serves the page of a checkpoint until it is interrupted; what `hf-htc demo` and a Space's `app.py` call.

    Args:
        checkpoint (`str`): A checkpoint folder or Hub id, or a folder that `hf-htc export` wrote.
        examples (`str`, *optional*): A file of [`read_examples`]. Defaults to the `widget` texts of the checkpoint's card.
        threshold (`float`, *optional*): Where the slider stands at first. Defaults to the checkpoint's thresholds, else 0.5.
        decoder (`str`, *optional*, defaults to `"threshold"`): The decoder chosen at first, see [`Decoder`].
        title (`str`, *optional*): Defaults to the checkpoint's name.
        port (`int`, *optional*): Defaults to the first free one from 7860 on.
        share (`bool`, *optional*, defaults to `False`): Whether Gradio also gives a public address, over its own servers.
        open_browser (`bool`, *optional*, defaults to `False`): Whether to open the page.
        loading: `device`, `dtype`, `revision` and `trust_remote_code`, see [`load_checkpoint`].

    Raises:
        `ImportError`: gradio is missing. `OSError`: no such checkpoint or file; the port is taken. `ValueError`: a threshold
        outside [0, 1], an unknown decoder, a file without texts.
    """
    gradio = import_gradio()
    model, tokenizer, name = load_classifier(checkpoint, **loading)
    texts = card_examples(checkpoint) if examples is None else read_examples(examples)
    page = demo_page(model, tokenizer, title or name, texts, threshold, decoder)
    # Fonts of the reader's system: nothing is loaded over the network.
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    try:
        _, url, public = page.launch(
            server_port=port,
            share=share,
            inbrowser=open_browser,
            theme=theme,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
        )
    except OSError as error:
        if "empty port" not in str(error):
            raise
        raise HTCOSError(f"The port {port} is taken. Give another one with `--port`." if port else str(error)) from error
    print(
        f"The demo of {title or name} is at {url}" + (f" and at {public}" if public else "") + ". Stop it with Ctrl+C.",
        flush=True,
    )
    page.block_thread()


def import_gradio():
    """
    Gradio, told to send nothing over the network.

    Raises:
        `ImportError`: it is missing; the message says how to install it.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when it is imported
    try:
        import gradio
    except ImportError as error:
        raise HTCImportError("The demo needs gradio: pip install 'hf_htc[demo]'.") from error
    return gradio


def demo_page(model, tokenizer, title, examples=(), threshold=None, decoder="threshold"):
    """
    The page, not yet served. It starts with the first example predicted. Its interface is `/predict`: text, threshold, decoder
    and whether the checkpoint's own thresholds apply; it answers with the tree, the list and what `model.predict` gives.

    Args:
        model ([`HTCPreTrainedModel`] or [`OnnxClassifier`]), tokenizer: The checkpoint.
        title (`str`): The heading.
        examples (`list[str]`, *optional*): Texts to choose from.
        threshold, decoder: As in [`launch_demo`].

    Returns:
        `gradio.Blocks`

    Raises:
        `ImportError`: gradio is missing. `ValueError`: a threshold outside [0, 1], an unknown decoder.
    """
    gradio = import_gradio()
    model.decision_boundary(threshold)
    model.label_decoder(decoder)
    own = model.config.thresholds
    use_own = own is not None and threshold is None
    start = threshold if threshold is not None else own if isinstance(own, float) else 0.5
    examples = list(examples)
    first = examples[0] if examples else ""

    def answer(text, threshold, decoder, use_own):
        try:
            return predict_html(model, tokenizer, text, None if use_own else threshold, decoder)
        except (TypeError, ValueError, FloatingPointError) as error:
            raise gradio.Error(str(error)) from error

    tree, best, record = answer(first, start, decoder, use_own)
    with gradio.Blocks(title=title, analytics_enabled=False) as page:
        gradio.HTML(_head(model, title))
        with gradio.Row():
            with gradio.Column(scale=4, min_width=320):
                text = gradio.Textbox(first, lines=6, max_lines=16, label="Text", placeholder=EMPTY)
                button = gradio.Button("Predict", variant="primary")
                slider = gradio.Slider(
                    0, 1, start, step=0.01, label="Threshold", info="The score above which a label is predicted."
                )
                thresholds = gradio.Checkbox(
                    use_own, visible=own is not None, label="Take the checkpoint's own thresholds instead of the slider's"
                )
                choice = gradio.Dropdown(list(DECODERS), value=decoder, label="Decoder", info="How scores become labels.")
                chosen = gradio.Examples(examples, text, label="Examples") if examples else None
            with gradio.Column(scale=6, min_width=360):
                tree = gradio.HTML(tree, apply_default_css=False)
                best = gradio.HTML(best, apply_default_css=False)
                with gradio.Accordion("The prediction as JSON", open=False):
                    record = gradio.JSON(record, show_label=False)
        outputs = [tree, best, record]
        inputs = [text, slider, choice, thresholds]
        gradio.on(
            [button.click, text.submit, slider.release, choice.input, thresholds.input],
            answer,
            inputs,
            outputs,
            api_name="predict",
            show_progress="minimal",
        )
        if chosen is not None:
            chosen.load_input_event.then(answer, inputs, outputs, api_visibility="private", show_progress="minimal")
    return page


def predict_html(model, tokenizer, text, threshold=None, decoder="threshold", top_k=10):
    """
    What the page shows of a text.

    Args:
        model, tokenizer: As in [`demo_page`].
        text (`str`): Empty text gives a sentence instead of a prediction.
        threshold, decoder: As in [`~PredictionMixin.predict`].
        top_k (`int`, *optional*, defaults to 10): Labels in the list of the best-scoring ones.

    Returns:
        `tuple[str, str, dict]`: the HTML of the tree and of the list, and exactly what `model.predict` gives, `None` of an empty
        text.

    Raises:
        `ValueError`, `TypeError`: as [`~PredictionMixin.predict`].
    """
    if text is None or isinstance(text, str) and not text.strip():
        return message_html("Predicted paths", EMPTY), message_html("Best-scoring labels", "There is no text yet."), None
    check_texts([text])
    hierarchy = model.config.get_hierarchy()
    options = (model.default_closure(), threshold, 1, 1, decoder, False)
    (((_, ((labels, record),), logits, _)),) = predict_batches(model, tokenizer, [text], *options)
    scores = torch.sigmoid(logits[0]).cpu().numpy()
    record.pop("top_k")
    limit = model.config.max_text_length
    was_cut = encode_texts(tokenizer, [text], limit)[1] > 0
    note = f"The text is longer than {limit:,} tokens and was cut there." if was_cut else ""
    return tree_html(hierarchy, labels, scores, note=note), labels_html(hierarchy, labels, scores, top_k), record


def _head(model, title):
    config = model.config
    method = title_and_citation(config.model_type)[0]
    hierarchy = config.get_hierarchy()
    parents = "" if hierarchy.is_tree else "; some have several parents"
    return (
        f"<h1>{escape(title)}</h1><p>Hierarchical text classification with {escape(method)}: {config.num_labels:,} labels on "
        f"{hierarchy.num_levels} level{'s' if hierarchy.num_levels > 1 else ''}{parents}.</p>"
    )


def read_examples(path):
    """
    The texts of a file: JSON lines with the key `text`, or any other file with a text a line; empty lines are left out.

    Raises:
        `FileNotFoundError`: no such file. `ValueError`: a line without a text (numbered), or no texts at all.
    """
    path, texts = Path(path), []
    if not path.is_file():
        raise HTCFileNotFoundError(f"There is no file of examples {str(path)!r}.")
    try:
        lines = split_lines(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise HTCError(f"{path.name!r} is no text file in UTF-8: {error}.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        text = line.strip()
        if path.suffix == ".jsonl":
            try:
                row = parse_json(line)
            except UNREADABLE as error:
                raise HTCError(f"Line {number} of {path.name!r} is not valid JSON: {reason_of(error)}.") from error
            text = row.get("text") if isinstance(row, dict) else None
            if not isinstance(text, str) or not text.strip():
                raise HTCError(f'Line {number} of {path.name!r} has no text; a line is an object such as {{"text": "..."}}.')
        texts.append(text)
    if not texts:
        raise HTCError(f"{path.name!r} holds no texts; give one per line.")
    return texts


def card_examples(checkpoint):
    """The texts under `widget` in the front matter of a checkpoint's card, where the Hub has examples; often none."""
    import yaml
    from huggingface_hub import hf_hub_download

    try:
        folder = Path(checkpoint)
        path = folder / "README.md" if folder.is_dir() else hf_hub_download(str(checkpoint), "README.md")
        rows = split_front_matter(Path(path).read_text(encoding="utf-8"))[0].get("widget")
    except (OSError, ValueError, yaml.YAMLError):  # no card, no connection, a faulty front matter
        return []
    texts = [row.get("text") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [text for text in texts if isinstance(text, str) and text.strip()]
