"""TLS of a connection between routers: what an sslProfile means to proton."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cproton import pn_ssl_domain_set_ciphers, pn_ssl_domain_set_protocols
from proton import SSL, SSLDomain, SSLException

from knetsim.dataplane.skupper.router.errors import RouterError


def build_domain(profile: Mapping[str, Any], *, dialled: bool, authenticate: bool, verify_name: bool) -> SSLDomain:
    """Certificates for one side of connections. RouterError when a file of the profile cannot be used.

    `authenticate`: a client must show a certificate that the profile's authority has signed. `verify_name`: the
    server's must bear the name that was dialled.
    """
    if not SSL.present():
        raise RouterError("this build of proton has no TLS")
    domain = SSLDomain(SSLDomain.MODE_CLIENT if dialled else SSLDomain.MODE_SERVER)
    certificate, key, authority = (_text(profile, name) for name in ("certFile", "privateKeyFile", "caCertFile"))
    for attribute, path in (("certFile", certificate), ("privateKeyFile", key), ("caCertFile", authority)):
        if path and not Path(path).is_file():
            raise RouterError(f"sslProfile '{profile['name']}': attribute '{attribute}': there is no file {path}")
    try:
        for attribute, limit in (("ciphers", pn_ssl_domain_set_ciphers), ("protocols", pn_ssl_domain_set_protocols)):
            wanted = _text(profile, attribute)
            if wanted and limit(domain._domain, wanted) != 0:
                raise RouterError(f"sslProfile '{profile['name']}': attribute '{attribute}': {wanted!r} are not known")
        if certificate:
            domain.set_credentials(certificate, key or certificate, _text(profile, "password") or None)
        if authority:
            domain.set_trusted_ca_db(authority)
        if dialled:
            mode = SSLDomain.VERIFY_PEER_NAME if verify_name else SSLDomain.VERIFY_PEER
            domain.set_peer_authentication(mode if authority else SSLDomain.ANONYMOUS_PEER)
        elif authenticate:
            domain.set_peer_authentication(SSLDomain.VERIFY_PEER, authority or None)
        else:
            domain.set_peer_authentication(SSLDomain.ANONYMOUS_PEER)
    except SSLException as error:
        raise RouterError(f"sslProfile '{profile['name']}': {error}") from error
    return domain


def _text(profile: Mapping[str, Any], name: str) -> str:
    return str(profile.get(name) or "")
