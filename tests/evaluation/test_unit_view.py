"""The units of one document: against the model's own numbers, and HBM's bounds by hand; the command line."""

import json

import numpy as np
import pytest
from tiny_models import make_label_sets, make_model, make_texts, make_tree

from hf_htc.cli.main import main
from hf_htc.evaluation.unit_view import plot_units, unit_text, unit_view


def shaken(name, hierarchy, **options):
    import torch

    model = make_model(name, hierarchy, **options)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def test_thresholds_biases_and_margin_of_hbm(tokenizer):
    hierarchy = make_tree()
    model, text, labels = shaken("hpt, HBM", hierarchy, hbm_alpha=0.7), make_texts(1)[0], make_label_sets(hierarchy, 5)[4]
    views = unit_view(model, tokenizer, text, labels)
    assert [view["name"] for view in views] == ["level 1", "level 2", "level 3"]
    assert sorted(e["name"] for view in views for e in view["entries"]) == sorted(hierarchy.label_names)
    chosen = {entry["name"] for view in views for entry in view["entries"] if entry["is_chosen"]}
    assert chosen == set(model.predict(text, tokenizer, closure="none")["labels"])
    assert {e["name"] for view in views for e in view["entries"] if e["is_gold"]} == {hierarchy.names[i] for i in labels}
    assert any(view["threshold"] != 0 for view in views)
    for view in views:
        scores = [entry["score"] for entry in view["entries"]]
        assert scores == sorted(scores, reverse=True)
        for key, wanted, sign in (("positive_bound", True, 1), ("negative_bound", False, -1)):
            side = [entry["score"] for entry in view["entries"] if entry["is_gold"] == wanted]
            spread = np.std(side, ddof=1) if len(side) > 1 else 0.0
            assert view[key] == pytest.approx(view["threshold"] + sign * 0.7 * spread, abs=1e-5)
        for entry in view["entries"]:
            probability = 1 / (1 + np.exp(-2 * (entry["score"] - view["threshold"])))
            assert entry["is_left_out"] == (probability >= 0.9 if entry["is_gold"] else probability <= 0.1)


def test_a_text_alone(tokenizer):
    views = unit_view(make_model("hpt", make_tree()), tokenizer, "match goal")
    assert all(set(view) == {"name", "threshold", "entries"} and view["threshold"] == 0 for view in views)
    assert set(views[0]["entries"][0]) == {"name", "score", "is_chosen"}
    text = unit_text(views, most=2)
    assert text.startswith("level 1: threshold +0.00") and "more below" in text


def test_a_model_without_units_is_refused(tokenizer):
    with pytest.raises(ValueError, match="A htc_flat model does not decide in units"):
        unit_view(make_model("flat", make_tree()), tokenizer, "match")


def test_the_command(tokenizer, tmp_path, capsys):
    hierarchy = make_tree()
    model = shaken("hpt, HBM", hierarchy)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    names = hierarchy.decode(make_label_sets(hierarchy, 4))
    rows = [{"text": text, "labels": row} for text, row in zip(make_texts(4), names)]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ["--train_file", str(tmp_path / "train.jsonl"), "--test_file", str(tmp_path / "test.jsonl")]
    wanted = ["--row", "2", "--plot", str(tmp_path / "a" / "units.png"), "--output", str(tmp_path / "units.json")]
    main(["units", str(tmp_path / "model"), *files, *wanted])
    printed = capsys.readouterr().out
    assert "biased bounds" in printed and "gold" in printed
    views = json.loads((tmp_path / "units.json").read_text())
    assert {e["name"] for view in views for e in view["entries"] if e["is_gold"]} == set(names[2])
    assert (tmp_path / "a" / "units.png").read_bytes().startswith(b"\x89PNG")
    main(["units", str(tmp_path / "model"), "--text", "the match"])
    assert "threshold" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["units", str(tmp_path / "model"), *files, "--row", "9"])
    assert "has the rows 0 to 3" in capsys.readouterr().err


def test_units_of_parents(tokenizer):
    hierarchy = make_tree()
    model, text, labels = shaken("hidec", hierarchy), make_texts(1)[0], hierarchy.close([[2]])[0]
    views = unit_view(model, tokenizer, text, labels)
    inner = [hierarchy.names[i] for i in labels if hierarchy.children[i]]
    assert [view["name"] for view in views] == ["root", *inner]
    for view in views:
        node = None if view["name"] == "root" else hierarchy.id(view["name"])
        children = hierarchy.top_nodes if node is None else hierarchy.children[node]
        expected = {hierarchy.names[i]: i in labels for i in children} | ({} if node is None else {"[END]": node in labels})
        assert {entry["name"]: entry["is_gold"] for entry in view["entries"]} == expected
    free = unit_view(model, tokenizer, text)
    assert free[0]["name"] == "root" and "is_gold" not in free[0]["entries"][0]


def test_the_plot_says_which_is_which(tmp_path):
    pytest.importorskip("matplotlib")

    def entry(score, **marks):
        return {"name": "n", "score": score, "is_chosen": score > 0, **marks}

    bounds = {"threshold": 0.1, "positive_bound": 0.4, "negative_bound": -0.2}
    full = {"name": "root", **bounds, "entries": [entry(1.0, is_gold=True, is_left_out=True), entry(-1.0, is_gold=False)]}
    plot_units([full, {**full, "name": "sport"}], tmp_path / "units.svg")
    plot_units([{"name": "root", "threshold": 0.0, "entries": [entry(1.0)]}], tmp_path / "plain.svg")
    drawn, plain = ((tmp_path / name).read_text() for name in ("units.svg", "plain.svg"))
    for text in ("gold label, beyond the margin", "label", "threshold", "bound of gold labels", "bound of the others", "sport"):
        assert drawn.count(f">{text}<") == 1, text
    assert ">label<" in plain and ">threshold<" in plain and "gold" not in plain and "bound of" not in plain
