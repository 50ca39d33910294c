// Axes: where they end, and where their marks stand.

import { axisDuration, duration, share, short } from "../lib/format";

/** What the values of a chart are. */
export type Unit = "count" | "seconds" | "share";

export interface Scale {
  /** The place of a value, from 0 (the lower end) to 1. */
  at: (value: number) => number;
  ticks: number[];
}

/** Spans that people count in. */
const SPANS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200,
  14_400, 21_600, 43_200, 86_400, 172_800, 345_600, 604_800,
];
/** Those that stand about as far from each other on a logarithmic axis. */
const DECADES = [0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 36_000, 86_400, 864_000];

/** The next of 1, 2, 5, 10, 20 … that is not smaller. */
function roundAbove(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5].find((factor) => factor * power >= value * 0.9999) ?? 10) * power;
}

function stepFor(unit: Unit, least: number): number {
  if (unit === "count") return Math.max(1, roundAbove(least));
  if (unit === "share") return [0.05, 0.1, 0.25].find((step) => step >= least) ?? 0.5;
  return SPANS.find((step) => step >= least * 0.9999) ?? roundAbove(least);
}

/** An axis from zero to the mark above the highest value. */
export function linear(unit: Unit, highest: number, marks: number): Scale {
  const wanted = Math.max(highest, unit === "seconds" ? 0.001 : unit === "share" ? 0.05 : 1);
  const step = stepFor(unit, wanted / marks);
  const count = Math.max(1, Math.ceil(wanted / step - 1e-9));
  return { at: (value) => value / (count * step), ticks: Array.from({ length: count + 1 }, (_, index) => index * step) };
}

/** A logarithmic axis for durations, from the round span below the lowest one to the one above the highest. */
export function logarithmic(values: number[]): Scale {
  const known = values.filter((value) => value > 0);
  const [least, most] = known.length ? [Math.min(...known), Math.max(...known)] : [0.1, 10];
  const first = Math.max(0, SPANS.findLastIndex((span) => span <= least));
  const above = SPANS.findIndex((span) => span >= most);
  const spans = SPANS.slice(first, Math.max(above === -1 ? SPANS.length : above, first + 1) + 1);
  const [low, high] = [Math.log(spans[0] ?? 0.1), Math.log(spans.at(-1) ?? 10)];
  const at = (value: number): number => (Math.log(Math.max(value, Math.exp(low))) - low) / (high - low);
  return { at, ticks: apart([spans[0] ?? 0.1, spans.at(-1) ?? 10], spans, (a, b) => Math.abs(at(a) - at(b)) > 0.2) };
}

/** Adds marks to those that must be there: the rounder ones first, each far enough from all others. */
function apart(marks: number[], more: number[], isFar: (a: number, b: number) => boolean): number[] {
  const chosen = [...marks];
  for (const mark of [...more.filter((span) => DECADES.includes(span)), ...more]) {
    if (chosen.every((other) => isFar(mark, other))) chosen.push(mark);
  }
  return chosen.sort((a, b) => a - b);
}

/** The marks of an axis of ages from 0 to `end`: about `marks` of them. */
export function ages(end: number, marks: number, isLog: boolean): number[] {
  if (!isLog) return linear("seconds", end, marks).ticks.filter((tick) => tick <= end);
  return SPANS.filter((mark) => mark <= end);
}

/** Writes a value at an axis, in few characters. */
export function writeTick(unit: Unit, value: number): string {
  if (unit !== "count") return unit === "share" ? share(value) : axisDuration(value);
  const [size, letter] = value >= 1e6 ? [1e6, "M"] : value >= 1000 ? [1000, "k"] : [1, ""];
  return `${Number((value / size).toPrecision(3))}${letter}`;
}

/** Writes a value in full. */
export function write(unit: Unit, value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  return unit === "count" ? short(value) : unit === "share" ? share(value) : duration(value);
}
