// A list that is loaded page by page, and refreshed in place: what was loaded stays, and what changed is put where it belongs.

import { useRef } from "preact/hooks";
import { signal, type Signal } from "@preact/signals";

import { get } from "./api";
import { useLive } from "./live";
import type { Page } from "./types";

/** The entries that were loaded, in the order of the daemon. */
export interface Pages<T> {
  items: readonly T[];
  /** Where each loaded page begins: its cursor, and the place of its first entry. */
  starts: readonly { cursor: string | null; from: number }[];
  /** The cursor of the next page; null at the end of the list. */
  next: string | null;
  /** Entries that a refresh put before all others, in all. */
  arrived: number;
}

/** Makes the key of an entry once. Long lists are searched by key again and again. */
export function keyed<T extends object>(make: (item: T) => string): (item: T) => string {
  const keys = new WeakMap<T, string>();
  return (item) => {
    let key = keys.get(item);
    if (key === undefined) keys.set(item, (key = make(item)));
    return key;
  };
}

export function firstPage<T>(page: Page<T>): Pages<T> {
  return { items: page.data, starts: [{ cursor: null, from: 0 }], next: page.next_cursor, arrived: 0 };
}

/** Adds the page that `list.next` names. */
export function append<T>(list: Pages<T>, page: Page<T>, keyOf: (item: T) => string): Pages<T> {
  const known = new Set(list.items.map(keyOf));
  const added = page.data.filter((item) => !known.has(keyOf(item)));
  return {
    ...list,
    items: [...list.items, ...added],
    starts: [...list.starts, { cursor: list.next, from: list.items.length }],
    next: page.next_cursor,
  };
}

/**
 * Puts a page that was loaded again into the list. It replaces everything from its start to its last entry that the list
 * knows; entries that it lacks there are gone, or no longer match. Returns null when the list does not know the last entry
 * of the page: then the place of the page's end in the list is not known, and a longer page tells it.
 */
export function refresh<T>(list: Pages<T>, at: number, page: Page<T>, keyOf: (item: T) => string): Pages<T> | null {
  const start = list.starts[at];
  if (!start) return list;
  const fresh = new Set(page.data.map(keyOf));
  const before = list.items.slice(0, start.from).filter((item) => !fresh.has(keyOf(item)));
  if (page.next_cursor === null) {
    // Nothing follows.
    const arrived = list.arrived + (at === 0 ? news(list, page.data, keyOf) : 0);
    return { items: [...before, ...page.data], starts: list.starts.slice(0, at + 1), next: null, arrived };
  }
  // A request reads a bounded number of records, so a short page with a next one says nothing of what it does not reach.
  if (page.data.length === 0) return list;
  let last = start.from - 1;
  for (let index = list.items.length - 1; index > last; index--) {
    if (fresh.has(keyOf(list.items[index] as T))) last = index;
  }
  const after = list.items.slice(last + 1);
  const end = page.data.at(-1) as T;
  if (after.length > 0 && (last < start.from || keyOf(list.items[last] as T) !== keyOf(end))) return null;
  const from = before.length + page.data.length;
  // What follows begins where this page now ends, so that each entry is of one page that can be loaded again.
  const following = list.starts.slice(at + 2).map((one) => ({ ...one, from: one.from - last - 1 + from }));
  const starts = [...list.starts.slice(0, at + 1), { cursor: page.next_cursor, from }, ...following.filter((one) => one.from > from)];
  return {
    items: [...before, ...page.data, ...after],
    starts: after.length > 0 ? starts : starts.slice(0, at + 1),
    next: after.length > 0 ? list.next : page.next_cursor,
    arrived: list.arrived + (at === 0 ? news(list, page.data, keyOf) : 0),
  };
}

/** The number of entries before the first one that was there. */
function news<T>(list: Pages<T>, data: T[], keyOf: (item: T) => string): number {
  const known = new Set(list.items.map(keyOf));
  const index = data.findIndex((item) => known.has(keyOf(item)));
  return index < 0 ? data.length : index;
}

export interface PagedList<T> {
  /** Null until the first page came. */
  pages: Pages<T> | null;
  /** Names what is listed. */
  key: string;
  /** The list that was shown before, while the first page of this one is on its way. */
  previous: { key: string; pages: Pages<T> } | null;
  error: unknown;
  /** A next page is on its way. */
  isLoadingMore: boolean;
  /** Many records were read and none matched; `more` goes on. */
  isPaused: boolean;
  more: () => void;
  reload: () => void;
  /** Tells which entries are in view, so that a refresh covers them. */
  inView: (first: number, last: number) => void;
}

const FIRST = 100;
const NEXT = 200;
/** Pages without a match that are read before the page asks. */
const BARREN = 10;
/** Pages that are read to close the gap between what came and what was there. */
const BRIDGE = 5;

interface Held<T> {
  key: string;
  pages: Signal<Pages<T> | null>;
  error: Signal<unknown>;
  isLoadingMore: Signal<boolean>;
  isPaused: Signal<boolean>;
  view: [number, number];
}

function hold<T>(key: string, pages: Pages<T> | null): Held<T> {
  return { key, pages: signal(pages), error: signal(null), isLoadingMore: signal(false), isPaused: signal(false), view: [0, 0] };
}

/** The last lists that were shown, so that the way back finds them as they were. */
const kept = new Map<string, Pages<unknown>>();

function keep(key: string, pages: Pages<unknown>): void {
  kept.delete(key);
  kept.set(key, pages);
  const oldest = kept.keys().next().value;
  if (kept.size > 4 && oldest !== undefined) kept.delete(oldest);
}

/** Loads a list, its next pages on demand, and what is in view again whenever the daemon says that something changed. */
export function usePages<T>(route: (paging: { limit: number; cursor: string | null }) => string, keyOf: (item: T) => string): PagedList<T> {
  const key = route({ limit: 0, cursor: null });
  const held = useRef<Held<T> | null>(null);
  if (held.current?.key !== key) held.current = hold(key, (kept.get(key) as Pages<T> | undefined) ?? null);
  const list = held.current;
  const load = (cursor: string | null, limit: number, abort?: AbortSignal): Promise<Page<T>> => get<Page<T>>(route({ limit, cursor }), abort);
  const previous = useRef<{ key: string; pages: Pages<T> } | null>(null);
  if (list.pages.value) previous.current = { key, pages: list.pages.value };
  const put = (pages: Pages<T>): void => {
    list.pages.value = pages;
    keep(key, pages);
  };
  /** Loads a page again, and as many after it as tell where it ends in the list. */
  const again = async (cursor: string | null, limit: number, at: number, abort: AbortSignal): Promise<void> => {
    const page = await load(cursor, limit, abort);
    for (let bridge = 0; ; bridge++) {
      const present = list.pages.value;
      if (!present) return put(firstPage(page));
      // A refresh of an earlier page may have moved this one.
      if (present.starts[at]?.cursor !== cursor) return;
      const merged = refresh(present, at, page, keyOf);
      if (merged) return put(merged);
      if (bridge === BRIDGE || !page.next_cursor) return at === 0 ? put(firstPage(page)) : undefined;
      const next = await load(page.next_cursor, NEXT, abort);
      page.data.push(...next.data);
      page.next_cursor = next.next_cursor;
    }
  };
  const live = useLive(key, async (abort) => {
    await again(null, FIRST, 0, abort);
    const [first, last] = list.view;
    const starts = list.pages.value?.starts ?? [];
    const inView = starts.map((start, at) => ({ at, ...start })).filter(({ at, from }) => at > 0 && from <= last && (starts[at + 1]?.from ?? Infinity) > first);
    for (const { at, cursor } of inView.slice(0, 2)) await again(cursor, NEXT, at, abort);
  });
  const more = async (): Promise<void> => {
    if (list.isLoadingMore.value || !list.pages.value?.next) return;
    list.isLoadingMore.value = true;
    list.isPaused.value = false;
    const before = list.pages.value.items.length;
    try {
      for (let read = 0; read < BARREN; read++) {
        const cursor = list.pages.value?.next;
        if (!cursor || held.current !== list) return;
        const page = await load(cursor, NEXT);
        const now = list.pages.value;
        if (now?.next !== cursor) continue;
        put(append(now, page, keyOf));
        if (list.pages.value.items.length > before) break;
      }
      list.error.value = null;
      list.isPaused.value = list.pages.value.items.length <= before && list.pages.value.next !== null;
    } catch (error) {
      list.error.value = error;
      list.isPaused.value = true;
    } finally {
      list.isLoadingMore.value = false;
    }
  };
  return {
    pages: list.pages.value,
    key,
    previous: list.pages.value || live.error !== null ? null : previous.current,
    error: live.error ?? list.error.value,
    isLoadingMore: list.isLoadingMore.value,
    isPaused: list.isPaused.value,
    more: () => void more(),
    reload: live.reload,
    inView: (first, last) => (list.view = [first, last]),
  };
}
