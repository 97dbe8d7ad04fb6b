"""`knetsim kubectl`, `kubeconfig` and `apply`: Kubernetes' own ways to a running simulation, from any terminal."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
import yaml

from knetsim.errors import EXIT_FAILED, EXIT_OK, KnetsimError, MissingTool, NotFound, ScenarioError
from knetsim.names import NAME_VARIABLE
from knetsim.scenario.manifests import ClusterNodes, collect_manifests
from knetsim.scenario.spec import ManifestRef
from knetsim.system import rpc, state
from knetsim.system.invocation import as_typed
from knetsim.system.kubeconfig_merge import merge_contexts
from knetsim.system.ledger import Ledger
from knetsim.system.programs import find_program

name_option = click.option(
    "--name", metavar="NAME", envvar=NAME_VARIABLE, help=f"Which simulation, when several run (or ${NAME_VARIABLE})."
)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@name_option
@click.option("-c", "--cluster", metavar="CLUSTER", help="Which cluster (default: the first).")
@click.argument("words", nargs=-1, metavar="ARGS...", type=click.UNPROCESSED)
def kubectl(name: str | None, cluster: str | None, words: tuple[str, ...]) -> NoReturn:
    """Run the real kubectl against a running cluster; the exit code is kubectl's."""
    simulation = state.find(name)
    program = find_program("kubectl")
    if program is None:
        raise MissingTool("kubectl is not installed", hint="run ./utils/setup, or install it and try again")
    if not simulation.kubeconfig.exists():
        rpc.call(simulation.control_socket, "kubeconfig", cluster=cluster or "0")  # says why there is none
        raise KnetsimError(f"{simulation.name} is still starting", hint=f"see how far it is: {as_typed('status')}")
    context = ["--context", f"knetsim-{_full_name(simulation, cluster)}"] if cluster else []
    ours = {"KUBECONFIG": str(simulation.kubeconfig), "KUBECACHEDIR": str(simulation.kubectl_cache)}
    os.execve(program, ["kubectl", *context, *words], {**os.environ, **ours})


def _full_name(simulation: state.StateDirectory, cluster: str) -> str:
    """The cluster's name as contexts have it: `0` and `c0` mean C0."""
    config = yaml.safe_load(simulation.kubeconfig.read_text())
    known = [context["name"].removeprefix("knetsim-") for context in config["contexts"]]
    for one in known:
        if cluster.lower() in (one.lower(), one.lower().removeprefix("c")):
            return str(one)
    raise NotFound(f"no cluster '{cluster}' with an API server in {simulation.name}", hint=f"known: {', '.join(known)}")


@click.command()
@name_option
@click.option("--merge", is_flag=True, help="Add the contexts to your kubeconfig; the simulation's end removes them.")
@click.option("--file", "path", metavar="FILE", help="With --merge: the file (default: $KUBECONFIG or ~/.kube/config).")
@click.argument("cluster", default="")
def kubeconfig(name: str | None, merge: bool, path: str | None, cluster: str) -> None:
    """Print the kubeconfig of CLUSTER, or of all: contexts knetsim-C0, knetsim-C1 …"""
    simulation = state.find(name)
    config, _ = rpc.call(simulation.control_socket, "kubeconfig", cluster=cluster)
    if not config["contexts"]:
        rpc.call(simulation.control_socket, "kubeconfig", cluster="0")  # says why there is none
    if not merge:
        click.echo(yaml.safe_dump(config, sort_keys=False), nl=False)
        return
    target = Path(path) if path else _user_kubeconfig()
    contexts = [context["name"] for context in config["contexts"]]
    servers = [entry["cluster"]["server"] for entry in config["clusters"]]
    Ledger(simulation.path).record("contexts", str(target.absolute()), [*contexts, *servers])
    merge_contexts(target.absolute(), config)
    click.echo(f"{target}: {', '.join(contexts)}; try: kubectl --context {contexts[0]} get nodes")


def _user_kubeconfig() -> Path:
    """The kubeconfig of whoever typed the command: under sudo not root's."""
    if paths := os.environ.get("KUBECONFIG"):
        return Path(paths.split(":")[0])
    user = os.environ.get("SUDO_USER")
    home = Path(pwd.getpwnam(user).pw_dir) if user and user != "root" else Path.home()
    return home / ".kube" / "config"


@click.command()
@name_option
@click.option("-c", "--cluster", metavar="CLUSTER", help="Which cluster (default: the first).")
@click.option("-f", "--filename", "files", multiple=True, required=True, metavar="FILE", help="A file or folder, or -.")
def apply(name: str | None, cluster: str | None, files: tuple[str, ...]) -> int:
    """Create the objects of manifests, or make those that exist as the manifests say."""
    simulation = state.find(name)
    objects = read_files(files, cluster or "")
    answer, _ = rpc.call(simulation.control_socket, "apply", timeout=None, cluster=cluster or "0", objects=objects)
    for line in answer["done"]:
        click.echo(line)
    for line in answer["failed"]:
        click.echo(line, err=True)
    return EXIT_FAILED if answer["failed"] else EXIT_OK


def read_files(files: Sequence[str], cluster: str) -> list[dict[str, Any]]:
    """The objects of files and folders. ScenarioError with every mistake, NotFound."""
    refs = [ManifestRef(file, Path("/dev/stdin" if file == "-" else file)) for file in files]
    for ref in refs:
        if not ref.path.exists():
            raise NotFound(f"there is no file {ref.path}")
    manifests, problems = collect_manifests(refs, [ClusterNodes(cluster or "C0", None)], None)
    if problems:
        raise ScenarioError(problems)
    return [manifest.object for objects in manifests.values() for manifest in objects]
