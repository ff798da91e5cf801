"""Descriptions of labels from their training texts: words by TF-IDF, as HiMatch's code makes them."""

import numpy as np

from hf_htc.models.errors import HTCError, HTCImportError
from hf_htc.models.label_sets import as_csr, row_ids


def tfidf_descriptions(texts, labels, hierarchy, max_df=0.8, min_df=0.1, max_words=50, stop_words="english"):
    """
    Words that a label's documents share, but not all of them, best first.

    Args:
        texts (`list[str]`): Training texts.
        labels (`list[list[int]]` or CSR pair `(indptr, indices)`): Their label ids.
        hierarchy ([`LabelHierarchy`]): The taxonomy.
        max_df, min_df (`float`, *optional*): A word must occur in at most and at least these shares of the label's documents.
        max_words (`int`, *optional*, defaults to 50): The words with the highest mean TF-IDF among the label's documents; `None`
            keeps all. The authors' code keeps all, in no order.
        stop_words (`str`, `list[str]` or `None`, *optional*): Words to leave out, as scikit-learn takes them.

    Returns:
        `list[str]`: one per node, for `model.set_label_texts(tokenizer, texts=...)`; the node's own text where it has no
        documents or no word is left.

    Raises:
        `ImportError`: scikit-learn is missing. `ValueError`: texts and labels of different numbers, shares out of order,
        `max_words` below 1.

    Example:

    ```python
    texts = tfidf_descriptions(dataset["train"]["text"], dataset["train"]["labels"], hierarchy)
    model.set_label_texts(tokenizer, texts)
    ```
    """
    try:
        from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
    except ImportError as error:
        raise HTCImportError("TF-IDF descriptions need scikit-learn: `pip install 'hf_htc[baseline]'`.") from error
    indptr, indices, _ = as_csr(labels, hierarchy.num_labels)
    if len(texts) != len(indptr) - 1:
        raise HTCError(f"There are {len(texts)} texts and {len(indptr) - 1} rows of labels; give as many of both.")
    if not 0 <= min_df <= max_df <= 1:
        raise HTCError(f"`min_df` is {min_df} and `max_df` is {max_df}; they are shares, 0 <= min_df <= max_df <= 1.")
    if max_words is not None and max_words < 1:
        raise HTCError(f"`max_words` is {max_words}; it is at least 1, or None.")
    descriptions = list(hierarchy.texts)
    vectorizer = CountVectorizer(stop_words=stop_words)
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:  # no word at all
        return descriptions
    words = vectorizer.get_feature_names_out()
    by_label = np.argsort(indices, kind="stable")
    ends = np.cumsum(np.bincount(indices, minlength=hierarchy.num_labels))
    documents = row_ids(indptr)[by_label]
    for label, end in enumerate(ends.tolist()):
        own = counts[documents[ends[label - 1] if label else 0 : end]]
        if not own.shape[0]:
            continue
        frequency = own.getnnz(axis=0)
        kept = np.flatnonzero((frequency > 0) & (frequency >= min_df * own.shape[0]) & (frequency <= max_df * own.shape[0]))
        if len(kept):
            weight = np.asarray(TfidfTransformer().fit_transform(own[:, kept]).mean(axis=0)).ravel()
            best = kept[np.argsort(-weight, kind="stable")[:max_words]]
            descriptions[label] = " ".join(words[best])
    return descriptions
