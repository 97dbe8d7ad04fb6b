"""From a message to a message: a question in DNS' own form is read, put to zones, and answered in that form; pure.

Names that are other names (CNAME) are followed through all zones. What does not fit into a datagram is cut off and
marked so (TC), and asked again by TCP. EDNS is understood in its version 0. What is not a question gets no answer.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from knetsim.dataplane.dns.zones import Found, Zone

#: bytes of a datagram: without EDNS, and the most with it (so that it is never cut into fragments)
PLAIN_SIZE, LARGEST_SIZE = 512, 1232
_STREAM_SIZE = 65535
_MOST_STEPS = 8
_HEADER = struct.Struct("!6H")
_QUERY_RESPONSE, _FORMAT_ERROR = 0x8000, 1
_KEPT_FLAGS = 0x7900  # opcode and RD, as they were


def answer_bytes(question: bytes, zones: Sequence[Zone], *, datagram: bool) -> bytes | None:
    """The answer to a message; None for what must not be answered: an answer, or no message at all."""
    if len(question) < _HEADER.size or question[2] & (_QUERY_RESPONSE >> 8):
        return None
    try:
        query = dns.message.from_wire(question)
    except (dns.exception.DNSException, ValueError):
        return build_format_error(question)
    response = answer_query(query, zones)
    limit = _STREAM_SIZE
    if datagram:
        limit = min(max(query.payload, PLAIN_SIZE), LARGEST_SIZE) if query.edns >= 0 else PLAIN_SIZE
    return response.to_wire(max_size=limit, prefer_truncation=True)


def build_format_error(question: bytes) -> bytes:
    """The answer to a message that has a header and is not to be understood beyond it."""
    number, flags, *_ = _HEADER.unpack_from(question)
    return _HEADER.pack(number, _QUERY_RESPONSE | (flags & _KEPT_FLAGS) | _FORMAT_ERROR, 0, 0, 0, 0)


def answer_query(query: dns.message.Message, zones: Sequence[Zone]) -> dns.message.Message:
    """The answer to a question, put to the zones one after the other until one knows."""
    response = dns.message.make_response(query, recursion_available=True, our_payload=LARGEST_SIZE)
    if query.opcode() != dns.opcode.QUERY:
        response.set_rcode(dns.rcode.NOTIMP)
    elif query.edns > 0:
        response.use_edns(0, payload=LARGEST_SIZE)
        response.set_rcode(dns.rcode.BADVERS)
    elif len(query.question) != 1:
        response.set_rcode(dns.rcode.FORMERR)
    elif query.question[0].rdclass not in (dns.rdataclass.IN, dns.rdataclass.ANY):
        response.set_rcode(dns.rcode.REFUSED)
    else:
        question = query.question[0]
        found = find_all(question.name, question.rdtype, zones)
        response.flags |= dns.flags.AA
        response.set_rcode(found.rcode)
        response.answer, response.authority, response.additional = found.answer, found.authority, found.additional
        for records in response.answer:
            _shuffle(records.items)
    return response


def find_all(name: dns.name.Name, kind: dns.rdatatype.RdataType, zones: Sequence[Zone]) -> Found:
    """What is known of a name, other names of it followed; where they end in nothing the other name is all, as with
    CoreDNS."""
    found = _find(name, kind, zones)
    whole = found
    for _ in range(_MOST_STEPS):
        if found.target is None:
            break
        found = _find(found.target, kind, zones)
        whole.answer += found.answer
    return whole


def _find(name: dns.name.Name, kind: dns.rdatatype.RdataType, zones: Sequence[Zone]) -> Found:
    for zone in zones:
        found = zone.find(name, kind)
        if found is not None:
            return found
    return Found(dns.rcode.REFUSED)


def _shuffle(records: dict[object, None]) -> None:
    """So that clients, which take the first, spread over all."""
    if len(records) > 1:
        order = list(records)
        random.shuffle(order)
        records.clear()
        records.update(dict.fromkeys(order))
