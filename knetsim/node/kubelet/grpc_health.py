"""One call of gRPC's health service, grpc.health.v1.Health/Check, over a connection made in a worker's namespace.

gRPC's own library connects by itself, from the namespace of the whole process, so the one call is spoken here: HTTP/2
with a request of literal headers (RFC 9113, RFC 7541 §6.2.2) and a message of one field. Of the answer the message and
`grpc-status` count, which servers send as literal text or as an entry of the static or dynamic table: what is not a
message with SERVING is a failure either way. Messages as of Kubernetes' pkg/probe/grpc.
"""

from __future__ import annotations

import asyncio
import struct

from knetsim.node.kubelet.dialing import Dialer, join_host_port

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_ACK, _END_STREAM, _END_HEADERS, _PADDED = 1, 1, 4, 8
_LONGEST_FRAME = 1 << 20
_STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_SERVING = 1
_AGENT = "kube-probe/1.36"


async def check_health(dialer: Dialer, host: str, port: int, service: str, timeout: float | None) -> str:
    """Ask within `timeout` seconds; "" when the service serves, else why it does not."""
    address, within = join_host_port(host, port), f"{timeout:g}s"
    connected = False
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(sock=await dialer.connect(host, port))
            try:
                connected = True
                writer.write(build_request(address, service))
                return await _read_answer(reader, writer)
            finally:
                writer.close()
    except TimeoutError:
        if connected:
            return f"timeout: health rpc did not complete within {within}"
    except ConnectionRefusedError:
        pass  # gRPC tries again until the time is over, and says the same
    except (OSError, EOFError, ValueError) as error:
        return f"error: health rpc probe failed: rpc error: code = Unavailable desc = {str(error) or 'EOF'}"
    return f'timeout: failed to connect service "{address}" within {within}: context deadline exceeded'


def build_request(address: str, service: str) -> bytes:
    """Everything that the client sends of its own accord."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": address,
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": _AGENT,
    }
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    body = struct.pack(">BI", 0, len(message)) + message
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, block)
        + _frame(_DATA, _END_STREAM, 1, body)
    )


def _text(text: str) -> bytes:
    """A literal string; none of ours needs more than a byte for its length."""
    encoded = text.encode()
    return bytes([len(encoded)]) + encoded


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


async def _read_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    body, headers = b"", b""
    while True:
        head = await reader.readexactly(9)
        length, (kind, flags, stream) = int.from_bytes(head[:3], "big"), struct.unpack(">BBI", head[3:])
        if length > _LONGEST_FRAME or head[:5] == b"HTTP/":
            raise ValueError("the server does not speak HTTP/2")
        payload = await reader.readexactly(length)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY or (kind == _RST_STREAM and stream == 1):
            raise ValueError("the server has closed the stream")
        elif stream == 1 and kind in (_DATA, _HEADERS):
            if flags & _PADDED and payload:
                payload = payload[1 : len(payload) - payload[0]]
            body, headers = (body + payload, headers) if kind == _DATA else (body, headers + payload)
            if len(body) >= 5 and len(body) >= 5 + int.from_bytes(body[1:5], "big"):
                return explain_message(body[5 : 5 + int.from_bytes(body[1:5], "big")])
            if flags & _END_STREAM:
                return explain_refusal(headers)


def explain_message(message: bytes) -> str:
    """What a HealthCheckResponse says: "" when it is SERVING. Its one field is `1: varint`; none means 0."""
    status = message[1] if len(message) >= 2 and message[0] == 8 else 0
    if status == _SERVING:
        return ""
    return f'service unhealthy (responded with "{_STATUS.get(status, status)}")'


def explain_refusal(headers: bytes) -> str:
    """Why there was no message, as far as the headers say it without Huffman coding."""
    if b"grpc-status\x0212" in headers or b"unimplemented" in headers.lower() or b"unknown service" in headers.lower():
        return (
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service "
            "grpc.health.v1.Health"
        )
    code = "NotFound desc = unknown service" if b"grpc-status\x015" in headers else "Unknown desc = no message"
    return f"error: health rpc probe failed: rpc error: code = {code}"
