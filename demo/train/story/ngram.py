"""What the story-teller has to beat: n-grams of the same tokens of the same text, with modified Kneser-Ney smoothing.

    python ngram.py        bits per byte of the held-out text, by order

Every order has three discounts of its own, from its counts of counts (Chen and Goodman, 1998), and is
interpolated with the next lower one, down to the even distribution.
"""

import math

import numpy as np

from tokenizer import SIZE, documents, load, tokens

BITS = 12
assert SIZE <= 1 << BITS
ORDERS = [1, 2, 3, 4, 5]


def keys(ids, order):
    """Every n-gram as one integer, at the position of its last token."""
    key = np.zeros(len(ids) - order + 1, dtype=np.int64)
    for offset in range(order):
        key = key << BITS | ids[offset : len(ids) - order + 1 + offset]
    return key


class Order:
    """Discounted counts of the n-grams of one order, and what each context leaves to the lower orders."""

    def __init__(self, grams, counts):
        of_counts = [np.count_nonzero(counts == count) for count in (1, 2, 3, 4)]
        y = of_counts[0] / (of_counts[0] + 2 * of_counts[1])
        discounts = np.array([0] + [count - (count + 1) * y * of_counts[count] / of_counts[count - 1] for count in (1, 2, 3)])
        discount = discounts[np.minimum(counts, 3)]
        self.grams = grams
        self.contexts, index = np.unique(grams >> BITS, return_inverse=True)
        total = np.bincount(index, weights=counts)
        self.left = np.bincount(index, weights=discount) / total
        self.probability = (counts - discount) / total[index]

    def mix(self, grams, lower):
        """Probability of the last token of each n-gram, given what the lower order says."""
        context, seen = find(self.contexts, grams >> BITS)
        gram, known = find(self.grams, grams)
        return np.where(seen, np.where(known, self.probability[gram], 0) + self.left[context] * lower, lower)


def find(ordered, wanted):
    index = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return index, ordered[index] == wanted


class KneserNey:
    """A model of the given highest order: raw counts there, below in how many contexts an n-gram occurs."""

    def __init__(self, ids, order):
        grams, counts = np.unique(keys(ids, order), return_counts=True)
        self.orders = [Order(grams, counts)]
        for lower in range(order - 1, 0, -1):
            grams, counts = np.unique(grams & ((1 << BITS * lower) - 1), return_counts=True)
            self.orders.insert(0, Order(grams, counts))

    def nats(self, ids):
        """-log probability of every token but the first."""
        probability = np.full(len(ids) - 1, 1 / SIZE)
        for order, level in enumerate(self.orders, 1):
            first = max(order, 2)  # Where the text begins there is less to go by.
            probability[first - 2 :] = level.mix(keys(ids, order)[first - order :], probability[first - 2 :])
        return -np.log(probability)


def main():
    tokenizer = load()
    text = tokens("train", tokenizer)
    held_out = {name: tokens(name, tokenizer) for name in ("chapters", "book")}
    sizes = {name: sum(len(document.encode()) for document in documents(name)) for name in held_out}
    for order in ORDERS:
        model = KneserNey(text, order)
        for name, ids in held_out.items():
            nats = model.nats(ids)
            print("order %d, %s: %.4f nats per token, perplexity %.2f, %.4f bits per byte" % (order, name, nats.mean(), math.exp(nats.mean()), nats.sum() / math.log(2) / sizes[name]))


if __name__ == "__main__":
    main()
