"""Corners: heuristics that put pieces, one after another, into the corner of a maximal free rectangle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from fastgshare.scheduler.packing.grids import WINDOW, Box, Fixed, Piece

_Rule = Callable[[Piece, Box], tuple[int, int]]
_Free = dict[str, list[Box]]  # by group, what is free for pieces of it


def free_boxes(sm_count: int, taken: Sequence[Box]) -> list[Box]:
    """All maximal free rectangles of a device beside the boxes that are taken."""
    free = [Box(0, 0, sm_count, WINDOW)]
    for box in taken:
        free = _carve(free, box)
    return free


def _carve(free: list[Box], taken: Box) -> list[Box]:
    kept = [f for f in free if not f.overlaps(taken)]
    cut = {part for f in free if f.overlaps(taken) for part in _remains(f, taken)}
    parts = [c for c in cut if not any(k.contains(c) for k in kept) and not any(o.contains(c) for o in cut if o != c)]
    return kept + sorted(parts)


def _remains(free: Box, taken: Box) -> Iterator[Box]:
    if taken.left > free.left:
        yield free._replace(right=taken.left)
    if taken.right < free.right:
        yield free._replace(left=taken.right)
    if taken.start > free.start:
        yield free._replace(end=taken.start)
    if taken.end < free.end:
        yield free._replace(start=taken.end)


def place_in_corners(sm_count: int, pieces: Sequence[Piece], fixed: Sequence[Fixed]) -> list[Box] | None:
    """Try several orders and rules; the boxes of the pieces in their order, or None where none of them works."""
    groups = {piece.group for piece in pieces}
    free = {group: free_boxes(sm_count, [f.seen_by(group, sm_count) for f in fixed]) for group in groups}
    for order, rule, keep in _attempts(pieces):
        boxes = _place(sm_count, free, [pieces[i] for i in order], rule, keep)
        if boxes is not None:
            placed = dict(zip(order, boxes, strict=True))
            return [placed[i] for i in range(len(pieces))]
    return None


def _attempts(pieces: Sequence[Piece]) -> Iterator[tuple[list[int], _Rule, bool]]:
    """Orders, rules, and whether pieces are kept where they would best lie. Groups, if several, come one by one too."""
    groups = sorted({p.group for p in pieces})
    for order, rule, keep in _orders(pieces):
        if len(groups) > 1:
            yield [i for group in groups for i in order if pieces[i].group == group], rule, keep
        yield order, rule, keep


def _orders(pieces: Sequence[Piece]) -> Iterator[tuple[list[int], _Rule, bool]]:
    if any(p.preferred for p in pieces):
        yield _sorted(pieces, lambda p: (not p.preferred, -p.width * p.height)), _early, True
        yield _sorted(pieces, lambda p: (bool(p.preferred), -p.width * p.height)), _early, True
    for key in _ORDERS:
        order = _sorted(pieces, key)
        for rule in (_early, _left, _tight):
            yield order, rule, False


def _sorted(pieces: Sequence[Piece], key: Callable[[Piece], tuple[int, int]]) -> list[int]:
    return sorted(range(len(pieces)), key=lambda i: key(pieces[i]))


_ORDERS: Final[tuple[Callable[[Piece], tuple[int, int]], ...]] = (
    lambda p: (-p.width * p.height, -p.width),
    lambda p: (-p.height, -p.width),
    lambda p: (-p.width, -p.height),
    lambda p: (p.left is None, -p.width * p.height),
)


def _early(piece: Piece, box: Box) -> tuple[int, int]:
    return box.start, box.left


def _left(piece: Piece, box: Box) -> tuple[int, int]:
    return box.left, box.start


def _tight(piece: Piece, box: Box) -> tuple[int, int]:
    return box.area - piece.width * piece.height, box.start


def _place(sm_count: int, free: _Free, pieces: Sequence[Piece], rule: _Rule, keep: bool) -> list[Box] | None:
    boxes = []
    for piece in pieces:
        box = _kept(piece, free[piece.group]) if keep else None
        if box is None:
            box = _best(piece, free[piece.group], rule)
        if box is None:
            return None
        boxes.append(box)
        taken = Fixed(piece.name, box, piece.group)
        free = {group: _carve(left, taken.seen_by(group, sm_count)) for group, left in free.items()}
    return boxes


def _kept(piece: Piece, free: Sequence[Box]) -> Box | None:
    wish = piece.preferred
    if wish is None or piece.left not in (None, wish.left) or not any(f.contains(wish) for f in free):
        return None
    return wish


def _best(piece: Piece, free: Sequence[Box], rule: _Rule) -> Box | None:
    fitting = [(rule(piece, box), piece.at(box.left if piece.left is None else piece.left, box.start)) for box in free]
    inside = [(rank, box) for (rank, box), f in zip(fitting, free, strict=True) if f.contains(box)]
    return min(inside)[1] if inside else None
