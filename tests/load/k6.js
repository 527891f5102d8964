// The chat scenario of `./stoker bench load` for k6, at a constant arrival rate (k6's open model). k6 reads an answer
// whole, so it knows no first token: `http_req_waiting` is the time to the first byte, which is an empty frame.
//
//   k6 run -e LOAD_URL=http://127.0.0.1:8080 -e LOAD_API_KEY=KEY -e LOAD_MODEL=smollm2-135m -e LOAD_RATE=10 tests/load/k6.js
//
// k6 itself is not among the packages of this repository: a test looks at the syntax alone.

import http from "k6/http";
import { check } from "k6";
import exec from "k6/execution";
import { Counter, Trend } from "k6/metrics";

const WORDS = (
  "harbour lighthouse keeper winter ledger engine valve pressure signal cargo rope tide pilot chart gateway worker " +
  "token cache budget key tenant passage citation index vector answer question stream deployment model"
).split(" ");
const SEED = Number(__ENV.LOAD_SEED || 1);
const RATE = Number(__ENV.LOAD_RATE || 10);

export const options = {
  scenarios: {
    chat: {
      executor: "constant-arrival-rate",
      rate: RATE,
      timeUnit: "1s",
      duration: `${__ENV.LOAD_DURATION || 60}s`,
      preAllocatedVUs: Math.ceil(RATE * 5),
      maxVUs: Math.ceil(RATE * 120),
    },
  },
  thresholds: {
    // An iteration that could not begin is an answer that nobody waited for: without this the figures lie.
    dropped_iterations: ["count==0"],
    checks: ["rate>0.99"],
  },
};

const outputTokens = new Counter("output_tokens");
const tokensOfAnswer = new Trend("output_tokens_per_answer");

// mulberry32: the same prompt for the same number and seed.
function chanceOf(number) {
  let state = (SEED * 2654435761 + number) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function spread(median, chance) {
  return Math.max(1, Math.round(median * 2 ** (2 * chance() - 1)));
}

export default function chat() {
  const number = exec.scenario.iterationInTest;
  const chance = chanceOf(number);
  const length = spread(Number(__ENV.LOAD_PROMPT_WORDS || 40), chance);
  const text = Array.from({ length }, () => WORDS[Math.floor(chance() * WORDS.length)]).join(" ");
  const answer = http.post(
    `${__ENV.LOAD_URL}/v1/chat/completions`,
    JSON.stringify({
      model: __ENV.LOAD_MODEL || "smollm2-135m",
      messages: [{ role: "user", content: `Load ${number}: ${text}` }],
      max_tokens: spread(Number(__ENV.LOAD_OUTPUT_TOKENS || 64), chance),
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    }),
    {
      headers: { authorization: `Bearer ${__ENV.LOAD_API_KEY}`, "content-type": "application/json" },
      timeout: "120s",
      tags: { name: "chat" },
    },
  );
  const body = answer.body || "";
  check(answer, {
    "status is 200": (one) => one.status === 200,
    "the stream is whole": () => body.includes("data: [DONE]") && /"finish_reason": ?"/.test(body),
    "no error event": () => !body.includes('"error":{'),
  });
  const usage = /"completion_tokens": ?(\d+)/.exec(body);
  if (usage !== null) {
    outputTokens.add(Number(usage[1]));
    tokensOfAnswer.add(Number(usage[1]));
  }
}
