// JSON as a tree that opens branch by branch. Everything is text: nothing of a job is ever markup.

import { useMemo, useState } from "preact/hooks";

import { bytes, count } from "../lib/format";
import { visible } from "./job";

/** Entries that a branch shows before it asks, and how many more then. */
const SHOWN = 100;
const MORE = 1000;
/** Characters of a text that are shown before it asks. */
const TEXT = 400;
/** Branches that `Open all` opens at most. */
const ALL = 300;

/** A number as it was written, where JavaScript would write another one: `118.40`, `9007199254740993`. */
class Written {
  constructor(readonly source: string) {}
}

/** Reads JSON and keeps numbers as they are written. Throws when it is none. */
export function readJson(text: string): unknown {
  const keep = (_key: string, value: unknown, context?: { source?: string }): unknown =>
    typeof value === "number" && context?.source !== undefined && String(value) !== context.source ? new Written(context.source) : value;
  return JSON.parse(text, keep as (key: string, value: unknown) => unknown) as unknown;
}

function isBranch(value: unknown): value is object {
  return value !== null && typeof value === "object" && !(value instanceof Written);
}

function entriesOf(value: object): [string, unknown][] {
  return Array.isArray(value) ? value.map((item, at) => [String(at), item]) : Object.entries(value);
}

function Leaf({ value }: { value: unknown }) {
  const [isWhole, setWhole] = useState(false);
  if (typeof value !== "string") return <span class="json-plain">{value instanceof Written ? value.source : String(value)}</span>;
  if (isWhole || value.length <= TEXT) return <bdi class="json-text">{visible(JSON.stringify(value))}</bdi>;
  return (
    <>
      <bdi class="json-text">{visible(JSON.stringify(value.slice(0, TEXT)).slice(0, -1))}</bdi>
      <button type="button" class="json-more" onClick={() => setWhole(true)}>
        … all {count(value.length)} characters
      </button>
    </>
  );
}

interface Opening {
  /** Branches down to this depth are open at first. */
  depth: number;
  /** Counts down while branches open at once. */
  left: { branches: number };
}

function Branch({ name, value, depth, opening }: { name: string | null; value: object; depth: number; opening: Opening }) {
  const [isOpen, setOpen] = useState(() => depth <= opening.depth && opening.left.branches-- > 0);
  const [shown, setShown] = useState(SHOWN);
  const isList = Array.isArray(value);
  const entries = useMemo(() => entriesOf(value), [value]);
  const [from, to] = isList ? ["[", "]"] : ["{", "}"];
  const label = name !== null && (
    <>
      <bdi class="json-key">{visible(name)}</bdi>
      <span class="quiet">: </span>
    </>
  );
  if (entries.length === 0) {
    return (
      <li class="json-leaf">
        {label}
        <span class="quiet">
          {from}
          {to}
        </span>
      </li>
    );
  }
  const noun = isList ? (entries.length === 1 ? "item" : "items") : entries.length === 1 ? "field" : "fields";
  return (
    <li>
      <button type="button" class="json-branch" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
        {label}
        <span class="quiet">
          {from}
          {!isOpen && ` ${count(entries.length)} ${noun} ${to}`}
        </span>
      </button>
      {isOpen && (
        <>
          <ul>
            {entries.slice(0, shown).map(([key, item]) => (
              <Node key={key} name={key} value={item} depth={depth + 1} opening={opening} />
            ))}
            {entries.length > shown && (
              <li class="json-leaf">
                <button type="button" class="json-more" onClick={() => setShown(shown + MORE)}>
                  … {count(entries.length - shown)} more {noun}
                </button>
              </li>
            )}
          </ul>
          <span class="json-close quiet">{to}</span>
        </>
      )}
    </li>
  );
}

function Node({ name, value, depth, opening }: { name: string | null; value: unknown; depth: number; opening: Opening }) {
  if (isBranch(value)) return <Branch name={name} value={value} depth={depth} opening={opening} />;
  return (
    <li class="json-leaf">
      {name !== null && (
        <>
          <bdi class="json-key">{visible(name)}</bdi>
          <span class="quiet">: </span>
        </>
      )}
      <Leaf value={value} />
    </li>
  );
}

/** How deep a tree opens at first, so that about so many lines show. */
function firstDepth(value: unknown, lines = 40): number {
  let level: unknown[] = [value];
  let total = 0;
  for (let depth = 0; depth < 8; depth++) {
    const next = level.filter(isBranch).flatMap((one) => entriesOf(one).slice(0, SHOWN).map(([, item]) => item));
    total += next.length;
    if (next.length === 0 || total > lines) return Math.max(0, depth - 1);
    level = next;
  }
  return 8;
}

export function JsonTree({ value, label }: { value: unknown; label: string }) {
  // Another number begins the tree again, with all branches open or closed.
  const [mode, setMode] = useState({ number: 0, depth: -1 });
  const depth = useMemo(() => (mode.depth >= 0 ? mode.depth : firstDepth(value)), [value, mode]);
  const opening = useMemo(() => ({ depth, left: { branches: mode.depth === Infinity ? ALL : Infinity } }), [depth, mode]);
  return (
    <div class="json-box">
      {isBranch(value) && (
        <div class="json-tools">
          <button type="button" class="button link" onClick={() => setMode({ number: mode.number + 1, depth: Infinity })}>
            Open all
          </button>
          <button type="button" class="button link" onClick={() => setMode({ number: mode.number + 1, depth: 0 })}>
            Close all
          </button>
        </div>
      )}
      <ul class="json" aria-label={label} key={mode.number}>
        <Node name={null} value={value} depth={0} opening={opening} />
      </ul>
    </div>
  );
}

/** Breaks JSON that may be cut anywhere into lines. */
export function indented(text: string): string {
  const parts: string[] = [];
  let depth = 0;
  let at = 0;
  const line = (): string => `\n${"  ".repeat(Math.min(depth, 40))}`;
  while (at < text.length) {
    const one = text[at] as string;
    if (one === '"') {
      let end = at + 1;
      while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
      parts.push(text.slice(at, end + 1));
      at = end + 1;
      continue;
    }
    at++;
    if (one === "{" || one === "[") {
      const close = /^\s*[}\]]/.exec(text.slice(at, at + 64));
      if (close) {
        parts.push(one, close[0].trim());
        at += close[0].length;
        continue;
      }
      depth++;
      parts.push(one, line());
    } else if (one === "}" || one === "]") {
      depth = Math.max(0, depth - 1);
      parts.push(line(), one);
    } else if (one === ",") parts.push(one, line());
    else if (one === ":") parts.push(": ");
    else if (!/\s/.test(one)) parts.push(one);
  }
  return parts.join("");
}

/** Text as it is, with a note when it is only the beginning. */
export function PlainText({ text, label, total }: { text: string; label: string; total?: number | null }) {
  return (
    <>
      <pre class="plain-text" tabIndex={0} role="region" aria-label={label}>
        <bdi>{text}</bdi>
      </pre>
      {total != null && <p class="quiet">The first {bytes(text.length)} of {bytes(total)}.</p>}
    </>
  );
}
