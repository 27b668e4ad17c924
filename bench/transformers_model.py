#!/usr/bin/env python3
"""Hybrid models in `transformers`: a GGUF file as GraniteMoeHybridForCausalLM.

    transformers_model.py MODEL.gguf FOLDER             writes a folder as transformers has it
    transformers_model.py MODEL.gguf --check REFERENCE  holds its logits against a reference:
                                                        model/zoo/*/reference.safetensors

Needs torch, transformers 5.23 or newer, gguf, numpy and safetensors. Weights are dequantised to
fp32. Rows of q and k are interleaved in a GGUF file and half-split in transformers
(docs/formats/gguf-hybrid.md): a model with the wrong order still talks, so check it.
"""
import inspect
import os
import sys

import torch
from transformers import AutoConfig, GraniteMoeHybridConfig, GraniteMoeHybridForCausalLM
from transformers.models.granitemoehybrid import modeling_granitemoehybrid

LARGEST_DIFFERENCE = 1e-3  # of fp32 logits whose range is some 40


def half_split(rows, heads):
    """Undoes the interleaving of q's and k's rows: row 2i + s of a head was row s * d / 2 + i."""
    out, width = rows.shape
    return rows.reshape(heads, out // heads // 2, 2, width).swapaxes(1, 2).reshape(out, width)


def config_of(field, tied):
    """What transformers wants to know, from the metadata `field(key)` of a GGUF file."""
    key_value_heads = field("attention.head_count_kv")
    inner, hidden = field("ssm.inner_size"), field("embedding_length")
    heads = field("ssm.time_step_rank")
    assert inner % hidden == 0, "transformers takes a whole number for mamba_expand"
    return GraniteMoeHybridConfig(
        vocab_size=field("vocab_size"), hidden_size=hidden,
        intermediate_size=field("feed_forward_length"),
        shared_intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"),
        num_attention_heads=field("attention.head_count"),
        num_key_value_heads=max(key_value_heads), hidden_act="silu",
        rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_theta=field("rope.freq_base"), position_embedding_type="rope",
        max_position_embeddings=field("context_length"), tie_word_embeddings=tied,
        attention_bias=False, attention_multiplier=field("attention.scale"),
        embedding_multiplier=field("embedding_scale"), residual_multiplier=field("residual_scale"),
        logits_scaling=field("logit_scale"), num_local_experts=0, num_experts_per_tok=0,
        layer_types=["attention" if heads_kv else "mamba" for heads_kv in key_value_heads],
        mamba_n_heads=heads, mamba_d_head=inner // heads, mamba_d_state=field("ssm.state_size"),
        mamba_n_groups=field("ssm.group_count"), mamba_d_conv=field("ssm.conv_kernel"),
        mamba_expand=inner // hidden, mamba_chunk_size=64, mamba_conv_bias=True,
        mamba_proj_bias=False, bos_token_id=1, eos_token_id=2)


def parts_of_layer(weights, config):
    """The tensors of one layer, by the names of GGUF behind `blk.N.`, by those of transformers."""
    names = {"attn_norm.weight": "input_layernorm.weight",
             "ffn_norm.weight": "post_attention_layernorm.weight",
             "ffn_down.weight": "shared_mlp.output_linear.weight",
             "attn_v.weight": "self_attn.v_proj.weight",
             "attn_output.weight": "self_attn.o_proj.weight",
             "ssm_in.weight": "mamba.in_proj.weight", "ssm_conv1d.bias": "mamba.conv1d.bias",
             "ssm_dt.bias": "mamba.dt_bias", "ssm_out.weight": "mamba.out_proj.weight"}
    state = {names[name]: values for name, values in weights.items() if name in names}
    state["shared_mlp.input_linear.weight"] = torch.cat(
        [weights["ffn_gate.weight"], weights["ffn_up.weight"]])
    if "attn_q.weight" in weights:
        state["self_attn.q_proj.weight"] = half_split(weights["attn_q.weight"],
                                                      config.num_attention_heads)
        state["self_attn.k_proj.weight"] = half_split(weights["attn_k.weight"],
                                                      config.num_key_value_heads)
    else:
        state["mamba.conv1d.weight"] = weights["ssm_conv1d.weight"][:, None]
        state["mamba.A_log"] = torch.log(-weights["ssm_a"].flatten())
        state["mamba.D"] = weights["ssm_d"].flatten()
        state["mamba.norm.weight"] = weights["ssm_norm.weight"].flatten()
    return state


def from_gguf(path):
    import gguf  # only here: other models are loaded without it
    from gguf.quants import dequantize

    reader = gguf.GGUFReader(path)
    architecture = reader.fields["general.architecture"].contents()
    if architecture != "granitehybrid":
        sys.exit(f"{path} is a '{architecture}', not a granitehybrid")
    outside, layers = {}, {}
    for tensor in reader.tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        block, number, *rest = tensor.name.split(".", 2)
        if block == "blk":
            layers.setdefault(int(number), {})[rest[0]] = values
        else:
            outside[tensor.name] = values
    tied = "output.weight" not in outside
    config = config_of(lambda key: reader.fields["granitehybrid." + key].contents(), tied)
    embedding = outside["token_embd.weight"]
    state = {"model.embed_tokens.weight": embedding,
             "model.norm.weight": outside["output_norm.weight"],
             "lm_head.weight": embedding if tied else outside["output.weight"]}
    for number, weights in layers.items():
        for name, values in parts_of_layer(weights, config).items():
            state[f"model.layers.{number}.{name}"] = values
    model = GraniteMoeHybridForCausalLM(config).float()
    model.load_state_dict(state)
    return model


def weights_of(path):
    """Where a model's weights are from: "file", "folder" or, of a folder with config.json alone,
    "random": a step takes the same time and memory with any."""
    if os.path.isfile(path):
        return "file"
    saved = any(name.startswith("model") and name.endswith(".safetensors")
                for name in os.listdir(path))
    return "folder" if saved else "random"


def load(path):
    norm = inspect.signature(modeling_granitemoehybrid.GraniteMoeHybridRMSNormGated.__init__)
    if "group_size" not in norm.parameters:
        sys.exit("this transformers norms the mixers' output over all groups at once, which is "
                 "another model; take 5.23 or newer")
    weights = weights_of(path)
    if weights == "file":
        return from_gguf(path)
    if weights == "folder":
        return GraniteMoeHybridForCausalLM.from_pretrained(path, dtype=torch.float32)
    torch.manual_seed(0)
    return GraniteMoeHybridForCausalLM(AutoConfig.from_pretrained(path)).float()


def check(model, reference):
    from safetensors.torch import load_file

    expected = load_file(reference)
    with torch.no_grad():
        logits = model.eval()(input_ids=expected["input_ids"].long()).logits[:, -8:]
    difference = (logits - expected["logits_last_8"]).abs().max().item()
    print(f"largest difference of logits: {difference:.2g}, at most {LARGEST_DIFFERENCE:g}")
    return difference <= LARGEST_DIFFERENCE


if __name__ == "__main__":
    if len(sys.argv) == 3:
        load(sys.argv[1]).save_pretrained(sys.argv[2])
    elif len(sys.argv) == 4 and sys.argv[2] == "--check":
        sys.exit(0 if check(load(sys.argv[1]), sys.argv[3]) else 1)
    else:
        sys.exit(__doc__)
