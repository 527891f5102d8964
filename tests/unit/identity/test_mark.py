"""The mark that workers of one host share."""

import subprocess
import sys
from pathlib import Path

from api.mark import HostMark


def test_a_move_is_seen_by_every_worker_also_in_another_process(tmp_path: Path) -> None:
    file = tmp_path / "new" / "mark"
    one, other = HostMark(file), HostMark(file)
    seen = {one.read()}
    one.move()
    assert other.read() == one.read()
    assert other.read() not in seen
    seen.add(other.read())
    code = f"from pathlib import Path; from api.mark import HostMark; HostMark(Path({str(file)!r})).move()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
    assert one.read() not in seen
    one.close()
    other.close()


def test_a_restart_finds_the_mark_where_it_stood(tmp_path: Path) -> None:
    mark = HostMark(tmp_path / "mark")
    mark.move()
    stood = mark.read()
    mark.close()
    again = HostMark(tmp_path / "mark")
    assert again.read() == stood
    again.close()
