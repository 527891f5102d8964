"""Asking a part whether it answers. The standard library is enough, which keeps the supervisor small."""

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path

from cli.parts import Probe

# Source: RFC 9113, section 3.4: the client's preface, an empty SETTINGS frame; the server's first frame is SETTINGS.
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_HTTP2_SETTINGS = 4
_DCGM_S = 3.0
_DCGM_BYTES = 1 << 22


async def answers(probe: Probe, log: Path, log_start: int) -> bool:
    """Try once.

    Args:
        log: the part's log file.
        log_start: byte at which this process's own output begins.
    """
    try:
        async with asyncio.timeout(probe.timeout_s):
            if probe.kind == "redis":
                return await _redis(probe)
            if probe.kind == "grpc":
                return await _grpc(probe)
            if probe.kind == "http":
                return await asyncio.to_thread(_http, probe)
            if probe.kind == "log":
                return probe.text.encode() in await asyncio.to_thread(_tail, log, log_start)
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    return False


def dcgm_answers(url: str) -> bool:
    """Whether a dcgm-exporter answers there; another stack's reader of GPUs, which ends with it, does not count."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_DCGM_S) as response:
            text = response.read(_DCGM_BYTES)
    except (OSError, ValueError, http.client.HTTPException):  # URLError is an OSError
        return False
    return b"DCGM_FI_" in text and b"stoker_gpu_" not in text


async def _redis(probe: Probe) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", probe.port)
    try:
        if probe.password:
            writer.write(_command("AUTH", probe.password))
        writer.write(_command("PING"))
        if probe.password and not (await reader.readline()).startswith(b"+OK"):
            return False
        return (await reader.readline()).startswith(b"+PONG")  # -LOADING while it reads its file
    finally:
        writer.close()


def _command(*words: str) -> bytes:
    parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    return f"*{len(words)}\r\n{''.join(parts)}".encode()


async def _grpc(probe: Probe) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", probe.port)
    try:
        writer.write(_HTTP2_HELLO)
        header = await reader.readexactly(9)  # length (3), type (1), flags (1), stream (4)
        return header[3] == _HTTP2_SETTINGS
    finally:
        writer.close()


def _http(probe: Probe) -> bool:
    body = None if probe.body is None else json.dumps(probe.body).encode()
    request = urllib.request.Request(
        f"http://{probe.host}:{probe.port}{probe.path}", data=body, headers={"content-type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no business on this machine
    try:
        with opener.open(request, timeout=probe.timeout_s) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except (ValueError, http.client.HTTPException):  # what answers there speaks no HTTP
        return False


def _tail(log: Path, start: int) -> bytes:
    with log.open("rb") as file:
        file.seek(start)
        return file.read()
