"""Compiles, links and runs the C and C++ programs of README.md, as a reader would.

    readme_programs.py README LIBRARY INCLUDE_DIR C_COMPILER CXX_COMPILER MODEL

Each program must print the number that it stored, and be short enough to be read at a glance. The
programs are compiled even when MODEL is not there; running is then left out and the exit code is 77.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

EXPECTED = "4201777"
MOST_LINES = 15
MOST_COLUMNS = 116  # wider code is not shown whole on a page
LANGUAGES = {"cpp": ("program.cc", ["-std=c++20", "-Wall", "-Wextra", "-pedantic", "-Werror"]),
             "c": ("program.c", ["-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror"])}


def programs(readme):
    text = pathlib.Path(readme).read_text("utf-8")
    blocks = re.findall(r"^```(cpp|c)\n(.*?)^```$", text, flags=re.S | re.M)
    return {language: code for language, code in blocks if "int main(" in code}


def main():
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    readme, library, include, c_compiler, cxx_compiler, model = sys.argv[1:]
    found = programs(readme)
    if set(found) != set(LANGUAGES):
        sys.exit(f"{readme} must hold one program in C and one in C++; it has: {sorted(found)}")
    for language, code in found.items():
        lines = code.splitlines()
        if len(lines) > MOST_LINES or max(map(len, lines)) > MOST_COLUMNS:
            sys.exit(f"{language}: {len(lines)} lines of up to {max(map(len, lines))} columns; "
                     f"at most {MOST_LINES} of {MOST_COLUMNS}")
    can_run = os.path.exists(model)
    for language, (name, flags) in LANGUAGES.items():
        with tempfile.TemporaryDirectory() as folder:
            source, program = os.path.join(folder, name), os.path.join(folder, "program")
            pathlib.Path(source).write_text(found[language], "utf-8")
            compiler = cxx_compiler if language == "cpp" else c_compiler
            where = os.path.dirname(library)
            subprocess.run([compiler, *flags, f"-I{include}", source, "-o", program, f"-L{where}",
                            "-leidetic", f"-Wl,-rpath,{where}",
                            # what libeidetic itself needs is its own affair
                            "-Wl,--allow-shlib-undefined"], check=True)
            print(f"{language}: compiled and linked")
            if not can_run:
                continue
            os.symlink(model, os.path.join(folder, "smol-hybrid-135m.gguf"))
            run = subprocess.run([program], cwd=folder, capture_output=True, text=True, check=False)
            print(run.stdout + run.stderr)
            if run.returncode != 0 or EXPECTED not in run.stdout.splitlines()[0]:
                sys.exit(f"{language}: code {run.returncode}; its first line must hold {EXPECTED}")
    if not can_run:
        print(f"not run: there is no {model}")
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())
