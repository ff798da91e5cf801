"""The contract that every method keeps. A new method is tested by one line in `METHODS`."""

import copy

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_models import (
    HIERARCHIES,
    VARIANTS,
    ids_tensor,
    make_batch,
    make_encoder_config,
    make_hierarchy,
    make_label_sets,
    make_model,
    make_texts,
    split_variant,
)
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, pipeline

import hf_htc
from hf_htc import LabelHierarchy
from hf_htc.models.configuration_prompts import PromptConfig
from hf_htc.models.unit_losses import decision_logits


METHODS = [*hf_htc.METHODS, *VARIANTS]
ALL_ENCODERS = ["bert", "roberta", "modernbert", "deberta-v2", "distilbert", "t5", "gpt2", "htc_textrcnn"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture(params=[name for name in METHODS if "TextRCNN" not in name])
def encoderless(request):
    """Methods and variants that a test puts on an encoder of its own."""
    return request.param


@pytest.fixture(params=HIERARCHIES)
def hierarchy(request):
    return make_hierarchy(request.param)


@pytest.fixture
def model(method, hierarchy):
    return make_model(method, hierarchy)


def is_prompted(method):
    """Whether the method puts prompts among the tokens."""
    return issubclass(hf_htc.config_class(split_variant(method)[0]), PromptConfig)


def refuses_text_rcnn(method, encoder, hierarchy):
    """Checks that a method with prompts refuses a TextRCNN; whether this is such a pair."""
    if not (encoder == "htc_textrcnn" and is_prompted(method)):
        return False
    with pytest.raises(StrictDataclassError, match="puts prompts among the tokens"):
        make_model(method, hierarchy, encoder)
    return True


def logits_of(model, batch):
    with torch.no_grad():
        return model(**batch).logits


# ---------------------------------------------------------------------------------------------- saving and loading


@pytest.mark.parametrize("poisoned", [False, True])
def test_save_and_reload_keeps_logits_and_every_buffer(model, tmp_path, monkeypatch, poisoned):
    batch = make_batch()
    expected, buffers = logits_of(model, batch), dict(model.named_buffers())
    model.save_pretrained(tmp_path / "checkpoint")
    if poisoned:
        # What from_pretrained does not fill stays uninitialised; make that visible instead of lucky.
        plain = torch.empty_like

        def poison(*args, **kwargs):
            tensor = plain(*args, **kwargs)
            return tensor if tensor.is_meta else tensor.fill_(float("nan") if tensor.is_floating_point() else 10**6)

        monkeypatch.setattr(torch, "empty_like", poison)
    reloaded = type(model).from_pretrained(tmp_path / "checkpoint").eval()
    monkeypatch.undo()
    assert torch.equal(logits_of(reloaded, batch), expected)
    found = dict(reloaded.named_buffers())
    assert found.keys() == buffers.keys()
    for name, value in buffers.items():
        assert torch.equal(found[name], value), name


def test_config_round_trip(model, tmp_path):
    model.config.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is type(model.config)
    assert config.get_hierarchy() == model.config.get_hierarchy()
    assert config.to_dict().keys() == model.config.to_dict().keys()
    for key, value in model.config.to_diff_dict().items():
        if key not in ("transformers_version", "_name_or_path"):
            assert config.to_diff_dict()[key] == value, key
    again = copy.deepcopy(config)
    assert again.to_json_string() == config.to_json_string()


def test_auto_classes_load_the_checkpoint(model, tmp_path):
    model.save_pretrained(tmp_path)
    for auto_class in (AutoModel, AutoModelForSequenceClassification):
        assert type(auto_class.from_pretrained(tmp_path)) is type(model)


def test_an_interrupted_save_leaves_the_old_checkpoint_loadable(model, tmp_path, monkeypatch):
    folder, batch = tmp_path / "checkpoint", make_batch()
    model.save_pretrained(folder)
    expected = logits_of(model, batch)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(1.0)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    from transformers import modeling_utils

    monkeypatch.setattr(modeling_utils, "safe_save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        changed.save_pretrained(folder)
    monkeypatch.undo()
    assert torch.equal(logits_of(type(model).from_pretrained(folder).eval(), batch), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]  # nothing half-written is left behind


def test_weights_are_moved_before_the_config(model, tmp_path, monkeypatch):
    import os

    model.save_pretrained(tmp_path / "checkpoint")  # a new folder appears as a whole; in one with files they are moved one by one
    moved, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (moved.append(os.path.basename(target)), replace(source, target)))
    model.save_pretrained(tmp_path / "checkpoint")
    placed = [name for name in moved if not name.startswith(".")]
    assert "model.safetensors" in placed and placed[-1] == "config.json"


# ---------------------------------------------------------------------------------------------- independence


@pytest.mark.parametrize("encoder", ALL_ENCODERS)
def test_logits_do_not_depend_on_neighbours_or_padding(encoderless, tree, encoder):
    if refuses_text_rcnn(encoderless, encoder, tree):
        return
    model = make_model(encoderless, tree, encoder)
    pad = model.config.text_config.pad_token_id or 0
    batch = make_batch(low=6)
    batch["input_ids"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, pad)
    expected = logits_of(model, batch)
    assert torch.isfinite(expected).all()
    for row in range(len(expected)):
        length = int(batch["attention_mask"][row].sum())
        alone = {
            "input_ids": batch["input_ids"][row : row + 1, :length],
            "attention_mask": batch["attention_mask"][row : row + 1, :length],
        }
        torch.testing.assert_close(logits_of(model, alone)[0], expected[row], atol=2e-5, rtol=1e-4)
        for side in ("left", "right"):
            sizes = (3, 0) if side == "left" else (0, 3)
            padded = {
                "input_ids": torch.nn.functional.pad(alone["input_ids"], sizes, value=pad),
                "attention_mask": torch.nn.functional.pad(alone["attention_mask"], sizes),
            }
            torch.testing.assert_close(logits_of(model, padded)[0], expected[row], atol=2e-5, rtol=1e-4)
    # The encoder is really read: another text has other logits.
    assert (expected[0] - expected[1]).abs().max() > 1e-4


@pytest.mark.parametrize("pooling", ["cls", "mean", "last", "pooler"])
def test_every_pooling_is_padding_independent(method, tree, pooling):
    reads_tokens = is_prompted(method) or method == "hiagm, LA" or (method.startswith("hidec") and "TextRCNN" not in method)
    if reads_tokens and pooling == "pooler":
        with pytest.raises(StrictDataclassError, match="reads the tokens"):
            make_model(method, tree, pooling=pooling)
        return
    model = make_model(method, tree, pooling=pooling)
    batch = make_batch()
    left = {
        key: torch.stack([row.roll(int((mask == 0).sum())) for row, mask in zip(value, batch["attention_mask"])])
        for key, value in batch.items()
    }
    assert not torch.equal(left["input_ids"], batch["input_ids"])
    torch.testing.assert_close(logits_of(model, left), logits_of(model, batch), atol=2e-5, rtol=1e-4)


def test_eval_logits_never_depend_on_labels(model, hierarchy):
    batch, labels = make_batch(), make_label_sets(hierarchy, 4)
    expected = logits_of(model, batch)
    for row_order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        assert torch.equal(logits_of(model, {**batch, "labels": ids_tensor([labels[i] for i in row_order])}), expected)


# ---------------------------------------------------------------------------------------------- labels and outputs


def test_all_forms_of_labels_agree(model, hierarchy):
    batch, sets = make_batch(), make_label_sets(hierarchy, 4)
    hot = torch.zeros(4, hierarchy.num_labels)
    for row, labels in enumerate(sets):
        hot[row, labels] = 1
    losses = [
        model(**batch, labels=labels).loss for labels in (hot, hot.bool(), hot.half(), ids_tensor(sets), ids_tensor(sets).int())
    ]
    for loss in losses[1:]:
        assert torch.equal(loss, losses[0])
    closed = [i for i in range(hierarchy.num_labels) if hierarchy.is_closed([[i]])]  # alone, without ancestors
    single = torch.tensor([closed[i % len(closed)] for i in range(4)])
    assert torch.equal(model(**batch, labels=single).loss, model(**batch, labels=single.unsqueeze(1)).loss)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda n: torch.ones(4, n, dtype=torch.long), "Multi-hot must be float"),
        (lambda n: torch.tensor([[0, n]] * 4), "the id"),
        (lambda n: torch.tensor([[0, -1]] * 4), "the id -1"),
        (lambda n: torch.zeros(4, n + 1), r"expected \(B, "),
        (lambda n: torch.full((4, n), 2.0), r"outside \[0, 1\]"),
        (lambda n: torch.full((4, n), float("nan")), "NaN"),
    ],
)
def test_wrong_labels_are_refused(model, hierarchy, labels, message):
    with pytest.raises(ValueError, match=message):
        model(**make_batch(), labels=labels(hierarchy.num_labels))


def test_labels_of_another_type_are_refused(model):
    with pytest.raises(TypeError, match="give a tensor"):
        model(**make_batch(), labels=[[0]])


def test_tuple_output_equals_the_dataclass(model, hierarchy):
    batch = {**make_batch(), "labels": ids_tensor(make_label_sets(hierarchy, 4))}
    output, parts = model(**batch), model(**batch, return_dict=False)
    assert torch.equal(parts[0], output.loss) and torch.equal(parts[1], output.logits)
    assert output.logits.dtype == torch.float32 and output.logits.shape == (4, hierarchy.num_labels)
    torch.testing.assert_close(output.loss, sum(output.losses.values()))
    assert len(model(**batch, output_hidden_states=True).hidden_states) == model.config.text_config.num_hidden_layers + 1


def test_loss_is_a_mean_over_documents(model, hierarchy):
    batch, labels = make_batch(), ids_tensor(make_label_sets(hierarchy, 4))
    whole = model(**batch, labels=labels).loss
    single = [model(**{k: v[i : i + 1] for k, v in batch.items()}, labels=labels[i : i + 1]).loss for i in range(4)]
    torch.testing.assert_close(torch.stack(single).mean(), whole)


def test_no_input_is_refused(model):
    with pytest.raises(ValueError, match="Give either `input_ids` or `inputs_embeds`"):
        model()


def test_inputs_embeds_give_the_same_logits(model):
    batch = make_batch()
    embeds = model.get_input_embeddings()(batch["input_ids"])
    torch.testing.assert_close(
        logits_of(model, {"inputs_embeds": embeds, "attention_mask": batch["attention_mask"]}), logits_of(model, batch)
    )


# ---------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("encoder", ALL_ENCODERS)
def test_every_parameter_gets_a_gradient_and_changes(encoderless, dag, encoder):
    if refuses_text_rcnn(encoderless, encoder, dag):
        return
    model = make_model(encoderless, dag, encoder).train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    seen = dict.fromkeys(before, False)
    torch.manual_seed(0)
    for step in range(3):
        batch = make_batch(8, 12, seed=step, low=5)
        if encoder in ("bert", "roberta"):
            batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
        loss = model(**batch, labels=ids_tensor(make_label_sets(dag, 8, seed=step))).loss
        assert torch.isfinite(loss)
        loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            seen[name] |= bool((parameter.grad != 0).any())
        optimizer.step()
        optimizer.zero_grad()
    assert all(seen.values()), [name for name, value in seen.items() if not value]
    after = dict(model.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_training_fits_a_few_documents(method, tree):
    model = make_model(method, tree).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):  # half of six numbers a node would be noise rather than a lesson
            module.p = min(module.p, 0.1)
    batch, sets = make_batch(8, 12), make_label_sets(tree, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    torch.manual_seed(0)
    for _ in range(200):
        model(**batch, labels=ids_tensor(sets)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    predicted = [(row > 0).nonzero().flatten().tolist() for row in logits_of(model.eval(), batch)]
    assert predicted == [sorted(row) for row in sets]


def test_label_statistics_start_the_logits_at_the_prior(method, tree):
    sets = make_label_sets(tree, 200)
    model = make_model(method, tree, statistics=False)
    model.set_label_statistics(sets)
    assert model.config.label_counts == [sum(i in row for row in sets) for i in range(tree.num_labels)]
    assert model.config.num_train_documents == 200 and model.config.label_closure == "closed"
    bias = model.classifier.out_proj.bias if method.startswith("flat") else model.classifier.out_bias
    share = (torch.tensor(model.config.label_counts) + 0.5) / 201
    share = share.mean(0, keepdim=True) if len(bias) == 1 else share  # one bias for all labels
    if method.startswith("hidec"):  # one a child and parent, and one a [END]: the share among the documents of the parent
        share = torch.tensor(shares_below_parents(tree, sets))
    score = decision_logits(model.config, bias) if hasattr(model.config, "unit_loss") else bias
    torch.testing.assert_close(torch.sigmoid(score), share, atol=1e-6, rtol=1e-5)
    if model.config.coherence == "none":
        model.set_label_statistics([[2]])
        assert model.config.label_closure == "as_given"
    with pytest.raises(ValueError, match="no documents"):
        model.set_label_statistics([])


def shares_below_parents(tree, sets):
    """Of a tree of labels: for the root and every inner label, the children's shares of its documents, then of its own."""
    rows = []
    for node in [-1, *range(tree.num_nodes)]:
        children = tree.top_nodes if node < 0 else tree.children[node]
        total = len(sets) if node < 0 else sum(node in row for row in sets)
        ends = [node] if node >= 0 and children else []
        rows += [(sum(child in row for row in sets) + 0.5) / (total + 1) for child in children + ends]
    return rows


def test_bfloat16_weights(model, tmp_path, hierarchy):
    batch = make_batch()
    expected = logits_of(model, batch)
    model.save_pretrained(tmp_path)
    half = type(model).from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert half.classifier is not None and next(half.parameters()).dtype == torch.bfloat16
    output = half(**batch, labels=ids_tensor(make_label_sets(hierarchy, 4)))
    assert output.logits.dtype == torch.float32 and output.loss.dtype == torch.float32
    torch.testing.assert_close(output.logits, expected, atol=0.15, rtol=0.1)


def test_autocast_gives_float32_logits_and_gradients(model, hierarchy):
    batch = {**make_batch(), "labels": ids_tensor(make_label_sets(hierarchy, 4))}
    expected = model(**batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**batch)
    assert output.logits.dtype == torch.float32
    torch.testing.assert_close(output.logits, expected.logits, atol=0.15, rtol=0.1)
    model.train()  # in eval mode, what only training needs has no gradient
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**batch)
    assert output.loss.dtype == torch.float32
    output.loss.backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())


def test_activation_checkpointing_gives_the_same_gradients(model, hierarchy):
    batch = {**make_batch(), "labels": ids_tensor(make_label_sets(hierarchy, 4))}
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "is_random"):  # labels are drawn anew at every call
            module.is_random = False
    model.train()

    def gradients():
        model.zero_grad()
        model(**batch).loss.backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    expected = gradients()
    if model.config.text_config.model_type == "htc_textrcnn":
        with pytest.raises(ValueError, match="gradient checkpointing"):
            model.gradient_checkpointing_enable()
        return
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    for name, value in gradients().items():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_unused_training_parts_do_not_change_eval(model):
    batch = make_batch()
    assert torch.equal(logits_of(model, batch), logits_of(model, batch))  # nothing is drawn in eval mode
    model.train()
    assert not torch.equal(logits_of(model, batch), logits_of(model, batch))  # dropout is really there in training


# ---------------------------------------------------------------------------------------------- export and pipelines


def test_export_with_dynamic_shapes(model):
    batch = make_batch()
    longest = min(30, model.config.max_text_length or 30)
    size, length = torch.export.Dim("batch", min=2, max=16), torch.export.Dim("length", min=2, max=longest)
    others = [batch, make_batch(3, 14, seed=1), make_batch(6, 8, seed=2)]
    shape = {0: size, 1: length}
    if not getattr(model.model, "supports_dynamic_length", True):  # a recurrent encoder is written out word by word
        shape, others = {0: size}, [batch, make_batch(3, 9, seed=1), make_batch(6, 9, seed=2)]
    shapes = {"input_ids": shape, "attention_mask": shape}
    exported = torch.export.export(model, (), kwargs=batch, dynamic_shapes=shapes).module()
    for other in others:
        torch.testing.assert_close(exported(**other).logits, logits_of(model, other), atol=1e-5, rtol=1e-5)


def test_stock_text_classification_pipeline(model, tokenizer):
    texts = make_texts(3)
    results = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)(texts)
    for text, result in zip(texts, results):
        scores = torch.sigmoid(logits_of(model, tokenizer(text, return_tensors="pt"))[0])
        assert {row["label"] for row in result} == set(model.config.get_hierarchy().label_names)
        for row in result:
            assert abs(row["score"] - float(scores[model.config.label2id[row["label"]]])) < 1e-5


# ---------------------------------------------------------------------------------------------- hierarchies of every shape


@pytest.mark.parametrize(
    "shape",
    [
        LabelHierarchy(["only"], [[]]),
        LabelHierarchy(["a", "b", "c"], [[], [], []]),
        LabelHierarchy(["leaf", "top", "middle"], [[2], [], [1]], num_labels=1),
    ],
    ids=["one label", "no edges", "one label under structure-only nodes"],
)
def test_small_shapes_of_hierarchies(method, shape, tmp_path):
    model = make_model(method, shape)
    batch = make_batch()
    output = model(**batch, labels=torch.zeros(4, shape.num_labels))
    output.loss.backward()
    assert torch.isfinite(output.logits).all() and torch.isfinite(output.loss)
    model.save_pretrained(tmp_path)
    reloaded = type(model).from_pretrained(tmp_path).eval()
    for parameter in reloaded.parameters():  # a file's weights lie unaligned, and a product's last digit depends on it
        parameter.data = parameter.data.clone()
    assert torch.equal(logits_of(reloaded, batch), output.logits.detach())


def test_thirty_thousand_labels(method):
    number = 30_000
    hierarchy = LabelHierarchy([f"label {i}" for i in range(number)], [[] if i < 20 else [i // 8] for i in range(number)])
    method, encoder, options = split_variant(method)
    changes = {"hidden_size": 8} if encoder == "bert" else {"num_filters": 2}
    options = {**options, "node_dim": 8} if "node_dim" in options else options
    if options.get("branch_output") == "masking":  # as many outputs in each of 20 branches as there are labels
        with pytest.raises(StrictDataclassError, match="would have 7,200,000,000 parameters; use `branch_output='projection'`"):
            hf_htc.config_class(method)(text_config=make_encoder_config(), hierarchy=hierarchy, **options)
        return
    config = hf_htc.config_class(method)(text_config=make_encoder_config(encoder, **changes), hierarchy=hierarchy, **options)
    model = hf_htc.model_class(method)(config)
    model.set_label_statistics(hierarchy.close([[i] for i in range(number)]))
    size = sum(parameter.numel() for parameter in model.parameters())
    assert size < number * 8 * 20  # linear in the labels
    loss = model(**make_batch(), labels=ids_tensor(hierarchy.close([[1, 29_999], [5], [17, 3], [0]]))).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert len(model.eval().predict("the match", _WordTokenizer(), top_k=3)["labels"]) == 3


class _WordTokenizer:
    """The least that `predict` needs of a tokenizer."""

    def __call__(self, texts, **kwargs):
        from transformers import BatchEncoding

        return BatchEncoding(
            {"input_ids": torch.full((len(texts), 4), 7), "attention_mask": torch.ones(len(texts), 4, dtype=torch.long)}
        )


# ---------------------------------------------------------------------------------------------- LoRA


def test_lora_trains_saves_and_merges_the_head(method, tree, tmp_path):
    from peft import PeftModel

    from hf_htc.training.lora import add_lora

    model = make_model(method, tree)
    if "TextRCNN" in method:
        with pytest.raises(ValueError, match="htc_textrcnn encoder has no linear layers for LoRA"):
            add_lora(model, rank=4)
        return
    start = copy.deepcopy(model)
    wrapped = add_lora(model, rank=4)
    head = {name for name, parameter in wrapped.named_parameters() if parameter.requires_grad and "classifier" in name}
    assert len(head) == len(list(start.classifier.parameters()))  # the whole head is trained
    encoder = [name for name, parameter in wrapped.named_parameters() if parameter.requires_grad and "classifier" not in name]
    assert encoder and all("lora_" in name for name in encoder)
    before = {name: parameter.detach().clone() for name, parameter in wrapped.named_parameters()}
    optimizer = torch.optim.Adam([p for p in wrapped.parameters() if p.requires_grad], lr=1e-2)
    wrapped.train()
    for step in range(3):
        wrapped(**make_batch(seed=step), labels=ids_tensor(make_label_sets(tree, 4, seed=step))).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, parameter in wrapped.named_parameters():
        if "original_module" not in name:
            assert torch.equal(before[name], parameter.detach()) != parameter.requires_grad, name
    wrapped.eval()
    batch = make_batch(seed=9)
    expected = logits_of(wrapped, batch)
    wrapped.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(start, tmp_path / "adapter").eval()
    torch.testing.assert_close(logits_of(loaded, batch), expected, atol=1e-5, rtol=1e-5)
    merged = loaded.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(
        logits_of(type(start).from_pretrained(tmp_path / "merged").eval(), batch), expected, atol=1e-5, rtol=1e-4
    )
