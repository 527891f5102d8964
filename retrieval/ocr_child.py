"""Text recognition: `python -m retrieval.ocr_child` in the environment of requirements/ocr.txt, started by a parser.

Reads a JSON line and then as many bytes as it says: {"width", "height", "stride", "channels", "bytes"} for pixels, or
{"number", "bytes"} for a picture of a file. Answers with one line of JSON: {"rejected": REASON}, or {"count", "lines"}
with lines as [left, top, right, bottom, text, certainty]. Ends with whoever started it.
"""

import ctypes
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

_PR_SET_PDEATHSIG = 1
_MOST_PIXELS = 100_000_000  # of a picture as it comes
_KEPT_PIXELS = 8_000_000  # more make recognition slow, and no better
_LONGEST_SIDE = 1600  # in which lines are looked for; they are read in full size
_THREADS = 2
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP")
_DAMAGED = "The picture is damaged or was cut off on its way: send it again, or save it anew."

Line = tuple[float, float, float, float, str, float]


def main() -> None:
    """Serve pictures until standard input ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    engine = _engine()
    while header := sys.stdin.buffer.readline():
        about = json.loads(header)
        data = sys.stdin.buffer.read(about["bytes"])
        answers.write(json.dumps(_answer(engine, about, data)).encode() + b"\n")
        answers.flush()


def _answer(engine: Any, about: dict[str, int], data: bytes) -> dict[str, Any]:
    if "width" in about:
        return {"count": 1, "lines": _lines(engine, _pixels(about, data))}
    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS // 2  # twice as many are an error
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as file:
            count = getattr(file, "n_frames", 1) if file.format == "TIFF" else 1  # of what moves, the first picture
            file.seek(about["number"])
            if file.width * file.height > _MOST_PIXELS:
                raise Image.DecompressionBombError
            upright = ImageOps.exif_transpose(file)
            shrunk = min(1.0, (_KEPT_PIXELS / max(1, upright.width * upright.height)) ** 0.5)
            size = (max(1, round(upright.width * shrunk)), max(1, round(upright.height * shrunk)))
            picture = _opaque(upright).resize(size) if shrunk < 1 else _opaque(upright)
    except Image.DecompressionBombError:
        return {"rejected": f"The picture has more than {_MOST_PIXELS:,} pixels: send a smaller one."}
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError, OverflowError):
        return {"rejected": _DAMAGED}
    return {"count": count, "lines": _lines(engine, np.asarray(picture))}


def _opaque(picture: Image.Image) -> Image.Image:
    """On white, in RGB."""
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    with_alpha = picture.convert("RGBA")
    white = Image.new("RGBA", with_alpha.size, "white")
    return Image.alpha_composite(white, with_alpha).convert("RGB")


def _pixels(about: dict[str, int], data: bytes) -> np.ndarray[Any, Any]:
    rows = np.frombuffer(data, np.uint8)[: about["height"] * about["stride"]].reshape(about["height"], about["stride"])
    pixels = rows[:, : about["width"] * about["channels"]].reshape(about["height"], about["width"], about["channels"])
    return np.ascontiguousarray(pixels[:, :, :3] if about["channels"] >= 3 else np.repeat(pixels[:, :, :1], 3, axis=2))


def _lines(engine: Any, pixels: np.ndarray[Any, Any]) -> Sequence[Line]:
    found = engine(np.ascontiguousarray(pixels[:, :, ::-1]))  # it takes blue first
    if found.boxes is None or found.txts is None:
        return []
    lines: list[Line] = []
    for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
        (left, top), (right, bottom) = box.min(axis=0), box.max(axis=0)
        lines.append((float(left), float(top), float(right), float(bottom), str(text), float(score)))
    return lines


def _engine() -> Any:
    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    return RapidOCR(
        params={
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": _THREADS,
            "Det.limit_type": "max",  # small pictures are not made larger, which costs seconds
            "Det.limit_side_len": _LONGEST_SIDE,
        }
    )


if __name__ == "__main__":
    main()
