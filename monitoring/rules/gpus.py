"""The join of GPUs and deployments inside Prometheus: what `monitoring.gpus` does, as recording rules.

Engines are scraped with the label `deployment` (and in Kubernetes with `namespace` and `pod`); GPUs by dcgm-exporter
or our NVML reader, with `honor_labels` on or off. An engine's pod, or a container, job or pod label of the
deployment's name, places it; where nothing of that is there, the configuration does, whose `model_info.gpus` becomes
`stoker:gpu_configured`. Differences from `monitoring.gpus`: under MIG the configuration has to name instances;
`model_info.pods` and `containers` are not looked at; and memory of the whole GPU that is repeated for its instances is
not noticed.
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


def placement(places: Iterable[Place]) -> Group:
    """Where the configuration says that deployments run."""
    rules = []
    for place in places:
        for gpu in place.gpus:
            where, _, instance = gpu.partition("/")
            host, colon, index = where.rpartition(":")
            labels = {"host": host, "gpu": index} if colon else {"UUID": where}
            labels |= {"GPU_I_ID": instance} if instance else {}
            labels |= {"deployment": place.deployment, "model": place.model}
            rules.append(Recording("stoker:gpu_configured", "vector(1)", "where the configuration says", labels))
    return Group("stoker-placement", rules)


def _host(metric: str) -> str:
    """With the label `host`, whichever way the exporter spells it."""
    return _renamed(_renamed(metric, "Hostname", "host"), "hostname", "host")


def _renamed(expr: str, source: str, target: str) -> str:
    return f'label_replace({expr}, "{target}", "$1", "{source}", "(.+)")'


def _owned(metric: str) -> str:
    """With labels of who has it, whether or not Prometheus renamed them since its own of that name won."""
    expr = _host(metric)
    for name in ("namespace", "pod", "container"):
        expr = _renamed(_renamed(expr, name, f"of_{name}"), f"exported_{name}", f"of_{name}")
    return expr


def _once(metric: str, factor: str = "") -> str:
    """A figure of the whole GPU, once, however often it is repeated."""
    return f"max by ({_GPU}) ({_host(metric)}){factor}"


def _named(source: str) -> str:
    """Parts whose label is a deployment's name."""
    mine = _renamed(f'stoker:gpu_seen{{{source}!=""}}', source, "deployment")
    return f"{mine} * on (deployment) group_left (model) max by (deployment, model) (stoker:engine)"


def _placed() -> str:
    seen = f"max by ({_GPU}) (stoker:gpu_seen)"
    engines = _renamed(_renamed('stoker:engine{pod!=""}', "pod", "of_pod"), "namespace", "of_namespace")
    engines = f"max by (of_namespace, of_pod, deployment, model) ({engines})"
    ways = (
        f'stoker:gpu_seen{{of_pod!=""}} * on (of_namespace, of_pod) group_left (deployment, model) {engines}',
        *(_named(source) for source in (readings.POD_LABEL, "of_container", "hpc_job")),
        f'stoker:gpu_configured{{UUID=""}} * on (host, gpu) group_left (UUID) {seen}',
        f'stoker:gpu_configured{{UUID!=""}} * on (UUID) group_left (host, gpu) {seen}',
    )
    labels = f"{_GPU}, GPU_I_ID, deployment, model"
    return "\nor ".join(f"max by ({labels}) ({way})" for way in ways)


def _share() -> str:
    known = "stoker:gpu_weight unless on (UUID) (stoker:gpu_runs unless stoker:gpu_weight)"
    return "\nor ".join(
        (
            f"({known}) / on (UUID) group_left () (sum by (UUID) (stoker:gpu_weight) > 0)",
            "stoker:gpu_runs / on (UUID) group_left () count by (UUID) (stoker:gpu_runs)",
            f"max by ({_GPU}) (stoker:gpu_seen) unless on (UUID) stoker:gpu_runs",
        )
    )


def _memory(metric: str) -> str:
    """In bytes: of each part in equal shares to those who run there; what nobody runs on stays without a deployment."""
    part = f"(max by ({_GPU}, GPU_I_ID) ({_host(metric)}) * 1048576)"
    sharing = "count by (UUID, GPU_I_ID) (stoker:gpu_place)"
    mine = f"stoker:gpu_place * on (UUID, GPU_I_ID) group_left () {part} / on (UUID, GPU_I_ID) group_left () {sharing}"
    return (
        f"sum by ({_GPU}, deployment, model) ({mine})"
        f"\nor sum by ({_GPU}) ({part} unless on (UUID, GPU_I_ID) stoker:gpu_place)"
    )


def _active() -> str:
    """DCGM answers 0 for the utilisation of an instance: only a whole GPU's counts. Instances weigh by their slices."""
    whole = (
        _once(f'{readings.UTIL}{{GPU_I_ID=""}}', " / 100"),
        _once(f'{readings.ACTIVE}{{GPU_I_ID=""}}'),
    )
    busy, all_of = [], []
    for count in _SLICES:
        mine = f'max by ({_GPU}, GPU_I_ID) ({_host(f"""{readings.ACTIVE}{{GPU_I_PROFILE=~"{count}g[.].*"}}""")})'
        busy.append(f"{mine} * {count}")
        all_of.append(f"{mine} * 0 + {count}")
    mig = f"sum by ({_GPU}) ({' or '.join(busy)}) / sum by ({_GPU}) ({' or '.join(all_of)})"
    return "\nor ".join((*whole, mig))


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
    seen = f"{readings.USED}|{readings.POWER}"
    owned = f"{_GPU}, GPU_I_ID, of_namespace, of_pod, of_container, hpc_job, {readings.POD_LABEL}"
    share = "stoker:gpu_share * on (UUID) group_left ()"
    return Group(
        "stoker-gpus",
        [
            Recording(
                "stoker:engine",
                f"max by (deployment, model, namespace, pod) ({_renamed(RUNNING, 'model_name', 'model')}) * 0 + 1",
                "1 for each engine that is scraped",
            ),
            Recording(
                "stoker:gpu_seen",
                f"max by ({owned}) ({_owned(f'{{__name__=~{chr(34)}{seen}{chr(34)}}}')}) * 0 + 1",
                "1 for each GPU or MIG instance, and who has it",
            ),
            Recording("stoker:gpu_place", _placed(), "1 for each GPU or MIG instance and deployment that runs there"),
            Recording(
                "stoker:gpu_runs",
                f"max by ({_GPU}, deployment, model) (stoker:gpu_place)",
                "1 for each GPU and deployment that runs there",
            ),
            Recording(written, _rate(GENERATED), "generated tokens a second, by deployment"),
            Recording(prompt, _rate(PROMPT), "prompt tokens a second, by deployment"),
            Recording(
                "stoker:gpu_weight",
                f"stoker:gpu_runs * on (deployment) group_left () {written}",
                "by which GPUs with several deployments are split: generated tokens a second",
            ),
            Recording("stoker:gpu_share", _share(), "share of a GPU's power and time, 0 to 1; no deployment: nobody's"),
            Recording("stoker:gpu_power_watts", f"{share} {_once(readings.POWER)}", "power of the share, W"),
            Recording(
                "stoker:gpu_energy_watts:rate5m",
                f"{share} {_once(f'rate({readings.ENERGY}[{_WINDOW}])', ' / 1000')}",
                "energy of the share, by its counter, J/s",
            ),
            Recording("stoker:gpu_memory_used_bytes", _memory(readings.USED), "used memory of the share, bytes"),
            Recording("stoker:gpu_memory_free_bytes", _memory(readings.FREE), "free memory of the share, bytes"),
            Recording("stoker:gpu_active_ratio", _active(), "share of time in which anything ran on the GPU, 0 to 1"),
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
                _of_deployment_idle(),
                "money for time in which nothing ran on the deployment's GPUs, USD an hour",
            ),
        ],
    )


def _of_deployment_idle() -> str:
    idle = "stoker:gpu_share * on (UUID) group_left () (1 - stoker:gpu_active_ratio)"
    return (
        f"(sum by (deployment, model) ({idle}) "
        "unless on (deployment) (stoker:gpu_share unless on (UUID) stoker:gpu_active_ratio)) "
        "* scalar(stoker:gpu_price_usd_per_hour)"
    )
