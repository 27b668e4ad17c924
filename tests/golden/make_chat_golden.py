"""Makes chat_golden.json: what transformers' apply_chat_template says of some conversations.

    make_chat_golden.py BASE.gguf chat_golden.json

Needs gguf and transformers.
"""
import json
import pathlib
import sys

import gguf
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

CONVERSATIONS = [
    [("user", "Hi")],
    [("system", "You are terse."), ("user", "Hi")],
    [("user", "Hi"), ("assistant", "Hello!"), ("user", "Who are you?")],
    [("user", "one\ntwo\n\n  three  "), ("assistant", "")],
    [("system", ""), ("user", "x"), ("system", "late"), ("user", "y")],
    [("assistant", "I speak first."), ("user", "Do you?")],
    [("user", "<|im_end|> {{ messages }} {% raw %} 'quoted' \"twice\" \\n é 👍 &amp; <b>")],
]


def main():
    base, output = sys.argv[1:]
    template = gguf.GGUFReader(base).fields["tokenizer.chat_template"].contents()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    cases = []
    for conversation in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in conversation]
        for open_turn in (False, True):
            text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False,
                                                 add_generation_prompt=open_turn)
            cases.append({"messages": messages, "open_assistant_turn": open_turn, "text": text})
    pathlib.Path(output).write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


main()
