"""The `mininet>` prompt: Mininet's own, with the simulation's objects in reach of `py` and a few more commands.

What differs from Mininet's: an error is shown as everywhere in knetsim and remembered, so that `--exec` and piped lines
end with the right exit code; `#` starts a comment only at the start of a line, since `py` strings may hold it; a
command
given to a host never eats the lines that follow it on a pipe; node names are taken in any case; history is kept apart.
"""

from __future__ import annotations

import inspect
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

from knetsim.cli.completion import complete_python
from knetsim.cli.mininet_words import TAKE_HOSTS, find_mistake
from knetsim.cli.mistakes import explain_line, is_python, nearest_name
from knetsim.cli.node_shell import LOOK_MILLISECONDS, count_waiting, read_code
from knetsim.cli.pod_pings import ping_pods
from knetsim.cli.prompt_help import CALLS, build_help, explain_call
from knetsim.cli.prompt_kubectl import Kubectl
from knetsim.cli.render import print_error
from knetsim.cli.surroundings import build_greeting, read_known, read_names
from knetsim.cli.throughput import SECONDS, measure
from knetsim.cli.typist import LineRecord
from knetsim.cli.views import STATUS_WORDS, show_links, show_status
from knetsim.cluster_skupper import create_conf
from knetsim.errors import EXIT_FAILED, EXIT_OK, KnetsimError, UsageError
from knetsim.names import nearest_word
from knetsim.simulation import Simulation
from knetsim.system.run import Interrupted

_HISTORY = "~/.knetsim_history"
_NOT_YET = {
    "trace": "following a packet comes with a later version; until then: C0w1 tcpdump -ni any",
}


class Shell(CLI):  # type: ignore[misc]
    """The prompt of one simulation. `run_prompt` is for people, `run_lines` for `--exec`."""

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
        self._kubectl = Kubectl(simulation)

    def run_prompt(self) -> int:
        """Read and run lines until `exit` or the end of input; 0, or, for input from a pipe, the first failure's
        code."""
        if not self.isatty():
            self.prompt = ""
            return self.run_lines(self.stdin)
        history = self._init_readline()
        click.echo(build_greeting(self.simulation))
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

    def _commands(self) -> list[str]:
        return [name.removeprefix("do_") for name in self.get_names() if name.startswith("do_") and name != "do_EOF"]

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
        except Interrupted as error:
            click.echo(error.output, nl=False)
            raise
        except KnetsimError as error:
            self._show(error)
        except Exception as error:  # noqa: BLE001 whatever the user's own expression raises is theirs to read
            click.echo(f"{type(error).__name__}: {error}", err=True)
            if hint := nearest_name(error, names):
                click.echo(f"  try:   {hint}", err=True)
            self.code = EXIT_FAILED
        else:
            if isinstance(result, str):
                click.echo(result, nl=not result.endswith("\n"))
            elif result is not None:
                click.echo(repr(result))

    def do_status(self, line: str) -> None:
        """status: clusters, etcd members, workers, pods, daemons: health and addresses.
        status services: every Service, its backends, and how many connections each got
        status policies: every NetworkPolicy, and what it let through and held back
        -o wide shows more, -o json is for programs; --orphans: only what nothing owns"""
        show_status(self.simulation, line.split())

    def complete_status(self, text: str, *_: Any) -> list[str]:
        """Its parts."""
        return [word for word in STATUS_WORDS if word.startswith(text)]

    def do_link(self, line: str) -> None:
        """link NODE NODE up|down: cut the link between two, or mend it
        link status: the Skupper sites, how they are linked, and which of them serves what to whom"""
        words = line.split()
        if words[:1] == ["status"]:
            show_links(self.simulation, words[1:])
        else:
            super().do_link(line)

    def complete_link(self, text: str, *_: Any) -> list[str]:
        """Both its forms."""
        return [word for word in (*self.mn, "up", "down", "status") if word.startswith(text)]

    def do_iperf(self, line: str) -> None:
        """iperf [HOST HOST]: how much goes from one host to the other by TCP in five seconds; by iperf3"""
        self._measure(line.split())

    def do_iperfudp(self, line: str) -> None:
        """iperfudp [BANDWIDTH HOST HOST]: the same by UDP, at a rate such as 10M"""
        words = line.split()
        self._measure(words[1:], words[0] if words else "10M")

    def _measure(self, words: list[str], rate: str = "") -> None:
        client, server = (self.mn[name] for name in words or read_names(self.simulation)[:2])
        for node in (client, server):
            if node not in self.mn.hosts:
                raise UsageError(f"{node.name} is a switch; iperf is between hosts", hint="nodes")
        click.echo(f"measuring from {client.name} to {server.name} for {SECONDS} s")
        click.echo(measure(client, server, rate))

    def do_help(self, line: str) -> None:
        """help: what can be typed here; help WORD: more about one"""
        word = line.strip()
        method = getattr(self, f"do_{word}", None) if word.isidentifier() else None
        text = inspect.getdoc(method) or f"{word}: one of Mininet's commands" if method else explain_call(word)
        if word in self.mn:
            text = f"{word} CMD: run a command there, as in: {word} ip addr"
        if word and not text:
            near = nearest_word(word, [*self._commands(), *CALLS])
            raise UsageError(f"no help about '{word}'", hint=f"did you mean '{near}'?" if near else "help")
        click.echo(text or build_help(read_names(self.simulation)))

    def complete_help(self, *args: Any) -> list[str]:
        """Commands and hosts."""
        return self.completenames(*args)

    def do_kubectl(self, line: str) -> None:
        """kubectl [-c CLUSTER] ARGS: the real kubectl, on the control plane's host; workers may be called C0w1 too.
        Not in the host's own shell, as its commands are: what kubectl does with a terminal, it does with yours."""
        if not (captured := self._capturing.locked()):  # for another terminal
            sys.stdout.flush()
        self.code = self._kubectl.run(line, not captured, self.isatty())

    def complete_kubectl(self, text: str, line: str, begidx: int, endidx: int) -> list[str]:
        """What kubectl itself offers."""
        return self._kubectl.complete(line[:endidx].lstrip().removeprefix("kubectl").lstrip(), text)

    def do_pingall(self, line: str) -> None:
        """pingall: ping between all hosts, and between all pods of each cluster."""
        lost = self.mn.pingAll(line or None)
        for cluster in self.simulation.clusters:
            lost += ping_pods(cluster)
        if lost:
            self.code = EXIT_FAILED

    def default(self, line: str) -> Any:
        """HOST COMMAND: run a command on a host, in its own shell; names of hosts become their addresses."""
        if line == "EOF":
            return self.do_EOF(line)
        first, args, line = self.parseline(line)
        if first in _NOT_YET:
            self._show(KnetsimError(f"`{first}` is not here yet", why=_NOT_YET[first]))
        elif first not in self.mn or is_python(line):
            raise explain_line(line, read_known(self.simulation, self._commands(), self.getLocals()))
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
        self.code = read_code(node)

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
        pasted = count_waiting(terminal)
        poller = poll()
        poller.register(node.stdout, POLLIN)
        typing = False
        while node.waiting:
            try:
                if terminal >= 0 and not typing and not (pasted and count_waiting(terminal) <= pasted):
                    typing = True
                    quietRun("stty -icanon min 1")  # keys go to the command one by one, as Mininet has it
                    poller.register(terminal, POLLIN)
                ready = [fd for fd, _ in poller.poll(LOOK_MILLISECONDS)]
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
                if mistake := find_mistake(
                    command or "", (rest or "").split(), self.mn, switches, "DISPLAY" in os.environ
                ):
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
        """After a host, and after commands that take hosts: hosts."""
        first = line.split(maxsplit=1)[0]
        return [name for name in self.mn if name.startswith(text)] if first in self.mn or first in TAKE_HOSTS else []

    def complete_py(self, text: str, *_: Any) -> list[str]:
        """Names, and what a name has: attributes and calls."""
        return complete_python(text, self.getLocals())

    complete_px = complete_py

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


def _write_history(readline: Any) -> None:
    try:
        readline.write_history_file(os.path.expanduser(_HISTORY))
    except OSError:
        pass  # a home that cannot be written keeps no history
