// Liveness: one event stream while the page can be seen, and views that load again when the daemon says that something changed.
//
// A tab in the background holds no connection and asks for nothing. So many tabs cost the daemon little, and never
// use up the few connections that a browser opens to one server.

import { computed, effect, signal, useSignal, useSignalEffect } from "@preact/signals";
import { createParser } from "eventsource-parser";
import { useEffect, useRef } from "preact/hooks";

import { Problem, Unreachable, send } from "./api";
import { refused, token } from "./session";

/**
 * `live`: the stream is open; `connecting`: at the start, or after a short break; `deaf`: the daemon answers but gives no
 * stream; `gone`: the daemon does not answer.
 */
export const connection = signal<"connecting" | "live" | "deaf" | "gone">("connecting");

/** Why the daemon gives no stream. */
export const deafness = signal("");

/** When the daemon was last heard, in milliseconds. */
export const heardAt = signal<number | null>(null);

/** Counts the messages that something changed. */
export const changes = signal(0);

/** The latest event of the stream. */
export const latest = signal<{ type: string; data: unknown } | null>(null);

/** Whether the page can be seen. */
export const visible = signal(!document.hidden);
document.addEventListener("visibilitychange", () => {
  visible.value = !document.hidden;
});

/** The time, each second while the page can be seen. */
export const now = signal(Date.now());
effect(() => {
  if (!visible.value) return;
  now.value = Date.now();
  const timer = setInterval(() => (now.value = Date.now()), 1000);
  return () => clearInterval(timer);
});

/** The start of the day, for what is drawn again when the day ends and not each second. */
export const today = computed(() => new Date(now.value).setHours(0, 0, 0, 0));

/** Whether what is shown may be out of date. */
export const stale = computed(() => connection.value === "gone");

/** Marks an answer of the daemon. */
export function heard(): void {
  heardAt.value = Date.now();
}

/** The daemon sends a comment every 15 seconds. */
const SILENCE = 40_000;

/** Reads the event stream until it ends. */
async function read(abort: AbortController, from: { id: string | null }): Promise<void> {
  const headers: Record<string, string> = { accept: "text/event-stream" };
  if (from.id) headers["last-event-id"] = from.id;
  const answer = await send("GET", "v1/events?changes=true&types=*", { headers, signal: abort.signal });
  const body = answer.body;
  if (!body) return;
  connection.value = "live";
  heard();
  changes.value++;
  const parser = createParser({
    onEvent: (message) => {
      if (message.id) from.id = message.id;
      if (message.event === "changed") changes.value++;
      else if (message.event && message.event !== "dropped") {
        latest.value = { type: message.event, data: parsed(message.data) };
        changes.value++;
      }
    },
  });
  const reader = body.getReader();
  const text = new TextDecoder();
  let silence: ReturnType<typeof setTimeout> | undefined;
  try {
    for (;;) {
      clearTimeout(silence);
      silence = setTimeout(() => abort.abort(), SILENCE);
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      parser.feed(text.decode(value, { stream: true }));
    }
  } finally {
    clearTimeout(silence);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const restarts = signal(0);

/** Tries at once to reach the daemon. */
export function retry(): void {
  restarts.value++;
}

/** Keeps the stream open while the page can be seen and the daemon lets it in. */
export function follow(): () => void {
  return effect(() => {
    // A new token begins a new stream; a refusal ends it.
    void token.value;
    void restarts.value;
    if (!visible.value || refused.value) return;
    let abort = new AbortController();
    let stopped = false;
    const from = { id: null as string | null };
    void (async () => {
      let pause = 500;
      while (!stopped) {
        abort = new AbortController();
        const began = Date.now();
        try {
          await read(abort, from);
        } catch (error) {
          if (stopped) return;
          if (error instanceof Problem && error.status === 401) return;
          // A place in the future of a data folder that was replaced.
          if (error instanceof Problem && error.status === 400) from.id = null;
          if (error instanceof Unreachable || (error instanceof Problem && !error.isDaemon)) connection.value = "gone";
          else if (error instanceof Problem) {
            connection.value = "deaf";
            deafness.value = error.detail;
            // Without messages of the stream the views load again at its pace.
            changes.value++;
          }
        }
        if (stopped) return;
        if (Date.now() - began > 5_000) pause = 500;
        if (connection.value === "live") connection.value = "connecting";
        // Tabs that lost the same daemon do not return at the same instant.
        await new Promise((wake) => setTimeout(wake, pause * (0.75 + Math.random() / 2)));
        pause = Math.min(pause * 2, 5_000);
      }
    })();
    return () => {
      stopped = true;
      abort.abort();
    };
  });
}

/** Whether the daemon may answer better soon, without a message that something changed. */
function isPassing(error: unknown): boolean {
  return error instanceof Problem && (error.status >= 500 || error.status === 429);
}

/** What a view loaded: the last good answer, also while a later request fails. */
export interface Loaded<T> {
  data: T | null;
  error: unknown;
  /** A request is on its way. */
  loading: boolean;
  reload: () => void;
}

/**
 * Loads something, and again when the daemon says that something changed. `key` names what is loaded: another key begins
 * again. `every` also loads again after so many milliseconds, as the last answer tells. Loads begin `pace` milliseconds
 * apart at least, and a daemon that takes long to answer is asked less often.
 */
export function useLive<T>(
  key: string,
  load: (abort: AbortSignal) => Promise<T>,
  every?: (last: T | null) => number | undefined,
  pace = 1000,
): Loaded<T> {
  const data = useSignal<T | null>(null);
  const error = useSignal<unknown>(null);
  const loading = useSignal(true);
  const fetcher = useRef<{ run: () => void; now: () => void; stop: () => void } | null>(null);
  const latestLoad = useRef(load);
  latestLoad.current = load;
  const latestEvery = useRef(every);
  latestEvery.current = every;
  useEffect(() => {
    data.value = null;
    error.value = null;
    const abort = new AbortController();
    let running = false;
    let again = false;
    let next = 0;
    let failures = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const run = (): void => {
      if (abort.signal.aborted) return;
      if (running) {
        again = true;
        return;
      }
      const wait = next - Date.now();
      if (wait > 0) {
        clearTimeout(timer);
        timer = setTimeout(run, wait);
        return;
      }
      clearTimeout(timer);
      running = true;
      again = false;
      const began = Date.now();
      loading.value = true;
      latestLoad
        .current(abort.signal)
        .then(
          (value) => {
            if (abort.signal.aborted) return;
            data.value = value;
            error.value = null;
            heard();
          },
          (reason: unknown) => {
            if (abort.signal.aborted) return;
            error.value = reason;
          },
        )
        .finally(() => {
          running = false;
          next = Math.max(began + pace, Date.now() + 4 * (Date.now() - began));
          if (abort.signal.aborted) return;
          loading.value = false;
          failures = isPassing(error.value) ? failures + 1 : 0;
          const pause = failures > 0 ? Math.min(2_000 * 2 ** (failures - 1), 15_000) : latestEvery.current?.(data.value);
          if (again) run();
          else if (pause && visible.value) timer = setTimeout(run, pause);
        });
    };
    const now = (): void => {
      next = 0;
      run();
    };
    fetcher.current = { run, now, stop: () => abort.abort() };
    run();
    return () => {
      clearTimeout(timer);
      abort.abort();
      fetcher.current = null;
    };
  }, [key, pace]);
  const isFirst = useRef(true);
  useSignalEffect(() => {
    // Subscribes to the messages, to the return of the page into view, and to a new token.
    void changes.value;
    void token.value;
    const may = visible.value && !refused.value;
    if (isFirst.current) isFirst.current = false;
    else if (may) fetcher.current?.run();
  });
  return {
    data: data.value,
    error: error.value,
    loading: loading.value,
    reload: () => fetcher.current?.now(),
  };
}
