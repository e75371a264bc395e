"""Which figures of groups may be seen: pure.

A group is shown where it is large enough or all in it agreed (`rights.group_shown`). Within one table the hidden groups must
be so too, taken together: otherwise the total minus the shown ones would be a small group's figure. Where they are not, the
smallest shown group is hidden with them.

Not covered: comparing tables of different times or filters with each other, and what people of a group know of one another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from ..rights import group_shown

K = TypeVar("K")


def shown_groups(members: Mapping[K, Collection[str]], agreed: Collection[str], minimum: int) -> set[K]:
    """The groups whose figures may stand in one table with their total. `members` are the user keys of each group."""
    shown = {name for name, keys in members.items() if group_shown(keys, agreed, minimum)}
    while shown:
        hidden = [set(keys) for name, keys in members.items() if name not in shown and keys]
        if not hidden or group_shown(set().union(*hidden), agreed, minimum):
            break
        shown.remove(min(shown, key=lambda name: (len(set(members[name])), str(name))))
    return shown
