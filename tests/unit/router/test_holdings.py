"""What an engine says of its cache and its adapters; the texts are as vLLM 0.32 writes them."""

import pytest

from router.holdings import Holdings

TEXT = b"""# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",gpu_memory_utilization="0.9",num_gpu_blocks="1000"} 1.0
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="1",gpu_memory_utilization="0.9",num_gpu_blocks="500"} 1.0
# TYPE vllm:lora_requests_info gauge
vllm:lora_requests_info{max_lora="2",running_lora_adapters="old",waiting_lora_adapters=""} 1.7000000e+09
vllm:lora_requests_info{max_lora="2",running_lora_adapters="sql,law",waiting_lora_adapters="tax"} 1.7000009e+09
vllm:num_requests_running{engine="0"} 2.0"""  # noqa: E501 - as it is written


def test_the_cache_of_all_engines_and_the_newest_adapters_are_read() -> None:
    assert Holdings.of(TEXT) == Holdings(24_000, frozenset({"sql", "law", "tax"}))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"vllm:num_requests_running 1.0",
        b'vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1.0',
        b'vllm:cache_config_info{block_size="16",num_gpu_blo',
        b'vllm:cache_config_info{num_gpu_blocks="7"} 1.0\nvllm:lora_requests_info{} x',
        b'vllm:cache_config_info{block_size="16",num_gpu_blocks="7\xff"} 1.0',
    ],
)
def test_what_is_not_said_stays_unknown(text: bytes) -> None:
    assert Holdings.of(text) == Holdings()
