"""The control plane's daemons on the Mininet host `C0cp`: started, awaited, supervised."""

from __future__ import annotations

import errno
import functools
import http.client
import os
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from knetsim.control.kubernetes.certificates import Credentials, KeyPair, write_credentials
from knetsim.control.kubernetes.flags import (
    APISERVER,
    CONTROLLERS,
    CONTROLLERS_PORT,
    ENVIRONMENT,
    PROXY,
    SCHEDULER,
    SCHEDULER_PORT,
    SECURE_PORT,
    ControlPlane,
    build_apiserver_argv,
    build_controllers_argv,
    build_scheduler_argv,
    build_scheduler_config,
)
from knetsim.control.kubernetes.kubeconfig import build_kubeconfig, format_kubeconfig
from knetsim.errors import NotReady
from knetsim.system.daemon import DaemonSpec, Supervisor
from knetsim.system.netns import Namespaces, netns_socket
from knetsim.system.wait import wait_until

_PORTS = {APISERVER: SECURE_PORT, CONTROLLERS: CONTROLLERS_PORT, SCHEDULER: SCHEDULER_PORT}
_ANSWER_SECONDS = 5.0


class KubernetesControl:
    """The control plane of one cluster. Start the API server, wait for it, start the others."""

    def __init__(
        self, plane: ControlPlane, place: Namespaces, programs: Mapping[str, Path], supervisor: Supervisor
    ) -> None:
        """`place` is the host's, `programs` says where each program is."""
        self.plane, self._place, self._programs, self._supervisor = plane, place, programs, supervisor
        self.credentials: Credentials | None = None

    @property
    def host(self) -> str:
        """The Mininet host: `C0cp`."""
        return self.plane.directory.name

    def prepare(self) -> Credentials:
        """Make the certificates and write every file that the programs read; nothing runs yet."""
        plane = self.plane
        signed = write_credentials(plane.directory / "pki", plane.cluster, plane.server_names())
        self.credentials = signed
        # by its address on the underlay, so that a learner who opens the file sees where the packets go
        server = f"https://{plane.address}:{SECURE_PORT}"
        for program, pair in ((CONTROLLERS, signed.controllers), (SCHEDULER, signed.scheduler), (PROXY, signed.proxy)):
            self._write(plane.kubeconfig(program), self._kubeconfig(program, server, pair))
        self._write(plane.kubeconfig("admin"), format_kubeconfig(self.admin_kubeconfig(server)))
        self._write(plane.directory / "scheduler.yaml", yaml.safe_dump(build_scheduler_config(plane), sort_keys=False))
        return signed

    def _kubeconfig(self, context: str, server: str, pair: KeyPair) -> str:
        assert self.credentials is not None
        return format_kubeconfig(build_kubeconfig(context, server, self.credentials.ca, pair))

    def admin_kubeconfig(self, server: str) -> dict[str, Any]:
        """The kubeconfig of the cluster's administrator, for who reaches the API server at the URL `server`."""
        if self.credentials is None:
            raise NotReady(f"the control plane of {self.plane.cluster} is still starting")
        signed = self.credentials
        return build_kubeconfig(f"knetsim-{self.plane.cluster}", server, signed.ca, signed.admin)

    def _write(self, path: Path, text: str) -> None:
        path.touch(mode=0o600)
        path.write_text(text)

    # --- daemons

    def start_apiserver(self) -> None:
        """Start the API server; etcd must serve by now."""
        assert self.credentials is not None, "prepare was called"
        program = str(self._programs[APISERVER])
        self._start(APISERVER, build_apiserver_argv(program, self.plane, self.credentials))

    def start_others(self) -> None:
        """Start the controllers and the scheduler; the API server should answer by now, or they wait for it."""
        assert self.credentials is not None, "prepare was called"
        program = str(self._programs[CONTROLLERS])
        self._start(CONTROLLERS, build_controllers_argv(program, self.plane, self.credentials))
        self._start(SCHEDULER, build_scheduler_argv(str(self._programs[SCHEDULER]), self.plane))

    def _start(self, name: str, argv: list[str]) -> None:
        log = self.plane.directory / f"{name.removeprefix('kube-')}.log"
        self._supervisor.start(
            DaemonSpec(self.daemon_name(name), argv, log, place=self._place, env=ENVIRONMENT, cwd="/")
        )

    def daemon_name(self, program: str) -> str:
        """A program's name at the supervisor: `C0cp/kube-apiserver`."""
        return f"{self.host}/{program}"

    def stop(self) -> None:
        """End the daemons, the API server last."""
        for program in (SCHEDULER, CONTROLLERS, APISERVER):
            self._supervisor.stop(self.daemon_name(program))

    # --- health

    def dial(self) -> socket.socket:
        """A connection to the API server, made in the network namespace of its host. OSError."""
        return self._dial(SECURE_PORT)

    def begin_dial(self) -> socket.socket:
        """The same without waiting for it: it may still be connecting, and does not block. OSError."""
        made = netns_socket(self._only_net(), socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        error = made.connect_ex(("127.0.0.1", SECURE_PORT))
        if error not in (0, errno.EINPROGRESS):
            made.close()
            raise OSError(error, os.strerror(error))
        return made

    def _dial(self, port: int) -> socket.socket:
        made = netns_socket(self._only_net(), socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.settimeout(_ANSWER_SECONDS)
            made.connect(("127.0.0.1", port))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            made.close()
            raise
        return made

    def _only_net(self) -> Namespaces:
        return Namespaces(self._place.name, net=self._place.net)

    def read_health(self, program: str) -> str:
        """What keeps a program from being ready; empty when it is."""
        path = "/readyz" if program == APISERVER else "/healthz"
        try:
            with self._dial(_PORTS[program]) as plain, self._tls.wrap_socket(plain) as connection:
                # not HTTPSConnection, which reads all certificates of this machine for a context that nobody needs
                client = http.client.HTTPConnection("127.0.0.1")
                client.sock = connection
                client.request("GET", path)
                answer = client.getresponse()
                text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return f"it does not answer yet ({getattr(error, 'strerror', None) or error})"
        # the code counts: the text of a 500 says of each check whether it is ok
        return "" if answer.status == http.HTTPStatus.OK else _failed_checks(text)

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        """As the admin. The controllers' and the scheduler's certificates are self-made; they are only asked whether
        they are well."""
        assert self.credentials is not None, "prepare was called"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(self.credentials.knetsim.certificate, self.credentials.knetsim.key)
        return context

    def wait_ready(self, program: str, deadline: float) -> None:
        """Wait until a program is ready; NotReady with its own words after `deadline` seconds."""
        wait_until(
            f"{program} of {self.plane.cluster}",
            lambda: self.read_health(program),
            deadline,
            where=self.host,
            hint=f"see {program.removeprefix('kube-')}.log in {self.plane.directory}",
        )


def _failed_checks(text: str) -> str:
    failed = [line.removeprefix("[-]").partition(" ")[0] for line in text.splitlines() if line.startswith("[-]")]
    return f"it waits for {', '.join(failed)}" if failed else text.strip()[:200] or "it answers with an error"
