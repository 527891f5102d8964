// The text form of Prometheus, and what two looks at it say of the time between them.
// Source: Prometheus, "Exposition formats", text-based format.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** @returns {Map<string, {labels: Record<string, string>, value: number}[]>} by name. */
export function parseMetrics(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    if (!line || line.startsWith("#")) continue;
    const [, name, inside, value] = line.match(LINE) || [];
    if (!name) continue;
    const labels = {};
    for (const [, key, said] of (inside || "").matchAll(LABEL)) labels[key] = said.replace(/\\(.)/g, (_, sign) => (sign === "n" ? "\n" : sign));
    if (!found.has(name)) found.set(name, []);
    found.get(name).push({ labels, value: Number(value) });
  }
  return found;
}

const holds = (labels, wanted) => Object.entries(wanted).every(([name, value]) => labels[name] === value);

/** The sum of a metric over all that carry these labels; null: there is none. */
export function total(metrics, name, wanted = {}) {
  const some = (metrics.get(name) || []).filter(({ labels }) => holds(labels, wanted));
  return some.length ? some.reduce((sum, { value }) => sum + value, 0) : null;
}

/** How much a counter grew, at least 0. */
export function growth(before, now, name, wanted = {}) {
  const last = total(now, name, wanted);
  return last === null ? null : Math.max(0, last - ((before && total(before, name, wanted)) || 0));
}

/** A quantile of what a histogram counted between two looks (of all, without an earlier one); null: nothing. */
export function quantile(before, now, name, share, wanted = {}) {
  const counts = new Map();
  for (const [metrics, sign] of [[now, 1], [before, -1]]) {
    for (const { labels, value } of metrics?.get(`${name}_bucket`) || []) {
      const { le, ...rest } = labels;
      if (holds(rest, wanted)) counts.set(Number(le.replace("+Inf", "Infinity")), (counts.get(Number(le.replace("+Inf", "Infinity"))) || 0) + sign * value);
    }
  }
  const edges = [...counts].sort(([one], [other]) => one - other);
  const all = edges.at(-1)?.[1] || 0;
  if (all <= 0) return null;
  let low = 0;
  let below = 0;
  for (const [edge, count] of edges) {
    if (count >= share * all) return edge === Infinity ? low : low + ((edge - low) * (share * all - below)) / Math.max(1e-9, count - below);
    low = edge;
    below = count;
  }
  return low;
}
