"""The `mininet>` prompt: Mininet's own, with the simulation's objects in reach of `py` and a few more commands.

What differs from Mininet's: an error is shown as everywhere in knetsim and remembered, so that `--exec` and piped lines
end with the right exit code; `#` starts a comment only at the start of a line, since `py` strings may hold it; a
command
given to a host never eats the lines that follow it on a pipe; node names are taken in any case; history is kept apart.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import shlex
import sys
import termios
import threading
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from select import POLLIN, poll
from typing import Any

import click
from mininet.cli import CLI
from mininet.log import lg
from mininet.util import quietRun

from knetsim.cli.execute import build_environment
from knetsim.cli.mininet_words import find_mistake
from knetsim.cli.render import print_error, render_status
from knetsim.cli.typist import LineRecord
from knetsim.cluster_skupper import create_conf
from knetsim.control_planes import require_kubernetes
from knetsim.errors import EXIT_FAILED, EXIT_OK, KnetsimError, UsageError
from knetsim.names import control_plane_host, nearest_word
from knetsim.simulation import Simulation
from knetsim.system.run import run, run_attached

_HISTORY = "~/.knetsim_history"
#: a command that is typed may run as long as it likes
_COMMAND_SECONDS = 24 * 3600.0
#: between looks whether a node's shell still runs
_LOOK_MILLISECONDS = 500
_NOT_YET = {
    "trace": "following a packet comes with a later version; until then: C0w1 tcpdump -ni any",
}


class Shell(CLI):  # type: ignore[misc]
    """The prompt of one simulation. `run_prompt` is for people, `run_lines` for `--exec`."""

    doc_header = "Commands (type help COMMAND):"
    undoc_header = "Mininet's other commands:"

    def __init__(self, simulation: Simulation, stdin: Any = None) -> None:
        self.simulation = simulation
        self.code = EXIT_OK
        # CLI.__init__ would start reading at once; what it sets up is repeated here
        self.mn = simulation.net
        self.locals = {"net": simulation.net, "sim": simulation, "create_conf": create_conf}
        self.inPoller = poll()
        self.inputFile = None
        super(CLI, self).__init__(stdin=stdin or sys.stdin)
        self.use_rawinput = self.isatty()
        lg.handlers[0].stream = sys.stdout  # where everything else that the prompt prints goes
        self.inPoller.register(self.stdin, POLLIN)
        self._capturing = threading.Lock()
        self.record = LineRecord()

    def run_prompt(self) -> int:
        """Read and run lines until `exit` or the end of input; 0, or, for input from a pipe, the first failure's
        code."""
        if not self.isatty():
            self.prompt = ""
            return self.run_lines(self.stdin)
        history = self._init_readline()
        click.echo(self._greeting())
        try:
            self.run()
        finally:
            _write_history(history)
        return EXIT_OK

    def run_lines(self, lines: Iterable[str]) -> int:
        """Run lines as if typed and echo them; stops at the first that fails. Its code."""
        for line in lines:
            text = line.rstrip("\n")
            if text.strip():
                click.echo(f"mininet> {text}")
            self.code = EXIT_OK
            ended = self.onecmd(self.precmd(text))
            sys.stdout.flush()
            if self.code != EXIT_OK or ended:
                break
        return self.code

    def run_captured(self, line: str) -> tuple[int, str]:
        """Run one line for another terminal: its code and all that it printed. One at a time."""
        with self._capturing:
            captured = io.StringIO()
            stream, lg.handlers[0].stream = lg.handlers[0].stream, captured
            try:
                with redirect_stdout(captured), redirect_stderr(captured):
                    self.code = EXIT_OK
                    self.onecmd(self.precmd(line))
            finally:
                lg.handlers[0].stream = stream
            return self.code, captured.getvalue()

    def _greeting(self) -> str:
        worker = self.simulation.clusters[0].workers[0]
        pods = worker.containers
        pod = pods[0] if pods else "c1"
        usual = self.simulation.name == self.simulation.scenario.name
        name = "" if usual else f"--name {self.simulation.name} "
        return (
            f'Try:  {worker.name} ip addr  |  py {worker.name}.exec_container("{pod}", "ip addr")  |  status  |  help\n'
            f"From another terminal:  ./utils/exec {name}{worker.cluster_id} {worker.short_name} {pod}"
        )

    def _init_readline(self) -> Any:
        """Completion and history, where Python has readline; the module."""
        import readline

        try:
            readline.read_history_file(os.path.expanduser(_HISTORY))
        except OSError:
            pass  # the first time there is none
        readline.set_history_length(1000)
        readline.set_completer_delims(" \t\n\"'()[],=")
        return readline

    def getLocals(self) -> dict[str, Any]:  # noqa: N802 - Mininet\'s name
        """What `py` sees: every host and switch, every cluster, `net` and `sim`."""
        self.locals.update(self.mn.nameToNode)
        self.locals.update({cluster.name: cluster for cluster in self.simulation.clusters})
        return self.locals

    def precmd(self, line: str) -> str:
        """Drop lines that are comments; let a number or a lower-case name stand for a host (`c0w1 ip addr`)."""
        if line.lstrip().startswith("#"):
            return ""
        first, _, rest = line.strip().partition(" ")
        if first and first not in self.mn and not hasattr(self, f"do_{first}"):
            for name in self.mn:
                if name.lower() == first.lower():
                    return f"{name} {rest}"
        return line

    def _show(self, error: KnetsimError) -> None:
        print_error(error, verbose=False)
        self.code = error.exit_code

    def do_py(self, line: str) -> None:
        """py EXPRESSION: evaluate Python. Hosts, clusters, `net` and `sim` are names: py C0w1.exec_container("c1",
        "ip addr")"""
        self._python(line, "eval")

    def do_px(self, line: str) -> None:
        """px STATEMENT: execute Python, as in: px for w in C0.workers: print(w)"""
        self._python(line, "exec")

    def _python(self, line: str, mode: str) -> None:
        if not line.strip():
            self._show(UsageError(f"{'py' if mode == 'eval' else 'px'} needs Python", hint='py C0.get("w1").IP()'))
            return
        names = self.getLocals()
        try:
            result = eval(compile(line.strip(), "<prompt>", mode), names)
        except KnetsimError as error:
            self._show(error)
        except Exception as error:  # noqa: BLE001 whatever the user's own expression raises is theirs to read
            click.echo(f"{type(error).__name__}: {error}", err=True)
            if hint := _nearest_name(error, names):
                click.echo(f"  try:   {hint}", err=True)
            self.code = EXIT_FAILED
        else:
            if isinstance(result, str):
                click.echo(result, nl=not result.endswith("\n"))
            elif result is not None:
                click.echo(repr(result))

    def do_status(self, line: str) -> None:
        """status: clusters, etcd members, workers, pods, daemons. `status -o json` for programs."""
        render_status(self.simulation.status(), "json" if "json" in line.split() else "table")

    def do_kubectl(self, line: str) -> None:
        """kubectl [-c CLUSTER] ARGS: the real kubectl, on the control plane's host; workers may be called C0w1 too.
        Not in the host's own shell, as its commands are: what kubectl does with a terminal, it does with yours."""
        words = line.split(maxsplit=2)
        name, rest = (words[1], "".join(words[2:])) if words[:1] == ["-c"] and len(words) > 1 else ("", line)
        cluster = self.simulation.get(name) if name else self.simulation.clusters[0]
        require_kubernetes(cluster.plane, cluster.name, "kubectl")
        nodes = {worker.name: worker.node_name for one in self.simulation.clusters for worker in one.workers}
        rest = re.sub(r"\S+", lambda match: nodes.get(match.group(), match.group()), rest)
        argv = ["bash", "-c", f"kubectl {rest}"]  # pipes and quotes are the shell's
        host = self.mn[control_plane_host(cluster.name)]
        env, cwd = build_environment(host.name, host.environment), os.getcwd()
        if self._capturing.locked():  # for another terminal
            done = run(argv, place=host.place, env=env, cwd=cwd, check=False, merge=True, timeout=_COMMAND_SECONDS)
            click.echo(done.output, nl=False)
            self.code = done.code
        else:
            sys.stdout.flush()
            self.code = run_attached(argv, place=host.place, env=env, cwd=cwd, has_input=self.isatty())

    def do_pingall(self, line: str) -> None:
        """pingall: ping between all hosts, and between all pods of each cluster."""
        lost = self.mn.pingAll(line or None)
        for cluster in self.simulation.clusters:
            lost += self._ping_pods(cluster)
        if lost:
            self.code = EXIT_FAILED

    def _ping_pods(self, cluster: Any) -> float:
        pods = cluster.pod_addresses()
        if len(pods) < 2:
            return 0.0
        click.echo(f"*** Ping: pods of {cluster.name}")
        sent = received = 0
        for name, answered in cluster.ping_pods(pods):
            click.echo(f"{name} -> {' '.join(target if ok else 'X' for target, ok in answered)}")
            sent += len(answered)
            received += sum(ok for _, ok in answered)
        loss = 100.0 * (sent - received) / sent
        click.echo(f"*** Results: {loss:.0f}% dropped ({received}/{sent} received)")
        return loss

    def default(self, line: str) -> Any:
        """HOST COMMAND: run a command on a host, in its own shell; names of hosts become their addresses."""
        if line == "EOF":
            return self.do_EOF(line)
        first, args, line = self.parseline(line)
        if first in _NOT_YET:
            self._show(KnetsimError(f"`{first}` is not here yet", why=_NOT_YET[first]))
        elif first not in self.mn:
            commands = [name[3:] for name in self.get_names() if name.startswith("do_")]
            word = line.split()[0] if line.split() else line
            near = nearest_word(word, [*commands, *self.mn])
            self._show(UsageError(f"unknown command '{word}'", hint=f"did you mean '{near}'?" if near else "help"))
        elif not args:
            self._show(UsageError(f"what shall {first} do?", hint=f"{first} ip addr"))
        else:
            self._run_on(self.mn[first], args)
        return None

    def _run_on(self, node: Any, command: str) -> None:
        node.ensure_shell()
        termios.tcflush(node.slave, termios.TCIFLUSH)  # what the command before was given and did not read
        node.sendCmd(re.sub(r"\S+", lambda match: self._address_of(match.group()), command))
        self.waitForNode(node)
        self.code = _read_code(node)

    def _address_of(self, word: str) -> str:
        """The address of a host, when the word names one; the word itself otherwise."""
        if word not in self.mn:
            return word
        interface = self.mn[word].defaultIntf()
        return (interface.updateIP() if interface else None) or word

    def waitForNode(self, node: Any) -> None:  # noqa: N802 - Mininet\'s name
        """Until the node's command or its shell ends: show its output; what is typed meanwhile goes to it.

        Lines that wait at the terminal before, as pasted ones do, are the prompt's, unless more is typed.
        """
        terminal = self.stdin.fileno() if self.isatty() else -1
        pasted = _count_waiting(terminal)
        poller = poll()
        poller.register(node.stdout, POLLIN)
        typing = False
        while node.waiting:
            try:
                if terminal >= 0 and not typing and not (pasted and _count_waiting(terminal) <= pasted):
                    typing = True
                    quietRun("stty -icanon min 1")  # keys go to the command one by one, as Mininet has it
                    poller.register(terminal, POLLIN)
                ready = [fd for fd, _ in poller.poll(_LOOK_MILLISECONDS)]
                if terminal in ready:  # not by `stdin.read`, which reads ahead, past what is for the command
                    node.write(os.read(terminal, 1024).decode(errors="replace"))
                if node.stdout.fileno() in ready:
                    click.echo(node.monitor(), nl=False)
                elif node.shell.poll() is not None:
                    node.waiting = False  # `exit` ended the shell; the next command starts another
            except KeyboardInterrupt:
                node.sendInt()

    def do_EOF(self, line: str) -> bool:  # noqa: N802 - Mininet\'s name
        """Ctrl-D: end the simulation."""
        if self.isatty():
            click.echo()
        return True

    def do_exit(self, line: str) -> bool:
        """exit: end the simulation; nothing of it stays."""
        return True

    def onecmd(self, line: str) -> Any:
        """Run one line; an error is shown, whichever command raised it, and the prompt goes on."""
        command, rest, _ = self.parseline(line)
        switches = [switch.name for switch in self.mn.switches]
        with self.record.noting(self):
            try:
                if mistake := find_mistake(command or "", (rest or "").split(), self.mn, switches):
                    raise mistake
                return super().onecmd(line)
            except KnetsimError as error:
                self._show(error)
            except Exception as error:  # noqa: BLE001 - a mistake of ours must not end the user's simulation
                print_error(error, verbose=True)
                self.code = EXIT_FAILED
        return None

    def completenames(self, text: str, *ignored: Any) -> list[str]:
        """Commands and hosts."""
        hosts = [name for name in self.mn if name.startswith(text)]
        return [*super().completenames(text, *ignored), *hosts]

    def completedefault(self, text: str, line: str, begidx: int, endidx: int) -> list[str]:
        """Inside `py`: names and attributes; after a host: hosts."""
        if line.startswith(("py ", "px ")):
            return self._complete_python(text)
        return [name for name in self.mn if name.startswith(text)]

    complete_py = completedefault
    complete_px = completedefault

    def _complete_python(self, text: str) -> list[str]:
        names = self.getLocals()
        owner, dot, start = text.rpartition(".")
        if not dot:
            return [name for name in names if name.startswith(text) and not name.startswith("_")]
        target = names.get(owner)
        return [f"{owner}.{name}" for name in dir(target) if name.startswith(start) and not name.startswith("_")]

    def do_source(self, line: str) -> None:
        """source FILE: run the lines of a file; stops at the first that fails."""
        words = shlex.split(line)
        if len(words) != 1:
            self._show(UsageError("source needs one file"))
            return
        try:
            with open(words[0]) as file:
                self.run_lines(file.read().splitlines())
        except OSError as error:
            self._show(KnetsimError(f"cannot read {words[0]}", why=error.strerror or ""))


def _count_waiting(terminal: int) -> int:
    """How many characters were typed that nobody has read; 0 where there is no terminal."""
    if terminal < 0:
        return 0
    return int.from_bytes(fcntl.ioctl(terminal, termios.FIONREAD, bytes(4)), sys.byteorder)


def _read_code(node: Any) -> int:
    """The exit code of the command that has just ended in the node's shell.

    Lines that were typed while it ran, and that it did not read, its shell has taken for commands: what they print is
    dropped here.
    """
    termios.tcflush(node.slave, termios.TCIFLUSH)
    node.write("echo code-of-knetsim=$?\n")
    poller = poll()
    poller.register(node.stdout, POLLIN)
    output = ""
    while not (said := re.search(r"code-of-knetsim=(\d+)\s*\x7f", output)):
        if poller.poll(_LOOK_MILLISECONDS):
            output += node.read()
        elif node.shell.poll() is not None:
            return EXIT_OK
    return int(said[1])


def _nearest_name(error: Exception, names: dict[str, Any]) -> str:
    """What a mistyped name or attribute may have meant."""
    if isinstance(error, NameError):
        known = list(names)
    elif isinstance(error, AttributeError):
        known = dir(error.obj)
    else:
        return ""
    near = nearest_word(error.name or "", [name for name in known if not name.startswith("_")])
    return f"did you mean '{near}'?" if near else ""


def _write_history(readline: Any) -> None:
    try:
        readline.write_history_file(os.path.expanduser(_HISTORY))
    except OSError:
        pass  # a home that cannot be written keeps no history
