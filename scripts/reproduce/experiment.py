"""What the commands of this folder share: training a variant, measuring it, and the table that
holds it against the paper's figures.

A command is a table of rows. A row is trained with `eidetic tune`, unless it is the model as it was
given, and measured with `eidetic eval`. Both go on where they were stopped, so a command that was
stopped is simply run again. Rows of several commands that train the same thing share one run. Needs
Python 3.10 or newer and nothing beside its standard library.
"""
import argparse
import concurrent.futures
import contextlib
import copy
import dataclasses
import functools
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time

from asking import write_asking_texts

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# Tokens of a pass of full attention. They change rounding only; of fewer a GPU waits for the next.
GPU_SEGMENT = 4096
WINDOW = 4096  # tokens of the paper's sliding window; `eidetic tune` has it without being told
PAPER = "Nunez et al., Expansion Span, arXiv 2412.13328"


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What is trained and how: the paper's settings for its hybrid, unless said otherwise."""
    attention: str = "se"
    adapter: str = "hylora"
    rank: int = 32                # alpha is twice the rank
    chunks: tuple = (2048, 4096)  # M; of several, each call of a layer draws one
    block: int = 32               # S
    span: int = 8                 # k

    @property
    def rate(self):
        return 2e-5 if self.attention == "s2" else 2e-4

    @property
    def reads_chunks(self):
        return self.attention.startswith("se") and self.attention != "se-stream"


@dataclasses.dataclass(frozen=True)
class Row:
    label: str
    tuning: Tuning | None = None  # None: the model as it was given
    mode: str = "full"            # attention at evaluation, as `eidetic eval` names it
    # The paper's figures by length: of its hybrid, and of its model without mixers.
    paper: dict = dataclasses.field(default_factory=dict)
    llama: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
    name: str     # of its files
    title: str
    measure: str  # "ppl" or "ruler"
    lengths: tuple
    rows: tuple
    note: str = ""


class Stopped(Exception):
    """The time is over, or somebody wants it to end. What was done is kept."""


class Failed(Exception):
    """`eidetic` ended with an error, which it has told. Other rows may do better."""


def by_length(lengths, *figures):
    return dict(zip(lengths, figures, strict=True))


def length_name(length):
    return f"{length // 1024}K" if length % 1024 == 0 else str(length)


def paths_of(values, endings):
    files = []
    for value in values:
        path = pathlib.Path(value)
        if path.is_dir():
            files += sorted(file for file in path.rglob("*") if file.suffix in endings)
        else:
            files.append(path)
    missing = [str(file) for file in files if not file.is_file()]
    if missing or not files:
        sys.exit("error: there is no text " + (" ".join(missing) or " ".join(map(str, values))))
    return [str(file) for file in files]


def flags_of(description, arguments=None):
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model",
        help="the checkpoint to tune (default: smol-hybrid, where scripts/test makes it)")
    add("--train", nargs="+", metavar="PATH", help="training texts: files, or folders of them")
    add("--text", nargs="+", metavar="PATH",
        help="texts to measure on (default: books/valid of --build)")
    add("--out", help="the results (default: reproduce in --build)")
    add("--build", default=str(REPOSITORY / "build" / "release"), help="the build folder")
    add("--bin", help="the folder of the program (default: bin in --build)")
    add("--device", default="cuda",
        help="cuda, cuda:N or cpu; of several, cuda:0,cuda:1, each trains one row (default: cuda)")
    add("--jobs", type=int, help="rows that are measured at once (default: one a device)")
    add("--steps", type=int, default=1000, help="of training (default: 1000, as in the paper)")
    add("--length", type=int, default=8192, help="tokens of a training sequence (default: 8192)")
    add("--batch", type=int, default=1, help="sequences of a step (default: 1)")
    add("--lengths", help="lengths to measure, N,N,..., in the place of the table's")
    add("--samples", type=int, default=20, help="of each RULER task and length (default: 20)")
    add("--pieces", type=int, help="perplexity of the first N pieces of each text (default: all)")
    add("--dtype", choices=("fp32", "bf16"), default="fp32", help="of training (default: fp32)")
    add("--recompute", action="store_true", help="train with less memory, a third slower")
    add("--asking", type=float, default=0, metavar="SHARE",
        help="of the training text that hides numbers and asks for them, 0 to 1 (default: 0)")
    add("--seed", type=int, default=0)
    add("--only", metavar="TEXT", help="rows with TEXT in their name")
    add("--seconds", type=float, help="stop after so many; the same command goes on from there")
    add("--quick", action="store_true",
        help="a few short steps and samples, to see that all of it runs")
    add("--table-only", action="store_true", help="the table of what is in --out")
    flags = parser.parse_args(arguments)
    if flags.quick:
        vars(flags).update(steps=2, length=256, batch=1, samples=1, pieces=1)
    if not 0 <= flags.asking <= 1:
        parser.error(f"--asking {flags.asking} is not a share of 0 to 1")
    flags.devices = flags.device.split(",")
    flags.jobs = max(flags.jobs or len(flags.devices), 1)
    flags.build = pathlib.Path(flags.build)
    flags.out = pathlib.Path(flags.out or flags.build / "reproduce")
    flags.program = str(pathlib.Path(flags.bin or flags.build / "bin") / "eidetic")
    cache = os.environ.get("EIDETIC_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache", "eidetic")
    flags.model = flags.model or os.path.join(cache, "models", "smol-hybrid-135m.gguf")
    flags.text = paths_of(flags.text or [flags.build / "books" / "valid"], (".txt",))
    return flags


def environment():
    # What is measured is not for a user's configuration file to change.
    return os.environ | {"EIDETIC_CONFIG": os.devnull}


def ended_call(command, end, interrupted=threading.Event()):
    """Runs a command, ended by SIGTERM when the time is over or somebody interrupts: it goes on when
    it is called again."""
    if interrupted.is_set() or (end is not None and end - time.monotonic() <= 1):
        raise Stopped
    print("+ " + " ".join(command), file=sys.stderr, flush=True)
    child = subprocess.Popen(command, env=environment(), stdout=sys.stderr)
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = child.wait(timeout=0.2)
                break
            if interrupted.is_set() or (end is not None and time.monotonic() > end):
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        child.send_signal(signal.SIGTERM)
        child.wait()
        raise Stopped from None
    if status != 0:
        raise Stopped if interrupted.is_set() else Failed(f"exit code {status}")


class Devices:
    """Who needs a device takes one, and waits while all are taken."""

    def __init__(self, names):
        self.free = queue.SimpleQueue()
        for name in names:
            self.free.put(name)

    @contextlib.contextmanager
    def one(self):
        name = self.free.get()
        try:
            yield name
        finally:
            self.free.put(name)


class Experiment:
    """Runs `eidetic` for one command. Results are files in flags.out."""

    def __init__(self, flags):
        self.flags = flags
        self.end = time.monotonic() + flags.seconds if flags.seconds else None
        self.failed = []  # rows
        self.interrupted = threading.Event()
        self.to_train = Devices(flags.devices)
        self.to_measure = Devices(flags.devices[i % len(flags.devices)] for i in range(flags.jobs))
        self.tuned, self.tuning = {}, threading.Lock()  # adapters by run, and who looks there
        self.writing, self.writing_texts = threading.Lock(), threading.Lock()
        if not os.access(flags.program, os.X_OK):
            sys.exit(f"error: there is no program {flags.program}: run scripts/build, or name "
                     "--bin")
        asked = subprocess.run([flags.program, "model", "info", "--json", flags.model],
                               stdout=subprocess.PIPE, env=environment())
        if asked.returncode != 0:
            sys.exit(asked.returncode)  # it has told why
        info = json.loads(asked.stdout)
        self.model = info.get("name") or pathlib.Path(flags.model).stem
        self.is_hybrid = bool(info.get("mamba_layers"))

    def with_flags(self, flags):
        """The same with other flags, to the same end and with the same list of failures."""
        other = copy.copy(self)
        other.flags = argparse.Namespace(**flags)
        return other

    def call(self, *arguments):
        ended_call([self.flags.program, *map(str, arguments)], self.end, self.interrupted)

    # --- training

    def chunks_of(self, tuning):
        # A chunk must be shorter than a sequence, or there is nothing to recall.
        return (64, 128) if self.flags.quick else tuning.chunks

    def run_of(self, tuning):
        """The folder of a run; what it depends on beside model and texts is in the name."""
        flags = self.flags
        parts = [tuning.attention, tuning.adapter, f"r{tuning.rank}", f"{flags.length}",
                 f"{flags.steps}x{flags.batch}", f"seed{flags.seed}"]
        if flags.dtype != "fp32":
            parts.append(flags.dtype)
        if flags.asking:
            parts.append(f"asking{flags.asking:g}")
        if tuning.reads_chunks:
            parts.insert(3, "m" + "+".join(map(str, self.chunks_of(tuning))))
            if "no-memory" not in tuning.attention:
                parts.insert(4, f"s{tuning.block}k{tuning.span}")
        return flags.out / "runs" / "-".join(parts)

    def texts_to_train_on(self):
        if self.flags.train:
            texts = paths_of(self.flags.train, (".txt",) if self.flags.asking else
                             (".txt", ".md", ".jsonl"))
            other = [text for text in texts if self.flags.asking and not text.endswith(".txt")]
            if other:
                sys.exit("error: --asking needs running text in .txt files, not " + " ".join(other))
            return texts
        if self.flags.quick:
            return self.flags.text
        sys.exit("error: name the training texts: --train PATH...")

    def tune(self, tuning):
        """Trains to the end; the folder of the adapter."""
        run, flags = self.run_of(tuning), self.flags
        adapter, done = run / "last", run / "made-of.json"
        texts = self.texts_to_train_on()
        made_of = {"model": os.path.abspath(flags.model),
                   "texts": list(map(os.path.abspath, texts))}
        if done.exists():
            if json.loads(done.read_text()) != made_of:
                sys.exit(f"error: {run} was made of another model or other texts: name another "
                         "--out")
            return adapter
        run.parent.mkdir(parents=True, exist_ok=True)
        if flags.asking:
            with self.writing_texts:
                texts = [write_asking_texts(texts, flags.asking, flags.seed, flags.out / "texts")]
        with self.to_train.one() as device:
            self.call("tune",
                      *tune_arguments(tuning, self.chunks_of(tuning), flags, texts, run, device))
        done.write_text(json.dumps(made_of))
        return adapter

    def tuned_once(self, tuning):
        """The adapter of rows that share one: the first that asks trains it, the others wait."""
        run = self.run_of(tuning)
        with self.tuning:
            mine = run not in self.tuned
            future = self.tuned.setdefault(run, concurrent.futures.Future())
        if mine:
            try:
                future.set_result(self.tune(tuning))
            except BaseException as error:  # also that nothing is left to wait for
                future.set_exception(error)
        return future.result()

    # --- measuring

    def lengths_of(self, table):
        if self.flags.lengths:
            return tuple(int(length) for length in self.flags.lengths.split(","))
        if self.flags.quick:
            return {"ppl": (128, 256), "ruler": (1024,)}[table.measure]
        return table.lengths

    def results_of(self, table, row):
        """The file of single results, which tables share."""
        run = self.run_of(row.tuning) if row.tuning else self.flags.out / "runs" / "untuned"
        return run / f"{table.measure}-{row.mode}.jsonl"

    def report_of(self, table, row):
        return self.results_of(table, row).with_name(f"{table.name}-{row.mode}.json")

    def measure(self, table, row, adapter):
        flags, report = self.flags, self.report_of(table, row)
        unfinished = report.with_suffix(".part")  # another row's table may read the report meanwhile
        report.parent.mkdir(parents=True, exist_ok=True)
        arguments = ["eval", table.measure, "--model", flags.model, "--modes", row.mode, "--text", *flags.text,
                     "--lengths", ",".join(map(str, self.lengths_of(table))),
                     "--results", self.results_of(table, row), "--json", unfinished]
        if row.mode == "window":  # as `tune` trains it, and not as sessions read
            arguments += ["--window", WINDOW, "--sinks", -1]
        if adapter:
            arguments += ["--adapter", adapter]
        if table.measure == "ruler":
            arguments += ["--samples", flags.samples, "--seed", flags.seed]
        elif flags.pieces:
            arguments += ["--pieces", flags.pieces]
        with self.to_measure.one() as device:
            if device.startswith("cuda") and row.mode == "full":
                arguments += ["--segment", GPU_SEGMENT]
            self.call(*arguments, "--device", device)
        unfinished.replace(report)

    def measured(self, table, row):
        """By length, of what there is."""
        report = self.report_of(table, row)
        if not report.exists():
            return {}
        report = json.loads(report.read_text())
        if table.measure == "ruler":
            return {mean["length"]: mean["ruler_11"] for mean in report["means"]
                    if mean["mode"] == row.mode}
        rows = [one for one in report["rows"] if one["mode"] == row.mode]
        rows = [one for one in rows if one["text"] is None] or rows
        return {one["length"]: one["token_perplexity"] for one in rows}

    # --- the table

    def write(self, table):
        lengths = self.lengths_of(table)
        digits = 2 if table.measure == "ppl" else 1

        def cells(figures):
            found = [figures.get(length) for length in lengths]
            return ["–" if figure is None else f"{figure:.{digits}f}" for figure in found]

        lines, rows = [], []
        for row in table.rows:
            paper = row.paper if self.is_hybrid else row.llama
            ours = self.measured(table, row)
            lines.append([row.label, self.model, *cells(ours)])
            lines.append([row.label, "the paper's", *cells(paper)])
            rows.append({"label": row.label, "mode": row.mode, "measured": ours, "paper": paper,
                         "tuning": row.tuning and dataclasses.asdict(row.tuning)})
        paper_model = "Mamba-2-Hybrid 2.7B, tuned at 8K" if self.is_hybrid else \
            "Llama1 7B, tuned at 16K"
        what = "Perplexity per token" if table.measure == "ppl" else "RULER-11, percent"
        title = f"{table.title}. {what}; the paper's: {paper_model} ({PAPER})."
        if self.flags.asking:
            title += f" {self.flags.asking:.0%} of the training text asks for what it hides."
        if table.note:
            title += " " + table.note
        write_both(self.flags.out / table.name, title,
                   [["", "model", *map(length_name, lengths)], *lines],
                   {"model": self.model, "measure": table.measure, "steps": self.flags.steps,
                    "batch": self.flags.batch, "dtype": self.flags.dtype,
                    "length": self.flags.length, "asking": self.flags.asking, "rows": rows})

    def make(self, table):
        rows = [row for row in table.rows
                if not self.flags.only or self.flags.only in row.label]
        if not rows:
            sys.exit(f"error: no row has '{self.flags.only}' in its name: "
                     + ", ".join(row.label for row in table.rows))
        self.write(table)
        if self.flags.table_only:
            return
        # A thread for each row; what they wait for are devices.
        with concurrent.futures.ThreadPoolExecutor(len(rows)) as threads:
            made = [threads.submit(self.make_row, table, row) for row in rows]
            try:
                for one in made:
                    one.result()
            except KeyboardInterrupt:
                self.interrupted.set()
                raise

    def make_row(self, table, row):
        with self.attempt(f"{table.name}: {row.label}"):
            self.measure(table, row, self.tuned_once(row.tuning) if row.tuning else None)
        with self.writing:
            self.write(table)

    @contextlib.contextmanager
    def attempt(self, name):
        """What fails in here is kept by its name, and what comes after goes on."""
        try:
            yield
        except Failed as error:
            self.failed.append(f"{name} ({error})")


def write_both(path, title, rows, results):
    """rows: of cells, the heading first. As Markdown, and results as JSON."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|---|" + "---:|" * (len(rows[0]) - 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps({"title": title} | results, indent=1) + "\n")
    path.with_suffix(".md").write_text(title + "\n\n" + "\n".join(lines) + "\n")


def tune_arguments(tuning, chunks, flags, texts, run, device):
    """The one place that knows how `eidetic tune` is called."""
    arguments = [*texts, "--out", run, "--model", flags.model, "--device", device,
                 "--attention", tuning.attention, "--kind", tuning.adapter,
                 "--rank", tuning.rank, "--alpha", 2 * tuning.rank,
                 "--length", flags.length, "--steps", flags.steps, "--batch", flags.batch,
                 "--rate", tuning.rate, "--seed", flags.seed,
                 "--dtype", flags.dtype]
    if flags.recompute:
        arguments.append("--recompute")
    if tuning.reads_chunks:
        arguments += ["--chunk", ",".join(map(str, chunks))]
        if "no-memory" not in tuning.attention:
            arguments += ["--block", tuning.block, "--span-blocks", tuning.span]
    return arguments


def run(experiment, makers, names):
    """Calls `makers` until the time is over, and prints the tables of these names."""
    try:
        for make in makers:
            make()
    except (Stopped, KeyboardInterrupt):
        print("stopped: what was done is kept, and the same command goes on from there",
              file=sys.stderr)
    for name in names:
        file = experiment.flags.out / (name + ".md")
        if file.exists():
            print(file.read_text())
    if experiment.failed:
        sys.exit("error: not measured: " + "; ".join(experiment.failed))


def main(description, *tables):
    """A command that makes tables."""
    experiment = Experiment(flags_of(description))
    only = experiment.flags.only or ""
    # A table without such a row is left out, unless none has one.
    tables = [table for table in tables if any(only in row.label for row in table.rows)] or tables
    run(experiment, [functools.partial(experiment.make, table) for table in tables],
        [table.name for table in tables])
