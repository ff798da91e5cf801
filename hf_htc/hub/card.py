"""Model cards, written from what a run knows."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_htc.models.saving import public_name
from hf_htc.models.whole_files import write_text

from .citations import PACKAGE, title_and_citation


if TYPE_CHECKING:
    from hf_htc.models.modeling_htc import HTCPreTrainedModel


SCORE_NAMES = {
    "micro_f1": "micro-F1",
    "micro_precision": "micro precision",
    "micro_recall": "micro recall",
    "macro_f1": "macro-F1",
    "macro_f1_supported": "macro-F1 over labels that occur",
    "samples_f1": "samples-F1",
    "c_micro_f1": "path-constrained micro-F1",
    "p_micro_f1": "whole-path micro-F1",
    "exact_match": "exact match",
    "consistency": "labels predicted with all their ancestors",
}
# What the Hub shows of a model beside its name.
HEADLINE_SCORES = ("micro_f1", "macro_f1", "samples_f1")
# Fields of a config that say nothing about how the model was trained or that are shown elsewhere.
_HIDDEN = {
    "text_config", "hierarchy", "coding_tree", "id2label", "label2id", "label_counts", "hf_htc_version", "transformers_version",
    "architectures", "dtype", "return_dict", "output_hidden_states", "chunk_size_feed_forward", "problem_type",
    "label_closure", "is_encoder_decoder", "output_attentions", "model_type", "auto_map", "num_train_documents",
    "tie_last_hidden_states", "per_layer_config", "use_cache", "coding_trees",
}  # fmt: skip


def model_card(
    model: HTCPreTrainedModel,
    model_id: str = "path/to/this/folder",
    model_name: str | None = None,
    run: dict[str, Any] | None = None,
    example_text: str = "A text of your own.",
    adapter_base: str | None = None,
) -> ModelCard:
    """
    The model card of a checkpoint.

    Args:
        model ([`HTCPreTrainedModel`]): The model.
        model_id (`str`, *optional*): What the snippet loads; a Hub id.
        model_name (`str`, *optional*): Title; defaults to the method.
        run (`dict`, *optional*): A run manifest ([`run_manifest`]): data, settings, versions, scores.
        example_text (`str`, *optional*): The text of the snippet.
        adapter_base (`str`, *optional*): The card is that of a PEFT adapter for this base checkpoint; `model` is the model
            under the adapter.

    Returns:
        `huggingface_hub.ModelCard`
    """
    config, run = model.config, run or {}
    hierarchy = config.get_hierarchy()
    title, citation = title_and_citation(config.model_type)
    model_name = model_name or f"{title} for hierarchical text classification"
    dataset_name = run.get("dataset", {}).get("name")
    split, scores = scores_of(run)
    adapter: dict[str, Any] = {} if adapter_base is None else {"base_model_relation": "adapter"}
    # Hub ids; none for a local folder.
    base_model = public_name(adapter_base or "") or run.get("text_encoder") or config.text_config._name_or_path or None  # type: ignore[union-attr]
    data = ModelCardData(
        library_name="transformers" if adapter_base is None else "peft",
        pipeline_tag="text-classification",
        tags=["hierarchical-text-classification", "hf_htc", config.model_type, *(["lora"] if adapter else [])],
        base_model=base_model,
        model_name=model_name if scores else None,
        eval_results=_eval_results(scores, split, dataset_name) if scores else None,
        **adapter,
    )
    template = resources.files("hf_htc.model_cards").joinpath("model_card_template.md").read_text(encoding="utf-8")
    return ModelCard.from_template(
        data,
        template_str=template,
        model_name=model_name,
        model_id=model_id,
        method_title=title,
        adapter_base=adapter_base and (public_name(adapter_base) or "path/to/the/base"),
        dataset_name=dataset_name,
        statistics=hierarchy.statistics(),
        label_closure=config.label_closure,
        tree=hierarchy.tree(max_nodes=30),
        scores=scores,
        score_split=f"the {split} split" + (f" of {dataset_name}" if dataset_name else ""),
        score_rows=[(name, f"{scores[key]:.4f}") for key, name in _named_scores(scores)],
        settings=_settings(config, run),
        versions=", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items()),
        citations=[citation, PACKAGE] if citation else [PACKAGE],
        example_text=json.dumps(example_text, ensure_ascii=False),
    )


def scores_of(run):
    """Split and scores that a run is presented by: the test split's, else the validation split's, else nothing."""
    for split in ("test", "validation"):
        if split in run.get("scores", {}):
            return split, run["scores"][split]
    return None, {}


def _named_scores(scores):
    for key, name in SCORE_NAMES.items():
        if key in scores:
            yield key, name
    for level in range(1, 100):
        if f"level_{level}_micro_f1" not in scores:
            return
        yield f"level_{level}_micro_f1", f"micro-F1, level {level}"


def _eval_results(scores, split, dataset_name):
    return [
        EvalResult(
            task_type="text-classification",
            task_name="Hierarchical text classification",
            dataset_type=dataset_name or "own-data",
            dataset_name=dataset_name or "own data",
            dataset_split=split,
            metric_type="f1",
            metric_name=f"{name} (closure {scores['closure']})",
            metric_value=round(float(scores[key]), 6),
        )
        for key, name in _named_scores(scores)
        if key in HEADLINE_SCORES
    ]


def _settings(config, run):
    rows = [("method", config.model_type), *((key, value) for key, value in run.get("settings", {}).items())]
    rows += [
        (key, value)
        for key, value in sorted(config.to_dict().items())
        if key not in _HIDDEN and not key.startswith("_") and value is not None
    ]
    shown = []
    for key, value in rows:
        if isinstance(value, (list, dict)) and len(value) > 8:
            value = f"{len(value)} values"
        shown.append((key, str(value).replace("|", "\\|")))
    return shown


def write_card(card, folder):
    """Writes `README.md` beside the other files, as a whole or not at all."""
    write_text(Path(folder) / "README.md", str(card))
