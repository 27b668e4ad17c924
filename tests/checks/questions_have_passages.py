"""Checks a question file against the archive of its books.

Usage: questions_have_passages.py QUESTIONS.json BOOKS.tar.xz

At least 100 questions on six books; every passage stands exactly once in its book; one of the
accepted answers stands in or near one of the question's passages, so that reading it is enough.
"""

import json
import sys
import tarfile

NEAR = 300  # characters on either side of a passage


def main(questions_path, books_path):
    with open(questions_path, encoding="utf-8") as file:
        content = json.load(file)
    texts = {}
    with tarfile.open(books_path) as archive:
        for member in archive.getmembers():
            if member.isfile():
                texts[member.name.split("/")[-1]] = archive.extractfile(member).read().decode()
    books = {book["name"]: texts[book["file"]] for book in content["books"]}
    faults = []
    for question in content["questions"]:
        text = books[question["book"]]
        answered = False
        for passage in question["passages"]:
            if text.count(passage) != 1:
                faults.append(f"{question['id']}: '{passage}' stands {text.count(passage)} times")
                continue
            at = text.index(passage)
            near = text[max(0, at - NEAR):at + len(passage) + NEAR].lower()
            answered |= any(answer.lower() in near for answer in question["answers"])
        if not answered:
            faults.append(f"{question['id']}: no accepted answer near its passages")
    if len(content["questions"]) < 100 or len(books) != 6:
        faults.append(f"{len(content['questions'])} questions on {len(books)} books")
    print("\n".join(faults) or f"{len(content['questions'])} questions, every passage in place")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
