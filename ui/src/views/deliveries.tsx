// The sinks with their health, and the deliveries: what waits, what failed and why, and sending it again.

import "./deliveries.css";

import { useCallback, useMemo, useRef } from "preact/hooks";

import { get, withQuery } from "../lib/api";
import { type Filter, counted, filterOf, redeliverAll } from "../lib/deliveries";
import { count } from "../lib/format";
import { now, useLive } from "../lib/live";
import { usePages } from "../lib/pages";
import { amend, href, route } from "../lib/router";
import type { Delivery, DeliveryState, Page, Sink, Source } from "../lib/types";
import { Button, Command, Empty, Failure, Search, Select } from "../parts/basics";
import { attempt, confirmed, say } from "../parts/dialog";
import { Column, Rows } from "../parts/rows";
import { DeliveryDrawer, DeliveryRow } from "./delivery";
import { SinkList } from "./sinks";
import { Unrouted } from "./unrouted";

const STATES: DeliveryState[] = ["pending", "delivered", "dead"];

export function DeliveriesView() {
  const { parts, query } = route.value;
  const filter = filterOf(query);
  const open = parts[1] ?? null;
  // From the list, the way out of a delivery is the way back.
  const wasList = useRef(false);
  if (open === null) wasList.current = true;
  const close = (): void => {
    if (wasList.current) history.back();
    else location.replace(`${href(["deliveries"])}${query.size > 0 ? `?${query}` : ""}`);
  };
  const sinks = useLive("sinks", (abort) => get<Page<Sink>>("v1/sinks", abort));
  const sources = useLive("sources", (abort) => get<Page<Source>>("v1/sources", abort), undefined, 30_000);
  const names = sinks.data?.data ?? [];
  return (
    <main id="main" tabIndex={-1} class="deliveries">
      <div class="view-head">
        <h1>Deliveries</h1>
        {sinks.data && <Summary sinks={names} />}
      </div>
      {sinks.error != null && <Failure error={sinks.error} retry={sinks.reload} />}
      <div class="columns">
        <SinkList sinks={sinks.data?.data ?? null} chosen={filter.sink} reload={sinks.reload} />
        <div class="column">
          <Unrouted sinks={names} />
          <Filters filter={filter} sinks={names} sources={sources.data?.data ?? []} />
          <List filter={filter} open={open} close={close} sinks={sinks.data ? names : null} />
        </div>
      </div>
    </main>
  );
}

/** What all sinks have to do, in one line. */
function Summary({ sinks }: { sinks: Sink[] }) {
  const sum = (of: (sink: Sink) => number): number => sinks.reduce((total, sink) => total + of(sink), 0);
  const failing = sinks.filter((sink) => sink.state === "failing").length;
  const paused = sinks.filter((sink) => sink.state === "paused").length;
  const said = [`${count(sum((sink) => sink.pending))} pending`, `${count(sum((sink) => sink.in_flight))} in flight`];
  if (failing) said.push(`${failing === 1 ? "1 sink fails" : `${failing} sinks fail`}`);
  if (paused) said.push(`${paused === 1 ? "1 sink is paused" : `${paused} sinks are paused`}`);
  return <p class="quiet">{said.join(" · ")}</p>;
}

const SPANS: [string, number][] = [
  ["the last 15 minutes", 15 * 60],
  ["the last hour", 3600],
  ["the last 24 hours", 86_400],
  ["the last 7 days", 7 * 86_400],
];

function Filters({ filter, sinks, sources }: { filter: Filter; sinks: Sink[]; sources: Source[] }) {
  const isNarrowed = Object.values(filter).some((value) => value !== "");
  const options = (known: string[], present: string): [string, string][] =>
    (present && !known.includes(present) ? [...known, present] : known).map((name) => [name, name]);
  const since: [string, string][] = SPANS.map(([name, seconds]) => [String(seconds), name]);
  if (filter.since) since.unshift([filter.since, `since ${new Date(filter.since).toLocaleString()}`]);
  return (
    <form class="filters" role="search" aria-label="Deliveries" onSubmit={(event) => event.preventDefault()}>
      <Select label="Sink" any="all" value={filter.sink} options={options(sinks.map((sink) => sink.name), filter.sink)} onChange={(sink) => amend({ sink })} />
      <Select label="State" any="all" value={filter.state} options={STATES} onChange={(state) => amend({ state })} />
      <Select label="Source" any="all" value={filter.source} options={options(sources.map((source) => source.name), filter.source)} onChange={(source) => amend({ source })} />
      <Select
        label="Recorded"
        any="any time"
        value={filter.since}
        options={since}
        onChange={(value) => amend({ since: /^\d+$/.test(value) ? new Date(now.value - Number(value) * 1000).toISOString() : value })}
      />
      <Search label="Job" placeholder="the whole id" value={filter.job_id} onChange={(job_id) => amend({ job_id })} />
      <div class="actions">
        {isNarrowed && (
          <Button kind="link" onClick={() => amend({ sink: null, state: null, source: null, job_id: null, since: null })}>
            Clear
          </Button>
        )}
        <Button onClick={() => sendAgain(filter)} title="Counts the deliveries that match, and asks before it sends them again">
          {{ pending: "Attempt pending now…", delivered: "Send delivered again…" }[filter.state] ?? "Send dead letters again…"}
        </Button>
      </div>
    </form>
  );
}

/** Sends all deliveries that match again, dead letters unless the filter names another state. It counts and asks before. */
async function sendAgain(filter: Filter): Promise<void> {
  const state = (filter.state || "dead") as DeliveryState;
  let number = 0;
  const isCounted = await attempt(async () => {
    number = await redeliverAll(filter, state, true);
    return null;
  });
  if (!isCounted) return;
  if (number === 0) return say(`There is no ${state === "dead" ? "dead letter" : `${state} delivery`} that matches.`);
  const which = [
    filter.sink && `to ${filter.sink}`,
    filter.source && `of the source ${filter.source}`,
    filter.job_id && `of the job ${filter.job_id}`,
    filter.since && `${{ dead: "dead", delivered: "delivered", pending: "recorded" }[state]} since ${new Date(filter.since).toLocaleString()}`,
  ].filter(Boolean);
  const what = counted(number, state);
  const yes = await confirmed({
    title: state === "pending" ? `Attempt ${what} now?` : `Send ${what} again?`,
    text: (
      <>
        {which.length > 0 && <p>Those {which.join(", ")}.</p>}
        <p>
          Each keeps its event id, so a receiver that has the event already can tell. Each starts a new retry schedule at once; the limits of its sink
          apply.
        </p>
      </>
    ),
    action: state === "pending" ? `Attempt ${count(number)}` : `Send ${count(number)} again`,
  });
  if (!yes) return;
  await attempt(async () => `Queued ${counted(await redeliverAll(filter, state, false), state)} again.`);
}

const HEAD = (
  <>
    <Column>State</Column>
    <Column>Event</Column>
    <Column>About</Column>
    <Column>Sink</Column>
    <Column class="c-attempts number">Attempts</Column>
    <Column class="c-answer number">Answer</Column>
    <Column>Reason, or what it waits for</Column>
    <Column class="number">Recorded</Column>
  </>
);

interface ListProps {
  filter: Filter;
  /** The delivery that is open beside the list. */
  open: string | null;
  close: () => void;
  sinks: Sink[] | null;
}

function List({ filter, open, close, sinks }: ListProps) {
  const list = usePages<Delivery>(
    ({ limit, cursor }) => withQuery("v1/deliveries", { ...filter, attempts: 1, limit, cursor }),
    (delivery) => delivery.id,
  );
  const query = route.value.query.toString();
  const row = useCallback((delivery: Delivery) => <DeliveryRow delivery={delivery} query={query} />, [query]);
  const items = list.pages?.items ?? [];
  const at = open === null ? -1 : items.findIndex((delivery) => delivery.id === open);
  const neighbours = useMemo(() => ({ previous: items[at - 1]?.id ?? null, next: at < 0 ? null : (items[at + 1]?.id ?? null) }), [items, at]);
  const isEnd = list.pages !== null && list.pages.next === null;
  return (
    <>
      {list.error != null && <Failure error={list.error} retry={list.reload} />}
      {items.length > 0 && (
        <Rows
          items={items}
          height={40}
          tall={66}
          keyOf={idOf}
          row={row}
          head={HEAD}
          name="Deliveries, newest first"
          class="delivery-rows"
          more={list.isPaused ? undefined : list.more}
          onView={list.inView}
        />
      )}
      {list.pages === null && list.error == null && <p class="quiet pad">Loading…</p>}
      {list.isLoadingMore && <p class="quiet pad">Loading more…</p>}
      {list.isPaused && (
        <p class="quiet pad">
          Many deliveries were read and none matched. <Button onClick={list.more}>Read on</Button>
        </p>
      )}
      {isEnd && items.length === 0 && <Nothing filter={filter} sinks={sinks} />}
      {open !== null && <DeliveryDrawer id={open} known={items[at] ?? null} {...neighbours} onClose={close} />}
    </>
  );
}

const idOf = (delivery: Delivery): string => delivery.id;

/** Why the list is empty, and what would fill it. */
function Nothing({ filter, sinks }: { filter: Filter; sinks: Sink[] | null }) {
  if (Object.values(filter).some((value) => value !== "")) {
    return (
      <div class="panel">
        <Empty title={filter.state === "dead" && !filter.job_id && !filter.source ? "No dead letters" : "No delivery matches"}>
          <p>
            {filter.state === "dead" ? "A delivery becomes a dead letter when its retry schedule is used up, or when the receiver refuses it for good. " : ""}
            {filter.job_id ? "The filter takes the whole id of a job. " : ""}
            <a href={href(["deliveries"])}>Show all deliveries</a>
          </p>
        </Empty>
      </div>
    );
  }
  if (sinks === null) return null;
  const configured = sinks.some((sink) => sink.name !== "callback");
  return (
    <div class="panel">
      <Empty title="No deliveries yet">
        <p>
          When a job finishes, its event goes to the sinks: each webhook or folder has its own queue here, with every attempt and its answer.{" "}
          {configured ? "Register a job, and its delivery appears in this list." : "No sink is configured yet."}
        </p>
        {!configured && <AddSink />}
      </Empty>
    </div>
  );
}

/** How one adds a sink. */
function AddSink() {
  return (
    <>
      <p>Add one to the configuration file:</p>
      <Command text={`[sinks.app]\ntype = "webhook"\nurl = "http://127.0.0.1:9000/hooks/jobs"\n# secret_file = "app.secret"   # signs each request`} />
      <p>Check the file, and let the daemon read it:</p>
      <Command text={"tidings config check\ntidings reload"} />
    </>
  );
}
