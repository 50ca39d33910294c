// The address of a view is in the fragment, so the daemon serves one page: `#/jobs/SOURCE/ID?kind=…`.

import { computed, signal } from "@preact/signals";

export interface Route {
  /** The parts of the path, unescaped. */
  parts: string[];
  query: URLSearchParams;
}

function read(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path
    .split("/")
    .filter((part) => part !== "")
    .map((part) => {
      try {
        return decodeURIComponent(part);
      } catch {
        return part; // Somebody typed a lone percent sign.
      }
    });
  return { parts, query: new URLSearchParams(query) };
}

export const route = signal<Route>(read());
addEventListener("hashchange", () => {
  route.value = read();
});

export const section = computed(() => route.value.parts[0] ?? "overview");

/** The address of a view. */
export function href(parts: string[], query: Record<string, string | null | undefined> = {}): string {
  const pairs = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value) pairs.set(key, value);
  const text = pairs.toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export function jobHref(source: string, id: string, kind?: string | null): string {
  return href(["jobs", source, id], { kind });
}

export function sourceHref(name: string): string {
  return href(["sources", name]);
}

/** The deliveries of a sink, and its health. */
export function sinkHref(name: string): string {
  return href(["deliveries"], { sink: name });
}

export function go(to: string): void {
  location.hash = to.replace(/^#/, "");
}

/** Changes parameters of the present view without a new entry in the history, as one types into a filter. */
export function amend(query: Record<string, string | null | undefined>): void {
  const present = Object.fromEntries(route.value.query);
  history.replaceState(null, "", href(route.value.parts, { ...present, ...query }));
  route.value = read();
}
