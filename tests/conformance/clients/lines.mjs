// What the clients for Node share; lines.py tells the form of orders and answers.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// The SDKs live in an environment of their own, whose folder is the first argument.
export const require = createRequire(`${process.argv[2]}/package.json`);

export async function obey(actions) {
  for await (const line of createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    const started = performance.now();
    const seen = await actions[order.do](order).catch((error) => ({ error: told(error) }));
    console.log(JSON.stringify({ ...seen, seconds: (performance.now() - started) / 1000 }));
  }
}

// One for each set of options, so that connections are kept from order to order.
export function cached(make) {
  const made = new Map();
  return (order) => {
    const { url, key, retries = 0, timeout_s = 120, origin = "" } = order;
    const options = JSON.stringify([url, key, retries, timeout_s, origin]);
    if (!made.has(options)) made.set(options, make({ url, key, retries, timeout_s, origin }));
    return made.get(options);
  };
}

export function partly(text, error) {
  return { text: text.join(""), error: told(error) };
}

function told(error) {
  const isOfSdk = "status" in error || /^(OpenAI|Anthropic)Error$/.test(error.constructor.name); // APIErrors have a status
  return {
    class: isOfSdk ? error.constructor.name.replace(/^_/, "") : `foreign ${error.constructor.name}`,
    message: error.message,
    status: error.status ?? null,
    type: error.type ?? null,
    code: error.code ?? error.errorCode ?? null,
    param: error.param ?? null,
    request_id: error.requestID ?? null,
    retry_after: error.headers?.get("retry-after") ?? null,
  };
}
