# What the scripts share: where things are kept, and how they speak. Sourced, never run.
#
#   EIDETIC_CACHE   the folder for LibTorch and the models (default: the user's cache folder)
#   EIDETIC_JOBS    compile jobs (default: one per core, at most one per 2 GiB of memory)

set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${EIDETIC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/eidetic}
torch_venv=$cache/torch-2.11.0
peft_venv=$cache/peft-0.21.2
models=$cache/models
base_model=$models/SmolLM2-135M-Instruct.Q4_1.gguf
hybrid_model=$models/smol-hybrid-135m.gguf
patch=$repository/model/zoo/smol-hybrid-135m

# What scripts measure and show is not for a user's configuration file to change.
export EIDETIC_CONFIG=/dev/null

say() { printf '==> %s\n' "$*"; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# The site-packages folder of the LibTorch environment: what CMake wants as EIDETIC_TORCH_ROOT.
torch_root() {
  local folder
  for folder in "$torch_venv"/lib/python3.*/site-packages; do
    if [ -e "$folder/torch/lib/libtorch_cpu.so" ]; then
      printf '%s\n' "$folder"
      return
    fi
  done
  fail "LibTorch is not in $torch_venv; run scripts/setup"
}

# Debian's own interpreter when it is there: others on the PATH may lack what a venv needs.
system_python() {
  if [ -x /usr/bin/python3 ]; then printf '/usr/bin/python3\n'; else command -v python3; fi
}

# Whether a preset builds what needs LibTorch.
has_model() { [ "$1" != memory ] && [ "$1" != tsan ]; }

compile_jobs() {
  local cores memory_gib by_memory
  if [ -n "${EIDETIC_JOBS:-}" ]; then
    printf '%s\n' "$EIDETIC_JOBS"
    return
  fi
  cores=$(nproc)
  memory_gib=$(awk '/^MemTotal:/ {print int($2 / 1048576)}' /proc/meminfo)
  by_memory=$((memory_gib / 2 > 0 ? memory_gib / 2 : 1))
  printf '%s\n' $((cores < by_memory ? cores : by_memory))
}

# Makes the hybrid model out of SmolLM2 and the patch with the `eidetic` of a build folder, unless
# one made from the same patch by the same code is there. The stamp is written last.
make_hybrid_model() {
  local eidetic=$1 stamp=$hybrid_model.stamp wanted
  wanted=$(cd "$repository" && cat model/zoo/smol-hybrid-135m/{config.json,mixers.safetensors,profile.json} \
    model/merge.cc model/gguf_writer.cc model/safetensors.cc | sha256sum)
  if [ -e "$hybrid_model" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    say "Hybrid model: in $hybrid_model"
    return
  fi
  say "Hybrid model: making $hybrid_model"
  rm -f "$stamp"
  "$eidetic" model merge "$base_model" "$patch" -o "$hybrid_model"
  printf '%s\n' "$wanted" >"$stamp"
}
