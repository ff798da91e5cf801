"""The benchmark of taxonomy files on a small one: every form is read and the same."""

import taxonomies


def test_every_form_is_read_and_the_same(tmp_path, capsys):
    path = tmp_path / "t.tsv"
    path.write_text("Root\ta\nRoot\tb\na\tc\na\td\nb\te\n")
    taxonomies.main([str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "LabelHierarchy(tree of 5 labels, 2 levels), 3 edges"
    assert len(lines) == 14
    assert not any("NOT THE SAME" in line for line in lines)
