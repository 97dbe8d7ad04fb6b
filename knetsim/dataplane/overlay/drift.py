"""Whether a change that the kernel tells of leads away from what a worker shall have; pure.

Every change is told to every listener, the agent's own ones and those of pods coming and going among them. Each is held
against the state wanted, and only one that disagrees has the whole state read, compared and repaired (`state.diff`).
"""

from __future__ import annotations

from knetsim.dataplane.overlay.state import Desired
from knetsim.system.netlink import Address, Change, FdbEntry, Link, Neighbour, Route
from knetsim.system.netlink.wire import RT_TABLE_MAIN


def is_drift(change: Change, desired: Desired, interface: str, index: int) -> bool:
    """Whether `change` disagrees with `desired`, whose entries are on `interface`, the one with this `index`."""
    item = change.item
    if isinstance(item, Link):
        return (item.name == interface or item.index == index) and _link_drifted(item, change.present, desired, index)
    if isinstance(item, Route):
        return _route_drifted(item, change.present, desired, index)
    if item.index != index or desired.device is None:
        return False
    if isinstance(item, Address):
        return change.present != (item.cidr == desired.address)
    if isinstance(item, Neighbour):
        wanted = desired.entries.neighbours.get(item.address)
        fits = change.present and item.state == "permanent" and item.mac == wanted
        return not fits if wanted is not None else change.present and item.state == "permanent"
    assert isinstance(item, FdbEntry)
    return _fdb_drifted(item, change.present, desired)


def _link_drifted(link: Link, present: bool, desired: Desired, index: int) -> bool:
    device = desired.device
    if device is None:
        return True  # the underlay's own interface: its routes may have gone with its going down
    if not present or link.index != index:
        return True
    return (link.name, link.mac, link.mtu, link.up) != (device.name, device.mac, device.mtu, True)


def _route_drifted(route: Route, present: bool, desired: Desired, index: int) -> bool:
    """A route to another worker's subnet belongs where the overlay puts it; other routes on a VTEP belong nowhere."""
    if route.metric != 0 or route.table != RT_TABLE_MAIN:
        return False
    wanted = desired.entries.routes.get(route.dst)
    if wanted is not None:
        return not present or (route.via, route.index) != (wanted, index)
    return present and desired.device is not None and route.index == index


def _fdb_drifted(entry: FdbEntry, present: bool, desired: Desired) -> bool:
    if not entry.own or entry.dst is None:
        return False
    wanted = desired.entries.fdb.get(entry.mac)
    if wanted is None:
        return present and entry.permanent
    return present != (entry.dst == wanted)
