"""Runs the commands of scripts/reproduce: all of them with a stand-in for `eidetic`, two with it.

Usage: reproduce_commands.py REPOSITORY [PROGRAM]

With the stand-in: every command makes its tables; what two rows share is trained once; a command
that was stopped goes on; another model is not taken for the same. With PROGRAM, every flag that the
commands pass is one that its help names, and the short forms of `perplexity` and `speed` train and
measure a tiny model.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

COMMANDS = {"perplexity": ("perplexity-full", "perplexity-same"), "ruler": ("ruler",),
            "attentions": ("attentions-perplexity", "attentions-ruler"), "adapters": ("adapters", "ranks"), "memory": ("memory",), "chunk-size": ("chunk-size",),
            "block-size": ("block-size",), "speed": ("speed", "speed-memory")}

# Writes down how it was called; gives figures that tell mode and length.
STAND_IN = '''#!/usr/bin/env python3
import json, pathlib, sys
here, call = pathlib.Path(__file__).parent, sys.argv[1:]
with open(here / "calls.jsonl", "a") as file:
    file.write(json.dumps(call) + "\\n")
def value(flag, default=None):
    return call[call.index(flag) + 1] if flag in call else default
if call[:2] == ["model", "info"]:
    print(json.dumps({"name": "stand-in", "mamba_layers": [0]}))
elif call[0] == "tune":
    if (here / "fail").exists():
        sys.exit(3)
    run = pathlib.Path(value("--out"))
    (run / "last").mkdir(parents=True)
    length = int(value("--length"))
    factor = {"full": 2}.get(value("--attention"), 1)
    step = json.dumps({"event": "step", "step": int(value("--steps")), "tokens_per_second": 1e5 / factor,
                       "peak_memory_bytes": 1e5 * length})
    (run / "metrics.jsonl").write_text((step + "\\n") * int(value("--steps")))
elif call[:2] == ["model", "hybridize"]:
    pathlib.Path(value("-o")).mkdir()
elif call[1] == "merge":
    pathlib.Path(value("-o")).touch()
else:
    mode, lengths = value("--modes"), [int(one) for one in value("--lengths").split(",")]
    report = {"means": [{"mode": mode, "length": one, "ruler_11": one / 1000} for one in lengths],
              "cells": [{"accuracy": 0.75}],
              "rows": [{"mode": mode, "length": one, "text": text, "token_perplexity": figure}
                       for one in lengths for text, figure in (("a", 1), (None, one / 1000))]}
    pathlib.Path(value("--json")).write_text(json.dumps(report))
'''


class Trial:
    def __init__(self, repository, folder):
        self.scripts, self.folder = repository / "scripts" / "reproduce", pathlib.Path(folder)
        program = self.folder / "eidetic"
        program.write_text(STAND_IN)
        program.chmod(0o755)
        (self.folder / "text.txt").write_text("A text.")

    def run(self, command, *arguments):
        text = str(self.folder / "text.txt")
        return subprocess.run(
            [sys.executable, "-B", self.scripts / command, "--bin", self.folder, "--out",
             self.folder / "out", "--text", text, "--train", text, "--model", "model", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def calls(self):
        file = self.folder / "calls.jsonl"
        calls = [json.loads(line) for line in file.read_text().splitlines()]
        file.unlink()
        return calls

    def tables(self, command):
        return [(self.folder / "out" / (name + ".md")).read_text() for name in COMMANDS[command]]


def check(condition, what):
    if not condition:
        sys.exit("wrong: " + what)


def cells_of(table, label):
    rows = [line.split("|") for line in table.splitlines() if line.startswith(f"| {label} |")]
    return [[cell.strip() for cell in row[2:-1]] for row in rows]


def try_commands(repository):
    flags = {"tune": set(), "ppl": set(), "ruler": set()}
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(repository, folder)
        for command in COMMANDS:
            result = trial.run(command)
            check(result.returncode == 0, f"{command}: {result.stderr}")
            tuned, read = 0, []
            for call in trial.calls():
                if call[0] == "eval":
                    read.append(call)
                name = call[1] if call[0] == "eval" else call[0]
                if name in flags:
                    flags[name] |= {one for one in call if one.startswith("--")}
                tuned += call[0] == "tune"
            check(all(table in result.stdout for table in trial.tables(command)), "its output")
            if command == "perplexity":
                check(tuned == 5, "runs of the two tables of perplexity are shared")
                banded = [" ".join(call) for call in read if "--modes window" in " ".join(call)]
                check(len(banded) == 1 and "--window 4096 --sinks -1" in banded[0],
                      f"a window is read as it was trained: {banded}")
                check(cells_of(trial.tables(command)[0], "se") ==
                      [["stand-in", "2.05", "8.19", "16.38", "32.77"],
                       ["the paper's", "10.99", "10.45", "11.14", "12.64"]],
                      "the row of se: " + trial.tables(command)[0])
            if command in ("ruler", "attentions"):
                check(tuned == 0, "what perplexity trained is trained again")
                check("--adapter" not in "".join(trial.tables(command)), "a flag in a table")
        check([row[:3] for row in cells_of(trial.tables("speed")[0], "se")] ==
              [["stand-in", "82 (0.50)", "164 (0.50)"], ["the paper's", "20 (1.11)", "35 (0.65)"]],
              "the rows of se: " + trial.tables("speed")[0])
        check(cells_of(trial.tables("memory")[0], "se-random") ==
              [["stand-in", "8.2"], ["the paper's", "32.5"]], "the row of se-random")
        # Another model under the same --out.
        result = trial.run("memory", "--model", "another")
        check(result.returncode != 0 and "another model" in result.stderr, result.stderr)
        before = trial.tables("perplexity")
        check(trial.run("perplexity", "--table-only", "--model", "another").returncode == 0 and
              trial.tables("perplexity") == before, "tables are made of what is there")
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(repository, folder)
        (pathlib.Path(folder) / "fail").touch()
        result = trial.run("memory")
        check(result.returncode != 0 and "memory: se-random" in result.stderr,
              "an error of tune is none of the command: " + result.stderr)
        (pathlib.Path(folder) / "fail").unlink()
        check(trial.run("memory", "--only", "se-random").returncode == 0, "going on after an error")
        tuned = [call for call in trial.calls() if call[0] == "tune"]
        check(len(tuned) == 5 and "se-random" in tuned[-1], "what --only leaves")
        check(trial.run("memory", "--only", "no such row").returncode != 0, "an unknown row")
        check(trial.run("memory", "--seconds", "0.5", "--quick").returncode == 0, "a stopped run")
        check(not [call for call in trial.calls() if call[0] == "tune"], "it went on without time")
    try_devices(repository)
    return flags


def try_devices(repository):
    """Two devices train, four rows are measured at once, and no run is trained twice."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(repository, folder)
        result = trial.run("attentions", "--device", "cuda:0,cuda:1", "--jobs", "4")
        check(result.returncode == 0, result.stderr)
        calls = trial.calls()
        check(cells_of(trial.tables("attentions")[1], "se, read with stream")[0] ==
              ["stand-in", "4.1", "8.2", "16.4", "32.8"], "the tables of several devices")
        tuned = [call for call in calls if call[0] == "tune"]
        runs = {call[call.index("--out") + 1] for call in tuned}
        check(len(tuned) == len(runs) == 5, f"each attention is trained once: {runs}")
        for name in ("tune", "eval"):
            devices = {call[call.index("--device") + 1] for call in calls if call[0] == name}
            check(devices == {"cuda:0", "cuda:1"}, f"devices of {name}: {devices}")
        (pathlib.Path(folder) / "fail").touch()
        result = trial.run("attentions", "--device", "cuda:0,cuda:1", "--seed", "2")
        check(result.returncode != 0 and "se, read with stream" in result.stderr and
              "not tuned" not in result.stderr.split("not measured")[1],
              "rows that share a run that failed: " + result.stderr)


BOOK = ((" ".join("".join("abcdefghij"[int(digit)] for digit in str(number))
                   for number in range(1000, 1400)) + ".\n\n")
        + ("Nobody of the family of the captain came to the large house that winter night. " * 8
           + "\n\n") * 800)


def try_asking(repository):
    """Texts that ask: what stands in an answer was hidden in the stretch before it."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(repository, folder)
        (trial.folder / "text.txt").write_text(BOOK)
        (trial.folder / "more").mkdir()
        (trial.folder / "more" / "text.txt").write_text(BOOK[:300_000])
        only = ("--only", "HyLoRA, se-stream")
        for share in ("0", "1", "1"):
            result = trial.run("adapters", "--asking", share, *only)
            check(result.returncode == 0, result.stderr)
        made, = (trial.folder / "out" / "texts").iterdir()
        tuned = [call for call in trial.calls() if call[0] == "tune"]
        check([call[1] for call in tuned] == [str(trial.folder / "text.txt"), str(made)],
              f"texts are made once, for the run that asks: {tuned}")
        table = (trial.folder / "out" / "adapters.md").read_text()
        check("100% of the training text asks" in table, "the table says so")
        texts = [str(trial.folder / name) for name in ("text.txt", "more/text.txt")]
        result = trial.run("adapters", "--asking", "1", *only, "--seed", "1", "--train", *texts)
        check(result.returncode == 0, result.stderr)
        both, = set((trial.folder / "out" / "texts").iterdir()) - {made}
        check(len(list(both.iterdir())) == 2, "two files of one name are two texts")
        refused = trial.run("adapters", "--asking", "1", *only, "--seed", "2", "--train", "README.md",
                            str(repository / "README.md"))
        check(refused.returncode != 0 and "README.md" in refused.stderr, refused.stderr)
        taught = (made / "000-text.txt").read_text()
        check(taught.count("Nobody of") > BOOK.count("Nobody of") / 2, "the text is kept")
        needle = re.compile(r"One of the special magic (?:number|uuid)s for (\S+) is: (\S+)\.")
        question = re.compile(r"\nWhat (?:is|are all) the special magic (?:number|uuid)s? for .*")
        listed = re.compile(r"(?:, and |, )")
        hidden, asked, forms = {}, False, {"one": 0, "values": 0, "queries": 0}
        check("numbers" not in "".join(re.findall(r"uuids? .* numbers?|numbers? .* uuids?", taught)),
              "numbers and UUIDs are not mixed up")
        check(len(re.findall(r"(?:\n" + needle.pattern + r"){40}", taught)) > 0, "needles alone")
        for line in re.findall(question.pattern + "|" + needle.pattern.replace("(\\S+)", "\\S+"), taught):
            if found := needle.fullmatch(line):
                if asked:  # another stretch, whose keys are its own
                    hidden.clear()
                asked = False
                hidden.setdefault(found[1], []).append(found[2])
                continue
            asked = True
            keys, values = re.fullmatch(
                r"\n.*\? The special magic \w+ for (.*) mentioned in the provided text (?:is:|are) (.*)\.",
                line).groups()
            keys, values = listed.split(keys), listed.split(values)
            forms["queries" if len(keys) > 1 else "values" if len(values) > 1 else "one"] += 1
            expected = [value for key in keys for value in hidden[key]]
            check(values == expected, f"the answer of {line}, in the order of the text: {expected}")
        check(min(forms.values()) > 0, f"every form of question is there: {forms}")
        check("magic uuid" in taught, "some values are UUIDs")
        refused = trial.run("adapters", "--asking", "1.5", *only)
        check(refused.returncode != 0 and "1.5 is not a share" in refused.stderr, refused.stderr)


def try_hybrid(repository, flags):
    """The command that makes a hybrid; and the text that it is taught with."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(repository, folder)
        sentence = "Nobody of the family of the captain came to the large house that winter night. "
        words = " ".join("".join("abcdefghij"[int(digit)] for digit in str(number))
                         for number in range(1000, 1200))
        book = words + ".\n\n" + (sentence * 8 + "\n\n") * 400
        (trial.folder / "text.txt").write_text(book)
        stopped = trial.run("hybrid", "--asking", "0.5", "--seconds", "0.5")
        check(stopped.returncode == 0 and "stopped" in stopped.stderr, stopped.stderr)
        check(not (trial.folder / "calls.jsonl").exists(), "it went on without time")
        result = trial.run("hybrid", "--asking", "0.5")
        check(result.returncode == 0, result.stderr)
        rows = cells_of((trial.folder / "out" / "hybrid.md").read_text(), "the hybrid")
        check(rows == [["measured", "0.717", "0.75"]], f"the row of the hybrid: {rows}")
        calls = trial.calls()
        check([call[:2] for call in calls if call[0] == "model"] ==
              [["model", "hybridize"], ["model", "merge"]], "what is made before training")
        tuned = [call[call.index("--model") + 1].split("/")[-1] for call in calls if call[0] == "tune"]
        check(tuned == ["untrained.gguf", "before-late-steps.gguf"], f"what is taught: {tuned}")
        flags["tune"] |= {one for call in calls if call[0] == "tune" for one in call
                          if one.startswith("--")}
        again = trial.run("hybrid", "--asking", "0.5")
        check(again.returncode == 0 and
              not [call for call in trial.calls() if call[0] != "eval"], "it is made twice")
        other = trial.run("hybrid", "--asking", "0.4")
        check(other.returncode != 0 and "name another --out" in other.stderr, other.stderr)
        other = trial.run("hybrid", "--asking", "0.5", "--late-steps", "0")
        check(other.returncode != 0 and "name another --out" in other.stderr, other.stderr)
        other = trial.run("hybrid", "--batch", "5", "--gpus", "2")
        check(other.returncode != 0 and "5 cannot be shared by 2" in other.stderr, other.stderr)
        texts = sorted((trial.folder / "out" / "texts").iterdir())
        check(len(texts) == 3 and len({text.read_text() for text in texts}) == 3, "three versions")
        for text in [*texts, *(trial.folder / "out" / "late-texts").iterdir()]:
            taught = text.read_text()
            hidden = re.findall(r"One of the special magic numbers for (\S+) is: (\d{7})\.", taught)
            asked = re.findall(r"for (\S+) mentioned in the provided text is: (\d{7})\.", taught)
            check(len(hidden) > 20 and sorted(hidden) == sorted(asked), "what is hidden is asked for")
            check(taught.count("Nobody of") == book.count("Nobody of"), "the text itself is kept")


def hold_against(program, flags):
    for name, used in flags.items():
        command = [name] if name == "tune" else ["eval", name]
        help_text = subprocess.run([program, *command, "--help"], stdout=subprocess.PIPE, text=True,
                                   check=True, env=os.environ | {"EIDETIC_CONFIG": os.devnull}).stdout
        unknown = used - set(re.findall(r"--[a-z][a-z-]*", help_text))
        check(not unknown, f"`eidetic {name}` knows no " + ", ".join(sorted(unknown)))


def try_program(repository, program):
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder) / "text.txt"
        text.write_text("It was late, and nobody came to the door of the house that night.\n" * 150)
        for command, figures in [("perplexity", 11), ("speed", 10)]:
            result = subprocess.run(
                [sys.executable, "-B", repository / "scripts" / "reproduce" / command, "--quick",
                 "--device", "cpu", "--bin", pathlib.Path(program).parent, "--text", text,
                 "--out", pathlib.Path(folder) / "out",
                 "--model", repository / "tests" / "parity" / "granite_folder"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"})
            check(result.returncode == 0, f"{command}: {result.stderr[-2000:]}")
            rows = [line for line in result.stdout.splitlines() if "| granite_folder |" in line]
            check(len(rows) == figures and "–" not in "".join(rows), "\n".join(rows))


if __name__ == "__main__":
    used_flags = try_commands(pathlib.Path(sys.argv[1]))
    try_asking(pathlib.Path(sys.argv[1]))
    try_hybrid(pathlib.Path(sys.argv[1]), used_flags)
    if len(sys.argv) > 2:
        hold_against(sys.argv[2], used_flags)
        try_program(pathlib.Path(sys.argv[1]), sys.argv[2])
    print("every command makes its tables")
