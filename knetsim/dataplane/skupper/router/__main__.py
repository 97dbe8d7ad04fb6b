"""The program: `python -m knetsim.dataplane.skupper.router -c 0.json`."""

from __future__ import annotations

import argparse
import logging
import resource
import sys
from pathlib import Path

from knetsim.dataplane.skupper.router.config import read_config
from knetsim.dataplane.skupper.router.errors import ConfigError, RouterError
from knetsim.dataplane.skupper.router.logs import set_up_logs
from knetsim.dataplane.skupper.router.loop import Loop
from knetsim.dataplane.skupper.router.router import VERSION, Router


def main(arguments: list[str]) -> int:
    """Run until the process is ended; 1 if the configuration is wrong or a port is taken."""
    parser = argparse.ArgumentParser(prog="router", description="A router of a Skupper network.")
    parser.add_argument("-c", "--conf", metavar="FILE", type=Path, required=True, help="configuration, as skrouterd's")
    parser.add_argument("-v", "--version", action="version", version=VERSION)
    options = parser.parse_args(arguments)
    try:
        config = read_config(options.conf.read_text(encoding="utf-8"))
        log = set_up_logs(config)
        _raise_limit()
        loop = Loop()
        router = Router(config, loop, log)
        router.start()
    except ConfigError as error:
        for problem in error.problems:
            sys.stderr.write(f"{options.conf}: {problem}\n")
        return 1
    except (OSError, UnicodeError, RouterError) as error:
        sys.stderr.write(f"{options.conf}: {error}\n")
        return 1
    try:
        loop.run()
    except KeyboardInterrupt:
        logging.getLogger("ROUTER").info("interrupted")
    return 0


def _raise_limit() -> None:
    """As many descriptors as the machine lets this process have: two for each connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
