"""For each alert, series upon which it fires and series upon which it stays quiet; `promtool test rules` looks at both.

Series are in promtool's form: `start+STEPxN`, a sample a minute.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One alert.

    Attributes:
        at: when it is looked at.
        labels: that it has then beside its severity; `summary`: what it says.
    """

    fires: Mapping[str, str]
    quiet: Mapping[str, str]
    at: str
    summary: str
    labels: Mapping[str, str]


def _requests(ok: str, failed: str, route: str = "/v1/search") -> Mapping[str, str]:
    return {
        f'stoker_requests_total{{route="{route}",method="POST",status="200"}}': ok,
        f'stoker_requests_total{{route="{route}",method="POST",status="503"}}': failed,
    }


def _latency(name: str, labels: str, bound: str, slow: int) -> Mapping[str, str]:
    """100 requests a minute, of which so many took longer than `bound` and less than twice that."""
    return {
        f'{name}_bucket{{{labels},le="{bound}"}}': f"0+{100 - slow}x60",
        f'{name}_bucket{{{labels},le="{2 * float(bound):g}"}}': "0+100x60",
        f'{name}_bucket{{{labels},le="+Inf"}}': "0+100x60",
    }


_GPU = 'UUID="GPU-0",gpu="0",Hostname="gpu-1",container="chat"'
_ENGINE = 'deployment="chat",model_name="qwen",engine="0"'


def _gpu(active: int, waiting: int, free_mib: int = 20_000) -> Mapping[str, str]:
    return {
        f"DCGM_FI_DEV_GPU_UTIL{{{_GPU}}}": f"{active}+0x60",
        f"DCGM_FI_DEV_POWER_USAGE{{{_GPU}}}": "100+0x60",
        f"DCGM_FI_DEV_FB_USED{{{_GPU}}}": "60000+0x60",
        f"DCGM_FI_DEV_FB_FREE{{{_GPU}}}": f"{free_mib}+0x60",
        f"vllm:num_requests_running{{{_ENGINE}}}": "1+0x60",
        f"vllm:num_requests_waiting{{{_ENGINE}}}": f"{waiting}+0x60",
        f"vllm:generation_tokens_total{{{_ENGINE}}}": "0+600x60",
    }


def _lookups(hits: int, misses: int, kind: str = "answer") -> Mapping[str, str]:
    return {
        f'stoker_cache_lookups_total{{kind="{kind}",outcome="hit"}}': f"0+{hits}x70",
        f'stoker_cache_lookups_total{{kind="{kind}",outcome="miss"}}': f"0+{misses}x70",
    }


_UP = {'up{job="stoker",instance="gateway:8080"}': "1x60"}

CASES: Mapping[str, Case] = {
    "StokerErrors": Case(
        fires=_requests("0+90x30", "0+10x30"),
        quiet={
            **_requests("0+92x30", "0+8x30"),
            # Neither scrapes of the metrics nor what is refused as the caller's fault counts.
            'stoker_requests_total{route="/v1/search",method="POST",status="429"}': "0+100x30",
            'stoker_requests_total{route="/metrics",method="GET",status="503"}': "0+100x30",
        },
        at="20m",
        labels={},
        summary="10% of requests fail",
    ),
    "StokerSloBurnsFast": Case(
        fires=_requests("0+98x90", "0+2x90"),
        quiet=_requests("0+98x90", "0x29 0+3x40 120x30"),  # 2 % of an hour, but it has stopped
        at="80m",
        labels={},
        summary="at this rate the month's error budget lasts two days",
    ),
    "StokerSloBurnsSlowly": Case(
        fires=_requests("0+992x400", "0+8x400"),
        quiet=_requests("0+995x400", "0+5x400"),
        at="390m",
        labels={},
        summary="at this rate the month's error budget lasts five days",
    ),
    "StokerSlow": Case(
        fires=_latency("stoker_request_seconds", 'route="/v1/search"', "2.5", 20),
        quiet={
            **_latency("stoker_request_seconds", 'route="/v1/search"', "1", 20),
            **_latency("stoker_request_seconds", 'route="/v1/chat/completions"', "2.5", 20),
            **_latency("stoker_request_seconds", 'route="/v1/ingest"', "2.5", 20),
        },
        at="30m",
        labels={"route": "/v1/search"},
        summary="p95 of /v1/search is 4.375s",
    ),
    "StokerFirstTokenSlow": Case(
        fires=_latency("stoker_time_to_first_token_seconds", 'model_group="chat"', "2.5", 20),
        quiet=_latency("stoker_time_to_first_token_seconds", 'model_group="chat"', "1", 20),
        at="30m",
        labels={"model_group": "chat"},
        summary="p95 to the first token of chat is 4.375s",
    ),
    "StokerAnswersSlow": Case(
        fires=_latency("stoker_request_seconds", 'route="/v1/query"', "10", 20),
        quiet=_latency("stoker_request_seconds", 'route="/v1/query"', "5", 20),
        at="30m",
        labels={"route": "/v1/query"},
        summary="p95 of answers from documents is 17.5s",
    ),
    "StokerSpending": Case(
        fires={
            'stoker_spent_usd_total{route="/v1/messages",model_group="a",deployment="a-1"}': "0+0.5x90",
            'stoker_spent_usd_total{route="/v1/query",model_group="b",deployment="b-1"}': "0+0.5x90",
        },
        quiet={'stoker_spent_usd_total{route="/v1/messages",model_group="a",deployment="a-1"}': "100+0.8x90"},
        at="80m",
        labels={},
        summary="60 USD were spent within an hour",
    ),
    "StokerBudgetSpent": Case(
        fires={'stoker_budget_alerts_total{kind="key",percent="100"}': "0x10 1x20"},
        quiet={
            'stoker_budget_alerts_total{kind="key",percent="100"}': "3x30",
            'stoker_budget_alerts_total{kind="key",percent="80"}': "0x10 1x20",
        },
        at="12m",
        labels={"kind": "key"},
        summary="a key has spent a day's or month's limit",
    ),
    "StokerCacheHitsLow": Case(
        fires=_lookups(20, 80),
        quiet={**_lookups(40, 60), **_lookups(0, 1000, kind="vector")},
        at="69m",
        labels={},
        summary="only 20% of lookups are hits",
    ),
    "StokerPartDown": Case(
        fires={**_UP, 'up{job="vllm",instance="gpu-1:8000"}': "1x5 0x20"},
        quiet={**_UP, 'up{job="other",instance="gpu-1:1"}': "0x30", 'up{job="vllm",instance="gpu-1:8000"}': "1x30"},
        at="10m",
        labels={"job": "vllm", "instance": "gpu-1:8000"},
        summary="vllm gpu-1:8000 does not answer",
    ),
    "StokerPartRested": Case(
        fires={'stoker_part_breaker_open{part="milvus"}': "0x5 1x20"},
        quiet={'stoker_part_breaker_open{part="milvus"}': "0x9 1x20"},
        at="10m",
        labels={"part": "milvus"},
        summary="milvus fails, and its breaker is open",
    ),
    "StokerDeploymentRested": Case(
        fires={'stoker_deployment_breaker_open{deployment="chat-1"}': "0x5 1x20"},
        quiet={'stoker_deployment_breaker_open{deployment="chat-1"}': "0x9 1x20"},
        at="10m",
        labels={"deployment": "chat-1"},
        summary="chat-1 fails, and its breaker is open",
    ),
    "StokerEngineWedged": Case(
        fires={'stoker_deployment_ejected{deployment="chat-1",reason="wedged"}': "0x5 1x20"},
        quiet={
            'stoker_deployment_ejected{deployment="chat-1",reason="wedged"}': "0x20",
            'stoker_deployment_ejected{deployment="chat-1",reason="asleep"}': "1x20",
        },
        at="10m",
        labels={"deployment": "chat-1", "reason": "wedged"},
        summary="chat-1 has work and stands still",
    ),
    "StokerGpuDown": Case(
        fires={'stoker_gpu_up{gpu="1",UUID="GPU-1",instance="gpu-1:9400"}': "1x5 0x20"},
        quiet={'stoker_gpu_up{gpu="1",UUID="GPU-1",instance="gpu-1:9400"}': "1x20", "stoker_gpu_driver_up": "1x20"},
        at="10m",
        labels={"gpu": "1", "UUID": "GPU-1", "instance": "gpu-1:9400"},
        summary="GPU 1 GPU-1 of gpu-1:9400 does not answer",
    ),
    "StokerGpuMemory": Case(
        fires=_gpu(active=50, waiting=0, free_mib=600),
        quiet=_gpu(active=50, waiting=0, free_mib=4_000),
        at="30m",
        labels={"host": "gpu-1", "gpu": "0", "UUID": "GPU-0"},
        summary="99.01% of the memory of gpu-1:0 is used",
    ),
    "StokerGpuIdleWhileQueueing": Case(
        fires=_gpu(active=5, waiting=3),
        quiet=_gpu(active=95, waiting=3),
        at="30m",
        labels={"deployment": "chat"},
        summary="requests wait for chat while its GPUs do next to nothing",
    ),
    "StokerIngestionStuck": Case(
        fires={
            "stoker_ingest_waiting_seconds": "0+60x60",
            'stoker_ingested_documents_total{status="ready"}': "7x60",
        },
        quiet={
            "stoker_ingest_waiting_seconds": "0+60x60",
            'stoker_ingested_documents_total{status="ready"}': "0+1x60",
        },
        at="30m",
        labels={},
        summary="documents have waited for 30m 0s, and none was finished",
    ),
    "StokerSearchGotWorse": Case(
        fires={
            # Evaluated at minute 1445; two keepers tell of it.
            **{
                f'stoker_evaluation_score{{collection="col_1",metric="ndcg@10",instance="{one}"}}': "0.8x1444 0.7x60"
                for one in ("a", "b")
            },
            'stoker_evaluation_score{collection="col_1",metric="mrr",instance="a"}': "0.8x1444 0.76x60",
        },
        quiet={
            'stoker_evaluation_score{collection="col_1",metric="ndcg@10"}': "0.8x1444 0.76x60",  # a little
            'stoker_evaluation_score{collection="col_2",metric="ndcg@10"}': "0.7x1444 0.8x60",  # better
            'stoker_evaluation_score{collection="col_3",metric="ndcg@10"}': "_x1444 0.2x60",  # for the first time
            'stoker_evaluation_score{collection="col_4",metric="ndcg@10"}': "0.8x1444 _x60",  # no more
            'stoker_evaluation_score{collection="col_5",metric="ndcg@10"}': "0.8x5 0.4x1600",  # longer ago
        },
        at="1480m",
        labels={"collection": "col_1", "metric": "ndcg@10"},
        summary="ndcg@10 of the collection col_1 fell by 0.10",
    ),
    "StokerLedgerLags": Case(
        fires={"stoker_ledger_shipped_timestamp_seconds": "0x60"},
        quiet={
            'stoker_ledger_shipped_timestamp_seconds{job="keeper"}': "0+60x60",
            'stoker_ledger_shipped_timestamp_seconds{job="stoker"}': "0x60",
        },
        at="5m",
        labels={},
        summary="the ledger was last brought to SQL 5m 0s ago",
    ),
}
