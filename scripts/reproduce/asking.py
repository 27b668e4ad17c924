"""Training texts that hide things and ask for them. Novels alone ask for no recall."""
import hashlib
import os
import pathlib
import random
import re
import shutil
import uuid

PREFACE = ("Some special magic numbers are hidden within the following text. Make sure to memorize "
           "it. I will quiz you about the numbers afterwards.\n")
QUESTION = ("\nWhat is the special magic number for {0} mentioned in the provided text? The special "
            "magic number for {0} mentioned in the provided text is: {1}.")
SEVERAL = ("\nWhat are all the special magic numbers for {0} mentioned in the provided text? The "
           "special magic numbers for {0} mentioned in the provided text are {1}.")
NEEDLE = "One of the special magic numbers for {0} is: {1}."
# Characters of a stretch of text with questions behind it, 400 to 7,000 tokens; keys hidden in it.
STRETCH, KEYS = (1_600, 28_000), (2, 12)
MOST_AT_ONCE = 4     # values of a key, or keys of a question
UUID_SHARE = 0.15    # of stretches whose values are UUIDs
PLAIN, VALUES, QUERIES, LINES = "plain", "values", "queries", "lines"
FORMS = (PLAIN, VALUES, QUERIES, LINES)


def sentence_ends(text):
    return [match.end() for match in re.finditer(r"[.!?][\"'”’)]*(?=\s)", text)]


def words_for_keys(text):
    """Too few in a text that is not running text: an empty list."""
    words = sorted(set(re.findall(r"\b[a-z]{4,9}\b", text)))
    return words if len(words) >= 100 else []


def stretches_of(text, length, draw):
    """The text in pieces of about so many characters, ending at paragraphs."""
    begin = 0
    while begin < len(text):
        end = text.find("\n\n", min(begin + draw.randint(*length), len(text)))
        end = len(text) if end < 0 else end + 2
        yield text[begin:end]
        begin = end


def draw_names(words, count, draw):
    names = []
    while len(names) < count:
        name = "-".join(draw.sample(words, 2))
        if name not in names:
            names.append(name)
    return names


def draw_number(draw):
    return str(draw.randint(1_000_000, 9_999_999))


def hidden_between(stretch, ends, sentences, draw):
    """Each of the sentences behind another one of the stretch's own, in order."""
    parts, last = [], 0
    for sentence, place in zip(sentences, sorted(draw.sample(ends, len(sentences)))):
        parts += [stretch[last:place], " " + sentence]
        last = place
    return "".join(parts) + stretch[last:].rstrip()


def listed(parts):
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + ", and " + parts[-1]


def of_uuids(template):
    return template.replace("number", "uuid")


def asked_for(values, form, draw, kind):
    """The questions and answers behind a stretch: name -> its values, in the order of the text.
    `kind` makes a template one of numbers or of UUIDs."""
    names = draw.sample(list(values), len(values))
    if form == VALUES:
        return [kind(SEVERAL).format(name, listed(values[name])) for name in names]
    if form == QUERIES:
        groups = [names[i:i + MOST_AT_ONCE] for i in range(0, len(names), MOST_AT_ONCE)]
        return [kind(SEVERAL).format(listed(group), listed([values[name][0] for name in group]))
                for group in groups if len(group) > 1]
    return [kind(QUESTION).format(name, values[name][0]) for name in names]


def with_several_questions(stretch, words, draw):
    """Hides values of several keys between the sentences of the stretch, or puts as many lines of
    needles as it is long in its place, and asks for them one at a time, all of a key, or those of
    several keys."""
    ends, form = sentence_ends(stretch), draw.choice(FORMS)
    each = [draw.randint(2, MOST_AT_ONCE) if form == VALUES else 1
            for _ in range(draw.randint(*KEYS))]
    if len(ends) < sum(each):
        return stretch
    is_uuid = draw.random() < UUID_SHARE
    kind = of_uuids if is_uuid else str
    lines = max(len(stretch) // 70, len(each)) if form == LINES else len(each)
    names = draw_names(words, lines, draw)

    def value():
        return str(uuid.UUID(int=draw.getrandbits(128), version=4)) if is_uuid else draw_number(draw)

    hidden = [(name, value()) for name, count in zip(names, each + [1] * (lines - len(each)))
              for _ in range(count)]
    draw.shuffle(hidden)
    values = {name: [one for of, one in hidden if of == name] for name in names[:len(each)]}
    needles = [kind(NEEDLE).format(name, one) for name, one in hidden]
    text = "\n".join(needles) if form == LINES else hidden_between(stretch, ends, needles, draw)
    preface = kind(PREFACE) if draw.random() < 0.5 else ""
    return preface + text + "".join(asked_for(values, form, draw, kind)) + "\n"


def asking_text(text, share, draw):
    """The text, of which stretches that make up `share` ask for what is hidden in them."""
    words = words_for_keys(text)
    if not words:
        return text
    return "\n".join(with_several_questions(stretch, words, draw) if draw.random() < share else stretch
                     for stretch in stretches_of(text, STRETCH, draw))


def write_asking_texts(files, share, seed, folder):
    """The texts as `asking_text` makes them, in a folder inside of `folder` that is theirs alone, and
    is there as a whole or not at all."""
    texts = [(file.name, file.read_text(encoding="utf-8")) for file in map(pathlib.Path, files)]
    digest = hashlib.sha256(repr(texts).encode()).hexdigest()[:12]
    made = pathlib.Path(folder) / f"asking{share:g}-seed{seed}-{digest}"
    if not made.exists():
        draw, unfinished = random.Random(seed), made.with_name(f"{made.name}.{os.getpid()}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for number, (name, text) in enumerate(texts):  # names may be the same in two folders
            taught = asking_text(text, share, draw)
            (unfinished / f"{number:03}-{name}").write_text(taught, encoding="utf-8")
        try:
            unfinished.rename(made)
        except OSError:  # another command made the same meanwhile
            shutil.rmtree(unfinished)
            if not made.exists():
                raise
    return made
