"""The golden scrapes, each with figures computed by hand; the rules of Prometheus are held against them, too.

Every interval is 120 s long. A GPU's hour costs 2.40 USD, so 0.08 USD an interval; the hosted model 0.15 USD for a
million tokens read and 0.60 USD for a million written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from monitoring.gpus.engines import Tokens
from monitoring.gpus.figures import Figures, Prices
from monitoring.gpus.placement import Place, places

SECONDS = 120.0
PRICES = Prices(gpu_usd_per_hour=2.40, hosted_prompt_usd=0.15, hosted_completion_usd=0.60)
MIB = 1024 * 1024
U0, U1, U2 = (f"GPU-{4 * str(n)}{4 * str(n)}-{4 * str(n)}-4{3 * str(n)}-8{3 * str(n)}-{12 * str(n)}" for n in range(3))
_FOLDER = Path(__file__).parent / "scrapes"


@dataclass(frozen=True)
class Shape:
    """One scrape at the interval's end.

    Attributes:
        places: of the configuration.
        joules: GPU to the energy of the interval, in which its counter rose evenly.
        tokens: deployment to its tokens of the interval.
        expected: computed by hand.
        pods: deployment to `NAMESPACE/NAME` of its engine, in Kubernetes.
    """

    scrape: str
    places: tuple[Place, ...]
    joules: Mapping[str, float]
    tokens: Mapping[str, Tokens]
    expected: tuple[Figures, ...]
    pods: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return (_FOLDER / f"{self.scrape}.prom").read_text()


# 350 W * 120 s = 42,000 J; 12,600 / 120 s = 105; 12,600 / 42,000 J = 0.3; 0.08 USD / 50,000 * 10^6 = 1.6;
# (37,400 * 0.15 + 12,600 * 0.60) / 50,000 = 0.2634; a quarter of the time is idle: 0.02 USD.
_ALONE = Figures(
    deployment="qwen-1",
    model="qwen",
    gpus=1,
    power_watts=350,
    energy_joules=42_000,
    memory_used_bytes=61_440 * MIB,
    memory_free_bytes=20_480 * MIB,
    tokens_per_gpu_s=105,
    tokens_per_joule=0.3,
    usd=0.08,
    usd_per_million_tokens=1.6,
    hosted_usd_per_million_tokens=0.2634,
    idle_usd=0.02,
)
_ALONE_TOKENS = {"qwen-1": Tokens(generated=12_600, prompt=37_400)}


def _alone(scrape: str, place: Place, pods: Mapping[str, str] | None = None) -> Shape:
    return Shape(scrape, (place,), {U0: 42_000}, _ALONE_TOKENS, (_ALONE,), pods or {})


_POD = Place("qwen-1", "qwen", pods=("models/qwen-*",))
_PODS = {"qwen-1": "models/qwen-7d9c-x2x1z"}

SHAPES = {
    "host label, old": _alone("host_label_old", Place("qwen-1", "qwen", gpus=("gpu-1:0",))),
    "host label, new": _alone("host_label_new", Place("qwen-1", "qwen", gpus=("gpu-1:0",))),
    "honor_labels on": _alone("honor_labels_on", _POD, _PODS),
    "honor_labels off": _alone("honor_labels_off", _POD, _PODS),
    # Two exporters tell of the GPU, each under a host name of its own, and either name finds it.
    "two host names, by the one": _alone("two_host_names", Place("qwen-1", "qwen", gpus=("gpu-1:0",))),
    "two host names, by the other": _alone("two_host_names", Place("qwen-1", "qwen", gpus=("a1b2c3:0",))),
    "job file": _alone("job_file", Place("qwen-1", "qwen")),
    "pod label": _alone("pod_label", Place("qwen-1", "qwen")),
    # 500 + 300 W; 24,000 / 120 s / 2 = 100; 24,000 / 96,000 J = 0.25; 2 * 0.08 USD; 0.16 / 100,000 * 10^6 = 1.6;
    # (76,000 * 0.15 + 24,000 * 0.60) / 100,000 = 0.258; idle (0.1 + 0.3) * 0.08 = 0.032. What nobody has idles wholly.
    "several GPUs of one model": Shape(
        "several_gpus",
        (Place("qwen-1", "qwen", gpus=("gpu-1:0", U1)),),
        {U0: 60_000, U1: 36_000, U2: 7_200},
        {"qwen-1": Tokens(generated=24_000, prompt=76_000)},
        (
            Figures(
                deployment="qwen-1",
                model="qwen",
                gpus=2,
                power_watts=800,
                energy_joules=96_000,
                memory_used_bytes=143_360 * MIB,
                memory_free_bytes=20_480 * MIB,
                tokens_per_gpu_s=100,
                tokens_per_joule=0.25,
                usd=0.16,
                usd_per_million_tokens=1.6,
                hosted_usd_per_million_tokens=0.258,
                idle_usd=0.032,
            ),
            Figures(
                deployment="",
                model="",
                gpus=1,
                power_watts=60,
                energy_joules=7_200,
                memory_used_bytes=920 * MIB,
                memory_free_bytes=81_000 * MIB,
                tokens_per_gpu_s=None,
                tokens_per_joule=None,
                usd=0.08,
                usd_per_million_tokens=None,
                hosted_usd_per_million_tokens=None,
                idle_usd=0.08,
            ),
        ),
    ),
    # 9,000 of 12,000 generated tokens: three quarters of 400 W, of 48,000 J and of 0.08 USD; memory in halves.
    # chat: 75 / s / 0.75 = 100; 9,000 / 36,000 J = 0.25; 0.06 / 60,000 * 10^6 = 1;
    # (51,000 * 0.15 + 9,000 * 0.60) / 60,000 = 0.2175; small: the same of a quarter and a third of the tokens.
    "several models of one GPU": Shape(
        "several_models",
        (Place("chat", "qwen"), Place("small", "tiny")),
        {U0: 48_000},
        {"chat": Tokens(generated=9_000, prompt=51_000), "small": Tokens(generated=3_000, prompt=17_000)},
        (
            Figures(
                deployment="chat",
                model="qwen",
                gpus=0.75,
                power_watts=300,
                energy_joules=36_000,
                memory_used_bytes=30_720 * MIB,
                memory_free_bytes=10_240 * MIB,
                tokens_per_gpu_s=100,
                tokens_per_joule=0.25,
                usd=0.06,
                usd_per_million_tokens=1.0,
                hosted_usd_per_million_tokens=0.2175,
                idle_usd=0.006,
            ),
            Figures(
                deployment="small",
                model="tiny",
                gpus=0.25,
                power_watts=100,
                energy_joules=12_000,
                memory_used_bytes=30_720 * MIB,
                memory_free_bytes=10_240 * MIB,
                tokens_per_gpu_s=100,
                tokens_per_joule=0.25,
                usd=0.02,
                usd_per_million_tokens=1.0,
                hosted_usd_per_million_tokens=0.2175,
                idle_usd=0.002,
            ),
        ),
    ),
    # 210 W and 25,200 J once, three quarters to qwen (5,670 of 7,560 tokens), though three instances repeat them;
    # memory is that of the instances. Of 5 slices qwen has 3, a tenth of the time idle: 3 / 5 * 0.1 * 0.08 = 0.0048
    # USD; tiny 1, 0.6 of it: 1 / 5 * 0.6 * 0.08 = 0.0096; nobody 1, idle wholly: 0.016. So the GPU is active for
    # (3 * 0.9 + 1 * 0.4 + 1 * 0) / 5 = 0.62 and idle for 0.38 * 0.08 = 0.0304 USD together.
    "MIG": Shape(
        "mig",
        (Place("qwen-1", "qwen", pods=("models/qwen-*",)), Place("tiny-1", "tiny", pods=("models/tiny-*",))),
        {U0: 25_200},
        {"qwen-1": Tokens(generated=5_670, prompt=14_330), "tiny-1": Tokens(generated=1_890, prompt=3_110)},
        (
            Figures(
                deployment="qwen-1",
                model="qwen",
                gpus=0.75,
                power_watts=157.5,
                energy_joules=18_900,
                memory_used_bytes=30_208 * MIB,
                memory_free_bytes=10_240 * MIB,
                tokens_per_gpu_s=63,
                tokens_per_joule=0.3,
                usd=0.06,
                usd_per_million_tokens=3.0,
                hosted_usd_per_million_tokens=0.277575,
                idle_usd=0.0048,
            ),
            Figures(
                deployment="tiny-1",
                model="tiny",
                gpus=0.25,
                power_watts=52.5,
                energy_joules=6_300,
                memory_used_bytes=7_168 * MIB,
                memory_free_bytes=2_560 * MIB,
                tokens_per_gpu_s=63,
                tokens_per_joule=0.3,
                usd=0.02,
                usd_per_million_tokens=4.0,
                hosted_usd_per_million_tokens=0.3201,
                idle_usd=0.0096,
            ),
            Figures(
                deployment="",
                model="",
                gpus=0,
                power_watts=0,
                energy_joules=0,
                memory_used_bytes=0,
                memory_free_bytes=9_728 * MIB,
                tokens_per_gpu_s=None,
                tokens_per_joule=None,
                usd=0,
                usd_per_million_tokens=None,
                hosted_usd_per_million_tokens=None,
                idle_usd=0.016,
            ),
        ),
        {"qwen-1": "models/qwen-0", "tiny-1": "models/tiny-0"},
    ),
    # vLLM counts the tokens of all its adapters under the name of the model that they are of, so the engine is one
    # place, whichever of its names has its GPU: 400 W * 120 s = 48,000 J; 96,000 / 48,000 J = 2; 96,000 / 120 s = 800;
    # 0.08 USD / 128,000 * 10^6 = 0.625; (32,000 * 0.15 + 96,000 * 0.60) / 128,000 = 0.4875; active 0.9, as scraped.
    "adapters on one engine": Shape(
        "several_models",
        places(
            {
                "model_name": name,
                "litellm_params": {"model": f"hosted_vllm/{name}", "api_base": base},
                "model_info": {"gpus": gpus},
            }
            for name, base, gpus in (
                ("base", "http://e:8000/v1", ["gpu-1:0"]),
                ("adapter", "http://E:8000/v1/", [U0]),
                ("second", "http://e:8000", []),
            )
        ),
        {U0: 48_000},
        {"base-1": Tokens(generated=96_000, prompt=32_000)},
        (
            Figures(
                deployment="base-1",
                model="base",
                gpus=1,
                power_watts=400,
                energy_joules=48_000,
                memory_used_bytes=61_440 * MIB,
                memory_free_bytes=20_480 * MIB,
                tokens_per_gpu_s=800,
                tokens_per_joule=2,
                usd=0.08,
                usd_per_million_tokens=0.625,
                hosted_usd_per_million_tokens=0.4875,
                idle_usd=0.008,
            ),
        ),
    ),
}


# qwen's engine stands still while its neighbour, whose instance is busy, has all of the tokens: qwen pays for no power,
# and for 3 / 5 * 0.08 = 0.048 USD of idle time; tiny for none. 3,780 tokens: / 120 s = 31.5; / 25,200 J = 0.15;
# 0.08 USD / 10,000 * 10^6 = 8; (6,220 * 0.15 + 3,780 * 0.60) / 10,000 = 0.3201.
_QWEN, _TINY, _REST = SHAPES["MIG"].expected
SHAPES["MIG, one stands still"] = replace(
    SHAPES["MIG"],
    scrape="mig_idle",
    tokens={"qwen-1": Tokens(generated=0, prompt=0), "tiny-1": Tokens(generated=3_780, prompt=6_220)},
    expected=(
        replace(
            _QWEN,
            gpus=0,
            power_watts=0,
            energy_joules=0,
            tokens_per_gpu_s=None,
            tokens_per_joule=None,
            usd=0,
            usd_per_million_tokens=None,
            hosted_usd_per_million_tokens=None,
            idle_usd=0.048,
        ),
        replace(
            _TINY,
            gpus=1,
            power_watts=210,
            energy_joules=25_200,
            tokens_per_gpu_s=31.5,
            tokens_per_joule=0.15,
            usd=0.08,
            usd_per_million_tokens=8,
            hosted_usd_per_million_tokens=0.3201,
            idle_usd=0,
        ),
        _REST,
    ),
)
# The same, where the configuration names the instances.
_NAMED = replace(
    SHAPES["MIG"],
    places=(Place("qwen-1", "qwen", gpus=("gpu-1:0/1",)), Place("tiny-1", "tiny", gpus=(f"{U0}/7",))),
    pods={},
)
SHAPES["MIG, by configuration"] = _NAMED
# Where it names the GPU alone, a deployment has all of its instances.
SHAPES["MIG, the GPU by configuration"] = replace(
    SHAPES["MIG"],
    places=(Place("qwen-1", "qwen", gpus=("gpu-1:0",)),),
    tokens={"qwen-1": Tokens(generated=7_560, prompt=22_440)},
    pods={},
    # 7,560 / 120 s = 63; / 25,200 J = 0.3; 0.08 USD / 30,000 * 10^6 = 2.6667; (22,440 * 0.15 + 7,560 * 0.60) / 30,000.
    expected=(
        replace(
            _QWEN,
            gpus=1,
            power_watts=210,
            energy_joules=25_200,
            memory_used_bytes=37_376 * MIB,
            memory_free_bytes=22_528 * MIB,
            usd=0.08,
            usd_per_million_tokens=8 / 3,
            hosted_usd_per_million_tokens=0.2634,
            idle_usd=0.0304,
        ),
    ),
)
# Our own reader says power once and no utilisation, so nothing is known of idle time.
SHAPES["MIG, of our own reader"] = replace(
    _NAMED,
    scrape="mig_own_reader",
    expected=tuple(replace(figures, idle_usd=None) for figures in SHAPES["MIG"].expected),
)


def scrape(name: str) -> str:
    """The text of one golden scrape."""
    return (_FOLDER / f"{name}.prom").read_text()
