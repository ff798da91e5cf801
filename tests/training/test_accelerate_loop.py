"""The accelerate loop: the Trainer's numbers, several processes, precision, settings, the command line."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml
from datasets import DatasetDict
from loop_runs import QUIET, equal_weights, history, losses, make_arguments, run
from tiny_models import make_model, make_tree
from training_data import make_dataset, without_dropout
from transformers import AutoModelForSequenceClassification

import hf_htc
from hf_htc.cli.main import main
from hf_htc.training import HTCTrainingArguments, build_trainer, train_with_accelerate
from hf_htc.training.loop_settings import NOT_SETTINGS, SUPPORTED, check_settings


METHODS = list(hf_htc.METHODS)
HERE = Path(__file__).parent
CONFIGS = HERE.parents[1] / "examples" / "accelerate"


# ---------------------------------------------------------------------------------------------- the Trainer's numbers


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("flat", {}),
        ("hiagm", {"gradient_accumulation_steps": 2}),
        ("flat", {"gradient_accumulation_steps": 2, "optim": "adamw_torch", "adam_beta2": 0.98, "max_grad_norm": 0.1}),
        ("hiagm", {"bf16": True, "use_cpu": True}),
        ("hitin", {"gradient_accumulation_steps": 2}),
        ("hidec", {"gradient_accumulation_steps": 2}),
        # Evaluated, saved and stopped in the middle of an epoch; logged every second step.
        ("hiagm", {"max_steps": 8, "eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3,
                   "logging_steps": 2, "lr_scheduler_type": "cosine", "warmup_steps": 3, "data_seed": 11}),
        ("flat", {"save_strategy": "best", "logging_strategy": "epoch", "metric_for_best_model": "loss",
                  "greater_is_better": False, "max_grad_norm": 0.0, "dataloader_num_workers": 1}),
        ("flat", {"train_sampling_strategy": "sequential", "activation_checkpointing": True, "logging_first_step": True,
                  "logging_steps": 5, "num_train_epochs": 1.5}),
        ("hiagm", {"dataloader_drop_last": True, "eval_strategy": "no", "save_strategy": "no",
                   "load_best_model_at_end": False}),
    ],
)  # fmt: skip
def test_the_loop_and_the_trainer_agree_bit_for_bit(method, options, tokenizer, tmp_path):
    models = [make_model(method, make_tree()) for _ in range(2)]
    # 7 batches of 8, the last of 5: with accumulation, the last step of an epoch has one batch.
    data = (make_dataset(53), make_dataset(19, seed=5), tokenizer)
    trainer = build_trainer(models[0], make_arguments(tmp_path / "trainer", **options), *data)
    trainer.train()
    result = train_with_accelerate(models[1], make_arguments(tmp_path / "loop", **options), *data)
    assert sum("loss" in entry for entry in result.state.log_history) > 1
    assert history(result.state, "preparation_time") == history(trainer.state, "preparation_time")
    assert equal_weights(*models) and result.model is models[1]
    for name in ("global_step", "max_steps", "best_metric", "best_global_step", "epoch"):
        assert getattr(result.state, name) == getattr(trainer.state, name), name
    names = [sorted(path.name for path in folder.glob("checkpoint-*")) for folder in (tmp_path / "trainer", tmp_path / "loop")]
    assert names[0] == names[1]


def test_grouping_by_length_draws_the_trainers_order(tokenizer, tmp_path):
    """Also after a checkpoint in the middle of an epoch, where the Trainer draws another."""
    options = {"train_sampling_strategy": "group_by_length", **QUIET}
    models = [make_model("flat", make_tree()) for _ in range(2)]
    trainer = build_trainer(models[0], make_arguments(tmp_path, **options), make_dataset(45), None, tokenizer)
    trainer.train()
    _, result = run(tmp_path / "loop", tokenizer, model=models[1], **{**options, "save_strategy": "steps", "save_steps": 8})
    assert history(result.state) == history(trainer.state) and equal_weights(*models)
    resume = str(tmp_path / "loop" / "checkpoint-8")
    again, resumed = run(tmp_path / "loop", tokenizer, "flat", loop={"resume_from_checkpoint": resume}, **options)
    assert resumed.state.global_step == 12 and losses(resumed) == losses(result) and equal_weights(again, models[1])


def test_learning_rates_and_statistics_come_as_with_the_trainer(tokenizer, tmp_path):
    model = make_model("flat", make_tree(), statistics=False)
    options = {"max_steps": 1, "logging_steps": 1, "warmup_steps": 0, "disable_tqdm": True, **QUIET}
    arguments = HTCTrainingArguments(str(tmp_path), **options)
    result = train_with_accelerate(model, arguments, make_dataset(45), None, tokenizer, max_length=7)
    assert result.state.log_history[0]["learning_rate"] == 1e-4 and arguments.learning_rate is None
    assert model.config.num_train_documents == 45 and model.config.label_closure == "closed"
    assert model.config.max_text_length == 7 and result.state.global_step == 1


# ---------------------------------------------------------------------------------------------- several processes


def test_two_processes_agree_with_one(tokenizer, tmp_path):
    """One launch by a config file of ours: losses, weights, scores; Ctrl-C, resuming and a NaN in one of the two."""
    for method in METHODS:
        make_model(method, make_tree()).save_pretrained(tmp_path / method)
        tokenizer.save_pretrained(tmp_path / method)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / "several_cpu_processes.yaml")]
    seen = {}
    for processes in (1, 2):
        script = [str(HERE / "run_accelerate.py"), str(tmp_path / f"{processes}.json"), str(processes), ",".join(METHODS)]
        finished = subprocess.run(
            [*(launch if processes == 2 else [sys.executable]), *script],
            env=environment, timeout=300, capture_output=True, text=True,
        )  # fmt: skip
        assert finished.returncode == 0, finished.stderr[-3000:]
        seen[processes] = [json.loads((tmp_path / f"{processes}.{i}.json").read_text()) for i in range(processes)]
    for method in METHODS:
        one, two, other = seen[1][0][method], seen[2][0][method], seen[2][1][method]
        assert one["world_size"] == 1 and two["world_size"] == 2
        assert two["widths"] != other["widths"]  # there really were rows of unequal width to bring together
        assert two["losses"] == pytest.approx(one["losses"], rel=1e-6)
        assert two["weights"] == pytest.approx(one["weights"], rel=1e-5, abs=1e-12)
        for key in ("metrics", "metrics_of_few"):
            counted = [name for name in one[key] if not name.endswith(("runtime", "_per_second"))]
            assert len(counted) > 10 and "eval_loss" in counted
            for name in counted:  # the mean over documents: no document is left out or taken twice
                expected = one[key][name]
                assert two[key][name] == (expected if isinstance(expected, str) else pytest.approx(expected, rel=1e-6)), name
                assert other[key][name] == two[key][name], name
    for processes in (1, 2):
        for stopping in [results["stopping"] for results in seen[processes]]:
            assert stopping["interrupted"] and stopping["stopped_at"] == 3 and stopping["checkpoint"] == "checkpoint-3"
            assert stopping["same_losses"] and stopping["same_weights"] and stopping["random_states"] == processes
            assert "NaN or infinite at step 3" in stopping["nan"]


@pytest.mark.slow
def test_sharded_weights_train_as_whole_ones(tokenizer, tmp_path):
    """FSDP2 in two processes: loss, scores, checkpoints that load anywhere, and a resumed run."""
    model = without_dropout(make_model("hiagm", make_tree()))
    model.save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    finished = subprocess.run(
        [*launch, str(HERE / "run_sharded.py"), str(tmp_path)], env=environment, timeout=300, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    options = {"per_device_train_batch_size": 16, "warmup_steps": 0.1, "weight_decay": 0.0, "optim": "adamw_torch"}
    data = {"train_dataset": make_dataset(48), "eval_dataset": make_dataset(19, seed=5)}
    _, one = run(tmp_path / "one", tokenizer, model=model, **data, **options)
    whole, resumed = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "resumed")]
    assert [entry["loss"] for entry in whole if "loss" in entry] == pytest.approx(losses(one), rel=1e-5)
    expected = [entry for entry in one.state.log_history if "eval_loss" in entry]
    found = [entry for entry in whole if "eval_loss" in entry]
    assert [entry["eval_micro_f1"] for entry in found] == [entry["eval_micro_f1"] for entry in expected]
    assert [entry["eval_loss"] for entry in found] == pytest.approx([entry["eval_loss"] for entry in expected], rel=1e-5)
    assert [entry.get("loss") for entry in resumed] == [entry.get("loss") for entry in whole]
    for name in ("whole", "resumed", Path("out") / Path(one.state.best_model_checkpoint).name):
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / name)
        for (parameter, a), b in zip(loaded.named_parameters(), model.parameters()):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=parameter)
        assert (tmp_path / name / "modeling_hiagm.py").exists() and not list((tmp_path / name).glob("_fsdp*"))


# ---------------------------------------------------------------------------------------------- precision


def test_bfloat16_really_computes_in_bfloat16(tokenizer, tmp_path):
    model, seen = make_model("hiagm", make_tree()), set()
    model.model.encoder.layer[0].attention.self.query.register_forward_hook(lambda *hook: seen.add(hook[2].dtype))
    _, half = run(tmp_path, tokenizer, model=model, bf16=True, use_cpu=True, **QUIET)
    assert seen == {torch.bfloat16}
    _, whole = run(tmp_path, tokenizer, **QUIET)
    assert losses(half) != losses(whole) and losses(half) == pytest.approx(losses(whole), rel=0.02)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    seen.clear()
    model.predict(["a goal in the match"], tokenizer)  # the model comes back as it went in
    assert seen == {torch.float32}


def test_the_precision_of_the_launch_is_honoured(tokenizer, tmp_path, monkeypatch):
    _, asked = run(tmp_path, tokenizer, bf16=True, use_cpu=True, **QUIET)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    _, launched = run(tmp_path, tokenizer, **QUIET)
    assert losses(launched) == losses(asked)


@pytest.mark.parametrize(
    ("environment", "options", "message"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, {"bf16": True, "use_cpu": True}, "`--bf16` contradicts .* to 'fp16'"),
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, {}, "mixed precision to 'fp8'; the loop trains in no, bf16, fp16"),
        ({}, {"fp16": True, "use_cpu": True}, "float16 training needs a GPU"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, {"use_cpu": True}, "float16 training needs a GPU"),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, {}, "`gradient_accumulation_steps` is 1, but .* sets it to 4"),
        ({"ACCELERATE_GRADIENT_CLIPPING": "0.5"}, {}, "`max_grad_norm` is 1.0, but .* sets it to 0.5"),
    ],
)
def test_contradictions_with_the_launch_are_refused(environment, options, message, tokenizer, tmp_path, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        run(tmp_path, tokenizer, **options, **QUIET)


# ---------------------------------------------------------------------------------------------- settings


def test_early_stopping_counts_on_after_a_resume(tokenizer, tmp_path):
    options = {"num_train_epochs": 9, "learning_rate": 0.0, "classifier_learning_rate": 0.0, "save_total_limit": None}
    data = {"eval_dataset": make_dataset(19, seed=5)}
    _, stopped = run(tmp_path, tokenizer, loop={"early_stopping": 3}, **data, **options)
    assert stopped.state.epoch == 4.0  # the first evaluation is an improvement, three more are not
    resume = {"early_stopping": 3, "resume_from_checkpoint": str(tmp_path / "checkpoint-18")}
    _, resumed = run(tmp_path, tokenizer, loop=resume, **data, **options)
    assert resumed.state.epoch == 4.0


def test_a_model_that_learned_nothing_is_told(tokenizer, tmp_path, caplog):
    model = make_model("flat", make_tree())
    with torch.no_grad():
        model.classifier.out_proj.weight.zero_()
        model.classifier.out_proj.bias.fill_(-5.0)
    options = {"learning_rate": 0.0, "classifier_learning_rate": 0.0, "num_train_epochs": 1}
    run(tmp_path, tokenizer, model=model, eval_dataset=make_dataset(19, seed=5), **options)
    assert caplog.text.count("no more than the label prior") == 1


def test_every_setting_is_used_or_refused(tokenizer, tmp_path, monkeypatch):
    """A field that is neither read by a run nor refused would be an option that does nothing."""
    read = set()

    class Recording(HTCTrainingArguments):
        def __getattribute__(self, name):
            read.add(name)
            return super().__getattribute__(name)

    arguments = Recording(
        str(tmp_path), num_train_epochs=1, save_strategy="steps", eval_strategy="steps", eval_steps=2, save_steps=2,
        per_device_train_batch_size=8, activation_checkpointing=True, disable_tqdm=True,
    )  # fmt: skip
    read.clear()
    train_with_accelerate(make_model("flat", make_tree()), arguments, make_dataset(45), make_dataset(9), tokenizer)
    of_training_arguments = {"tf32", "use_cpu", "ddp_backend", "ddp_timeout"}  # take effect when they are made
    aliases = {"gradient_checkpointing", "gradient_checkpointing_kwargs"}
    assert SUPPORTED - read == of_training_arguments | aliases
    assert not SUPPORTED & NOT_SETTINGS

    odd = {"accelerator_config": {"split_batches": True}, "report_to": "tensorboard", "debug": "underflow_overflow",
           "include_for_metrics": ["loss"], "label_names": ["label_ids"], "fsdp": "full_shard", "log_level": "info"}  # fmt: skip
    refused = 0
    for field in fields(HTCTrainingArguments):
        if field.name in SUPPORTED | NOT_SETTINGS | {"label_smoothing_factor"} or not field.init:
            continue
        arguments = make_arguments(tmp_path)
        check_settings(arguments)
        default = getattr(arguments, field.name)
        changed = not default if isinstance(default, bool) else 3 if isinstance(default, int | float) else "other"
        if field.name == "accelerator_config":
            arguments = make_arguments(tmp_path, accelerator_config=odd[field.name])
        else:
            setattr(arguments, field.name, odd.get(field.name, changed))
        with pytest.raises(ValueError, match=f"does not support `{field.name}`"):
            check_settings(arguments)
        refused += 1
    assert refused > 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 1}, "follows the evaluations"),
        ({"train_sampling_strategy": "batch_rebalance"}, "the accelerate loop has random, sequential, group_by_length"),
        ({"report_to": "tensorboard"}, "does not support `report_to` .*`--loop trainer`"),
        ({"fsdp": "full_shard"}, "examples/accelerate"),
        ({"metric_for_best_model": "hf1"}, "which the evaluation does not give; it gives loss, .*micro_f1"),
    ],
)
def test_wrong_settings_are_refused(options, message, tokenizer, tmp_path):
    defaults = {"save_strategy": "no", "load_best_model_at_end": False}
    arguments = make_arguments(tmp_path, **{**defaults, **{k: v for k, v in options.items() if k != "fsdp"}})
    if "fsdp" in options:  # TrainingArguments itself refuses it in one process
        arguments.fsdp = options["fsdp"]
    with pytest.raises(ValueError, match=message):
        train_with_accelerate(make_model("flat", make_tree()), arguments, make_dataset(45), make_dataset(9), tokenizer)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tokenizer": None}, ValueError, "`tokenizer` is missing"),
        ({"train_dataset": None}, ValueError, "`train_dataset` is missing"),
        ({"eval_dataset": make_dataset(4).remove_columns("labels")}, ValueError, "`eval_dataset` is without labels"),
        ({"train_dataset": make_dataset(4).select([])}, ValueError, "`train_dataset` is empty"),
        ({"train_dataset": DatasetDict({"train": make_dataset(8)})}, TypeError, "DatasetDict"),
        ({"args": object()}, TypeError, "must be `HTCTrainingArguments`, got object"),
    ],
)
def test_wrong_arguments_are_refused(change, error, message, tokenizer, tmp_path):
    arguments = {"args": make_arguments(tmp_path), "train_dataset": make_dataset(8), "eval_dataset": make_dataset(4)}
    with pytest.raises(error, match=message):
        train_with_accelerate(make_model("flat", make_tree()), **{**arguments, "tokenizer": tokenizer, **change})


# ---------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def work(tmp_path, tokenizer):
    """Files of a user: texts, a taxonomy, an encoder."""
    from tiny_models import make_encoder_config
    from transformers import AutoModel

    tree = make_tree()
    for split, size in (("train", 40), ("validation", 12), ("test", 17)):
        rows = make_dataset(size, seed=size)
        lines = [json.dumps({"text": row["text"], "labels": [tree.names[i] for i in row["labels"]]}) for row in rows]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    lines = [f"{tree.names[parent]}\t{tree.names[child]}\n" for child, above in enumerate(tree.parents) for parent in above]
    roots = [f"Root\t{tree.names[child]}\n" for child, above in enumerate(tree.parents) if not above]
    (tmp_path / "taxonomy.tsv").write_text("".join(roots + lines))
    AutoModel.from_config(make_encoder_config()).save_pretrained(tmp_path / "tiny-encoder")
    tokenizer.save_pretrained(tmp_path / "tiny-encoder")
    return tmp_path


def command(work, output, *options):
    files = [word for split in ("train", "validation", "test") for word in (f"--{split}_file", str(work / f"{split}.jsonl"))]
    return [
        "train", *files, "--taxonomy", str(work / "taxonomy.tsv"), "--text_encoder", str(work / "tiny-encoder"), "--output_dir",
        str(output), "--num_train_epochs", "1", "--per_device_train_batch_size", "8", "--disable_tqdm", "true", *options,
    ]  # fmt: skip


def check_run(folder):
    run = json.loads((folder / "run.json").read_text())
    assert run["settings"]["loop"] == "accelerate" and "validation" in run["scores"] and "test" in run["scores"]
    for name in ("README.md", "report_test.md", "predictions_test.jsonl", "taxonomy.json"):
        assert (folder / name).exists(), name
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.num_labels == 13
    return run


def test_the_command_ends_as_with_the_trainer(work, capsys):
    scores = []
    for loop in ("trainer", "accelerate"):
        main(command(work, work / loop, "--loop", loop, "--logging_steps", "1", "--early_stopping_patience", "2"))
        scores.append(json.loads((work / loop / "run.json").read_text()))
    assert scores[0]["scores"] == check_run(work / "accelerate")["scores"]
    assert [e["loss"] for e in scores[0]["log"] if "loss" in e] == [e["loss"] for e in scores[1]["log"] if "loss" in e]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(command(work, work / "out", "--loop", "lightning"))
    assert "`--loop` is 'lightning'; it is 'trainer' or 'accelerate'." in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(command(work, work / "trainer", "--loop", "accelerate", "--resume_from_checkpoint", "true"))
    assert "was written by `--loop trainer`" in capsys.readouterr().err


def test_adapters_train_in_the_loop(work):
    """LoRA, with a resumed run: the checkpoints hold the adapter and the classifier alone."""
    options = ["--loop", "accelerate", "--lora", "--lora_rank", "2", "--method", "hiagm", "--method_options", '{"node_dim": 6}',
               "--save_strategy", "steps", "--eval_strategy", "steps", "--save_steps", "2", "--eval_steps", "2",
               "--save_total_limit", "5"]  # fmt: skip
    main(command(work, work / "whole", *options))
    assert (work / "whole" / "checkpoint-2" / "adapter_model.safetensors").exists()
    assert not (work / "whole" / "checkpoint-2" / "model.safetensors").exists()
    whole = check_run(work / "whole")
    resume = ["--resume_from_checkpoint", str(work / "whole" / "checkpoint-2")]
    main(command(work, work / "resumed", *options, *resume))
    resumed = check_run(work / "resumed")
    assert resumed["scores"] == whole["scores"] and resumed["log"][-1]["step"] == whole["log"][-1]["step"] == 5
    models = [AutoModelForSequenceClassification.from_pretrained(work / name) for name in ("whole", "resumed")]
    assert equal_weights(*models)


def test_the_command_works_in_two_processes(work):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "hf_htc"]
    finished = subprocess.run(
        [*launch, *command(work, work / "out", "--loop", "accelerate", "--use_cpu", "--logging_steps", "1")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, capture_output=True, text=True,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    run = check_run(work / "out")
    assert sum("loss" in entry for entry in run["log"]) == 3  # 40 documents, 2 x 8 a step
    assert finished.stdout.count("Saved to") == 1


# ---------------------------------------------------------------------------------------------- config files


def test_the_config_files_are_what_accelerate_takes():
    """Parsed and checked by accelerate itself: no unknown key, and a launch that starts what the file says."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    files = sorted(CONFIGS.glob("*.yaml"))
    assert [path.stem for path in files] == [
        "deepspeed", "fsdp2", "one_gpu", "several_cpu_processes", "several_gpus", "several_nodes",
    ]  # fmt: skip
    readme = (CONFIGS / "README.md").read_text()
    starts = {"deepspeed": "use_deepspeed", "fsdp2": "use_fsdp", "one_gpu": None}
    for path in files:
        assert path.read_text().startswith("# ") and f"`{path.name}`" in readme, path.name
        config = load_config_from_file(str(path))
        assert config.num_processes == yaml.safe_load(path.read_text())["num_processes"]
        options = launch_command_parser().parse_args(["--config_file", str(path), "-m", "hf_htc", "train"])
        options, _, _ = _validate_launch_command(options)
        on = [name for name in ("multi_gpu", "use_fsdp", "use_deepspeed", "use_megatron_lm", "tpu") if getattr(options, name)]
        expected = starts.get(path.stem, "multi_gpu")
        assert on == ([expected] if expected else []), path.name
        known = vars(launch_command_parser().parse_args(["x"]))
        for section in ("fsdp_config", "deepspeed_config"):  # accelerate passes over a misspelt key in these
            assert set(getattr(config, section)) <= set(known), path.name
