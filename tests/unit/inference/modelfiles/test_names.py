"""Names of models, paths of files, and which files are needed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.modelfiles.choice import needed, needed_gguf
from inference.modelfiles.errors import NameRefused, NotFound, NoWeights
from inference.modelfiles.names import ModelName, safe_path


@pytest.mark.parametrize(
    ("text", "folder", "served"),
    [
        ("org/Name", "org--Name", "Name"),
        ("gpt2", "gpt2", "gpt2"),
        ("org/Name@main", "org--Name", "Name"),
        ("org/Name@v1.0", "org--Name@v1.0", "Name"),
        ("org/Name@refs/pr/1", "org--Name@refs--pr--1", "Name"),
        ("org/Name:sub/a-Q4.gguf@v1", "org--Name--sub--a-Q4.gguf@v1", "Name"),
    ],
)
def test_a_name_has_a_folder_and_a_name_to_serve(text: str, folder: str, served: str) -> None:
    name = ModelName.parse(text)
    assert (name.folder, name.served) == (folder, served)
    assert ModelName.parse(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "org/", "/Name", "../x", "org/..", ".", "..", "a/b/c", "org/Na me", "org/Name@", "org/Name@../x",
        "org/Name:", "org/Name:x.bin", "org/Name:../x.gguf", "org/Name:/x.gguf", "org--x/Name", "org/.hidden", "-x/y",
        "org/Name\n", "x" * 300, "org/Name@a//b", "org/Name@a/../b", "~/x", "org\\x",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(NameRefused, match=r"is no name of a model|too long"):
        ModelName.parse(text)


@given(st.text(max_size=60))
def test_no_text_at_all_names_a_folder_elsewhere(text: str) -> None:
    try:
        folder = ModelName.parse(text).folder
    except NameRefused:
        return
    assert "/" not in folder
    assert not folder.startswith(".")


@pytest.mark.parametrize(
    "path", ["", "/x", "../x", "a/../b", "a//b", "./a", "a/", "a\\b", "a\0b", "a\nb", "x" * 256, "a/" * 600]
)
def test_a_path_that_could_leave_its_folder_is_refused(path: str) -> None:
    with pytest.raises(NameRefused):
        safe_path(path)


def test_weights_come_in_one_form_with_all_that_belongs_to_them() -> None:
    files = [
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "merges.txt", "vocab.json",
        "chat_template.jinja", "additional_chat_templates/tool.jinja", "LICENSE", "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors", "model.safetensors.index.json",
    ]  # fmt: skip
    others = [
        "README.md", ".gitattributes", "pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5",
        "consolidated.safetensors", "original/consolidated.00.pth", "onnx/model.onnx", "onnx/config.json",
        "training_args.bin", "image.png", "modeling_x.py", "runs/x.json", "stoker.json", "a.gguf",
    ]  # fmt: skip
    assert needed([*files, *others], "x") == sorted(files)


def test_pickles_come_only_where_there_is_nothing_else_folder_by_folder() -> None:
    files = [
        "config.json", "modules.json", "model.safetensors", "1_Pooling/config.json", "2_Dense/config.json",
        "2_Dense/pytorch_model.bin",
    ]  # fmt: skip
    assert needed([*files, "pytorch_model.bin"], "x") == sorted(files)
    split = ["config.json", "pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"]
    assert needed([*split, "optimizer.bin"], "x") == split
    assert needed(["params.json", "consolidated.safetensors"], "x") == ["consolidated.safetensors", "params.json"]


def test_one_part_of_a_gguf_is_no_model() -> None:
    with pytest.raises(NoWeights, match="one part of several"):
        needed_gguf(["a-00001-of-00002.gguf"], "x", "a-00001-of-00002.gguf")
    with pytest.raises(NotFound, match="it has no GGUF files"):
        needed_gguf(["model.safetensors"], "x", "a.gguf")
