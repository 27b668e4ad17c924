#!/usr/bin/env python3
"""Times steps of training with `transformers` and `peft`, to hold `bench/train_bench.cc` against.

    transformers_train.py MODEL [OPTION...]     MODEL: a GGUF file, or a folder of transformers

The same step as train_bench's: one sequence of the same random tokens, HyLoRA (LoRA of rank 32 and
alpha 64 on q, k, v and o; embedding, norms and convolutions as a whole, the tied head with the
embedding), the gradient clipped to 1, AdamW with a rate of 2e-4. Attention is full (PyTorch's
scaled_dot_product_attention): PEFT and transformers have no other here. Prints a row of a table for
each type and way: milliseconds (the median), tokens per second, peak memory, loss.

Needs torch, transformers 5.23 or newer, peft, numpy; gguf for a GGUF file.
"""
import argparse
import importlib.util
import statistics
import sys
import time
import warnings

import numpy as np
import peft
import torch
import transformers

import transformers_model

RATE, LARGEST_NORM = 2e-4, 1.0
HYLORA = dict(
    r=32, lora_alpha=64, task_type="CAUSAL_LM", ensure_weight_tying=True,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    modules_to_save=["embed_tokens", "conv1d", "input_layernorm", "post_attention_layernorm",
                     "mamba.norm", "model.norm"])
# What is frozen, what is trained, and whether products are cast to bf16.
TYPES = {
    "bf16": (torch.bfloat16, torch.float32, True),  # as train_bench's: steps are never rounded away
    "bf16-all": (torch.bfloat16, torch.bfloat16, False),
    "tf32": (torch.float32, torch.float32, False),
    "fp32": (torch.float32, torch.float32, False),
}


def flags():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--length", default="8192", help="tokens, by commas (default: 8192)")
    parser.add_argument("--steps", type=int, default=5, help="after one that does not count")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bf16,bf16-all",
                        help=f"by commas, of {', '.join(TYPES)}: bf16 keeps what is trained in "
                             "fp32 and casts products (autocast); bf16-all trains in bf16")
    parser.add_argument("--checkpointing", default="off,on", help="off, on or both, by a comma")
    parser.add_argument("--chunk", type=int, help="tokens of a chunk of the scan (default: the "
                                                  "model's, of a GGUF file 64)")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    result = parser.parse_args()
    result.length = [int(length) for length in result.length.split(",")]
    result.dtype, result.checkpointing = result.dtype.split(","), result.checkpointing.split(",")
    if unknown := set(result.dtype) - set(TYPES) | set(result.checkpointing) - {"on", "off"}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return result


def tokens_of(length, vocabulary):
    """train_bench's: std::mt19937 of seed 1."""
    generator = np.random.MT19937()
    generator._legacy_seeding(1)
    return torch.from_numpy((generator.random_raw(length) % vocabulary).astype(np.int64))


def hylora(path, dtype, chunk, device):
    """The model to train and the parameters that are trained."""
    base = transformers_model.load(path)
    base.config._attn_implementation = "sdpa"
    base.config.use_cache = False
    for module in base.modules():
        if chunk and hasattr(module, "chunk_size"):
            module.chunk_size = chunk
    frozen, trained_type, _ = TYPES[dtype]
    model = peft.get_peft_model(base.to(frozen), peft.LoraConfig(**HYLORA))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.to(trained_type)
    model.to(device).train()
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if base.config.tie_word_embeddings and head.weight is not embedding.weight:
        sys.exit("this peft trains the embedding apart from the head that the model ties to it; "
                 "take one that knows ensure_weight_tying")
    return model, trained


def synchronise(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Run:
    """One row: a type, with or without checkpointing, at one length."""

    def __init__(self, options, dtype, checkpointing, length):
        self.options, self.length = options, length
        self.device = torch.device(options.device)
        self.autocast = TYPES[dtype][2]
        torch.set_float32_matmul_precision("high" if dtype != "fp32" else "highest")
        torch.backends.cudnn.allow_tf32 = dtype != "fp32"
        model, self.trained = hylora(options.model, dtype, options.chunk, self.device)
        if checkpointing == "on":
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.tokens = tokens_of(length, model.config.vocab_size)[None].to(self.device)
        self.model = torch.compile(model) if options.compile else model
        self.optimizer = torch.optim.AdamW(self.trained, lr=RATE, weight_decay=0,
                                           fused=self.device.type == "cuda")

    def step(self):
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            loss = self.model(input_ids=self.tokens, labels=self.tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, LARGEST_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def measured(self):
        """Seconds of a step (the median), peak bytes, and the losses of the first and last step."""
        losses, seconds = [self.step()], []
        for _ in range(self.options.steps):
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            synchronise(self.device)
            start = time.perf_counter()
            losses.append(self.step())
            synchronise(self.device)
            seconds.append(time.perf_counter() - start)
        peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0
        return statistics.median(seconds), peak, losses[0], losses[-1]


def scan_in_use():
    """Which code computes the mixers: transformers takes faster kernels where it finds them."""
    found = [name for name in ("mamba_ssm", "causal_conv1d", "kernels")
             if importlib.util.find_spec(name)]
    if found:
        return f"{', '.join(found)} installed, so mixers may run on their kernels"
    return ("mamba_ssm, causal_conv1d and kernels are not installed, so mixers run transformers' "
            "own PyTorch code, as they do for whoever installs transformers and peft alone")


def row(options, dtype, checkpointing, length):
    cells = [dtype, checkpointing, f"{length:,}"]
    try:
        seconds, peak, first, last = Run(options, dtype, checkpointing, length).measured()
        cells += [f"{1e3 * seconds:.1f}", f"{length / seconds:,.0f}",
                  f"{peak / 1e9:.2f}" if peak else "–", f"{first:.3f}", f"{last:.3f}"]
    except Exception as error:  # too little memory, most of all: the other rows go on
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        cells += [f"failed: {reason}", "", "", "", ""]
    return cells


def main():
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    options = flags()
    cuda = options.device.startswith("cuda")
    device = torch.cuda.get_device_name(options.device) if cuda else options.device
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft "
          f"{peft.__version__}, {device}{', torch.compile' if options.compile else ''}")
    print(f"{scan_in_use()}.")
    print(f"Weights: {transformers_model.weights_of(options.model)}. One sequence a step, full "
          "attention (sdpa), HyLoRA, AdamW; checkpointing computes each layer again in backward.\n")
    table = ["type", "checkpointing", "tokens", "ms a step", "tokens/s", "peak GB", "first loss",
             "last loss"]
    print("| " + " | ".join(table) + " |\n" + "|---" * len(table) + "|", flush=True)
    for length in options.length:
        for dtype in options.dtype:
            for checkpointing in options.checkpointing:
                cells = row(options, dtype, checkpointing, length)
                if cuda:
                    torch.cuda.empty_cache()
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
