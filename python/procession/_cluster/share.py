"""How many workers of a pool each node has."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["plan"]


def plan(total: int | None, cores: Mapping[str, int], has: Mapping[str, int]) -> dict[str, int]:
    """Returns how many workers each node gets that has none yet; nodes that get none are left out.

    total: number of workers of the pool; None: one for each core of each node. cores: of each node, by its address.
    has: the workers of the nodes that have some. With a total, new nodes get what is missing, by their cores.
    """
    new = {address: count for address, count in cores.items() if address not in has}
    if total is None:
        return new
    missing = total - sum(has.values())
    if missing <= 0 or not new:
        return {}
    whole = sum(new.values())
    shares = {address: missing * count // whole for address, count in new.items()}
    # what is left by rounding goes to the nodes that are owed most of it
    owed = sorted(new, key=lambda address: (shares[address] * whole - missing * new[address], address))
    for address in owed[: missing - sum(shares.values())]:
        shares[address] += 1
    return {address: count for address, count in shares.items() if count}
