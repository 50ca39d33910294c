// Requests to the daemon. All addresses are relative to the page's base, which may lie below a path prefix.

import { acceptToken, forgetToken, token } from "./session";

/** The address of a route such as `v1/watches`. */
export function url(path: string): string {
  return new URL(path, document.baseURI).href;
}

/** Joins parts of a path, each escaped: ids of jobs may contain anything. */
export function path(...parts: string[]): string {
  return parts.map(encodeURIComponent).join("/");
}

/** The route of a job, with its kind where it has one. */
export function jobPath(source: string, id: string, kind: string | null | undefined, rest = ""): string {
  const query = kind ? `?kind=${encodeURIComponent(kind)}` : "";
  return `v1/watches/${path(source, id)}${rest}${query}`;
}

export type Query = Record<string, string | number | boolean | null | undefined>;

/** Adds the parameters that are set. */
export function withQuery(route: string, query: Query): string {
  const pairs = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") pairs.set(key, String(value));
  }
  const text = pairs.toString();
  return text ? `${route}?${text}` : route;
}

/** The daemon answered with a problem (RFC 9457). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    /** Whether the daemon itself answered, and not a server before it. */
    readonly isDaemon = true,
  ) {
    super(detail);
  }
}

/** The daemon did not answer. */
export class Unreachable extends Error {}

export async function send(method: string, route: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (!headers.has("accept")) headers.set("accept", "application/json");
  const given = token.value;
  if (given) headers.set("authorization", `Bearer ${given}`);
  let answer: Response;
  try {
    answer = await fetch(url(route), { ...init, method, headers, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Unreachable("the daemon does not answer");
  }
  if (answer.ok || answer.status === 304) {
    if (token.value === given) acceptToken();
    return answer;
  }
  const problem = await problemOf(answer);
  // A request that was sent before the token changed says nothing about the new one.
  if (problem.code === "unauthorized" && token.value === given) forgetToken();
  throw problem;
}

/** Whether the daemon accepts a token. Throws a TypeError for one that no header can carry. */
export async function accepts(candidate: string): Promise<boolean> {
  const headers = new Headers({ authorization: `Bearer ${candidate}`, accept: "application/json" });
  let answer: Response;
  try {
    answer = await fetch(url("v1/watches?limit=1"), { headers, cache: "no-store", credentials: "same-origin" });
  } catch {
    throw new Unreachable("the daemon does not answer");
  }
  if (answer.ok) return true;
  const problem = await problemOf(answer);
  if (problem.code === "unauthorized") return false;
  throw problem;
}

async function problemOf(answer: Response): Promise<Problem> {
  const text = await answer.text().catch(() => "");
  try {
    const body = JSON.parse(text) as { code?: unknown; detail?: unknown; title?: unknown };
    if (typeof body.code === "string") {
      return new Problem(answer.status, body.code, String(body.detail ?? body.title ?? body.code));
    }
  } catch {
    // Not an answer of the daemon.
  }
  const detail = `a server before the daemon answered HTTP ${answer.status}`;
  return new Problem(answer.status, `http_${answer.status}`, detail, false);
}

export async function get<T>(route: string, signal?: AbortSignal): Promise<T> {
  const answer = await send("GET", route, signal ? { signal } : {});
  return (await answer.json()) as T;
}

export async function post<T>(route: string, body?: unknown): Promise<T> {
  const init: RequestInit =
    body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  const answer = await send("POST", route, init);
  const text = await answer.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

export async function remove(route: string): Promise<void> {
  await send("DELETE", route);
}

/** One sentence about anything that was thrown. */
export function sentence(error: unknown): string {
  if (error instanceof Problem) return error.detail;
  if (error instanceof Error) return error.message;
  return String(error);
}
