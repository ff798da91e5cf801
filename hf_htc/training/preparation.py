"""What every way of training does before its first step: checks, label statistics, tokens, learning rates, metrics."""

import inspect
from dataclasses import dataclass

from datasets import Dataset
from transformers import Trainer
from transformers.utils import logging

from hf_htc.data import check_is_split, label_csr, tokenize_dataset
from hf_htc.evaluation.streaming import StreamingMetrics
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer
from hf_htc.models.errors import HTCError
from hf_htc.training.callbacks import PriorCallback
from hf_htc.training.optimizer import ClassifierGroupOptimizer


logger = logging.get_logger(__name__)


@dataclass
class Preparation:
    """
    What training needs beside the model and its settings.

    Args:
        train_dataset, eval_dataset (`Dataset`, *optional*): Tokenised.
        metrics ([`StreamingMetrics`]): Of the evaluations.
        prior (`float`, *optional*): Micro-F1 of predicting the label prior; `None` where there is nothing to compare with.
    """

    train_dataset: Dataset | None
    eval_dataset: Dataset | None
    metrics: StreamingMetrics
    prior: float | None

    def prior_callback(self):
        """[`PriorCallback`]s to add: one or none."""
        return [] if self.prior is None else [PriorCallback(self.prior)]


def prepare_training(model, args, train_dataset, eval_dataset, tokenizer, closure=None, max_length=None):
    """
    Sets the model's label statistics (the first time it is trained), tokenises, fills learning rates left open, and turns
    evaluation off where there is no validation data. Changes `args` and `model.config`.

    Args:
        model ([`HTCPreTrainedModel`] or a PEFT model around one): The model.
        args (`TrainingArguments`): Settings.
        train_dataset, eval_dataset (`datasets.Dataset`, *optional*): Columns `text` and `labels` (ids), or tokenised ones.
        tokenizer (`PreTrainedTokenizer`): Tokenises texts.
        closure (`str`, *optional*): Closure of the metrics; defaults to what fits the training labels.
        max_length (`int`, *optional*): Tokens a text is cut at; defaults to `model.config.max_text_length`.

    Returns:
        [`Preparation`]

    Raises:
        `ValueError`: no tokenizer, label ids outside the model's labels. `TypeError`: a `DatasetDict` instead of a split.
    """
    if tokenizer is None:
        raise HTCError("`tokenizer` is missing: pass the text encoder's tokenizer.")
    base = base_model(model)
    if max_length is not None:
        base.config.max_text_length = min(max_length, base.config.max_text_length or max_length)
    if train_dataset is not None:
        train_dataset = check_is_split(train_dataset, "train_dataset")
        if base.config.label_counts is None and "labels" in train_dataset.column_names:
            base.set_label_statistics(label_csr(train_dataset))
    train_dataset = _tokenized(train_dataset, "train_dataset", tokenizer, base)
    eval_dataset = _tokenized(eval_dataset, "eval_dataset", tokenizer, base)
    if eval_dataset is None and getattr(args, "eval_strategy", "no") != "no":
        logger.warning("No validation data: nothing is evaluated, and the last checkpoint is kept instead of the best.")
        args.eval_strategy, args.load_best_model_at_end = "no", False
    _fill_learning_rates(args, base.config)

    closure = base.default_closure(closure)
    metrics = StreamingMetrics(base.config.get_hierarchy(), base.decision_boundary(), closure)
    compares = eval_dataset is not None and base.config.label_counts is not None
    return Preparation(
        train_dataset, eval_dataset, metrics, prior_micro_f1(base.config, eval_dataset, closure) if compares else None
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
    gold = label_csr(dataset)
    scorer = HierarchicalScorer(hierarchy.parents, hierarchy.num_labels, closure=closure)
    scorer.add([majority] * (len(gold[0]) - 1), gold)
    return scorer.compute(averages=("micro",), per_level=False, constrained=False)["micro_f1"]


def _tokenized(dataset, name, tokenizer, model):
    if dataset is None:
        return None
    dataset = check_is_split(dataset, name)
    if not len(dataset):
        raise HTCError(f"`{name}` is empty; it needs at least one document.")
    if "input_ids" in dataset.column_names:
        return dataset
    return tokenize_dataset(dataset, tokenizer, max_length=model.config.max_text_length)


def _fill_learning_rates(args, config):
    for key, value in config.recommended_training.items():
        if hasattr(args, key) and getattr(args, key) is None:
            setattr(args, key, value)
            logger.info(f"{key} = {value}, the recommendation for {config.model_type}.")
