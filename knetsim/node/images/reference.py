"""Names of images, read and written out in full as Docker does: `nginx` is `docker.io/library/nginx:latest`; pure.

Source: the grammar of github.com/distribution/reference, which the kubelet uses too.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from knetsim.errors import InputError

DEFAULT_REGISTRY, DEFAULT_TAG = "docker.io", "latest"
_NAME_MAX = 255

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*(?::[0-9]+)?|\[[a-fA-F0-9:]+\](?::[0-9]+)?")
_PATH = re.compile(r"(?:[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_HEXADECIMAL = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """What an image is asked for by: `name` with its registry, `tag` and `digest`, each empty when it was not given."""

    name: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        """In full; with a digest, the tag does not count."""
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag or DEFAULT_TAG}"

    @property
    def identity(self) -> str:
        """What a pod's status has as imageID: the content of the image. There is none here: the name stands for it."""
        digest = self.digest or "sha256:" + hashlib.sha256(str(self).encode()).hexdigest()
        return f"{self.name}@{digest}"


def parse_reference(text: str) -> Reference:
    """`nginx`, `nginx:1.25`, `localhost:5000/a/b@sha256:…`; InputError in the words of the library for any other."""
    if not text:
        raise _error(text, "invalid reference format")
    if _HEXADECIMAL.fullmatch(text):
        raise _error(text, f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _error(text, "invalid reference format")
    slash = rest.rfind("/")
    colon = rest.find(":", slash + 1)
    tag = rest[colon + 1 :] if colon >= 0 else ""
    if colon >= 0 and not _TAG.fullmatch(tag):
        raise _error(text, "invalid reference format")
    domain, path = _split_domain(rest[:colon] if colon >= 0 else rest)
    if path != path.lower():
        raise _error(text, f"invalid reference format: repository name ({path}) must be lowercase")
    if not _DOMAIN.fullmatch(domain) or not _PATH.fullmatch(path):
        raise _error(text, "invalid reference format")
    if len(path) > _NAME_MAX:
        raise _error(text, f"repository name must not be more than {_NAME_MAX} characters")
    return Reference(f"{domain}/{path}", tag, digest)


def normalise_name(name: str) -> str:
    """A name without tag and digest, with its registry: `nginx` → `docker.io/library/nginx`. It is not checked."""
    return "/".join(_split_domain(name))


def _split_domain(name: str) -> tuple[str, str]:
    """The registry and the path: what stands before the first slash is one if it looks like a host."""
    first, slash, rest = name.partition("/")
    is_host = slash and (any(mark in first for mark in ".:") or first == "localhost" or first != first.lower())
    domain, path = (first, rest) if is_host else (DEFAULT_REGISTRY, name)
    if domain == "index.docker.io":
        domain = DEFAULT_REGISTRY
    if domain == DEFAULT_REGISTRY and "/" not in path:
        path = f"library/{path}"
    return domain, path


def _error(text: str, why: str) -> InputError:
    return InputError(f'couldn\'t parse image name "{text}"', why=why)
