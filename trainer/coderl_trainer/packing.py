"""Rows side by side in one sequence; those that begin with the same prompt share it, each answer behind it. Pure.

A group of G answers of T tokens to a prompt of P costs P + G·T positions instead of G·(P + T). Each answer sees the prompt and
itself, not the others (a tree of attention), and its positions go on from the prompt's end, so the log-probs are those of the
rows one by one. The idea is that of Prefix Grouper (Liu et al. 2025, arXiv 2506.05433).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .types import Datum


@dataclass(frozen=True, slots=True)
class Pack:
    """One sequence of L positions that holds the rows `rows` of a call."""

    rows: tuple[int, ...]
    """Which rows of the call, in the order in which they lie in it."""
    tokens_L: tuple[int, ...]
    positions_L: tuple[int, ...]
    """Position of each token in its own row."""
    families_L: tuple[int, ...]
    """Which prompt a token belongs to, from 0."""
    branches_L: tuple[int, ...]
    """0 for a prompt, 1 to G for the rows' own parts behind it."""
    sources_N: tuple[int, ...]
    """For each target that counts, where in the sequence it is predicted from."""
    targets_N: tuple[int, ...]
    """The counted targets, row after row."""
    places_N: tuple[tuple[int, int], ...]
    """(index in `rows`, index among the row's counted targets) of each."""

    def allowed(self) -> NDArray[np.bool_]:
        """(L, L): whether position i may look at position j."""
        families, branches = np.asarray(self.families_L), np.asarray(self.branches_L)
        same = (branches[:, None] == branches[None, :]) | (branches[None, :] == 0)
        allowed: NDArray[np.bool_] = same & (families[:, None] == families[None, :]) & np.tri(len(branches), dtype=bool)
        return allowed


def packed(data_D: Sequence[Datum], max_positions: int) -> list[Pack]:
    """The rows in packs of at most `max_positions` positions (one row may be longer); rows without a counted token are left
    out. Rows of one family have the same prompt: everything before their first counted target. A family is taken apart, and
    its prompt repeated, only where it is too long for a pack of its own."""
    families: dict[tuple[int, ...], list[int]] = {}
    for index, datum in enumerate(data_D):
        if any(datum.mask):
            families.setdefault(_prompt(datum), []).append(index)
    packs: list[Pack] = []
    now: list[tuple[tuple[int, ...], list[int]]] = []
    length = 0
    for prompt, rows in families.items():
        begun = False
        whole = sum(len(data_D[row].input_tokens) - len(prompt) for row in rows) + len(prompt)
        if now and length + whole > max_positions >= whole:
            packs.append(_pack(now, data_D))
            now, length = [], 0
        for row in rows:
            own = len(data_D[row].input_tokens) - len(prompt)
            if now and length + own + (0 if begun else len(prompt)) > max_positions:
                packs.append(_pack(now, data_D))
                now, length, begun = [], 0, False
            if not begun:
                now.append((prompt, []))
                length, begun = length + len(prompt), True
            now[-1][1].append(row)
            length += own
    return [*packs, _pack(now, data_D)] if now else packs


def _prompt(datum: Datum) -> tuple[int, ...]:
    return datum.input_tokens[: datum.mask.index(1.0) + 1]


def _pack(families: Sequence[tuple[tuple[int, ...], Sequence[int]]], data_D: Sequence[Datum]) -> Pack:
    tokens: list[int] = []
    positions: list[int] = []
    owners: list[int] = []
    branches: list[int] = []
    sources: list[int] = []
    targets: list[int] = []
    places: list[tuple[int, int]] = []
    rows: list[int] = []
    for family, (prompt, members) in enumerate(families):
        root = len(tokens)
        tokens += prompt
        positions += range(len(prompt))
        branches += [0] * len(prompt)
        for branch, row in enumerate(members, 1):
            datum, start = data_D[row], len(tokens)
            own = datum.input_tokens[len(prompt) :]
            tokens += own
            positions += range(len(prompt), len(datum.input_tokens))
            branches += [branch] * len(own)
            counted = [at for at, counts in enumerate(datum.mask) if counts]
            sources += [root + at if at < len(prompt) else start + at - len(prompt) for at in counted]
            targets += [datum.target_tokens[at] for at in counted]
            places += [(len(rows), index) for index in range(len(counted))]
            rows.append(row)
        owners += [family] * (len(tokens) - root)
    return Pack(
        tuple(rows),
        tuple(tokens),
        tuple(positions),
        tuple(owners),
        tuple(branches),
        tuple(sources),
        tuple(targets),
        tuple(places),
    )
