"""`python -m tests.unit.monitoring.counting_on_a_full_disk FOLDER`: counts while the folder's file system is full.

Prints what its metrics tell then, and once there is room again, as JSON.
"""

import json
import os
import sys
from pathlib import Path


def main(folder: Path) -> None:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
    (folder / "metrics").mkdir()
    from prometheus_client import Counter, Gauge

    from monitoring import mapped, metrics

    metrics.REQUESTS.labels("/v1/old", "GET", "200").inc(2)
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for step in (2**16, 2**12, 1):
            try:
                while file.write(bytes(step)) == step:
                    pass
            except OSError:
                pass
    metrics.REQUESTS.labels("/v1/old", "GET", "200").inc()
    for number in range(1500):
        metrics.REQUESTS.labels(f"/v1/new/{number}", "GET", "200").inc()
    metrics.REQUESTS.labels("/v1/old", "GET", "200").inc(2)
    Gauge("late", "A kind that had no file.", multiprocess_mode="min").set(1)
    Counter("never", "Another series of a file that is in memory.").inc()
    empty = [file.name for file in (folder / "metrics").iterdir() if not file.stat().st_size]
    full = _counts()
    filler.unlink()
    mapped.come_back()
    metrics.REQUESTS.labels("/v1/old", "GET", "200").inc()
    room = _counts()
    new = sum(count for name, count in room.items() if "/v1/new/" in name)
    old = 'stoker_requests_total{method="GET",route="/v1/old",status="200"}'
    held = metrics.REQUESTS.labels("/v1/old", "GET", "200")._value.get()
    told = {
        "while full": {"old": held - 1, "in files": full[old], "empty": empty},
        "with room": {"old": room[old], "new": new, "late": room["late"], "in memory": len(mapped._away)},
    }
    print(json.dumps(told))


def _counts() -> dict[str, float]:
    from monitoring import metrics

    lines = metrics.exposition()[0].decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
