// The life of a job as a story: each step with its time and the time since the step before; attempts together by delivery.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

import { get } from "../lib/api";
import { bytes, count, duration, words } from "../lib/format";
import { href } from "../lib/router";
import type { AttemptStep, Delivery, DeliveryBrief, Step, Watch } from "../lib/types";
import { State, Time, type Tone } from "../parts/basics";
import { Foreign, cut } from "../parts/job";

/** A step, or all attempts of one delivery in the place of the first of them. */
type Entry = { at: string; step: Exclude<Step, { type: "attempt" }> } | { at: string; attempts: (AttemptStep & { at: string })[] };

function story(steps: Step[]): Entry[] {
  const entries: Entry[] = [];
  const byDelivery = new Map<string, (AttemptStep & { at: string })[]>();
  for (const step of steps) {
    if (step.type !== "attempt") {
      entries.push({ at: step.at, step });
      continue;
    }
    const known = byDelivery.get(step.delivery_id);
    if (known) known.push(step);
    else {
      const attempts = [step];
      byDelivery.set(step.delivery_id, attempts);
      entries.push({ at: step.at, attempts });
    }
  }
  return entries;
}

function seconds(from: string, to: string): number {
  return (Date.parse(to) - Date.parse(from)) / 1000;
}

export function TimelineList({ steps, watch, truncated }: { steps: Step[]; watch: Watch; truncated: boolean }) {
  const entries = story(steps);
  const recorded = new Map<string, string>();
  for (const step of steps) if (step.type === "fetched" || step.type === "finished") recorded.set(step.event_id, step.at);
  return (
    <>
      {truncated && <p class="quiet timeline-note">Some earlier steps are no longer stored.</p>}
      <ol class="timeline">
        {entries.map((entry, at) => {
          const before = entries[at - 1];
          const since = before ? seconds(before.at, entry.at) : null;
          return (
            <Line key={"step" in entry ? `${entry.at} ${entry.step.type} ${at}` : (entry.attempts[0]?.delivery_id ?? at)} at={entry.at} since={since} tone={toneOf(entry, watch)}>
              {"step" in entry ? <StepText step={entry.step} /> : <Attempts attempts={entry.attempts} watch={watch} recorded={recorded} />}
            </Line>
          );
        })}
      </ol>
    </>
  );
}

function Line(props: { at: string; since: number | null; tone: Tone; children: ComponentChildren }) {
  return (
    <li class={`tone-${props.tone}`}>
      <span class="at">
        <Time at={props.at} />
        {props.since !== null && <span class="since quiet">{props.since < 0.0005 ? "at once" : `+${duration(props.since)}`}</span>}
      </span>
      <i aria-hidden="true" />
      <div class="what">{props.children}</div>
    </li>
  );
}

function toneOf(entry: Entry, watch: Watch): Tone {
  if ("attempts" in entry) return { delivered: "good", dead: "bad", pending: "warn" }[stateOf(entry.attempts, watch)] as Tone;
  const { step } = entry;
  if (step.type === "finished") return ({ completed: "good", failed: "bad", cancelled: "quiet", expired: "warn", lost: "lost" } as const)[step.outcome];
  if (step.type === "poll_failed" || step.type === "fetch_failed") return "warn";
  return step.type === "status" || step.type === "hook" || step.type === "poll_requested" ? "busy" : "quiet";
}

function StepText({ step }: { step: Exclude<Step, { type: "attempt" }> }) {
  switch (step.type) {
    case "registered":
      return <>Registered</>;
    case "registered_again":
      return <>Registered again</>;
    case "hook":
      return <>A hook of the source named the job</>;
    case "poll_requested":
      return <>Someone asked for a poll</>;
    case "status":
      return (
        <>
          Status <Foreign class="mono strong">{step.status}</Foreign>
        </>
      );
    case "finished":
      return (
        <>
          <State word={step.outcome} />
          <p class="quiet">{noticed(step)}</p>
          {step.error && <ErrorText text={step.error} />}
        </>
      );
    case "fetched":
      return (
        <>
          Result stored ({bytes(step.size)}),{" "}
          {step.deliveries === 0 ? "with no delivery: no route leads to a sink" : `for ${count(step.deliveries)} ${step.deliveries === 1 ? "sink" : "sinks"}`}
        </>
      );
    case "poll_failed":
    case "fetch_failed":
      return (
        <>
          {step.type === "poll_failed" ? "The last poll failed" : "The last fetch of the result failed"}
          <ErrorText text={step.error} />
        </>
      );
  }
}

function noticed(step: Extract<Step, { type: "finished" }>): string {
  if (step.outcome === "lost") return "The daemon gave the job up.";
  const status = step.status && step.status !== step.outcome ? ` with the status ${cut(step.status, 80)}` : "";
  if (step.detection_seconds === null) return `Noticed${status}. The source does not tell when the job finished.`;
  // Two clocks may differ by a little.
  return `Noticed ${duration(Math.max(0, step.detection_seconds))} after it finished${status}.`;
}

function ErrorText({ text }: { text: string }) {
  return (
    <p class="error-text">
      <Foreign>{text}</Foreign>
    </p>
  );
}

function stateOf(attempts: AttemptStep[], watch: Watch): DeliveryBrief["state"] {
  const last = attempts.at(-1);
  const brief = watch.deliveries.find((one) => one.id === last?.delivery_id);
  return brief?.state ?? (last?.state === "delivered" ? "delivered" : last?.state === "dead" ? "dead" : "pending");
}

/** Attempts that are shown before the page asks. */
const SHOWN = 6;

function Attempts({ attempts, watch, recorded }: { attempts: (AttemptStep & { at: string })[]; watch: Watch; recorded: Map<string, string> }) {
  const [all, setAll] = useState(false);
  const [answers, setAnswers] = useState<Record<string, string>>({});
  const first = attempts[0];
  const last = attempts.at(-1);
  if (!first || !last) return null;
  const state = stateOf(attempts, watch);
  const brief = watch.deliveries.find((one) => one.id === first.delivery_id);
  const from = recorded.get(first.event_id);
  const took = state === "delivered" && from ? duration(seconds(from, last.at) + last.duration_ms / 1000) : null;
  const total = brief?.attempts ?? last.number;
  const shown = all || attempts.length <= SHOWN ? attempts : [...attempts.slice(0, 2), ...attempts.slice(-(SHOWN - 2))];
  const showAnswers = async (): Promise<void> => {
    const delivery = await get<Delivery>(`v1/deliveries/${encodeURIComponent(first.delivery_id)}`);
    setAnswers(Object.fromEntries(delivery.attempts.map((one) => [one.at, one.response ?? ""])));
  };
  const hasAnswers = Object.keys(answers).length > 0;
  return (
    <>
      <p>
        <a href={href(["deliveries", first.delivery_id])}>
          <Foreign class="strong">{first.sink}</Foreign>
        </a>{" "}
        <State word={state} />
        <span class="quiet">
          {first.event_type.startsWith("job.") && watch.outcome && first.event_type === `job.${watch.outcome}` ? "" : ` · ${first.event_type}`}
          {state === "delivered" && took && ` · ${took} after the event`}
          {total > 1 && ` · ${count(total)} attempts`}
        </span>
      </p>
      <ol class="tries">
        {shown.map((one, at) => (
          <li key={one.at}>
            {at === 2 && shown.length < attempts.length && (
              <button type="button" class="json-more" onClick={() => setAll(true)}>
                … {count(attempts.length - shown.length)} more attempts
              </button>
            )}
            <span class="quiet number">{one.number}.</span>
            <span>
              <Time at={one.at} /> <Answer attempt={one} /> <span class="quiet">in {duration(one.duration_ms / 1000)}</span>
              {answers[one.at] && (
                <pre class="answer">
                  <bdi>{answers[one.at]}</bdi>
                </pre>
              )}
            </span>
          </li>
        ))}
      </ol>
      {!hasAnswers && attempts.some((one) => one.status !== null && one.state !== "delivered") && (
        <button type="button" class="json-more" onClick={() => void showAnswers().catch(() => undefined)}>
          What it answered
        </button>
      )}
    </>
  );
}

/** What came of an attempt, in a few words. */
function Answer({ attempt }: { attempt: AttemptStep }) {
  if (attempt.state === "delivered") return <span>{attempt.status === null ? "written" : `answered ${attempt.status}`}</span>;
  const error = attempt.error ?? (attempt.error_class ? words(attempt.error_class) : "failed");
  return (
    <span class="text-bad">
      <Foreign>{cut(error, 400)}</Foreign>
    </span>
  );
}
