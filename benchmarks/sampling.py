"""Negatives for one epoch of ML-1M: 4 a positive, none of them known, against a Python loop.

Ours: every step of `GroupSampler.epoch`, with its order and the assembly of the groups, so a little more than
the drawing alone; 1 and 2 threads, membership by bitmap and by sieve, uniform and by popularity. The peer: a
loop over the positives that draws until the pair is not in a dictionary-of-keys matrix, as the public port of
NCF does (and, for comparison, in a set of pairs); it is run on a share of the positives and scaled to all of
them. Building the look-up structures is left out on both sides and stated. What ours draws is verified by
independent means.

About a minute on two quiet cores; a few seconds with --quick.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.sparse import coo_matrix

from common import Report, Timing, command_line, movielens, plural, raw, take_turns, timed
from ncf.data import Dataset
from ncf.runtime import Workers, workers
from ncf.training.known_positives import KnownPositives
from ncf.training.sampling import GroupSampler, NegativeSampler
from port import draw_negatives

NEGATIVES, BATCH, EXPONENT = 4, 4096, 0.75
TARGET = 40.0


def sampler_of(dataset: Dataset, membership: str, exponent: float) -> GroupSampler:
    """The sampler of a training run; `membership` forces bitmap or sieve, which it else chooses by size."""
    sampler = GroupSampler(dataset, batch_size=BATCH, negatives=NEGATIVES, exponent=exponent)
    limit = 0 if membership == "sieve" else 2**40
    known = KnownPositives(dataset.seen_in_training, len(dataset.items), bitmap_limit=limit)
    sampler._sampler = NegativeSampler(known, torch.from_numpy(dataset.popularity), exponent)
    return sampler


def epoch(sampler: GroupSampler, pool: Workers) -> int:
    """Draw all groups of an epoch; how many there were."""
    return sum(len(step.users) for step in sampler.epoch(0, pool))


def count_known(dataset: Dataset, sampler: GroupSampler, pool: Workers) -> int:
    """How many negatives of an epoch are training positives: zero, or the sampler is wrong.

    Looked up in a sorted array of pair numbers, which shares no code with the sampler.
    """
    items = len(dataset.items)
    pairs = np.sort(dataset.train.user_rows.astype(np.int64) * items + dataset.train.item_rows)
    found = 0
    for step in sampler.epoch(0, pool):
        drawn = (step.users[:, None] * items + step.items[:, 1:]).numpy().ravel()
        place = np.searchsorted(pairs, drawn).clip(max=len(pairs) - 1)
        found += int((pairs[place] == drawn).sum())
    return found


def peers(dataset: Dataset, share: float) -> tuple[dict[str, Callable[[], object]], int]:
    """The loops over a share of the positives, and how many positives that is."""
    users, items = dataset.train.user_rows.tolist(), dataset.train.item_rows.tolist()
    positives = list(zip(users, items, strict=True))
    shape = (len(dataset.users), len(dataset.items))
    matrix = coo_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape).todok()
    pairs, chosen = set(positives), positives[:: round(1.0 / share)]
    return {
        "loop, dictionary-of-keys matrix": lambda: draw_negatives(chosen, matrix, shape[1], NEGATIVES),
        "loop, set of pairs": lambda: draw_negatives(chosen, pairs, shape[1], NEGATIVES),
    }, len(chosen)


def ours(dataset: Dataset) -> dict[str, GroupSampler]:
    """One sampler for each kind; the setup (bitmap or sorted items) happens here."""
    return {
        f"{draw}, {membership}": sampler_of(dataset, membership, exponent)
        for draw, exponent in (("uniform", 0.0), ("popularity", EXPONENT))
        for membership in ("bitmap", "sieve")
    }


def measure_ours(samplers: dict[str, GroupSampler], threads: int, rounds: int) -> dict[str, Timing]:
    """Seconds an epoch of every sampler."""
    with workers(threads) as pool:
        work = {
            f"{name}, {plural(threads)}": partial(epoch, sampler, pool) for name, sampler in samplers.items()
        }
        return take_turns(work, rounds)


def main(arguments: argparse.Namespace) -> None:
    """Measure, verify, print, write."""
    report = Report("sampling", arguments)
    dataset = movielens()
    share, rounds = (0.02, 2) if arguments.quick else (arguments.share, arguments.rounds or 5)
    positives = len(dataset.train)
    loops, part = peers(dataset, share)
    samplers = ours(dataset)
    setup = {name: timed(partial(sampler_of, dataset, name, 0.0))[0] for name in ("bitmap", "sieve")}
    timings: dict[str, Timing] = take_turns(loops, 1, warm_up=False)
    for threads in (1, 2):
        timings |= measure_ours(samplers, threads, rounds)
    scale = {name: positives / part if name in loops else 1.0 for name in timings}
    peer = timings["loop, dictionary-of-keys matrix"].seconds * positives / part
    rows = [
        (
            name,
            f"{timing.seconds * scale[name]:.3f}",
            f"{timing.processor_seconds * scale[name]:.3f}",
            f"{positives * NEGATIVES / (timing.seconds * scale[name]) / 1e6:.2f}",
            f"{peer / (timing.seconds * scale[name]):.1f}",
        )
        for name, timing in timings.items()
    ]
    report.table(
        f"{positives * NEGATIVES:,} verified negatives of {positives:,} positives",
        ("", "seconds an epoch", "processor seconds", "million a second", "times the peer"),
        rows,
    )
    report.log(
        f"The loops ran over {part:,} of the {positives:,} positives and are scaled; our figures are "
        f"medians of {rounds} epochs."
    )
    report.log(
        f"Left out on both sides: building the look-up structure (ours: bitmap {setup['bitmap']:.2f} "
        f"s, sieve {setup['sieve']:.2f} s, once a run)."
    )
    with workers(2) as pool:
        known = {name: count_known(dataset, sampler, pool) for name, sampler in samplers.items()}
    report.log(f"Known positives among the negatives drawn: {known}.")
    report.keep("timings", raw(timings))
    report.keep("scale_to_an_epoch", scale)
    report.keep("setup_seconds", setup)
    report.keep("known_among_negatives", known)
    best = min(timings[f"uniform, bitmap, {name}"].seconds for name in ("1 thread", "2 threads"))
    report.target("uniform bitmap sampler, times the peer's loop", peer / best, TARGET)
    report.write()
    if any(known.values()):
        raise SystemExit("The sampler drew known positives.")


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument(
        "--share", type=float, default=1.0, help="share of the positives that the loops run over"
    )
    main(parser.parse_args())
