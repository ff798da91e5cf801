"""What TextRCNN starts from: a word-level tokenizer of a corpus, and word vectors from a file or from the corpus itself.

Legend: `V` words, special tokens included, `E` embedding size.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerFast

from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError, HTCFileNotFoundError, HTCImportError


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    from hf_htc.annotations import StrPath
    from hf_htc.models.modeling_textrcnn import TextRCNNModel


logger = get_logger(__name__)

SPECIAL_TOKENS = ("[PAD]", "[UNK]")
# Words of the corpus between two additions to the co-occurrence table: about 100 MB of pairs.
_CHUNK = 1_000_000


def train_word_tokenizer(
    texts: Iterable[str],
    min_count: int = 2,
    max_size: int = 50_000,
    lowercase: bool = True,
    max_length: int = 256,
    extra_words: Iterable[str] = (),
) -> PreTrainedTokenizerFast:
    """
    A word-level tokenizer: words and punctuation marks, the most frequent first.

    Args:
        texts (`Iterable[str]`): The training texts only.
        min_count (`int`, *optional*, defaults to 2): A word must occur this often. The papers' is 5.
        max_size (`int`, *optional*, defaults to 50,000): Most words, without the special tokens.
        lowercase (`bool`, *optional*, defaults to `True`): Texts are lower-cased.
        max_length (`int`, *optional*, defaults to 256): Its `model_max_length`, as in the papers.
        extra_words (`Iterable[str]`, *optional*): Words that fill what the corpus leaves of `max_size`, e.g. those of a vector
            file, so that new texts find them.

    Returns:
        `PreTrainedTokenizerFast`: saved and loaded like any (`AutoTokenizer`).

    Raises:
        `ValueError`: a size below 1, or a corpus without a word that occurs `min_count` times.
    """
    for name, value in (("min_count", min_count), ("max_size", max_size), ("max_length", max_length)):
        if value < 1:
            raise HTCError(f"`{name}` is {value}; it is at least 1.")
    backend = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])])
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(
        vocab_size=max_size + len(SPECIAL_TOKENS),
        min_frequency=min_count,
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    vocabulary = backend.get_vocab()
    if len(vocabulary) <= len(SPECIAL_TOKENS):
        raise HTCError(f"No word of the corpus occurs {min_count} times; give more texts, or a smaller `min_count`.")
    for word in extra_words:
        if len(vocabulary) >= max_size + len(SPECIAL_TOKENS):
            break
        vocabulary.setdefault(word.lower() if lowercase else word, len(vocabulary))
    backend.model = models.WordLevel(vocabulary, unk_token="[UNK]")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


@overload
def read_word_vectors(path: StrPath, tokenizer: None = None, show_progress_bar: bool | None = None) -> list[str]: ...


@overload
def read_word_vectors(path: StrPath, tokenizer: PreTrainedTokenizerBase, show_progress_bar: bool | None = None) -> np.ndarray: ...


def read_word_vectors(
    path: StrPath, tokenizer: PreTrainedTokenizerBase | None = None, show_progress_bar: bool | None = None
) -> np.ndarray | list[str]:
    """
    Word vectors of a text file in GloVe's format: one word and its `E` numbers a line, separated by spaces. A first line of two
    numbers (word2vec's format) is passed over.

    Args:
        path (`str`): The file, UTF-8.
        tokenizer (`PreTrainedTokenizerFast`, *optional*): Its words are looked up; without one only the words are read.

    Returns:
        `numpy.ndarray` of shape `(V, E)`, float32, NaN for words that the file does not have; or, without a tokenizer,
        `list[str]`: the file's words in order.

    Raises:
        `FileNotFoundError`: no such file. `ValueError`: a line with another number of values or with something that is no number
        (numbered), or a file that has none of the tokenizer's words.
    """
    path = Path(path)
    if not path.is_file():
        raise HTCFileNotFoundError(f"There is no file of word vectors {str(path)!r}.")
    vocabulary = None if tokenizer is None else tokenizer.get_vocab()
    words, vectors, size = [], None, None
    with open(path, encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(
            tqdm(stream, desc="Word vectors", unit=" lines", disable=not _shown(show_progress_bar, path)), 1
        ):
            parts = line.rstrip().split(" ")
            if number == 1 and len(parts) == 2:
                continue
            # Some words of GloVe's largest file contain spaces; the numbers are what is counted, from the end.
            size = len(parts) - 1 if size is None else size
            word = " ".join(parts[:-size]) if size else ""
            if not word:
                raise HTCError(f"Line {number} of {path.name!r} has {len(parts) - 1} numbers; the first line has {size}.")
            if vocabulary is None or tokenizer is None:
                words.append(word)
                continue
            if word not in vocabulary:
                continue
            try:
                values = np.array(parts[-size:], dtype=np.float32)
            except ValueError:
                raise HTCError(
                    f"Line {number} of {path.name!r}: the vector of {word!r} holds something that is no number."
                ) from None
            if vectors is None:
                vectors = np.full((len(tokenizer), size), np.nan, dtype=np.float32)
            if np.isnan(vectors[vocabulary[word], 0]):  # lower-cased doubles: the first, more frequent one stays
                vectors[vocabulary[word]] = values
    if vocabulary is None or tokenizer is None:
        return words
    if vectors is None:
        raise HTCError(f"{path.name!r} has none of the tokenizer's {len(tokenizer):,} words; is it a file of word vectors?")
    found = int((~np.isnan(vectors[:, 0])).sum())
    logger.info(f"{found:,} of {len(tokenizer):,} words have a vector of {size} numbers in {path.name!r}.")
    return vectors


def _shown(show_progress_bar, path):
    return path.stat().st_size > 100_000_000 if show_progress_bar is None else show_progress_bar


def train_word_vectors(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    size: int = 300,
    window: int = 5,
    seed: int = 0,
    show_progress_bar: bool | None = None,
) -> np.ndarray:
    """
    Word vectors of a corpus: the positive pointwise mutual information of words and their neighbours, factorised,
    `PPMI(w, c) = max(0, log(n(w, c) n / (n(w) n(c)^a)))` with `a` 0.75 and neighbours weighted by the inverse of their distance;
    the vectors are `U sqrt(S)` of its truncated singular value decomposition (Levy, Goldberg, Dagan, TACL 2015). Every text
    counts as a whole, `max_length` does not cut it.

    Args:
        texts (`Iterable[str]`): The training texts only.
        tokenizer (`PreTrainedTokenizerFast`): From [`train_word_tokenizer`].
        size (`int`, *optional*, defaults to 300): `E`, smaller when there are fewer words.
        window (`int`, *optional*, defaults to 5): Farthest neighbour, in words.
        seed (`int`, *optional*, defaults to 0): Of the decomposition.

    Returns:
        `numpy.ndarray` of shape `(V, size)`, float32, NaN for the special tokens and words without a neighbour; root mean square
        of a number 0.25, as wide as published vectors.

    Raises:
        `ImportError`: scikit-learn is missing. `ValueError`: a size or window below 1, a corpus without neighbours.
    """
    try:
        from scipy import sparse
        from sklearn.utils.extmath import randomized_svd
    except ImportError as error:
        raise HTCImportError("Word vectors of a corpus need scikit-learn: `pip install 'hf_htc[baseline]'`.") from error
    for name, value in (("size", size), ("window", window)):
        if value < 1:
            raise HTCError(f"`{name}` is {value}; it is at least 1.")
    number = len(tokenizer)
    counts = sparse.csr_matrix((number, number), dtype=np.float64)
    for words in _chunks(texts, tokenizer, window, show_progress_bar):
        for distance in range(1, window + 1):
            left, right = words[:-distance], words[distance:]
            real = (left >= 0) & (right >= 0)
            weights = np.full(int(real.sum()), 1 / distance)
            counts = counts + sparse.coo_matrix((weights, (left[real], right[real])), shape=counts.shape).tocsr()
    counts = (counts + counts.T).tocoo()
    if counts.nnz == 0:
        raise HTCError("No two words of the vocabulary stand side by side in the corpus; give more or longer texts.")
    of_word = np.bincount(counts.row, weights=counts.data, minlength=number)
    of_context = np.bincount(counts.col, weights=counts.data, minlength=number) ** 0.75
    information = np.log(counts.data * of_context.sum() / (of_word[counts.row] * of_context[counts.col]))
    positive = information > 0
    table = sparse.csr_matrix((information[positive], (counts.row[positive], counts.col[positive])), shape=counts.shape)
    rank = min(size, number - 1)
    left, values, _ = randomized_svd(table, rank, n_iter=4, random_state=seed)
    vectors = np.full((number, size), np.nan, dtype=np.float32)
    known = np.flatnonzero(np.diff(table.indptr))
    vectors[known] = 0
    vectors[known, :rank] = left[known] * np.sqrt(values)
    vectors[known] *= 0.25 / np.sqrt(np.square(vectors[known]).mean())
    return vectors


def _chunks(texts, tokenizer, window, show_progress_bar):
    """Word ids of many texts in one array, -1 for unknown words and between texts, where no window reaches across."""
    special = {tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    iterator, gap = iter(texts), [-1] * window
    bar = tqdm(desc="Word vectors", unit=" texts", disable=show_progress_bar is False, delay=3)
    gathered = []
    while batch := list(itertools.islice(iterator, 512)):
        for encoding in tokenizer.backend_tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            gathered.extend(-1 if i in special else i for i in encoding.ids)
            gathered.extend(gap)
        bar.update(len(batch))
        if len(gathered) > _CHUNK:
            yield np.array(gathered)
            gathered = []
    bar.close()
    if gathered:
        yield np.array(gathered)


def build_text_rcnn(
    texts: Iterable[str],
    word_vectors: str = "corpus",
    min_count: int = 2,
    max_size: int = 50_000,
    lowercase: bool = True,
    max_length: int = 256,
    seed: int = 0,
    **config: Any,
) -> tuple[TextRCNNModel, PreTrainedTokenizerFast]:
    """
    A TextRCNN encoder with the vocabulary of a corpus, and its tokenizer.

    Args:
        texts (`Sequence[str]`): The training texts only.
        word_vectors (`str`, *optional*, defaults to `"corpus"`): `"corpus"` trains them ([`train_word_vectors`]), `"random"` has
            none, anything else is a file ([`read_word_vectors`]), whose words fill the vocabulary up to `max_size`.
        min_count, max_size, lowercase, max_length: See [`train_word_tokenizer`].
        seed (`int`, *optional*, defaults to 0): Of the vectors; the encoder's other weights follow torch's random state.
        config: Options of [`TextRCNNConfig`].

    Returns:
        `tuple`: [`TextRCNNModel`] and `PreTrainedTokenizerFast`.

    Raises:
        `ValueError`: an unknown option, or a file whose vectors are not as wide as `embedding_size`.

    Example:

    ```python
    encoder, tokenizer = build_text_rcnn(dataset["train"]["text"])
    encoder.save_pretrained("textrcnn")
    tokenizer.save_pretrained("textrcnn")
    model = HiAGMForHierarchicalTextClassification.from_text_encoder("textrcnn", hierarchy=hierarchy, tokenizer=tokenizer)
    ```
    """
    from hf_htc.models.configuration_htc import check_config_keywords
    from hf_htc.models.configuration_textrcnn import TextRCNNConfig
    from hf_htc.models.modeling_textrcnn import TextRCNNModel

    check_config_keywords(TextRCNNConfig, config)
    from_file = word_vectors not in ("corpus", "random")
    extra = read_word_vectors(word_vectors) if from_file else ()
    tokenizer = train_word_tokenizer(texts, min_count, max_size, lowercase, max_length, extra)
    size, vectors = config.pop("embedding_size", None), None
    if from_file:
        vectors = read_word_vectors(word_vectors, tokenizer)
        if size not in (None, vectors.shape[1]):
            raise HTCError(f"`embedding_size` is {size}, but the vectors of the file have {vectors.shape[1]} numbers.")
        size = vectors.shape[1]
    elif word_vectors == "corpus":
        vectors = train_word_vectors(texts, tokenizer, size or TextRCNNConfig.embedding_size, seed=seed)
    encoder = TextRCNNModel(
        TextRCNNConfig(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            embedding_size=size or TextRCNNConfig.embedding_size,
            **config,
        )
    )
    if vectors is not None:
        encoder.set_word_vectors(vectors)
    return encoder, tokenizer
