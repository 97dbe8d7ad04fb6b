"""The table of questions in specification.yaml, and answers in its words; also a program, which asks them of a server.

python tests/dns/table.py SERVER      two answers a question as JSON, by UDP and by TCP
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import yaml

FILE = Path(__file__).with_name("specification.yaml")
_SECONDS = 10.0


@dataclass(frozen=True)
class Question:
    """A row of the table; records as `TYPE data`."""

    ask: str
    code: str
    answer: list[str]
    additional: list[str]

    @property
    def name(self) -> str:
        return self.ask.split()[0]

    @property
    def kind(self) -> str:
        return self.ask.split()[1]


def read_table() -> tuple[list[dict[str, Any]], list[Question]]:
    """The objects, and the questions."""
    table = yaml.safe_load(FILE.read_text())
    questions = [
        Question(row["ask"], row.get("code", "NOERROR"), row.get("answer", []), row.get("additional", []))
        for row in table["questions"]
    ]
    return table["objects"], questions


def read_answer(message: dns.message.Message) -> dict[str, Any]:
    """An answer in the table's words."""
    return {
        "code": dns.rcode.to_text(message.rcode()),
        "answer": [line for records in message.answer for line in _lines(records)],
        "additional": [line for records in message.additional for line in _lines(records)],
    }


def _lines(records: Any) -> list[str]:
    kind = dns.rdatatype.to_text(records.rdtype)
    if kind == "SRV":
        return [f"SRV {record.port} {record.target}" for record in records]
    return [f"{kind} {record}" for record in records]


def explain_difference(question: Question, found: dict[str, Any]) -> str:
    """Where an answer is another than the table's; empty when it is not."""
    if question.code != "ANY" and found["code"] != question.code:
        return f"{question.ask}: {found['code']} instead of {question.code}"
    answer, wanted = _sorted(found["answer"]), _sorted(question.answer)
    if answer != wanted:
        return f"{question.ask}: {answer} instead of {wanted}"
    missing = set(_sorted(question.additional)) - set(_sorted(found["additional"]))
    return f"{question.ask}: lacks in addition {sorted(missing)}" if missing else ""


def _sorted(lines: list[str]) -> list[str]:
    return sorted(line.lower() for line in lines)


def main() -> None:
    """Ask all of them."""
    found = []
    for question in read_table()[1]:
        message = dns.message.make_query(question.name, question.kind, use_edns=0, payload=1232)
        by_datagram = dns.query.udp(message, sys.argv[1], timeout=_SECONDS)
        by_stream = dns.query.tcp(message, sys.argv[1], timeout=_SECONDS)
        found.append([read_answer(by_datagram), read_answer(by_stream)])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
