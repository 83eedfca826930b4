"""Makes model.arpa, a random back-off model, and expected.tsv, what kenlm says of 1,000 random sentences under it:
log10 probability from <s> to </s>, number of unknown words, sentence.

    pip install kenlm==0.3.0 && python make.py

Every n-gram has its prefix, as in any ARPA file; that some have no suffix is what pruned models look like; kenlm bears only a few.
"""
import random

import kenlm

ORDER, WORDS = 4, 24
rng = random.Random(20261124)
vocabulary = ["<unk>", "<s>", "</s>"] + ["".join(rng.choices("abcdeéż'", k=rng.randint(2, 7))) for _ in range(WORDS)]
assert len(set(vocabulary)) == len(vocabulary)

orders = [[(word,) for word in vocabulary]]
for order, most in [(2, 160), (3, 300), (4, 400)]:
    ngrams = set()
    while len(ngrams) < most:
        prefix = rng.choice(orders[-1])
        word = rng.choice(vocabulary[2:])
        ngram = prefix + (word,)
        if prefix[-1] not in ("</s>", "<unk>") and (ngram[1:] in orders[-1] or rng.random() < 0.005):
            ngrams.add(ngram)
    orders.append(sorted(ngrams))

with open("model.arpa", "w") as out:
    print("\\data\\", file=out)
    for order, ngrams in enumerate(orders, 1):
        print(f"ngram {order}={len(ngrams)}", file=out)
    for order, ngrams in enumerate(orders, 1):
        print(f"\n\\{order}-grams:", file=out)
        for ngram in ngrams:
            prob = -99 if ngram == ("<s>",) else round(-rng.uniform(0.05, 5), 5)
            line = f"{prob}\t{' '.join(ngram)}"
            if order < ORDER and ngram[-1] != "</s>":
                line += f"\t{round(rng.uniform(-1.5, 0.2), 5)}"
            print(line, file=out)
    print("\n\\end\\", file=out)

model = kenlm.Model("model.arpa")
followers = {}
for ngrams in orders[1:]:
    for *context, word in ngrams:
        followers.setdefault(tuple(context), []).append(word)
with open("expected.tsv", "w") as out:
    for _ in range(1000):
        words = ["<s>"]
        for _ in range(rng.randint(0, 12)):
            # Mostly what the model has seen, so that every order is met.
            context = tuple(words[-rng.randint(1, ORDER - 1):])
            known = [word for word in followers.get(context, []) if word != "</s>"]
            word = rng.choice(known) if known and rng.random() < 0.8 else rng.choice(vocabulary[3:] + ["zzz"])
            words.append(word if word != "<unk>" else "yyy")
        sentence = " ".join(words[1:])
        unknown = sum(oov for *_, oov in model.full_scores(sentence, eos=False))
        print(f"{model.score(sentence):.5f}\t{unknown}\t{sentence}", file=out)
