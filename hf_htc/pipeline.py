"""`pipeline("hierarchical-text-classification", model=...)`: predictions with thresholds, levels and paths.

The stock `pipeline("text-classification", top_k=None)` works with every checkpoint, too, and gives the bare scores.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from hf_htc.models.errors import HTCError


TASK = "hierarchical-text-classification"


class HierarchicalTextClassificationPipeline(Pipeline):
    """
    Labels of texts with their scores, levels and paths.

    Args of a call:
        inputs (`str`, `list[str]`, generator or `datasets.Dataset` column): Texts; longer ones are cut at
            `config.max_text_length` tokens.
        threshold (`float` or `list[float]`, *optional*): Score above which a label is predicted, in [0, 1]. Defaults to the
            checkpoint's, else 0.5.
        top_k (`int`, *optional*): At most this many labels, the best ones. Without `threshold` exactly the best `top_k`.
        coherent (`bool`, *optional*): `True` adds the ancestors of predicted labels, so that whole paths are predicted; `False`
            leaves the labels as the scores say. Defaults to what fits the checkpoint's training labels; to `False` with
            `top_k`.
        decoder (`str`, *optional*, defaults to `"threshold"`): How scores become labels, see [`Decoder`].
        batch_size (`int`, *optional*, defaults to 1): Texts per forward pass; of a list, texts of similar length share one.
        truncation, padding, num_workers (*optional*): Taken, as other text pipelines do, and without effect: texts are cut and
            padded as the model needs it.

    Returns:
        `list[dict]` for one text, a list of these for several; exactly the labels and scores of `model.predict`, best first:
        `label` (name), `score` in [0, 1], `level` (1 is the top) and `path` (texts of the nodes from the top to the label; in a
        DAG the first of its paths, `model.predict` gives all).

    Raises:
        `ValueError`: a model of another package, an empty text, an option out of range. `TypeError`: something that is no text.

    Example:

    ```python
    >>> import hf_htc  # registers the task
    >>> from transformers import pipeline
    >>> classify = pipeline("hierarchical-text-classification", model="me/hiagm-news")
    >>> classify("The match went to penalties.")
    [{'label': 'sport', 'score': 0.97, 'level': 1, 'path': ['sport']},
     {'label': 'sport/football', 'score': 0.91, 'level': 2, 'path': ['sport', 'football']}]
    ```
    """

    # transformers types them as `None`.
    _load_processor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_tokenizer = True  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not hasattr(self.model, "predict") or not hasattr(self.model.config, "get_hierarchy"):
            raise HTCError(
                f"The task {TASK!r} needs a checkpoint of hf_htc, and {type(self.model).__name__} is none. Train one with "
                "`hf-htc train`, or take the task 'text-classification'."
            )

    def _sanitize_parameters(
        self, threshold=None, top_k=None, coherent=None, decoder=None, truncation=None, padding=None, **unknown
    ):
        if unknown:
            raise HTCError(
                f"The pipeline has no option {next(iter(unknown))!r}; it has threshold, top_k, coherent, decoder and batch_size."
            )
        if coherent not in (None, True, False):
            raise HTCError(f"`coherent` is {coherent!r}; it must be True, False or None.")
        given = {"threshold": threshold, "top_k": top_k, "coherent": coherent, "decoder": decoder}
        return {}, {key: value for key, value in given.items() if value is not None}, {}

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(inputs, str) or not isinstance(inputs, Sequence):
            # transformers takes generators, but for another iterator for one text.
            inputs = (text for text in inputs) if isinstance(inputs, Iterator) else inputs
            return super().__call__(inputs, *args, **kwargs)
        # As `predict` does it: batches of texts of similar length, so that the scores are the same to the last digit.
        batch_size = kwargs.pop("batch_size", None) or self._batch_size or 1
        kwargs.pop("num_workers", None)
        _, options, _ = self._sanitize_parameters(**kwargs)
        return self._predict(list(inputs), batch_size, {**self._forward_params, **options})

    def preprocess(self, input_: Any, **preprocess_parameters: Any) -> dict[str, Any]:
        return {"texts": input_}

    def _forward(self, model_inputs, **options):
        texts = model_inputs["texts"]
        texts = texts if isinstance(texts, list) else [texts]
        # One dict a text: transformers takes a batch apart into its elements, but leaves a single text in its list.
        return {"predictions": [{"entries": entries} for entries in self._predict(texts, len(texts), options)]}

    def postprocess(self, model_outputs: Any, **postprocess_parameters: Any) -> Any:
        prediction = model_outputs["predictions"]
        return (prediction[0] if isinstance(prediction, list) else prediction)["entries"]

    def _predict(self, texts, batch_size, options):
        options = dict(options)
        coherent = options.pop("coherent", None)
        if coherent is not None:
            options["closure"] = "up" if coherent else "none"
        hierarchy = self.model.config.get_hierarchy()
        found = self.model.predict(texts, self.tokenizer, batch_size=batch_size, **options)
        return [
            [_entry(hierarchy, label, score) for label, score in zip(prediction["labels"], prediction["scores"])]
            for prediction in found
        ]

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Writes model and tokenizer as they are. transformers would name this class in the config, and the folder would then
        ask for remote code even where the package is installed."""
        from hf_htc.hub.saving import save_tokenizer
        from hf_htc.models.saving import ADAPTER_FILES
        from hf_htc.models.whole_files import whole_folder_update

        kwargs.setdefault("repo_id", Path(save_directory).resolve().name)
        with whole_folder_update(save_directory, removes=ADAPTER_FILES) as partial:
            self.model.save_pretrained(partial, **kwargs)
            save_tokenizer(self.model, self.tokenizer, partial)  # type: ignore[arg-type]  # `__init__` has looked at them


def _entry(hierarchy, label, score):
    number = hierarchy.id(label)
    path = next(iter(hierarchy.paths(number, 1)))
    return {
        "label": label,
        "score": score,
        "level": int(hierarchy.levels[number]),
        "path": [hierarchy.texts[i] for i in path],
    }


def register_pipeline() -> None:
    """Makes the task known to `transformers.pipeline`; importing this module does it."""
    if TASK not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(
            TASK,
            pipeline_class=HierarchicalTextClassificationPipeline,
            pt_model=AutoModelForSequenceClassification,
            type="text",
        )


register_pipeline()
