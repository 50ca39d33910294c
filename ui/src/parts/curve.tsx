// A survival curve: how many jobs still run at each age, and when a new job would be polled.

import { useState } from "preact/hooks";
import type { TargetedKeyboardEvent, TargetedPointerEvent } from "preact";

import { axisDuration, count, duration, share } from "../lib/format";
import { useWidth } from "./chart";
import { ages } from "./scale";

type Points = [number, number][];

interface CurveProps {
  title: string;
  survival: Points;
  /** The ages at the polls of a new job; none where the strategy does not follow the curve. */
  polls: number[];
  median: number | null;
  p90: number | null;
}

/** The daemon lists no more polls. */
const LISTED = 40;
const HEIGHT = 280;
const LEFT = 48;
const RIGHT = 12;
const TOP = 22;
const BOTTOM = 24;

/** The share of jobs that still run at an age, on a straight line between the points. */
export function shareAt(survival: Points, age: number): number {
  const next = survival.findIndex(([at]) => at > age);
  const [a, b] = [survival[next === -1 ? survival.length - 1 : next - 1], survival[next]];
  if (!a) return 1;
  return b ? a[1] + ((b[1] - a[1]) * (age - a[0])) / (b[0] - a[0]) : a[1];
}

/** Whether a few jobs take so much longer than most that a linear axis would squeeze most into its beginning. */
export function isLongTailed(survival: Points, median: number | null): boolean {
  return median !== null && (survival.at(-1)?.[0] ?? 0) > 8 * median;
}

export function Curve({ title, survival, polls, median, p90 }: CurveProps) {
  const [box, width] = useWidth<HTMLElement>();
  const [at, setAt] = useState<number | null>(null);
  const end = survival.at(-1)?.[0] ?? 1;
  const isLog = isLongTailed(survival, median);
  const inner = Math.max(10, width - LEFT - RIGHT);
  const tall = HEIGHT - TOP - BOTTOM;
  // Logarithmic, but from zero: linear far below the median, and logarithmic far above.
  const unit = isLog ? (median ?? 1) / 2 : Infinity;
  const part = (age: number): number => (isLog ? Math.log1p(age / unit) / Math.log1p(end / unit) : age / end);
  const x = (age: number): number => LEFT + inner * part(age);
  const y = (value: number): number => TOP + tall * (1 - value);
  const ageAt = (place: number): number => {
    const along = Math.min(1, Math.max(0, (place - LEFT) / inner));
    return isLog ? Math.expm1(along * Math.log1p(end / unit)) * unit : along * end;
  };
  const shownPolls = polls.filter((poll) => poll <= end);
  const point = (event: TargetedPointerEvent<SVGSVGElement>): void => {
    setAt(ageAt(event.clientX - event.currentTarget.getBoundingClientRect().left));
  };
  const keys = (event: TargetedKeyboardEvent<SVGSVGElement>): void => {
    // From poll to poll; without polls in steps of a fiftieth.
    const stops = shownPolls.length > 0 ? shownPolls : Array.from({ length: 51 }, (_, index) => ageAt(LEFT + (inner * index) / 50));
    const present = at ?? -1;
    const next = {
      ArrowRight: stops.find((stop) => stop > present + 1e-9) ?? stops.at(-1),
      ArrowLeft: stops.findLast((stop) => stop < present - 1e-9) ?? stops[0],
      Home: stops[0],
      End: stops.at(-1),
    }[event.key];
    if (event.key === "Escape") setAt(null);
    if (next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    setAt(next);
  };
  const line = survival.map(([age, value], index) => `${index ? "L" : "M"}${x(age).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const marks = spaced(ages(end, Math.max(3, Math.floor(inner / 80)), isLog), x, isLog ? 58 : 40, LEFT + inner);
  const told = at === null ? null : tell(survival, shownPolls, at, inner / end);
  return (
    <figure class="chart curve" ref={box}>
      <figcaption>
        <span class="title">{title}</span>
        <span class="legend">
          <span class="entry c-0">
            <i aria-hidden="true" class="of-line" />
            jobs still running at an age
          </span>
          {polls.length > 0 && (
            <span class="entry c-1">
              <i aria-hidden="true" class="of-poll" />
              {polls.length >= LISTED && shownPolls.length === polls.length ? `the first ${count(polls.length)} planned polls of a new job` : "planned polls of a new job"}
            </span>
          )}
        </span>
        <span class="readout" aria-hidden="true">
          {told ?? (isLog ? "The axis of ages is logarithmic." : "\u00a0")}
        </span>
      </figcaption>
      {width > 0 && (
        <svg
          width={width}
          height={HEIGHT}
          role="slider"
          aria-label={`${title}; the arrow keys go from poll to poll`}
          aria-valuemin={0}
          aria-valuemax={Math.round(end)}
          aria-valuenow={Math.round(at ?? 0)}
          aria-valuetext={told ?? "age 0: all jobs run"}
          tabIndex={0}
          onPointerMove={point}
          onPointerDown={point}
          onPointerLeave={(event) => event.pointerType !== "touch" && setAt(null)}
          onKeyDown={keys}
          onBlur={() => setAt(null)}
        >
          {[0, 0.25, 0.5, 0.75, 1].map((value) => (
            <g key={value}>
              <line class={value === 0 ? "base" : "grid"} x1={LEFT} x2={width - RIGHT} y1={Math.round(y(value)) + 0.5} y2={Math.round(y(value)) + 0.5} />
              <text class="tick" x={LEFT - 8} y={y(value) + 3.5} text-anchor="end">
                {share(value)}
              </text>
            </g>
          ))}
          {marks.map((age) => (
            <g key={age}>
              <line class="base" x1={x(age)} x2={x(age)} y1={HEIGHT - BOTTOM} y2={HEIGHT - BOTTOM + 4} />
              <text class="tick" x={x(age)} y={HEIGHT - 6} text-anchor={x(age) > width - RIGHT - 20 ? "end" : "middle"}>
                {axisDuration(age)}
              </text>
            </g>
          ))}
          <path class="area c-0" d={`${line}V${y(0)}H${x(survival[0]?.[0] ?? 0)}Z`} />
          <g class="c-1">
            {shownPolls.map((poll) => (
              <line key={poll} class="stem" x1={x(poll)} x2={x(poll)} y1={y(0)} y2={y(shareAt(survival, poll))} />
            ))}
          </g>
          <path class="line c-0" d={line} />
          <g class="c-1">
            {shownPolls.map((poll) => (
              <circle key={poll} class="dot ring" cx={x(poll)} cy={y(shareAt(survival, poll))} r={poll === at ? 5 : 3.25} />
            ))}
          </g>
          <Quantiles
            items={[
              ["half finished by", 0.5, median],
              ["90% by", 0.1, p90],
            ]}
            x={x}
            y={y}
            right={width - RIGHT}
          />
          {at !== null && <line class="hair" x1={x(at)} x2={x(at)} y1={TOP} y2={HEIGHT - BOTTOM} />}
        </svg>
      )}
    </figure>
  );
}

/** Leaves marks out until each has room for its text. The last ones give way to the axis' end. */
function spaced(marks: number[], x: (age: number) => number, room: number, right: number): number[] {
  const kept: number[] = [];
  for (const mark of marks) {
    const last = kept.at(-1);
    if ((last === undefined || x(mark) - x(last) >= room) && x(mark) <= right + 1) kept.push(mark);
  }
  return kept[0] === 0 ? kept : [0, ...kept.filter((mark) => x(mark) - x(0) >= room * 0.6)];
}

/** Dashed lines from the curve up to their names. */
function Quantiles(props: { items: [string, number, number | null][]; x: (age: number) => number; y: (value: number) => number; right: number }) {
  const { items, x, y, right } = props;
  let taken = -Infinity;
  return (
    <g>
      {items.map(([name, value, age]) => {
        if (age === null || x(age) > right) return null;
        const text = `${name} ${duration(age)}`;
        // About six pixels a character; the text stands on the side where it has room.
        const before = x(age) + text.length * 6.3 > right;
        const row = x(age) - (before ? text.length * 6.3 : 0) < taken ? 1 : 0;
        taken = x(age) + (before ? 8 : text.length * 6.3);
        return (
          <g key={name}>
            <line class="quantile" x1={x(age)} x2={x(age)} y1={TOP - 12 + row * 15} y2={y(value)} />
            <text class="tick strong" x={x(age) + (before ? -5 : 5)} y={TOP - 5 + row * 15} text-anchor={before ? "end" : "start"}>
              {text}
            </text>
          </g>
        );
      })}
    </g>
  );
}

/** What an age means: the share that runs, and the poll that stands there. */
function tell(survival: Points, polls: number[], age: number, pixelsPerSecond: number): string {
  const index = polls.findIndex((poll) => Math.abs(poll - age) * pixelsPerSecond <= 3 || Math.abs(poll - age) < 1e-6 * age);
  const poll = polls[index];
  if (poll === undefined) return `At an age of ${duration(age)}, ${share(shareAt(survival, age))} still run.`;
  const before = index > 0 ? shareAt(survival, polls[index - 1] ?? 0) : 1;
  const running = shareAt(survival, poll);
  const since = index > 0 ? "since the poll before" : "before";
  return `Poll ${count(index + 1)} at ${duration(poll)}: ${share(running)} still run, ${share(before - running)} finished ${since}.`;
}
