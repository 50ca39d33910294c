// How a job is written, in lists and on its own page.

import { count } from "../lib/format";
import type { DeliveryBrief, Watch } from "../lib/types";
import { State, type Tone } from "./basics";

/** Characters that show nothing, or that turn the direction of others: a name with them can pass for another one. */
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

/** Writes hidden characters as what they are: `\u202e`. */
export function visible(text: string): string {
  return text.replace(HIDDEN, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Foreign text: it cannot turn the writing direction of what is around it. */
export function Foreign({ children, class: styles }: { children: string; class?: string }) {
  return <bdi class={styles}>{visible(children)}</bdi>;
}

/** A label, or a pair of metadata. */
export function Tag({ name, value }: { name: string; value: string }) {
  return (
    <span class="tag">
      <Foreign class="quiet">{name}</Foreign>
      <span class="quiet">=</span>
      <Foreign>{value}</Foreign>
    </span>
  );
}

/** Text of any length, cut for a hint. */
export function cut(text: string, length = 300): string {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}

/** The outcome once there is one, else the phase; with the source's own word where it says more. */
export function JobState({ watch }: { watch: Watch }) {
  const word = watch.outcome ?? watch.phase;
  const more = watch.outcome ? null : watch.status;
  return (
    <span class="job-state">
      <State word={word} />
      {more && more !== word && <Foreign class="quiet mono">{cut(more, 60)}</Foreign>}
    </span>
  );
}

/** The deliveries of a job at a glance: how many there are, and whether one of them needs somebody. */
export function Glance({ deliveries }: { deliveries: DeliveryBrief[] }) {
  const number = (state: string): number => deliveries.filter((one) => one.state === state).length;
  const [delivered, dead, pending] = [number("delivered"), number("dead"), number("pending")];
  const isRetrying = deliveries.some((one) => one.state === "pending" && one.attempts > 0);
  const tone: Tone = dead > 0 ? "bad" : isRetrying ? "warn" : pending > 0 ? "busy" : "good";
  return (
    <span class={`state tone-${tone}`}>
      <i aria-hidden="true" />
      <span>
        {count(delivered)}/{count(deliveries.length)}
        <span class="word"> delivered</span>
        {dead > 0 ? `, ${count(dead)} dead` : isRetrying ? ", retrying" : ""}
      </span>
    </span>
  );
}
