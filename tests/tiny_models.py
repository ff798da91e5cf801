"""Tiny hierarchies, tokenizers, encoders and models, made in memory."""

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, PreTrainedTokenizerFast

import hf_htc
from hf_htc import LabelHierarchy


WORDS = (
    "the a of in on match goal player team ball racket serve court vote party law minister budget tax market share price "
    "bank loan rate planet star orbit atom cell gene virus drug heart film actor song album guitar paint museum "
    "recipe oven bread cheese wine"
).split()

HIERARCHIES = ("tree", "dag")


def make_tree():
    """13 labels on 3 levels; one first-level leaf."""
    return LabelHierarchy.from_paths(
        ["sport/football/cup", "sport/football/league", "sport/tennis", "politics/tax", "politics/vote",
         "science/space", "science/biology/gene", "weather"]
    )  # fmt: skip


def make_dag():
    """8 labels and 1 structure-only nodes, several parents, an isolated label."""
    edges = [
        ("Root", "economy"), ("Root", "politics"), ("Root", "people"), ("economy", "tax"), ("politics", "tax"),
        ("tax", "income tax"), ("people", "minister"), ("politics", "minister"), ("economy", "bank"), ("bank", "loan"),
        ("Root", "weather"),
    ]  # fmt: skip
    labels = ["politics", "tax", "income tax", "minister", "bank", "loan", "weather", "economy"]
    return LabelHierarchy.from_edges(edges, labels=labels)


def make_hierarchy(kind):
    return {"tree": make_tree, "dag": make_dag}[kind]()


def make_tokenizer(padding_side="right"):
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        model_max_length=24, model_input_names=["input_ids", "attention_mask"], padding_side=padding_side,
    )  # fmt: skip


_SMALL = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
ENCODERS = {
    "bert": {**_SMALL, "num_hidden_layers": 2, "max_position_embeddings": 32},
    "roberta": {**_SMALL, "num_hidden_layers": 1, "max_position_embeddings": 34, "pad_token_id": 1},
    "modernbert": {**_SMALL, "num_hidden_layers": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 2,
                   "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3, "attn_implementation": "sdpa"},
    "deberta-v2": {**_SMALL, "num_hidden_layers": 1, "max_position_embeddings": 32, "relative_attention": True,
                   "position_biased_input": False, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 32},
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2, "pad_token_id": 0},
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32, "bos_token_id": 2, "eos_token_id": 3,
             "pad_token_id": 0},
    "htc_textrcnn": {"embedding_size": 10, "gru_hidden_size": 4, "num_filters": 5, "pad_token_id": 0, "initializer_range": 0.5},
}  # fmt: skip


# What the contract covers beside the methods themselves: their variants, and our own text encoder.
VARIANTS = {
    "hiagm, LA": ("hiagm", "bert", {"variant": "la", "node_dim": 16}),
    "hiagm, TreeLSTM": ("hiagm", "bert", {"structure_encoder": "tree_lstm"}),
    "flat, TextRCNN": ("flat", "htc_textrcnn", {}),
    "hiagm, TextRCNN": ("hiagm", "htc_textrcnn", {}),
    "hiagm, LA, TextRCNN": ("hiagm", "htc_textrcnn", {"variant": "la", "structure_encoder": "tree_lstm"}),
    "himatch, TextRCNN": ("himatch", "htc_textrcnn", {}),
    "himatch, dot product": ("himatch", "bert", {"prediction": "dot_product", "joint_dim": "auto"}),
    "hisr, TextRCNN": ("hisr", "htc_textrcnn", {}),
    "flat, coherent": ("flat", "bert", {"coherence": "training"}),
    "hitin, TextRCNN": ("hitin", "htc_textrcnn", {}),
    "hitin, K=3, max": ("hitin", "bert", {"tree_depth": 3, "tree_pooling": "max"}),
    "himtl, TextRCNN": ("himtl", "htc_textrcnn", {}),
    "himtl, mask": ("himtl", "bert", {"branch_output": "masking", "branch_combine": "mean"}),
    "himtl, HiTIN": ("himtl", "bert", {"branch_method": "hitin"}),
    "hpt, BCE": ("hpt", "bert", {"unit_loss": "bce", "prompt_template": "released", "num_graph_layers": 2, "mlm_weight": 0.0}),
    "hpt, HBM": ("hpt", "bert", {"unit_loss": "hbm", "graph_edges": "to_levels", "text_dropout": 0.1}),
    "hpt, joint": ("hpt", "bert", {"unit_loss": "wasl", "level_loss": "joint", "graph_form": "mean", "mlm_in_eval": True}),
    "ptmt, HBM": ("ptmt", "bert", {"unit_loss": "hbm"}),
    "ptmt, appendix": ("ptmt", "bert", {"prompt_template": "appendix", "unit_loss": "bce", "train_label_tokens": False,
                                        "label_init": "random", "mlm_alpha": 0}),
    "hidec, BCE": ("hidec", "bert", {"unit_loss": "bce", "empty_prediction": "allow"}),
    "hidec, ZLPR": ("hidec", "bert", {"unit_loss": "zlpr"}),
    "hidec, expand": ("hidec", "bert", {"inference": "expand"}),
    "hidec, TextRCNN": ("hidec", "htc_textrcnn", {}),
}  # fmt: skip


def split_variant(name):
    """Method, text encoder and options of a method's or variant's name."""
    method, encoder, options = VARIANTS.get(name, (name, "bert", {}))
    return method, encoder, {**hf_htc.METHODS[options.get("branch_method", method)].tiny_options, **options}


def make_encoder_config(kind="bert", **changes):
    """A text encoder of 16 dimensions (TextRCNN: 15) over the tiny vocabulary."""
    options = {**ENCODERS[kind], "vocab_size": len(WORDS) + 8, **changes}
    return AutoConfig.for_model(kind, **options)


def make_model(method, hierarchy, encoder=None, statistics=True, seed=0, **options):
    """A model with random weights of a visible size, in eval mode; `method` may be one of `VARIANTS`."""
    method, own_encoder, own_options = split_variant(method)
    encoder, options = encoder or own_encoder, {**own_options, **options}
    torch.manual_seed(seed)
    text_config = make_encoder_config(encoder) if isinstance(encoder, str) else encoder
    config = hf_htc.config_class(method)(text_config=text_config, hierarchy=hierarchy, initializer_range=0.2, **options)
    model = hf_htc.model_class(method)(config).eval()
    if statistics:
        model.set_label_statistics(make_label_sets(hierarchy, 40, seed=seed))
    return model


def make_label_sets(hierarchy, num_documents, seed=0):
    """Closed label sets that together hold every label."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, hierarchy.num_labels, (num_documents, 2), generator=generator).tolist()
    return hierarchy.close([[i % hierarchy.num_labels, *row] for i, row in enumerate(drawn)])


def csr(rows):
    """Label sets as `(indptr, indices)`."""
    lengths = [len(row) for row in rows]
    flat = [label for row in rows for label in row]
    return np.array([sum(lengths[:k]) for k in range(len(lengths) + 1)]), np.array(flat, dtype=np.int64)


def make_batch(num_documents=4, length=9, seed=0, low=5):
    """Token ids and a mask with rows of different lengths, padded right."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(low, len(WORDS), (num_documents, length), generator=generator)
    mask = torch.ones_like(input_ids)
    for row in range(1, num_documents):
        mask[row, length - row :] = 0
    return {"input_ids": input_ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def ids_tensor(label_sets):
    """Label ids padded with -100."""
    width = max(1, max(len(row) for row in label_sets))
    return torch.tensor([list(row) + [-100] * (width - len(row)) for row in label_sets])


def make_texts(num_texts, seed=0, longest=12):
    """Texts of words of the tiny vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, longest, (num_texts,), generator=generator).tolist()
    return [" ".join(WORDS[i] for i in torch.randint(0, len(WORDS), (n,), generator=generator).tolist()) for n in lengths]
