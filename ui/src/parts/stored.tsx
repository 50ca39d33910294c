// The stored job, as its source sent it: a tree, a text, or a download. A large one is never loaded as a whole.

import { useEffect, useState } from "preact/hooks";

import { jobPath, send, url } from "../lib/api";
import { bytes } from "../lib/format";
import { token } from "../lib/session";
import type { Watch } from "../lib/types";
import { Button, Command, Failure } from "./basics";
import { attempt } from "./dialog";
import { curl } from "./first";
import { JsonTree, PlainText, indented, readJson } from "./json";

/** Jobs up to this size are shown whole. */
const WHOLE = 256 * 1024;
/** What is shown of larger ones. */
const PART = 64 * 1024;
/** A download behind a token goes through the memory of the page. */
const LARGEST_BLOB = 64 * 1024 * 1024;

type Body = { form: "json"; value: unknown; text: string } | { form: "text"; text: string; isPart: boolean } | { form: "other" };

interface Stored {
  mediaType: string;
  body: Body;
}

function essence(mediaType: string): string {
  return (mediaType.split(";")[0] ?? "").trim().toLowerCase();
}

function isJson(mediaType: string): boolean {
  const type = essence(mediaType);
  return type === "application/json" || type === "text/json" || type.endsWith("+json");
}

function isText(mediaType: string): boolean {
  const type = essence(mediaType);
  return isJson(type) || type.startsWith("text/") || type.endsWith("+xml") || /^application\/(xml|yaml|x-yaml|toml|x-ndjson|jsonl|csv|javascript)$/.test(type);
}

/** Reads at most so many bytes as text, and leaves the rest. */
async function textOf(answer: Response, most: number): Promise<string> {
  const reader = answer.body?.getReader();
  if (!reader) return "";
  const decoder = new TextDecoder();
  let text = "";
  let left = most;
  while (left > 0) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    text += decoder.decode(value.subarray(0, left), { stream: true });
    left -= value.byteLength;
  }
  await reader.cancel().catch(() => undefined);
  return text;
}

async function load(watch: Watch, abort: AbortSignal): Promise<Stored> {
  const size = watch.job_size ?? 0;
  const isPart = size > WHOLE;
  const headers: Record<string, string> = { accept: "*/*" };
  if (isPart) headers.range = `bytes=0-${PART - 1}`;
  const stop = new AbortController();
  abort.addEventListener("abort", () => stop.abort());
  const answer = await send("GET", jobPath(watch.source, watch.job_id, watch.kind, "/job"), { headers, signal: stop.signal });
  const mediaType = answer.headers.get("content-type") ?? "application/octet-stream";
  if (!isText(mediaType)) {
    stop.abort();
    return { mediaType, body: { form: "other" } };
  }
  const text = await textOf(answer, isPart ? PART : WHOLE);
  if (isPart && isJson(mediaType)) return { mediaType, body: { form: "text", text: indented(text), isPart } };
  if (isPart || !isJson(mediaType)) return { mediaType, body: { form: "text", text, isPart } };
  try {
    return { mediaType, body: { form: "json", value: readJson(text), text } };
  } catch {
    return { mediaType, body: { form: "text", text, isPart } };
  }
}

/** The stored job of a watch that has one. */
export function StoredJob({ watch }: { watch: Watch }) {
  const [stored, setStored] = useState<Stored | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [tries, setTries] = useState(0);
  const [asText, setAsText] = useState(false);
  useEffect(() => {
    const abort = new AbortController();
    setStored(null);
    setError(null);
    load(watch, abort.signal).then(setStored, (reason: unknown) => abort.signal.aborted || setError(reason));
    return () => abort.abort();
  }, [watch.source, watch.job_id, watch.kind, watch.job_sha256, tries]);
  const body = stored?.body;
  return (
    <div class="stored">
      <div class="stored-tools">
        <Download watch={watch} mediaType={stored?.mediaType ?? null} />
        {body?.form === "json" && (
          <Button onClick={() => setAsText(!asText)}>{asText ? "Show as a tree" : "Show as text"}</Button>
        )}
        {stored && <span class="quiet">{stored.mediaType}</span>}
      </div>
      {error !== null && <Failure error={error} retry={() => setTries(tries + 1)} />}
      {!stored && error === null && <p class="quiet">Loading …</p>}
      {body?.form === "json" && !asText && <JsonTree value={body.value} label="The stored job" />}
      {body?.form === "json" && asText && <PlainText text={body.text} label="The stored job as text" />}
      {body?.form === "text" && (
        <>
          {body.isPart && (
            <p>
              The first {bytes(PART)} of {bytes(watch.job_size)}{isJson(stored?.mediaType ?? "") && ", broken into lines"}. The download has all of it, byte for byte.
            </p>
          )}
          <PlainText text={body.text} label="The stored job as text" />
        </>
      )}
      {body?.form === "other" && <p class="quiet">This is no text, so the page does not show it.</p>}
    </div>
  );
}

function fileName(watch: Watch, mediaType: string | null): string {
  const name = watch.job_id.replace(/[^\w.-]+/g, "_").slice(0, 100) || "job";
  const end = mediaType === null || isJson(mediaType) ? ".json" : essence(mediaType).startsWith("text/") ? ".txt" : "";
  return name.endsWith(end) ? name : name + end;
}

function Download({ watch, mediaType }: { watch: Watch; mediaType: string | null }) {
  const route = jobPath(watch.source, watch.job_id, watch.kind, "/job");
  const name = fileName(watch, mediaType);
  const size = watch.job_size ?? 0;
  const text = `Download (${bytes(size)})`;
  // The browser itself loads it where no token is needed.
  if (!token.value) {
    return (
      <a class="button" href={url(route)} download={name}>
        {text}
      </a>
    );
  }
  if (size > LARGEST_BLOB) {
    return (
      <div class="grow">
        <p class="quiet">With {bytes(size)} it is too large to go through this page. From a shell:</p>
        <Command text={curl(route, undefined, ` -o ${name}`)} />
      </div>
    );
  }
  const save = (): Promise<boolean> =>
    attempt(async () => {
      const answer = await send("GET", route, { headers: { accept: "*/*" } });
      const object = URL.createObjectURL(await answer.blob());
      const link = document.createElement("a");
      link.href = object;
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(object), 60_000);
      return `Saved as ${name}.`;
    });
  return <Button onClick={save}>{text}</Button>;
}
