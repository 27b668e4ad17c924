"""Makes tokenizer_golden.json: what the `tokenizers` package says of a book and of hard cases.

    make_tokenizer_golden.py BASE.gguf BOOK.txt hard_cases.txt tokenizer_golden.json

The tokenizer is built from the GGUF's own tables as SmolLM's tokenizer.json has it: digits one by
one, then GPT-2's byte-level pieces, then BPE. Needs gguf and tokenizers.
"""
import json
import pathlib
import re
import struct
import sys

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

FIRST_IDS = 3000


def build(path, special):
    import gguf  # the other users of this file need no model

    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ", 1)) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    if special:
        tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False)
                                      for t, kind in zip(tokens, types) if kind == 3])
    return tokenizer


def unescape(line):
    repeat = 1
    match = re.match(rb"%(\d+)%", line)
    if match:
        repeat, line = int(match.group(1)), line[match.end():]
    names = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"\\": b"\\"}
    text = re.sub(rb"\\(x[0-9a-f]{2}|.)",
                  lambda m: bytes([int(m.group(1)[1:], 16)]) if len(m.group(1)) == 3
                  else names[m.group(1)], line)
    return text * repeat


def hashed(ids):
    """FNV-1a of the ids as little-endian int32."""
    value = 0xcbf29ce484222325
    for byte in struct.pack(f"<{len(ids)}i", *ids):
        value = (value ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return f"{value:016x}"


def main():
    base, book, hard, output = sys.argv[1:]
    plain, special = build(base, False), build(base, True)
    text = pathlib.Path(book).read_bytes()
    ids = plain.encode(text.decode()).ids
    cases = []
    lines = pathlib.Path(hard).read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if line.startswith(b"#") or not line:
            continue
        case = unescape(line).decode("utf-8", errors="replace")
        entry = {"line": number, "plain": plain.encode(case).ids}
        if special.encode(case).ids != entry["plain"]:
            entry["special"] = special.encode(case).ids
        cases.append(json.dumps(entry, separators=(",", ":")))
    first = json.dumps(ids[:FIRST_IDS], separators=(",", ":"))
    pathlib.Path(output).write_text(
        '{"book":{"bytes":%d,"tokens":%d,"fnv1a":"%s",\n"first":%s},\n"cases":[\n%s\n]}\n'
        % (len(text), len(ids), hashed(ids), first, ",\n".join(cases)))


if __name__ == "__main__":
    main()
