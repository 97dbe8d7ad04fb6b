"""The expressions of which the kernel's rules consist, as bytes; pure.

An expression reads into a register, compares one, or acts. `nft --debug=netlink` prints those of any rule; the forms
and registers here are the ones that nft 1.0.6 chooses, so that what was put in this way is listed as what nft put in.
Source: linux/netfilter/nf_tables.h; `man nft` for what they mean.
"""

from __future__ import annotations

from knetsim.system.netlink import wire
from knetsim.system.nfnetlink.wire import (
    COUNTER_BYTES,
    COUNTER_PACKETS,
    ELEMENT_EXPR,
    EXPR_DATA,
    EXPR_NAME,
    LIST_ELEMENT,
    nested,
    number,
    number64,
    value,
    verdict,
)

EQUAL, NOT_EQUAL = 0, 1
_REGISTER, _SECOND = 1, 2
#: four bytes each, behind one another: the first is the beginning of _REGISTER (NFT_REG32_00)
_QUARTERS = (1, 9, 10, 11)
_VERDICT_REGISTER = 0
_NETWORK_HEADER = 1
_META_MARK, _META_L4PROTO = 3, 16
_FIB_SOURCE, _FIB_TYPE = 1, 3
_NAT_DNAT, _NAT_ADDRESS_GIVEN, _NAT_PORT_GIVEN, _FAMILY_IPV4 = 1, 1, 2, 2
_TRANSPORT_HEADER, _DESTINATION_PORT = 2, 2
_RANDOM = 1
_UPDATE = 1

SOURCE, DESTINATION = 12, 16  # where a packet's addresses are in its IPv4 header


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(LIST_ELEMENT, wire.text(EXPR_NAME, name), nested(EXPR_DATA, *attributes))


def load_address(offset: int, size: int = 4) -> bytes:
    """Bytes of the IPv4 header."""
    return _payload(_NETWORK_HEADER, offset, size, _REGISTER)


def _payload(header: int, offset: int, size: int, register: int) -> bytes:
    return _expression("payload", number(1, register), number(2, header), number(3, offset), number(4, size))


def load_l4proto(register: int = _REGISTER) -> bytes:
    """The number of the protocol above IP."""
    return _expression("meta", number(2, _META_L4PROTO), number(1, register))


def load_mark() -> bytes:
    """The packet's mark."""
    return _expression("meta", number(2, _META_MARK), number(1, _REGISTER))


def set_mark() -> bytes:
    """Have the register as the packet's mark."""
    return _expression("meta", number(2, _META_MARK), number(3, _REGISTER))


def load_source_type() -> bytes:
    """What kind of address the source is: 2 for the machine's own (RTN_LOCAL)."""
    return _expression("fib", number(3, _REGISTER), number(2, _FIB_TYPE), number(1, _FIB_SOURCE))


def load_random(modulus: int, register: int = _REGISTER) -> bytes:
    """A number from 0 to `modulus` - 1, by lot."""
    return _expression("numgen", number(1, register), number(2, modulus), number(3, _RANDOM), number(4, 0))


def translate_by_lot(modulus: int, name: str) -> bytes:
    """Send the connection where the map `name` says, by its destination's address, protocol, port, and a lot."""
    address, protocol, port, lot = _QUARTERS
    return b"".join(
        [
            _payload(_NETWORK_HEADER, DESTINATION, 4, address),
            load_l4proto(protocol),
            _payload(_TRANSPORT_HEADER, _DESTINATION_PORT, 2, port),
            load_random(modulus, lot),
            _expression("lookup", number(2, address), number(3, address), wire.text(1, name), number(4, 0)),
            _expression(
                "nat",
                number(1, _NAT_DNAT),
                number(2, _FAMILY_IPV4),
                number(3, address),
                number(5, protocol),
                number(7, _NAT_ADDRESS_GIVEN | _NAT_PORT_GIVEN),
            ),
        ]
    )


def mask(keep: bytes, flip: bytes, *, with_operation: bool) -> bytes:
    """The register AND `keep`, XOR `flip`. nft names the operation of a bitwise OR, and none for a prefix."""
    operation = [number(6, 0)] if with_operation else []
    return _expression(
        "bitwise",
        number(1, _REGISTER),
        number(2, _REGISTER),
        *operation,
        number(3, len(keep)),
        value(4, keep),
        value(5, flip),
    )


def compare(relation: int, data: bytes) -> bytes:
    """Go on only if the register is, or is not, `data`."""
    return _expression("cmp", number(1, _REGISTER), number(2, relation), value(3, data))


def look_up(name: str) -> bytes:
    """Go on only if the register is in a set."""
    return _expression("lookup", number(2, _REGISTER), wire.text(1, name), number(4, 0))


def update(name: str, milliseconds: int) -> bytes:
    """Have the register in a set for so long from now on."""
    return _expression(
        "dynset",
        number(4, _REGISTER),
        number(3, _UPDATE),
        number64(6, milliseconds),
        wire.text(1, name),
        number(2, 0),
    )


def count() -> bytes:
    """Count packets and bytes, from 0."""
    return _expression("counter")


def counted(packets: int, size: int) -> bytes:
    """What an element of a set with counters has counted: packets, and bytes."""
    counter = nested(EXPR_DATA, number64(COUNTER_BYTES, size), number64(COUNTER_PACKETS, packets))
    return nested(ELEMENT_EXPR, wire.text(EXPR_NAME, "counter"), counter)


def decide(word: str, chain: str = "") -> bytes:
    """A verdict."""
    return _expression("immediate", number(1, _VERDICT_REGISTER), verdict(2, word, chain))


def translate(address: bytes, port: int) -> bytes:
    """Three expressions: send the connection to an address and a port."""
    return b"".join(
        [
            _expression("immediate", number(1, _REGISTER), value(2, address)),
            _expression("immediate", number(1, _SECOND), value(2, port.to_bytes(2, "big"))),
            _expression(
                "nat",
                number(1, _NAT_DNAT),
                number(2, _FAMILY_IPV4),
                number(3, _REGISTER),
                number(5, _SECOND),
                number(7, _NAT_PORT_GIVEN),
            ),
        ]
    )
