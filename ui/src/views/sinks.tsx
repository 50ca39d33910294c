// The sinks: their health in words, and what one can do about it.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

import { path, post } from "../lib/api";
import { counted } from "../lib/deliveries";
import { count, duration, relative, share, words } from "../lib/format";
import { now } from "../lib/live";
import { useMedia } from "../lib/media";
import { amend } from "../lib/router";
import type { Attempt, Origin, Sink } from "../lib/types";
import { Button, Empty, Facts, State, Time } from "../parts/basics";
import { attempt, confirmed } from "../parts/dialog";
import { Foreign, cut } from "../parts/job";
import { DeliverDialog, MoveDialog } from "./bulk";
import { Answer, AttemptState } from "./delivery";

/** The callbacks of watches: many receivers under one name. */
const CALLBACK = "callback";

/** Where the sinks lie above the list instead of beside it. */
const NARROW = "(max-width: 1099px)";

export function SinkList({ sinks, chosen, reload }: { sinks: Sink[] | null; chosen: string; reload: () => void }) {
  const id = useId();
  const isNarrow = useMedia(NARROW);
  const column = useRef<HTMLElement>(null);
  // The callbacks are always there; they say something only once a watch brought one.
  const known = sinks?.filter((sink) => sink.name !== CALLBACK || sink.state !== "ok" || sink.pending + sink.delivered + sink.failed + (sink.origins?.length ?? 0) > 0);
  const only = isNarrow ? known?.filter((sink) => sink.name === chosen) : undefined;
  const shown = only?.length ? only : known;
  const isLoaded = shown !== undefined;
  useEffect(() => {
    // Somebody came for this sink.
    const box = column.current;
    const card = box?.querySelector<HTMLElement>(".sink.chosen");
    if (!box || !card || isNarrow) return;
    if (card.offsetTop < box.scrollTop || card.offsetTop + card.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = card.offsetTop - 44;
  }, [chosen, isLoaded, isNarrow]);
  return (
    <section class="sinks" aria-labelledby={id} ref={column}>
      <h2 id={id}>{only?.length ? "Sink" : "Sinks"}</h2>
      {shown === undefined && <p class="quiet">Loading…</p>}
      {shown?.length === 0 && (
        <div class="panel">
          <Empty title="No sinks">
            <p>A sink is a webhook or a folder that gets the events of finished jobs. The configuration names them.</p>
          </Empty>
        </div>
      )}
      {shown?.map((sink) => <SinkCard key={sink.name} sink={sink} others={sinks ?? []} isChosen={sink.name === chosen} isNarrow={isNarrow} reload={reload} />)}
      {only && only.length > 0 && known && known.length > 1 && (
        <button type="button" class="button link" onClick={() => amend({ sink: null })}>
          Show all {count(known.length)} sinks
        </button>
      )}
    </section>
  );
}

/** A sink's health, in one sentence. */
function health(sink: Sink, at: number): string {
  if (sink.state === "not_configured") {
    const waiting = sink.pending === 1 ? "1 delivery waits" : `${count(sink.pending)} deliveries wait`;
    return `${waiting} for a sink that is not in the configuration. Add it again, or move or drop the backlog.`;
  }
  if (sink.paused_at) return `Paused ${relative(sink.paused_at, at)}. New events wait; nothing is lost.`;
  if (sink.breaker === "half-open") return "The breaker is half-open: one delivery is in flight as the probe.";
  if (sink.breaker === "open") {
    const due = sink.next_probe_at && new Date(sink.next_probe_at).getTime() > at;
    return `The breaker is open. ${due ? `Next probe ${relative(sink.next_probe_at ?? "", at)}` : "A probe is due"}; all else waits.`;
  }
  if (sink.quiet_until && new Date(sink.quiet_until).getTime() > at) return `The receiver asked for a pause. It ends ${relative(sink.quiet_until, at)}.`;
  if (sink.state === "failing") return sink.failures_in_row > 1 ? `The last ${count(sink.failures_in_row)} attempts failed.` : "It keeps failing.";
  if (sink.rate !== null) return `Back from an outage or overload: at most ${rate(sink.rate)} for now.`;
  return "";
}

function rate(value: number): string {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)}/s`;
}

interface CardProps {
  sink: Sink;
  /** All sinks: a backlog may move to one of them. */
  others: Sink[];
  isChosen: boolean;
  isNarrow: boolean;
  reload: () => void;
}

function SinkCard({ sink, others, isChosen, isNarrow, reload }: CardProps) {
  const [isOpen, setOpen] = useState(false);
  // Where there is little room, a sink shows all of itself once it is chosen.
  const isFolded = isNarrow && !isOpen && !isChosen;
  const [tested, setTested] = useState<Attempt | null>(null);
  const [dialog, setDialog] = useState<"move" | "deliver" | null>(null);
  const id = useId();
  const said = health(sink, now.value);
  const isKnown = sink.state !== "not_configured";
  const isBroken = sink.state === "failing" || sink.breaker !== "closed";
  const act = (what: () => Promise<string>): Promise<boolean> =>
    attempt(async () => {
      const done = await what();
      reload();
      return done;
    });
  const route_ = `v1/sinks/${path(sink.name)}`;
  const test = async (): Promise<void> => {
    setTested(null);
    await attempt(async () => {
      setTested(await post<Attempt>(`${route_}/test`));
      reload();
      return null;
    });
  };
  const pause = () =>
    act(async () => {
      await post(`${route_}/pause`);
      return `${sink.name} is paused. Events for it wait until you resume it.`;
    });
  const resume = () =>
    act(async () => {
      const after = await post<Sink>(`${route_}/resume`);
      return `${sink.name} ${sink.paused_at ? "is resumed" : "is tried again now"}; ${counted(after.pending, "pending")}.`;
    });
  const drop = async (): Promise<void> => {
    const yes = await confirmed({
      title: `Drop ${counted(sink.pending, "pending")} to ${sink.name}?`,
      text: (
        <>
          <p>They end without being delivered. This cannot be undone.</p>
          <p>The watches, the stored jobs and the deliveries to other sinks stay. Events that no other sink has are listed as events that no sink took.</p>
        </>
      ),
      action: `Drop ${count(sink.pending)}`,
      danger: true,
    });
    if (yes) await act(async () => `Dropped ${counted((await post<{ count: number }>(`${route_}/drop`)).count, "pending")} to ${sink.name}.`);
  };
  const unfold = (
    <button type="button" class="button link unfold" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
      {isOpen ? "Less" : "More"}
      <span class="for-readers"> of {sink.name}</span>
    </button>
  );
  return (
    <>
      <article class={`panel sink ${isChosen ? "chosen" : ""}`} aria-labelledby={id}>
        <header>
          <h3 id={id}>
            <button
              type="button"
              class="name"
              aria-pressed={isChosen}
              title={isChosen ? "Show the deliveries to all sinks" : `Show only deliveries to ${sink.name}`}
              onClick={() => amend({ sink: isChosen ? null : sink.name })}
            >
              {sink.name}
            </button>
          </h3>
          <State word={sink.state} />
          {isNarrow && unfold}
        </header>
        {!isFolded && isKnown && (
          <p class="target quiet" title={sink.target}>
            {sink.target}
          </p>
        )}
        {said && <p class={`health tone-${isBroken ? "bad" : sink.state === "ok" ? "quiet" : "warn"}`}>{said}</p>}
        {isFolded ? <NumbersLine sink={sink} /> : <Numbers sink={sink} />}
        {sink.last_error !== null && isBroken && (
          <p class="error" title={cut(sink.last_error, 600)}>
            <Foreign>{sink.last_error}</Foreign>
          </p>
        )}
        {!isFolded && (
          <div class="actions">
            {isKnown && sink.name !== CALLBACK && <Button onClick={test}>Test</Button>}
            {isKnown && (sink.paused_at ? <Button onClick={resume}>Resume</Button> : <Button onClick={pause}>Pause</Button>)}
            {isKnown && isBroken && !sink.paused_at && (
              <Button onClick={resume} title="Closes the breaker: deliveries that failed in the outage are due at once">
                Try now
              </Button>
            )}
            {!isKnown && <Backlog sink={sink} onMove={() => setDialog("move")} onDrop={drop} />}
            {!isNarrow && isKnown && unfold}
          </div>
        )}
        {tested && <Tested attempt={tested} onClose={() => setTested(null)} />}
        {isOpen && isKnown && (
          <div class="opened">
            <Details sink={sink} />
            <div class="actions">
              {sink.name !== CALLBACK && <Button onClick={() => setDialog("deliver")}>Deliver past events…</Button>}
              <Backlog sink={sink} onMove={() => setDialog("move")} onDrop={drop} />
            </div>
          </div>
        )}
        {(sink.origins?.length ?? 0) > 0 && <Origins origins={sink.origins ?? []} isShort={isFolded} />}
      </article>
      {dialog === "move" && <MoveDialog from={sink} sinks={others} onClose={() => setDialog(null)} onDone={reload} />}
      {dialog === "deliver" && <DeliverDialog to={sink.name} sinks={others} onClose={() => setDialog(null)} />}
    </>
  );
}

/** The same in a line, where there is little room. */
function NumbersLine({ sink }: { sink: Sink }) {
  const said = [`${count(sink.pending)} waiting`];
  if (sink.oldest_pending_at) said.push(`oldest ${duration(age(sink.oldest_pending_at))}`);
  if (sink.success_share !== null) said.push(`${share(sink.success_share)} success`);
  if (sink.failures_in_row > 0) said.push(`${count(sink.failures_in_row)} ${sink.failures_in_row === 1 ? "failure" : "failures in a row"}`);
  return <p class="quiet">{said.join(" · ")}</p>;
}

function age(since: string): number {
  return Math.max(1, Math.round((now.value - Date.parse(since)) / 1000));
}

/** The few figures of a sink that one compares. */
function Numbers({ sink }: { sink: Sink }) {
  const figures: [string, ComponentChildren, string][] = [
    ["waiting", count(sink.pending), "Deliveries that wait or are in flight"],
    ["oldest", sink.oldest_pending_at ? duration(age(sink.oldest_pending_at)) : "–", "Age of the oldest event that waits"],
    ["success", share(sink.success_share), "Share of the attempts of the last minute that succeeded"],
    sink.failures_in_row > 0 ? ["failures", count(sink.failures_in_row), "Attempts that failed since the last success"] : ["in flight", count(sink.in_flight), "Attempts in flight"],
  ];
  return (
    <dl class="sink-numbers">
      {figures.map(([name, value, meaning]) => (
        <div key={name} title={meaning}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Backlog({ sink, onMove, onDrop }: { sink: Sink; onMove: () => void; onDrop: () => Promise<void> }) {
  if (sink.pending === 0) return null;
  return (
    <>
      <Button onClick={onMove}>Move backlog…</Button>
      <Button kind="danger" onClick={onDrop}>
        Drop backlog…
      </Button>
    </>
  );
}

/** All that the daemon tells about a sink. */
function Details({ sink }: { sink: Sink }) {
  const facts: [string, ComponentChildren][] = [
    ["Type", sink.type],
    ["Target", sink.target],
    ["Breaker", <>{words(sink.breaker)}{sink.next_probe_at && <>, probe <Time at={sink.next_probe_at} form="relative" /></>}</>],
    ["In flight", count(sink.in_flight)],
    ["Rate", sink.rate === null ? "as configured" : `at most ${rate(sink.rate)} for now`],
    ["Failures in a row", count(sink.failures_in_row)],
    ["Since the start", `${count(sink.delivered)} delivered, ${count(sink.failed)} attempts failed, ${count(sink.dead)} dead`],
    ["Last success", <Time at={sink.last_success_at} form="both" />],
    ["Last error", sink.last_error],
  ];
  if (sink.quiet_until) facts.push(["Asked to wait until", <Time at={sink.quiet_until} form="both" />]);
  if (sink.paused_at) facts.push(["Paused since", <Time at={sink.paused_at} form="both" />]);
  return <Facts items={facts} />;
}

/** The answer to a test event. */
function Tested({ attempt: answer, onClose }: { attempt: Attempt; onClose: () => void }) {
  return (
    <div class="tested" role="status">
      <div class="attempt-head">
        <span>
          Test: <AttemptState attempt={answer} /> <span class="quiet">in {duration(answer.duration_ms / 1000)}</span>
        </span>
        <button type="button" class="button link" aria-label="Dismiss the answer to the test" onClick={onClose}>
          ✕
        </button>
      </div>
      <Answer attempt={answer} />
    </div>
  );
}

/** Origins that a folded card shows. */
const FEW = 2;

/** The receivers of callbacks, failing ones first. */
function Origins({ origins, isShort }: { origins: Origin[]; isShort: boolean }) {
  const [all, setAll] = useState(false);
  const few = isShort ? FEW : 2 * FEW;
  const shown = all ? origins : origins.slice(0, few);
  return (
    <>
      <ul class="origins" aria-label="Receivers of callbacks, failing ones first">
        {shown.map((origin) => (
          <li key={origin.origin}>
            <div>
              <span class="mono">{origin.origin}</span>
              <State word={origin.state} />
            </div>
            <p class="quiet">
              {count(origin.pending)} waiting, {count(origin.in_flight)} in flight
              {origin.breaker !== "closed" && `, breaker ${words(origin.breaker)}`}
              {origin.failures_in_row > 1 && `, ${count(origin.failures_in_row)} failures in a row`}
            </p>
            {origin.last_error && <p class="error"><Foreign>{origin.last_error}</Foreign></p>}
          </li>
        ))}
      </ul>
      {origins.length > shown.length && (
        <button type="button" class="button link" onClick={() => setAll(true)}>
          {count(origins.length - shown.length)} more receivers
        </button>
      )}
    </>
  );
}
