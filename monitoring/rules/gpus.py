"""The join of GPUs and deployments inside Prometheus: what `monitoring.gpus` does, as recording rules.

Engines are scraped with the label `deployment` (and in Kubernetes with `namespace` and `pod`); GPUs by dcgm-exporter
or our NVML reader, with `honor_labels` on or off. An engine's pod, or a container, job or pod label of the
deployment's name, places it; where the configuration does, by `model_info.gpus`, that alone counts, and becomes
`stoker:gpu_configured`. Differences from `monitoring.gpus`: `model_info.pods` and `containers` are not looked at; and
memory of the whole GPU that is repeated for its instances is not noticed.

A GPU is known by its UUID. Exporters may call it by several names of host and index, two at once or one after the
other: of those one is shown, and no figure hangs on it. Where a side of a match has to be single, it is made so
(`_one`): where it isn't, Prometheus evaluates the rule for nobody.
"""

from collections.abc import Iterable

from monitoring.gpus import readings
from monitoring.gpus.engines import GENERATED, PROMPT
from monitoring.gpus.figures import Prices
from monitoring.gpus.placement import Place
from monitoring.rules.form import Group, Recording

RUNNING = "vllm:num_requests_running"
_WINDOW = "5m"
_GPU = "UUID, host, gpu"
_PART = "UUID, GPU_I_ID"
_ANY = f'{{__name__=~"{"|".join(readings.NAMES)}"}}'
_SLICES = (1, 2, 3, 4, 6, 7)  # compute slices that a MIG profile may have, the digit before its `g`


def prices(given: Prices) -> Group:
    """What GPUs and the hosted model cost, as series, so that rules and panels read one place."""
    return Group(
        "stoker-prices",
        [
            Recording(
                "stoker:gpu_price_usd_per_hour", f"vector({given.gpu_usd_per_hour})", "price of a GPU's hour, USD"
            ),
            Recording(
                "stoker:hosted_prompt_price_usd",
                f"vector({given.hosted_prompt_usd})",
                "hosted price of a million tokens read, USD",
            ),
            Recording(
                "stoker:hosted_completion_price_usd",
                f"vector({given.hosted_completion_usd})",
                "hosted price of a million tokens written, USD",
            ),
        ],
    )


def seen() -> Group:
    """Which GPUs and engines there are, and what exporters say of who has them."""
    owned = f"{_PART}, of_namespace, of_pod, of_container, hpc_job, {readings.POD_LABEL}"
    return Group(
        "stoker-seen",
        [
            Recording(
                "stoker:engine",
                f"max by (deployment, model, namespace, pod) ({_renamed(RUNNING, 'model_name', 'model')}) * 0 + 1",
                "1 for each engine that is scraped",
            ),
            Recording(
                "stoker:gpu_called",
                f"group by ({_GPU}) ({_host(_ANY)})",
                "1 for each GPU and name that it is told under",
            ),
            Recording("stoker:gpu", _one("UUID", "stoker:gpu_called"), "1 for each GPU, under one of its names"),
            Recording("stoker:gpu_part", _parts(), "compute slices of each MIG instance, 1 of a whole GPU"),
            Recording(
                "stoker:gpu_seen", f"group by ({owned}) ({_owned(_ANY)})", "1 for each part of a GPU, and who has it"
            ),
            Recording(
                "stoker:gpu_lost",
                _lost(),
                "1 for each GPU that was told of within an hour, and is not while its host is",
            ),
        ],
    )


def placement(places: Iterable[Place]) -> Group:
    """Where the configuration says that deployments run; a GPU's name stands for all of its parts."""
    rules = []
    for place in places:
        for gpu in place.gpus:
            where, _, instance = gpu.partition("/")
            host, colon, index = where.rpartition(":")
            part = "stoker:gpu_part" + (f'{{GPU_I_ID="{instance}"}}' if instance else "")
            called = f'host="{host}",gpu="{index}"' if colon else f'UUID="{where}"'
            rules.append(
                Recording(
                    "stoker:gpu_configured",
                    f"group by ({_PART}) ({part} and on (UUID) stoker:gpu_called{{{called}}})",
                    "where the configuration says",
                    {"deployment": place.deployment, "model": place.model},
                )
            )
    return Group("stoker-placement", rules)


def _host(metric: str) -> str:
    """With the label `host`, whichever way the exporter spells it."""
    return _renamed(_renamed(metric, "Hostname", "host"), "hostname", "host")


def _renamed(expr: str, source: str, target: str) -> str:
    return f'label_replace({expr}, "{target}", "$1", "{source}", "(.+)")'


def _owned(metric: str) -> str:
    """With labels of who has it, whether or not Prometheus renamed them since its own of that name won."""
    expr = metric
    for name in ("namespace", "pod", "container"):
        expr = _renamed(_renamed(expr, name, f"of_{name}"), f"exported_{name}", f"of_{name}")
    return expr


def _one(labels: str, expr: str) -> str:
    """Of those that are alike in these labels one, whichever."""
    return f"topk by ({labels}) (1, {expr})"


def _called(expr: str) -> str:
    """With the name of the GPU."""
    return f"({expr}) * on (UUID) group_left (host, gpu) stoker:gpu"


def _once(metric: str) -> str:
    """A figure of the whole GPU, once, however often it is repeated."""
    return f"max by (UUID) ({metric})"


def _parts() -> str:
    """Its MIG instances with their slices; where it has none, the whole."""
    any_of = _ANY.removesuffix("}")
    profiles = ((count, f'{any_of},GPU_I_ID!="",GPU_I_PROFILE=~"(.*[^0-9])?{count}g[.].*"}}') for count in _SLICES)
    known = [f"group by ({_PART}) ({rows}) * {count}" for count, rows in profiles]
    other = f'group by ({_PART}) ({any_of},GPU_I_ID!=""}})'
    whole = f'group by ({_PART}) ({any_of},GPU_I_ID=""}}) unless on (UUID) {other}'
    return "\nor ".join((*known, other, whole))


def _lost() -> str:
    """dcgm-exporter has no word for a GPU that fell away: it tells of it no more. Our reader says it by itself."""
    had = f"group by (instance, {_GPU}) ({_host(f'max_over_time({readings.USED}[1h])')})"
    gone = f"({had} unless on (UUID) stoker:gpu unless on (UUID) stoker_gpu_up)"
    return f'{gone} and on (instance) up{{job="gpu"}} == 1\nor {gone} and on (host) stoker:gpu_called{{host!=""}}'


def _named(source: str) -> str:
    """Parts whose label is a deployment's name."""
    mine = _renamed(f'stoker:gpu_seen{{{source}!=""}}', source, "deployment")
    models = _one("deployment", "max by (deployment, model) (stoker:engine)")
    return f"{mine} * on (deployment) group_left (model) {models}"


def _placed() -> str:
    engines = _renamed(_renamed('stoker:engine{pod!=""}', "pod", "of_pod"), "namespace", "of_namespace")
    engines = _one("of_namespace, of_pod", f"max by (of_namespace, of_pod, deployment, model) ({engines})")
    ways = (
        f'stoker:gpu_seen{{of_pod!=""}} * on (of_namespace, of_pod) group_left (deployment, model) {engines}',
        *(_named(source) for source in (readings.POD_LABEL, "of_container", "hpc_job")),
    )
    labels = f"{_PART}, deployment, model"
    told = "\nor ".join(f"max by ({labels}) ({way})" for way in ways)
    told = f"(({told}) unless on (deployment) stoker:gpu_configured) and on ({_PART}) stoker:gpu_part"
    return f"stoker:gpu_configured\nor {told}"


def _split(runs: str, weights: str, alike: str, whole: str) -> str:
    """Shares by weight of those that are alike in these labels, in equal parts where one has none; else nobody's."""
    known = f"{weights} unless on ({alike}) ({runs} unless {weights})"
    return "\nor ".join(
        (
            f"({known}) / on ({alike}) group_left () (sum by ({alike}) ({weights}) > 0)",
            f"{runs} / on ({alike}) group_left () count by ({alike}) ({runs})",
            f"{whole} unless on ({alike}) {runs}",
        )
    )


def _memory(metric: str) -> str:
    """In bytes: of each part in equal shares to those who run there; what nobody runs on stays without a deployment."""
    part = f"(max by ({_PART}) ({metric}) * 1048576 and on ({_PART}) stoker:gpu_part)"
    sharing = f"count by ({_PART}) (stoker:gpu_place)"
    mine = f"stoker:gpu_place * on ({_PART}) group_left () {part} / on ({_PART}) group_left () {sharing}"
    nobodys = f"{part} unless on ({_PART}) stoker:gpu_place"
    return _called(f"sum by (UUID, deployment, model) ({mine}) or sum by (UUID) ({nobodys})")


def _part_active() -> str:
    """DCGM answers 0 for the utilisation of an instance: only a whole GPU's counts."""
    whole = f'max by ({_PART}) ({readings.UTIL}{{GPU_I_ID=""}}) / 100'
    return f"({whole} or max by ({_PART}) ({readings.ACTIVE})) and on ({_PART}) stoker:gpu_part"


def _active() -> str:
    """None where it is not known of one part."""
    weighed = f"sum by (UUID) (stoker:gpu_part_active_ratio * on ({_PART}) stoker:gpu_part)"
    lacking = f"stoker:gpu_part unless on ({_PART}) stoker:gpu_part_active_ratio"
    return _called(f"{weighed} / sum by (UUID) (stoker:gpu_part) unless on (UUID) ({lacking})")


def _idle() -> str:
    """Of each deployment, how many GPUs stand idle."""
    slices = "stoker:gpu_part / on (UUID) group_left () sum by (UUID) (stoker:gpu_part)"
    of_part = f"{slices} * on ({_PART}) (1 - stoker:gpu_part_active_ratio)"
    idle = f"stoker:gpu_part_share * on ({_PART}) group_left () ({of_part})"
    lacking = f"stoker:gpu_part_share unless on ({_PART}) stoker:gpu_part_active_ratio"
    return f"sum by (deployment, model) ({idle}) unless on (deployment) ({lacking})"


def _of_deployment(series: str) -> str:
    """The sum of its GPUs; none where one of them has no figure, since a sum of the others would be a lie."""
    lacking = f"stoker:gpu_share unless on (UUID, deployment) {series}"
    return f"sum by (deployment, model) ({series}) unless on (deployment) ({lacking})"


def _rate(metric: str) -> str:
    return f"sum by (deployment) (rate({metric}[{_WINDOW}]))"


def group() -> Group:
    """The join and what follows from it."""
    prompt, written = "stoker:prompt_tokens:rate5m", "stoker:generated_tokens:rate5m"
    both, energy = f"{prompt} + {written}", _of_deployment("stoker:gpu_energy_watts:rate5m")
    hosted = (
        f"{prompt} * scalar(stoker:hosted_prompt_price_usd) + {written} * scalar(stoker:hosted_completion_price_usd)"
    )
    share = "stoker:gpu_share * on (UUID) group_left ()"
    return Group(
        "stoker-gpus",
        [
            Recording("stoker:gpu_place", _placed(), "1 for each part of a GPU and deployment that runs there"),
            Recording(
                "stoker:gpu_runs",
                _called("max by (UUID, deployment, model) (stoker:gpu_place)"),
                "1 for each GPU and deployment that runs there",
            ),
            Recording(written, _rate(GENERATED), "generated tokens a second, by deployment"),
            Recording(prompt, _rate(PROMPT), "prompt tokens a second, by deployment"),
            Recording(
                "stoker:gpu_weight",
                f"stoker:gpu_runs * on (deployment) group_left () {written}",
                "by which GPUs with several deployments are split: generated tokens a second",
            ),
            Recording(
                "stoker:gpu_share",
                _split("stoker:gpu_runs", "stoker:gpu_weight", "UUID", "stoker:gpu"),
                "share of a GPU's power and time, 0 to 1; no deployment: nobody's",
            ),
            Recording("stoker:gpu_power_watts", f"{share} {_once(readings.POWER)}", "power of the share, W"),
            Recording(
                "stoker:gpu_energy_joules",
                f"{_once(readings.ENERGY)} / 1000",
                "energy of a GPU since its driver was loaded",
            ),
            Recording(
                "stoker:gpu_energy_watts:rate5m",
                f"{share} rate(stoker:gpu_energy_joules[{_WINDOW}])",
                "energy of the share, by its counter, J/s",
            ),
            Recording("stoker:gpu_memory_used_bytes", _memory(readings.USED), "used memory of the share, bytes"),
            Recording("stoker:gpu_memory_free_bytes", _memory(readings.FREE), "free memory of the share, bytes"),
            Recording(
                "stoker:gpu_part_weight",
                f"stoker:gpu_place * on (deployment) group_left () {written}",
                "by which parts of GPUs with several deployments are split: generated tokens a second",
            ),
            Recording(
                "stoker:gpu_part_share",
                _split("stoker:gpu_place", "stoker:gpu_part_weight", _PART, "stoker:gpu_part * 0 + 1"),
                "share of the time of a part of a GPU, 0 to 1; no deployment: nobody's",
            ),
            Recording(
                "stoker:gpu_part_active_ratio",
                _part_active(),
                "share of time in which anything ran on a part of a GPU, 0 to 1",
            ),
            Recording(
                "stoker:gpu_active_ratio",
                _active(),
                "share of time in which anything ran on the GPU, 0 to 1; its MIG instances weigh by their slices",
            ),
            Recording(
                "stoker:deployment_gpus",
                "sum by (deployment, model) (stoker:gpu_share)",
                "GPUs of a deployment, shared ones by its share",
            ),
            Recording(
                "stoker:deployment_power_watts", _of_deployment("stoker:gpu_power_watts"), "power of a deployment, W"
            ),
            Recording(
                "stoker:deployment_tokens_per_gpu:rate5m",
                f"(1 / (stoker:deployment_gpus > 0)) * on (deployment) group_left () {written}",
                "generated tokens a second and GPU",
            ),
            Recording(
                "stoker:deployment_tokens_per_joule:rate5m",
                f"(1 / (({energy}) > 0)) * on (deployment) group_left () {written}",
                "generated tokens for each joule",
            ),
            Recording(
                "stoker:deployment_gpu_usd_per_hour",
                "stoker:deployment_gpus * scalar(stoker:gpu_price_usd_per_hour)",
                "what a deployment's GPUs cost, USD an hour",
            ),
            Recording(
                "stoker:deployment_usd_per_million_tokens:rate5m",
                f"stoker:deployment_gpu_usd_per_hour / 3600 * 1e6 / on (deployment) group_left () ({both} > 0)",
                "money for GPUs, USD for a million tokens, read and written together",
            ),
            Recording(
                "stoker:deployment_hosted_usd_per_million_tokens:rate5m",
                f"({hosted}) / ({both} > 0)",
                "what a million tokens of the same mix cost at the hosted price, USD",
            ),
            Recording(
                "stoker:deployment_idle_usd_per_hour",
                f"({_idle()}) * scalar(stoker:gpu_price_usd_per_hour)",
                "money for time in which nothing ran on the deployment's parts of GPUs, USD an hour",
            ),
        ],
    )
