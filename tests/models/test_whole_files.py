"""Files and folders that are there as a whole or not at all."""

import pytest

from hf_htc.models.whole_files import new_folder, whole_file


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "scores.v1.json"
    for text in ("first", "second"):
        with whole_file(path) as partial:
            partial.write_text(text)
            assert partial.suffix == ".json" and (not path.exists() or path.read_text() == "first")
        assert path.read_text() == text and names(path.parent) == [path.name]


def test_an_interrupted_file_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("earlier")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "earlier" and names(tmp_path) == [path.name]
    with pytest.raises(ZeroDivisionError), whole_file(str(path)):
        raise ZeroDivisionError  # before anything is written
    assert path.read_text() == "earlier"


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_takes_its_place_when_it_is_whole(tmp_path, exists):
    folder = tmp_path / "above" / "export.v1"
    if exists:
        folder.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), new_folder(folder) as partial:
        (partial / "half").mkdir()
        raise KeyboardInterrupt
    assert names(folder.parent) == ([folder.name] if exists else [])
    with new_folder(folder) as partial:
        (partial / "whole").write_text("")
    assert names(folder.parent) == [folder.name] and names(folder) == ["whole"]


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(FileExistsError, match="give a new folder"), new_folder(path):
            pass
    assert names(tmp_path) == ["mine.txt"] and (tmp_path / "mine.txt").read_text() == "mine"
