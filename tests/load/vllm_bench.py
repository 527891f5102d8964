"""vLLM's own `bench serve` on a plan of ours: the same requests at the same moments, measured by its code.

Runs in the environment of the model servers, where nothing of ours is imported: reads JSON from standard input (`url`,
`model`, `tokenizer`, a folder, and `requests` with `at_s`, `messages`, `tokens`, `more`) and writes its result, as
JSON, to the file that is its only argument. The key is in OPENAI_API_KEY.
"""

import asyncio
import json
import sys

from vllm.benchmarks.datasets import SampleRequest
from vllm.benchmarks.serve import TaskType, benchmark
from vllm.tokenizers import get_tokenizer


def main() -> None:
    told = json.load(sys.stdin)
    requests = [
        SampleRequest(
            prompt=one["messages"],
            prompt_len=0,  # the server's own count comes with the answer
            expected_output_len=one["tokens"],
            timestamp=one["at_s"],
            chat_messages=one["messages"],
            request_overrides=one["more"],
        )
        for one in told["requests"]
    ]
    result = asyncio.run(
        benchmark(
            task_type=TaskType.GENERATION,
            endpoint_type="openai-chat",
            api_url=f"{told['url']}/v1/chat/completions",
            base_url=told["url"],
            model_id=told["model"],
            model_name=told["model"],
            tokenizer=get_tokenizer(told["tokenizer"]),
            input_requests=requests,
            logprobs=None,
            request_rate=float("inf"),
            burstiness=1.0,
            disable_tqdm=True,
            num_warmups=0,
            profile=False,
            selected_percentile_metrics=["ttft", "tpot", "e2el"],
            selected_percentiles=[50.0, 90.0, 99.0],
            ignore_eos=False,
            goodput_config_dict={},
            max_concurrency=None,
            lora_modules=None,
            extra_headers=None,
            extra_body=None,
            ready_check_timeout_sec=0,
            self_timed=True,
        )
    )
    kept = {name: value for name, value in result.items() if not isinstance(value, list)}
    with open(sys.argv[1], "w") as file:
        json.dump(kept, file)


if __name__ == "__main__":
    main()
