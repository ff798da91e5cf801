"""Rows and taxonomies that the tests of this folder share."""

# A tree of three levels; `ball/tennis` is a leaf at level 2.
EDGES = "Root\tsport\nRoot\tpolitics\nsport\tball\nsport\twater\nball\tfootball\nball\ttennis\npolitics\telections\n"
# `polo` has two parents.
DAG_EDGES = EDGES + "water\tpolo\nball\tpolo\n"

ROWS = [
    {"text": "A late goal decided the final.", "labels": ["sport", "ball", "football"], "id": "a"},
    {"text": "The vote was close.", "labels": ["politics", "elections"], "id": "b"},
    {"text": "Her serve was too strong.", "labels": ["sport", "ball", "tennis"], "id": "c"},
    {"text": "He swam for gold while the parliament voted.", "labels": ["sport", "water", "politics"], "id": "d"},
]
