// One job: what it is, what happened, what comes next, and what one can do.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";

import "./job.css";

import { Problem, get, jobPath, path, post, remove, withQuery } from "../lib/api";
import { bytes, count, duration } from "../lib/format";
import { now, useLive } from "../lib/live";
import { POLL_REASONS, WAITS } from "../lib/reasons";
import { go, href, jobHref, route, sourceHref } from "../lib/router";
import { isMissing, sources, useSources } from "../lib/sources";
import type { DeliveryBrief, Page, Sink, Timeline, Watch } from "../lib/types";
import { Button, Command, Copy, Empty, Facts, Failure, Panel, Select, State, Time } from "../parts/basics";
import { attempt, confirmed } from "../parts/dialog";
import { curl } from "../parts/first";
import { Foreign, cut } from "../parts/job";
import { StoredJob } from "../parts/stored";
import { TimelineList } from "./timeline";

interface Everything {
  watch: Watch;
  timeline: Timeline | null;
}

async function load(source: string, id: string, kind: string | null, abort: AbortSignal): Promise<Everything> {
  const [watch, timeline] = await Promise.all([
    get<Watch>(jobPath(source, id, kind), abort),
    get<Timeline>(jobPath(source, id, kind, "/timeline"), abort).catch((error: unknown) => {
      // The watch itself says what is wrong.
      if (error instanceof Problem && error.status !== 401) return null;
      throw error;
    }),
  ]);
  return { watch, timeline };
}

export function JobView({ source, id }: { source: string; id: string }) {
  const kind = route.value.query.get("kind");
  const key = JSON.stringify(["job", source, id, kind]);
  const { data, error, reload } = useLive(key, (abort) => load(source, id, kind, abort));
  useSources();
  if (error instanceof Problem && error.isDaemon && (error.status === 404 || error.status === 409)) return <NoSuchJob key={key} source={source} id={id} kind={kind} problem={error} />;
  if (!data) {
    return (
      <main id="main" tabIndex={-1}>
        <Title id={id} />
        {error !== null ? <Failure error={error} retry={reload} /> : <p class="quiet">Loading …</p>}
      </main>
    );
  }
  const { watch, timeline } = data;
  return (
    <main id="main" tabIndex={-1} class="job">
      <div class="view-head">
        <Title id={watch.job_id} />
        <Actions watch={watch} reload={reload} />
      </div>
      <p class="job-line">
        <Phase watch={watch} />
        <a href={href(["jobs"], { source: watch.source })}>
          <Foreign>{watch.source}</Foreign>
        </a>
        {watch.kind !== null && (
          <a href={href(["jobs"], { source: watch.source, kind: watch.kind })}>
            <Foreign>{watch.kind}</Foreign>
          </a>
        )}
        {watch.group !== undefined && (
          <span>
            group{" "}
            <a href={href(["jobs"], { group: watch.group })}>
              <Foreign>{cut(watch.group, 100)}</Foreign>
            </a>
          </span>
        )}
      </p>
      {error !== null && <Failure error={error} retry={reload} />}
      <Next watch={watch} />
      <div class="job-columns">
        <Panel title="What happened" aside={watch.finished_at ? null : "live"}>
          <div class="inside">
            {timeline ? <TimelineList steps={timeline.data} truncated={timeline.truncated} watch={watch} /> : <p class="quiet">The daemon does not tell.</p>}
          </div>
        </Panel>
        <div class="column">
          <Deliveries watch={watch} reload={reload} />
          <Panel title="Facts">
            <div class="inside">
              <FactList watch={watch} />
            </div>
          </Panel>
          <Pairs title="Labels" pairs={watch.labels} isLabel />
          {watch.metadata && <Pairs title="Metadata of the job" pairs={watch.metadata} />}
          {watch.vars && <Pairs title="Variables of its paths" pairs={watch.vars} />}
        </div>
        <StoredPanel watch={watch} />
      </div>
    </main>
  );
}

function Title({ id }: { id: string }) {
  return (
    <div class="job-title">
      <h1 class="mono">
        <Foreign>{id}</Foreign>
      </h1>
      <Copy text={id} label="Copy the id" />
    </div>
  );
}

/** The outcome, what the daemon still does for the job, and the source's own word for it. */
function Phase({ watch }: { watch: Watch }) {
  const { outcome, phase, status } = watch;
  return (
    <>
      <State word={outcome ?? phase} />
      {outcome && phase === "delivering" && <State word="delivering" />}
      {outcome && phase === "dead" && <State word="dead letter" tone="bad" />}
      {status && status !== outcome && (
        <span>
          status <Foreign class="mono">{status}</Foreign>
        </span>
      )}
    </>
  );
}

/** What comes next, and why then. */
function Next({ watch }: { watch: Watch }) {
  const { next_poll_at: at, next_poll_reason: reason, phase } = watch;
  if (watch.finished_at && phase !== "fetching") return null;
  const isFetch = phase === "fetching";
  const isBad = (at === null && isMissing(watch.source)) || reason === "retry" || (reason?.startsWith("source_") ?? false);
  const left = at ? (Date.parse(at) - now.value) / 1000 : null;
  const what = isFetch ? "The job has finished. Its result is fetched" : isBad ? "The next try is" : "The next poll is";
  const when = left === null ? null : left < 1 ? "due now" : `in ${duration(Math.round(left))}`;
  return (
    <div class={`notice next ${isBad ? "tone-warn" : "tone-busy"}`}>
      <p>
        {when === null ? (
          isMissing(watch.source) ? (
            <>
              <b>Nothing polls this job:</b> its source is not in the configuration. The watch waits for it.
            </>
          ) : isFetch ? (
            "The job has finished. Its result is being fetched."
          ) : (
            "A poll is in flight."
          )
        ) : (
          <>
            <b>
              {what} {when}
            </b>
            {at && left !== null && left >= 60 && (
              <>
                , at <Time at={at} />
              </>
            )}
            . {reason && (POLL_REASONS[reason] ?? reason)}
            {isBad && (
              <>
                {" "}
                <a href={sourceHref(watch.source)}>The source</a>
              </>
            )}
          </>
        )}
        {watch.last_error && (
          <>
            {" "}
            Last error: <Foreign>{watch.last_error}</Foreign>
          </>
        )}
      </p>
    </div>
  );
}

function FactList({ watch }: { watch: Watch }) {
  const items: [string, ComponentChildren][] = [["Registered", <Time at={watch.created_at} form="both" />]];
  if (watch.finished_at) {
    items.push([
      "Finished",
      <>
        <Time at={watch.finished_at} form="both" />
        <span class="quiet">, after {duration((Date.parse(watch.finished_at) - Date.parse(watch.created_at)) / 1000)}</span>
      </>,
    ]);
  }
  items.push(["Polls", count(watch.polls)]);
  if (watch.endpoint) items.push(["Endpoint", <Foreign class="mono">{watch.endpoint}</Foreign>]);
  if (watch.finished_at && watch.last_error) items.push([watch.outcome === "lost" ? "Lost because" : "Error", <Foreign>{watch.last_error}</Foreign>]);
  if (watch.event_id) items.push(["Event", <Copied text={watch.event_id} label="Copy the id of the event" />]);
  if (watch.job_size !== null) items.push(["Stored", bytes(watch.job_size)]);
  if (watch.job_sha256) items.push(["SHA-256", <Copied text={watch.job_sha256} label="Copy the checksum" />]);
  items.push(["Last change", <Time at={watch.updated_at} form="both" />]);
  return <Facts items={items} />;
}

function Copied({ text, label }: { text: string; label: string }) {
  return (
    <span class="copied">
      <span class="mono">{text}</span>
      <Copy text={text} label={label} />
    </span>
  );
}

/** Characters of a value that are shown before the rest is asked for. */
const LONG = 160;

/** The whole of a long text, once it is asked for. */
function Whole({ text }: { text: string }) {
  const [isOpen, setOpen] = useState(false);
  if (!isOpen) {
    return (
      <button type="button" class="json-more" onClick={() => setOpen(true)}>
        all {count(text.length)} characters
      </button>
    );
  }
  return (
    <pre class="plain-text" tabIndex={0}>
      <Foreign>{text}</Foreign>
    </pre>
  );
}

function Pairs({ title, pairs, isLabel = false }: { title: string; pairs: Record<string, string>; isLabel?: boolean }) {
  const entries = Object.entries(pairs);
  if (entries.length === 0) return null;
  return (
    <Panel title={title}>
      <dl class="pairs inside">
        {entries.map(([key, value]) => (
          <div key={key}>
            <dt>
              <Foreign>{key}</Foreign>
            </dt>
            <dd>
              {isLabel ? (
                <a href={href(["jobs"], { [`label.${key}`]: value })} title="Jobs with this label">
                  <Foreign>{cut(value, LONG)}</Foreign>
                </a>
              ) : (
                <Foreign>{cut(value, LONG)}</Foreign>
              )}
              {value.length > LONG && <Whole text={value} />}
            </dd>
          </div>
        ))}
      </dl>
    </Panel>
  );
}

// Deliveries

function Deliveries({ watch, reload }: { watch: Watch; reload: () => void }) {
  const deliveries = [...watch.deliveries].sort((a, b) => (a.sink < b.sink ? -1 : a.sink > b.sink ? 1 : a.id < b.id ? -1 : 1));
  if (deliveries.length === 0) {
    if (!watch.event_id || watch.phase === "fetching") return null;
    return (
      <Panel title="Deliveries">
        <p class="inside quiet">None: no route leads this job to a sink. “Deliver to …” sends it to one.</p>
      </Panel>
    );
  }
  return (
    <Panel title="Deliveries">
      <ul class="job-deliveries">
        {deliveries.map((one) => (
          <li key={one.id}>
            <span class="to">
              <a href={href(["deliveries", one.id])}>
                <Foreign>{one.sink}</Foreign>
              </a>
            </span>
            <State word={one.state} />
            <span class="quiet detail">{detail(one)}</span>
            <Button onClick={() => redeliver(one, reload)} label={one.state === "pending" ? `Send now to ${one.sink}` : `Redeliver to ${one.sink}`}>
              {one.state === "pending" ? "Send now" : "Redeliver"}
            </Button>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

/** Attempts, the last answer, and when the next one is. */
function detail(delivery: DeliveryBrief): ComponentChildren {
  const parts: string[] = [];
  if (delivery.attempts > 0) parts.push(`${count(delivery.attempts)} ${delivery.attempts === 1 ? "attempt" : "attempts"}`);
  if (delivery.last_status !== null) parts.push(`answered ${delivery.last_status}`);
  if (delivery.state === "pending") {
    if (delivery.next_attempt_at) {
      const left = (Date.parse(delivery.next_attempt_at) - now.value) / 1000;
      parts.push(left < 1 ? "attempt due now" : `next attempt in ${duration(Math.round(left))}`);
    }
    if (delivery.waits_for) parts.push(WAITS[delivery.waits_for]);
  }
  return parts.join(", ");
}

async function redeliver(delivery: DeliveryBrief, reload: () => void): Promise<void> {
  await attempt(async () => {
    await post(`v1/deliveries/${path(delivery.id)}/redeliver`);
    return `Queued for ${delivery.sink}.`;
  });
  reload();
}

// Actions

function Actions({ watch, reload }: { watch: Watch; reload: () => void }) {
  const isOpen = watch.phase === "watching" || watch.phase === "fetching";
  const poll = async (): Promise<void> => {
    await attempt(async () => {
      await post(jobPath(watch.source, watch.job_id, watch.kind, "/poll"));
      return isOpen && watch.phase === "watching" ? "A poll is due now." : "The result is fetched now.";
    });
    reload();
  };
  return (
    <div class="actions">
      {isOpen && <Button onClick={poll}>{watch.phase === "fetching" ? "Fetch now" : "Poll now"}</Button>}
      {watch.event_id && !isOpen && <DeliverTo watch={watch} reload={reload} />}
      <Button kind="danger" onClick={() => stop(watch)}>
        {isOpen ? "Stop watching …" : "Remove …"}
      </Button>
    </div>
  );
}

async function stop(watch: Watch): Promise<void> {
  const isOpen = watch.phase === "watching" || watch.phase === "fetching";
  const pending = watch.deliveries.filter((one) => one.state === "pending").length;
  const isSure = await confirmed({
    title: isOpen ? "Stop watching this job?" : "Remove this watch?",
    text: (
      <>
        <p>
          <Foreign class="mono">{watch.job_id}</Foreign>
        </p>
        <p>
          {isOpen
            ? "The daemon polls it no more and tells no sink how it finishes. The job itself runs on at its source."
            : "The daemon drops the stored job and what it knows of its deliveries. The source keeps its own copy."}
          {pending > 0 && ` ${count(pending)} pending ${pending === 1 ? "delivery is" : "deliveries are"} dropped too.`} This cannot be undone; {isOpen ? "registering the job again watches it again." : "registering the job again fetches and delivers it again."}
        </p>
      </>
    ),
    action: isOpen ? "Stop watching" : "Remove",
    danger: true,
  });
  if (!isSure) return;
  const isDone = await attempt(async () => {
    await remove(jobPath(watch.source, watch.job_id, watch.kind));
    return isOpen ? "The job is watched no more." : "The watch is removed.";
  });
  if (isDone) go("#/jobs");
}

/** Sends the job's event to a sink of one's choice. */
function DeliverTo({ watch, reload }: { watch: Watch; reload: () => void }) {
  const deliver = async (): Promise<void> => {
    const { data: sinks } = await get<Page<Sink>>("v1/sinks");
    const names = sinks.filter((sink) => sink.state !== "not_configured" && sink.name !== "callback").map((sink) => sink.name);
    const has = new Map(watch.deliveries.map((one) => [one.sink, one]));
    const free = names.filter((name) => !has.has(name));
    let chosen = free[0] ?? names[0] ?? "";
    const isSure = await confirmed({
      title: "Deliver this job to another sink",
      text:
        names.length === 0 ? (
          <p>There is no sink in the configuration.</p>
        ) : (
          <SinkChoice names={names} has={has} chosen={chosen} onChoose={(name) => (chosen = name)} />
        ),
      action: "Deliver",
    });
    if (!isSure || !chosen) return;
    await attempt(async () => {
      const one = has.get(chosen);
      if (one) {
        await post(`v1/deliveries/${path(one.id)}/redeliver`);
        return `Queued for ${chosen} again.`;
      }
      const { count: made } = await post<{ count: number }>("v1/deliveries/deliver", { sink: chosen, event_ids: [watch.event_id] });
      return made === 0 ? `${chosen} already has this event.` : `Queued for ${chosen}.`;
    });
    reload();
  };
  return <Button onClick={() => attemptToAsk(deliver)}>Deliver to …</Button>;
}

async function attemptToAsk(ask: () => Promise<void>): Promise<void> {
  try {
    await ask();
  } catch (error) {
    await attempt(() => Promise.reject(error));
  }
}

function SinkChoice({ names, has, chosen, onChoose }: { names: string[]; has: Map<string, DeliveryBrief>; chosen: string; onChoose: (name: string) => void }) {
  const [value, setValue] = useState(chosen);
  const present = has.get(value);
  return (
    <div class="sink-choice">
      <Select
        label="Sink"
        value={value}
        options={names.map((name) => [name, has.has(name) ? `${name} (has it)` : name])}
        onChange={(name) => {
          setValue(name);
          onChoose(name);
        }}
      />
      <p class="quiet">
        {present
          ? `${value} has a delivery of this job already (${present.state}). It is sent again, with the same event id.`
          : `${value} gets the event whatever the routes say.`}
      </p>
    </div>
  );
}

// The stored job

function StoredPanel({ watch }: { watch: Watch }) {
  // The bytes change only with their checksum; what else happens to the watch is nothing to this panel.
  const stored = useMemo(() => <StoredJob watch={watch} />, [watch.job_sha256]);
  if (!watch.outcome) return null;
  return (
    <Panel title="The stored job" aside={watch.job_size === null ? null : bytes(watch.job_size)}>
      <div class="inside">
        {watch.job_size !== null && watch.phase !== "watching" && watch.phase !== "fetching" ? (
          stored
        ) : (
          <p class="quiet">
            {watch.outcome === "lost" ? "Nothing is stored: the job was lost before its result could be fetched." : "The result is being fetched."}
          </p>
        )}
      </div>
    </Panel>
  );
}

// No such job

function NoSuchJob({ source, id, kind, problem }: { source: string; id: string; kind: string | null; problem: Problem }) {
  const [found, setFound] = useState<Watch[] | null>(null);
  const names = (sources.value ?? []).map((one) => one.name);
  const [isDropped, setDropped] = useState(false);
  useEffect(() => {
    const abort = new AbortController();
    // The same id under other kinds, or at other sources.
    get<Page<Watch>>(withQuery("v1/watches", { job_id_prefix: id, limit: 50 }), abort.signal).then(
      (page) => setFound(page.data.filter((watch) => watch.job_id === id)),
      () => setFound([]),
    );
    if (problem.status === 404) {
      fetchStatus(source, id, kind, abort.signal).then(
        (code) => setDropped(code === "job_dropped"),
        () => undefined,
      );
    }
    return () => abort.abort();
  }, []);
  const isSeveral = problem.code === "kind_missing";
  const isKnown = !isMissing(source);
  const title = isSeveral ? "Several jobs have this id" : isDropped ? "This job was dropped after retention" : "This job is not watched";
  return (
    <main id="main" tabIndex={-1}>
      <Title id={id} />
      <section class="panel">
        <Empty title={title}>
          {isSeveral && <p>It is watched under several kinds. Choose one:</p>}
          {!isSeveral && isDropped && <p>It had finished and was delivered, and its time in the store (store.retention) is over. Ask the source itself for its result.</p>}
          {!isSeveral && !isDropped && (
            <p>
              {isKnown ? (
                <>
                  The source <b>{source}</b> has no watch of this id{kind ? ` of the kind ${kind}` : ""}. It may never have been registered, or somebody removed it.
                </>
              ) : (
                <>
                  There is no source <b>{source}</b>. There {names.length === 1 ? "is" : "are"} {names.join(", ")}.
                </>
              )}
            </p>
          )}
          {found && found.length > 0 && (
            <>
              {!isSeveral && <p>The same id is watched here:</p>}
              <ul class="choices">
                {found.map((watch) => (
                  <li key={`${watch.source} ${watch.kind}`}>
                    <a href={jobHref(watch.source, watch.job_id, watch.kind)}>
                      {watch.source}
                      {watch.kind !== null && ` · ${watch.kind}`}
                    </a>{" "}
                    <State word={watch.outcome ?? watch.phase} />
                  </li>
                ))}
              </ul>
            </>
          )}
          {!isSeveral && !isDropped && isKnown && (
            <>
              <p>To watch it:</p>
              <Command text={curl("v1/watches", { job_id: id, source, ...(kind ? { kind } : {}) })} />
            </>
          )}
          <p>
            <a href={href(["jobs"], { q: id.slice(0, 8) })}>Jobs with a similar id</a>, or <a href="#/jobs">all jobs</a>
          </p>
        </Empty>
      </section>
    </main>
  );
}

/** Why there is no stored job: a dropped one answers otherwise than one that never was. */
async function fetchStatus(source: string, id: string, kind: string | null, abort: AbortSignal): Promise<string> {
  try {
    await get(jobPath(source, id, kind, "/job"), abort);
    return "";
  } catch (error) {
    return error instanceof Problem ? error.code : "";
  }
}
