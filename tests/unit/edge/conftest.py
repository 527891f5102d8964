"""Files that pass for a model's."""

from pathlib import Path

import pytest

from edge.exporting import ModelFolder


@pytest.fixture
def model(tmp_path: Path) -> ModelFolder:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    for name in ("modules.json", "1_Pooling/config.json", "model.safetensors", "code.py", "pytorch_model.bin"):
        (folder / name).write_text("{}")
    return ModelFolder(folder, "model")
