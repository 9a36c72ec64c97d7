"""A radix tree of blocks with a capacity: SGLang's cache for models of full attention.

Of what is not held, the leaf that was not used for longest is given up, whole; a part of a prompt
that others share is a node of its own, and outlives them. As SGLang 0.5.23 does it
(srt/mem_cache/radix_cache.py); held against its own class in tests/engine/test_cache_rules.py.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Node:
    """Blocks that follow those of its parent. `used`: when it was looked at, by a count."""

    names: list[Hashable]
    parent: Node | None = None
    children: dict[Hashable, Node] = field(default_factory=dict)
    holders: int = 0
    used: int = 0

    @property
    def can_go(self) -> bool:
        return self.parent is not None and not self.children and not self.holders


@dataclass(slots=True)
class Held:
    """A request while it runs: what it found, in blocks, and the node that it holds."""

    names: Sequence[Hashable]
    found: int
    node: Node


class RadixCache:
    """`blocks`: how many there are in all; a block is a page of SGLang."""

    def __init__(self, blocks: int) -> None:
        self.root = Node([])
        self._free = blocks
        self._clock = 0

    def start(self, names: Sequence[Hashable], findable: int) -> Held:
        """A prompt of full blocks with these `names`, of which the first `findable` are not needed
        anew; room for the others is made.

        ValueError where there is none: nothing is held then.
        """
        found, node = self.match(names[:findable])
        self.hold(node)
        needed = len(names) - found
        if needed > self._free:
            self.evict(needed - self._free)
        if needed > self._free:
            self.let_go(node)
            raise ValueError("the cache has no block left that nobody holds")
        self._free -= needed
        return Held(names, found, node)

    def finish(self, held: Held) -> None:
        """The prompt was computed: it can be found by others, and is held no more."""
        had = self.insert(held.names)
        self._free += had - held.found  # somebody else has computed them meanwhile
        self.let_go(held.node)

    def match(self, names: Sequence[Hashable]) -> tuple[int, Node]:
        """How many leading blocks are there, and the node that ends with them."""
        node, found, now = self.root, 0, self._tick()
        while found < len(names) and (child := node.children.get(names[found])):
            child.used = now
            shared = _shared(child.names, names[found:])
            found += shared
            if shared < len(child.names):
                return found, self._split(child, shared)
            node = child
        return found, node

    def insert(self, names: Sequence[Hashable]) -> int:
        """Put a prompt into the tree; how many of its blocks were there."""
        node, there, now = self.root, 0, self._tick()
        while there < len(names) and (child := node.children.get(names[there])):
            child.used = now
            shared = _shared(child.names, names[there:])
            there += shared
            node = self._split(child, shared) if shared < len(child.names) else child
        if there < len(names):
            node.children[names[there]] = Node(list(names[there:]), node, used=self._tick())
        return there

    def evict(self, blocks: int) -> int:
        """Give up leaves until `blocks` are free, or nothing is left that nobody holds; how many
        were."""
        leaves = [(n.used, id(n), n) for n in self._nodes() if n.can_go]
        heapq.heapify(leaves)
        gone = 0
        while leaves and gone < blocks:
            _, _, node = heapq.heappop(leaves)
            parent = node.parent
            assert parent is not None
            del parent.children[node.names[0]]
            gone += len(node.names)
            if parent.can_go:
                heapq.heappush(leaves, (parent.used, id(parent), parent))
        self._free += gone
        return gone

    def hold(self, node: Node) -> None:
        self._count(node, 1)

    def let_go(self, node: Node) -> None:
        self._count(node, -1)

    def _count(self, node: Node | None, change: int) -> None:
        while node is not None:
            node.holders += change
            node = node.parent

    def _split(self, child: Node, at: int) -> Node:
        """The first `at` blocks of a node as its parent."""
        parent = child.parent
        assert parent is not None
        upper = Node(child.names[:at], parent, holders=child.holders, used=self._tick())
        parent.children[upper.names[0]] = upper
        child.names, child.parent = child.names[at:], upper
        upper.children[child.names[0]] = child
        return upper

    def _nodes(self) -> list[Node]:
        nodes = [self.root]
        for node in nodes:
            nodes.extend(node.children.values())
        return nodes

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


def _shared(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    return next(
        (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
