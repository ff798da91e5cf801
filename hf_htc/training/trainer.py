"""`build_trainer`: a plain `transformers.Trainer`, set up for hierarchical text classification."""

from transformers import Trainer

from hf_htc.data import HTCDataCollator
from hf_htc.training.arguments import HTCTrainingArguments
from hf_htc.training.callbacks import InterruptCallback
from hf_htc.training.launch import check_launch
from hf_htc.training.preparation import optimizer_factory, prepare_training


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
        `ValueError`: no tokenizer, label ids outside the model's labels, a launch that asked for several processes and gave one
        (see [`check_launch`]). `TypeError`: a `DatasetDict` where one split is needed.

    Example:

    ```python
    dataset, hierarchy = load_htc_dataset("python_docs")
    trainer = build_trainer(model, HTCTrainingArguments("out"), dataset["train"], dataset["validation"], tokenizer)
    trainer.train()
    ```
    """
    args = HTCTrainingArguments() if args is None else args
    check_launch()
    prepared = prepare_training(model, args, train_dataset, eval_dataset, tokenizer, closure, max_length)
    metrics = prepared.metrics
    if prepared.eval_dataset is not None and getattr(args, "batch_eval_metrics", False):
        trainer_kwargs.setdefault("compute_metrics", metrics)
        trainer_kwargs.setdefault("preprocess_logits_for_metrics", metrics.preprocess)
    if "optimizers" not in trainer_kwargs and getattr(args, "classifier_learning_rate", None) is not None:
        trainer_kwargs.setdefault("optimizer_cls_and_kwargs", optimizer_factory(args, model))
    return Trainer(
        model=model,
        args=args,
        train_dataset=prepared.train_dataset,
        eval_dataset=prepared.eval_dataset,
        data_collator=trainer_kwargs.pop("data_collator", None) or HTCDataCollator(tokenizer),
        processing_class=tokenizer,
        callbacks=[InterruptCallback(), *prepared.prior_callback(), *(callbacks or [])],
        **trainer_kwargs,
    )
