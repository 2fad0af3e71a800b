"""LLaMA, Mistral or Qwen2 without norms, or with some of them removed, as normlab exports it.

What is left of the norms is in config.json, section "normlab"; so is which projections have a bias.
All else is Mistral as transformers computes it, without a sliding window: which is LLaMA, but that
its heads need not divide the width.
"""

from torch import nn
from transformers import MistralConfig, MistralForCausalLM

from .normlab_norms import gives_two, make_norm


class NormlabLlamaConfig(MistralConfig):
    model_type = "normlab_llama"
    sliding_window: int | None = None


class OneOfTwo(nn.Linear):
    """Reads one half of what comes in: 0, for queries and keys, or 1, for values."""

    def __init__(self, half, *sizes, bias):
        super().__init__(*sizes, bias=bias)
        self.half = half

    def forward(self, x):
        return super().forward(x.chunk(2, dim=-1)[self.half])


def with_bias(linear):
    return nn.Linear(linear.in_features, linear.out_features, bias=True)


class NormlabLlamaForCausalLM(MistralForCausalLM):
    config_class = NormlabLlamaConfig
    config: NormlabLlamaConfig

    def __init__(self, config):
        super().__init__(config)
        width, epsilon = config.hidden_size, config.rms_norm_eps
        for layer, block in enumerate(self.model.layers):
            block.input_layernorm = make_norm(
                config, width, epsilon, ("attention_qk", "attention_v"), layer)
            block.post_attention_layernorm = make_norm(config, width, epsilon, ("mlp",), layer)
            self.add_biases(block)
            if gives_two(block.input_layernorm):
                self.split_inputs(block.self_attn)
        self.model.norm = make_norm(config, width, epsilon, ("final",))
        if config.normlab["head_bias"]:
            self.lm_head = with_bias(self.lm_head)
        self.post_init()

    def add_biases(self, block):
        biased = {"none": (), "qkv": ("q_proj", "k_proj", "v_proj"),
                  "all": ("q_proj", "k_proj", "v_proj", "o_proj",
                          "gate_proj", "up_proj", "down_proj")}[self.config.normlab["biases"]]
        for part in (block.self_attn, block.mlp):
            for name, linear in list(part.named_children()):
                if name in biased:
                    setattr(part, name, with_bias(linear))

    @staticmethod
    def split_inputs(attention):
        for half, name in ((0, "q_proj"), (0, "k_proj"), (1, "v_proj")):
            linear = getattr(attention, name)
            setattr(attention, name, OneOfTwo(half, linear.in_features, linear.out_features,
                                              bias=linear.bias is not None))
