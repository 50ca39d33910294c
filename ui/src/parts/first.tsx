// What an empty daemon says: how to have the first job watched. And commands for a shell.

import { url } from "../lib/api";
import { token } from "../lib/session";
import { Command, Empty, State } from "./basics";

/** A command against this daemon, from a shell. The token is a variable: it is not shown. */
export function curl(route: string, body?: object, options = ""): string {
  const lines = [`curl -s${options} '${url(route).replaceAll("'", "%27")}'`];
  if (token.value) lines.push(`-H "authorization: Bearer $TIDINGS_TOKEN"`);
  if (body) lines.push("-H 'content-type: application/json'", `-d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`);
  return lines.join(" \\\n  ");
}

/** Teaches how the first job gets here. The live view replaces it as soon as there is one. */
export function FirstWatch({ sources, hasSinks }: { sources: string[]; hasSinks: boolean }) {
  const source = sources.find((name) => name === "retab") ?? sources[0];
  const named = sources.length > 1 && source && source !== "retab" ? { source } : {};
  const address = url("").replace(/\/$/, "");
  // The command line asks this address by itself.
  const flag = address === "http://127.0.0.1:8787" ? "" : ` --url ${address}`;
  return (
    <section class="panel lesson" aria-labelledby="lesson">
      <Empty title="No job is watched yet">
        <p>
          Send the daemon the id of a job{source && <> of <b>{source}</b></>}. It polls the job until it finishes, fetches the result
          {hasSinks ? ", and delivers it to your sinks." : " and keeps it for you."}
        </p>
        <h2 id="lesson">Register the first job</h2>
        <Command text={curl("v1/watches", { job_id: "job_V1St", ...named })} />
        <h2>Then, from a terminal</h2>
        <p>Wait until it has finished, and see where it was delivered:</p>
        <Command text={`tidings watch job_V1St --wait${flag}`} />
        <p>Follow everything that happens, one line an event:</p>
        <Command text={`tidings events${flag}`} />
        {token.value && (
          <p>
            All three need the token: <code>export TIDINGS_TOKEN=…</code>
          </p>
        )}
        <p class="waiting">
          <State word="This page shows the job as soon as it is registered." tone="busy" />
        </p>
      </Empty>
    </section>
  );
}
