"""GPT-2 without norms, or with some of them removed, as normlab exports it.

What is left of the norms is in config.json, section "normlab"; the head has a bias where it says so.
All else (attention, cache, generation) is GPT-2 as transformers computes it.
"""

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from .normlab_norms import gives_two, make_norm


class NormlabGPT2Config(GPT2Config):
    model_type = "normlab_gpt2"


class TwoInputs(Conv1D):
    """Queries and keys from the first half of what comes in, values from the second."""

    def forward(self, x):
        for_queries, for_values = x.chunk(2, dim=-1)
        columns = self.nf // 3 * 2
        return torch.cat((super().forward(for_queries)[..., :columns],
                          super().forward(for_values)[..., columns:]), dim=-1)


class NormlabGPT2LMHeadModel(GPT2LMHeadModel):
    config_class = NormlabGPT2Config
    config: NormlabGPT2Config

    def __init__(self, config):
        super().__init__(config)
        width, epsilon = config.n_embd, config.layer_norm_epsilon
        for layer, block in enumerate(self.transformer.h):
            block.ln_1 = make_norm(config, width, epsilon, ("attention_qk", "attention_v"), layer)
            block.ln_2 = make_norm(config, width, epsilon, ("mlp",), layer)
            if gives_two(block.ln_1):
                block.attn.c_attn = TwoInputs(3 * width, width)
        self.transformer.ln_f = make_norm(config, width, epsilon, ("final",))
        if config.normlab["head_bias"]:
            self.lm_head = nn.Linear(width, config.vocab_size, bias=True)
        self.post_init()
