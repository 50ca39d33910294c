// What is wrong now, how much is open, the last hour, and the health of sources and sinks.

import "./overview.css";

import { useSignal } from "@preact/signals";
import { useState } from "preact/hooks";

import { get } from "../lib/api";
import { count, hourMinute } from "../lib/format";
import { useLive } from "../lib/live";
import { href } from "../lib/router";
import type { History, Outcome, Overview, Trouble } from "../lib/types";
import { Button, Failure, Figure, Panel, State, Time } from "../parts/basics";
import { Chart, type Series } from "../parts/chart";
import { FirstWatch } from "../parts/first";
import { Problems, SinkTable, SourceTable } from "../parts/health";
import { write } from "../parts/scale";

const OUTCOMES: Outcome[] = ["completed", "cancelled", "expired", "failed", "lost"];
/** Sources that a chart tells apart; the others are one series. */
const TOLD_APART = 5;

export function OverviewView() {
  const loaded = useLive("overview", (abort) => get<Overview>("v1/overview", abort));
  const overview = loaded.data;
  return (
    <main id="main" tabIndex={-1}>
      <div class="view-head">
        <h1>Overview</h1>
        {overview && <State word={overview.state} />}
      </div>
      {loaded.error !== null && <Failure error={loaded.error} retry={loaded.reload} />}
      {loaded.data === null && loaded.error === null && <p class="quiet loading">Loading…</p>}
      {overview && <Body overview={overview} />}
    </main>
  );
}

function Body({ overview }: { overview: Overview }) {
  const { watches, deliveries, problems, sources, sinks, history } = overview;
  // A count that is not known yet may be any.
  // The callbacks of watches are always listed; they mean something once a watch brought one.
  const shownSinks = sinks.filter((sink) => sink.name !== "callback" || sink.pending + sink.delivered + sink.failed > 0);
  const isEmpty = Object.values(watches).every((value) => value === 0);
  return (
    <>
      {problems.length > 0 ? (
        <Panel title="What is wrong now" aside={numbers(problems)}>
          <Problems of={problems} />
        </Panel>
      ) : (
        !isEmpty && (
          <p class="calm">
            <State word="Nothing is wrong now." tone="good" />{" "}
            {deliveries.dead ? (
              <a href={href(["deliveries"], { state: "dead" })}>
                {deliveries.dead === 1 ? "One dead letter waits" : `${count(deliveries.dead)} dead letters wait`} to be sent again.
              </a>
            ) : null}
          </p>
        )
      )}
      {isEmpty ? (
        <FirstWatch sources={sources.map(({ name }) => name)} hasSinks={overview.sinks.length > 0} />
      ) : (
        <>
          <Figures overview={overview} />
          <LastHour history={history} />
        </>
      )}
      <Panel title="Sources" aside={<a href="#/sources">All about them</a>}>
        {sources.length > 0 ? <SourceTable sources={sources} used={isEmpty ? undefined : history.budget_used} /> : <p class="inside quiet">No source is configured.</p>}
      </Panel>
      <Panel title="Sinks" aside={<a href="#/deliveries">Deliveries</a>}>
        {shownSinks.length > 0 ? <SinkTable sinks={shownSinks} pending={isEmpty ? undefined : history.pending} /> : <p class="inside quiet">No sink is configured: results wait in the API.</p>}
      </Panel>
      <footer class="about">
        <span>tidings {overview.version}</span>
        <span>
          up <Time at={overview.started_at} form="age" />, since <Time at={overview.started_at} />
        </span>
      </footer>
    </>
  );
}

function numbers(problems: Trouble[]): string {
  const errors = problems.filter(({ severity }) => severity === "error").length;
  const warnings = problems.length - errors;
  const say = (number: number, what: string): string[] => (number > 0 ? [`${count(number)} ${what}${number === 1 ? "" : "s"}`] : []);
  return [...say(errors, "error"), ...say(warnings, "warning")].join(", ");
}

function Figures({ overview: { watches, deliveries } }: { overview: Overview }) {
  const jobs = (phase: string): string => href(["jobs"], { phase });
  const dead = deliveries.dead ?? 0;
  return (
    <div class="figures six">
      <Figure name="Watching" value={count(watches.watching)} note="polled until they finish" to={jobs("watching")} />
      <Figure name="Fetching" value={count(watches.fetching)} note="finished, result on its way" to={jobs("fetching")} />
      <Figure name="Delivering" value={count(watches.delivering)} note="not at every sink yet" to={jobs("delivering")} />
      <Figure name="Done" value={count(watches.done)} note="delivered everywhere" to={jobs("done")} />
      <Figure name="Pending deliveries" value={count(deliveries.pending)} note={`${count(deliveries.in_flight)} in flight`} to={href(["deliveries"], { state: "pending" })} />
      <Figure
        name="Dead letters"
        value={count(deliveries.dead)}
        note={dead > 0 ? `of ${count(watches.dead)} ${watches.dead === 1 ? "job" : "jobs"}` : "nothing was given up"}
        to={href(["deliveries"], { state: "dead" })}
        tone={dead > 0 ? "bad" : undefined}
      />
    </div>
  );
}

/** The requests to each source; the small ones together. */
function requestSeries(requests: Record<string, number[]>): Series[] {
  const total = (values: number[]): number => values.reduce((sum, value) => sum + value, 0);
  const names = Object.keys(requests);
  if (names.length <= TOLD_APART) return names.map((name, index) => ({ name, tone: `c-${index}`, values: requests[name] ?? [] }));
  const largest = [...names].sort((a, b) => total(requests[b] ?? []) - total(requests[a] ?? [])).slice(0, TOLD_APART - 1);
  const others = names.filter((name) => !largest.includes(name)).map((name) => requests[name] ?? []);
  return [
    // In the order of the names, so that a colour does not wander while two sources are about equal.
    ...names.filter((name) => largest.includes(name)).map((name, index) => ({ name, tone: `c-${index}`, values: requests[name] ?? [] })),
    { name: `${others.length} others`, tone: "c-5", values: (others[0] ?? []).map((_, step) => total(others.map((values) => values[step] ?? 0))) },
  ];
}

function LastHour({ history }: { history: History }) {
  const [isTable, setTable] = useState(false);
  const cursor = useSignal<number | null>(null);
  const time = { from: Date.parse(history.from), step: history.step_seconds * 1000, cursor };
  const ended = OUTCOMES.map((name) => ({ name, tone: `c-${name}`, values: history.ended[name] ?? [] }));
  const delay = ({ median, p99 }: History["detection_seconds"]): Series[] => [
    { name: "median", tone: "c-0", values: median },
    { name: "99th percentile", tone: "c-1", values: p99 },
  ];
  const [detection, delivery] = [delay(history.detection_seconds), delay(history.delivery_seconds)];
  const requests = requestSeries(history.requests);
  return (
    <Panel
      title="The last hour"
      aside={
        <Button kind="link" onClick={() => setTable(!isTable)}>
          {isTable ? "As charts" : "As a table"}
        </Button>
      }
    >
      {isTable ? (
        <HourTable
          from={time.from}
          step={time.step}
          groups={[
            ["Jobs ended", "count", ended],
            ["Detection delay", "seconds", detection],
            ["Delivery delay", "seconds", delivery],
            ["Requests", "count", requests],
          ]}
        />
      ) : (
        <div class="charts">
          <Chart {...time} title="Jobs ended per minute" form="bars" unit="count" series={ended} empty="No job ended in this hour." />
          <Chart {...time} title="Requests to sources per minute" form="bars" unit="count" series={requests} empty="No source was asked in this hour." />
          <Chart {...time} title="Detection delay" form="lines" unit="seconds" log series={detection} empty="No end at a known time in this hour." />
          <Chart {...time} title="Delivery delay" form="lines" unit="seconds" log series={delivery} empty="Nothing was delivered in this hour." />
        </div>
      )}
    </Panel>
  );
}

/** The same figures to read and to copy; only minutes in which something happened, the latest first. */
function HourTable({ from, step, groups }: { from: number; step: number; groups: [string, "count" | "seconds", Series[]][] }) {
  const columns = groups.flatMap(([, unit, series]) => series.map((one, at) => ({ unit, isFirst: at === 0, ...one })));
  const steps = Array.from({ length: columns[0]?.values.length ?? 0 }, (_, index) => index)
    .filter((index) => columns.some((column) => column.values[index]))
    .reverse();
  if (steps.length === 0) return <p class="inside quiet">Nothing happened in this hour.</p>;
  return (
    <div class="hour-table" tabIndex={0} role="region" aria-label="The last hour as a table">
      <table>
        <thead>
          <tr>
            <td />
            {groups.map(([name, , series]) => (
              <th key={name} scope="colgroup" colSpan={series.length}>
                {name}
              </th>
            ))}
          </tr>
          <tr>
            <th scope="col">Minute</th>
            {groups.map(([group, , series]) =>
              series.map((one, at) => (
                <th key={`${group} ${one.name}`} scope="col" class={at === 0 ? "number first" : "number"}>
                  {one.name}
                </th>
              )),
            )}
          </tr>
        </thead>
        <tbody>
          {steps.map((index) => (
            <tr key={index}>
              <th scope="row">{hourMinute(from + index * step)}</th>
              {columns.map((column, at) => (
                <td key={at} class={column.isFirst ? "number first" : "number"}>
                  {write(column.unit, column.values[index])}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
