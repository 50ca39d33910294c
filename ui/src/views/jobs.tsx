// The list of watches, newest first, and the list of groups.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import "./jobs.css";

import { get, path, post, withQuery } from "../lib/api";
import { count, duration, utc, words } from "../lib/format";
import { now, useLive } from "../lib/live";
import { keyed, usePages, type PagedList, type Pages } from "../lib/pages";
import { useWayBack } from "../lib/places";
import { POLL_REASONS } from "../lib/reasons";
import { amend, href, jobHref, route } from "../lib/router";
import { isMissing, useSources } from "../lib/sources";
import type { Group, Page, Source, Watch } from "../lib/types";
import { Button, Empty, Failure, Search, Select, State, Time } from "../parts/basics";
import { attempt, confirmed } from "../parts/dialog";
import { FirstWatch } from "../parts/first";
import { Foreign, Glance, JobState, Tag, cut } from "../parts/job";
import { Cell, Column, Rows, useNarrow } from "../parts/rows";

const PHASES = ["watching", "fetching", "delivering", "done", "dead"];
const OUTCOMES = ["completed", "failed", "cancelled", "expired", "lost"];
/** The filters of the address, and how each is named in a sentence. */
const FILTERS: Record<string, string> = { q: "id begins with", source: "source", kind: "kind", phase: "phase", outcome: "outcome", status: "status", group: "group" };

function isFilter(key: string): boolean {
  return key in FILTERS || key.startsWith("label.");
}

/** The filters that are set, in the order of the address. */
function filters(): [string, string][] {
  return [...route.value.query].filter(([key, value]) => isFilter(key) && value !== "");
}

function listRoute(set: [string, string][], paging: { limit: number; cursor: string | null }): string {
  const query = Object.fromEntries(set.map(([key, value]) => [key === "q" ? "job_id_prefix" : key, value]));
  return withQuery("v1/watches", { ...query, limit: paging.limit, cursor: paging.cursor });
}

const keyOf = keyed<Watch>((watch) => JSON.stringify([watch.source, watch.job_id, watch.kind]));

export function JobsView() {
  const isGroups = route.value.query.get("view") === "groups";
  return (
    <main id="main" tabIndex={-1}>
      <div class="view-head">
        <h1>Jobs</h1>
        <nav class="tabs" aria-label="Lists">
          <a href="#/jobs" aria-current={isGroups ? undefined : "page"}>
            Watches
          </a>
          <a href="#/jobs?view=groups" aria-current={isGroups ? "page" : undefined}>
            Groups
          </a>
        </nav>
      </div>
      {isGroups ? <Groups /> : <Watches />}
    </main>
  );
}

function Watches() {
  const sources = useSources();
  const set = filters();
  const list = usePages<Watch>((paging) => listRoute(set, paging), keyOf);
  const group = route.value.query.get("group");
  // The rows before stay until the first of the others come.
  const shown = list.pages ? { key: list.key, pages: list.pages } : list.previous;
  return (
    <>
      <Filters sources={sources} />
      {group !== null && <GroupLine key={group} name={group} />}
      {list.error !== null && <Failure error={list.error} retry={list.reload} />}
      {shown !== null && shown.pages.items.length > 0 ? (
        <List key={shown.key} list={list} pages={shown.pages} isOld={list.pages === null} keyOf={keyOf} name="Watches" noun="job" height={40} tall={64} head={<WatchHead />} row={watchRow} class="watches" />
      ) : (
        <Nothing list={list} set={set} sources={sources} />
      )}
    </>
  );
}

/** The fields that narrow the list. What they say is in the address. */
function Filters({ sources }: { sources: Source[] }) {
  // Where there is room they are always open.
  const isNarrow = useNarrow();
  const [isOpen, setOpen] = useState(false);
  const { query } = route.value;
  const value = (key: string): string => query.get(key) ?? "";
  const source = value("source");
  const names = sources.map((one) => one.name);
  if (source && !names.includes(source)) names.push(source);
  const kinds = sources.find((one) => one.name === source)?.kinds ?? [];
  const withKind = value("kind") && !kinds.includes(value("kind")) ? [...kinds, value("kind")] : kinds;
  const labels = [...query].filter(([key]) => key.startsWith("label.") || key === "status");
  const set = filters().filter(([key]) => key !== "q").length;
  return (
    <search class="job-filters">
      <Search id="search" label="Search by id" value={value("q")} placeholder="The beginning of an id" onChange={(q) => amend({ q })} />
      <details open={!isNarrow || isOpen} onToggle={(event) => isNarrow && setOpen(event.currentTarget.open)}>
        <summary>
          Filters
          {set > 0 && ` (${set})`}
        </summary>
        <div class="filters">
          <Select label="Source" value={source} options={names.map((name) => [name, name])} any="Any" onChange={(source) => amend({ source, kind: null })} />
          {(withKind.length > 1 || value("kind") !== "") && <Select label="Kind" value={value("kind")} options={withKind.map((name) => [name, name])} any="Any" onChange={(kind) => amend({ kind })} />}
          <Select label="Phase" value={value("phase")} options={PHASES} any="Any" onChange={(phase) => amend({ phase })} />
          <Select label="Outcome" value={value("outcome")} options={OUTCOMES} any="Any" onChange={(outcome) => amend({ outcome })} />
          <TextFilter label="Group" value={value("group")} placeholder="Name" onSet={(group) => amend({ group })} />
          <TextFilter
            label="Label"
            value=""
            placeholder="key=value"
            invalid={(text) => (text.indexOf("=") > 0 ? null : "Write it as key=value")}
            onSet={(text) => {
              const at = text.indexOf("=");
              amend({ [`label.${text.slice(0, at).trim()}`]: text.slice(at + 1).trim() });
            }}
          />
        </div>
      </details>
      {labels.length > 0 && (
        <div class="chips">
          {labels.map(([key, value]) => (
            <DropFilter key={key} name={key} value={value} />
          ))}
        </div>
      )}
    </search>
  );
}

/** A filter that is typed in full, and set on Enter or when the field is left. */
function TextFilter(props: { label: string; value: string; placeholder: string; invalid?: (text: string) => string | null; onSet: (text: string) => void }) {
  const input = useRef<HTMLInputElement>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    if (input.current) input.current.value = props.value;
  }, [props.value]);
  const report = (): void => {
    const text = input.current?.value.trim() ?? "";
    if (text === props.value) return setProblem(null);
    const wrong = text ? (props.invalid?.(text) ?? null) : null;
    setProblem(wrong);
    if (wrong !== null) return;
    props.onSet(text);
    if (input.current && !props.value) input.current.value = props.label === "Label" ? "" : text;
  };
  return (
    <label class="field text-filter">
      <span>{problem ?? props.label}</span>
      <input
        ref={input}
        defaultValue={props.value}
        placeholder={props.placeholder}
        autoComplete="off"
        spellcheck={false}
        aria-invalid={problem !== null}
        onBlur={report}
        onKeyDown={(event) => event.key === "Enter" && report()}
      />
    </label>
  );
}

/** A filter as a button that drops it. */
function DropFilter({ name, value, hint }: { name: string; value: string; hint?: string }) {
  const title = FILTERS[name] ?? name.replace(/^label\./, "label ");
  return (
    <button type="button" class="chip" onClick={() => amend({ [name]: null, ...(name === "source" ? { kind: null } : {}) })} aria-label={`Drop the filter ${title} ${cut(value, 80)}`}>
      <span>
        {name.startsWith("label.") ? <Tag name={name.slice(6)} value={cut(value, 60)} /> : <>{title} <b><Foreign>{cut(value, 60)}</Foreign></b></>}
        {hint && <span class="quiet"> {hint}</span>}
      </span>
      <span aria-hidden="true">✕</span>
    </button>
  );
}

interface ListProps<T> {
  list: PagedList<T>;
  pages: Pages<T>;
  /** Another list is on its way. */
  isOld?: boolean;
  keyOf: (item: T) => string;
  row: (item: T) => ComponentChildren;
  head: ComponentChildren;
  name: string;
  noun: string;
  height: number;
  tall: number;
  class: string;
}

/** The rows of a list, what arrived above them, and what follows below. */
function List<T>({ list, pages, isOld = false, noun, ...rows }: ListProps<T>) {
  const seen = useRef(0);
  const [first, setFirst] = useState(0);
  useWayBack();
  if (first === 0) seen.current = pages.arrived;
  const fresh = pages.arrived - seen.current;
  const total = pages.items.length;
  const plural = (number: number): string => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
  return (
    <>
      {fresh > 0 && (
        <div class="arrived" role="status">
          <button type="button" class="button main" onClick={() => scrollTo({ top: 0, behavior: "instant" })}>
            {count(fresh)} new ↑
          </button>
        </div>
      )}
      <Rows
        {...rows}
        items={pages.items}
        class={`${rows.class} ${isOld ? "is-old" : ""}`}
        more={!isOld && pages.next !== null && !list.isPaused ? list.more : undefined}
        onView={(from, to) => {
          list.inView(from, to);
          setFirst(from);
        }}
      />
      <p class="list-end quiet">
        {isOld ? "Loading …" : pages.next === null ? plural(total) : list.isLoadingMore ? `${plural(total)}, loading more …` : `${plural(total)} so far`}
        {list.isPaused && (
          <Button kind="link" onClick={list.more}>
            Read on
          </Button>
        )}
      </p>
    </>
  );
}

function WatchHead() {
  return (
    <>
      <Column>State</Column>
      <Column>Job</Column>
      <Column class="of">Source · kind</Column>
      <Column class="labels">Labels</Column>
      <Column>Deliveries</Column>
      <Column class="since">Registered</Column>
      <Column>Finished or next poll</Column>
    </>
  );
}

function watchRow(watch: Watch): ComponentChildren {
  const labels = Object.entries(watch.labels);
  return (
    <>
      <Cell class="state-cell" title={watch.last_error ? cut(watch.last_error) : ""}>
        <JobState watch={watch} />
      </Cell>
      <Cell class="id">
        <a class="cover mono" href={jobHref(watch.source, watch.job_id, watch.kind)}>
          <Foreign>{watch.job_id}</Foreign>
        </a>
      </Cell>
      <Cell class="of">
        <Foreign>{watch.source}</Foreign>
        {watch.kind !== null && <span class="quiet"> · {watch.kind}</span>}
      </Cell>
      <Cell class="labels" title={cut(labels.map(([key, value]) => `${key}=${value}`).join("  "))}>
        {labels.slice(0, 6).map(([key, value]) => (
          <Tag key={key} name={key} value={cut(value, 80)} />
        ))}
      </Cell>
      <Cell class="glance">{watch.deliveries.length > 0 ? <Glance deliveries={watch.deliveries} /> : watch.event_id && watch.phase !== "fetching" ? <span class="quiet">no sink</span> : null}</Cell>
      <Cell class="since quiet">
        <Time at={watch.created_at} />
      </Cell>
      <Cell class="when">{watch.finished_at ? <Time at={watch.finished_at} /> : <NextPoll watch={watch} />}</Cell>
    </>
  );
}

function NextPoll({ watch }: { watch: Watch }) {
  const { next_poll_at: at, next_poll_reason: reason } = watch;
  if (!at) {
    if (isMissing(watch.source)) return <span class="text-warn" title="The source is not in the configuration">not polled</span>;
    return <span class="quiet">{watch.phase === "fetching" ? "fetching" : "polling"}</span>;
  }
  const seconds = (Date.parse(at) - now.value) / 1000;
  const left = seconds < 1 ? "now" : `in ${duration(Math.round(seconds))}`;
  const isWaiting = reason?.startsWith("source_") ?? false;
  const verb = reason === "retry" ? "retry" : watch.phase === "fetching" ? "fetch" : "poll";
  return (
    <span class={isWaiting || reason === "retry" ? "text-warn" : "quiet"} title={`${utc(at)}. ${POLL_REASONS[reason ?? ""] ?? ""}`}>
      {isWaiting ? `waits ${seconds < 1 ? "" : duration(Math.round(seconds))}` : `${verb} ${left}`}
    </span>
  );
}

/** What stands where no row is: loading, no match and which filter to drop, or how to begin. */
function Nothing({ list, set, sources }: { list: PagedList<Watch>; set: [string, string][]; sources: Source[] }) {
  const { pages, isPaused, isLoadingMore } = list;
  const isReading = pages !== null && pages.next !== null && !isPaused;
  useEffect(() => {
    if (isReading && !isLoadingMore) list.more();
  });
  if (list.error !== null && pages === null) return null;
  if (pages === null || isReading) {
    return (
      <p class="list-end quiet" role="status">
        {pages === null ? "Loading …" : "Reading older jobs …"}
      </p>
    );
  }
  if (set.length === 0) {
    return (
      <FirstWatch sources={sources?.map(({ name }) => name) ?? []} hasSinks />
    );
  }
  return (
    <section class="panel">
      <NoMatch key={JSON.stringify(set)} set={set} more={isPaused ? list.more : undefined} />
    </section>
  );
}

function NoMatch({ set, more }: { set: [string, string][]; more: (() => void) | undefined }) {
  // Which of the filters hides jobs: without it there would be some.
  const [hiding, setHiding] = useState<Set<string>>(new Set());
  useEffect(() => {
    if (set.length < 2) return;
    const abort = new AbortController();
    for (const [name] of set) {
      const others = set.filter(([other]) => other !== name && !(name === "source" && other === "kind"));
      get<Page<Watch>>(listRoute(others, { limit: 1, cursor: null }), abort.signal).then(
        (page) => page.data.length > 0 && setHiding((before) => new Set(before).add(name)),
        () => undefined,
      );
    }
    return () => abort.abort();
  }, []);
  return (
    <Empty title={more ? "No match among the newest jobs" : "No job matches"}>
      <p>{set.length === 1 ? "Drop the filter to see all jobs:" : "Drop a filter to see more:"}</p>
      <div class="chips">
        {[...set]
          .sort(([a], [b]) => Number(hiding.has(b)) - Number(hiding.has(a)))
          .map(([name, value]) => (
            <DropFilter key={name} name={name} value={value} {...(hiding.has(name) ? { hint: "– there are jobs without it" } : {})} />
          ))}
        {set.length > 1 && (
          <Button kind="link" onClick={() => amend(Object.fromEntries(set.map(([name]) => [name, null])))}>
            Drop all
          </Button>
        )}
      </div>
      {more && (
        <p>
          <Button onClick={more}>Read older jobs</Button>
        </p>
      )}
    </Empty>
  );
}

// Groups

function groupTone(group: Group): "busy" | "good" | "quiet" {
  return group.state === "open" ? "busy" : group.state === "finished" ? "good" : "quiet";
}

/** `12 completed, 1 failed`. */
function ends(group: Group): string {
  const parts = Object.entries(group.counts)
    .filter(([, number]) => number > 0)
    .map(([word, number]) => `${count(number)} ${words(word)}`);
  return parts.join(", ");
}

async function closeGroup(group: Group): Promise<void> {
  const isSure = await confirmed({
    title: "Close this group?",
    text: (
      <p>
        <Foreign class="mono">{group.name}</Foreign> takes no more jobs then. When all of its jobs have finished, the daemon makes the event <code>group.finished</code>. A closed group stays closed.
      </p>
    ),
    action: "Close the group",
  });
  if (!isSure) return;
  await attempt(async () => {
    await post(`v1/groups/${path(group.name)}/close`);
    return "The group is closed.";
  });
}

/** The group that the list is narrowed to. */
function GroupLine({ name }: { name: string }) {
  const { data: group, error, reload } = useLive(`group ${name}`, (abort) => get<Group>(`v1/groups/${path(name)}`, abort));
  if (error !== null && !group) return null;
  if (!group) return null;
  return (
    <section class="panel group-line" aria-label="Group">
      <State word={group.state} tone={groupTone(group)} />
      <span class="grow">
        Group <Foreign class="mono">{group.name}</Foreign>: {count(group.jobs)} {group.jobs === 1 ? "job" : "jobs"}: {[group.open > 0 ? `${count(group.open)} not finished` : "", ends(group)].filter(Boolean).join(", ")}.
        {group.state === "open" && <span class="quiet"> It takes more jobs until it is closed.</span>}
        {group.finished_at && (
          <span class="quiet">
            {" "}
            Finished <Time at={group.finished_at} />.
          </span>
        )}
      </span>
      {group.state === "open" && <Button onClick={() => closeGroup(group).then(reload)}>Close …</Button>}
    </section>
  );
}

function Groups() {
  const list = usePages<Group>((paging) => withQuery("v1/groups", paging), groupKey);
  if (list.pages === null || list.pages.items.length === 0) {
    return (
      <>
        {list.error !== null && <Failure error={list.error} retry={list.reload} />}
        {list.pages !== null && (
          <section class="panel">
            <Empty title="There are no groups">
              <p>
                A group tells when the last of many jobs has finished. Name it with each watch (<code>"group": "nightly"</code>) and close it after the last one.
              </p>
            </Empty>
          </section>
        )}
      </>
    );
  }
  return <List list={list} pages={list.pages} keyOf={groupKey} name="Groups" noun="group" height={40} tall={64} head={<GroupHead />} row={groupRow} class="groups" />;
}

function groupKey(group: Group): string {
  return group.name;
}

function GroupHead() {
  return (
    <>
      <Column>State</Column>
      <Column>Group</Column>
      <Column class="number">Jobs</Column>
      <Column class="number">Open</Column>
      <Column class="ends">Finished</Column>
      <Column class="since">First job</Column>
      <Column>Group finished</Column>
    </>
  );
}

function groupRow(group: Group): ComponentChildren {
  return (
    <>
      <Cell class="state-cell">
        <State word={group.state} tone={groupTone(group)} />
      </Cell>
      <Cell class="id">
        <a class="cover mono" href={href(["jobs"], { group: group.name })}>
          <Foreign>{group.name}</Foreign>
        </a>
      </Cell>
      <Cell class="number">{count(group.jobs)}</Cell>
      <Cell class="number">{count(group.open)}</Cell>
      <Cell class="ends" title={ends(group)}>
        {ends(group)}
      </Cell>
      <Cell class="since quiet">
        <Time at={group.created_at} />
      </Cell>
      <Cell class="when">
        <span class="narrow-only">
          {count(group.jobs)} {group.jobs === 1 ? "job" : "jobs"}
        </span>
        <span class="wide-only">
          <Time at={group.finished_at} />
        </span>
      </Cell>
    </>
  );
}
