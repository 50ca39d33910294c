// Deliveries in words, and the requests that change many at once.

import { post } from "./api";
import { count } from "./format";
import type { DeliveryState } from "./types";

/** What the list shows; the parameters of its address and of the API. */
export interface Filter {
  sink: string;
  state: string;
  source: string;
  job_id: string;
  since: string;
}

export function filterOf(query: URLSearchParams): Filter {
  const of = (key: string): string => query.get(key) ?? "";
  return { sink: of("sink"), state: of("state"), source: of("source"), job_id: of("job_id"), since: of("since") };
}

/** `1 dead letter`, `12 pending deliveries`. */
export function counted(number: number, state: string): string {
  const one = number === 1;
  if (state === "dead") return `${count(number)} dead ${one ? "letter" : "letters"}`;
  return `${count(number)} ${state ? `${state} ` : ""}${one ? "delivery" : "deliveries"}`;
}

/** `1 event`, `12 events`. */
export function events(number: number): string {
  return `${count(number)} ${number === 1 ? "event" : "events"}`;
}

/** Sends again all deliveries of one state that match, or counts them. */
export async function redeliverAll(filter: Filter, state: DeliveryState, dryRun: boolean): Promise<number> {
  const { sink, source, job_id, since } = filter;
  const body = { state, dry_run: dryRun, ...given({ sink, source, job_id, since }) };
  return (await post<{ count: number }>("v1/deliveries/redeliver", body)).count;
}

export interface Choice {
  sink: string;
  source: string;
  outcome: string;
  since: string;
  /** Only events that no sink took. */
  unrouted: boolean;
}

/** Delivers past events to a sink that never got them, or counts them. */
export async function deliverPast(choice: Choice, dryRun: boolean): Promise<number> {
  const { sink, source, outcome, since, unrouted } = choice;
  const body = { sink, dry_run: dryRun, ...given({ source, outcome, since }), ...(unrouted ? { routed: false } : {}) };
  return (await post<{ count: number }>("v1/deliveries/deliver", body)).count;
}

function given(values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
}
