// The token of the daemon's API. It stays in this tab's session storage, and only requests to the daemon carry it.

import { signal } from "@preact/signals";

/** Several daemons may be behind one server, each at a path of its own. */
const KEY = `tidings.token ${new URL(".", document.baseURI).pathname}`;

function stored(): string | null {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null; // A browser may forbid storage; the token then lasts as long as the page.
  }
}

/** The token, or null while none was given. */
export const token = signal<string | null>(stored());

/**
 * Whether the daemon refused the last request: for lack of a token, for a wrong one, or for one that it accepted before.
 */
export const refused = signal<null | "missing" | "wrong" | "changed">(null);

let isAccepted = false;

export function keepToken(text: string): void {
  token.value = text;
  refused.value = null;
  isAccepted = false;
  try {
    sessionStorage.setItem(KEY, text);
  } catch {
    // See above.
  }
}

/** Marks that the daemon accepted the token, or needs none. */
export function acceptToken(): void {
  isAccepted = true;
}

export function forgetToken(): void {
  const had = token.value !== null;
  refused.value = !had ? "missing" : isAccepted ? "changed" : "wrong";
  token.value = null;
  isAccepted = false;
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // See above.
  }
}
