"""Rules, and random trees to hold things to them."""

from __future__ import annotations

import torch

from ..types import TokenTree


class ContractBroken(AssertionError):
    """A component does not do what the loop relies on."""


def need(condition: bool, rule: str) -> None:
    """Raise ContractBroken with the rule unless the condition holds."""
    if not condition:
        raise ContractBroken(rule)


def random_tree(generator: torch.Generator, vocabulary: int) -> tuple[TokenTree, list[int]]:
    """Return a tree of 1 to 11 nodes and the path to one of them, without the root."""
    count = int(torch.randint(1, 12, (), generator=generator))
    tokens = torch.randint(vocabulary, (count,), generator=generator)
    parents = [-1] + [int(torch.randint(n, (), generator=generator)) for n in range(1, count)]
    tree = TokenTree(tokens, torch.tensor(parents))
    node = int(torch.randint(count, (), generator=generator))
    path: list[int] = []
    while node:
        path.insert(0, node)
        node = parents[node]
    return tree, path


def walks(tree: TokenTree) -> list[list[int]]:
    """Return for every node the tokens from the root to it."""
    tokens, parents = tree.lists()
    walks = [[tokens[0]]]
    for node in range(1, len(tree)):
        walks.append([*walks[parents[node]], tokens[node]])
    return walks
