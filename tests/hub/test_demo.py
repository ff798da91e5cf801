"""The demo: what it answers is what the model predicts, on the page and over its interface; the files of a Space run."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from local_hub import LocalHub
from tiny_models import make_encoder_config, make_hierarchy, make_model, make_texts, make_tokenizer


gradio = pytest.importorskip("gradio")

from hf_htc.hub import demo, export_onnx, save, space  # noqa: E402
from hf_htc.hub.demo import EMPTY, card_examples, demo_page, import_gradio, predict_html, read_examples  # noqa: E402
from hf_htc.hub.space import write_space  # noqa: E402
from hf_htc.models.prediction import DECODERS  # noqa: E402


HERE = Path(__file__).parent.parent
TEXTS = make_texts(4)


def vivid(method="flat", kind="tree", **options):
    """A model whose scores differ visibly from text to text."""
    return make_model(method, make_hierarchy(kind), make_encoder_config(initializer_range=0.6), **options)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Two checkpoints, one of them with examples in its card, and a file of examples."""
    folder = tmp_path_factory.mktemp("work")
    for name, kind in (("flat", "tree"), ("on-a-dag", "dag")):
        save(vivid(kind=kind), make_tokenizer(), folder / name)
    card = (folder / "on-a-dag" / "README.md").read_text(encoding="utf-8")
    widget = "---\nwidget:\n- text: the first example\n- no_text: 1\n- text: the second\n"
    (folder / "on-a-dag" / "README.md").write_text(card.replace("---\n", widget, 1), encoding="utf-8")
    (folder / "flat" / "training_args.bin").write_bytes(b"not for others")
    (folder / "examples.txt").write_text("\n".join([*TEXTS[:2], "", "ein Café"]) + "\n", encoding="utf-8")
    return folder


class TestAnswers:
    @pytest.mark.parametrize("method, kind", [("flat", "dag"), ("hiagm", "tree"), ("hidec", "tree"), ("hpt", "dag")])
    def test_the_record_is_what_the_model_predicts(self, method, kind):
        model, tokenizer = make_model(method, make_hierarchy(kind)), make_tokenizer()
        for text, decoder, threshold in zip(TEXTS * 2, DECODERS, (None, 0.3, 0.5, 0.7, None, 0.2)):
            tree, best, record = predict_html(model, tokenizer, text, threshold, decoder)
            assert record == model.predict(text, tokenizer, threshold=threshold, decoder=decoder)
            assert tree.count('"predicted"') + tree.count('"row predicted"') >= len(record["labels"])
            (highest,) = model.predict(text, tokenizer, top_k=1)["scores"]  # HiDEC gives several labels the same
            assert f'<span class="score">{highest:.2f}</span>' in best.split("</li>")[0]

    def test_an_empty_text_gives_a_sentence(self):
        for text in ("", " \n", None):
            tree, best, record = predict_html(vivid(), make_tokenizer(), text)
            assert EMPTY in tree and "no text yet" in best and record is None

    def test_a_text_that_is_cut_is_said_to_be(self):
        model, tokenizer = vivid(), make_tokenizer()
        limit = model.config.max_text_length
        assert f"longer than {limit} tokens" in predict_html(model, tokenizer, "match " * 60)[0]
        assert "longer than" not in predict_html(model, tokenizer, "match")[0]

    def test_what_is_no_text(self):
        with pytest.raises(TypeError, match="Text 0 is a int"):
            predict_html(vivid(), make_tokenizer(), 3)

    def test_an_exported_model(self, tmp_path):
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
        model, tokenizer = vivid(), make_tokenizer()
        export_onnx(model, tokenizer, tmp_path / "exported")
        exported, own_tokenizer, name = demo.load_classifier(tmp_path / "exported")
        assert name == "exported"
        record = predict_html(exported, own_tokenizer, TEXTS[0], 0.4, "top_down")[2]
        expected = model.predict(TEXTS[0], tokenizer, threshold=0.4, decoder="top_down")
        assert record["labels"] == expected["labels"] and record["paths"] == expected["paths"]
        assert record["scores"] == pytest.approx(expected["scores"], abs=1e-4)

        folder = write_space(tmp_path / "exported", tmp_path / "space")
        assert (folder / "requirements.txt").read_text().splitlines()[1:] == ["onnxruntime"]
        moved = demo.load_classifier(folder / "checkpoint")
        assert predict_html(*moved[:2], TEXTS[0], 0.4, "top_down")[2] == record


def components(page):
    """`{(type, label): properties}` of a page."""
    made = page.get_config_file()["components"]
    return {(part["type"], part["props"].get("label")): part["props"] for part in made}


class TestPage:
    def test_it_starts_with_the_first_example_predicted(self):
        model, tokenizer = vivid(), make_tokenizer()
        page = demo_page(model, tokenizer, "<News>", TEXTS, threshold=0.4, decoder="top_down")
        parts = components(page)
        assert parts["textbox", "Text"]["value"] == TEXTS[0]
        assert parts["slider", "Threshold"]["value"] == 0.4
        assert parts["dropdown", "Decoder"]["value"] == "top_down"
        assert [value for _, value in parts["dropdown", "Decoder"]["choices"]] == list(DECODERS)
        shown = [part["props"].get("value") or "" for part in page.get_config_file()["components"] if part["type"] == "html"]
        tree, best, record = predict_html(model, tokenizer, TEXTS[0], 0.4, "top_down")
        assert shown[0].startswith("<h1>&lt;News&gt;</h1>") and shown[1:] == [tree, best]
        assert [part for part in parts if part[0] == "checkbox"] and not parts[next(p for p in parts if p[0] == "checkbox")][
            "visible"
        ]
        assert parts["json", None]["value"] == record

    def test_without_examples_it_asks_for_a_text(self):
        page = demo_page(vivid(), make_tokenizer(), "News")
        assert not [part for part in components(page) if part[0] == "dataset"]
        assert any(EMPTY in str(part["props"].get("value")) for part in page.get_config_file()["components"])

    def test_thresholds_of_the_checkpoint(self):
        model, tokenizer = vivid(), make_tokenizer()
        model.config.thresholds = [0.02] * 12 + [0.99]
        page = demo_page(model, tokenizer, "News", TEXTS)
        (checkbox,) = (props for (kind, _), props in components(page).items() if kind == "checkbox")
        assert checkbox["visible"] and checkbox["value"] is True
        assert components(page)["json", None]["value"] == model.predict(TEXTS[0], tokenizer)
        (answer,) = {function.fn for function in page.fns.values() if function.api_name == "predict"}
        assert answer(TEXTS[0], 0.6, "threshold", False)[2] == model.predict(TEXTS[0], tokenizer, threshold=0.6)
        assert answer(TEXTS[0], 0.6, "threshold", True)[2] == model.predict(TEXTS[0], tokenizer)
        given = components(demo_page(model, tokenizer, "News", TEXTS, threshold=0.6))
        assert given["json", None]["value"] == model.predict(TEXTS[0], tokenizer, threshold=0.6)
        model.config.thresholds = 0.25
        assert components(demo_page(model, tokenizer, "News"))["slider", "Threshold"]["value"] == 0.25

    def test_options_are_checked_and_errors_are_sentences(self):
        model, tokenizer = vivid(), make_tokenizer()
        with pytest.raises(ValueError, match="`decoder` is 'best'"):
            demo_page(model, tokenizer, "News", decoder="best")
        with pytest.raises(ValueError, match="1.5"):
            demo_page(model, tokenizer, "News", threshold=1.5)
        page = demo_page(model, tokenizer, "News")
        (answer,) = {function.fn for function in page.fns.values() if function.api_name == "predict"}
        with pytest.raises(gradio.Error, match="7"):
            answer("the match", 7, "threshold", False)

    def test_nothing_is_reported_to_anyone(self):
        page = demo_page(vivid(), make_tokenizer(), "News")
        assert page.analytics_enabled is False and os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"

    def test_gradio_is_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "gradio", None)
        with pytest.raises(ImportError, match=r"needs gradio: pip install 'hf_htc\[demo\]'"):
            import_gradio()


class TestExamples:
    def test_files(self, work, tmp_path):
        assert read_examples(work / "examples.txt") == [*TEXTS[:2], "ein Café"]
        file = tmp_path / "examples.jsonl"
        file.write_text('{"text": "a\\nb", "id": 1}\n\n{"text": "c"}\n', encoding="utf-8")
        assert read_examples(file) == ["a\nb", "c"]

    @pytest.mark.parametrize(
        "content, message",
        [
            ("", "holds no texts"),
            ('{"text": "a"}\n{"text": " "}', "Line 2"),
            ("[1]", "Line 1 .* has no text"),
            ("{", "not valid JSON"),
        ],
    )
    def test_faulty_files(self, tmp_path, content, message):
        file = tmp_path / "examples.jsonl"
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_examples(file)

    def test_no_text_file(self, tmp_path):
        (tmp_path / "image.txt").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ValueError, match="no text file in UTF-8"):
            read_examples(tmp_path / "image.txt")

    def test_of_the_card(self, work, tmp_path):
        assert card_examples(work / "on-a-dag") == ["the first example", "the second"]
        assert card_examples(work / "flat") == [] == card_examples(tmp_path)
        assert card_examples("me/not-there") == []  # offline
        (tmp_path / "README.md").write_text("---\nx: a---\nwidget:\n- text: |\n    one\n    ---\n    two\n---\n")
        assert card_examples(tmp_path) == ["one\n---\ntwo\n"]
        for front in ("widget: 5", "widget: [", "- 1"):
            (tmp_path / "README.md").write_text(f"---\n{front}\n---\n")
            assert card_examples(tmp_path) == []


class TestSpace:
    def test_files(self, work, tmp_path):
        (tmp_path / "space").mkdir()  # an empty folder is taken
        folder = write_space(work / "flat", tmp_path / "space", work / "examples.txt", threshold=0.3, decoder="coherent")
        assert {file.name for file in folder.iterdir()} == {
            "app.py",
            "requirements.txt",
            "README.md",
            "checkpoint",
            "examples.jsonl",
        }
        assert list(tmp_path.iterdir()) == [folder]
        inside = {file.name for file in (folder / "checkpoint").iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json", "modeling_flat.py", "taxonomy.json"} <= inside
        assert "training_args.bin" not in inside
        front = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
        expected = {"title": "flat", "sdk": "gradio", "sdk_version": gradio.__version__, "app_file": "app.py"}
        assert expected.items() <= front.items() and "models" not in front
        (package,) = (folder / "requirements.txt").read_text().splitlines()
        assert package.startswith("hf_htc[demo]>=")
        app = (folder / "app.py").read_text(encoding="utf-8")
        assert "threshold=0.3, decoder='coherent', title='flat'" in app and len(app.splitlines()) < 16
        assert str(tmp_path) not in app and str(work) not in app
        assert read_examples(folder / "examples.jsonl") == [*TEXTS[:2], "ein Café"]

    def test_of_a_checkpoint_on_the_hub(self, tmp_path, monkeypatch):
        monkeypatch.setattr(space, "load_classifier", lambda name: (vivid(), make_tokenizer(), name))
        folder = write_space("me/news", tmp_path / "space", title='The "news"')
        assert {file.name for file in folder.iterdir()} == {"app.py", "requirements.txt", "README.md"}
        assert "    launch_demo('me/news', title='The \"news\"')\n" in (folder / "app.py").read_text()
        compile((folder / "app.py").read_text(), "app.py", "exec")
        card = (folder / "README.md").read_text(encoding="utf-8")
        front = yaml.safe_load(card.split("---")[1])
        assert (front["models"], front["title"]) == (["me/news"], 'The "news"')
        assert "[me/news](https://huggingface.co/me/news)" in card

    def test_nothing_is_left_half_written(self, work, tmp_path, monkeypatch):
        def breaks(source, target, patterns):
            target.mkdir()
            raise OSError("The disk is full.")

        monkeypatch.setattr(space, "copy_files", breaks)
        with pytest.raises(OSError, match="disk is full"):
            write_space(work / "flat", tmp_path / "space")
        assert list(tmp_path.iterdir()) == []

    def test_what_is_refused(self, work, tmp_path):
        with pytest.raises(FileExistsError, match="'.*flat' exists and is not empty; give a new folder."):
            write_space(work / "flat", work / "flat")
        with pytest.raises(FileNotFoundError, match="no file of examples"):
            write_space(work / "flat", tmp_path / "space", tmp_path / "nothing.txt")
        with pytest.raises(ValueError, match="`decoder` is 'best'"):
            write_space(work / "flat", tmp_path / "space", decoder="best")
        adapter = tmp_path / "adapter"
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(work / "flat")}))
        with pytest.raises(ValueError, match="a folder that nobody else can load"):
            write_space(adapter, tmp_path / "space")
        assert not (tmp_path / "space").exists()

    def test_its_app_runs(self, work, tmp_path):
        """As on the Hub: `python app.py` elsewhere, asked over the interface of the page."""
        from gradio_client import Client

        folder = write_space(work / "flat", tmp_path / "space", work / "examples.txt", threshold=0.3)
        folder = Path(shutil.move(folder, tmp_path / "moved"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with open(tmp_path / "log", "w") as log:
            app = subprocess.Popen(
                [sys.executable, folder / "app.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=log
            )
        try:
            line = app.stdout.readline().decode()
            assert line.startswith(f"The demo of flat is at http://127.0.0.1:{port}"), (tmp_path / "log").read_text()
            client = Client(f"http://127.0.0.1:{port}", verbose=False, analytics_enabled=False)
            try:
                model, tokenizer = vivid(), make_tokenizer()
                tree, best, record = client.predict(TEXTS[2], 0.4, "coherent", False, api_name="/predict")
                expected = model.predict(TEXTS[2], tokenizer, threshold=0.4, decoder="coherent")
                assert record["labels"] == expected["labels"] and record["paths"] == expected["paths"]
                assert record["scores"] == pytest.approx(expected["scores"], abs=1e-5)
                assert all(f'title="{name}"' in tree for name in expected["labels"]) and best.count("<li>") == 10
                assert client.predict("", 0.4, "coherent", False, api_name="/predict")[2] is None
            finally:
                client.close()
        finally:
            app.terminate()
            app.wait(timeout=60)


PUSH = """
import json
from hf_htc.cli.main import main
main(["demo", "flat", "--space", "local", "--push", "me/local-demo", "--private"])
main(["push", "local", "me/local-again"])
main(["demo", "me/flat", "--space", "remote", "--push", "me/remote-demo", "--examples", "examples.txt"])
found = {}
for name, repo_id in (("another kind", "me/other"), ("not mine", "somebody/x"), ("no name", "spaces/me/x")):
    try:
        main(["demo", "flat", "--space", name, "--push", repo_id])
    except SystemExit as error:
        found[name] = error.code
print(json.dumps(found))
"""


def test_push(work, tmp_path):
    hub = LocalHub()
    try:
        shutil.copytree(work / "flat", tmp_path / "flat")
        shutil.copyfile(work / "examples.txt", tmp_path / "examples.txt")
        files = {file.name: file.read_bytes() for file in (work / "flat").iterdir() if file.suffix != ".bin"}
        hub.repositories["model", "me/flat"] = [("0" * 40, files)]
        hub.repositories["space", "me/other"], hub.sdks["me/other"] = [("0" * 40, {})], "docker"
        paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **hub.environment(tmp_path / "home"), "PYTHONPATH": paths}
        done = subprocess.run(
            [sys.executable, "-c", PUSH], env=environment, capture_output=True, text=True, timeout=400, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr[-4000:]
        local, remote = hub.files("me/local-demo", "space"), hub.files("me/remote-demo", "space")
        assert {"app.py", "README.md", "requirements.txt", "checkpoint/model.safetensors", "checkpoint/tokenizer.json"} <= set(
            local
        )
        assert local["checkpoint/model.safetensors"] == files["model.safetensors"]
        assert b"not for others" not in b"".join(local.values())
        assert hub.files("me/local-again", "space") == local and "Pushed the space to" in done.stdout
        assert set(remote) == {"app.py", "README.md", "requirements.txt", "examples.jsonl"}
        assert yaml.safe_load(remote["README.md"].decode().split("---")[1])["models"] == ["me/flat"]
        assert b"launch_demo('me/flat', examples=HERE / \"examples.jsonl\")" in remote["app.py"]
        assert hub.sdks["me/local-demo"] == hub.sdks["me/remote-demo"] == "gradio"
        assert str(tmp_path).encode() not in b"".join([*local.values(), *remote.values()])
        assert "Pushed to" in done.stdout and "me/remote-demo" in done.stdout
        assert json.loads(done.stdout.splitlines()[-1]) == {"another kind": 1, "not mine": 1, "no name": 1}
        errors = [line for line in done.stderr.splitlines() if line.startswith("hf-htc demo: ")]
        assert "already a Space of another kind (docker); the demo is a gradio Space" in errors[0]
        assert "no right to write there" in errors[1] and "is no repository id" in errors[2]
        assert hub.unexpected_requests() == []
    finally:
        hub.close()
