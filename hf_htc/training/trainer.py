"""`build_trainer`: a plain `transformers.Trainer`, set up for hierarchical text classification."""

import inspect

from transformers import Trainer
from transformers.utils import logging

from hf_htc.data import HTCDataCollator, check_is_split, label_csr, tokenize_dataset
from hf_htc.evaluation.streaming import StreamingMetrics
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer
from hf_htc.training.arguments import HTCTrainingArguments
from hf_htc.training.callbacks import InterruptCallback, PriorCallback
from hf_htc.training.optimizer import ClassifierGroupOptimizer


logger = logging.get_logger(__name__)


def build_trainer(
    model,
    args=None,
    train_dataset=None,
    eval_dataset=None,
    tokenizer=None,
    callbacks=None,
    closure=None,
    max_length=None,
    **trainer_kwargs,
):
    """
    A plain [`~transformers.Trainer`] with the collator, the streaming metrics, the two learning rates and the callbacks set.

    The first time a model is trained, its label statistics are taken from `train_dataset`: the classifier starts at the label
    frequencies, HiAGM's edges at the prior probabilities.

    Args:
        model ([`HTCPreTrainedModel`] or a PEFT model around one): The model.
        args ([`HTCTrainingArguments`] or `TrainingArguments`, *optional*): Settings. Learning rates left at `None` become the
            method's recommendation.
        train_dataset, eval_dataset (`datasets.Dataset`, *optional*): Columns `text` and `labels` (ids), or tokenised ones.
        tokenizer (`PreTrainedTokenizer`): Tokenises texts and pads batches.
        callbacks (`list[TrainerCallback]`, *optional*): Added to ours.
        closure (`str`, *optional*): Closure of the metrics; defaults to what fits the training labels.
        max_length (`int`, *optional*): Tokens a text is cut at; defaults to `model.config.max_text_length`.
        trainer_kwargs: Passed to the Trainer.

    Returns:
        `transformers.Trainer`

    Raises:
        `ValueError`: no tokenizer, a `DatasetDict` where one split is needed, label ids outside the model's labels.

    Example:

    ```python
    dataset, hierarchy = load_htc_dataset("python_docs")
    trainer = build_trainer(model, HTCTrainingArguments("out"), dataset["train"], dataset["validation"], tokenizer)
    trainer.train()
    ```
    """
    if tokenizer is None:
        raise ValueError("`tokenizer` is missing: pass the text encoder's tokenizer.")
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    args = HTCTrainingArguments() if args is None else args
    if max_length is not None:
        base.config.max_text_length = min(max_length, base.config.max_text_length or max_length)
    if train_dataset is not None:
        train_dataset = check_is_split(train_dataset, "train_dataset")
        if base.config.label_counts is None and "labels" in train_dataset.column_names:
            base.set_label_statistics(label_csr(train_dataset))
    prepared = [
        _prepared(dataset, name, tokenizer, base)
        for dataset, name in ((train_dataset, "train_dataset"), (eval_dataset, "eval_dataset"))
    ]
    if prepared[1] is None and getattr(args, "eval_strategy", "no") != "no":
        logger.warning("No validation data: nothing is evaluated, and the last checkpoint is kept instead of the best.")
        args.eval_strategy, args.load_best_model_at_end = "no", False
    _fill_learning_rates(args, base.config)

    closure = base.default_closure(closure)
    metrics = StreamingMetrics(base.config.get_hierarchy(), base.decision_boundary(), closure)
    ours = [InterruptCallback()]
    if prepared[1] is not None and base.config.label_counts is not None:
        ours.append(PriorCallback(prior_micro_f1(base.config, prepared[1], closure)))
    if prepared[1] is not None and getattr(args, "batch_eval_metrics", False):
        trainer_kwargs.setdefault("compute_metrics", metrics)
        trainer_kwargs.setdefault("preprocess_logits_for_metrics", metrics.preprocess)
    if "optimizers" not in trainer_kwargs and getattr(args, "classifier_learning_rate", None) is not None:
        trainer_kwargs.setdefault("optimizer_cls_and_kwargs", _optimizer(args, model))
    return Trainer(
        model=model,
        args=args,
        train_dataset=prepared[0],
        eval_dataset=prepared[1],
        data_collator=trainer_kwargs.pop("data_collator", None) or HTCDataCollator(tokenizer),
        processing_class=tokenizer,
        callbacks=[*ours, *(callbacks or [])],
        **trainer_kwargs,
    )


def _prepared(dataset, name, tokenizer, model):
    if dataset is None:
        return None
    dataset = check_is_split(dataset, name)
    if "input_ids" in dataset.column_names:
        return dataset
    return tokenize_dataset(dataset, tokenizer, max_length=model.config.max_text_length)


def _fill_learning_rates(args, config):
    for key, value in config.recommended_training.items():
        if hasattr(args, key) and getattr(args, key) is None:
            setattr(args, key, value)
            logger.info(f"{key} = {value}, the recommendation for {config.model_type}.")


def _optimizer(args, model):
    optimizer_class, optimizer_kwargs = Trainer.get_optimizer_cls_and_kwargs(args, model)
    if not inspect.isclass(optimizer_class) or {"params", "model", "optimizer_dict"} & set(optimizer_kwargs):
        raise ValueError(
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
