"""`HTCTrainer`: what it is given, how it evaluates and predicts, how it stops and goes on."""

import logging
import os
import signal

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from loop_runs import at_training_forward, equal_weights, losses
from loop_runs import run as run_loop
from test_trainer import losses_of, make_arguments
from tiny_models import make_model, make_tree
from training_data import make_dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_htc import HTCTrainer
from hf_htc.data import HTCDataCollator, tokenize_dataset
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer
from hf_htc.training import EitherMetricEarlyStopping, InterruptCallback, PriorCallback, build_trainer


TREE = make_tree()
N = TREE.num_labels


def rows_of(dataset):
    return [dict(row) for row in dataset]


class Documents(torch.utils.data.Dataset):
    """A `torch.utils.data.Dataset` of dicts, as users write them."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def forms(dataset, names=False):
    """The same documents in every form that a trainer takes."""
    rows = rows_of(dataset)
    if names:
        rows = [{**row, "labels": TREE.decode([row["labels"]])[0]} for row in rows]
    tables = [{**row, "labels": [float(n in row["labels"]) for n in range(N)]} for row in rows_of(dataset)]
    return {
        "dataset": dataset, "list": rows, "multi-hot": tables, "torch": Documents(rows), "stream": Stream(rows),
        "iterable": dataset.to_iterable_dataset(),
    }  # fmt: skip


def scores_of(metrics, prefix):
    clock = ("runtime", "per_second", "preparation_time")
    return {key.removeprefix(prefix + "_"): value for key, value in metrics.items() if not key.endswith(clock) and key != "epoch"}


# ---------------------------------------------------------------------------------------------- what it is given


@pytest.mark.parametrize("names", [False, True], ids=["ids", "names"])
def test_every_form_of_documents_trains_and_evaluates_alike(names, tokenizer, tmp_path):
    seen = {}
    for form in forms(make_dataset(8)):
        model = make_model("flat", TREE)
        documents = forms(make_dataset(24), names)[form]
        validation = forms(make_dataset(11, seed=1), names)[form]
        trainer = build_trainer(model, make_arguments(tmp_path, max_steps=3), documents, validation, tokenizer)
        assert type(trainer) is HTCTrainer
        trainer.train()
        given = scores_of(trainer.evaluate(forms(make_dataset(7, seed=2), names)[form], metric_key_prefix="test"), "test")
        seen[form] = (losses_of(trainer), scores_of(trainer.evaluate(), "eval"), given, model.config.num_train_documents)
    assert seen["list"] == seen["torch"] == seen["multi-hot"] == seen["dataset"]
    assert seen["stream"] == seen["iterable"]  # in the order of the documents
    for form in ("stream", "iterable"):
        assert seen[form][1].keys() == seen["dataset"][1].keys() and len(seen[form][0]) == 3


def test_several_evaluation_sets(tokenizer, tmp_path, caplog):
    sets = {"news": make_dataset(12, seed=1), "web": rows_of(make_dataset(9, seed=2))}
    arguments = make_arguments(
        tmp_path, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, num_train_epochs=2
    )
    stopping = EitherMetricEarlyStopping(1)
    trainer = build_trainer(make_model("flat", TREE), arguments, make_dataset(16), sets, tokenizer, [stopping])
    with caplog.at_level(logging.WARNING):
        trainer.train()
    entries = [entry for entry in trainer.state.log_history if any("micro_f1" in key for key in entry)]
    assert {key for entry in entries for key in entry if key.endswith(("s_micro_f1", "b_micro_f1"))} >= {
        "eval_news_micro_f1", "eval_web_micro_f1",
    }  # fmt: skip
    # The default score is that of the first set; early stopping says that it has seen none of its own.
    assert trainer.args.metric_for_best_model == "news_micro_f1" and trainer.state.best_model_checkpoint is not None
    assert "Early stopping has never seen micro_f1 or macro_f1" in caplog.text and "'news_" in caplog.text
    watching = EitherMetricEarlyStopping(1, metrics=("web_micro_f1",))
    build_trainer(make_model("flat", TREE), arguments, make_dataset(16), sets, tokenizer, [watching]).train()
    assert set(watching.best) == {"web_micro_f1"}


@pytest.mark.parametrize(
    "documents, error, message",
    [
        (DatasetDict({"train": make_dataset(8)}), TypeError, r"DatasetDict with the splits.*dataset\['train'\]"),
        ([], ValueError, "`train_dataset` is empty"),
        ([{"text": "x", "labels": [1]}, {"text": "y"}], TypeError, r"`train_dataset\[1\]` has the keys \['text'\]"),
        (["a", "b"], TypeError, r"`train_dataset\[0\]` is no dict"),
        ("train.jsonl", TypeError, "`train_dataset` is a str; give a `datasets.Dataset`"),
        ([{"body": "x", "labels": [1]}], ValueError, "no column 'text'"),
    ],
)
def test_what_is_no_document_is_refused(documents, error, message, tokenizer, tmp_path):
    with pytest.raises(error, match=message):
        build_trainer(make_model("flat", TREE), make_arguments(tmp_path), documents, tokenizer=tokenizer)


def test_stream_labels_are_not_known_before(tokenizer, tmp_path, caplog):
    model = make_model("flat", TREE, statistics=False)
    build_trainer(model, make_arguments(tmp_path, max_steps=1), Stream(rows_of(make_dataset(8))), tokenizer=tokenizer)
    assert "labels of the training documents are not known" in caplog.text and model.config.label_counts is None


# ---------------------------------------------------------------------------------------------- label statistics


def test_multi_hot_labels_start_the_classifier_as_ids_do(tokenizer, tmp_path):
    models = {}
    for form in ("dataset", "multi-hot"):
        models[form] = make_model("hiagm", TREE, statistics=False)
        documents = forms(make_dataset(24))[form]
        trainer = build_trainer(models[form], make_arguments(tmp_path), documents, documents, tokenizer)
        assert any(isinstance(callback, PriorCallback) for callback in trainer.callback_handler.callbacks)
    assert models["multi-hot"].config.label_counts == models["dataset"].config.label_counts
    assert equal_weights(*models.values())
    rows = [{**row, "labels": [int(value) for value in row["labels"]]} for row in forms(make_dataset(8))["multi-hot"]]
    with pytest.raises(ValueError, match="Row 0 of the labels is .* a multi-hot row of integers"):
        build_trainer(make_model("flat", TREE), make_arguments(tmp_path), rows, tokenizer=tokenizer)


def test_a_second_training_measures_its_labels_anew(tokenizer, tmp_path, caplog):
    model = make_model("flat", TREE, statistics=False)
    build_trainer(model, make_arguments(tmp_path), make_dataset(40), tokenizer=tokenizer)
    assert model.config.label_closure == "closed"
    bias = model.classifier.out_proj.bias.detach().clone()
    caplog.clear()
    build_trainer(model, make_arguments(tmp_path), make_dataset(40), tokenizer=tokenizer)  # as a resumed run does
    assert not caplog.text
    leaves = make_dataset(40).map(lambda row: {"labels": row["labels"][-1:]})
    trainer = build_trainer(model, make_arguments(tmp_path), leaves, leaves, tokenizer)
    assert "`label_closure` was 'closed' and is 'as_given'" in caplog.text and "label frequencies moved" in caplog.text
    assert model.config.label_closure == "as_given" and sum(model.config.label_counts) == 40
    assert trainer.evaluate()["eval_closure"] == "none"
    assert torch.equal(model.classifier.out_proj.bias, bias)
    coherent = make_model("flat", TREE, coherence="training")
    with pytest.raises(ValueError, match="coherence"):
        build_trainer(coherent, make_arguments(tmp_path), leaves, tokenizer=tokenizer)
    assert coherent.config.label_closure == "closed"


# ---------------------------------------------------------------------------------------------- evaluation


def test_an_evaluation_that_was_broken_off_is_not_counted(tokenizer, tmp_path):
    trainer = build_trainer(
        make_model("flat", TREE), make_arguments(tmp_path, per_device_eval_batch_size=4), None, make_dataset(24), tokenizer
    )
    expected = scores_of(trainer.evaluate(), "eval")

    class Stop(TrainerCallback):
        def on_prediction_step(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

    trainer.add_callback(Stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.evaluate()
    trainer.remove_callback(Stop)
    assert scores_of(trainer.evaluate(), "eval") == expected


def test_predictions_are_tables_of_labels(tokenizer, tmp_path):
    model = make_model("flat", TREE)
    documents = make_dataset(19, seed=5)
    trainer = build_trainer(model, make_arguments(tmp_path, per_device_eval_batch_size=4), make_dataset(8), None, tokenizer)
    output = trainer.predict(documents)
    assert output.predictions.shape == output.label_ids.shape == (19, N) and output.predictions.dtype == bool
    expected = model.predict(documents["text"], tokenizer, closure="none")
    assert [TREE.encode([row["labels"]])[0] for row in expected] != [[]] * 19
    for row, predicted in zip(output.predictions, expected):
        assert set(np.flatnonzero(row)) == set(TREE.encode([predicted["labels"]])[0])
    assert [np.flatnonzero(row).tolist() for row in output.label_ids] == [sorted(row) for row in documents["labels"]]
    scorer = HierarchicalScorer(TREE.parents, N, closure="up")
    scorer.add([np.flatnonzero(row).tolist() for row in output.predictions], documents["labels"][:])
    assert output.metrics["test_micro_f1"] == pytest.approx(scorer.compute()["micro_f1"])
    assert scores_of(trainer.evaluate(documents), "eval") == scores_of(output.metrics, "test")
    unlabelled = trainer.predict(documents.remove_columns("labels"))
    assert np.array_equal(unlabelled.predictions, output.predictions) and unlabelled.label_ids is None


def test_metrics_of_ones_own_get_what_a_plain_trainer_gives(tokenizer, tmp_path):
    model, seen = make_model("flat", TREE), []

    def own(prediction):
        seen.append((prediction.predictions.shape, prediction.label_ids.shape))
        return {"density": float((prediction.predictions > 0).mean())}

    arguments = make_arguments(tmp_path, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True)
    trainer = build_trainer(model, arguments, make_dataset(8), make_dataset(20), tokenizer, compute_metrics=own)
    trainer.train()
    assert seen[0][0] == (20, N) and seen[0][1][0] == 20
    assert trainer.args.metric_for_best_model == "loss" and not trainer.args.greater_is_better
    assert trainer.predict(make_dataset(5)).predictions.dtype == np.float32
    settled = make_arguments(tmp_path, eval_strategy="epoch", save_strategy="epoch", metric_for_best_model="f2")
    with pytest.raises(ValueError, match="`metric_for_best_model` is 'f2', which the evaluation does not give; it gives density"):
        build_trainer(model, settled, make_dataset(8), make_dataset(8), tokenizer, compute_metrics=own).train()


def test_other_prefixes_do_not_count_for_stopping_and_prior(tokenizer, tmp_path):
    stopping = EitherMetricEarlyStopping(1)
    model = make_model("flat", TREE)
    data = make_dataset(8), make_dataset(8), tokenizer
    trainer = build_trainer(model, make_arguments(tmp_path), *data, callbacks=[stopping])
    for _ in range(3):
        assert "test_micro_f1" in trainer.evaluate(make_dataset(5), metric_key_prefix="test")
    assert not stopping.best and not trainer.control.should_training_stop
    assert next(c for c in trainer.callback_handler.callbacks if isinstance(c, PriorCallback)).last is None
    trainer.evaluate()
    assert set(stopping.best) == {"micro_f1", "macro_f1"}


def test_persistent_workers_do_not_keep_the_first_set(tokenizer, tmp_path):
    """The Trainer keeps the loader of its evaluation set, and would give it for any other one too."""
    arguments = make_arguments(tmp_path, dataloader_num_workers=1, dataloader_persistent_workers=True)
    trainer = build_trainer(make_model("flat", TREE), arguments, None, make_dataset(8), tokenizer)
    assert len(trainer.get_eval_dataloader().dataset) == 8
    assert len(trainer.get_eval_dataloader(make_dataset(5)).dataset) == 5


# ---------------------------------------------------------------------------------------------- stopping and going on


def saving(folder, **options):
    options = {"max_steps": 8, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 9, **options}
    return make_arguments(folder, **options)


def trainer_for(folder, tokenizer, at=None, action=None, callbacks=None, eval_dataset=None, **options):
    model = make_model("hiagm", TREE)  # with dropout: the random numbers must come back too
    if at is not None:
        at_training_forward(model, at, action)
    return build_trainer(model, saving(folder, **options), make_dataset(45), eval_dataset, tokenizer, callbacks=callbacks)


def sender(number):
    return lambda outputs: os.kill(os.getpid(), number)


def handlers():
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_that_goes_on_bit_for_bit(number, tokenizer, tmp_path):
    whole = trainer_for(tmp_path / "whole", tokenizer)
    whole.train()
    before = handlers()
    stopped = trainer_for(tmp_path / "stopped", tokenizer, 5, sender(number))
    stopped.train()
    assert stopped.interrupted and stopped.state.global_step == 5 and handlers() == before
    assert stopped.interrupt_callback.signal == number
    assert (tmp_path / "stopped" / "checkpoint-5" / "trainer_state.json").exists()
    stopped.train(resume_from_checkpoint=True)  # the same trainer
    assert not stopped.interrupted and stopped.state.global_step == 8
    assert losses_of(stopped) == losses_of(whole) and equal_weights(stopped.model, whole.model)
    again = trainer_for(tmp_path / "stopped", tokenizer)
    again.train(resume_from_checkpoint=str(tmp_path / "stopped" / "checkpoint-5"))
    assert equal_weights(again.model, whole.model)
    # The accelerate loop does the same.
    whole, _ = run_loop(tmp_path / "loop", tokenizer, **SAVING)
    spoiled = at_training_forward(make_model("hiagm", TREE), 5, sender(number))
    _, result = run_loop(tmp_path / "cut", tokenizer, model=spoiled, **SAVING)
    assert result.interrupted and result.signal == number and result.state.global_step == 5 and handlers() == before
    resumed, result = run_loop(tmp_path / "cut", tokenizer, loop={"resume_from_checkpoint": True}, **SAVING)
    assert not result.interrupted and len(losses(result)) == 8 and equal_weights(resumed, whole)


SAVING = {"max_steps": 8, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "no"}
BEST = {
    "num_train_epochs": 2, "max_steps": -1, "eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True,
    "save_total_limit": 1, "logging_steps": 1,
}  # fmt: skip


@pytest.mark.parametrize("step", [3, 6, 12], ids=["inside an epoch", "at the end of an epoch", "at the last step"])
def test_a_signal_keeps_evaluations_and_the_best_checkpoint(step, tokenizer, tmp_path):
    """One checkpoint is kept, and the one to go on from is not deleted for the best; what is due at the step is evaluated."""
    data = {"eval_dataset": make_dataset(19, seed=5)}
    whole = trainer_for(tmp_path / "whole", tokenizer, **data, **BEST)
    whole.train()
    stopped = trainer_for(tmp_path / "stopped", tokenizer, step, sender(signal.SIGTERM), **data, **BEST)
    stopped.train()
    assert stopped.state.global_step == step and stopped.interrupted == (step < 12)
    evaluated = [entry["step"] for entry in stopped.state.log_history if "eval_loss" in entry]
    assert evaluated == {3: [], 6: [6], 12: [6, 12]}[step]
    if step < 12:
        assert (tmp_path / "stopped" / f"checkpoint-{step}").exists()
        stopped = trainer_for(tmp_path / "stopped", tokenizer, **data, **BEST)
        stopped.train(resume_from_checkpoint=True)
    assert losses_of(stopped) == losses_of(whole) and equal_weights(stopped.model, whole.model)
    assert stopped.state.best_metric == whole.state.best_metric
    assert os.path.basename(stopped.state.best_model_checkpoint) == os.path.basename(whole.state.best_model_checkpoint)
    # The accelerate loop does the same.
    options = {**BEST, "num_train_epochs": 2}
    model, result = run_loop(tmp_path / "loop", tokenizer, **data, **options)
    spoiled = at_training_forward(make_model("hiagm", TREE), step, sender(signal.SIGTERM))
    _, cut = run_loop(tmp_path / "cut", tokenizer, model=spoiled, **data, **options)
    assert cut.interrupted == (step < 12)
    if step < 12:
        spoiled, cut = run_loop(tmp_path / "cut", tokenizer, loop={"resume_from_checkpoint": True}, **data, **options)
    assert losses(cut) == losses(result) and equal_weights(spoiled, model) and cut.state.best_metric == result.state.best_metric


def test_who_was_told_to_stop_saves_before_a_long_evaluation(tokenizer, tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 2}
    seen = []

    class Look(TrainerCallback):
        def on_prediction_step(self, args, state, control, **kwargs):
            seen.append((tmp_path / f"checkpoint-{state.global_step}" / "trainer_state.json").exists())

    trainer = trainer_for(
        tmp_path, tokenizer, 4, sender(signal.SIGTERM), [Look()], make_dataset(5), per_device_eval_batch_size=8, **options
    )
    trainer.train()
    assert seen == [False, True] and trainer.state.global_step == 4


def fail(outputs):
    raise RuntimeError("out of memory")


def test_the_handlers_come_back_after_an_error(tokenizer, tmp_path):
    before = handlers()
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer_for(tmp_path, tokenizer, 3, fail).train()
    assert handlers() == before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 1)


def test_a_sigterm_handler_of_ones_own_stays(tokenizer, tmp_path):
    got = []
    previous = signal.signal(signal.SIGTERM, lambda *_: got.append(1))
    try:
        trainer = trainer_for(tmp_path, tokenizer, 3, sender(signal.SIGTERM), max_steps=4)
        trainer.train()
        assert got == [1] and trainer.state.global_step == 4
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_a_second_ctrl_c_stops_at_once_and_a_second_sigterm_does_not():
    callback = InterruptCallback()
    with callback.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert callback.interrupted and callback.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            callback._handle(signal.SIGINT, None)
    with callback.listening():
        assert not callback.interrupted


def test_a_plain_trainer_with_the_callback_by_hand(tokenizer, tmp_path):
    before = handlers()
    model = at_training_forward(make_model("flat", TREE), 3, sender(signal.SIGTERM))
    dataset = tokenize_dataset(make_dataset(), tokenizer, max_length=16)
    arguments = TrainingArguments(str(tmp_path), max_steps=6, report_to="none", disable_tqdm=True, per_device_train_batch_size=8)
    callback = InterruptCallback()
    trainer = Trainer(model, arguments, HTCDataCollator(tokenizer), dataset, callbacks=[callback])
    trainer.train()
    assert callback.stopped and trainer.state.global_step == 3 and handlers() == before
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert trainer.state.global_step == 6 and not callback.stopped
    spoiled = Trainer(at_training_forward(make_model("flat", TREE), 2, fail), arguments, HTCDataCollator(tokenizer), dataset,
                      callbacks=[callback])  # fmt: skip
    with pytest.raises(RuntimeError), callback.listening():
        spoiled.train()
    assert handlers() == before


@pytest.mark.parametrize("accumulated", [1, 2])
def test_nan_ends_the_training_before_the_weights_take_harm(accumulated, tokenizer, tmp_path):
    def spoil(outputs):
        outputs.loss = outputs.loss / 0.0

    trainer = trainer_for(tmp_path, tokenizer, 3 * accumulated + 1, spoil, gradient_accumulation_steps=accumulated)
    with pytest.raises(FloatingPointError, match=r"NaN or infinite at step 4 \(learning rate 0.000\d* and 0.00\d*\)"):
        trainer.train()
    assert all(bool(torch.isfinite(parameter).all()) for parameter in trainer.model.parameters())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2"]


def test_weights_that_are_not_finite_are_never_saved(tokenizer, tmp_path):
    class Spoil(TrainerCallback):
        def on_step_end(self, args, state, control, model, **kwargs):
            if state.global_step == 4:
                with torch.no_grad():
                    next(model.parameters()).view(-1)[0] = float("inf")

    trainer = trainer_for(tmp_path, tokenizer, callbacks=[Spoil()])
    with pytest.raises(FloatingPointError, match="weights are NaN or infinite after step 4, and no checkpoint is written"):
        trainer.train()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2"]
    model = make_model("hiagm", TREE)
    with torch.no_grad():
        model.classifier.out_bias.fill_(float("inf"))
    with pytest.raises(FloatingPointError):
        run_loop(tmp_path / "loop", tokenizer, model=model, learning_rate=0.0, **SAVING)
    assert not list((tmp_path / "loop").glob("checkpoint-*"))


def test_norms_of_every_encoder_do_not_decay(tokenizer, tmp_path):
    """The Trainer's own rule, in both loops: GPT-2's `ln_1` is a norm, whatever its name."""
    model = make_model("flat", TREE, encoder="gpt2")
    trainer = build_trainer(model, make_arguments(tmp_path, weight_decay=0.1), make_dataset(8), tokenizer=tokenizer)
    names = {parameter: name for name, parameter in model.named_parameters()}
    optimizer = trainer.create_optimizer()
    decayed = {names[p] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == set(trainer.get_decay_parameter_names(model)) and any("mlp" in name for name in decayed)
    assert not any("ln_" in name for name in decayed) and any("ln_1" in name for name in names.values())
