"""What a Trainer is given to train and evaluate on, made into token ids and label ids; whatever was given stays as it was."""

import datasets
import torch

from hf_htc.data import check_is_split, label_csr, tokenize_dataset
from hf_htc.data.splits import with_label_ids
from hf_htc.models.errors import HTCError, HTCTypeError
from hf_htc.models.label_sets import flat_labels, labels_csr


def prepare_documents(documents, name, tokenizer, config, several=False):
    """
    Tokenises documents and turns label names into ids; what is tokenised already stays as it is.

    Args:
        documents: `datasets.Dataset`, or a list of `dict`s: tokenised at once. `datasets.IterableDataset`, or a
            `torch.utils.data.Dataset` of `dict`s: tokenised while they are read. With `text` or `input_ids`, and `labels` in any
            form.
        name (`str`): Of the argument, for messages.
        tokenizer (`PreTrainedTokenizerBase`), config ([`HTCConfig`]): Of the model.
        several (`bool`, *optional*, defaults to `False`): Whether a `dict` of such sets is taken too.

    Raises:
        `ValueError`: no documents, neither `text` nor `input_ids`. `TypeError`: something else, a `DatasetDict` for one split.
    """
    if documents is None:
        return None
    if several and isinstance(documents, dict) and not (isinstance(documents, datasets.DatasetDict) and "train" in documents):
        return {key: prepare_documents(one, f"{name}[{key!r}]", tokenizer, config) for key, one in documents.items()}
    documents = list_as_dataset(check_is_split(documents, name), name)
    if isinstance(documents, datasets.Dataset):
        if not len(documents):
            raise HTCError(f"`{name}` is empty; it needs at least one document.")
        documents = with_label_ids(documents, config.get_hierarchy())
        if "input_ids" in documents.column_names:
            return documents
        check_tokenizer(tokenizer)
        return tokenize_dataset(documents, tokenizer, max_length=config.max_text_length)
    if isinstance(documents, (_Tokenized, _TokenizedStream)):
        return documents
    check_tokenizer(tokenizer)
    read = _Reader(tokenizer, config)
    if isinstance(documents, datasets.IterableDataset):
        columns = documents.column_names or list(next(iter(documents), {}))
        if "input_ids" in columns:
            return documents
        return documents.map(read, remove_columns=[column for column in columns if column != "labels"])
    if isinstance(documents, torch.utils.data.IterableDataset):
        return _TokenizedStream(documents, read)
    if isinstance(documents, torch.utils.data.Dataset):
        return _Tokenized(documents, read)
    raise HTCTypeError(
        f"`{name}` is a {type(documents).__name__}; give a `datasets.Dataset` or `IterableDataset`, a list of dicts with `text` "
        "and `labels`, or a `torch.utils.data.Dataset` of such dicts."
    )


def check_tokenizer(tokenizer):
    """Raises `ValueError` when there is none."""
    if tokenizer is None:
        raise HTCError("`tokenizer` is missing: pass the text encoder's tokenizer (to a Trainer as `processing_class`).")


def list_as_dataset(documents, name):
    """A list of `dict`s as a `Dataset`; everything else as it is."""
    if not isinstance(documents, list):
        return documents
    if not documents:
        raise HTCError(f"`{name}` is empty; it needs at least one document.")
    wrong = next((i for i, row in enumerate(documents) if not isinstance(row, dict) or row.keys() != documents[0].keys()), None)
    if wrong is not None:
        kind = f"has the keys {list(documents[wrong])}" if isinstance(documents[wrong], dict) else "is no dict"
        raise HTCTypeError(f"`{name}[{wrong}]` {kind}; a list of documents holds dicts with the same keys, `text` and `labels`.")
    rows = [{key: value.tolist() if hasattr(value, "tolist") else value for key, value in row.items()} for row in documents]
    return datasets.Dataset.from_list(rows)


def training_labels(documents, hierarchy):
    """
    Labels of training documents as a CSR pair; `None` where there are none, and of a stream, which can be read only once.
    """
    if isinstance(documents, datasets.Dataset):
        return label_csr(documents, hierarchy) if "labels" in documents.column_names else None
    if isinstance(documents, torch.utils.data.IterableDataset) or not hasattr(documents, "__len__"):
        return None
    rows = [documents[i].get("labels") for i in range(len(documents))]
    return None if not rows or rows[0] is None else labels_csr(rows, hierarchy)


class _Reader:
    """Makes the document that models read of one with `text` and `labels` in any form."""

    def __init__(self, tokenizer, config):
        self.tokenizer, self.hierarchy, self.max_length = tokenizer, config.get_hierarchy(), config.max_text_length

    def __call__(self, document):
        document = dict(document)
        if "input_ids" not in document:
            if "text" not in document:
                raise HTCError(f"A document has neither `text` nor `input_ids`; it has {list(document)}.")
            encoded = self.tokenizer(document["text"], truncation=self.max_length is not None, max_length=self.max_length)
            document = {**encoded, **({"labels": document["labels"]} if "labels" in document else {})}
        if document.get("labels") is not None and flat_labels([document["labels"]])[1].dtype.kind == "U":
            document["labels"] = labels_csr([document["labels"]], self.hierarchy)[1].tolist()
        return document


class _Tokenized(torch.utils.data.Dataset):
    """A `torch.utils.data.Dataset` of documents, each tokenised when it is asked for."""

    def __init__(self, documents, read):
        self.documents, self.read = documents, read

    def __len__(self):
        return len(self.documents)

    def __getitem__(self, index):
        return self.read(self.documents[index])


class _TokenizedStream(torch.utils.data.IterableDataset):
    """A `torch.utils.data.IterableDataset` of documents, each tokenised when it is read."""

    def __init__(self, documents, read):
        self.documents, self.read = documents, read

    def __iter__(self):
        return map(self.read, self.documents)
