// The health of sources and sinks, and what is wrong, as several views show it.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

import { count, duration, share } from "../lib/format";
import { href, sinkHref, sourceHref } from "../lib/router";
import type { Sink, Source, Trouble } from "../lib/types";
import { State, Time } from "./basics";
import { Meter, Spark } from "./chart";

/** A sentence of the daemon: begun with a capital, ended with a full stop, and with its keys and commands as code. */
export function Sentence({ text }: { text: string }) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
  const parts = whole.split("`");
  // A lone backtick is one that an error message brought along.
  if (parts.length % 2 === 0) return <>{whole}</>;
  return <>{parts.map((part, index) => (index % 2 === 1 ? <code key={index}>{part}</code> : part))}</>;
}

const SHOWN = 6;

function subjectOf({ code, subject }: Trouble): { to: string; title: string } | null {
  if (subject.name === null || subject.name === undefined) return null;
  // It has no view of its own.
  if (code === "source_not_configured") return { to: href(["jobs"], { source: subject.name }), title: "Open its jobs" };
  if (subject.type === "sink") return { to: sinkHref(subject.name), title: `Open sink ${subject.name}` };
  if (subject.type === "source") return { to: sourceHref(subject.name), title: `Open source ${subject.name}` };
  return null;
}

/** What is wrong, worst first, each with the way out. */
export function Problems({ of: problems, linked = true }: { of: Trouble[]; linked?: boolean }) {
  const [all, setAll] = useState(false);
  const shown = all ? problems : problems.slice(0, SHOWN);
  return (
    <>
      <ul class="problems">
        {shown.map((problem) => {
          const target = linked ? subjectOf(problem) : null;
          return (
            <li key={`${problem.code} ${problem.subject.type} ${problem.subject.name}`} class={problem.severity === "error" ? "tone-bad" : "tone-warn"}>
              <State word={problem.severity} tone={problem.severity === "error" ? "bad" : "warn"} />
              <div class="what">
                <p class="summary">
                  <Sentence text={problem.summary} />
                </p>
                <p class="remedy">
                  <Sentence text={problem.remedy} />
                </p>
              </div>
              <div class="where">
                {problem.since && (
                  <span class="quiet">
                    for <Time at={problem.since} form="age" />
                  </span>
                )}
                {target && <a href={target.to}>{target.title}</a>}
              </div>
            </li>
          );
        })}
      </ul>
      {problems.length > shown.length && (
        <button type="button" class="button link more" onClick={() => setAll(true)}>
          {count(problems.length - shown.length)} more
        </button>
      )}
    </>
  );
}

interface ColumnOf<T> {
  name: string;
  /** A figure, on the right. */
  number?: boolean;
  /** Where rows are cards: `beside` the name and without its own, `wide`, or as wide as the card. */
  place?: "beside" | "wide" | "whole";
  cell: (item: T) => ComponentChildren;
}

/** The keys of the long lists go from row to row here too. */
function move(event: KeyboardEvent): void {
  const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  const row = (event.target as HTMLElement).closest("tr");
  const link = (step > 0 ? row?.nextElementSibling : row?.previousElementSibling)?.querySelector<HTMLElement>("a.cover");
  if (!link) return;
  event.preventDefault();
  link.focus();
}

/** A small table whose rows become cards where it is narrow. The first column links on, and the whole row follows the link. */
export function HealthTable<T extends { name: string }>(props: { name: string; items: T[]; columns: ColumnOf<T>[]; to: (item: T) => string }) {
  const { name, items, columns, to } = props;
  return (
    <table class="health" aria-label={name}>
      <thead>
        <tr>
          <th scope="col">Name</th>
          {columns.map((column) => (
            <th key={column.name} scope="col" class={column.number ? "number" : undefined}>
              {column.name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody onKeyDown={move}>
        {items.map((item) => (
          <tr key={item.name}>
            <th scope="row">
              <a class="cover" href={to(item)} title={item.name}>
                {item.name}
              </a>
            </th>
            {columns.map((column) => (
              <td key={column.name} data-name={column.name} class={[column.number && "number", column.place].filter(Boolean).join(" ") || undefined}>
                {column.cell(item)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** How much of its request budget a source uses. */
export function BudgetMeter({ source }: { source: Source }) {
  const { budget_used: used, requests_per_second: rate } = source.polling;
  const lowered = rate < source.max_requests_per_second * 0.999;
  return (
    <span class="metered" title={`${share(used)} of ${rate} requests a second`}>
      <Meter value={used} label={`Budget of ${source.name} in use`} tone={used > 0.9 ? "tone-warn" : undefined} />
      <span>
        {share(used)} <span class="quiet">of {Number(rate.toPrecision(3))}/s{lowered ? ", lowered" : ""}</span>
      </span>
    </span>
  );
}

/** A count that steps back while it is zero. */
function Quantity({ of: value, tone }: { of: number; tone?: string }) {
  return <span class={value === 0 ? "quiet" : tone ? `toned ${tone}` : undefined}>{count(value)}</span>;
}

const SOURCE_COLUMNS: ColumnOf<Source>[] = [
  { name: "State", place: "beside", cell: (source) => <State word={source.state} /> },
  { name: "Open jobs", number: true, cell: (source) => <Quantity of={source.open_watches} /> },
  { name: "Budget in use", place: "wide", cell: (source) => <BudgetMeter source={source} /> },
  { name: "Polls per job", number: true, cell: (source) => source.polling.polls_per_job?.toFixed(1) ?? "–" },
  { name: "Mean delay", number: true, cell: (source) => duration(source.polling.mean_delay_seconds) },
];

/** The sources. `used` is the share of its budget that each one used in each minute of the hour. */
export function SourceTable({ sources, used, more = [] }: { sources: Source[]; used?: Record<string, number[]>; more?: ColumnOf<Source>[] }) {
  const hour: ColumnOf<Source> = {
    name: "Last hour",
    cell: ({ name }) => {
      const values = used?.[name];
      return values ? <Spark values={values} least={1} tone="c-2" label={`At most ${share(Math.max(...values))} of the budget in use`} /> : <span class="quiet">–</span>;
    },
  };
  const columns = used ? [...SOURCE_COLUMNS.slice(0, 3), hour, ...SOURCE_COLUMNS.slice(3)] : SOURCE_COLUMNS;
  return <HealthTable name="Sources" items={sources} columns={[...columns, ...more]} to={(source) => sourceHref(source.name)} />;
}

const SINK_COLUMNS: ColumnOf<Sink>[] = [
  { name: "State", place: "beside", cell: (sink) => <State word={sink.state} /> },
  { name: "Backlog", number: true, cell: (sink) => <Quantity of={sink.pending} /> },
  { name: "Oldest", number: true, cell: (sink) => <Time at={sink.oldest_pending_at} form="age" /> },
  { name: "Success", number: true, cell: (sink) => share(sink.success_share) },
  {
    name: "Breaker",
    cell: (sink) => (sink.breaker === "closed" ? <span class="quiet">closed</span> : <State word={sink.breaker} tone={sink.breaker === "open" ? "bad" : "warn"} />),
  },
  { name: "Failures in a row", number: true, cell: (sink) => <Quantity of={sink.failures_in_row} tone="tone-bad" /> },
  { name: "In flight", number: true, cell: (sink) => <Quantity of={sink.in_flight} /> },
  { name: "Dead since start", number: true, cell: (sink) => <Quantity of={sink.dead} tone="tone-bad" /> },
];

/** The sinks. `pending` is the backlog of each at the end of each minute of the hour. */
export function SinkTable({ sinks, pending }: { sinks: Sink[]; pending?: Record<string, number[]> }) {
  const hour: ColumnOf<Sink> = {
    name: "Last hour",
    cell: ({ name }) => {
      const values = pending?.[name];
      return values ? <Spark values={values} least={10} label={`A backlog of ${count(Math.min(...values))} to ${count(Math.max(...values))}`} /> : <span class="quiet">–</span>;
    },
  };
  const columns = pending ? [...SINK_COLUMNS.slice(0, 2), hour, ...SINK_COLUMNS.slice(2)] : SINK_COLUMNS;
  return <HealthTable name="Sinks" items={sinks} columns={columns} to={(sink) => sinkHref(sink.name)} />;
}
