"""Finds files that name a folder of one machine or the host of a package registry.

    tree_names_no_machine.py ROOT
    tree_names_no_machine.py --self-test

Looks at every text file that git tracks or would track.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

# In parts, so that this file does not name them itself.
FOLDERS = ["/wo" + "rk/", "/opt/" + "eid", "/ro" + "ot/", "/ho" + "me/"]
HOSTS = ["pypi." + "org", "python" + "hosted.org", "deb.debian" + ".org", "npmjs" + ".org",
         "crates" + ".io", "hugging" + "face.co"]
PATTERN = re.compile(
    r"(?<![\w.$}])(?:" + "|".join(map(re.escape, FOLDERS)) + r")|" + "|".join(map(re.escape, HOSTS)))


def files(root):
    names = subprocess.run(
        ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True).stdout.split(b"\0")
    return [pathlib.Path(root) / name.decode() for name in names if name]


def violations(root):
    found = []
    for file in files(root):
        if not file.is_file():
            continue
        data = file.read_bytes()
        if b"\0" in data[:8192]:
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            match = PATTERN.search(line)
            if match:
                found.append(f"{file.relative_to(root)}:{number}: names {match.group()}")
    return found


def self_test():
    lines = [(FOLDERS[0] + "main", True), ("see " + FOLDERS[1] + "/x", True),
             ("https://" + HOSTS[0] + "/simple", True), ("a road" + FOLDERS[0] + "x", False),
             ("plain text", False)]
    wrong = []
    for line, expected in lines:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["git", "init", "-q", folder], check=True)
            (pathlib.Path(folder) / "file.txt").write_text(line + "\n")
            if bool(violations(folder)) != expected:
                wrong.append(f"{line!r}: expected {expected}")
    return wrong


def main():
    if sys.argv[1:] == ["--self-test"]:
        problems = self_test()
    elif len(sys.argv) == 2:
        problems = violations(sys.argv[1])
    else:
        sys.exit(__doc__)
    print("\n".join(problems) or "no file names a machine's folder or a registry's host")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
