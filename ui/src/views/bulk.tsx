// Dialogs that change many deliveries: moving a backlog, and delivering past events. Each counts before it acts.

import { useEffect, useState } from "preact/hooks";

import { get, path, post, sentence } from "../lib/api";
import { type Choice, counted, deliverPast, events } from "../lib/deliveries";
import { count } from "../lib/format";
import { useLive } from "../lib/live";
import type { Outcome, Page, Sink, Source } from "../lib/types";
import { Button, Select } from "../parts/basics";
import { Dialog, attempt } from "../parts/dialog";

const OUTCOMES: Outcome[] = ["completed", "failed", "cancelled", "expired", "lost"];

/** The sinks that may get deliveries by name. */
function targets(sinks: Sink[], not?: string): [string, string][] {
  return sinks.filter((sink) => sink.state !== "not_configured" && sink.name !== "callback" && sink.name !== not).map((sink) => [sink.name, sink.name]);
}

export function MoveDialog({ from, sinks, onClose, onDone }: { from: Sink; sinks: Sink[]; onClose: () => void; onDone: () => void }) {
  const options = targets(sinks, from.name);
  const [to, setTo] = useState(options[0]?.[0] ?? "");
  const move = (): Promise<boolean> =>
    attempt(async () => {
      const moved = await post<{ count: number; existing: number }>(`v1/sinks/${path(from.name)}/move`, { to });
      onDone();
      onClose();
      const there = moved.existing > 0 ? ` ${counted(moved.existing, "")} ended, because ${to} already has the event.` : "";
      return `Moved ${counted(moved.count, "")} from ${from.name} to ${to}.${there}`;
    });
  return (
    <Dialog title={`Move the backlog of ${from.name}`} onClose={onClose}>
      {options.length === 0 ? (
        <p>No other sink is configured. Add one to the configuration file, then run `tidings reload`.</p>
      ) : (
        <>
          <p>{counted(from.pending, "pending")} will belong to another sink, each with its event id and a new retry schedule.</p>
          <Select label="To the sink" value={to} options={options} onChange={setTo} />
          <p class="quiet">
            No event is delivered twice: where the other sink already has the event, the delivery here just ends. Attempts in flight finish first. Progress
            events that the other sink does not ask for stay.
          </p>
        </>
      )}
      <div class="actions">
        <Button onClick={onClose}>Cancel</Button>
        {options.length > 0 && (
          <Button kind="main" onClick={move}>
            Move {count(from.pending)}
          </Button>
        )}
      </div>
    </Dialog>
  );
}

const SINCE: [string, string][] = [
  ["3600", "the last hour"],
  ["86400", "the last 24 hours"],
  ["604800", "the last 7 days"],
];

interface DeliverProps {
  /** The sink, where it is chosen already. */
  to: string;
  sinks: Sink[];
  unrouted?: boolean;
  onClose: () => void;
  onDone?: () => void;
}

/** Delivers events that were made before, to a sink that has not got them. */
export function DeliverDialog({ to, sinks, unrouted = false, onClose, onDone }: DeliverProps) {
  const options = targets(sinks);
  const [choice, setChoice] = useState<Choice>({ sink: to || (options[0]?.[0] ?? ""), source: "", outcome: "", since: "", unrouted });
  const [span, setSpan] = useState("");
  const [found, setFound] = useState<{ count: number } | { error: unknown } | null>(null);
  const sources = useLive("sources", (abort) => get<Page<Source>>("v1/sources", abort), undefined, 30_000);
  const change = (part: Partial<Choice>): void => setChoice({ ...choice, ...part });
  useEffect(() => {
    let isPresent = true;
    setFound(null);
    if (!choice.sink) return;
    deliverPast(choice, true).then(
      (number) => isPresent && setFound({ count: number }),
      (error: unknown) => isPresent && setFound({ error }),
    );
    return () => void (isPresent = false);
  }, [choice]);
  const number = found && "count" in found ? found.count : null;
  const deliver = (): Promise<boolean> =>
    attempt(async () => {
      const made = await deliverPast(choice, false);
      onDone?.();
      onClose();
      return `Queued ${events(made)} for ${choice.sink}. Oldest events go first.`;
    });
  return (
    <Dialog title={unrouted ? "Deliver events that no sink took" : `Deliver past events to ${choice.sink}`} onClose={onClose}>
      <div class="filters">
        {(unrouted || !to) && <Select label="To the sink" value={choice.sink} options={options} onChange={(sink) => change({ sink })} />}
        <Select
          label="Recorded in"
          any="all stored events"
          value={span}
          options={SINCE}
          onChange={(value) => {
            setSpan(value);
            change({ since: value ? new Date(Date.now() - Number(value) * 1000).toISOString() : "" });
          }}
        />
        <Select label="Source" any="all" value={choice.source} options={(sources.data?.data ?? []).map((source) => [source.name, source.name])} onChange={(source) => change({ source })} />
        <Select label="Outcome" any="all" value={choice.outcome} options={OUTCOMES} onChange={(outcome) => change({ outcome })} />
      </div>
      {!unrouted && (
        <label class="check">
          <input type="checkbox" checked={choice.unrouted} onChange={(event) => change({ unrouted: event.currentTarget.checked })} /> only events that no sink took
        </label>
      )}
      <p role="status" class="found">
        {found === null && (choice.sink ? "Counting…" : "No sink is configured.")}
        {found && "error" in found && <span class="toned tone-bad">{sentence(found.error)}</span>}
        {number === 0 && <>Nothing to deliver: {choice.sink} has all of these events.</>}
        {number !== null && number > 0 && (
          <>
            <strong>{events(number)}</strong> that {choice.sink} has not got.
          </>
        )}
      </p>
      <p class="quiet">
        Finished jobs go to the sink whatever routes say. An event that it already has, in any state, is left out; sending again is for those. New events wait
        their turn behind these.
      </p>
      <div class="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="main" disabled={!number} onClick={deliver}>
          {number ? `Deliver ${events(number)}` : "Deliver"}
        </Button>
      </div>
    </Dialog>
  );
}
