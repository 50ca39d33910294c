// The small parts that every view is made of.

import type { ComponentChildren, TargetedEvent, TargetedKeyboardEvent } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

import { Problem, Unreachable, sentence } from "../lib/api";
import { duration, localTime, relative, utc, words } from "../lib/format";
import { connection, deafness, heardAt, now, retry, today } from "../lib/live";

/** A time: local, relative, or as an age, with the UTC text on hover. */
export function Time({ at, form = "local" }: { at: string | null | undefined; form?: "local" | "relative" | "age" | "both" }) {
  if (!at) return <span class="quiet">–</span>;
  // Only what tells a distance is drawn again each second.
  const local = localTime(at, today.value);
  const text = {
    local: () => local,
    relative: () => relative(at, now.value),
    age: () => duration(Math.max(1, Math.round((now.value - Date.parse(at)) / 1000))),
    both: () => `${local} (${relative(at, now.value)})`,
  }[form]();
  return (
    <time dateTime={at} title={form === "local" || form === "both" ? utc(at) : `${local} · ${utc(at)}`}>
      {text}
    </time>
  );
}

export type Tone = "good" | "bad" | "warn" | "busy" | "quiet" | "lost";

const TONES: Record<string, Tone> = {
  completed: "good",
  delivered: "good",
  done: "good",
  ok: "good",
  closed: "good",
  ready: "good",
  finished: "good",
  failed: "bad",
  dead: "bad",
  failing: "bad",
  open: "bad",
  unauthorized: "bad",
  unavailable: "bad",
  expired: "warn",
  limited: "warn",
  paused: "warn",
  degraded: "warn",
  "half-open": "warn",
  not_configured: "warn",
  lost: "lost",
  cancelled: "quiet",
  watching: "busy",
  fetching: "busy",
  delivering: "busy",
  pending: "busy",
  loading: "busy",
};

/** A state in its word, with a mark whose form (not only colour) tells good from bad. */
export function State({ word, tone }: { word: string; tone?: Tone }) {
  return (
    <span class={`state tone-${tone ?? TONES[word] ?? "quiet"}`}>
      <i aria-hidden="true" />
      {words(word)}
    </span>
  );
}

interface ButtonProps {
  children: ComponentChildren;
  onClick: () => unknown;
  kind?: "plain" | "main" | "danger" | "link";
  disabled?: boolean;
  title?: string;
  label?: string;
  /** It has the focus when its dialog opens. */
  first?: boolean;
}

/**
 * A button. While what it began goes on, it cannot be pressed again. It keeps the focus then, so that the focus can
 * return to it from a dialog.
 */
export function Button({ children, onClick, kind = "plain", disabled, title, label, first }: ButtonProps) {
  const [busy, setBusy] = useState(false);
  const alive = useRef(true);
  useEffect(() => {
    alive.current = true;
    return () => void (alive.current = false);
  }, []);
  const press = (): void => {
    if (busy) return;
    const answer = onClick();
    if (!(answer instanceof Promise)) return;
    setBusy(true);
    const done = (): void => void (alive.current && setBusy(false));
    answer.then(done, done);
  };
  return (
    <button
      type="button"
      class={`button ${kind}`}
      disabled={disabled}
      aria-disabled={busy || undefined}
      aria-busy={busy || undefined}
      title={title}
      aria-label={label}
      autoFocus={first}
      onClick={press}
    >
      {children}
    </button>
  );
}

/** A section with a heading. */
export function Panel(props: { title: ComponentChildren; aside?: ComponentChildren; children: ComponentChildren; class?: string }) {
  const id = useId();
  return (
    <section class={`panel ${props.class ?? ""}`} aria-labelledby={id}>
      <header>
        <h2 id={id}>{props.title}</h2>
        {props.aside && <div class="aside">{props.aside}</div>}
      </header>
      {props.children}
    </section>
  );
}

/** Pairs of a name and a value. */
export function Facts({ items }: { items: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {items.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value ?? <span class="quiet">–</span>}</dd>
        </div>
      ))}
    </dl>
  );
}

/** One figure with its name, as a link where it leads somewhere. */
export function Figure(props: { name: string; value: ComponentChildren; note?: ComponentChildren; to?: string; tone?: Tone }) {
  const inside = (
    <>
      <span class="name">{props.name}</span>
      <span class={`value ${props.tone ? `tone-${props.tone}` : ""}`}>{props.value}</span>
      {props.note !== undefined && <span class="note">{props.note}</span>}
    </>
  );
  return props.to ? (
    <a class="figure" href={props.to}>
      {inside}
    </a>
  ) : (
    <div class="figure">{inside}</div>
  );
}

/** Why something could not be loaded, and a way to try again. */
export function Failure({ error, retry: again }: { error: unknown; retry?: () => void }) {
  // The banner says so for the whole page.
  if (connection.value === "gone" && (error instanceof Unreachable || (error instanceof Problem && !error.isDaemon))) return null;
  const text = sentence(error);
  return (
    <div class="notice tone-bad" role="alert">
      <p>{text.charAt(0).toUpperCase() + text.slice(1)}</p>
      {again && (
        <Button onClick={again} kind="link">
          Try again
        </Button>
      )}
    </div>
  );
}

/** What stands where nothing is yet. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="title">{title}</p>
      {children}
    </div>
  );
}

/** A command to copy. */
export function Command({ text }: { text: string }) {
  return (
    <div class="command">
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
      <Copy text={text} label="Copy the command" />
    </div>
  );
}

export function Copy({ text, label }: { text: string; label: string }) {
  const [answer, setAnswer] = useState<string | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const press = async (event: TargetedEvent<HTMLButtonElement, MouseEvent>): Promise<void> => {
    const done = await copied(text, event.currentTarget);
    setAnswer(done ? "Copied" : "Select it, then copy");
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setAnswer(null), 1500);
  };
  return (
    <button type="button" class="button link copy" aria-label={answer ?? label} title={label} onClick={(event) => void press(event)}>
      <span aria-live="polite">{answer ?? "Copy"}</span>
    </button>
  );
}

/** Copies a text. Browsers give the clipboard to secure origins alone, so elsewhere a selection is copied. */
async function copied(text: string, button: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "for-readers";
    // Beside the button: only what is in a modal dialog can have the focus while one is open.
    button.after(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    button.focus();
    return done;
  }
}

export function Select(props: {
  label: string;
  value: string;
  options: (string | [string, string])[];
  any?: string;
  onChange: (value: string) => void;
}) {
  return (
    <label class="field">
      <span>{props.label}</span>
      <select value={props.value} onChange={(event) => props.onChange(event.currentTarget.value)}>
        {props.any !== undefined && <option value="">{props.any}</option>}
        {props.options.map((option) => {
          const [value, text] = typeof option === "string" ? [option, words(option)] : option;
          return (
            <option key={value} value={value}>
              {text}
            </option>
          );
        })}
      </select>
    </label>
  );
}

/** A text field that reports what was typed after a short pause, and at once on Enter. */
export function Search(props: { label: string; value: string; placeholder?: string; id?: string; onChange: (value: string) => void }) {
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    // A filter that was cleared elsewhere; never the text under somebody's fingers.
    if (input.current && document.activeElement !== input.current) input.current.value = props.value;
  }, [props.value]);
  const report = (value: string): void => {
    clearTimeout(timer.current);
    props.onChange(value.trim());
  };
  return (
    <label class="field grow">
      <span>{props.label}</span>
      <input
        ref={input}
        id={props.id}
        type="search"
        defaultValue={props.value}
        placeholder={props.placeholder}
        autoComplete="off"
        spellcheck={false}
        onInput={(event: TargetedEvent<HTMLInputElement>) => {
          const { value } = event.currentTarget;
          clearTimeout(timer.current);
          timer.current = setTimeout(() => report(value), 200);
        }}
        onKeyDown={(event: TargetedKeyboardEvent<HTMLInputElement>) => {
          if (event.key === "Enter") report(event.currentTarget.value);
        }}
      />
    </label>
  );
}

/** Says that what is shown is old, and since when. */
export function StaleBanner() {
  if (connection.value === "deaf") {
    return (
      <div class="banner tone-warn" role="status">
        <span>
          <strong>This page is not live:</strong> {deafness.value}. It loads again every few seconds.
        </span>
      </div>
    );
  }
  if (connection.value !== "gone") return null;
  const at = heardAt.value;
  return (
    <div class="banner tone-warn" role="status">
      <span>
        <strong>The daemon does not answer.</strong>{" "}
        {at === null ? (
          "Nothing was loaded yet."
        ) : (
          <>
            What you see is from <Time at={new Date(at).toISOString()} /> {/* Each second, so it is not read aloud. */}
            <span aria-live="off">
              (<Time at={new Date(at).toISOString()} form="relative" />)
            </span>
            .
          </>
        )}{" "}
        This page tries again by itself.
      </span>
      <Button kind="link" onClick={retry}>
        Try now
      </Button>
    </div>
  );
}
