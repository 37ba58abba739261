"""How long an epoch takes that nobody ran: terms of a step, each a number of things times what one of them
costs.

In: costs measured on small runs (`Costs`), a job, and the hosts to run it on. Out: seconds a step by term,
and bytes of memory a process. Users and items are taken to be drawn equally often: then a step has the most
distinct rows, so real data cost less. A process draws from its own shards of the positives, so no two
processes share users.

What threads share out (`threads`) is divided by their number, which is the best that can be; finding the
distinct rows of a step and adding up what the others sent is done by one thread.

Legend: N processes, U users, I items, B groups a step over all processes.
"""

import math
from dataclasses import dataclass, replace

WIDTH = 192
"""Columns of a user's and of an item's rows over both halves: NeuMF 64 has 64 and 128."""
FLOAT, NUMBER, TABLES_A_SIDE = 4, 8, 2
LAYER_BYTES = FLOAT * 43_000
GATHERS, SUMS, LOOKUP_EXCHANGES = 6, 2, 8


@dataclass(frozen=True)
class Costs:
    """Seconds of one thread, all cores of the machine being busy: of a sample (forward, backward, drawing), a
    draw whose row is looked for, an item's row (its half of the first layer), a row moved by the lazy Adam, a
    row that was gathered from some process, and a row looked up in and sent back to sharded tables; of an
    exchange of nothing; bytes a second."""

    sample: float
    draw: float
    item_row: float
    moved_row: float
    gathered_row: float
    latency: float
    bandwidth: float
    sharded_row: float = math.nan


@dataclass(frozen=True)
class Job:
    """An epoch: how many groups a step has, and who shares it out."""

    users: int
    items: int
    interactions: int
    groups: int
    processes: int
    threads: int = 1
    negatives: int = 4

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-self.interactions // self.groups)

    @property
    def samples(self) -> float:
        """Of one process in a step."""
        return self.groups / self.processes * (1 + self.negatives)

    @property
    def own_users(self) -> float:
        """Distinct users of one process in a step."""
        return distinct(self.groups / self.processes, self.users / self.processes)

    @property
    def own_items(self) -> float:
        """Distinct items of one process in a step."""
        return distinct(self.samples, self.items)

    @property
    def own_rows(self) -> float:
        """Distinct users and items of one process in a step."""
        return self.own_users + self.own_items

    @property
    def rows(self) -> float:
        """Distinct users and items of all processes in a step."""
        return self.own_users * self.processes + distinct(self.samples * self.processes, self.items)


def distinct(draws: float, rows: float) -> float:
    """How many of `rows` rows are expected among this many draws."""
    return -rows * math.expm1(draws * math.log1p(-1.0 / rows)) if rows > 1 else min(draws, rows)


def sent(job: Job) -> float:
    """Bytes that a process hands over in a step, replicated tables: its rows' numbers and gradients, and the
    layers."""
    if job.processes == 1:
        return 0.0
    return job.own_rows * (NUMBER + FLOAT * WIDTH) + LAYER_BYTES


def replicated(job: Job, costs: Costs) -> dict[str, float]:
    """Seconds of a step by term; every process moves the rows of all.

    What a process sends goes round the ring of the others, so it passes on what N - 1 of them sent.
    """
    others = job.processes - 1
    draws = job.samples + job.groups / job.processes
    return {
        "samples": job.samples * costs.sample / job.threads,
        "item rows": job.own_items * costs.item_row / job.threads,
        "finding rows": draws * costs.draw,
        "moving rows": job.rows * costs.moved_row / job.threads,
        "adding rows": job.own_rows * job.processes * costs.gathered_row if others else 0.0,
        "sending": sent(job) * others / costs.bandwidth,
        "latency": (GATHERS + SUMS) * others * costs.latency,
    }


def sharded(job: Job, costs: Costs, remote: float = 0.0) -> dict[str, float]:
    """Seconds of a step by term; a row is moved by the process that holds it.

    `sharded_row` was measured on one machine and has its transfer there in it; `remote` is the share of rows
    that cross a network, whose bytes come on top. A process sends to all others at once; only sums go round a
    ring.
    """
    draws = job.samples + job.groups / job.processes
    crossing = job.own_rows * (NUMBER + 2 * FLOAT * WIDTH) * remote
    return {
        "samples": job.samples * costs.sample / job.threads,
        "item rows": job.own_items * costs.item_row / job.threads,
        "finding rows": draws * costs.draw,
        "looking up and moving rows": job.own_rows * costs.sharded_row,
        "sending": crossing / costs.bandwidth,
        "latency": (LOOKUP_EXCHANGES + SUMS * (job.processes - 1)) * costs.latency,
    }


def memory(job: Job, shards: bool) -> dict[str, float]:
    """Bytes of one process that stay, by what they hold, and those of a step.

    Replicated: every row with two moments, and a count a table. Sharded: a share of the rows with one number
    each. Of the interactions a process touches its shards: users and items (mapped, so shared by the
    processes of a host only where they overlap), an order of 64-bit numbers, and its users' sorted items with
    a sieve of up to 4 bytes each.
    """
    rows, own = job.users + job.items, job.interactions / job.processes
    tables = (
        rows / job.processes * FLOAT * (WIDTH + 1) if shards else rows * FLOAT * (3 * WIDTH + TABLES_A_SIDE)
    )
    in_step = job.own_rows * (2 if shards or job.processes == 1 else 2 + 2 * job.processes) * FLOAT * WIDTH
    return {
        "tables and optimiser": tables,
        "own interactions, mapped": own * 2 * FLOAT,
        "their order": own * NUMBER,
        "known positives": own * 2 * FLOAT + job.users / job.processes * NUMBER,
        "rows of a step": in_step + job.samples * 2 * NUMBER,
    }


def on_network(costs: Costs, bits_a_second: float) -> Costs:
    """The same costs with another network's bandwidth."""
    return replace(costs, bandwidth=bits_a_second / 8)
