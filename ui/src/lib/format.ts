// Numbers, times and sizes as people read them.

const whole = new Intl.NumberFormat("en");
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? "–" : whole.format(value);
}

/** A count in at most four characters: `12.3k`. */
export function short(value: number): string {
  if (value < 10_000) return whole.format(Math.round(value));
  if (value < 1_000_000) return `${tenths.format(value / 1000)}k`;
  return `${tenths.format(value / 1_000_000)}M`;
}

/** A duration: `340 ms`, `2.1 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const value = Math.max(0, seconds);
  if (value < 0.0995) return `${value < 0.01 ? tenths.format(value * 1000) : Math.round(value * 1000)} ms`;
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 9.95) return `${tenths.format(value)} s`;
  if (value < 59.5) return `${Math.round(value)} s`;
  const parts: [number, string][] = [
    [86_400, "d"],
    [3_600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const rounded = Math.round(value);
  const at = parts.findIndex(([size]) => rounded >= size);
  const [size, unit] = parts[at] ?? [1, "s"];
  const next = parts[at + 1];
  const rest = next ? Math.floor((rounded % size) / next[0]) : 0;
  return `${Math.floor(rounded / size)} ${unit}${next && rest ? ` ${rest} ${next[1]}` : ""}`;
}

/** A span as an axis has it: `0.1s`, `10s`, `5m`, `1h`. */
export function axisDuration(seconds: number): string {
  if (seconds === 0) return "0";
  if (seconds < 1) return `${Number((seconds * 1000).toPrecision(2))} ms`;
  if (seconds < 60) return `${Number(seconds.toPrecision(2))} s`;
  if (seconds < 3600) return `${Number((seconds / 60).toPrecision(2))} min`;
  if (seconds < 86_400) return `${Number((seconds / 3600).toPrecision(2))} h`;
  return `${Number((seconds / 86_400).toPrecision(2))} d`;
}

export function share(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  const percent = value * 100;
  // 99.97 % is not all.
  if (percent > 99 && percent < 100) return `${Math.floor(percent * 10) / 10}%`;
  return `${Math.round(percent)}%`;
}

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (value < 1024) return `${value} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let scaled = value;
  let unit = "B";
  for (const next of units) {
    if (scaled < 1024) break;
    scaled /= 1024;
    unit = next;
  }
  return `${scaled < 10 ? tenths.format(scaled) : Math.round(scaled)} ${unit}`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const dated = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});

/** The local time of day, with the date when it is another day than that of `now`. */
export function localTime(instant: string, now: number): string {
  const at = new Date(instant);
  if (Number.isNaN(at.getTime())) return instant;
  return at.toDateString() === new Date(now).toDateString() ? clock.format(at) : dated.format(at);
}

/** `2026-11-29 05:03:06.197 UTC` */
export function utc(instant: string): string {
  return `${instant.replace("T", " ").replace(/Z$/, "")} UTC`;
}

/** Hours and minutes, for axes. */
export function hourMinute(at: number): string {
  return minute.format(new Date(at));
}

/** `in 3 s`, `12 s ago`, `now`. */
export function relative(instant: string, now: number): string {
  const seconds = (new Date(instant).getTime() - now) / 1000;
  if (Number.isNaN(seconds)) return "";
  if (Math.abs(seconds) < 1) return "now";
  const text = duration(Math.abs(seconds) < 10 ? Math.round(Math.abs(seconds)) : Math.abs(seconds));
  return seconds > 0 ? `in ${text}` : `${text} ago`;
}

/** `source_limited` → `source limited`. */
export function words(text: string): string {
  return text.replaceAll("_", " ");
}
