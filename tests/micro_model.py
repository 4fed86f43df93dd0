"""A transformer whose logits are whole numbers that can be worked out on paper.

Two layers of two heads on a residual stream with five named directions:

    tok_embeds  t = 2 · token id          pos_embeds  one = 1 at every position
    a0.h0       a += mean of t            (uniform attention: queries and keys are 0)
    a0.h1       b += t where t is largest (score = 1000 · one · t; softmax is 0 or 1 exactly)
    m0          m += relu(a − t)
    a1.h0       a += mean of b + 2m       (uniform)
    a1.h1       b += t where m is largest (score = 1000 · one · m)
    m1          m += relu(b − t)
    output      t + 10a + 100b + 1000m

With two tokens every mean is a whole number or a half. Clean tokens 1, 2 and corrupted tokens 3, 1:

                       clean          corrupted
    t                  2, 4           6, 2
    a0.h0              3, 3           4, 4
    a0.h1              4, 4           6, 6
    m0                 1, 0           0, 2
    a1.h0              5, 5           8, 8
    a1.h1              2, 2           2, 2
    m1                 4, 2           2, 6
    output             5682, 2684     2926, 8922
"""

import torch
from torch import Tensor

from model_patches.tracr import TracrConfig, TracrModel

CLEAN, CORRUPTED = [1, 2], [3, 1]
CLEAN_LOGITS, CORRUPTED_LOGITS = [5682, 2684], [2926, 8922]
T, ONE, A, B, M = range(5)
SHARP = 1000.0


def micro_model(dtype: torch.dtype = torch.float64) -> TracrModel:
    config = TracrConfig(
        num_hidden_layers=2, num_attention_heads=2, head_dim=1, hidden_size=5, intermediate_size=1,
        vocab_size=4, output_size=1, max_position_embeddings=2,
    )  # fmt: skip
    model = TracrModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.tok_embeds.weight[:, T] = 2 * torch.arange(4)
        model.pos_embeds.weight[:, ONE] = 1
        for layer, key, reads in ((0, T, {T: 1}), (1, M, {B: 1, M: 2})):
            block = model.blocks[layer]
            attention: dict[str, Tensor] = dict(block.named_parameters())
            attention["attention.query.weight"][1, ONE] = 1
            attention["attention.key.weight"][1, key] = SHARP
            for direction, factor in reads.items():
                attention["attention.value.weight"][0, direction] = factor
            attention["attention.value.weight"][1, T] = 1
            attention["attention.output.weight"][A, 0] = 1
            attention["attention.output.weight"][B, 1] = 1
            attention["mlp.up.weight"][0, A if layer == 0 else B] = 1
            attention["mlp.up.weight"][0, T] = -1
            attention["mlp.down.weight"][M, 0] = 1
        for direction, factor in ((T, 1), (A, 10), (B, 100), (M, 1000)):
            model.unembed.weight[0, direction] = factor
    return model.to(dtype).eval()
