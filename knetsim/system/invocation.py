"""How knetsim is called on this machine, so that what is printed can be typed as it stands; pure but for one look.

In a checkout, and in the image, which is one, the program is `./utils/knetsim`, as all pages have it; it is on no PATH.
Without a checkout, as pip installs it, it is `knetsim`. Simulations are root's, so `sudo` comes first.
"""

from __future__ import annotations

from pathlib import Path

_IN_CHECKOUT = (Path(__file__).resolve().parents[2] / "utils" / "knetsim").exists()


def as_typed(words: str, *, in_checkout: bool = _IN_CHECKOUT) -> str:
    """The line that calls knetsim with `words`: `down` is `sudo ./utils/knetsim down`."""
    return f"sudo {'./utils/knetsim' if in_checkout else 'knetsim'} {words}"


def start_as_typed(*, in_checkout: bool = _IN_CHECKOUT) -> str:
    """The line that starts the scenario `default`."""
    return "sudo ./utils/run" if in_checkout else as_typed("up", in_checkout=False)


def enter_as_typed(
    cluster: str, worker: str, pod: str, simulation: str = "", *, in_checkout: bool = _IN_CHECKOUT
) -> str:
    """The line that opens a shell in a pod: `sudo ./utils/exec 0 w1 c1`; `simulation`: its name, if needed."""
    name = f"--name {simulation} " if simulation else ""
    if in_checkout:
        return f"sudo ./utils/exec {name}{cluster} {worker} {pod}"
    return as_typed(f"exec {name}--cluster {cluster} --worker {worker} --pod {pod}", in_checkout=False)
