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
    "htc_hisr": (
        "HiSR",
        """@inproceedings{zhou-etal-2025-novel,
  title = {A Novel Negative Sample Generation Method for Contrastive Learning in Hierarchical Text Classification},
  author = {Zhou, Juncheng and Zhang, Lijuan and He, Yachen and Fan, Rongli and Zhang, Lei and Wan, Jian},
  booktitle = {Proceedings of the 31st International Conference on Computational Linguistics},
  year = {2025}
}""",
    ),
    "htc_hitin": (
        "HiTIN",
        """@inproceedings{zhu-etal-2023-hitin,
  title = {HiTIN: Hierarchy-aware Tree Isomorphism Network for Hierarchical Text Classification},
  author = {Zhu, He and Zhang, Chong and Huang, Junjie and Wu, Junran and Xu, Ke},
  booktitle = {Proceedings of the 61st Annual Meeting of the Association for Computational Linguistics (Volume 1: Long Papers)},
  year = {2023}
}""",
    ),
    "htc_ptmt": (
        "PTMTTaxoFormer",
        """@misc{ptmt-taxoformer,
  title = {Prompt-Tuned Multi-Task Taxonomic Transformer (PTMTTaxoFormer)},
  author = {Vasantha, Rajashekar and Nguyen, Nhan and Zhang, Yue}
}""",
    ),
    "htc_hidec": (
        "HiDEC, in the form of the HBM paper",
        """@article{im-etal-2023-hidec,
  title = {Hierarchical Text Classification as Sub-hierarchy Sequence Generation},
  author = {Im, SangHun and Kim, GiBaeg and Oh, Heung-Seon and Jo, Seongung and Kim, Dong Hwan},
  journal = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume = {37},
  number = {11},
  pages = {12933--12941},
  year = {2023}
}

@inproceedings{kim-etal-2024-hbm,
  title = {Hierarchy-aware Biased Bound Margin Loss Function for Hierarchical Text Classification},
  author = {Kim, Gibaeg and Im, SangHun and Oh, Heung-Seon},
  booktitle = {Findings of the Association for Computational Linguistics: ACL 2024},
  pages = {7672--7682},
  year = {2024}
}""",
    ),
    "htc_himtl": (
        "HiMTL",
        """@misc{himtl,
  title = {HiMTL: Hierarchy-aware Multi-Task Learning for Hierarchical Text Classification},
  author = {Anonymous},
  note = {ACL submission}
}""",
    ),
    "htc_hpt": (
        "HPT",
        """@inproceedings{wang-etal-2022-hpt,
  title = {HPT: Hierarchy-aware Prompt Tuning for Hierarchical Text Classification},
  author = {Wang, Zihan and Wang, Peiyi and Liu, Tianyu and Lin, Binghuai and Cao, Yunbo and Sui, Zhifang and Wang, Houfeng},
  booktitle = {Proceedings of the 2022 Conference on Empirical Methods in Natural Language Processing},
  year = {2022}
}""",
    ),
}

PACKAGE = """@software{hf_htc,
  title = {hf_htc: hierarchical text classification on the Hugging Face stack},
  author = {{The hf_htc authors}},
  year = {2026}
}"""
