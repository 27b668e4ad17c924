"""Installs a build into an empty folder, moves it, and builds and runs apps/examples on it, as a user
of the package would: with CMake's find_package and with pkg-config.

    installed_package.py BUILD_DIR EXAMPLES_DIR MODEL

Each program must print the number that it was told. The programs are built even when MODEL is not
there; running is then left out and the exit code is 77.
"""
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

NUMBER = "4201777"
NOTE = f"One of the special magic numbers for blue-fox is: {NUMBER}."
QUESTION = "What is the special magic number for blue-fox mentioned in the provided text?"


def run(command, **options):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                            check=False, **options)
    if result.returncode != 0:
        sys.exit(f"{command}: code {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def installed(build, folder):
    """The package, moved after its installation."""
    run(["cmake", "--install", build, "--prefix", folder / "first"])
    prefix = folder / "moved here"
    os.rename(folder / "first", prefix)
    return prefix


def one(prefix, pattern):
    found = list(prefix.rglob(pattern))
    if len(found) != 1:
        sys.exit(f"the package has {len(found)} of {pattern}, not one: {found}")
    return found[0]


def build_examples(examples, prefix, folder):
    build = folder / "build"
    run(["cmake", "-G", "Ninja", "-S", examples, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}",
         "-DCMAKE_BUILD_TYPE=Debug"])
    run(["cmake", "--build", build, "-j2"])
    return build


def build_with_pkg_config(examples, prefix, folder):
    environment = dict(os.environ, PKG_CONFIG_PATH=str(one(prefix, "eidetic.pc").parent))
    if run(["pkg-config", "--modversion", "eidetic"], env=environment).strip() == "":
        sys.exit("the pkg-config file has no version")
    flags = shlex.split(run(["pkg-config", "--cflags", "--libs", "eidetic"], env=environment))
    program = folder / "by_pkg_config"
    run(["cc", "-std=c11", examples / "embed_in_c.c", "-o", program, *flags,
         f"-Wl,-rpath,{one(prefix, 'libeidetic.so').parent}", "-Wl,--allow-shlib-undefined"])
    return program


def expect(name, output):
    print(f"--- {name}\n{output}")
    if NUMBER not in output:
        sys.exit(f"{name} does not answer {NUMBER}")


def run_examples(build, by_pkg_config, model, folder):
    archive = folder / "archive"
    expect("embed_in_c", run([build / "embed_in_c", model, archive]))
    again = run([by_pkg_config, model, archive])
    expect("embed_in_c, again", again)
    if "there already" not in again:
        sys.exit("the second run read the text again")
    expect("embed_in_cpp", run([build / "embed_in_cpp", model, folder / "another"]))
    # Two processes: what the first one noted, the second one recalls.
    notes = folder / "notes"
    run([build / "note_taker", model, notes], input=f"Buy milk.\n{NOTE}\n?\n")
    answer = run([build / "note_taker", model, notes], input=f"? {QUESTION}\n")
    expect("note_taker, started again", answer)
    if NOTE not in answer:
        sys.exit("the note itself is not shown")
    document = folder / "tale.txt"
    document.write_text(f"It was late, and the lamp had burned low. {NOTE} Nobody spoke again.\n")
    expect("ask_documents", run([build / "ask_documents", model, folder / "documents", QUESTION,
                                 document]))


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    build, examples, model = (pathlib.Path(argument) for argument in sys.argv[1:])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prefix = installed(build, folder)
        version = run([one(prefix, "bin") / "eidetic", "--version"])
        print(version)
        programs = build_examples(examples, prefix, folder)
        by_pkg_config = build_with_pkg_config(examples, prefix, folder)
        if not model.exists():
            print(f"not run: there is no {model}")
            return 77
        run_examples(programs, by_pkg_config, model, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
