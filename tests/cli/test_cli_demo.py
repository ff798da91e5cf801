"""`hf-htc demo`, in this process: the page is served on a free port, the files of a Space are written."""

import json
import re
import socket
import sys
import urllib.request

import pytest
from tiny_models import make_encoder_config, make_model, make_tokenizer, make_tree


gradio = pytest.importorskip("gradio")

from hf_htc.cli.main import main  # noqa: E402
from hf_htc.hub import save  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work") / "flat"
    save(make_model("flat", make_tree(), make_encoder_config(initializer_range=0.6)), make_tokenizer(), folder)
    return folder


def fails(capsys, *arguments):
    """The one line on stderr of a command that must fail."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(["demo", *map(str, arguments)])
    assert exit_.value.code == 1
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("hf-htc")]
    assert len(lines) == 1 and "Traceback" not in err and out == ""
    return lines[0]


def test_a_page_is_served(checkpoint, tmp_path, capsys, monkeypatch):
    """Until it is interrupted; here a request stands in its place."""
    (tmp_path / "texts.txt").write_text("the match\n<b>the vote</b>\n", encoding="utf-8")
    opened, asked = [], []

    def ask(page):
        with urllib.request.urlopen(f"{page.local_url}config", timeout=60) as answer:
            asked.append(json.load(answer))
        page.close(verbose=False)

    monkeypatch.setattr(gradio.Blocks, "block_thread", ask)
    monkeypatch.setattr("webbrowser.open", opened.append)
    arguments = ["demo", str(checkpoint), "--examples", str(tmp_path / "texts.txt"), "--threshold", "0.25", "--title", "News"]
    main([*arguments, "--no_browser"])
    assert re.search(r"^The demo of News is at http://127.0.0.1:\d+/\. Stop it with Ctrl\+C\.$", capsys.readouterr().out, re.M)
    parts = {(part["type"], part["props"].get("label")): part["props"] for part in asked[0]["components"]}
    assert asked[0]["title"] == "News" and parts["slider", "Threshold"]["value"] == 0.25
    assert parts["dataset", "Examples"]["samples"] == [["the match"], ["<b>the vote</b>"]]
    assert opened == []
    main(arguments)
    assert opened == [re.search(r"at (\S+)\. Stop", capsys.readouterr().out)[1]]


def test_space(checkpoint, tmp_path, capsys):
    main(["demo", str(checkpoint), "--space", str(tmp_path / "space"), "--decoder", "top_down"])
    assert capsys.readouterr().out == f"Written to {tmp_path / 'space'}. Try it with `python app.py` there.\n"
    assert "decoder='top_down'" in (tmp_path / "space" / "app.py").read_text()
    assert "exists and is not empty" in fails(capsys, checkpoint, "--space", tmp_path / "space")


def test_errors(checkpoint, tmp_path, capsys, monkeypatch):
    assert "There is no checkpoint folder './nowhere/at/all'" in fails(capsys, "./nowhere/at/all", "--no_browser")
    assert "There is no checkpoint 'nowhere' that can be loaded" in fails(capsys, "nowhere", "--space", tmp_path / "space")
    assert "`--push` needs `--space FOLDER`" in fails(capsys, checkpoint, "--push", "me/x")
    assert "give `--push`, too" in fails(capsys, checkpoint, "--space", tmp_path / "space", "--private")
    assert "leave out `--port`" in fails(capsys, checkpoint, "--space", tmp_path / "space", "--port", "7860")
    assert "`--port` is 0; it must be a whole number in [1, 65535]" in fails(capsys, checkpoint, "--port", "0")
    assert "`decoder` is 'best'; allowed are 'threshold'" in fails(capsys, checkpoint, "--decoder", "best")
    assert "no file of examples 'nothing.txt'" in fails(capsys, checkpoint, "--examples", "nothing.txt")
    assert "Did you mean ['--space'" in fails(capsys, checkpoint, "--spaces", "x")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"The port {port} is taken. Give another one" in fails(capsys, checkpoint, "--no_browser", "--port", port)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'hf_htc[demo]'" in fails(capsys, checkpoint, "--no_browser")
    assert list(tmp_path.iterdir()) == []
