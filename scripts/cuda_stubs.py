#!/usr/bin/env python3
"""Stands in for CUDA's libraries, so that Python loads torch's wheel without them, for the CPU.

    cuda_stubs.py SITE_PACKAGES FOLDER    leaves in FOLDER what LD_LIBRARY_PATH is to name

The wheel's libraries need some two gigabytes of CUDA at load time, for functions that nothing calls
without a GPU. For each library that is missing there is one of the same name whose functions, those
that the wheel's libraries ask for, end the process. Needs cc and readelf.
"""
import collections
import pathlib
import re
import subprocess
import sys

CUDA_LIBRARY = re.compile(r"lib(cu|nccl|nv)")
CUDA_FUNCTION = re.compile(r"(cu|nccl|nv)")
# Versions of symbols that are not called as their library is.
LIBRARY_OF_VERSION = {"NVSHMEM": "libnvshmem_host.so"}


def readelf(option, library):
    return subprocess.run(["readelf", "-W", option, library], check=True, capture_output=True,
                          text=True).stdout.splitlines()


def wanted(libraries):
    """Names of libraries that are missing, and by version the functions that nobody defines."""
    needed, undefined, defined = set(), set(), set()
    for library in libraries:
        needed |= {line.split("[")[1].rstrip("]") for line in readelf("-d", library)
                   if "(NEEDED)" in line}
        for line in readelf("--dyn-syms", library):
            words = line.split()
            if len(words) < 8 or not words[0].endswith(":"):
                continue
            name, _, version = words[7].partition("@")
            if words[6] == "UND":
                undefined.add((name, version.strip("@")))
            else:
                defined.add(name)
    functions = collections.defaultdict(list)
    for name, version in sorted(undefined):
        if name not in defined:
            functions[version].append(name)
    there = {library.name for library in libraries}
    return sorted(name for name in needed - there if CUDA_LIBRARY.match(name)), functions


def make(folder, name, functions, version):
    source, script = folder / "stub.s", folder / "stub.map"
    labels = "".join(f".globl {f}\n.type {f}, @function\n{f}:\n" for f in functions)
    source.write_text(f'.text\n{labels}ud2\n.section .note.GNU-stack,"",@progbits\n')
    script.write_text(f"{version} {{ global: *; }};\n")
    subprocess.run(["cc", "-shared", "-nostdlib", f"-Wl,-soname,{name}", "-o", folder / name, source]
                   + ([f"-Wl,--version-script={script}"] if version else []), check=True)
    source.unlink()
    script.unlink()


def main():
    site, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    libraries = [library for pattern in ("torch/lib/*.so*", "torch/_C.*.so", "nvidia/*/lib/*.so*")
                 for library in sorted(site.glob(pattern))]
    missing, functions = wanted(libraries)
    for name in missing:
        version = next((v for v in functions
                        if v == name or name.startswith(LIBRARY_OF_VERSION.get(v, "\0"))), "")
        make(folder, name, [f for f in functions[version] if version or CUDA_FUNCTION.match(f)],
             version)
    print(f"{len(missing)} libraries in {folder}")


if __name__ == "__main__":
    main()
