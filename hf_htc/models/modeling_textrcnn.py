"""TextRCNN, the text encoder of HiAGM, HTCInfoMax, HiMatch and HiTIN without BERT (Zhou et al., ACL 2020, after Lai et al., AAAI
2015): word vectors, a bidirectional GRU, convolutions over its states, the `top_k` largest values of each feature over time.

Legend: `B` documents, `T` tokens, `E` embedding size, `G` GRU size in one direction, `F` filters of a kernel, `H` hidden size
(`F` times the number of kernels).
"""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_textrcnn import TextRCNNConfig
from .errors import HTCError
from .modules import left_align


class TopKPooler(nn.Module):
    """The `top_k` largest values of every feature over time, in descending order: `(B, F, T')` to `(B, F * top_k)`."""

    def __init__(self, config):
        super().__init__()
        self.top_k = config.top_k

    def forward(self, features):
        # A text shorter than top_k: features are not negative, so zeros come last.
        features = nn.functional.pad(features, (0, max(0, self.top_k - features.shape[-1])))
        return features.topk(self.top_k, dim=-1).values.flatten(1)


class TextRCNNModel(PreTrainedModel):
    """
    The text encoder. Registered with `AutoModel`; every method takes it as its `text_config` or in `from_text_encoder`.

    Example:

    ```python
    tokenizer = train_word_tokenizer(texts)
    encoder = TextRCNNModel(TextRCNNConfig(vocab_size=len(tokenizer)))
    encoder.set_word_vectors(train_word_vectors(texts, tokenizer))
    ```
    """

    config: TextRCNNConfig
    base_model_prefix = "model"
    # There is no attention; whatever implementation the method's other parts use is as good.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # torch.export writes a recurrent layer out word by word, so an exported model has one length.
    supports_dynamic_length = False

    def __init__(self, config):
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.embedding_dropout = nn.Dropout(config.embedding_dropout)
        # Two layers of one direction rather than a bidirectional one: the second reads each text from its own last word on.
        self.gru_forward = nn.GRU(config.embedding_size, config.gru_hidden_size, batch_first=True)
        self.gru_backward = nn.GRU(config.embedding_size, config.gru_hidden_size, batch_first=True)
        self.gru_dropout = nn.Dropout(config.gru_dropout)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(2 * config.gru_hidden_size, config.num_filters, kernel, padding=kernel // 2)
            for kernel in config.kernel_sizes
        )
        self.pooler = TopKPooler(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, (nn.GRU, nn.Conv1d)):
            # Uniform in the inverse root of the inputs, torch's own for both.
            fan_in = module.hidden_size if isinstance(module, nn.GRU) else module.in_channels * module.kernel_size[0]
            for parameter in module.parameters():
                init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5)

    def get_input_embeddings(self):
        return self.word_embeddings

    def set_input_embeddings(self, value):
        self.word_embeddings = value

    @torch.no_grad()
    def set_word_vectors(self, vectors):
        """
        Starts the words at these vectors; they are trained further.

        Args:
            vectors (`torch.Tensor` or `numpy.ndarray` of shape `(vocab_size, embedding_size)`): NaN rows (words without a vector)
                keep their random one, the padding word keeps zero.

        Raises:
            `ValueError`: another shape.
        """
        vectors = torch.as_tensor(vectors)
        weight = self.word_embeddings.weight
        if vectors.shape != weight.shape:
            raise HTCError(
                f"`vectors` has the shape {tuple(vectors.shape)}; vocabulary and embedding size make {tuple(weight.shape)}."
            )
        known = ~vectors.isnan().any(dim=1)
        if self.config.pad_token_id is not None:
            known[self.config.pad_token_id] = False
        weight[known.to(weight.device)] = vectors[known].to(weight)

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        inputs_embeds=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    ):
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(B, T)`): Word ids, padded left or right.
            attention_mask (`torch.Tensor` of shape `(B, T)`, *optional*): 1 for words, 0 for padding.
            inputs_embeds (`torch.FloatTensor` of shape `(B, T, E)`, *optional*): Instead of `input_ids`.
            output_attentions (`bool`, *optional*): There are none.

        Returns:
            `BaseModelOutputWithPooling`, on left-aligned words: `last_hidden_state (B, T, H)`, every word's n-gram features
            of all kernels; `pooler_output (B, H * top_k)`, the text vector, kernel by kernel, in it feature by feature;
            `hidden_states`, the word vectors `(B, T, E)` and the states of the GRU `(B, T, 2 G)`.

        Raises:
            `ValueError`: not exactly one of `input_ids` and `inputs_embeds`.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise HTCError("Give either `input_ids` or `inputs_embeds`.")
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if attention_mask is None:
            attention_mask = torch.ones(words.shape[:2], dtype=torch.long, device=words.device)
        attention_mask, words = left_align(attention_mask, words)
        if not self.config.mask_padding:  # there, a batch is as wide as its longest text
            longest = int(attention_mask.sum(1).max())
            attention_mask, words = attention_mask[:, :longest], words[:, :longest]
        states = self._recur(self.embedding_dropout(words), attention_mask)  # (B, T, 2 G)
        features = self._ngrams(self.gru_dropout(states), attention_mask)  # one (B, F, T') a kernel
        num_tokens = words.shape[1]
        hidden_states = (words, states) if (output_hidden_states or self.config.output_hidden_states) else None
        output = BaseModelOutputWithPooling(
            last_hidden_state=torch.cat([feature[:, :, :num_tokens] for feature in features], dim=1).transpose(1, 2),
            pooler_output=None if self.pooler is None else torch.cat([self.pooler(feature) for feature in features], dim=1),
            hidden_states=hidden_states,
        )
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _recur(self, words, attention_mask):
        """States of both directions, zero at padding; the backward one begins at each text's last word."""
        lengths = attention_mask.sum(1, keepdim=True)  # (B, 1)
        places = torch.arange(words.shape[1], device=words.device).unsqueeze(0)
        mirrored = torch.where(places < lengths, lengths - 1 - places, places)  # (B, T): the same there and back

        def mirror(tensor):
            return tensor.gather(1, mirrored.unsqueeze(-1).expand(-1, -1, tensor.shape[-1]))

        backward = mirror(self.gru_backward(mirror(words))[0])
        states = torch.cat([self.gru_forward(words)[0], backward], dim=-1)
        return states * attention_mask.unsqueeze(-1).to(states.dtype)

    def _ngrams(self, states, attention_mask):
        """n-gram features, `(B, F, T')` a kernel; `T'` is `T`, for kernels of even size `T + 1`."""
        lengths, features = attention_mask.sum(1), []
        for convolution in self.convolutions:
            feature = torch.relu(convolution(states.transpose(1, 2)))
            if self.config.mask_padding:
                # As many as the text alone would give: windows further to the right see padding, some a last word with it.
                kernel = convolution.kernel_size[0]
                count = lengths + 2 * (kernel // 2) - kernel + 1
                places = torch.arange(feature.shape[-1], device=feature.device)
                feature = feature * (places < count.unsqueeze(1)).unsqueeze(1).to(feature.dtype)
            features.append(feature)
        return features
