// One delivery: as a row of the list, and opened at the side with every attempt.

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";

import { get, path, post } from "../lib/api";
import { duration } from "../lib/format";
import { now, useLive } from "../lib/live";
import { WAITS } from "../lib/reasons";
import { href, jobHref, route } from "../lib/router";
import type { Attempt, Delivery, WaitsFor } from "../lib/types";
import { Button, Copy, Facts, Failure, State, Time } from "../parts/basics";
import { Dialog, attempt } from "../parts/dialog";
import { Foreign, cut, visible } from "../parts/job";
import { Cell } from "../parts/rows";

/** The address of a delivery in the list that is shown. */
function deliveryHref(id: string, query: string): string {
  return `${href(["deliveries", id])}${query ? `?${query}` : ""}`;
}

/** What the event is about: a job, a group, or the daemon itself. */
function About({ delivery }: { delivery: Delivery }) {
  const { source, job_id, group } = delivery;
  if (source !== null && job_id !== null) {
    return (
      <a class="delivery-about" href={jobHref(source, job_id, delivery.kind)} title={cut(`${source} / ${job_id}`)}>
        <Foreign class="quiet">{source}</Foreign> <Foreign class="mono">{job_id}</Foreign>
      </a>
    );
  }
  if (group !== undefined) {
    return (
      <a class="delivery-about" href={href(["jobs"], { group })} title={cut(`the group ${group}`)}>
        <span class="quiet">group</span> <Foreign>{group}</Foreign>
      </a>
    );
  }
  return <span class="quiet">{source === null ? "the daemon" : `the source ${source}`}</span>;
}

/** What a delivery waits for, in the few words that a row has room for. */
const WAITS_SHORT: Record<WaitsFor, string> = {
  paused: "the sink is paused",
  limited: "the sink asked for a pause",
  failing: "waits for a probe: the sink fails",
  not_configured: "the sink is not configured",
};

/** Why a delivery is where it is. */
function Why({ delivery, isShort = false }: { delivery: Delivery; isShort?: boolean }) {
  const { state, reason, waits_for, next_attempt_at, attempts, attempt_count } = delivery;
  if (state === "dead") return <Foreign>{reason ?? "no reason was kept"}</Foreign>;
  if (state === "delivered") {
    const last = attempts.at(-1);
    return last ? <span class="quiet">in {duration(last.duration_ms / 1000)}</span> : null;
  }
  if (waits_for !== null) return <>{isShort ? WAITS_SHORT[waits_for] : `It waits: ${WAITS[waits_for]}.`}</>;
  const when = <Next at={next_attempt_at} name={isShort ? "next" : attempt_count === 0 ? "first attempt" : "next attempt"} />;
  if (reason === null) return isShort ? <span class="quiet">new</span> : when;
  return isShort ? (
    <>
      <Foreign>{reason}</Foreign>, {when}
    </>
  ) : (
    <>
      <Foreign>{reason.charAt(0).toUpperCase() + reason.slice(1)}</Foreign>; {when}.
    </>
  );
}

/** When the next attempt is. */
function Next({ at, name }: { at: string | null; name: string }) {
  if (at === null) return <>it waits</>;
  if (new Date(at).getTime() <= now.value) return <>{name === "next" ? "due" : `${name} is due`}</>;
  return (
    <>
      {name} <Time at={at} form="relative" />
    </>
  );
}

export function DeliveryRow({ delivery, query }: { delivery: Delivery; query: string }) {
  const answer = delivery.last_status;
  return (
    <>
      <Cell class="c-state">
        <a class="cover" href={deliveryHref(delivery.id, query)}>
          <State word={delivery.state} />
        </a>
      </Cell>
      <Cell class="c-event" title={delivery.event_type}>{delivery.event_type}</Cell>
      <Cell class="c-about">
        <About delivery={delivery} />
      </Cell>
      <Cell class="c-sink" title={delivery.sink}>{delivery.sink}</Cell>
      <Cell class="c-attempts number">{delivery.attempt_count}</Cell>
      <Cell class="c-answer number">{answer ?? <span class="quiet">–</span>}</Cell>
      <Cell class="c-why" title={delivery.reason === null ? undefined : cut(delivery.reason, 600)}>
        <Why delivery={delivery} isShort />
      </Cell>
      <Cell class="c-when number">
        <Time at={delivery.created_at} />
      </Cell>
    </>
  );
}

interface DrawerProps {
  id: string;
  /** The delivery as the list has it, until its own answer is here. */
  known: Delivery | null;
  previous: string | null;
  next: string | null;
  onClose: () => void;
}

/** A delivery with all its attempts, at the side of the list. */
export function DeliveryDrawer({ id, known, previous, next, onClose }: DrawerProps) {
  const query = route.value.query.toString();
  const loaded = useLive(`delivery ${id}`, (abort) => get<Delivery>(`v1/deliveries/${path(id)}`, abort));
  const delivery = loaded.data?.id === id ? loaded.data : known;
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      const to = event.key === "j" ? next : event.key === "k" ? previous : null;
      // A question may lie above this.
      if (to === null || event.ctrlKey || event.metaKey || event.altKey || document.querySelectorAll("dialog[open]").length > 1) return;
      location.replace(deliveryHref(to, query));
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [previous, next, query]);
  const step = (to: string | null, name: string, sign: string) => (
    <button type="button" class="button link" disabled={to === null} aria-label={name} title={name} onClick={() => to !== null && location.replace(deliveryHref(to, query))}>
      {sign}
    </button>
  );
  return (
    <Dialog
      form="drawer"
      title={delivery === null ? "Delivery" : `Delivery to ${delivery.sink}`}
      onClose={onClose}
      aside={
        <span class="steps">
          {step(previous, "Newer delivery (k)", "↑")}
          {step(next, "Older delivery (j)", "↓")}
        </span>
      }
    >
      {loaded.error != null && <Failure error={loaded.error} retry={loaded.reload} />}
      {delivery === null && loaded.error == null && <p class="quiet">Loading…</p>}
      {delivery !== null && <Opened delivery={delivery} reload={loaded.reload} />}
    </Dialog>
  );
}

function Opened({ delivery, reload }: { delivery: Delivery; reload: () => void }) {
  const again = (): Promise<boolean> =>
    attempt(async () => {
      await post(`v1/deliveries/${path(delivery.id)}/redeliver`);
      reload();
      return `Queued for ${delivery.sink} again, with a new retry schedule.`;
    });
  const kept = delivery.attempts.length;
  const facts: [string, ComponentChildren][] = [
    ["Sink", <a href={href(["deliveries"], { sink: delivery.sink })}>{delivery.sink}</a>],
    ["Event", delivery.event_type],
    ["About", <About delivery={delivery} />],
    ["Event recorded", <Time at={delivery.created_at} form="both" />],
    [delivery.state === "delivered" ? "Delivered" : "Last change", <Time at={delivery.updated_at} form="both" />],
    ["Event id", <Id text={delivery.event_id} label="Copy the event id" />],
    ["Delivery id", <Id text={delivery.id} label="Copy the delivery id" />],
  ];
  return (
    <>
      <div class="verdict">
        <State word={delivery.state} />
        <p>{delivery.state === "delivered" ? <Accepted delivery={delivery} /> : <Why delivery={delivery} />}</p>
      </div>
      <div class="actions">
        <Button
          kind={delivery.state === "dead" ? "main" : "plain"}
          onClick={again}
          title="Sends the same event, with its id, and begins a new retry schedule"
        >
          {delivery.state === "pending" ? "Attempt now" : "Send again"}
        </Button>
      </div>
      <Facts items={facts} />
      <h3>
        Attempts <span class="quiet">{delivery.attempt_count > kept ? `the last ${kept} of ${delivery.attempt_count}` : delivery.attempt_count}</span>
      </h3>
      {kept === 0 ? (
        <p class="quiet">No attempt was made yet.</p>
      ) : (
        <ol class="delivery-attempts" reversed start={delivery.attempt_count}>
          {[...delivery.attempts].reverse().map((one, at) => (
            <AttemptItem key={one.at} attempt={one} number={delivery.attempt_count - at} />
          ))}
        </ol>
      )}
    </>
  );
}

function Accepted({ delivery }: { delivery: Delivery }) {
  const number = delivery.attempt_count;
  return (
    <>
      {delivery.last_status === null ? "Written" : `Accepted with ${delivery.last_status}`}
      {number === 1 ? " at the first attempt" : ` at attempt ${number}`}
    </>
  );
}

/** An id to copy. */
export function Id({ text, label }: { text: string; label: string }) {
  return (
    <span class="delivery-id">
      <span class="mono">{text}</span> <Copy text={text} label={label} />
    </span>
  );
}

/** One attempt: when, how long, what the receiver said. */
function AttemptItem({ attempt: one, number }: { attempt: Attempt; number: number }) {
  return (
    <li value={number}>
      <div class="attempt-head">
        <AttemptState attempt={one} />
        <span class="quiet">
          in {duration(one.duration_ms / 1000)} · <Time at={one.at} /> (<Time at={one.at} form="relative" />)
        </span>
      </div>
      <Answer attempt={one} />
    </li>
  );
}

/** What came of an attempt, in a word or two. */
export function AttemptState({ attempt: one }: { attempt: Attempt }) {
  if (one.error === null) return <State word={one.status === null ? "written" : `answered ${one.status}`} tone="good" />;
  return <State word={one.error} tone="bad" />;
}

/** Why an attempt failed, by the class of its error. */
const CLASSES: Record<string, string> = {
  name_not_found: "The DNS knows no address of the receiver.",
  blocked: "The guard blocks the receiver's address, so nothing was sent.",
  proxy: "The proxy failed, so the receiver was not reached.",
  connect: "No connection could be opened.",
  tls: "The two sides agree on no encryption, or one does not trust the certificate of the other.",
  timeout: "The attempt took too long.",
  reset: "The connection broke before the answer was complete.",
  not_http: "The answer is not HTTP.",
  redirect: "The receiver redirects, and the daemon follows no redirects.",
  payload: "The stored job cannot be read, or the template fails.",
  config: "A secret, a header or a certificate of the sink cannot be used.",
  disk: "The folder of the sink cannot be written to.",
  internal: "This is a fault of tidings itself.",
};

/** The rest of an attempt: what its error means, and the text that the receiver answered. */
export function Answer({ attempt: one }: { attempt: Attempt }) {
  const meaning = one.error_class === undefined ? undefined : CLASSES[one.error_class];
  return (
    <>
      {meaning && <p class="quiet">{meaning}</p>}
      {one.response !== null && one.response !== "" && (
        <pre class="receiver-said" tabIndex={0} aria-label="The text that the receiver answered">
          {visible(one.response.replaceAll("\r\n", "\n"))}
        </pre>
      )}
    </>
  );
}
