// Charts of the last hour in SVG. The figures of the minute under the pointer stand in the legend, where they move nothing;
// all charts that share a cursor show the same minute.

import { type Signal, useSignal } from "@preact/signals";
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { TargetedKeyboardEvent, TargetedPointerEvent } from "preact";

import { hourMinute } from "../lib/format";
import { type Scale, type Unit, linear, logarithmic, write, writeTick } from "./scale";

/** One series of values, one for each step; null where there is none. */
export interface Series {
  name: string;
  /** The class that gives it its colour: `c-completed`, `c-1` … */
  tone: string;
  values: (number | null)[];
}

interface ChartProps {
  title: string;
  series: Series[];
  /** `bars` are stacked, the first series on top; `lines` are not. */
  form: "bars" | "lines";
  unit: Unit;
  /** A logarithmic axis, for durations that differ by orders of magnitude. */
  log?: boolean;
  /** The start of the first step, in milliseconds, and the length of a step. */
  from: number;
  step: number;
  /** What stands instead when there is nothing to show. */
  empty: string;
  height?: number;
  /** The step that is pointed at, shared by charts of the same time. */
  cursor?: Signal<number | null>;
}

const LEFT = 48;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 20;
/** A line goes on, dashed, over so many steps without a value. */
const SHORT_GAP = 5;

export function useWidth<E extends HTMLElement>(): [{ current: E | null }, number] {
  const box = useRef<E>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const measure = (): void => {
      const style = getComputedStyle(element);
      setWidth(Math.floor(element.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)));
    };
    const watch = new ResizeObserver(measure);
    watch.observe(element);
    measure();
    return () => watch.disconnect();
  }, []);
  return [box, width];
}

/** The steps at which a round time of day stands, with room for their texts. */
function timeMarks(from: number, step: number, steps: number, inner: number): number[] {
  const room = Math.ceil((64 * steps) / inner);
  const minutes = [5, 10, 15, 20, 30, 60].find((each) => (each * 60_000) / step >= room) ?? 60;
  const offset = new Date(from).getTimezoneOffset() * 60_000;
  const first = Math.ceil((from - offset) / (minutes * 60_000)) * minutes * 60_000 + offset;
  const marks: number[] = [];
  for (let at = first; at < from + steps * step; at += minutes * 60_000) marks.push((at - from) / step);
  // The ends belong to the edge and to "now".
  return marks.filter((mark) => mark >= room * 0.45 && mark <= steps - room * 0.95);
}

export function Chart({ title, series, form, unit, log, from, step, empty, height = 140, cursor }: ChartProps) {
  const [box, width] = useWidth<HTMLElement>();
  const own = useSignal<number | null>(null);
  const at = cursor ?? own;
  const steps = Math.max(0, ...series.map((one) => one.values.length));
  const isEmpty = series.every((one) => one.values.every((value) => value === null || (form === "bars" && value === 0)));
  const tall = height - TOP - BOTTOM;
  const inner = Math.max(10, width - LEFT - RIGHT);
  const scale = scaleOf(series, form, unit, log ?? false, steps);
  const x = (index: number): number => LEFT + (inner * index) / Math.max(1, steps);
  const y = (value: number): number => TOP + tall * (1 - scale.at(value));
  const shown = at.value !== null && at.value < steps ? at.value : null;
  const point = (event: TargetedPointerEvent<SVGSVGElement>): void => {
    const place = event.clientX - event.currentTarget.getBoundingClientRect().left;
    const index = Math.floor(((place - LEFT) / inner) * steps);
    at.value = index >= 0 && index < steps ? index : null;
  };
  const keys = (event: TargetedKeyboardEvent<SVGSVGElement>): void => {
    const present = shown ?? steps - 1;
    const next = { ArrowLeft: present - 1, ArrowRight: present + 1, PageUp: present - 10, PageDown: present + 10, Home: 0, End: steps - 1 }[event.key];
    if (event.key === "Escape") at.value = null;
    if (next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    at.value = Math.min(steps - 1, Math.max(0, next));
  };
  // With nothing pointed at, bars show the sum of the hour and lines their latest value.
  const latest = form === "lines" ? Math.max(...series.map((one) => one.values.findLastIndex((value) => value !== null))) : -1;
  const told = shown ?? (latest >= 0 ? latest : null);
  const figure = (one: Series): string => write(unit, told === null ? (form === "bars" ? sum(one.values) : null) : one.values[told]);
  const when = told === null ? (form === "bars" ? "in this hour" : "") : hourMinute(from + told * step);
  const spoken = `${when}: ${series.map((one) => `${one.name} ${figure(one)}`).join(", ")}`;
  return (
    <figure class="chart" ref={box}>
      <figcaption>
        <span class="title">{title}</span>
        <span class="when">{when}</span>
        <span class="legend">
          {series.map((one) => (
            <span key={one.name} class={`entry ${one.tone}`}>
              <i aria-hidden="true" />
              {one.name}
              {/* As wide as its longest value, so that pointing moves nothing. */}
              <b style={{ minWidth: `${longest(one, unit, form)}ch` }}>{figure(one)}</b>
            </span>
          ))}
        </span>
      </figcaption>
      {width > 0 && (
        <svg
          width={width}
          height={height}
          role="slider"
          aria-label={isEmpty ? `${title}: ${empty}` : title}
          aria-valuemin={0}
          aria-valuemax={Math.max(0, steps - 1)}
          aria-valuenow={shown ?? Math.max(0, steps - 1)}
          aria-valuetext={spoken}
          tabIndex={0}
          onPointerMove={point}
          onPointerDown={point}
          // A finger that is lifted leaves the figures; the next touch elsewhere ends them.
          onPointerLeave={(event) => event.pointerType !== "touch" && (at.value = null)}
          onKeyDown={keys}
          onBlur={() => (at.value = null)}
        >
          {scale.ticks.map((tick, index) => (
            <g key={tick}>
              <line class={index === 0 ? "base" : "grid"} x1={LEFT} x2={width - RIGHT} y1={crisp(y(tick))} y2={crisp(y(tick))} />
              {!isEmpty && (
                <text class="tick" x={LEFT - 8} y={y(tick) + 3.5} text-anchor="end">
                  {writeTick(unit, tick)}
                </text>
              )}
            </g>
          ))}
          {timeMarks(from, step, steps, inner).map((mark) => (
            <g key={mark}>
              <line class="base" x1={crisp(x(mark))} x2={crisp(x(mark))} y1={height - BOTTOM} y2={height - BOTTOM + 4} />
              <text class="tick" x={x(mark)} y={height - 5} text-anchor="middle">
                {hourMinute(from + mark * step)}
              </text>
            </g>
          ))}
          <text class="tick" x={width - RIGHT} y={height - 5} text-anchor="end">
            now
          </text>
          {isEmpty && (
            <text class="tick empty-text" x={LEFT + inner / 2} y={TOP + tall / 2 + 4} text-anchor="middle">
              {empty}
            </text>
          )}
          {shown !== null && <rect class="pointed" x={x(shown)} width={inner / steps} y={TOP} height={tall} />}
          {form === "bars" ? (
            <Bars series={series} steps={steps} x={x} y={y} />
          ) : (
            <Lines series={series} x={(index) => x(index + 0.5)} y={y} shown={shown} />
          )}
        </svg>
      )}
    </figure>
  );
}

function scaleOf(series: Series[], form: "bars" | "lines", unit: Unit, log: boolean, steps: number): Scale {
  if (form === "bars") {
    let highest = 0;
    for (let index = 0; index < steps; index++) highest = Math.max(highest, sum(series.map((one) => one.values[index] ?? 0)));
    return linear(unit, highest, 4);
  }
  const values = series.flatMap((one) => one.values.filter((value) => value !== null));
  return log ? logarithmic(values) : linear(unit, Math.max(0, ...values), 4);
}

function sum(values: (number | null)[]): number {
  return values.reduce((total: number, value) => total + (value ?? 0), 0);
}

function longest({ values }: Series, unit: Unit, form: "bars" | "lines"): number {
  const total = form === "bars" ? write(unit, sum(values)).length : 1;
  return values.reduce((most: number, value) => Math.max(most, write(unit, value).length), total);
}

/** Moves a line of one pixel onto the pixels. */
function crisp(place: number): number {
  return Math.round(place - 0.5) + 0.5;
}

const STRIPED = new Set(["c-failed", "c-lost"]);

/** Stacked bars, one path for each series. The running minute is paler: more may come. */
function Bars({ series, steps, x, y }: { series: Series[]; steps: number; x: (index: number) => number; y: (value: number) => number }) {
  const below = new Array<number>(steps).fill(0);
  const gap = x(1) - x(0) >= 4 ? 1 : 0;
  const stripes = useId();
  const paths = [...series].reverse().map((one) => {
    let whole = "";
    let running = "";
    for (let index = 0; index < steps; index++) {
      const value = one.values[index] ?? 0;
      if (value <= 0) continue;
      const base = below[index] ?? 0;
      below[index] = base + value;
      const left = Math.round(x(index));
      const right = Math.max(left + 1, Math.round(x(index + 1)) - gap);
      const high = y(base + value);
      // One among a thousand is still seen.
      const low = Math.max(y(base), high + 1);
      const bar = `M${left} ${low.toFixed(1)}V${high.toFixed(1)}H${right}V${low.toFixed(1)}Z`;
      if (index === steps - 1) running += bar;
      else whole += bar;
    }
    return (
      <g key={one.name} class={one.tone}>
        {whole && <path class="fill" d={whole} />}
        {running && <path class="fill running" d={running} />}
        {STRIPED.has(one.tone) && <path fill={`url(#${stripes})`} d={whole + running} />}
      </g>
    );
  });
  return (
    <g>
      <defs>
        {/* Stripes over what went wrong: red and green are one colour to some. */}
        <pattern id={stripes} width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <path class="stripe" d="M1 0V4" />
        </pattern>
      </defs>
      {paths}
    </g>
  );
}

/**
 * Lines. A short gap is crossed by a dashed line, a long one is left open, and a value between gaps is a dot: a quiet
 * hour stays readable and invents nothing.
 */
function Lines(props: { series: Series[]; x: (index: number) => number; y: (value: number) => number; shown: number | null }) {
  const { series, x, y, shown } = props;
  return (
    <g>
      {series.map((one) => {
        let line = "";
        let bridges = "";
        const dots: [number, number][] = [];
        let last: number | null = null;
        one.values.forEach((value, index) => {
          if (value === null) return;
          const place = `${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
          if (last === index - 1) line += `L${place}`;
          else {
            if (last !== null && index - last <= SHORT_GAP + 1) bridges += `M${x(last).toFixed(1)} ${y(one.values[last] ?? 0).toFixed(1)}L${place}`;
            line += `M${place}`;
            if (typeof one.values[index + 1] !== "number") dots.push([x(index), y(value)]);
          }
          last = index;
        });
        const pointed = shown === null ? null : one.values[shown];
        return (
          <g key={one.name} class={one.tone}>
            <path class="bridge" d={bridges} />
            <path class="line" d={line} />
            {dots.map(([left, top]) => (
              <circle key={left} class="dot" cx={left} cy={top} r={2} />
            ))}
            {shown !== null && typeof pointed === "number" && <circle class="dot ring" cx={x(shown)} cy={y(pointed)} r={3.5} />}
          </g>
        );
      })}
    </g>
  );
}

/** The course of the hour, small enough for a row of a table. The highest value is the top; `least` keeps little things low. */
export function Spark({ values, label, least = 0, tone = "c-0" }: { values: number[]; label: string; least?: number; tone?: string }) {
  const [width, height] = [90, 20];
  const top = Math.max(least, ...values) || 1;
  const points = values.map((value, index) => `${((width * index) / Math.max(1, values.length - 1)).toFixed(1)} ${(height - 1 - ((height - 2) * value) / top).toFixed(1)}`);
  return (
    <svg class={`spark ${tone}`} width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={label}>
      <title>{label}</title>
      <path class="area" d={`M0 ${height}L${points.join("L")}L${width} ${height}Z`} />
      <path class="line" d={`M${points.join("L")}`} />
    </svg>
  );
}

/** A small bar for a share from 0 to 1. */
export function Meter({ value, label, tone }: { value: number; label: string; tone?: string }) {
  const part = Math.min(1, Math.max(0, value));
  return (
    <span class={`meter ${tone ?? ""}`} role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(part * 100)}>
      <i style={{ width: `${part * 100}%` }} />
    </span>
  );
}
