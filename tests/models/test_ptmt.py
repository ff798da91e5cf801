"""PTMTTaxoFormer against plain loops: where everything stands, scores, losses, pruning, one label a level; its toy example."""

import copy
import logging

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_models import (
    WORDS,
    ids_tensor,
    make_batch,
    make_dag,
    make_encoder_config,
    make_label_sets,
    make_model,
    make_texts,
    make_tokenizer,
    make_tree,
)
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

from hf_htc import LabelHierarchy, PTMTTaxoFormerForHierarchicalTextClassification


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def make_ptmt(hierarchy=None, encoder=None, **options):
    return make_model("ptmt", hierarchy or make_tree(), encoder, **options)


def without_dropout(model, is_random=True):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model.classifier.mlm.is_random = is_random
    return model


def seen_embeds(model, batch, **more):
    """What the encoder is given, `(B, T + P, E)`, and its mask."""
    seen = {}

    def look(module, args, kwargs):
        seen.update(kwargs)

    hook = model.model.register_forward_pre_hook(look, with_kwargs=True)
    output = model(**batch, **more)
    hook.remove()
    return seen["inputs_embeds"], seen["attention_mask"], output


def hot(sets, number):
    targets = torch.zeros(len(sets), number)
    for row, labels in enumerate(sets):
        targets[row, list(labels)] = 1
    return targets


# ---------------------------------------------------------------------------------------------- what stands behind the text


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("template", ["section", "appendix"])
def test_positions_of_prompts_slots_and_separator(template, side):
    model = make_ptmt(prompt_template=template, num_prompts=2)
    batch, head = make_batch(), model.classifier
    if side == "left":
        shifts = (batch["attention_mask"] == 0).sum(1).tolist()
        batch = {key: torch.stack([row.roll(n) for row, n in zip(value, shifts)]) for key, value in batch.items()}
    embeds, mask, _ = seen_embeds(model, batch)
    slots, end = [head.mask] * 3, [head.separator]
    behind = [*head.prompts, *slots, *end] if template == "section" else [*head.prompts, *end, *slots]
    assert model.config.num_prompt_tokens == len(behind) == 6 and model.config.max_text_length == 32 - 6
    for row in range(4):
        words = batch["input_ids"][row][batch["attention_mask"][row] > 0]
        expected = torch.cat([model.get_input_embeddings()(words), torch.stack(behind)])
        assert torch.equal(embeds[row, : len(expected)], expected)
        assert mask[row].tolist() == [1] * len(expected) + [0] * (mask.shape[1] - len(expected))


def test_a_decoder_gets_a_separator_only_where_it_is_read():
    section, appendix = (make_ptmt(encoder="gpt2", prompt_template=template) for template in ("section", "appendix"))
    assert section.classifier.separator is None and section.config.num_prompt_tokens == 5 + 3
    assert appendix.classifier.separator is not None and appendix.config.num_prompt_tokens == 5 + 1 + 3


def toy():
    """Figure 4 of the paper: C has no label on levels 2 and 3 but CA."""
    return LabelHierarchy.from_paths(
        ["A/AA/AAA", "A/AB", "A/AC", "B/BA", "B/BB", "B/BC", "C/CA"], labels=None
    )  # fmt: skip


def test_toy_example_learns_labels_that_stop_at_the_first_level():
    hierarchy, slots = toy(), 3
    assert hierarchy.num_levels == slots and [len(unit) for unit in hierarchy.level_units()] == [3, 7, 1]
    model = without_dropout(make_ptmt(hierarchy, prompt_template="appendix", num_prompts=3, statistics=False)).train()
    sets = hierarchy.encode([["A", "A/AA", "A/AA/AAA"], ["C"]])
    model.set_label_statistics(sets)
    tokens = {"input_ids": torch.tensor([[17, 18, 19], [28, 29, 30]]), "attention_mask": torch.ones(2, 3, dtype=torch.long)}
    embeds, _, _ = seen_embeds(model.eval(), tokens)
    assert embeds.shape[1] == 3 + 3 + 1 + 3  # MNO [P_1] [P_2] [P_3] [SEP] [MASK] [MASK] [MASK]; the tokenizer adds a [SEP]
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-2)
    torch.manual_seed(0)
    for _ in range(60):
        model(**tokens, labels=ids_tensor(sets)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        predicted = (model.eval()(**tokens).logits > 0).nonzero().tolist()
    assert predicted == [[row, label] for row, labels in enumerate(sets) for label in sorted(labels)]


# ---------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("bert", {}),
        ("bert", {"use_mlm_transform": False, "prompt_template": "appendix"}),
        ("roberta", {"unit_loss": "hbm"}),
        ("t5", {"unit_loss": "zlpr"}),
        ("gpt2", {}),
        ("deberta-v2", {"state_scale": 0.5, "unit_loss": "bce"}),
    ],
)
@pytest.mark.parametrize("make", [make_tree, make_dag])
def test_scores_by_loops(make, encoder, options):
    hierarchy = make()
    model = make_ptmt(hierarchy, encoder, prune=False, **options)
    head, batch = model.classifier, make_batch(low=6)
    if head.bounds is not None:
        nn.init.normal_(head.bounds.out.weight)
    with torch.no_grad():
        output = model(**batch, output_hidden_states=True)
        # The last of the hidden states comes before the last norm in some encoders: the states themselves.
        embeds, mask, _ = seen_embeds(model, batch)
        states = model.model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
        states = states * (16**-0.5 if encoder in ("t5", "gpt2") else options.get("state_scale", 1))
        expected = torch.empty(4, hierarchy.num_labels)
        for row in range(4):
            first = int(batch["attention_mask"][row].sum()) + 5 + (options.get("prompt_template") == "appendix")
            for label in range(hierarchy.num_labels):
                state = states[row, first + hierarchy.levels[label] - 1]
                state = state if options.get("use_mlm_transform") is False else head.mlm(state)
                score = sum(state[k] * head.label_tokens[label, k] for k in range(16)) + head.out_bias[label]
                bound = 0 if head.bounds is None else head.bounds(state)
                expected[row, label] = 2 * (score - bound) if options.get("unit_loss") in ("hbm", "zlpr") else score
    torch.testing.assert_close(output.logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["electra", "albert", "bart"])
def test_other_encoders(kind):
    small = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 1, "embedding_size": 8}
    if kind == "bart":
        small = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
                 "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}  # fmt: skip
    text_config = AutoConfig.for_model(kind, vocab_size=len(WORDS) + 8, max_position_embeddings=32, **small)
    model = make_ptmt(encoder=text_config)
    assert model.classifier.label_tokens.shape == (13, 16 if kind == "bart" else 8)
    output = model.train()(**make_batch(low=6), labels=ids_tensor(make_label_sets(make_tree(), 4)))
    output.loss.backward()
    assert torch.isfinite(output.loss) and all(p.grad is not None for p in model.parameters())
    if kind != "bart":
        with pytest.raises(StrictDataclassError, match="have 16 dimensions, with label tokens of 8"):
            make_ptmt(encoder=text_config, use_mlm_transform=False)


# ---------------------------------------------------------------------------------------------- starting from words


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(1)
    AutoModelForMaskedLM.from_config(make_encoder_config(initializer_range=0.2)).save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def build(encoder, hierarchy=None, tokenizer=None, **options):
    return PTMTTaxoFormerForHierarchicalTextClassification.from_text_encoder(
        encoder, hierarchy=hierarchy or make_tree(), tokenizer=tokenizer or make_tokenizer(), **options
    ).eval()


def test_vectors_begin_as_words(encoder):
    names = ["match goal", "vote", "xyz", "tax"]
    hierarchy = LabelHierarchy(names, [[], [0], [], []], num_labels=3)
    model, tokenizer = build(encoder, hierarchy, num_prompts=6), make_tokenizer()
    head, words = model.classifier, model.get_input_embeddings().weight
    assert model.config.mlm_head == "pretrained" and model.config.max_text_length == 32 - 6 - 2 - 1 == 23
    assert torch.equal(head.mask, words[tokenizer.mask_token_id]) and torch.equal(head.separator, words[tokenizer.sep_token_id])
    ids = tokenizer(["match", "goal", "vote"], add_special_tokens=False)["input_ids"]
    match, goal, vote = (words[i[0]] for i in ids)
    expected = torch.stack([(match + goal) / 2, vote, words[tokenizer.unk_token_id]])
    torch.testing.assert_close(head.label_tokens, expected)
    drawn = (head.prompts.unsqueeze(1) == words).all(-1)  # (prompts, words)
    assert drawn.any(1).all() and not drawn[:, sorted(tokenizer.all_special_ids)].any()
    normal = build(encoder, hierarchy, prompt_init="normal", label_init="random").classifier
    assert not (normal.prompts.unsqueeze(1) == words).all(-1).any() and 0.005 < normal.label_tokens.std() < 0.05


def test_vectors_of_a_tokenizer_without_mask_and_separator(tmp_path, caplog):
    AutoModel.from_config(make_encoder_config("t5")).save_pretrained(tmp_path)
    tokenizer = make_tokenizer()
    tokenizer.mask_token = tokenizer.sep_token = None
    tokenizer.eos_token = "cheese"
    with caplog.at_level(logging.WARNING):
        model = build(tmp_path, tokenizer=tokenizer)
    words = model.get_input_embeddings().weight
    torch.testing.assert_close(model.classifier.mask, words.mean(0))
    assert torch.equal(model.classifier.separator, words[tokenizer.eos_token_id])
    assert model.config.mlm_head == "identity" and "brings no masked language modelling head" in caplog.text
    tokenizer.eos_token = None
    assert torch.isfinite(build(tmp_path, tokenizer=tokenizer).classifier.separator).all()


def test_frozen_label_tokens_do_not_change(encoder, tmp_path):
    model = build(encoder, train_label_tokens=False).train()
    assert "label_tokens" not in dict(model.classifier.named_parameters())
    before = model.classifier.label_tokens.clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    model(**make_batch(), labels=ids_tensor(make_label_sets(make_tree(), 4))).loss.backward()
    optimizer.step()
    assert torch.equal(model.classifier.label_tokens, before)
    model.save_pretrained(tmp_path / "model")
    again = type(model).from_pretrained(tmp_path / "model")
    assert torch.equal(again.classifier.label_tokens, before)


# ---------------------------------------------------------------------------------------------- losses


def plain_losses(config, hierarchy, scores, targets, masked=None):
    """Eq. 1 to 3 without the masked words, `scores (B, N)` being logits; `masked (B, L)`: slots that count."""
    wasl = l1 = 0.0
    last = hierarchy.num_levels
    for row in range(len(targets)):
        surplus = []
        for level in range(1, last + 1):
            if masked is not None and not masked[row, level - 1]:
                continue
            difference = 0.0
            for label in range(hierarchy.num_labels):
                if hierarchy.levels[label] != level:
                    continue
                p = torch.sigmoid(scores[row, label])
                shifted = torch.clamp(p - config.asl_margin, min=0)
                if targets[row, label]:
                    weight = 1 + (level - 1) / (last - 1)
                    wasl -= weight * (1 - p) ** config.asl_gamma_positive * torch.log(p)
                else:
                    wasl -= shifted**config.asl_gamma_negative * torch.log(1 - shifted)
                difference = difference + p - targets[row, label]
            surplus.append(difference)
        l1 += sum(abs(d) for d in surplus) if config.l1_scope == "level" else abs(sum(surplus))
    weight = (1 - config.mlm_alpha) / len(targets)
    return {"wasl": weight * wasl, "l1": weight * config.l1_weight * l1}


@pytest.mark.parametrize(
    "options", [{}, {"l1_scope": "document", "l1_weight": 0.3, "asl_gamma_positive": 2, "mlm_alpha": 0.9, "asl_margin": 0.02}]
)
@pytest.mark.parametrize("make", [make_tree, make_dag])
def test_losses_by_loops(make, options):
    hierarchy = make()
    model = make_ptmt(hierarchy, prune=False, **options)
    sets = [*make_label_sets(hierarchy, 3), []]
    output = model(**make_batch(), labels=hot(sets, hierarchy.num_labels))
    expected = plain_losses(model.config, hierarchy, output.logits, hot(sets, hierarchy.num_labels))
    assert output.losses.keys() == expected.keys()  # nothing is masked in eval mode
    for name, value in expected.items():
        torch.testing.assert_close(output.losses[name], value, msg=name)
    torch.testing.assert_close(output.loss, sum(expected.values()))


def test_masked_words_are_guessed_in_training():
    model = without_dropout(make_ptmt(), is_random=False).train()
    batch, sets = make_batch(), make_label_sets(make_tree(), 4)
    model.config.special_token_ids = [0, 7]
    embeds, mask, output = seen_embeds(model, batch, labels=ids_tensor(sets))
    head, words = model.classifier.mlm, model.get_input_embeddings().weight
    states = model.model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
    total = 0.0
    for row in range(4):
        values = []
        for place in range(int(batch["attention_mask"][row].sum())):
            word = int(batch["input_ids"][row, place])
            if word != 7 and place % 7 == 3:  # every seventh word, where nothing is drawn
                logits = words @ head(states[row, place]) + head.bias
                values.append(torch.logsumexp(logits, 0) - logits[word])
        total += sum(values) / max(1, len(values)) / 4
    torch.testing.assert_close(output.losses["mlm"], 0.7 * total)
    torch.testing.assert_close(output.loss, sum(output.losses.values()))
    assert set(output.losses) == {"mlm", "wasl", "l1"}

    model.config.mlm_classes = "words_and_labels"
    more = model(**batch, labels=ids_tensor(sets)).losses["mlm"]
    assert more > output.losses["mlm"]  # more classes to tell a word from
    given = {"inputs_embeds": model.get_input_embeddings()(batch["input_ids"]), "attention_mask": batch["attention_mask"]}
    assert set(model(**given, labels=ids_tensor(sets)).losses) == {"wasl", "l1"}


def test_words_are_masked_in_place_whatever_the_padding():
    model = without_dropout(make_ptmt(mlm_probability=0.5, label_mask_probability=1.0)).train()
    batch, sets = make_batch(low=6), make_label_sets(make_tree(), 4)
    left = {
        key: torch.stack([row.roll(int((mask == 0).sum())) for row, mask in zip(value, batch["attention_mask"])])
        for key, value in batch.items()
    }
    found = []
    for one in (batch, left):
        torch.manual_seed(5)
        found.append(seen_embeds(model, one, labels=ids_tensor(sets)))
    assert torch.equal(found[0][0][found[0][1] > 0], found[1][0][found[1][1] > 0])
    torch.testing.assert_close(found[0][2].loss, found[1][2].loss)
    plain = model.get_input_embeddings()(batch["input_ids"])
    changed = (found[0][0][:, :9] != plain).any(-1) & (batch["attention_mask"] > 0)
    assert 0.2 < changed.float().mean() < 0.6
    assert (found[0][0][:, :9] == model.classifier.mask).all(-1).any()
    assert not seen_embeds(model, batch)[0][:, :9].ne(plain).any(-1)[batch["attention_mask"] > 0].any()  # no labels, no loss


@pytest.mark.parametrize("slots", ["masked", "all"])
def test_slots_hold_gold_tokens_now_and_then(slots):
    hierarchy = make_tree()
    model = without_dropout(make_ptmt(label_mask_probability=0.5, wasl_slots=slots, mlm_alpha=0, prune=False)).train()
    batch, head = make_batch(), model.classifier
    sets = [hierarchy.close([[0, 7, 11]])[0], [0], [], hierarchy.close([[12], [3]])[0]]
    targets = hot(sets, 13)
    count = kept = 0
    torch.manual_seed(0)
    for _ in range(30):
        embeds, _, output = seen_embeds(model, batch, labels=targets)
        masked = torch.ones(4, 3, dtype=torch.bool)
        for row, labels in enumerate(sets):
            first = int(batch["attention_mask"][row].sum()) + 5
            for level in range(3):
                gold = [label for label in labels if hierarchy.levels[label] == level + 1]
                if torch.equal(embeds[row, first + level], head.mask):
                    kept += bool(gold)
                else:
                    masked[row, level] = False
                    mean = sum(head.label_tokens[label] for label in gold) / len(gold)
                    torch.testing.assert_close(embeds[row, first + level], mean)
                count += bool(gold)
        # Scores of the slots as they were.
        expected = plain_losses(model.config, hierarchy, output.logits, targets, masked if slots == "masked" else None)
        for name, value in expected.items():
            torch.testing.assert_close(output.losses[name], torch.as_tensor(value), msg=name)
    assert 0.35 < kept / count < 0.65


def test_hbm_bounds_follow_the_slots_that_count():
    hierarchy = make_tree()
    model = without_dropout(make_ptmt(unit_loss="hbm", label_mask_probability=0.5, mlm_alpha=0, prune=False)).train()
    nn.init.normal_(model.classifier.bounds.out.weight)
    states, targets = torch.randn(4, 3, 16), hot(make_label_sets(hierarchy, 4), 13)
    found = model.classifier(states)
    masked = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)
    whole = model.classification_losses(found, targets, masked)["hbm"]
    total = torch.tensor(0.0)
    for row in range(4):
        levels = masked[row].nonzero().flatten().tolist()
        for level in levels:  # a document of this level alone, and the mean over its levels
            one = torch.zeros(1, 3, dtype=torch.bool)
            one[0, level] = True
            part = model.classifier(states[row : row + 1])
            total = total + model.classification_losses(part, targets[row : row + 1], one)["hbm"] / len(levels) / 4
    torch.testing.assert_close(whole, total)


def test_bce_is_a_sum_as_wasl_is():
    model = make_ptmt(unit_loss="bce", prune=False, l1_weight=0)
    targets = hot(make_label_sets(make_tree(), 4), 13)
    output = model(**make_batch(), labels=targets)
    expected = nn.functional.binary_cross_entropy_with_logits(output.logits, targets, reduction="sum") / 4
    torch.testing.assert_close(output.losses, {"bce": (1 - 0.7) * expected})


@pytest.mark.parametrize("unit_loss", ["asl", "zlpr"])
def test_other_losses_have_their_name(unit_loss):
    output = make_ptmt(unit_loss=unit_loss)(**make_batch(), labels=ids_tensor(make_label_sets(make_tree(), 4)))
    assert set(output.losses) == {unit_loss, "l1"}


def test_without_masked_words_there_are_no_parameters_for_them():
    names = {name for name, _ in make_ptmt().classifier.named_parameters()}
    without = {name for name, _ in make_ptmt(mlm_alpha=0).classifier.named_parameters()}
    assert names - without == {"mlm.bias"}
    plain = make_ptmt(mlm_alpha=0, use_mlm_transform=False)
    assert not any(name.startswith("mlm.") for name, _ in plain.classifier.named_parameters())
    output = plain.train()(**make_batch(), labels=ids_tensor(make_label_sets(make_tree(), 4)))
    output.loss.backward()
    assert set(output.losses) == {"wasl", "l1"} and all(p.grad is not None for p in plain.parameters())


def test_nothing_is_drawn_in_eval_mode(monkeypatch):
    model, labels = make_ptmt(label_mask_probability=0.1), ids_tensor(make_label_sets(make_tree(), 4))
    batch = make_batch()

    def drawn(*args, **kwargs):
        raise AssertionError("a random number was drawn")

    for name in ("rand", "randint", "randn", "bernoulli"):
        monkeypatch.setattr(torch, name, drawn)
    embeds, _, output = seen_embeds(model, batch, labels=labels)
    assert torch.equal(embeds[0, 9 + 5 : 9 + 8], model.classifier.mask.expand(3, -1))  # all slots are masked
    assert torch.isfinite(output.loss)
    with pytest.raises(AssertionError, match="was drawn"):
        model.train()(**batch, labels=labels)


# ---------------------------------------------------------------------------------------------- pruning


def test_pruning_follows_the_training_labels():
    tree, batch = make_tree(), make_batch()
    model = make_ptmt(statistics=False)
    with torch.no_grad():
        model.classifier.out_bias.normal_(std=3, generator=torch.Generator().manual_seed(0))
        bare = model(**batch).logits
        pruned = model.classifier.pruning(bare)
        assert model.config.label_closure == "as_given" and not torch.equal(bare, pruned)
        for prune, closure, expected in (
            ("auto", "closed", pruned), ("auto", "as_given", bare), (True, "as_given", pruned), (False, "closed", bare),
        ):  # fmt: skip
            model.config.prune, model.config.label_closure = prune, closure
            assert torch.equal(model(**batch).logits, expected)
        # The loss is that of the scores before pruning.
        labels = ids_tensor(make_label_sets(tree, 4))
        losses = []
        for prune in (True, False):
            model.config.prune = prune
            losses.append(model(**batch, labels=labels).loss)
        assert losses[0] == losses[1]


def test_coherence_comes_on_top():
    hierarchy = make_dag()
    model = make_ptmt(hierarchy, coherence="decoder", prune=True)
    with torch.no_grad():
        model.classifier.out_bias[hierarchy.id("tax")] = 10  # below economy, which holds, and politics, which does not
        model.classifier.out_bias[hierarchy.id("economy")] = 10
        model.classifier.out_bias[hierarchy.id("politics")] = -10
        logits = model(**make_batch()).logits
        model.coherence, cohere = None, model.coherence
        bare = model(**make_batch()).logits
    assert torch.equal(logits, cohere(bare)) and not torch.equal(logits, bare)


# ---------------------------------------------------------------------------------------------- one label a level


SINGLE = [[0, 1, 2], [7], [0, 4], []]  # whole path, first level, second level, nothing


def test_single_label_logits_and_losses_by_loops():
    hierarchy = make_tree()
    for options in ({}, {"unit_loss": "asl"}):
        model = make_ptmt(level_problem="single_label", prune=False, **options)
        nn.init.normal_(model.classifier.none_tokens, std=0.2)
        targets = hot(hierarchy.close(SINGLE), 13)
        output = model(**make_batch(), labels=targets)
        embeds, mask, _ = seen_embeds(model, make_batch())
        states = model.model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
        head, smooth = model.classifier, 0.1
        main = l1 = 0.0
        for row in range(4):
            first = int(make_batch()["attention_mask"][row].sum()) + 5
            for level, unit in enumerate(hierarchy.level_units()):
                h = head.mlm(states[row, first + level])
                scores = [h @ head.label_tokens[n] + head.out_bias[n] for n in unit]
                scores.append(h @ head.none_tokens[level] + head.none_bias[level])
                for place, label in enumerate(unit):
                    best = max(score for k, score in enumerate(scores) if k != place)
                    torch.testing.assert_close(output.logits[row, label], scores[place] - best, atol=1e-5, rtol=1e-5)
                log_p = torch.log_softmax(torch.stack(scores), 0)
                gold = next((k for k, n in enumerate(unit) if targets[row, n]), len(unit))
                if options:
                    p = log_p.exp()
                    wanted = torch.full((len(scores),), smooth / len(scores))
                    wanted[gold] += 1 - smooth
                    factor = p**4
                    factor[gold] = 1 - p[gold]
                    main -= (wanted * factor * log_p).sum()
                else:
                    main -= log_p[gold]
                l1 += abs(log_p.exp()[:-1].sum() - int(gold < len(unit)))
        name = "asl" if options else "cross_entropy"
        expected = {name: 0.3 * main / 3 / 4, "l1": 0.3 * l1 / 4}
        torch.testing.assert_close(output.losses, expected, atol=1e-5, rtol=1e-5)
        assert ((output.logits > 0).float() @ nn.functional.one_hot(torch.as_tensor(hierarchy.levels - 1)).float()).max() <= 1


def test_single_label_starts_at_the_shares_and_learns_where_documents_stop():
    hierarchy = make_tree()
    sets = hierarchy.close(SINGLE)
    model = without_dropout(make_ptmt(level_problem="single_label", statistics=False)).train()
    model.set_label_statistics(sets)
    for level, unit in enumerate(hierarchy.level_units()):
        none = sum(not set(unit) & set(row) for row in sets)
        bias = torch.cat([model.classifier.out_bias[unit.tolist()], model.classifier.none_bias[level : level + 1]])
        shares = torch.tensor([*(sum(n in row for row in sets) + 0.5 for n in unit), none + 0.5])
        torch.testing.assert_close(bias.softmax(0), shares / shares.sum())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    torch.manual_seed(0)
    for _ in range(80):
        model(**make_batch(), labels=hot(sets, 13)).loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        logits = model.eval()(**make_batch()).logits
    assert [(row > 0).nonzero().flatten().tolist() for row in logits] == [sorted(row) for row in sets]


def test_single_label_refuses_two_labels_on_a_level():
    model = make_ptmt(level_problem="single_label")
    with pytest.raises(ValueError, match="Document 1 of the batch has 2 labels on level 2; `level_problem='single_label'` takes"):
        model(**make_batch(2), labels=hot(make_tree().close([[0], [1, 4]]), 13))


def test_single_label_exports_and_reloads(tmp_path):
    model, batch = make_ptmt(make_dag(), level_problem="single_label"), make_batch()
    size = torch.export.Dim("batch", min=2, max=16)
    exported = torch.export.export(model, (), kwargs=batch, dynamic_shapes=dict.fromkeys(batch, {0: size})).module()
    other = make_batch(3, seed=2)
    with torch.no_grad():
        torch.testing.assert_close(exported(**other).logits, model(**other).logits)
        model.save_pretrained(tmp_path)
        assert torch.equal(type(model).from_pretrained(tmp_path).eval()(**batch).logits, model(**batch).logits)


# ---------------------------------------------------------------------------------------------- prediction, errors


def test_longer_texts_are_cut_to_leave_room(encoder, caplog):
    model = build(encoder, num_prompts=10)
    text = " ".join(make_texts(6, longest=20))
    with caplog.at_level(logging.WARNING):
        assert model.predict(text, make_tokenizer(), top_k=2)["labels"]
    assert model.config.max_text_length == 32 - 10 - 3 - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_template": "none"}, "`prompt_template` is 'none'; allowed are 'section', 'appendix'"),
        ({"level_problem": "multiclass"}, "`level_problem` is 'multiclass'"),
        ({"prune": "always"}, "`prune` is 'always'; allowed are True, False, 'auto'"),
        ({"l1_scope": "batch"}, "`l1_scope` is 'batch'"),
        ({"l1_weight": -1}, "`l1_weight` is -1; it is at least 0"),
        ({"wasl_slots": "none"}, "`wasl_slots` is 'none'"),
        ({"mlm_classes": "all"}, "`mlm_classes` is 'all'"),
        ({"prompt_init": "mask"}, "`prompt_init` is 'mask'"),
        ({"label_init": "words"}, "`label_init` is 'words'"),
        ({"num_prompts": 0}, "`num_prompts` is 0; it is at least 1"),
        ({"mlm_alpha": 1}, r"`mlm_alpha` is 1; it lies in \[0, 1\)"),
        ({"mlm_probability": 0}, "`mlm_probability` is 0, so that no word is ever masked; use `mlm_alpha=0`"),
        ({"label_mask_probability": 0}, r"`label_mask_probability` is 0; it lies in \(0, 1\]"),
        ({"state_scale": 0}, "`state_scale` is 0; give a number above 0"),
        (
            {"unit_loss": "cross_entropy"},
            "`level_problem='multi_label'` allowed are 'bce', 'zlpr', 'hbm', 'asl', 'wasl' and 'auto'",
        ),
        ({"unit_loss": "wasl", "level_problem": "single_label"}, "allowed are 'cross_entropy', 'asl' and 'auto'"),
        ({"pooling": "pooler"}, "reads the tokens; nobody would read the part that `pooling='pooler'` trains"),
        ({"num_prompts": 40}, None),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises((StrictDataclassError, ValueError), match=message or "adds 44 positions to every text; the text encoder"):
        make_ptmt(**options)


def test_options_of_a_loaded_checkpoint_can_change(tmp_path):
    model = make_ptmt()
    model.save_pretrained(tmp_path)
    changed = type(model).from_pretrained(tmp_path, prune=False, mlm_alpha=0.9)
    assert not changed.config.prunes and copy.deepcopy(changed.config).mlm_alpha == 0.9
    assert model.config.prunes
