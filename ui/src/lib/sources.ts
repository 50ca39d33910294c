// The sources of the configuration, loaded once: their names and kinds change only with it.

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { get } from "./api";
import { token } from "./session";
import type { Page, Source } from "./types";

/** Null until they were loaded. */
export const sources = signal<Source[] | null>(null);

/** Loads the sources when a view begins. */
export function useSources(): Source[] {
  useEffect(() => {
    const abort = new AbortController();
    get<Page<Source>>("v1/sources", abort.signal).then(
      (answer) => (sources.value = answer.data),
      () => undefined,
    );
    return () => abort.abort();
  }, [token.value]);
  return sources.value ?? [];
}

/** Whether a source is known to be missing from the configuration. */
export function isMissing(source: string): boolean {
  return sources.value !== null && !sources.value.some((one) => one.name === source);
}
