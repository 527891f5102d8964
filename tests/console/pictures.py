"""`python -m tests.console.pictures`: takes the pictures of docs/console.md, of every page, in docs/console.

Wide ones in light and dark, phone ones in light; each is as small as a PNG of so few colours can be.
"""

import base64
import struct
import sys
import time
import zlib
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from playwright.sync_api import Browser, sync_playwright

from api.ledger.line import row
from core.ids import unique_hex
from storage.schema import ledger
from tests.console.house import LARGE, MODEL, house
from tests.console.visitor import PHONE, WIDE, Visitor, visitor
from tests.support.answering import Desk
from tests.support.chromium import chromium
from tests.support.engines import start_embeddings
from tests.support.ledger import a_line
from tests.support.milvus import milvus_server
from tests.support.openai_server import openai_server_in_thread
from tests.support.process import ROOT

FOLDER = ROOT / "docs" / "console"
# The 256 most frequent colours, and the nearest of them for each other one.
_COUNTED = """async (text) => {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, image.width, image.height);
  const pixels = new Uint32Array(data.buffer);
  const counts = new Map();
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) || 0) + 1);
  const palette = [...counts].sort(([, one], [, other]) => other - one).slice(0, 256).map(([pixel]) => pixel);
  const parts = (pixel) => [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255];
  const known = palette.map(parts);
  const places = new Map(palette.map((pixel, at) => [pixel, at]));
  for (const pixel of counts.keys()) {
    if (places.has(pixel)) continue;
    const [red, green, blue] = parts(pixel);
    let best = 0;
    let least = Infinity;
    known.forEach(([r, g, b], at) => {
      const far = (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2;
      if (far < least) [least, best] = [far, at];
    });
    places.set(pixel, best);
  }
  let found = "";
  for (const pixel of pixels) found += String.fromCharCode(places.get(pixel));
  return { wide: image.width, high: image.height, palette: known.flat(), places: btoa(found) };
}"""
QUESTION = "When does the ferry to Wellhaven leave?"
ANSWER = "The ferry to Wellhaven leaves at 07:45 every day. It leaves from the eastern quay."
FILES = {
    "ferry.md": f"# Ferry\n\n{ANSWER} Tickets are sold on board, and bicycles travel free of charge.",
    "lighthouse.txt": "The lighthouse of Wellhaven was built in 1872. It is painted white and stands 31 metres high.",
    "tides.csv": "day,high,low\nMonday,06:12,12:31\nTuesday,07:01,13:22\n",
    "harbour rules.md": "# Rules\n\nBoats moor at the northern pier. The speed limit is 4 knots.",
    "empty.txt": " ",
}
PLACES = {
    "start": "Welcome",
    "chat": "Chat",
    "documents": "harbour",
    "search": "harbour",
    "usage": "Usage of your tenant",
    "keys": "Keys and people",
    "operations": "Operations",
}


def main() -> int:
    """Take them. Returns: an exit status."""
    found = chromium()
    FOLDER.mkdir(exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        engine = stack.enter_context(start_embeddings(folder))
        milvus_uri = stack.enter_context(milvus_server(folder / "milvus"))
        server = stack.enter_context(openai_server_in_thread())
        server.script = lambda *_: ANSWER
        desk = stack.enter_context(house(folder / "house", milvus_uri, engine.url, server))
        furnish(desk)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(
            executable_path=str(found.program), env=dict(found.env), args=["--no-sandbox", "--disable-gpu"]
        )
        stack.callback(browser.close)
        for name, about in {
            "light": {"viewport": WIDE},
            "dark": {"viewport": WIDE, "color_scheme": "dark"},
            "phone": {"viewport": PHONE},
        }.items():
            take(browser, desk, name, about)
    total = sum(file.stat().st_size for file in FOLDER.glob("*.png"))
    print(f"{len(list(FOLDER.glob('*.png')))} pictures, {total / 1e6:.2f} MB")
    return 0


def take(browser: Browser, desk: Desk, name: str, about: dict[str, Any]) -> None:
    """Take a picture of every page."""
    one = visitor(browser, desk.gate.url, **about)
    one.page.goto(f"{one.url}/")
    one.page.get_by_label("API key").wait_for()
    shoot(one, f"sign-in-{name}")
    one.enter(desk.gate.key)
    for place, heading in PLACES.items():
        if place == "chat":
            chat(one)
        elif place == "search":
            search(one)
        else:
            one.go("documents/harbour" if place == "documents" else place, heading)
        one.page.locator(".loading").first.wait_for(state="detached")
        one.page.wait_for_timeout(6_500 if place == "operations" else 700)  # of which speeds are seen
        shoot(one, f"{place}-{name}")
        if place == "chat":
            one.page.locator(".chip").first.click()
            one.page.locator("dialog mark").wait_for()
            shoot(one, f"source-{name}")
            one.page.keyboard.press("Escape")
    one.page.context.close()


def chat(one: Visitor) -> None:
    one.go("chat/new", "Chat")
    one.ask(QUESTION, documents="harbour", model=MODEL)
    one.answer().locator(".facts").get_by_text("$").wait_for()


def search(one: Visitor) -> None:
    one.go("documents/harbour/search", "harbour")
    one.page.reload()
    one.page.get_by_label("Count values of").fill("kind")
    one.page.get_by_role("searchbox", name="Search").fill("when does it leave")
    one.page.keyboard.press("Enter")
    one.page.locator(".facet").first.wait_for()


def shoot(one: Visitor, name: str) -> None:
    one.page.mouse.move(0, 0)
    (FOLDER / f"{name}.png").write_bytes(small(one, one.page.screenshot()))


def small(one: Visitor, picture: bytes) -> bytes:
    """The same picture with 256 colours at most; the browser counts them, in a tab of its own."""
    tab = one.page.context.browser.new_page()  # type: ignore[union-attr]
    found = tab.evaluate(_COUNTED, base64.b64encode(picture).decode())
    tab.close()
    wide, high = found["wide"], found["high"]
    rows = base64.b64decode(found["places"])
    raw = b"".join(b"\0" + rows[at * wide : (at + 1) * wide] for at in range(high))
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", wide, high, 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(found["palette"])),
        (b"IDAT", zlib.compress(raw, 9)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Source: PNG specification, "Chunk layout"."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def furnish(desk: Desk) -> None:
    """Fill the house with what one sees after some weeks."""
    client = desk.client
    client.post("/v1/collections", json={"name": "harbour", "description": "Timetables and rules of the harbour"})
    for name, text in FILES.items():
        sent = {"collection": "harbour", "metadata": '{"kind": "timetable"}' if name[0] in "ft" else '{"kind": "rule"}'}
        job = client.post("/v1/ingest", files=[("file", (name, text.encode()))], data=sent).json()["job_id"]
        while client.get(f"/v1/jobs/{job}").json()["status"] in ("queued", "running"):
            time.sleep(0.1)
    teams = [client.post("/v1/admin/teams", json={"name": name}).json()["id"] for name in ("pilots", "office")]
    keys = []
    for number, name in enumerate(("timetable bot", "tide watch", "ticket desk", "night crew", "museum guide")):
        limits = {"rpm": 60 * (number + 1), "usd_per_month": "25"}
        about = {"name": name, "team": teams[number % 2], "limits": limits}
        keys.append((client.post("/v1/admin/keys", json=about).json()["id"], teams[number % 2]))
    client.delete(f"/v1/admin/keys/{keys[-1][0]}")
    client.put(f"/v1/admin/limits/tenant/{client.get('/v1/session').json()['tenant']}", json={"usd_per_month": "40"})
    for question in ("Who lights the tower?", "Which tide comes first?", QUESTION):
        client.post("/v1/conversations", json={"title": question})
    spend(desk, keys)


def spend(desk: Desk, keys: list[tuple[str, str]]) -> None:
    """Lines of the ledger of four weeks, fewer at week-ends."""
    now, lines = time.time(), []
    for day in range(28):
        at = now - 86_400 * day
        busy = 2 if time.gmtime(at).tm_wday > 4 else 5 + day * 7 % 4
        for number in range(busy * 3):
            key_id, team_id = keys[number % len(keys)]
            model = LARGE if number % 3 == 0 else MODEL
            tokens = 40_000 + 9_000 * (number % 5)
            line = a_line(f"{unique_hex()}.req_{day}_{number}", key_id=key_id, team_id=team_id, model_group=model)
            money = tokens * (520 if model == LARGE else 70)
            lines.append(replace(line, at=at - number, tokens_in=tokens, tokens_out=tokens // 9, nano_usd=money))
    engine = sa.create_engine(f"sqlite:///{desk.gate.folder / 'stoker.db'}")
    with engine.begin() as connection:
        connection.execute(ledger.insert(), [row(line) for line in lines])
    engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
