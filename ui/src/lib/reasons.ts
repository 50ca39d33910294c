// Why the daemon does what it does next, in sentences.

import type { WaitsFor } from "./types";

/** Why the next poll is when it is: every `next_poll_reason` of the API. */
export const POLL_REASONS: Record<string, string> = {
  learned: "Learned from earlier jobs of this kind: a result is likely to be there by then.",
  prior: "Nothing is learned about this kind of job yet, so the daemon assumes a usual duration.",
  exploring: "This is one of the few jobs that are polled more often, so that the daemon notices when durations change.",
  min_interval: "The source's min_interval: the shortest time between two polls of a job.",
  max_interval: "The source's max_interval: the longest time between two polls of a job.",
  max_delay: "The source's max_delay: a result may wait no longer for its poll.",
  deadline: "The job expires then, or the daemon gives it up.",
  hint: "The source asked the daemon to wait this long.",
  asked: "Someone asked for a poll now.",
  hook: "A hook of the source said that the job may have finished.",
  listed: "The list of the source shows the job as finished.",
  retry: "The last request for this job failed. The pause grows with each failure in a row.",
  backoff: "The source polls with growing pauses (strategy backoff).",
  fixed: "The source polls with equal pauses (strategy fixed).",
  source_limited: "The source asked for fewer requests, so all its jobs wait.",
  source_unauthorized: "The source refuses the API key, so all its jobs wait. A new key ends the wait.",
  source_failing: "The source fails, so all its jobs wait for the next try.",
};

/** What a delivery waits for, beside its retry schedule. */
export const WAITS: Record<WaitsFor, string> = {
  paused: "the sink is paused",
  limited: "the sink asked for a pause, or is at its limit",
  failing: "the sink fails; one delivery at a time probes it",
  not_configured: "the sink is not in the configuration",
};
