"""Compares what libeidetic.so exports with the functions that eidetic.h declares.

    exported_symbols.py LIBRARY HEADER

They must be the same, both ways, and no more than LIMIT.
"""
import re
import subprocess
import sys

LIMIT = 48  # an interface this small can be read in one sitting


def declared(header):
    text = re.sub(r"/\*.*?\*/", "", open(header, encoding="utf-8").read(), flags=re.S)
    return set(re.findall(r"\bEID_API\b[^;{]*?\b(eid_\w+)\s*\(", text))


def exported(library):
    lines = subprocess.run(["nm", "-D", "--defined-only", library], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    # A version script may add an absolute symbol ("A") that names the version.
    return {line.split()[-1].split("@")[0] for line in lines if line.split()[-2] != "A"}


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    header, library = declared(sys.argv[2]), exported(sys.argv[1])
    problems = [f"declared in the header, not exported: {name}" for name in sorted(header - library)]
    problems += [f"exported, not declared in the header: {name}" for name in sorted(library - header)]
    if len(header) > LIMIT:
        problems.append(f"the header declares {len(header)} functions, more than {LIMIT}")
    print("\n".join(problems[:50]) or f"{len(header)} functions, declared and exported")
    return 1 if problems or not header else 0


if __name__ == "__main__":
    sys.exit(main())
