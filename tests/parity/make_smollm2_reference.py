#!/usr/bin/env python3
"""Makes smollm2_reference.safetensors: what transformers computes, in fp32 on the CPU, with the
dequantised weights of SmolLM2-135M-Instruct.Q4_1.gguf.

    make_smollm2_reference.py MODEL.gguf TEXT OUTPUT.safetensors

Needs torch, transformers, tokenizers, gguf and safetensors. TEXT is public-domain prose; its first
600 tokens are read. Stored: `input_ids` [600]; `columns` [96] vocabulary ids drawn with a fixed
seed and `logits` [600, 96] at these; `last_logits` [49152], the whole last row; `argmax` [600];
`greedy` [64], the greedy continuation.
"""
import sys

import gguf
import numpy as np
import torch
from gguf.quants import dequantize
from safetensors.numpy import save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TOKENS, COLUMNS, GREEDY = 600, 96, 64


def half_split(rows, heads):
    """Undoes the interleaving of a GGUF's q and k rows: row 2i+s of a head was row s*d/2+i."""
    out, width = rows.shape
    dim = out // heads
    return rows.reshape(heads, dim // 2, 2, width).swapaxes(1, 2).reshape(out, width)


def load(path):
    reader = gguf.GGUFReader(path)
    field = lambda key: reader.fields["llama." + key].contents()
    heads, kv_heads = field("attention.head_count"), field("attention.head_count_kv")
    config = LlamaConfig(
        vocab_size=len(reader.fields["tokenizer.ggml.tokens"].contents()),
        hidden_size=field("embedding_length"), intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"), num_attention_heads=heads,
        num_key_value_heads=kv_heads, rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_theta=field("rope.freq_base"), max_position_embeddings=field("context_length"),
        tie_word_embeddings=True)
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
             "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
             "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    state = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        part = tensor.name.split(".")
        if part[0] == "token_embd":
            state["model.embed_tokens.weight"] = values
            state["lm_head.weight"] = values
        elif part[0] == "output_norm":
            state["model.norm.weight"] = values
        else:
            if part[2] == "attn_q":
                values = half_split(values, heads)
            if part[2] == "attn_k":
                values = half_split(values, kv_heads)
            state[f"model.layers.{part[1]}.{names[part[2]]}.weight"] = values
    model = LlamaForCausalLM(config).float().eval()
    model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()})
    return reader, model


def tokenizer(reader):
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in reader.fields["tokenizer.ggml.merges"].contents()]
    result = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    result.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)])
    result.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=result)


def main():
    path, text_path, output = sys.argv[1:]
    torch.manual_seed(0)
    reader, model = load(path)
    text = open(text_path, encoding="utf-8").read()[:8000]
    ids = torch.tensor([tokenizer(reader)(text)["input_ids"][:TOKENS]])
    with torch.no_grad():
        logits = model(ids).logits[0]
        sequence = ids
        for _ in range(GREEDY):
            sequence = torch.cat([sequence, model(sequence).logits[:, -1:].argmax(-1)], 1)
    columns = np.sort(np.random.default_rng(7).choice(logits.shape[1], COLUMNS, replace=False))
    save_file({
        "input_ids": ids[0].numpy().astype(np.int32),
        "columns": columns.astype(np.int32),
        "logits": logits.numpy()[:, columns].copy(),
        "last_logits": logits[-1].numpy().copy(),
        "argmax": logits.argmax(-1).numpy().astype(np.int32),
        "greedy": sequence[0, TOKENS:].numpy().astype(np.int32),
    }, output)


main()
