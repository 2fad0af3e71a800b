"""Norms as their removal has left them."""

import torch
from torch import nn

LIVE = (1.0, 1.0)


class Norm(nn.Module):
    """A norm whose 1/std is gate/std(x) + (1 - gate)/sigma: gate 1 is live, 0 frozen at sigma.

    RMSNorm has neither mean nor bias. Attention's norm may stand in two states, of which the first
    is for queries and keys, the second for values: then both results come out side by side.
    """

    def __init__(self, width, epsilon, centres, states):
        super().__init__()
        self.epsilon, self.centres, self.states = epsilon, centres, states
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if centres else None

    def forward(self, x):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.centres:
            wide = wide - wide.mean(-1, keepdim=True)
        inverse_std = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        results = []
        for gate, sigma in self.states:
            y = wide * (gate * inverse_std + (1 - gate) / sigma) * self.weight
            results.append(y + self.bias if self.centres else y)
        return torch.cat(results, dim=-1).to(x.dtype)


def make_norm(config, width, epsilon, sites, layer=None):
    """The norm at one or two sites of a layer. What is not listed in config.json is live."""
    section = config.normlab
    if section["placement"] == "none":
        return nn.Identity()
    listed = {(norm["site"], norm["layer"]): (norm["gate"], norm["std"])
              for norm in section["norms"]}
    states = [listed.get((site, layer), LIVE) for site in sites]
    if states[0] == states[-1]:
        states = states[:1]
    return Norm(width, epsilon, section["norm"] == "layernorm", states)


def gives_two(norm):
    """Whether values have an input of their own."""
    return isinstance(norm, Norm) and len(norm.states) == 2
