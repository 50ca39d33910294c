// A long list of rows of one height, of which only those in view are in the document.
//
// Rows that come or go above the view do not move what is read. The row that has the focus stays in the document wherever
// it is, so the keyboard never loses its place.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

interface RowsProps<T> {
  items: readonly T[];
  /** The height of a row in pixels. */
  height: number;
  /** The height on narrow screens, where a row is a card of two lines. Default: `height`. */
  tall?: number;
  keyOf: (item: T) => string;
  /**
   * The cells of a row. One holds a link with the class `cover`, which the whole row follows. A function that stays the same
   * spares the work for rows that did not change.
   */
  row: (item: T) => ComponentChildren;
  head: ComponentChildren;
  name: string;
  class?: string;
  /** Called when the end comes near. */
  more?: (() => void) | undefined;
  /** Told which rows are in view. */
  onView?: (first: number, last: number) => void;
}

/** Rows in the document above and below those in view. */
const SPARE = 8;
/** Rows before the end at which more are asked for. */
const AHEAD = 40;

const narrow = matchMedia("(max-width: 640px)");

/** Whether the screen is narrow, as the style sheet has it. */
export function useNarrow(): boolean {
  const [is, set] = useState(narrow.matches);
  useEffect(() => {
    const update = (): void => set(narrow.matches);
    narrow.addEventListener("change", update);
    return () => narrow.removeEventListener("change", update);
  }, []);
  return is;
}

interface RowProps<T> {
  item: T;
  at: number;
  height: number;
  name: string;
  row: (item: T) => ComponentChildren;
}

function Row<T>({ item, at, height, name, row }: RowProps<T>) {
  // The same cells again: nothing of them is compared while one scrolls.
  const cells = useMemo(() => row(item), [item, row]);
  return (
    <div class="row" role="row" data-key={name} aria-rowindex={at + 2} style={{ transform: `translateY(${at * height}px)` }}>
      {cells}
    </div>
  );
}

export function Rows<T>(props: RowsProps<T>) {
  const { items, keyOf, row, head, name, more, onView } = props;
  const isNarrow = useNarrow();
  const height = isNarrow ? (props.tall ?? props.height) : props.height;
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, size: 40 });
  const [focused, setFocused] = useState<string | null>(null);
  const wanted = useRef<string | null>(null);
  const places = useMemo(() => new Map(items.map((item, at) => [keyOf(item), at])), [items]);

  // The first row in view, and the list that it is in. It is measured when the page is laid out anyway, because to ask earlier
  // costs a layout more.
  const anchor = useRef({ items, at: 0, isPast: false });
  const tell = useRef(onView);
  tell.current = onView;
  useLayoutEffect(() => {
    const { items: before, at: first, isPast } = anchor.current;
    if (before === items) return;
    anchor.current = { items, at: first, isPast };
    if (!isPast) return;
    // The first of the rows from there on that is still in the list stays where it is.
    for (let at = first; at < before.length; at++) {
      const place = places.get(keyOf(before[at] as T));
      if (place === undefined) continue;
      if (place !== at) scrollBy({ top: (place - at) * height, behavior: "instant" });
      break;
    }
  }, [items]);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const measure = (): void => {
      const hidden = -element.getBoundingClientRect().top;
      const first = Math.max(0, Math.floor(hidden / height));
      const inView = Math.ceil(innerHeight / height);
      const { items } = anchor.current;
      anchor.current = { items, at: first, isPast: hidden > 0 };
      tell.current?.(first, Math.max(0, Math.min(items.length - 1, first + inView)));
      const next = { top: Math.max(0, first - SPARE), size: inView + 2 * SPARE };
      setView((before) => (before.top === next.top && before.size === next.size ? before : next));
    };
    // What is above the list grows and shrinks, too: then the height of the page changes.
    const sizes = new ResizeObserver(measure);
    sizes.observe(element);
    sizes.observe(document.body);
    addEventListener("scroll", measure, { passive: true });
    addEventListener("resize", measure, { passive: true });
    return () => {
      sizes.disconnect();
      removeEventListener("scroll", measure);
      removeEventListener("resize", measure);
    };
  }, [height]);

  const end = Math.min(items.length, view.top + view.size);
  useEffect(() => {
    if (more && end + AHEAD >= items.length) more();
  }, [end, items.length, more]);

  const shown = Array.from({ length: Math.max(0, end - view.top) }, (_, index) => view.top + index);
  const kept = focused === null ? undefined : places.get(focused);
  if (kept !== undefined && kept < view.top) shown.unshift(kept);
  else if (kept !== undefined && kept >= end) shown.push(kept);

  const focus = (at: number): void => {
    const item = items[Math.max(0, Math.min(items.length - 1, at))];
    if (item === undefined) return;
    wanted.current = keyOf(item);
    setFocused(wanted.current);
  };
  useLayoutEffect(() => {
    const key = wanted.current;
    if (key === null) return;
    wanted.current = null;
    const element = [...(box.current?.children ?? [])].find((one) => (one as HTMLElement).dataset.key === key);
    element?.querySelector<HTMLElement>("a.cover")?.focus({ preventScroll: true });
    element?.scrollIntoView({ block: "nearest" });
  }, [focused]);

  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
      if (!step || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      const target = event.target as HTMLElement;
      const key = box.current?.contains(target) ? target.closest<HTMLElement>(".row")?.dataset.key : undefined;
      const at = key === undefined ? undefined : places.get(key);
      if (at !== undefined) focus(at + step);
      // Letters go to the list from anywhere on the page that takes none; arrows scroll there.
      else if (event.key.length === 1 && (target === document.body || target.id === "main" || target.tagName === "H1")) focus(anchor.current.at);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });

  return (
    <div class={`rows ${props.class ?? ""}`} role="table" aria-label={name} aria-rowcount={more ? -1 : items.length + 1} style={{ "--row": `${height}px` }}>
      <div class="head-group" role="rowgroup">
        <div class="row head" role="row">
          {head}
        </div>
      </div>
      <div
        class="body"
        role="rowgroup"
        ref={box}
        style={{ height: `${items.length * height}px` }}
        onFocusCapture={(event) => setFocused((event.target as HTMLElement).closest<HTMLElement>(".row")?.dataset.key ?? null)}
        onBlurCapture={(event) => !box.current?.contains(event.relatedTarget as Node | null) && setFocused(null)}
      >
        {shown.map((at) => {
          const item = items[at] as T;
          const key = keyOf(item);
          return <Row key={key} name={key} item={item} at={at} height={height} row={row} />;
        })}
      </div>
    </div>
  );
}

/** A heading of a column. */
export function Column({ children, class: styles }: { children?: ComponentChildren; class?: string }) {
  return (
    <span role="columnheader" class={styles}>
      {children}
    </span>
  );
}

export function Cell({ children, class: styles, title }: { children?: ComponentChildren; class?: string; title?: string }) {
  return (
    <span role="cell" class={styles} title={title}>
      {children}
    </span>
  );
}
