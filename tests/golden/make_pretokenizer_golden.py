"""Makes pretokenizer_golden.json: what the `tokenizers` package says of hard cases by each
pre-tokenizer that GGUF files name.

    make_pretokenizer_golden.py hard_cases.txt pretokenizer_golden.json

`tokens` and `merges` are a vocabulary that is trained on the cases without a pre-tokenizer, so that
merges reach over every border; the tokens behind the last merge are whole words that no merge makes.
Of each rule there is what tokenizer.json says (`pre_tokenizer`; null where the package has no such
chain of its own), whether whole words are not merged, and by line of hard_cases.txt where its pieces
end, in bytes, and a hash of its ids. Needs tokenizers.
"""
import json
import pathlib
import sys

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from make_tokenizer_golden import hashed, unescape

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
TEKKEN = (rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*"
          r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
# As llama.cpp reads files of unknown origin: each on the pieces of the one before.
DEFAULT = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def split(*expressions, behavior="isolated", invert=False):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(e), behavior, invert) for e in expressions]
        + [byte_level(False)])


RULES = {  # pre-tokenizer, whole words
    "smollm": (pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), byte_level(True)]), False),
    "gpt-2": (byte_level(True), False),
    "llama-bpe": (split(LLAMA3 % r"\p{N}{1,3}"), True),
    "dbrx": (split(LLAMA3 % r"\p{N}{1,3}", behavior="removed", invert=True), False),
    "qwen2": (split(LLAMA3 % r"\p{N}"), False),
    "tekken": (split(TEKKEN), True),
    "default": (split(*DEFAULT), False),
}


def ends(rule, text):
    return [len(text[:end].encode()) for _, (_, end) in rule.pre_tokenize_str(text)]


def main():
    hard, output = sys.argv[1:]
    cases = {}
    for number, line in enumerate(pathlib.Path(hard).read_bytes().split(b"\n"), 1):
        if line and not line.startswith(b"#"):
            cases[number] = unescape(line).decode("utf-8", errors="replace")
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = byte_level(False)
    trained.train_from_iterator(cases.values(), trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=12, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    vocabulary = sorted(model["vocab"], key=model["vocab"].get)
    words = {word for case in cases.values()
             for word, _ in RULES["llama-bpe"][0].pre_tokenize_str(case) if 3 < len(word) < 12}
    vocabulary += sorted(words - set(vocabulary))[::4]
    ids = {token: i for i, token in enumerate(vocabulary)}
    merges = [tuple(m) for m in model["merges"]]

    rules, entries = {}, {number: {} for number in cases}
    for name, (rule, whole_words) in RULES.items():
        tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, ignore_merges=whole_words))
        tokenizer.pre_tokenizer = rule
        written = json.loads(tokenizer.to_str())["pre_tokenizer"]
        rules[name] = {"pre_tokenizer": None if name == "default" else written,
                       "whole_words": whole_words}
        for number, case in cases.items():
            entries[number][name] = [hashed(tokenizer.encode(case).ids)] + ends(rule, case)
    dump = lambda value: json.dumps(value, separators=(",", ":"))
    lines = [dump({"line": number, **entry}) for number, entry in entries.items()]
    pathlib.Path(output).write_text(
        '{"tokens":%s,\n"merges":%s,\n"rules":%s,\n"cases":[\n%s\n]}\n'
        % (dump(vocabulary), dump(merges), dump(rules), ",\n".join(lines)))


main()
