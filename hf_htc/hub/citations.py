"""What a model card cites."""

METHODS = {
    "htc_flat": ("a flat multi-label classifier", None),
    "htc_hiagm": (
        "HiAGM",
        """@inproceedings{zhou-etal-2020-hierarchy,
  title = {Hierarchy-Aware Global Model for Hierarchical Text Classification},
  author = {Zhou, Jie and Ma, Chunping and Long, Dingkun and Xu, Guangwei and Ding, Ning and Zhang, Haoyu and
            Xie, Pengjun and Liu, Gongshen},
  booktitle = {Proceedings of the 58th Annual Meeting of the Association for Computational Linguistics},
  year = {2020}
}""",
    ),
    "htc_himatch": (
        "HiMatch",
        """@inproceedings{chen-etal-2021-hierarchy,
  title = {Hierarchy-aware Label Semantics Matching Network for Hierarchical Text Classification},
  author = {Chen, Haibin and Ma, Qianli and Lin, Zhenxi and Yan, Jiangyue},
  booktitle = {Proceedings of the 59th Annual Meeting of the Association for Computational Linguistics and the 11th
               International Joint Conference on Natural Language Processing},
  year = {2021}
}""",
    ),
}

PACKAGE = """@software{hf_htc,
  title = {hf_htc: hierarchical text classification on the Hugging Face stack},
  author = {{The hf_htc authors}},
  year = {2026}
}"""
