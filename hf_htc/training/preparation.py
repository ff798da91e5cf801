"""What every way of training does before its first step: checks, label statistics, tokens, learning rates, metrics."""

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from hf_htc.data import label_csr
from hf_htc.evaluation.streaming import StreamingMetrics, score_names
from hf_htc.logging import get_logger
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer
from hf_htc.models.errors import HTCError, HTCImportError, refusing
from hf_htc.training.arguments import own_copy
from hf_htc.training.callbacks import PriorCallback
from hf_htc.training.documents import check_tokenizer, prepare_documents, training_labels
from hf_htc.training.optimizer import ClassifierGroupOptimizer


logger = get_logger(__name__)


@dataclass
class Preparation:
    """
    What training needs beside the model and its settings.

    Args:
        args (`TrainingArguments`): A copy with the learning rates filled in.
        train_dataset, eval_dataset (*optional*): Tokenised; `eval_dataset` may be a `dict` of several.
        metrics ([`StreamingMetrics`]): Of the evaluations.
        prior (`float`, *optional*): Micro-F1 of predicting the label prior; `None` where there is nothing to compare with.
    """

    args: TrainingArguments
    train_dataset: Any
    eval_dataset: Any
    metrics: StreamingMetrics
    prior: float | None

    def prior_callback(self):
        """[`PriorCallback`]s to add: one or none."""
        return [] if self.prior is None else [PriorCallback(self.prior)]


def prepare_training(model, args, train_dataset, eval_dataset, tokenizer, closure=None, max_length=None):
    """
    Measures the labels, tokenises, fills learning rates left open, and turns evaluation off where there is no validation data.
    The caller's arguments and data stay as they are; `model.config` is changed.

    A model that is trained for the first time starts its classifier from the training labels
    ([`~HTCPreTrainedModel.set_label_statistics`]). One that has been trained before keeps its weights; what its config says of
    the training labels (`label_counts`, `num_train_documents`, `label_closure`) is measured anew, with one warning when it has
    changed much.

    Args:
        model ([`HTCPreTrainedModel`] or a PEFT model around one): The model.
        args (`TrainingArguments`): Settings.
        train_dataset, eval_dataset (*optional*): What [`prepare_documents`] takes; `eval_dataset` may be a `dict` of several.
        tokenizer (`PreTrainedTokenizer`): Tokenises texts.
        closure (`str`, *optional*): Closure of the metrics; defaults to what fits the training labels.
        max_length (`int`, *optional*): Tokens a text is cut at; lowers `model.config.max_text_length`, its default.

    Returns:
        [`Preparation`]

    Raises:
        `ValueError`: no tokenizer, labels that are none of the model's. `TypeError`: a `DatasetDict` instead of a split.
    """
    check_tokenizer(tokenizer)
    base = base_model(model)
    args = with_learning_rates(args, base.config)
    hierarchy = base.config.get_hierarchy()
    if max_length is not None:
        base.config.max_text_length = min(max_length, base.config.max_text_length or max_length)
    train_dataset = prepare_documents(train_dataset, "train_dataset", tokenizer, base.config)
    eval_dataset = prepare_documents(eval_dataset, "eval_dataset", tokenizer, base.config, several=True)
    if train_dataset is not None:
        measure_labels(base, training_labels(train_dataset, hierarchy))
    if eval_dataset is None and getattr(args, "eval_strategy", "no") != "no":
        logger.warning("No validation data: nothing is evaluated, and the last checkpoint is kept instead of the best.")
        args.eval_strategy, args.load_best_model_at_end = IntervalStrategy.NO, False
        if args.save_strategy == "best":
            args.save_strategy = type(args.save_strategy)("epoch")

    closure = base.default_closure(closure)
    metrics = StreamingMetrics(hierarchy, base.decision_boundary(), closure)
    compares = isinstance(eval_dataset, Dataset) and "labels" in eval_dataset.column_names
    compares = compares and base.config.label_counts is not None
    prior = prior_micro_f1(base.config, eval_dataset, closure) if compares else None
    return Preparation(args, train_dataset, eval_dataset, metrics, prior)


def check_best_metric(args, hierarchy):
    """Raises [`HTCError`] for a `metric_for_best_model` that no evaluation of ours gives, before anything is trained."""
    name = getattr(args, "metric_for_best_model", None)
    if name is None or args.eval_strategy == "no":
        return
    known = ["loss", *score_names(hierarchy)]
    if name.removeprefix("eval_") not in known:
        raise HTCError(
            f"`metric_for_best_model` is {name!r}, which the evaluation does not give; it gives {', '.join(known)}.",
            field="metric_for_best_model",
            value=name,
        )


def measure_labels(model, labels):
    """
    Records what the training labels tell; see [`prepare_training`].

    Args:
        model ([`HTCPreTrainedModel`]): The model.
        labels (CSR pair, *optional*): Of the training documents; `None` for a stream.
    """
    config = model.config
    if labels is None:
        if config.label_counts is None:
            logger.warning(
                "The labels of the training documents are not known before they are read: the classifier does not start at the "
                "label frequencies, and the metrics take the labels as given. Call `model.set_label_statistics(labels)` first."
            )
        return
    if config.label_counts is None:
        model.set_label_statistics(labels)
        return
    before = np.asarray(config.label_counts), config.num_train_documents, config.label_closure
    model.record_label_statistics(labels)
    shares = [counts / max(1, counts.sum()) for counts in (before[0], np.asarray(config.label_counts))]
    moved = np.abs(shares[0] - shares[1]).sum() / 2
    changes = []
    if before[2] != config.label_closure:
        changes.append(f"`label_closure` was {before[2]!r} and is {config.label_closure!r}, which the predictions now follow")
    if moved > 0.1:
        changes.append(
            f"{moved:.0%} of the label frequencies moved ({before[1]} documents before, {config.num_train_documents} now)"
        )
    if changes:
        logger.warning(
            f"The model has been trained on other labels: {'; '.join(changes)}. The config records the new ones, the classifier "
            "goes on from its weights (`model.set_label_statistics` would start it at the new label frequencies)."
        )


def base_model(model):
    """The [`HTCPreTrainedModel`] itself, also of a PEFT model around one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def optimizer_factory(args, model):
    """
    `(factory class, keyword arguments)` of the optimizer with a parameter group of its own for the classifier; what the
    Trainer takes as `optimizer_cls_and_kwargs`. `factory_class()(model, **keyword_arguments)` is the optimizer.

    Raises:
        `ValueError`: an optimizer that makes its own parameter groups.
    """
    with refusing(f"`optim={args.optim}` cannot be used", ImportError, kind=HTCImportError):
        optimizer_class, optimizer_kwargs = Trainer.get_optimizer_cls_and_kwargs(args, model)
    if not inspect.isclass(optimizer_class) or {"params", "model", "optimizer_dict"} & set(optimizer_kwargs):
        raise HTCError(
            f"`optim={args.optim}` makes its own parameter groups, so that the classifier cannot have a learning rate of its "
            "own; take another optimizer."
        )
    return ClassifierGroupOptimizer, {
        "optimizer_class": optimizer_class,
        "optimizer_kwargs": optimizer_kwargs,
        "classifier_learning_rate": args.classifier_learning_rate,
        "weight_decay": args.weight_decay,
    }


def prior_micro_f1(config, dataset, closure):
    """Micro-F1 on `dataset` of always predicting the labels that more than half of the training documents have."""
    hierarchy = config.get_hierarchy()
    majority = [i for i, count in enumerate(config.label_counts) if 2 * count > config.num_train_documents]
    gold = label_csr(dataset, hierarchy)
    scorer = HierarchicalScorer(hierarchy.parents, hierarchy.num_labels, closure=closure)
    scorer.add([majority] * (len(gold[0]) - 1), gold)
    return scorer.compute(averages=("micro",), per_level=False, constrained=False)["micro_f1"]


def with_learning_rates(args, config):
    """A copy of training arguments; learning rates left open become the method's recommendation."""
    args = own_copy(args)
    for key, value in config.recommended_training.items():
        if hasattr(args, key) and getattr(args, key) is None:
            setattr(args, key, value)
            logger.info(f"{key} = {value}, the recommendation for {config.model_type}.")
    return args
