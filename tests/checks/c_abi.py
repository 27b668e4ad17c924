"""Compares the binary interface that eidetic.h declares with the one that is recorded, so that no
change of it goes unnoticed.

    c_abi.py HEADER CC RECORDING            1 when they differ, with what differs
    c_abi.py HEADER CC RECORDING --update   records it as it is now
    c_abi.py HEADER CC --self-test          changes a copy of the header, and must notice

A compiler measures what the header declares: every struct's size, every field's offset and size,
every enum's values; functions are recorded as they are declared. The recording is of machines with
64-bit pointers and longs (LP64); elsewhere the check is skipped (77).
"""
import difflib
import pathlib
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import c_header  # noqa: E402

REMEDY = """
The C interface changed. When that is meant:
  - a struct that a released version has may only grow, at its end: keep its older sizes in
    kKnownSizes (sdk/c_handles.h); values and functions keep their meaning
  - record it: tests/checks/c_abi.py sdk/include/eidetic/eidetic.h cc tests/checks/abi/lp64.txt --update
  - say so in CHANGELOG.md"""


def program(items):
    """A C program that prints the layout of everything."""
    lines = ['#include <eidetic/eidetic.h>', '#include <stdio.h>', "int main(void) {"]

    def say(form, *values):
        numbers = "".join(f", (long long)({value})" for value in values)
        lines.append(f'  printf("{form}\\n"{numbers});')

    say("pointer %lld long %lld", "sizeof(void*)", "sizeof(long)")
    for item in items:
        if item.kind == "struct":
            say(f"struct {item.name} size %lld align %lld", f"sizeof({item.name})", f"_Alignof({item.name})")
            for field in item.fields:
                say(f"  {field.declaration} at %lld size %lld", f"offsetof({item.name}, {field.name})",
                    f"sizeof((({item.name}*)0)->{field.name})")
        elif item.kind == "enum":
            say(f"enum {item.name} size %lld", f"sizeof({item.name})")
            for value in item.fields:
                say(f"  {value.name} = %lld", value.name)
    return "\n".join(lines + ["  return 0;", "}", ""])


def measure(header, compiler):
    """The interface as lines of text; the first says what kind of machine it is of."""
    header = pathlib.Path(header).resolve()
    _, items = c_header.parse(header)
    with tempfile.TemporaryDirectory() as folder:
        source, binary = f"{folder}/abi.c", f"{folder}/abi"
        pathlib.Path(source).write_text(program(items), encoding="utf-8")
        subprocess.run([compiler, "-std=c11", "-I", str(header.parents[1]), source, "-o", binary],
                       check=True)
        lines = subprocess.run([binary], check=True, capture_output=True,
                               text=True).stdout.splitlines()
    for kind in "handle", "callback", "function":
        lines += [f"{kind} {item.declaration}" for item in items if item.kind == kind]
    return lines


def self_test(header, compiler):
    header = pathlib.Path(header)
    was = measure(header, compiler)
    changes = [("int max_tokens;", "long max_tokens;"), ("EID_LOCKED = 7", "EID_LOCKED = 70"),
               ("float top_p; ", ""), ("size_t limit,", "int limit,")]
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "eidetic" / "eidetic.h"
        copy.parent.mkdir()
        for before, after in changes:
            text = header.read_text(encoding="utf-8")
            changed = text.replace(before, after)
            copy.write_text(changed, encoding="utf-8")
            if changed == text or measure(copy, compiler) == was:
                print(f"not noticed: '{before}' became '{after}'")
                return 1
    print(f"{len(changes)} changes noticed")
    return 0


def main():
    arguments = sys.argv[1:]
    if len(arguments) == 3 and arguments[2] == "--self-test":
        return self_test(*arguments[:2])
    update = arguments[3:] == ["--update"]
    if len(arguments) != 3 and not update:
        sys.exit(__doc__)
    kind, *now = measure(*arguments[:2])
    if kind != "pointer 8 long 8":
        print("the recording is of LP64 machines; this one has " + kind)
        return 77
    recording = pathlib.Path(arguments[2])
    if update:
        recording.write_text("\n".join(now) + "\n", encoding="utf-8")
        return 0
    recorded = recording.read_text(encoding="utf-8").splitlines() if recording.exists() else []
    difference = list(difflib.unified_diff(recorded, now, "recorded", "declared", "", "", 1, ""))
    if difference:
        print("\n".join(difference[:200]) + "\n" + REMEDY)
        return 1
    print(f"{len(now)} lines, as recorded")
    return 0


if __name__ == "__main__":
    sys.exit(main())
