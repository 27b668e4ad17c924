#!/usr/bin/env python3
"""Makes tiny_granite.gguf, a random granitehybrid model whose every multiplier differs from 1, and
tiny_granite_reference.safetensors: what transformers computes with it, in fp32 on the CPU.

    make_tiny_granite.py OUTPUT_FOLDER

Needs torch, transformers, gguf and safetensors. Four layers (Mamba-2, attention, Mamba-2,
attention), grouped queries, two groups of B and C for four heads, an output matrix of its own.
Stored: `input_ids` [50], `logits` [50, 96], `ssm` [2, 4, 8, 8] and `conv` [2, 3, 64] (the recurrent
states after the last token).
"""
import sys

import gguf
import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import GraniteMoeHybridConfig, GraniteMoeHybridForCausalLM

LAYERS = ["mamba", "attention", "mamba", "attention"]
TOKENS = 50
CONFIG = dict(
    vocab_size=96, hidden_size=32, intermediate_size=48, shared_intermediate_size=48,
    num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, hidden_act="silu",
    rms_norm_eps=1e-4, rope_theta=5000.0, position_embedding_type="rope",
    max_position_embeddings=256, tie_word_embeddings=False, attention_bias=False,
    attention_multiplier=0.31, embedding_multiplier=3.0, residual_multiplier=0.6,
    logits_scaling=2.5, num_local_experts=0, num_experts_per_tok=0, layer_types=LAYERS,
    mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8, mamba_n_groups=2, mamba_d_conv=4,
    mamba_expand=1, mamba_chunk_size=16, mamba_conv_bias=True, mamba_proj_bias=False)


def interleaved(rows, heads):
    """HF row s*d/2+i of a head becomes row 2i+s, as GGUF files keep q and k."""
    out, width = rows.shape
    dim = out // heads
    return rows.reshape(heads, 2, dim // 2, width).swapaxes(1, 2).reshape(out, width)


def randomise(model):
    generator = torch.Generator().manual_seed(11)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("A_log"):
            value = torch.log(torch.rand(parameter.shape, generator=generator) * 4 + 0.2)
        elif name.endswith("norm.weight"):
            value = 1 + 0.3 * noise
        elif parameter.dim() >= 2 and "conv1d" not in name and "embed" not in name:
            value = noise * 1.5 / parameter.shape[-1] ** 0.5
        else:
            value = 0.5 * noise
        parameter.data.copy_(value)


def write_gguf(model, path):
    c = CONFIG
    writer = gguf.GGUFWriter(path, "granitehybrid")
    key = lambda name: "granitehybrid." + name
    for name, value in {
            "block_count": len(LAYERS), "context_length": c["max_position_embeddings"],
            "embedding_length": c["hidden_size"], "feed_forward_length": c["intermediate_size"],
            "attention.head_count": c["num_attention_heads"], "vocab_size": c["vocab_size"],
            "rope.dimension_count": c["hidden_size"] // c["num_attention_heads"],
            "ssm.conv_kernel": c["mamba_d_conv"],
            "ssm.inner_size": c["mamba_n_heads"] * c["mamba_d_head"],
            "ssm.state_size": c["mamba_d_state"], "ssm.time_step_rank": c["mamba_n_heads"],
            "ssm.group_count": c["mamba_n_groups"]}.items():
        writer.add_uint32(key(name), value)
    for name, value in {
            "attention.layer_norm_rms_epsilon": c["rms_norm_eps"],
            "rope.freq_base": c["rope_theta"], "attention.scale": c["attention_multiplier"],
            "embedding_scale": c["embedding_multiplier"],
            "residual_scale": c["residual_multiplier"],
            "logit_scale": c["logits_scaling"]}.items():
        writer.add_float32(key(name), value)
    writer.add_array(key("attention.head_count_kv"),
                     [0 if kind == "mamba" else c["num_key_value_heads"] for kind in LAYERS])
    weights = {k: v.detach().numpy().astype(np.float32) for k, v in model.state_dict().items()}
    add = lambda name, value: writer.add_tensor(name, np.ascontiguousarray(value))
    add("token_embd.weight", weights["model.embed_tokens.weight"])
    add("output_norm.weight", weights["model.norm.weight"])
    add("output.weight", weights["lm_head.weight"])
    for i, kind in enumerate(LAYERS):
        get = lambda name: weights[f"model.layers.{i}.{name}"]
        block = f"blk.{i}."
        add(block + "attn_norm.weight", get("input_layernorm.weight"))
        add(block + "ffn_norm.weight", get("post_attention_layernorm.weight"))
        gate, up = np.split(get("shared_mlp.input_linear.weight"), 2)
        add(block + "ffn_gate.weight", gate)
        add(block + "ffn_up.weight", up)
        add(block + "ffn_down.weight", get("shared_mlp.output_linear.weight"))
        if kind == "attention":
            add(block + "attn_q.weight",
                interleaved(get("self_attn.q_proj.weight"), c["num_attention_heads"]))
            add(block + "attn_k.weight",
                interleaved(get("self_attn.k_proj.weight"), c["num_key_value_heads"]))
            add(block + "attn_v.weight", get("self_attn.v_proj.weight"))
            add(block + "attn_output.weight", get("self_attn.o_proj.weight"))
        else:
            add(block + "ssm_in.weight", get("mamba.in_proj.weight"))
            add(block + "ssm_conv1d.weight", get("mamba.conv1d.weight")[:, 0, :])
            add(block + "ssm_conv1d.bias", get("mamba.conv1d.bias"))
            add(block + "ssm_dt.bias", get("mamba.dt_bias"))
            add(block + "ssm_a", -np.exp(get("mamba.A_log"))[:, None])
            add(block + "ssm_d", get("mamba.D")[:, None])
            add(block + "ssm_norm.weight", get("mamba.norm.weight").reshape(
                c["mamba_n_groups"], -1))
            add(block + "ssm_out.weight", get("mamba.out_proj.weight"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class GroupedNorm(torch.nn.Module):
    """The gated norm over each group, gate first, whatever transformers' version does."""

    def __init__(self, norm, groups):
        super().__init__()
        self.weight, self.groups = norm.weight, groups
        self.variance_epsilon = norm.variance_epsilon

    def forward(self, hidden, gate=None):
        x = hidden.float() * torch.nn.functional.silu(gate.float())
        grouped = x.view(*x.shape[:-1], self.groups, -1)
        scale = torch.rsqrt(grouped.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * (grouped * scale).view(x.shape)


def main():
    folder = sys.argv[1]
    model = GraniteMoeHybridForCausalLM(GraniteMoeHybridConfig(**CONFIG)).float().eval()
    randomise(model)
    for i, kind in enumerate(LAYERS):
        if kind == "mamba":
            mixer = model.model.layers[i].mamba
            mixer.norm = GroupedNorm(mixer.norm, CONFIG["mamba_n_groups"])
    write_gguf(model, folder + "/tiny_granite.gguf")
    ids = torch.randint(0, CONFIG["vocab_size"], (1, TOKENS),
                        generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        result = model(ids, use_cache=True)
    cache = result.past_key_values
    mamba = [i for i, kind in enumerate(LAYERS) if kind == "mamba"]
    state = lambda i, name: getattr(cache.layers[i], name)[0][0]
    ssm = torch.stack([state(i, "recurrent_states") for i in mamba])
    conv = torch.stack([state(i, "conv_states").T[-3:] for i in mamba])
    save_file({"input_ids": ids[0].numpy().astype(np.int32),
               "logits": result.logits[0].numpy().copy(),
               "ssm": ssm.numpy().copy(), "conv": conv.contiguous().numpy().copy()},
              folder + "/tiny_granite_reference.safetensors")
    print("logits", result.logits.abs().max().item(), "ssm", ssm.shape, "conv", conv.shape)


main()
