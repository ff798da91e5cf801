"""Prompts: vectors that a model puts among the token embeddings of a text.

Legend: `B` documents, `T` tokens, `P` prompt positions, `E` embedding size.
"""

import torch


def append_prompts(embeds, attention_mask, prompts, last_stays=False):
    """
    Puts prompts directly behind each row's last real token. Behind the padding they would change with it, on every encoder whose
    positions are counted from the first token.

    Args:
        embeds (`torch.Tensor` of shape `(B, T, E)`): Left-aligned token embeddings.
        attention_mask (`torch.Tensor` of shape `(B, T)`): 1 for real tokens, which stand in front.
        prompts (`torch.Tensor` of shape `(P, E)` or `(B, P, E)`).
        last_stays (`bool`, *optional*, defaults to `False`): Whether the last real token, [SEP], stays the last.

    Returns:
        `tuple`: the embeddings `(B, T + P, E)`, their mask, and where the prompts stand, `(B, P)`.
    """
    batch, length, _ = embeds.shape
    if prompts.dim() == 2:
        prompts = prompts.unsqueeze(0).expand(batch, -1, -1)
    number = prompts.shape[1]
    num_tokens = attention_mask.sum(1, keepdim=True).long()  # (B, 1)
    place = torch.arange(length + number, device=embeds.device)  # (T + P,)
    front = (num_tokens - 1).clamp(min=0) if last_stays else num_tokens
    # Tokens, then prompts, then what was behind the tokens: the padding.
    source = torch.where(place < front + number, length + place - front, place - number)
    source = torch.where(place < front, place, source)
    whole = torch.cat([embeds, prompts.to(embeds.dtype)], 1)
    embeds = whole.gather(1, source.unsqueeze(-1).expand(-1, -1, whole.shape[-1]))
    mask = (place < num_tokens + number).to(attention_mask.dtype)
    return embeds, mask, front + torch.arange(number, device=mask.device)


@torch.no_grad()
def mean_word_vectors(embedding, tokenizer, texts, add_special_tokens=False):
    """
    One vector a text: the mean of the word embeddings of its tokens.

    Args:
        embedding (`nn.Embedding`): The encoder's word embeddings.
        tokenizer (`PreTrainedTokenizer`): Theirs.
        texts (`list[str]`): A text without a token (of a tokenizer that knows no word of it) gets the mean over the whole table.
        add_special_tokens (`bool`, *optional*, defaults to `False`): Whether tokens such as [CLS] and [SEP] count too.

    Returns:
        `torch.Tensor` of shape `(len(texts), E)`.
    """
    rows = tokenizer(list(texts), add_special_tokens=add_special_tokens)["input_ids"] if texts else []
    weight = embedding.weight
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long, device=weight.device)
    text = torch.repeat_interleave(torch.arange(len(rows), device=weight.device), lengths)
    tokens = torch.tensor([token for row in rows for token in row], dtype=torch.long, device=weight.device)
    sums = weight.new_zeros(len(rows), weight.shape[1]).index_add(0, text, embedding(tokens))
    return torch.where(lengths.unsqueeze(1) > 0, sums / lengths.clamp(min=1).unsqueeze(1), weight.mean(0))
