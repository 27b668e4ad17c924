"""Reads eidetic.h: what it declares, with the comments that say what it means.

Used by scripts/c-reference and tests/checks/c_abi.py. It knows the forms that this header uses, no
more: a declaration that it cannot read is an error, so that nothing is left out in silence.
"""
import re


class Field:
    """One field of a struct, or one value of an enum."""

    def __init__(self, name, declaration, comment, heading):
        self.name, self.declaration = name, declaration
        self.comment, self.heading = comment, heading


class Item:
    """kind: section, macro, enum, struct, handle, callback or function."""

    def __init__(self, kind, name, declaration, comment, fields=()):
        self.kind, self.name, self.declaration = kind, name, declaration
        self.comment, self.fields = comment, list(fields)


def comment_text(comment):
    """The words of a comment: without its frame, lines as they are."""
    lines = comment.strip()[2:-2].split("\n")
    lines = [re.sub(r"^\s*\*? ?", "", line, count=1) if i else line.strip()
             for i, line in enumerate(lines)]
    return "\n".join(line.rstrip() for line in lines).strip("\n").strip()


def one_line(code):
    return re.sub(r"\s+", " ", code).strip()


COMMENT = re.compile(r"/\*.*?\*/", re.S)


def fields_of(body):
    """A struct's fields or an enum's values. The comment behind one is its own; so is one on the
    lines before it when there is none behind, otherwise that one is a heading."""
    comments = []

    def keep(match):
        comments.append(comment_text(match.group(0)))
        return f"\0{len(comments) - 1}\0"

    fields, above = [], ""
    for line in COMMENT.sub(keep, body).split("\n"):
        match = re.fullmatch(r"\s*(?P<code>[^\0]*?)[;,]?\s*(?:\0(?P<comment>\d+)\0)?\s*", line)
        if match is None:
            raise ValueError("cannot read: " + line)
        comment = comments[int(match["comment"])] if match["comment"] else ""
        if not match["code"]:
            above = comment or above
            continue
        name = re.search(r"(\w+)\s*(?:\[\w+\])?\s*(?:=.*)?$", match["code"]).group(1)
        heading = above if comment else ""
        fields.append(Field(name, one_line(match["code"]), comment or above, heading))
        above = ""
    return fields


def parse(path):
    """The header's opening comment, and its items in order."""
    text = open(path, encoding="utf-8").read()
    opening = comment_text(COMMENT.match(text).group(0))
    start = text.index("#define EID_VERSION_MAJOR")
    items, comment, at = [], "", start
    form = re.compile(
        r"(?P<comment>/\*.*?\*/)"
        r"|(?P<macro>\#define (?P<macro_name>\w+)(?:[^\n]*\\\n)*[^\n]*)"
        r"|(?P<directive>\#[^\n]*)"
        r"|typedef (?P<composite>enum|struct) (?P<tag>\w+) \{(?P<body>.*?)\} (?P=tag);"
        r"|typedef struct (?P<handle>\w+) (?P=handle);"
        r"|typedef int \(\*(?P<callback>\w+)\)\([^;]*\);"
        r"|EID_API (?P<function>[^;]*?\b(?P<function_name>eid_\w+)\([^;]*\));"
        r"|(?P<brace>[{}]|extern \"C\")", re.S)
    while True:
        space = re.compile(r"\s*").match(text, at)
        blank = "\n\n" in space.group(0)
        at = space.end()
        if at == len(text):
            return opening, items
        match = form.match(text, at)
        if match is None:
            raise ValueError("cannot read: " + text[at:at + 80])
        at = match.end()
        found = match.groupdict()
        if found["comment"]:
            comment = comment_text(found["comment"])
            if comment.startswith("-----"):
                items.append(Item("section", comment.split("\n")[1].rstrip("."), "",
                                  "\n".join(comment.split("\n")[2:])))
                comment = ""
            continue
        if blank:
            comment = ""  # it does not stand right before
        code = one_line(match.group(0))
        if found["macro"]:
            items.append(Item("macro", found["macro_name"], match.group(0), comment))
        elif found["composite"]:
            items.append(Item(found["composite"], found["tag"], match.group(0), comment,
                              fields_of(found["body"])))
        elif found["handle"]:
            items.append(Item("handle", found["handle"], code, comment))
        elif found["callback"]:
            items.append(Item("callback", found["callback"], code, comment))
        elif found["function"]:
            items.append(Item("function", found["function_name"], one_line(found["function"]), comment))
        comment = ""


def parameters(function):
    """(type, name) of a function's parameters."""
    inside = function.declaration[function.declaration.index("(") + 1:-1]
    if inside.strip() == "void":
        return []
    return [re.match(r"(.*?)\s*(\w+)$", one.strip()).groups() for one in inside.split(",")]


LABELS = "Takes", "Errors", "Owner", "Threads"


def labelled(comment):
    """(prose, {label: text}) of a comment that ends in labelled lines."""
    prose, labels, label = [], {}, None
    for line in comment.split("\n"):
        match = re.match(r"(%s)  +(.*)" % "|".join(LABELS), line)
        if match:
            label = match.group(1)
            if label in labels:
                raise ValueError(f"{label} is there twice: {comment}")
            labels[label] = match.group(2)
        elif label and line.startswith("  "):
            labels[label] += " " + line.strip()
        elif label and line:
            raise ValueError("no label before: " + line)
        else:
            prose.append(line)
    return one_line(" ".join(prose)), labels
