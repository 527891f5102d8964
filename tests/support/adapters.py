"""LoRA adapters for tests: made of random numbers, large enough to change what is said."""

import json
from pathlib import Path

import numpy as np

RANK = 8


def make_adapter(model: Path, folder: Path, seed: int) -> Path:
    """Write an adapter of q_proj and v_proj for a Llama-shaped model in Hugging Face's layout, as PEFT would.

    Args:
        model: its folder, of which only config.json is read.

    Returns: the adapter's folder.
    """
    config = json.loads((model / "config.json").read_text())
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    size = config.get("head_dim") or hidden // heads
    widths = {"q_proj": heads * size, "v_proj": config["num_key_value_heads"] * size}
    of = np.random.default_rng(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for part, width in widths.items():
            name = f"base_model.model.model.layers.{layer}.self_attn.{part}"
            tensors[f"{name}.lora_A.weight"] = of.normal(0, 0.2, (RANK, hidden)).astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = of.normal(0, 0.2, (width, RANK)).astype(np.float32)
    folder.mkdir(parents=True)
    described = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK, "target_modules": list(widths),
        "base_model_name_or_path": str(model), "bias": "none", "lora_dropout": 0.0,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(described))
    _write_safetensors(folder / "adapter_model.safetensors", tensors)
    return folder


def _write_safetensors(file: Path, tensors: dict[str, "np.ndarray"]) -> None:
    """Source: https://huggingface.co/docs/safetensors, "Format"."""
    header, offset = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            out.write(tensor.tobytes())
