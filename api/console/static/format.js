// Figures as people read them.

const NUMBER = new Intl.NumberFormat("en-GB");
const COMPACT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

export const whole = (value) => NUMBER.format(value);
export const compact = (value) => (Math.abs(value) < 10_000 ? NUMBER.format(Math.round(value)) : COMPACT.format(value));

/** US dollars, such as $0, $0.0000123, $4.50: three figures below a cent. */
export function usd(value) {
  const amount = Number(value);
  if (!amount) return "$0";
  if (Math.abs(amount) >= 0.01) return `$${amount.toLocaleString("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  const places = Math.min(9, 2 - Math.floor(Math.log10(Math.abs(amount))));
  return `$${amount.toFixed(places).replace(/0+$/, "")}`;
}

export const percent = (share, places = 0) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(places)} %`);

/** A time span, such as 340 ms, 1.2 s, 2 min 5 s. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

export const millis = (ms) => span(ms === null || ms === undefined ? null : ms / 1000);

/** Such as 12 MB. */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (bytes >= 1000 && at < units.length - 1) {
    bytes /= 1000;
    at += 1;
  }
  return `${at && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${units[at]}`;
}

/** A moment, from seconds since the epoch: 23 Nov 2026, 14:05. */
export function moment(seconds) {
  if (!seconds) return "–";
  const options = { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" };
  return new Date(seconds * 1000).toLocaleString("en-GB", options);
}

/** A day, from `2026-11-23`: 23 Nov. */
export const day = (text) =>
  new Date(`${text}T00:00:00Z`).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });

export const plural = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;

/**
 * Where the n-th character of a text begins in its UTF-16 units: spans of the API count characters, as Python does.
 * @param {string} text
 * @param {number[]} counts rising
 */
export function unitsOf(text, counts) {
  const found = [];
  let units = 0;
  let characters = 0;
  for (const count of counts) {
    while (characters < count && units < text.length) {
      const code = text.charCodeAt(units);
      const next = text.charCodeAt(units + 1);
      units += code >= 0xd800 && code < 0xdc00 && next >= 0xdc00 && next < 0xe000 ? 2 : 1;
      characters += 1;
    }
    found.push(units);
  }
  return found;
}
