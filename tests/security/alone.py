"""`python -m tests.security.alone FOLDER FLAG...`, in a network of its own: a whole stack, and whom it tries to reach.

Every address of the world is an address of that network's loopback, and each packet there is looked at: an attempt to
reach anything outside is seen whatever process makes it, by whatever library, look-ups of names included. Prints JSON.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from tests.support.gateway import mock_upstream
from tests.support.stack import start_stack

NOBODY = "192.0.2.1"  # RFC 5737: what is tried before, to see that it is seen
_ALL = 0x0003  # ETH_P_ALL
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_PROTOCOLS = {6: "tcp", 17: "udp"}
_TOLD = (1, 58)  # ICMP, by which the kernel says that nobody listens
_IDLE_S = 8.0  # longer than telemetry waits, which counts from a start


class Watch:
    """Counts packets to addresses that are not this machine's own."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**25)
        self._socket.bind(("lo", 0))
        threading.Thread(target=self._look, daemon=True).start()

    def taken(self) -> dict[str, int]:
        """What was seen since it was last asked."""
        time.sleep(0.3)
        seen, self._seen = self._seen, Counter()
        return dict(seen)

    @property
    def missed(self) -> int:
        """Packets that came faster than they were looked at."""
        told = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        return int.from_bytes(told[4:8], sys.byteorder)

    def _look(self) -> None:
        while True:
            head = self._socket.recv(512)
            fourth = head[0] >> 4 == 4
            to = ip_address(head[16:20] if fourth else head[24:40])
            if not to.is_loopback and not to.is_multicast:
                protocol = head[9] if fourth else head[6]
                if protocol in _TOLD:
                    continue
                self._seen[f"{_PROTOCOLS.get(protocol, protocol)} {to}{_asked(head) if fourth else ''}"] += 1


def _asked(head: bytes) -> str:
    """The name that a packet over IPv4 asks for, where it is a look-up; empty: it is something else."""
    start = 4 * (head[0] & 15)
    if head[9] != 17 or int.from_bytes(head[start + 2 : start + 4], "big") != 53:
        return ""
    labels, at = [], start + 8 + 12
    while at < len(head) and (length := head[at]):
        labels.append(head[at + 1 : at + 1 + length].decode("latin-1"))
        at += 1 + length
    return f" for {'.'.join(labels)}"


def main() -> None:
    for command in ("ip link set lo up", "ip route add local default dev lo", "ip -6 route add local default dev lo"):
        subprocess.run(command.split(), check=True)
    watch = Watch()
    with socket.socket() as probe:
        probe.settimeout(1)
        probe.connect_ex((NOBODY, 443))
    told: dict[str, Any] = {"control": watch.taken()}
    folder, flags = Path(sys.argv[1]), sys.argv[2:]
    with mock_upstream() as upstream:
        config = folder / "stoker.yaml"
        config.write_text(
            "model_list:\n  - model_name: mock\n"
            f"    litellm_params: {{model: hosted_vllm/mock, api_base: 'http://127.0.0.1:{upstream.port}/v1'}}\n"
        )
        with start_stack(
            folder / "data", *flags, "--no-demo", "--config", str(config), env={"HF_HUB_OFFLINE": ""}
        ) as stack:
            told["start"] = watch.taken()
            model = stack.client.get("/v1/models").json()["data"]
            told["models"] = sorted(one["id"] for one in model)
            stack.ingest("notes", [{"title": "fares", "content": "The winter fare of the ferry is nine crowns."}])
            for one in told["models"] if "none" not in flags else ["mock"]:
                chat = {"model": one, "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 3}
                answer = stack.client.post("/v1/chat/completions", json=chat)
                told.setdefault("chats", {})[one] = answer.status_code
            asked = {"query": "What is the winter fare?", "collection": "notes", "model": "mock"}
            answer = stack.client.post("/v1/query", json=asked)
            told["query"] = [answer.status_code, len(answer.json().get("citations", []))]
            stack.client.get("/status")
            time.sleep(_IDLE_S)
    told["attempts"], told["missed"] = watch.taken(), watch.missed
    print(json.dumps(told))


if __name__ == "__main__":
    main()
