// The JSON of the API, as /openapi.json describes it.

export type Phase = "watching" | "fetching" | "delivering" | "done" | "dead";
export type Outcome = "completed" | "failed" | "cancelled" | "expired" | "lost";
export type DeliveryState = "pending" | "delivered" | "dead";
export type SinkState = "ok" | "failing" | "paused" | "not_configured";
export type SourceState = "ok" | "unauthorized" | "limited" | "failing";
export type WaitsFor = "paused" | "limited" | "failing" | "not_configured";

/** A time in UTC, such as `2026-11-23T20:20:37.898Z`. */
export type Instant = string;

export interface Page<T> {
  data: T[];
  next_cursor: string | null;
}

export interface DeliveryBrief {
  id: string;
  sink: string;
  state: DeliveryState;
  attempts: number;
  next_attempt_at: Instant | null;
  waits_for: WaitsFor | null;
  last_status: number | null;
}

export interface Watch {
  source: string;
  job_id: string;
  kind: string | null;
  vars?: Record<string, string>;
  group?: string;
  phase: Phase;
  status: string | null;
  outcome: Outcome | null;
  endpoint: string | null;
  labels: Record<string, string>;
  metadata: Record<string, string> | null;
  created_at: Instant;
  updated_at: Instant;
  polls: number;
  next_poll_at: Instant | null;
  next_poll_reason: string | null;
  finished_at: Instant | null;
  event_id: string | null;
  job_size: number | null;
  job_sha256: string | null;
  last_error: string | null;
  deliveries: DeliveryBrief[];
}

export interface Attempt {
  at: Instant;
  duration_ms: number;
  status: number | null;
  error: string | null;
  error_class?: string;
  response: string | null;
}

export interface Delivery {
  id: string;
  sink: string;
  state: DeliveryState;
  event_id: string;
  event_type: string;
  source: string | null;
  job_id: string | null;
  kind?: string;
  group?: string;
  created_at: Instant;
  updated_at: Instant;
  next_attempt_at: Instant | null;
  waits_for: WaitsFor | null;
  last_status: number | null;
  reason: string | null;
  attempt_count: number;
  attempts: Attempt[];
}

/** An event without the job. */
export interface EventBrief {
  id: string;
  type: string;
  created_at: Instant;
  source: string | null;
  job_id: string | null;
  kind?: string;
  group?: string;
  outcome: Outcome | null;
}

/** One step in the life of a job. */
export type Step = { at: Instant } & (
  | { type: "registered" | "registered_again" | "hook" | "poll_requested" }
  | { type: "status"; status: string }
  | {
      type: "finished";
      outcome: Outcome;
      status: string | null;
      event_id: string;
      /** When the job ended, by the clock of its source. */
      ended_at: Instant | null;
      detection_seconds: number | null;
      error: string | null;
    }
  | { type: "fetched"; event_id: string; size: number; deliveries: number }
  | { type: "poll_failed" | "fetch_failed"; error: string }
  | AttemptStep
);

export interface AttemptStep {
  type: "attempt";
  delivery_id: string;
  sink: string;
  event_id: string;
  event_type: string;
  number: number;
  state: "delivered" | "failed" | "dead";
  status: number | null;
  duration_ms: number;
  error: string | null;
  error_class: string | null;
}

export interface Timeline {
  source: string;
  job_id: string;
  kind: string | null;
  data: Step[];
  truncated: boolean;
}

export interface Kind {
  endpoint: string;
  label: string | null;
  finishes: number;
  median_seconds: number | null;
  p90_seconds: number | null;
  /** Pairs of an age in seconds and the share of jobs that still run then. */
  survival?: [number, number][];
  /** The ages in seconds at which a new job would be polled. */
  looks?: number[];
}

export interface Source {
  name: string;
  type: string;
  kinds: string[];
  base_url: string;
  state: SourceState;
  paused_until: Instant | null;
  open_watches: number;
  max_requests_per_second: number;
  budget: string | null;
  requests: number;
  last_error: string | null;
  polling: {
    strategy: string;
    cost_of_a_poll_seconds: number;
    requests_per_second: number;
    budget_used: number;
    finished: number;
    polls_per_job: number | null;
    mean_delay_seconds: number | null;
    kinds: Kind[];
  };
  list: {
    pages: number;
    discovered: number;
    answered: number;
    last_page_at: Instant | null;
    last_page_jobs: number;
    last_error: string | null;
    discovery_error: string | null;
  } | null;
  hooks: {
    received: number;
    last_at: Instant | null;
    refused: number;
    last_refusal: string | null;
    announced: number;
    missed: number;
    reliability: number | null;
    mean_delay_seconds: number | null;
  } | null;
}

export interface Origin {
  origin: string;
  state: SinkState;
  breaker: Breaker;
  pending: number;
  in_flight: number;
  failures_in_row: number;
  last_error: string | null;
}

export type Breaker = "closed" | "open" | "half-open";

export interface Sink {
  name: string;
  type: string;
  target: string;
  state: SinkState;
  breaker: Breaker;
  next_probe_at: Instant | null;
  quiet_until: Instant | null;
  rate: number | null;
  paused_at: Instant | null;
  oldest_pending_at: Instant | null;
  success_share: number | null;
  pending: number;
  in_flight: number;
  delivered: number;
  failed: number;
  failures_in_row: number;
  dead: number;
  last_success_at: Instant | null;
  last_error: string | null;
  origins?: Origin[];
}

export interface Trouble {
  code: string;
  severity: "error" | "warning";
  subject: { type: "sink" | "source" | "store" | "daemon"; name: string | null };
  since: Instant | null;
  /** Sentences without a capital and a full stop; keys and commands stand between backticks. */
  summary: string;
  remedy: string;
}

export interface History {
  step_seconds: number;
  from: Instant;
  ended: Record<Outcome, number[]>;
  detection_seconds: { median: (number | null)[]; p99: (number | null)[] };
  delivery_seconds: { median: (number | null)[]; p99: (number | null)[] };
  requests: Record<string, number[]>;
  budget_used: Record<string, number[]>;
  pending: Record<string, number[]>;
}

export interface Overview {
  at: Instant;
  started_at: Instant;
  version: string;
  state: "ready" | "loading" | "degraded" | "unavailable";
  /** The counts of ended watches and of dead letters are null until they were counted once after a start. */
  watches: { watching: number | null; fetching: number | null; delivering: number | null; done: number | null; dead: number | null };
  deliveries: { pending: number; in_flight: number; dead: number | null };
  problems: Trouble[];
  sources: Source[];
  sinks: Sink[];
  history: History;
}

/** How far a reconciliation of a source with its list is. */
export interface Reconciliation {
  source: string;
  checked: number;
  known: number;
  running: number;
  recovered: number;
  done: boolean;
  dry_run: boolean;
  since: Instant;
  pages: number;
  started_at: Instant;
  finished_at: Instant | null;
  error: string | null;
}

export interface Group {
  name: string;
  state: "open" | "closed" | "finished";
  closed: boolean;
  jobs: number;
  open: number;
  counts: Record<string, number>;
  created_at: Instant;
  closed_at: Instant | null;
  finished_at: Instant | null;
  event_id: string | null;
}
