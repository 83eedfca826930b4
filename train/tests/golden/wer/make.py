"""Error counts of jiwer, for tests/evaluate/counts.rs.

    pip install jiwer==4.0.0
    python make.py

Writes pairs.json beside this file.
"""

import json
import pathlib
import random

import jiwer

WORDS = "a an and the cat cats sat on mat he'd gone home well known so they say it is isn't".split()


def text(rng, most):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(0, most)))


def disturbed(rng, reference):
    """The reference with words and letters left out, put in, repeated, moved and exchanged."""
    words = []
    for word in reference.split():
        chance = rng.random()
        if chance < 0.1:
            continue
        if chance < 0.2:
            words.append(rng.choice(WORDS))
            continue
        if chance < 0.3 and len(word) > 1:
            at = rng.randrange(len(word))
            word = word[:at] + rng.choice("abcdefghijklmnopqrstuvwxyz") + word[at + 1 :]
        words.append(word)
        if chance > 0.9:
            words.append(rng.choice([word, rng.choice(WORDS)]))
    if len(words) > 2 and rng.random() < 0.2:
        at = rng.randrange(len(words) - 1)
        words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def counts(result):
    return {
        "reference": result.hits + result.substitutions + result.deletions,
        "substitutions": result.substitutions,
        "deletions": result.deletions,
        "insertions": result.insertions,
    }


def pairs():
    yield from [
        ("", ""),
        ("", "a"),
        ("", "the cat sat"),
        ("a", ""),
        ("the cat sat", ""),
        ("a", "a"),
        ("a", "b"),
        ("a b", "b a"),
        ("a b c", "c a b"),
        ("a b", "b c"),
        ("a a a", "a"),
        ("a", "a a a"),
        ("a b a b", "b a b a"),
        ("well known", "wellknown"),
        ("wellknown", "well known"),
        ("it is", "it isn't"),
        ("a b c d e f", "f e d c b a"),
    ]
    rng = random.Random(20261124)
    for _ in range(140):
        reference = text(rng, 24)
        yield reference, disturbed(rng, reference)
    # Nothing in common but chance: many alignments cost the same.
    for _ in range(60):
        yield text(rng, 10), text(rng, 10)
    for _ in range(10):
        reference = text(rng, 120)
        yield reference, disturbed(rng, reference)


def main():
    every = list(pairs())
    cases = [
        {
            "reference": reference,
            "hypothesis": hypothesis,
            "words": counts(jiwer.process_words(reference, hypothesis)),
            "characters": counts(jiwer.process_characters(reference, hypothesis)),
        }
        for reference, hypothesis in every
    ]
    references, hypotheses = map(list, zip(*every))
    words = jiwer.process_words(references, hypotheses)
    characters = jiwer.process_characters(references, hypotheses)
    golden = {
        "jiwer": "4.0.0",
        "pooled": {
            "words": counts(words),
            "wer": words.wer,
            "characters": counts(characters),
            "cer": characters.cer,
        },
        "pairs": cases,
    }
    path = pathlib.Path(__file__).with_name("pairs.json")
    lines = ",\n".join("  " + json.dumps(case) for case in golden.pop("pairs"))
    head = json.dumps(golden, indent=1)[:-2]
    path.write_text(f'{head},\n "pairs": [\n{lines}\n ]\n}}\n')


main()
