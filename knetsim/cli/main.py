"""The `knetsim` command: words in, text and exit codes out. The only place that turns an error into text.

Exit codes: 0 done, 1 the thing failed, 2 wrong usage or bad input. Modules are imported where a command needs them, so
that `knetsim version` does not wait for Mininet and gRPC.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from knetsim.cli.bench import bench
from knetsim.cli.conformance import conformance
from knetsim.cli.kubernetes import apply, kubeconfig, kubectl, name_option
from knetsim.cli.lesson import lesson
from knetsim.cli.links import link
from knetsim.cli.scenarios import find_scenario
from knetsim.cli.terminal import Output, ensure_standard_files
from knetsim.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, KnetsimError, UsageError
from knetsim.names import ADDRESS_VARIABLE, NAME_VARIABLE, did_you_mean
from knetsim.system.invocation import as_typed

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "wide", "json"]),
    default="table",
    help="A table, a wider one, or JSON.",
)


class _Commands(click.Group):
    """A group that guesses at mistyped commands."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"{error.message} ({hint})", ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _abandon_output()  # click itself would end the process with 1


@click.group(cls=_Commands, context_settings=_CONTEXT)
@click.option("-v", "--verbose", is_flag=True, help="Show where in the code an error arose.")
@click.pass_context
def cli(ctx: click.Context, verbose: bool) -> None:
    """The whole network of Kubernetes on one laptop, with real packets."""
    ctx.obj = {"verbose": verbose}


@cli.command()
@click.argument("scenario", default="default")
@click.option("--name", metavar="NAME", envvar=NAME_VARIABLE, help="Name of the simulation (default: the scenario's).")
@click.option("--detach", "-d", is_flag=True, help="Return once it is ready; it runs until `knetsim down`.")
@click.option(
    "--exec", "-e", "lines", multiple=True, metavar="CMD", help="Run a line of the prompt, then end. Repeatable."
)
@click.option("--no-repair", is_flag=True, help="Let broken kernel state stay broken, for exercises.")
@click.option(
    "--api-address",
    metavar="ADDRESS",
    default="127.0.0.1",
    envvar=ADDRESS_VARIABLE,
    help="Where this machine listens for kubectl, from port 6443 on (0.0.0.0: everywhere).",
)
@click.option(
    "--images",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A table of images of your own (docs/images.md). Repeatable.",
)
def up(
    scenario: str,
    name: str | None,
    detach: bool,
    lines: tuple[str, ...],
    no_repair: bool,
    api_address: str,
    images: tuple[Path, ...],
) -> int:
    """Start SCENARIO (a file, or the name of one that comes along) and open the mininet> prompt."""
    from knetsim.cli.up import Options, start

    path, repair = find_scenario(scenario), not no_repair
    return start(Options(path, name, detach, lines, repair=repair, api_address=api_address, images=images))


@cli.command()
@name_option
@click.option(
    "--exec", "-e", "lines", multiple=True, metavar="CMD", help="Run a line of the prompt, then return. Repeatable."
)
def attach(name: str | None, lines: tuple[str, ...]) -> int:
    """Open the mininet> prompt of a simulation that runs detached."""
    from knetsim.cli.attach import attach as open_prompt

    return open_prompt(name, lines)


@cli.command()
@name_option
@click.option("--all", "everything", is_flag=True, help="End every simulation on this machine.")
def down(name: str | None, everything: bool) -> None:
    """End a simulation; nothing of it stays."""
    from knetsim.system import sandbox, state

    targets = [one for one in state.simulations() if one.is_running()] if everything else [state.find(name)]
    for target in targets:
        sandbox.stop(target, deadline=20)
        click.echo(f"ended {target.name}")
    if not targets:
        click.echo("no simulation is running")


@cli.command()
@output_option
def ls(output: Output) -> None:
    """List the running simulations."""
    from knetsim.cli.listing import list_simulations
    from knetsim.cli.render import render_simulations

    render_simulations(list_simulations(), output)


@cli.command()
@name_option
@output_option
@click.option("--orphans", is_flag=True, help="Only the kernel objects that nothing owns.")
@click.argument("part", required=False, type=click.Choice(["services", "policies"]))
def status(name: str | None, output: Output, orphans: bool, part: str | None) -> None:
    """Clusters, members, workers, pods, daemons: health and addresses. Or of a PART more: `services` with their
    backends and how many connections each got; `policies` with what they let through and held back."""
    from knetsim.cli.policies import render_policies
    from knetsim.cli.render import render_orphans, render_status
    from knetsim.cli.services import render_services
    from knetsim.system import rpc, state

    directory = state.find(name)
    if part is not None:
        if orphans:
            raise UsageError("--orphans is of no part", hint=as_typed("status --orphans"))
        render = render_services if part == "services" else render_policies
        render(rpc.call(directory.control_socket, part, timeout=600)[0], output)
        return
    answer, _ = rpc.call(directory.control_socket, "status", orphans=orphans)
    if orphans:
        render_orphans(answer["orphans"], output)
    else:
        render_status(answer, output)


@cli.command(
    name="exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Run a command, or a shell, in a host or pod.",
)
@name_option
@click.option("--cluster", metavar="CLUSTER", help="With --worker and --pod: the target in parts (0 means C0).")
@click.option("--worker", metavar="WORKER")
@click.option("--pod", metavar="POD")
@click.option("-c", "--container", metavar="CONTAINER", help="Which container of the pod.")
@click.argument("words", nargs=-1, metavar="[TARGET] [-- CMD...]", type=click.UNPROCESSED)
def exec_command(
    name: str | None,
    cluster: str | None,
    worker: str | None,
    pod: str | None,
    container: str | None,
    words: tuple[str, ...],
) -> int:
    """Run CMD in TARGET, or a shell where none is given; the exit code is CMD's.

    TARGET is a host or switch (C0w1, C0e1, t0), a pod (C0/c1, C0/namespace/pod) or a pod on a worker (C0w1/c1).
    """
    from knetsim.cli.execute import execute

    command = list(words)
    if cluster is not None:
        target = _target_of_parts(cluster, worker, pod)
    elif command:
        target = command.pop(0)
    else:
        raise UsageError(
            "exec needs a target", hint=f"{as_typed('exec C0w1')}, or: {as_typed('exec C0/c1 -- ip addr')}"
        )
    if command and command[0] == "--":
        command.pop(0)
    return execute(name, target, container, command)


def _target_of_parts(cluster: str, worker: str | None, pod: str | None) -> str:
    """`0 w1 c1` as the first knetsim's `utils/exec` takes them."""
    if not worker:
        raise UsageError("--cluster needs --worker", hint="sudo ./utils/exec 0 w1, or: sudo ./utils/exec 0 w1 c1")
    host = f"{f'C{cluster}' if cluster.isdigit() else cluster}{worker}"
    return f"{host}/{pod}" if pod else host


@cli.command()
@click.argument("scenario", default="default")
@output_option
def validate(scenario: str, output: Output) -> None:
    """Check SCENARIO and its manifests without starting anything."""
    from knetsim.cli.check import report_valid

    report_valid(find_scenario(scenario), output)


def _add_reports() -> None:
    """The commands that other modules bring: doctor, fidelity, version."""

    @cli.command()
    @output_option
    def doctor(output: Output) -> int:
        """What this machine can do, what each missing thing costs, and how to get it."""
        from knetsim.cli.doctor import doctor as report

        return int(report(output) or 0)

    @cli.command()
    @name_option
    @output_option
    @click.option("--page", metavar="FILE", help="Write all of it as a page instead (docs/fidelity.md).")
    def fidelity(name: str | None, output: Output, page: str | None) -> None:
        """What is real here, what is embedded or simplified, and what differs."""
        from knetsim.cli.fidelity import fidelity as report
        from knetsim.cli.fidelity import write_page
        from knetsim.system import rpc, state

        if page is not None:
            return write_page(Path(page))
        running = [one for one in state.simulations() if one.is_running() and name in (None, one.name)]
        if name is not None:
            state.find(name)
        answer = rpc.call(running[0].control_socket, "status")[0] if len(running) == 1 else None
        return report(answer, output)

    @cli.command()
    @output_option
    def version(output: Output) -> None:
        """Versions of knetsim and of the programs it runs."""
        from knetsim.cli.version import version as report

        report(output)


_add_reports()
for command in (apply, bench, conformance, kubeconfig, kubectl, lesson, link):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of the console script."""
    ensure_standard_files()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command line; its exit code. Errors are shown here."""
    verbose = "-v" in arguments[:1] or "--verbose" in arguments[:1]
    return shown(lambda: cli(arguments, standalone_mode=False, prog_name="knetsim"), verbose)


def shown(body: Callable[[], Any], verbose: bool = False) -> int:
    """Run `body`; show the error it raises, if any; its exit code."""
    from knetsim.cli.render import print_error

    try:
        code = body()
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except KnetsimError as error:
        print_error(error, verbose)
        return error.exit_code
    except BrokenPipeError:
        return _abandon_output()
    except Exception as error:  # noqa: BLE001 a mistake of ours: say so, and where it arose when asked
        print_error(error, verbose)
        return EXIT_FAILED
    return code if isinstance(code, int) else EXIT_OK


def _abandon_output() -> int:
    """Whoever read our output has gone, as in `knetsim status | head`: that is no failure."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    return EXIT_OK


if __name__ == "__main__":
    main()
