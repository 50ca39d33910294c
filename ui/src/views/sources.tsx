// Sources: their health, what their jobs taught the daemon, and what they tell by hooks and lists.

import "./sources.css";

import type { ComponentChildren } from "preact";

import { get, path } from "../lib/api";
import { axisDuration, count, duration, share } from "../lib/format";
import { useLive } from "../lib/live";
import { amend, href, route } from "../lib/router";
import type { Kind, Overview, Page, Source } from "../lib/types";
import { Facts, Failure, Figure, Panel, State, Time } from "../parts/basics";
import { Chart, Meter } from "../parts/chart";
import { Curve, shareAt } from "../parts/curve";
import { Problems, SourceTable } from "../parts/health";
import { Reconcile } from "./reconcile";

export function SourcesView({ name }: { name: string | undefined }) {
  return name === undefined ? <All /> : <One key={name} name={name} />;
}

function All() {
  const loaded = useLive("sources", (abort) => get<Page<Source>>("v1/sources", abort));
  return (
    <main id="main" tabIndex={-1}>
      <h1>Sources</h1>
      {loaded.error !== null && <Failure error={loaded.error} retry={loaded.reload} />}
      {loaded.data === null && loaded.error === null && <p class="quiet loading">Loading…</p>}
      {loaded.data && (
        <section class="panel" aria-label="All sources">
          <SourceTable
            sources={loaded.data.data}
            more={[
              { name: "Requests", number: true, cell: (source) => count(source.requests) },
              { name: "Type", cell: (source) => <span class="cut">{source.type}</span> },
              {
                name: "Last error",
                place: "whole",
                cell: (source) =>
                  source.last_error ? (
                    <span class="cut" title={source.last_error}>
                      {source.last_error}
                    </span>
                  ) : (
                    <span class="quiet">–</span>
                  ),
              },
            ]}
          />
        </section>
      )}
    </main>
  );
}

function One({ name }: { name: string }) {
  const loaded = useLive(`source ${name}`, async (abort) => {
    const [source, overview] = await Promise.all([get<Source>(`v1/sources/${path(name)}`, abort), get<Overview>("v1/overview", abort)]);
    return { source, overview };
  });
  const data = loaded.data;
  return (
    <main id="main" tabIndex={-1}>
      <div class="view-head">
        <h1>
          <a class="up" href="#/sources">
            Sources
          </a>{" "}
          <span class="quiet">/</span> {name}
        </h1>
        {data && <Standing source={data.source} />}
      </div>
      {loaded.error !== null && <Failure error={loaded.error} retry={loaded.reload} />}
      {loaded.data === null && loaded.error === null && <p class="quiet loading">Loading…</p>}
      {data && <Body source={data.source} overview={data.overview} />}
    </main>
  );
}

/** Its state, in a word and in a sentence. What is wrong, and the way out, follow below. */
function Standing({ source }: { source: Source }) {
  const well = source.requests === 0 ? "The daemon has had nothing to ask it yet." : "It answers.";
  return (
    <>
      <State word={source.state} />
      {source.state === "ok" && <span class="quiet">{well}</span>}
    </>
  );
}

function Body({ source, overview }: { source: Source; overview: Overview }) {
  const { name, polling } = source;
  const problems = overview.problems.filter(({ subject }) => subject.type === "source" && subject.name === name);
  const isSlow = polling.budget_used > 0.9;
  return (
    <>
      {problems.length > 0 && (
        <section class="panel" aria-label="What is wrong with this source">
          <Problems of={problems} linked={false} />
        </section>
      )}
      {source.paused_until && (
        <p class="notice tone-warn">
          <span>
            The daemon sends no requests until <Time at={source.paused_until} form="both" />, then goes on by itself.
          </span>
        </p>
      )}
      <div class="figures six">
        <Figure name="Open jobs" value={count(source.open_watches)} note="polled or fetched" to={href(["jobs"], { source: name, phase: "watching" })} />
        <Figure name="Jobs finished" value={count(polling.finished)} note="since the daemon started" to={href(["jobs"], { source: name, phase: "done" })} />
        <Figure name="Polls per job" value={polling.polls_per_job?.toFixed(1) ?? "–"} note="on average" />
        <Figure name="Mean delay" value={duration(polling.mean_delay_seconds)} note="from the end to its poll" />
        <Figure name="Requests" value={count(source.requests)} note="since the daemon started" />
        <Figure
          name="Budget in use"
          value={share(polling.budget_used)}
          tone={isSlow ? "warn" : undefined}
          note={<Meter value={polling.budget_used} label="Budget in use" tone={isSlow ? "tone-warn" : undefined} />}
        />
      </div>
      <Learned source={source} />
      <div class="grid two">
        <div class="stack">
          <Budget source={source} overview={overview} />
          <Hooks source={source} />
        </div>
        <div class="stack">
          <Traffic source={source} overview={overview} />
          <List source={source} />
        </div>
      </div>
    </>
  );
}

/** The name of a kind as people know it: its endpoint, and the value of the label that separates kinds. */
function kindName(kind: Kind): string {
  return [kind.endpoint || "(no endpoint)", kind.label].filter((part) => part !== null).join(" · ");
}

function Learned({ source }: { source: Source }) {
  const { kinds, strategy } = source.polling;
  const chosen = route.value.query.get("kind");
  const kind = kinds.find((one) => kindName(one) === chosen) ?? kinds[0];
  return (
    <Panel title="How long jobs take, and when they are polled" aside={kind && `${count(kinds.length)} ${kinds.length === 1 ? "kind" : "kinds"} learned`}>
      {!kind ? (
        <Prior source={source} />
      ) : (
        <div class={kinds.length > 1 ? "learned with-kinds" : "learned"}>
          {kinds.length > 1 && <Kinds kinds={kinds} chosen={kind} />}
          <div class="picture">
            {kind.survival && kind.survival.length > 1 && (
              <Curve
                title={kindName(kind)}
                survival={kind.survival}
                polls={strategy === "learned" ? (kind.looks ?? []) : []}
                median={kind.median_seconds}
                p90={kind.p90_seconds}
              />
            )}
            <p class="meaning">
              <Meaning kind={kind} strategy={strategy} />
            </p>
          </div>
        </div>
      )}
    </Panel>
  );
}

function Kinds({ kinds, chosen }: { kinds: Kind[]; chosen: Kind }) {
  return (
    <div class="kinds" tabIndex={0} role="region" aria-label="Kinds of jobs">
      <table>
        <thead>
          <tr>
            <th scope="col">Endpoint</th>
            <th scope="col" class="number">
              Finished
            </th>
            <th scope="col" class="number">
              Median
            </th>
            <th scope="col" class="number">
              90%
            </th>
          </tr>
        </thead>
        <tbody>
          {kinds.map((kind) => (
            <tr key={kindName(kind)} class={kind === chosen ? "chosen" : undefined}>
              <th scope="row">
                <button type="button" class="cover" aria-pressed={kind === chosen} title={kindName(kind)} onClick={() => amend({ kind: kindName(kind) })}>
                  {kindName(kind)}
                </button>
              </th>
              <td class="number">{count(kind.finishes)}</td>
              <td class="number">{brief(kind.median_seconds)}</td>
              <td class="number">{brief(kind.p90_seconds)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function brief(seconds: number | null): string {
  return seconds === null ? "–" : axisDuration(seconds);
}

/** Jobs that must have finished before a kind's own curve outweighs what it started from. */
const ENOUGH = 20;

function Meaning({ kind, strategy }: { kind: Kind; strategy: string }) {
  const { median_seconds: median, p90_seconds: p90, finishes, survival = [] } = kind;
  const polls = strategy === "learned" ? (kind.looks ?? []) : [];
  const said: ComponentChildren[] = [];
  if (median !== null && p90 !== null) said.push(`Half of these jobs finish within ${duration(median)}, and nine in ten within ${duration(p90)}.`);
  const first = polls[0];
  if (first !== undefined && survival.length > 1) {
    said.push(` A new job is polled first after ${duration(first)}, when ${share(1 - shareAt(survival, first))} have finished.`);
    const gaps = polls.slice(1).map((poll, index) => ({ gap: poll - (polls[index] ?? 0), middle: (poll + (polls[index] ?? 0)) / 2 }));
    const [closest] = gaps.sort((a, b) => a.gap - b.gap);
    if (closest) said.push(` Polls are closest around ${duration(closest.middle)}, ${duration(closest.gap)} apart.`);
    // The end of a job is seen by the first poll after it. Polls beyond those that are listed are not known.
    const needed = p90 === null ? polls.length : polls.filter((poll) => poll < p90).length + 1;
    if (needed < polls.length) said.push(` Nine in ten jobs need at most ${needed === 1 ? "one poll" : `${count(needed)} polls`}.`);
  } else if (strategy !== "learned") {
    said.push(` The strategy is ${strategy}, so polls do not follow this curve.`);
  }
  if (finishes < ENOUGH) {
    said.push(` ${finishes === 1 ? "One job has" : `${count(finishes)} jobs have`} finished so far: the curve is still mostly a guess, and each further one makes it better.`);
  } else said.push(` Learned from ${count(finishes)} finished jobs.`);
  return <>{said}</>;
}

/** What happens before anything is learned. */
function Prior({ source }: { source: Source }) {
  const { strategy, cost_of_a_poll_seconds: cost } = source.polling;
  // The interval at an age while the hazard is the prior's, 1 / (age + 10 s).
  const interval = (age: number): string => duration(Number(Math.sqrt(2 * cost * (age + 10)).toPrecision(2)));
  return (
    <p class="inside">
      Nothing is learned yet, because no job of this source has finished.{" "}
      {strategy === "learned" ? (
        <>
          Until then the daemon assumes that a job which has run for long will run on for long, and polls at intervals that grow with its age: about{" "}
          {interval(0)} at first, {interval(60)} after a minute, {interval(600)} after ten. The first jobs that finish replace this guess.
        </>
      ) : (
        <>The strategy is {strategy}, so polls do not wait for it.</>
      )}
    </p>
  );
}

const STRATEGIES: Record<string, string> = {
  learned: "learned: a job is polled when its end is likely enough",
  backoff: "backoff: intervals grow with each poll",
  fixed: "fixed: all intervals are the same",
};

function rate(perSecond: number): string {
  return `${Number(perSecond.toPrecision(3))} a second`;
}

function Budget({ source, overview }: { source: Source; overview: Overview }) {
  const { polling, budget } = source;
  const sharing = overview.sources.filter((other) => budget !== null && other.budget === budget && other.name !== source.name).map((other) => other.name);
  const isLowered = polling.requests_per_second < source.max_requests_per_second * 0.999;
  return (
    <Panel title="Budget and polling">
      <div class="inside narrow">
        <Facts
          items={[
            ["Address", <span class="mono">{source.base_url}</span>],
            ["Type", source.type],
            ["Budget configured", `${rate(source.max_requests_per_second)}`],
            [
              "Budget now",
              isLowered ? (
                <span class="toned tone-warn">{rate(polling.requests_per_second)}, lowered because the source asked for less</span>
              ) : (
                rate(polling.requests_per_second)
              ),
            ],
            ["Shared", budget === null ? "no, its own" : `as ${budget}${sharing.length > 0 ? ` with ${sharing.join(", ")}` : ""}`],
            ["Strategy", STRATEGIES[polling.strategy] ?? polling.strategy],
            ...(polling.strategy === "learned" ? ([["Cost of a poll", `${duration(polling.cost_of_a_poll_seconds)} of delay`]] as [string, ComponentChildren][]) : []),
            ["Last error", source.last_error && <span class="long">{source.last_error}</span>],
            ...(source.kinds.length > 1
              ? ([
                  [
                    "Kinds of jobs",
                    <details>
                      <summary>{count(source.kinds.length)}</summary>
                      {source.kinds.join(", ")}
                    </details>,
                  ],
                ] as [string, ComponentChildren][])
              : []),
          ]}
        />
      </div>
    </Panel>
  );
}

function Traffic({ source, overview: { history } }: { source: Source; overview: Overview }) {
  const requests = history.requests[source.name];
  const used = history.budget_used[source.name];
  const time = { from: Date.parse(history.from), step: history.step_seconds * 1000 };
  return (
    <Panel title="The last hour">
      {requests && <Chart {...time} title="Requests per minute" form="bars" unit="count" series={[{ name: "requests", tone: "c-0", values: requests }]} empty="No requests in this hour." height={120} />}
      {used && <Chart {...time} title="Budget in use" form="lines" unit="share" series={[{ name: "used", tone: "c-2", values: used }]} empty="Nothing was used in this hour." height={120} />}
      {!requests && !used && <p class="inside quiet">The daemon keeps the last hour of 32 sources; this one is not among them.</p>}
    </Panel>
  );
}

function Hooks({ source: { name, hooks } }: { source: Source }) {
  if (!hooks) {
    return (
      <Panel title="Hooks">
        <p class="inside quiet">
          None are configured. With them the source announces the end of a job, and polls become rare. <code>sources.{name}.hooks</code> takes the secret.
        </p>
      </Panel>
    );
  }
  return (
    <Panel title="Hooks">
      <div class="inside narrow">
        <Facts
          items={[
            ["Received", <>{count(hooks.received)}{hooks.last_at && <>, the last one <Time at={hooks.last_at} form="relative" /></>}</>],
            [
              "Refused",
              hooks.refused === 0 ? (
                "0"
              ) : (
                <span class={hooks.last_refusal ? "toned tone-warn" : undefined}>
                  {count(hooks.refused)}
                  {hooks.last_refusal && `; the last one: ${hooks.last_refusal}`}
                </span>
              ),
            ],
            ["Ends announced", `${count(hooks.announced)}; ${count(hooks.missed)} found by a poll alone`],
            [
              "Reliability",
              hooks.reliability === null ? null : (
                <span class="metered">
                  <Meter value={hooks.reliability} label="Reliability of the hooks" />
                  {share(hooks.reliability)} of ends
                </span>
              ),
            ],
            ["Mean delay", `${duration(hooks.mean_delay_seconds)} with a hook`],
          ]}
        />
      </div>
    </Panel>
  );
}

function List({ source }: { source: Source }) {
  const { list } = source;
  if (!list) {
    return (
      <Panel title="List">
        <p class="inside quiet">Sources of type {source.type} have no list that the daemon can read, so it recovers no missed jobs here.</p>
      </Panel>
    );
  }
  const trouble = (error: string | null): ComponentChildren => error && <span class="toned tone-warn long">{error}</span>;
  return (
    <Panel title="List">
      <div class="inside narrow">
        <Facts
          items={[
            ["Pages read", <>{count(list.pages)}{list.last_page_at && <>, the last one <Time at={list.last_page_at} form="relative" /> with {count(list.last_page_jobs)} jobs</>}</>],
            ["Jobs discovered", count(list.discovered)],
            ["Polls answered", count(list.answered)],
            ["Last error", trouble(list.last_error)],
            ...(list.discovery_error ? ([["Discovery", trouble(list.discovery_error)]] as [string, ComponentChildren][]) : []),
          ]}
        />
        <Reconcile source={source} />
      </div>
    </Panel>
  );
}
