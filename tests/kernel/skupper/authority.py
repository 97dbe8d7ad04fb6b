"""Certificate authorities for tests, and what they sign, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from knetsim.dataplane.skupper.certificates import build_authority, issue
from knetsim.system.certificates import Usage


class Authority:
    """Signs certificates into a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self._data = build_authority(name)

    def profile(self, name: str, usage: Usage, host: str = "") -> tuple[str, dict[str, Any]]:
        """An sslProfile for one side; a server's certificate is for `host`."""
        paths = {}
        for file, content in issue(self._data, name, usage, [host] if host else []).items():
            paths[file] = self.directory / f"{self.name}-{name}-{file}"
            paths[file].write_bytes(content)
        return "sslProfile", {
            "name": "profile",
            "caCertFile": str(paths["ca.crt"]),
            "certFile": str(paths["tls.crt"]),
            "privateKeyFile": str(paths["tls.key"]),
        }
