// Events that no sink took: shown only where there are any.

import { useState } from "preact/hooks";

import { get, withQuery } from "../lib/api";
import { events } from "../lib/deliveries";
import { count } from "../lib/format";
import { useLive } from "../lib/live";
import { href, jobHref } from "../lib/router";
import type { EventBrief, Page, Sink } from "../lib/types";
import { Button, Time } from "../parts/basics";
import { Foreign } from "../parts/job";
import { DeliverDialog } from "./bulk";

const SHOWN = 100;

/** Few events are ever among these, and finding none costs a scan. */
const PACE = 20_000;

export function Unrouted({ sinks }: { sinks: Sink[] }) {
  const [isOpen, setOpen] = useState(false);
  const [isDelivering, setDelivering] = useState(false);
  const list = useLive(
    "unrouted",
    (abort) => get<Page<EventBrief>>(withQuery("v1/events", { routed: false, types: "*", limit: SHOWN }), abort),
    undefined,
    PACE,
  );
  const data = list.data?.data ?? [];
  if (data.length === 0) return null;
  const isMore = list.data?.next_cursor !== null;
  const number = isMore ? `More than ${events(data.length)}` : events(data.length);
  return (
    <section class="panel unrouted" aria-label="Events that no sink took">
      <header>
        <h2>{number} that no sink took</h2>
        <div class="aside actions">
          <button type="button" class="button link" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
            {isOpen ? "Hide" : "Show"}
          </button>
          <Button onClick={() => setDelivering(true)}>Deliver to…</Button>
        </div>
      </header>
      {isOpen && (
        <div class="inside">
          <p class="quiet">
            No route led anywhere when these were made, no sink took their outcome, or their deliveries were dropped. <code>tidings config route</code> explains
            the routes. {isMore && `The newest ${count(data.length)} are shown.`}
          </p>
          <ul>
            {data.map((event) => (
              <li key={event.id}>
                <span>{event.type}</span>
                {event.source && event.job_id ? (
                  <a href={jobHref(event.source, event.job_id, event.kind)}>
                    <Foreign class="quiet">{event.source}</Foreign> <Foreign class="mono">{event.job_id}</Foreign>
                  </a>
                ) : event.group ? (
                  <a href={href(["jobs"], { group: event.group })}>
                    <span class="quiet">group</span> <Foreign>{event.group}</Foreign>
                  </a>
                ) : (
                  <span class="quiet">the daemon</span>
                )}
                <Time at={event.created_at} />
              </li>
            ))}
          </ul>
        </div>
      )}
      {isDelivering && <DeliverDialog to="" unrouted sinks={sinks} onClose={() => setDelivering(false)} onDone={list.reload} />}
    </section>
  );
}
