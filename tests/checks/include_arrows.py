"""Finds includes that go against the arrows of docs/architecture.md.

    include_arrows.py ROOT     checks a tree, exit code 1 when something is wrong
    include_arrows.py --self-test

An include that names a file of ours (`"memory/block.h"`, `<eidetic/eidetic.h>`) must name a folder
that the including folder may use. LibTorch stays in model/ and sdk/'s sources.
"""
import pathlib
import re
import sys
import tempfile

PUBLIC_C = "eidetic/eidetic.h"
PUBLIC = (PUBLIC_C, "eidetic/eidetic.hpp")
OURS = ("kernels", "model", "memory", "sdk", "bindings", "apps", "tests", "bench")
# Folder -> folders of ours it may include from; "public" stands for the headers that users see.
ALLOWED = {
    "kernels": {"kernels"},
    "model": {"model", "kernels"},
    "memory": {"memory", "kernels"},
    "sdk": {"sdk", "memory", "model", "kernels", "public"},
    "bindings": {"bindings", "public C"},
    "apps": {"apps", "public"},
}
SUFFIXES = {".h", ".hpp", ".c", ".cc", ".cpp", ".cu", ".cuh"}
TORCH = re.compile(r"^(torch|ATen|c10|caffe2)/")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def may_include_torch(path):
    folder = path.parts[0]
    if path.suffix in (".cu", ".cuh") or path.parts[:2] == ("sdk", "include"):
        return False
    return folder in ("model", "sdk", "tests", "bench")


def target_of(root, path, quote, name):
    """The folder of ours that an include names, "public", "public C", or None for others' headers."""
    if name == PUBLIC_C:
        return "public C"
    if name.startswith("eidetic/"):
        return "public"
    first, slash, _ = name.partition("/")
    if not slash:
        first = None  # the standard library's <memory> is not our folder
    if first in OURS and (root / name).exists():
        return first
    if quote == '"':
        beside = (root / path.parent / name).resolve()
        if beside.is_relative_to(root.resolve()) and beside.exists():
            inside = beside.relative_to(root.resolve())
            if inside.parts[:2] == ("sdk", "include"):
                return "public C" if inside.suffix == ".h" else "public"
            return inside.parts[0]
    if first in OURS:  # it names a file of ours that is not there: judge it by its name
        return first
    return None


def violations(root):
    found = []
    for folder in OURS:
        for file in sorted((root / folder).rglob("*")):
            if file.suffix not in SUFFIXES:
                continue
            path = file.relative_to(root)
            for number, line in enumerate(file.read_text("utf-8", "replace").splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                quote, name = match.groups()
                if TORCH.match(name):
                    if not may_include_torch(path):
                        found.append(f"{path}:{number}: includes LibTorch ({name})")
                    continue
                target = target_of(root, path, quote, name)
                if target is None or folder not in ALLOWED:
                    continue
                allowed = ALLOWED[folder]
                if target == "public C" and "public" in allowed:
                    continue
                if path.parts[:2] == ("sdk", "include"):
                    allowed = {"public", "public C"}
                if target not in allowed:
                    found.append(f"{path}:{number}: {folder}/ may not include {name}")
    return found


def self_test():
    """Plants one include of each kind, right and wrong, and compares what is found."""
    cases = [  # file, its include line, is it wrong
        ("kernels/a.cc", '#include "kernels/a.h"', False),
        ("kernels/a.cc", '#include "memory/block.h"', True),
        ("memory/a.cc", '#include "kernels/a.h"', False),
        ("model/a.cc", "#include <memory>", False),
        ("memory/a.cc", '#include "model/seams.h"', True),
        ("memory/a.cc", "#include <torch/torch.h>", True),
        ("memory/deep/a.cc", '#include "../../model/seams.h"', True),
        ("model/a.cc", "#include <ATen/core/Tensor.h>", False),
        ("model/a.cc", '#  include "memory/block.h"', True),
        ("model/a.cu", "#include <c10/util/Half.h>", True),
        ("sdk/a.cc", '#include "model/seams.h"', False),
        ("sdk/a.cc", '#include "apps/cli.h"', True),
        ("sdk/include/eidetic/a.hpp", '#include "eidetic/eidetic.h"', False),
        ("sdk/include/eidetic/a.hpp", '#include "eidetic.h"', False),
        ("sdk/include/eidetic/a.hpp", '#include "sdk/engine.h"', True),
        ("apps/a.cc", "#include <eidetic/eidetic.hpp>", False),
        ("apps/a.cc", '#include "apps/cli.h"', False),
        ("apps/a.cc", '#include "sdk/engine.h"', True),
        ("apps/a.cc", '#include "../sdk/engine.h"', True),
        ("apps/a.cc", "#include <c10/util/Half.h>", True),
        ("bindings/a.c", '#include "eidetic/eidetic.h"', False),
        ("bindings/a.cc", '#include "eidetic/eidetic.hpp"', True),
        ("tests/a.cc", '#include "memory/block.h"', False),
    ]
    wrong = []
    for file, line, expected in cases:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for header in ("kernels/a.h", "memory/block.h", "model/seams.h", "sdk/engine.h",
                           "apps/cli.h", "sdk/include/eidetic/eidetic.h"):
                (root / header).parent.mkdir(parents=True, exist_ok=True)
                (root / header).touch()
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(f"// planted\n{line}\n")
            found = violations(root)
            if bool(found) != expected:
                wrong.append(f"{file} with {line}: expected {expected}, found {found}")
    return wrong


def main():
    if sys.argv[1:] == ["--self-test"]:
        problems = self_test()
    elif len(sys.argv) == 2:
        problems = violations(pathlib.Path(sys.argv[1]))
    else:
        sys.exit(__doc__)
    print("\n".join(problems) or "no include goes against the arrows")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
