#!/usr/bin/env python3
"""Makes adapters as PEFT writes them, and what the adapted models compute: fp32 on the CPU.

    make_peft_adapter.py PARITY_FOLDER OUTPUT_FOLDER    makes peft_llama/ and peft_granite/
    make_peft_adapter.py --check BASE ADAPTER REFERENCE holds logits of a folder that eidetic wrote
                                                        against those of a reference

The bases are llama_folder and granite_folder of tests/parity. peft_llama: LoRA on every matrix of
attention and feed-forward, ranks and alphas that differ by pattern, rsLoRA. peft_granite: HyLoRA, so
LoRA on q, k, v, o and in_proj beside trained embeddings, norms and convolutions; its base ties the
embedding to the output matrix. Random numbers of the size that training gives. Beside each adapter
reference.safetensors: `input_ids` [40] and the `logits` [8, 300] after the last 8 of them.

Needs torch, transformers, peft and safetensors.
"""
import os
import re
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

TOKENS, ROWS = 40, 8
LLAMA = dict(
    r=4, lora_alpha=6, use_rslora=True, lora_dropout=0.05, task_type="CAUSAL_LM",
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    rank_pattern={"layers.1.self_attn.q_proj": 2}, alpha_pattern={"mlp.down_proj": 9})
GRANITE = dict(
    r=3, lora_alpha=7, task_type="CAUSAL_LM",
    target_modules=r".*\.(self_attn\.[qkvo]_proj|mamba\.in_proj|shared_mlp\.input_linear)",
    modules_to_save=["embed_tokens", "conv1d", "input_layernorm", "post_attention_layernorm",
                     "model.norm"])


def base_model(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits(model, tokens):
    with torch.no_grad():
        return model(input_ids=tokens[None]).logits[0, -ROWS:].float().contiguous()


def randomise(model):
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if re.search(r"lora_[AB]", name):
            parameter.data = 0.3 * noise / parameter.shape[-1] ** 0.5
        else:
            parameter.data += 0.1 * noise


def make(base, output, options):
    model = get_peft_model(base_model(base), LoraConfig(**options))
    randomise(model)
    model = model.eval()
    tokens = torch.randint(0, 300, (TOKENS,), generator=torch.Generator().manual_seed(1))
    model.peft_config["default"].base_model_name_or_path = os.path.basename(base)
    model.save_pretrained(output)
    os.remove(os.path.join(output, "README.md"))
    adapted = logits(model, tokens)
    loaded = logits(PeftModel.from_pretrained(base_model(base), output).eval(), tokens)
    plain = logits(base_model(base), tokens)
    print(output, "difference after loading", (loaded - adapted).abs().max().item(),
          "and to the base", (plain - adapted).abs().max().item())
    save_file({"input_ids": tokens.int(), "logits": adapted},
              os.path.join(output, "reference.safetensors"))


def check(base, adapter, reference):
    expected = load_file(reference)
    model = PeftModel.from_pretrained(base_model(base), adapter).eval()
    difference = (logits(model, expected["input_ids"].long()) - expected["logits"]).abs().max()
    print("largest difference of logits:", difference.item())
    sys.exit(0 if difference < 1e-5 else 1)


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        check(*sys.argv[2:5])
    for name, options in [("llama", LLAMA), ("granite", GRANITE)]:
        make(os.path.join(sys.argv[1], name + "_folder"),
             os.path.join(sys.argv[2], "peft_" + name), options)
