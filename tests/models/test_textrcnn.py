"""TextRCNN against the numbers of the authors' module (float64) and against plain loops; masking, vectors, saving, loading."""

from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_models import make_batch, make_encoder_config, make_model, make_tree
from transformers import AutoConfig, AutoModel

from hf_htc import FlatForHierarchicalTextClassification, TextRCNNConfig, TextRCNNModel


FIXTURES = Path(__file__).parent.parent / "fixtures" / "global"
TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}


def make_encoder(seed=0, **changes):
    torch.manual_seed(seed)
    return TextRCNNModel(make_encoder_config("htc_textrcnn", **changes)).eval()


def encoder_of_fixture(numbers, top_k, mask_padding):
    config = TextRCNNConfig(
        vocab_size=4, embedding_size=7, gru_hidden_size=4, num_filters=5, top_k=top_k, mask_padding=mask_padding
    )
    encoder = TextRCNNModel(config).double().eval()
    with torch.no_grad():
        for ours, suffix in ((encoder.gru_forward, ""), (encoder.gru_backward, "_reverse")):
            for name, parameter in ours.named_parameters():
                parameter.copy_(numbers[f"w__rnn__gru__{name}{suffix}"])
        for number, convolution in enumerate(encoder.convolutions):
            convolution.weight.copy_(numbers[f"w__convs__{number}__weight"])
            convolution.bias.copy_(numbers[f"w__convs__{number}__bias"])
    return encoder


def test_the_released_behaviour_gives_the_numbers_of_the_authors_module():
    arrays = np.load(FIXTURES / "hiagm_textrcnn_top1.npz")
    numbers = {key: torch.tensor(arrays[key]) for key in arrays}
    encoder, lengths = encoder_of_fixture(numbers, 1, mask_padding=False), numbers["lengths"]
    mask = (torch.arange(numbers["embedding"].shape[1]) < lengths.unsqueeze(1)).long()
    output = encoder(inputs_embeds=numbers["embedding"], attention_mask=mask)
    torch.testing.assert_close(output.pooler_output, numbers["concat_flat"], **TOLERANCE)
    for number, kernel in enumerate((2, 3, 4)):
        expected = numbers[f"out_kernel{kernel}"].squeeze(1)
        torch.testing.assert_close(output.pooler_output[:, 5 * number : 5 * number + 5], expected, **TOLERANCE)
    rows = [0, 2]
    alone = encoder(inputs_embeds=numbers["embedding"][rows], attention_mask=mask[rows])
    torch.testing.assert_close(alone.pooler_output, numbers["out_flat_without_longest_sample"], **TOLERANCE)


def reference(encoder, words):
    """The text vector of one unpadded text `(T, E)`, in plain loops over words, features and windows."""
    config = encoder.config

    def gru(layer, sequence):
        h, states = torch.zeros(config.gru_hidden_size, dtype=words.dtype), []
        for x in sequence:
            inputs = (layer.weight_ih_l0 @ x + layer.bias_ih_l0).chunk(3)
            own = (layer.weight_hh_l0 @ h + layer.bias_hh_l0).chunk(3)
            reset, update = torch.sigmoid(inputs[0] + own[0]), torch.sigmoid(inputs[1] + own[1])
            h = (1 - update) * torch.tanh(inputs[2] + reset * own[2]) + update * h
            states.append(h)
        return states

    forward, backward = gru(encoder.gru_forward, words), gru(encoder.gru_backward, words.flip(0))[::-1]
    states = [torch.cat(pair) for pair in zip(forward, backward)]
    vector = []
    for convolution in encoder.convolutions:
        kernel = convolution.kernel_size[0]
        zeros = [torch.zeros_like(states[0])] * (kernel // 2)
        padded = zeros + states + zeros
        windows = [torch.stack(padded[i : i + kernel], dim=1) for i in range(len(padded) - kernel + 1)]
        for weight, bias in zip(convolution.weight, convolution.bias):
            values = [((weight * window).sum() + bias).clamp(min=0) for window in windows]
            values += [torch.zeros((), dtype=words.dtype)] * (config.top_k - len(values))
            vector += sorted(values, key=float, reverse=True)[: config.top_k]
    return torch.stack(vector)


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_masked_texts_are_what_they_are_alone_with_gradients(top_k):
    encoder = make_encoder(top_k=top_k, kernel_sizes=[1, 2, 3, 4, 5]).double()
    batch = make_batch(5, 7)  # texts of 7, 6, ... 3 words, a padded word behind the shorter ones
    batch["attention_mask"][4, 1:] = 0  # and one of a single word
    words = encoder.word_embeddings(batch["input_ids"]).detach().requires_grad_()
    output = encoder(inputs_embeds=words, attention_mask=batch["attention_mask"]).pooler_output
    expected = torch.stack([reference(encoder, row[: int(mask.sum())]) for row, mask in zip(words, batch["attention_mask"])])
    torch.testing.assert_close(output, expected, **TOLERANCE)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    targets = [words, *(p for name, p in encoder.named_parameters() if not name.startswith("word_embeddings"))]
    ours, theirs = (torch.autograd.grad((out * cotangent).sum(), targets) for out in (output, expected))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, **TOLERANCE)


def test_released_vectors_depend_on_the_neighbours_and_ours_do_not():
    for mask_padding in (True, False):
        # With biases that are all positive an unmasked window over padding beats the words' own.
        encoder = make_encoder(top_k=2, mask_padding=mask_padding)
        with torch.no_grad():
            for convolution in encoder.convolutions:
                convolution.bias.fill_(1.0)
        batch = make_batch(4, 9)
        together = encoder(**batch).pooler_output[3]
        alone = encoder(**{key: value[3:, :6] for key, value in batch.items()}).pooler_output[0]
        assert torch.allclose(together, alone, atol=1e-6) == mask_padding


def test_left_padding_is_right_padding():
    encoder, batch = make_encoder(), make_batch()
    left = {
        key: torch.stack([row.roll(int((mask == 0).sum())) for row, mask in zip(value, batch["attention_mask"])])
        for key, value in batch.items()
    }
    torch.testing.assert_close(encoder(**left).pooler_output, encoder(**batch).pooler_output)


def test_states_are_the_ngram_features_of_every_word():
    encoder, batch = make_encoder(), make_batch(1, 6)
    output = encoder(**batch, output_hidden_states=True)
    assert output.last_hidden_state.shape == (1, 6, encoder.config.hidden_size)
    assert [state.shape[-1] for state in output.hidden_states] == [10, 8]
    # The largest value over time of the kernel of odd size is that of its states; the even ones see one window more.
    torch.testing.assert_close(output.last_hidden_state[0, :, 5:10].max(0).values, output.pooler_output[0, 5:10])
    assert encoder(**batch, return_dict=False)[0].equal(output.last_hidden_state)


def test_a_text_without_words_has_finite_states():
    output = make_encoder(top_k=2)(input_ids=torch.zeros(2, 1, dtype=torch.long), attention_mask=torch.tensor([[0], [1]]))
    assert torch.isfinite(output.pooler_output).all()


def test_saved_and_loaded_by_auto_model(tmp_path):
    encoder, batch = make_encoder(), make_batch()
    encoder.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert type(loaded) is TextRCNNModel and type(AutoConfig.from_pretrained(tmp_path)) is TextRCNNConfig
    assert torch.equal(loaded(**batch).pooler_output, encoder(**batch).pooler_output)
    built = FlatForHierarchicalTextClassification.from_text_encoder(str(tmp_path), hierarchy=make_tree()).eval()
    assert built.config.pooling == "pooler" and built.config.text_config._name_or_path == ""
    assert torch.equal(built.model(**batch).pooler_output, encoder(**batch).pooler_output)
    built.resize_token_embeddings(built.config.text_config.vocab_size + 3)
    built.save_pretrained(tmp_path / "grown")
    assert AutoConfig.from_pretrained(tmp_path / "grown").text_config.vocab_size == encoder.config.vocab_size + 3


def test_wider_text_vectors_fit_every_classifier():
    text_config = make_encoder_config("htc_textrcnn", top_k=2)
    for method, pooling, width in (("flat", "auto", 30), ("hiagm", "auto", 30), ("flat", "mean", 15)):
        model = make_model(method, make_tree(), text_config, pooling=pooling)
        layer = model.classifier.out_proj if method == "flat" else model.classifier.transformation
        assert layer.in_features == width
        assert torch.isfinite(model(**make_batch()).logits).all()


def test_word_vectors():
    encoder = make_encoder()
    vectors = torch.full((encoder.config.vocab_size, 10), float("nan"))
    vectors[0], vectors[5], vectors[7] = 1.0, 2.0, torch.arange(10.0)
    before = encoder.word_embeddings.weight.detach().clone()
    encoder.set_word_vectors(vectors.numpy())
    after = encoder.word_embeddings.weight.detach()
    assert (after[0] == 0).all() and (after[5] == 2).all() and torch.equal(after[7], torch.arange(10.0))
    others = [i for i in range(len(after)) if i not in (5, 7)]
    assert torch.equal(after[others], before[others]) and torch.isfinite(after).all()
    with pytest.raises(ValueError, match=r"`vectors` has the shape \(3, 10\)"):
        encoder.set_word_vectors(torch.zeros(3, 10))


def test_random_weights_have_the_sizes_they_should():
    torch.manual_seed(0)
    encoder = TextRCNNModel(TextRCNNConfig(vocab_size=500)).requires_grad_(False)
    assert (encoder.word_embeddings.weight[0] == 0).all()
    assert encoder.word_embeddings.weight[1:].std() == pytest.approx(0.1, rel=0.02)
    assert encoder.gru_backward.weight_ih_l0.abs().max() == pytest.approx(64**-0.5, rel=0.01)
    assert encoder.convolutions[2].weight.abs().max() == pytest.approx((128 * 4) ** -0.5, rel=0.01)
    # Beside the words, which are 15.0 M at the papers' 50,002.
    assert (
        sum(p.numel() for n, p in encoder.named_parameters() if "word" not in n) == 2 * 3 * 64 * (300 + 64 + 2) + 128 * 900 + 300
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 0}, "`vocab_size` is 0"),
        ({"top_k": 0}, "`top_k` is 0"),
        ({"kernel_sizes": []}, "`kernel_sizes` is"),
        ({"kernel_sizes": [2, 0]}, "`kernel_sizes` is"),
        ({"gru_dropout": 1.0}, "`gru_dropout` is 1.0"),
        ({"vocab_size": 5, "pad_token_id": 5}, "`pad_token_id` is 5"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(StrictDataclassError, match=message):
        TextRCNNConfig(**options)


def test_both_or_no_inputs_are_refused():
    encoder = make_encoder()
    for inputs in ({}, {"input_ids": torch.ones(1, 2, dtype=torch.long), "inputs_embeds": torch.ones(1, 2, 10)}):
        with pytest.raises(ValueError, match="Give either `input_ids` or `inputs_embeds`"):
            encoder(**inputs)
