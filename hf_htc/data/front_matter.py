"""The front matter of a README: YAML between two lines that are `---` and nothing else."""

import re

import yaml


# A value may hold the same three characters, at the end of a line too.
_BLOCK = re.compile(r"\s*---[ \t]*\n(.*?)^---[ \t]*$\n?(.*)", re.DOTALL | re.MULTILINE)


def split_front_matter(text):
    """
    Splits the text of a README.

    Returns:
        `tuple[dict, str]`: the front matter, empty without one, and what follows it.

    Raises:
        `yaml.YAMLError`: it is not valid YAML.
    """
    found = _BLOCK.match(text.removeprefix("\ufeff").replace("\r\n", "\n"))
    if found is None:
        return {}, text
    content = yaml.safe_load(found[1])
    return content if isinstance(content, dict) else {}, found[2].lstrip()
