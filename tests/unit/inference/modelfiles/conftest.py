"""A hub, and a store of models that fetches from it."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from inference.modelfiles.claims import Claims
from inference.modelfiles.hub import Hub
from inference.modelfiles.store import Store
from tests.support.hub import FakeHub, Model, fake_hub

WEIGHTS = bytes(range(256)) * 1200  # some 300 kB: more than one read of a socket


def small_model(**more: bytes) -> Model:
    files = {
        "config.json": b'{"model_type": "llama"}',
        "tokenizer.json": b"{}",
        "model.safetensors": WEIGHTS,
        "pytorch_model.bin": b"a pickle",
        "README.md": b"# A model",
        **{name.replace("__", "."): data for name, data in more.items()},
    }
    return Model(files, frozenset({"model.safetensors", "pytorch_model.bin"}))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that holds `acme/tiny`; nothing of this machine's own token or cache is seen."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()
    with fake_hub() as found:
        found.models["acme/tiny"] = small_model()
        yield found
    huggingface_hub.close_session()


@pytest.fixture
def client(hub: FakeHub) -> Hub:
    """Our side of it, which does not pause."""
    return Hub(hub.url, pause_s=0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    folder = tmp_path / "models"
    return Store(folder, Claims(folder, pause=_never))


def _never(_seconds: float) -> None:
    raise AssertionError("it waits for another process, and there is none")
