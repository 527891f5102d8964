"""A second embedding model for tests: the default one, whose rows are projected to fewer dimensions."""

import json
import subprocess
from pathlib import Path

from tests.support.engines import INFERENCE_PYTHON, ROOT, EngineFailed, prepare_model

NAME = "narrow"
DIMENSIONS = 64

_SCRIPT = """
import sys
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
base = SentenceTransformer(sys.argv[1], local_files_only=True)
torch.manual_seed(7)
dense = Dense(384, int(sys.argv[3]), bias=False, activation_function=torch.nn.Identity())
SentenceTransformer(modules=[base[0], base[1], dense, Normalize()]).save(sys.argv[2])
"""


def flags(folder: Path) -> tuple[str, str]:
    """Make the model in a folder. Returns: what lets the embedding server serve it too, as `NAME`."""
    base, _ = prepare_model("embedding")
    command = [str(INFERENCE_PYTHON), "-c", _SCRIPT, base, str(folder), str(DIMENSIONS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise EngineFailed(f"narrow model: {done.stderr[-1500:]}")
    return "--more-models", json.dumps({NAME: str(folder)})
