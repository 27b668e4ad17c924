#!/usr/bin/env python3
"""Adapters that `eidetic tune` writes in the real PEFT, and PEFT's in eidetic: logits are compared.

    peft_adapters.py --environment ENVIRONMENT EIDETIC ADAPTER_LOGITS PARITY_FOLDER

ENVIRONMENT: what `scripts/setup --peft` made; this program begins itself anew with its Python.
Exits with 77 where it is not there (in CI with 1). The bases are llama_folder and granite_folder,
whose head is tied to its embedding. Each adapter is computed with four times: by PEFT with A and B
beside the weights and merged into them, and so by eidetic (adapter_logits.cc).
"""
import copy
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

IDS = [(7 * i * i + 3 * i + 1) % 300 for i in range(40)]
# Sums in fp32 in another order: logits of up to 20 differ by 2e-5. Another rank or alpha is off by .8
# and more.
TOLERANCE = 2e-4


def begin_in(environment):
    python = pathlib.Path(environment) / "bin/python"
    if not python.exists():
        print(f"there is no {python}: scripts/setup --peft makes it")
        sys.exit(1 if os.environ.get("CI") == "true" else 77)
    variables = dict(os.environ, LD_LIBRARY_PATH=str(pathlib.Path(environment) / "cuda-stubs"),
                     EIDETIC_LIBRARY_PATH=os.environ.get("LD_LIBRARY_PATH", ""),
                     HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", CUDA_VISIBLE_DEVICES="",
                     OMP_NUM_THREADS="1")
    os.execve(python, [str(python), "-B", __file__, *sys.argv[3:]], variables)


class Parity:
    def __init__(self, eidetic, adapter_logits, parity, work):
        self.eidetic, self.adapter_logits, self.parity = eidetic, adapter_logits, parity
        self.work = pathlib.Path(work)
        (self.work / "text.txt").write_text("the quick brown fox jumps over a lazy dog\n" * 200)
        self.bases, self.wrong = {}, []

    def run(self, *arguments):
        # Not with the stand-ins for CUDA's libraries.
        variables = dict(os.environ, EIDETIC_CONFIG="/dev/null",
                         LD_LIBRARY_PATH=os.environ["EIDETIC_LIBRARY_PATH"])
        done = subprocess.run(list(map(str, arguments)), env=variables, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")

    def tune(self, base, name, *options):
        """An adapter that was trained until it says something."""
        self.run(self.eidetic, "tune", self.work / "text.txt", "-o", self.work / name, "--model",
                 self.parity / base, "--length", 64, "--chunk", 32, "--block", 8, "--steps", 8,
                 "--rate", 0.01, "--threads", 1, *options)
        return self.work / name / "last"

    def base(self, name):
        if name not in self.bases:
            self.bases[name] = AutoModelForCausalLM.from_pretrained(
                self.parity / name, dtype=torch.float32).eval()
        return copy.deepcopy(self.bases[name])

    def logits(self, model):
        with torch.no_grad():
            return model(input_ids=torch.tensor([IDS])).logits[0].float()

    def load(self, base, adapter):
        with warnings.catch_warnings():
            # Tensors that are missing or left over are a warning of PEFT's.
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("error", message=".*adapter keys.*")
            return PeftModel.from_pretrained(self.base(base), adapter).eval()

    def expect(self, what, holds, told=""):
        print(f"{'ok' if holds else 'WRONG'}: {what} {told}")
        if not holds:
            self.wrong.append(what)

    def compare(self, base, adapter, what, ranks):
        """`ranks`: by the ends of modules, what PEFT makes of the configuration."""
        model = self.load(base, adapter)
        found = {name.removeprefix("base_model.model."): module.r["default"]
                 for name, module in model.named_modules() if hasattr(module, "lora_A")}
        expected = {module: rank for module in found for end, rank in ranks.items()
                    if module.endswith(end)}
        self.expect(f"{what}: ranks", found and found == expected, found)
        beside = self.logits(model)
        merged = self.logits(model.merge_and_unload())
        output = self.work / "logits.safetensors"
        self.run(self.adapter_logits, self.parity / base, adapter, output, *IDS)
        ours = load_file(output)
        for name, one, other in [("PEFT merged", merged, beside),
                                 ("served", ours["served"], beside),
                                 ("trained", ours["trained"], beside)]:
            difference = (one - other).abs().max().item()
            self.expect(f"{what}: {name}", difference < TOLERANCE, f"{difference:.1e}")
        change = (beside - self.logits(self.base(base))).abs().max().item()
        self.expect(f"{what}: is another model than its base", change > 0.1, f"{change:.2f}")
        return beside


def made_by_peft(parity, base, folder):
    """HyLoRA with ranks and alphas by pattern and random numbers, as PEFT saves it."""
    options = LoraConfig(
        r=4, lora_alpha=6, task_type="CAUSAL_LM", ensure_weight_tying=True,
        target_modules=r".*\.(self_attn\.[qv]_proj|mamba\.in_proj)",
        rank_pattern={r"layers\.\d+\.mamba\.in_proj": 2, "q_proj": 7}, alpha_pattern={"in_proj": 9},
        modules_to_save=["embed_tokens", "conv1d", "input_layernorm", "post_attention_layernorm",
                         "mamba.norm", "model.norm"])
    model = get_peft_model(parity.base(base), options)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                size = 0.3 / parameter.shape[-1] ** 0.5 if "lora_" in name else 0.05
                parameter.add_(size * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    return parity.logits(model.eval())


def main():
    parity = Parity(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4])
    hybrid = parity.tune("granite_folder", "hylora", "--rank", 4, "--targets", "q_proj,v_proj,in_proj",
                         "--rank-for", "q_proj=6", "--rank-for", r"layers\.0\..*=2",
                         "--alpha-for", "in_proj=9", "--dropout-for", "v_proj=0.1")
    in_hybrid = {".1.self_attn.q_proj": 6, ".1.self_attn.v_proj": 4, ".0.mamba.in_proj": 2,
                 ".2.mamba.in_proj": 4}
    before = parity.compare("granite_folder", hybrid, "HyLoRA of tune", in_hybrid)
    # It is the patterns that are compared: without them the same tensors say something else.
    config = json.loads((hybrid / "adapter_config.json").read_text())
    parity.expect("keys", config["rank_pattern"] == {"q_proj": 6, r"layers\.0\..*": 2}
                  and config["alpha_pattern"] == {"in_proj": 9}, config)
    (hybrid / "adapter_config.json").write_text(json.dumps(config | {"alpha_pattern": {}}))
    change = (parity.logits(parity.load("granite_folder", hybrid)) - before).abs().max().item()
    parity.expect("another alpha is another model", change > 100 * TOLERANCE, f"{change:.1e}")

    broad = parity.tune("llama_folder", "broad", "--kind", "lora", "--rank", 3, "--target-pattern",
                        r"model\.layers\.1\..*", "--rank-for", "down_proj=5")
    parity.compare("llama_folder", broad, "LoRA of tune by a pattern of more than linear maps",
                   {"down_proj": 5, "layers.1.self_attn.q_proj": 3, "k_proj": 3, "v_proj": 3,
                    "o_proj": 3, "gate_proj": 3, "up_proj": 3})
    everything = parity.tune("granite_folder", "all", "--kind", "lora+", "--rank", 2, "--targets",
                             "all-linear", "--alpha-for", "out_proj=1")
    parity.compare("granite_folder", everything, "LoRA+ of tune on all linear maps", {"": 2})

    given = parity.work / "given"
    expected = made_by_peft(parity, "granite_folder", given)
    ranks = {"q_proj": 7, "v_proj": 4, "in_proj": 2}
    loaded = parity.compare("granite_folder", given, "HyLoRA of PEFT", ranks)
    parity.expect("HyLoRA of PEFT: as it was made", (loaded - expected).abs().max() < TOLERANCE)
    again = parity.tune("granite_folder", "again", "--adapter", given)
    parity.compare("granite_folder", again, "HyLoRA of PEFT after more of tune", ranks)
    if parity.wrong:
        sys.exit("wrong: " + "; ".join(parity.wrong))


if __name__ == "__main__":
    if sys.argv[1] == "--environment":
        begin_in(sys.argv[2])
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM
    with tempfile.TemporaryDirectory() as work_folder:
        sys.argv.append(work_folder)
        main()
