// The way back to a list leads to where one was in it.

import { useEffect } from "preact/hooks";

/** Where one was, for each entry of the history of this tab that had a list. */
const places = new Map<number, number>();

function visit(): number | undefined {
  return (history.state as { visit?: number } | null)?.visit;
}

/** Where one was when this entry of the history was left; undefined for a new one. */
export function remembered(): number | undefined {
  const present = visit();
  return present === undefined ? undefined : places.get(present);
}

/** Remembers the place in a list, and returns to it. */
export function useWayBack(): void {
  useEffect(() => {
    const present = visit() ?? Date.now();
    const place = places.get(present);
    if (visit() === undefined) history.replaceState({ visit: present }, "");
    // Once the rows have their room.
    const frame = place ? requestAnimationFrame(() => scrollTo({ top: place, behavior: "instant" })) : 0;
    const remember = (): void => {
      // On the way to another view the page scrolls, too.
      if (visit() === present) places.set(present, scrollY);
    };
    addEventListener("scroll", remember, { passive: true });
    return () => {
      cancelAnimationFrame(frame);
      removeEventListener("scroll", remember);
    };
  }, []);
}
