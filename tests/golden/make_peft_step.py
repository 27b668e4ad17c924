#!/usr/bin/env python3
"""Records steps of training as PEFT and PyTorch make them: fp32 on the CPU.

    make_peft_step.py PARITY_FOLDER OUTPUT_FOLDER    makes peft_step_llama/ and peft_step_granite/

The bases are llama_folder and granite_folder of tests/parity. peft_step_llama: LoRA on q, k, v, o.
peft_step_granite: HyLoRA, so the embedding, which the base ties to its head (ensure_weight_tying),
norms and convolutions are trained as a whole beside. The adapter begins with random numbers of the
size that training gives, since with B at zero A has no gradient; it is in the folder as PEFT saves
it. reference.safetensors beside it has

    input_ids [40], predicted [40]  which of these tokens carry loss
    loss [3], gradient_norm [3]     of each step, before it and before clipping
    after.NAME                      the tensor NAME of the adapter's file, after the first step

A step: mean cross entropy of the tokens that carry loss, its gradient clipped to CLIP, and AdamW
with RATE, betas (0.9, 0.999), epsilon 1e-8, no weight decay.

Needs torch, transformers, peft and safetensors.
"""
import os
import sys

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file

from make_peft_adapter import base_model, randomise

TOKENS, STEPS, RATE, CLIP = 40, 3, 2e-4, 1.0
LORA = dict(r=4, lora_alpha=8, task_type="CAUSAL_LM",
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
HYLORA = dict(LORA, ensure_weight_tying=True,
              modules_to_save=["embed_tokens", "conv1d", "input_layernorm",
                               "post_attention_layernorm", "mamba.norm", "model.norm"])


def adapter_of(model):
    tensors = {name: value.detach().clone().contiguous()
               for name, value in get_peft_model_state_dict(model).items()}
    # A tied head is the embedding, under a name of its own.
    head = tensors.pop("base_model.model.lm_head.weight", None)
    assert head is None or head.equal(tensors["base_model.model.model.embed_tokens.weight"])
    return tensors


def record(base, output, options):
    model = get_peft_model(base_model(base), LoraConfig(**options))
    randomise(model)
    model.peft_config["default"].base_model_name_or_path = os.path.basename(base)
    model.save_pretrained(output)
    os.remove(os.path.join(output, "README.md"))
    generator = torch.Generator().manual_seed(4)
    tokens = torch.randint(0, 300, (TOKENS,), generator=generator)
    predicted = torch.rand(TOKENS, generator=generator) < 0.7
    labels = torch.where(predicted, tokens, -100)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0)
    reference = {"input_ids": tokens.int(), "predicted": predicted.int()}
    losses, norms = [], []
    for step in range(STEPS):
        loss = model(input_ids=tokens[None], labels=labels[None]).loss
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(trained, CLIP).item())
        losses.append(loss.item())
        optimizer.step()
        if step == 0:
            reference |= {"after." + name: value for name, value in adapter_of(model).items()}
    reference |= {"loss": torch.tensor(losses), "gradient_norm": torch.tensor(norms)}
    save_file(reference, os.path.join(output, "reference.safetensors"))
    print(output, sum(p.numel() for p in trained), "numbers, losses", losses, "norms", norms)


if __name__ == "__main__":
    for name, options in [("llama", LORA), ("granite", HYLORA)]:
        record(os.path.join(sys.argv[1], name + "_folder"),
               os.path.join(sys.argv[2], "peft_step_" + name), options)
