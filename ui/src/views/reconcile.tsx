// Recovers jobs that finished while nobody watched them. It counts first, and watches them on a second word.

import { useState } from "preact/hooks";

import { Problem, get, path, post, sentence } from "../lib/api";
import { count } from "../lib/format";
import { useLive } from "../lib/live";
import { href } from "../lib/router";
import type { Reconciliation, Source } from "../lib/types";
import { Button, Facts, Failure, Select, State, Time } from "../parts/basics";
import { Sentence } from "../parts/health";

interface Asked {
  since: string;
  kind: string;
}

export function Reconcile({ source }: { source: Source }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <div class="reconcile">
      {isOpen ? (
        <Form source={source} />
      ) : (
        <div>
          <Button onClick={() => setOpen(true)}>Recover missed jobs…</Button>
        </div>
      )}
    </div>
  );
}

function Form({ source }: { source: Source }) {
  const [asked, setAsked] = useState<Asked>({ since: "7d", kind: "" });
  const [begun, setBegun] = useState<Asked | null>(null);
  const [refusal, setRefusal] = useState("");
  const where = `v1/sources/${path(source.name)}/reconcile`;
  const loaded = useLive(
    `reconcile ${source.name}`,
    (abort) =>
      get<Reconciliation>(where, abort).catch((error: unknown) => {
        if (error instanceof Problem && error.code === "no_reconciliation") return null;
        throw error;
      }),
    // Pages that are read change nothing in the store, so the daemon tells of none.
    (last) => (last && !last.done ? 1000 : undefined),
  );
  const last = loaded.data;
  const isRunning = last !== null && !last.done;
  const begin = async (request: Asked, isDry: boolean): Promise<void> => {
    setRefusal("");
    try {
      await post(where, { since: request.since, dry_run: isDry, ...(request.kind ? { kind: request.kind } : {}) });
      setBegun(request);
    } catch (error) {
      setRefusal(sentence(error));
    }
    loaded.reload();
  };
  return (
    <>
      <h3>Recover missed jobs</h3>
      <p class="quiet">The daemon reads the list of the source for jobs that finished while nobody watched them. Counting changes nothing.</p>
      <form
        class="filters"
        onSubmit={(event) => {
          event.preventDefault();
          void begin(asked, true);
        }}
      >
        <label class="field">
          <span>Since</span>
          <input
            type="text"
            required
            value={asked.since}
            spellcheck={false}
            autoComplete="off"
            title="A duration such as 7d or 12h, or a time such as 2026-11-23T17:00:00Z"
            aria-invalid={refusal !== ""}
            aria-describedby={refusal ? "reconcile-refusal" : undefined}
            onInput={(event) => setAsked({ ...asked, since: event.currentTarget.value })}
          />
        </label>
        {source.kinds.length > 1 && (
          <Select label="Kind" value={asked.kind} any="the default ones" options={source.kinds.map((kind) => [kind, kind])} onChange={(kind) => setAsked({ ...asked, kind })} />
        )}
        <button type="submit" class="button main" disabled={isRunning}>
          Count them
        </button>
      </form>
      {refusal && (
        <p id="reconcile-refusal" class="toned tone-bad long" role="alert">
          <Sentence text={refusal} />
        </p>
      )}
      {loaded.error !== null && <Failure error={loaded.error} retry={loaded.reload} />}
      {last && <Progress last={last} />}
      {last?.done && last.dry_run && !last.error && last.recovered > 0 && begun && (
        <div>
          {/* From the time that was counted from, so that it watches the same jobs. */}
          <Button kind="main" onClick={() => begin({ ...begun, since: last.since }, false)}>
            Watch {last.recovered === 1 ? "this job" : `these ${count(last.recovered)} jobs`}
          </Button>
        </div>
      )}
    </>
  );
}

function Progress({ last }: { last: Reconciliation }) {
  const what = last.dry_run ? "count" : "recovery";
  return (
    <div class="progress" role="status">
      <p>
        {!last.done ? (
          <State word={last.dry_run ? "Counting" : "Recovering"} tone="busy" />
        ) : last.error ? (
          <State word={`The ${what} ended early`} tone="bad" />
        ) : (
          <State word={`The ${what} is done`} tone="good" />
        )}{" "}
        <span class="quiet">
          jobs since <Time at={last.since} />, begun <Time at={last.started_at} form="relative" />
        </span>
      </p>
      {last.error && <p class="toned tone-bad long">{last.error}</p>}
      <Facts
        items={[
          ["Checked", `${count(last.checked)} on ${count(last.pages)} ${last.pages === 1 ? "page" : "pages"}`],
          ["Known already", count(last.known)],
          ["Still running", count(last.running)],
          [last.dry_run ? "Missed" : "Recovered", <b>{count(last.recovered)}</b>],
        ]}
      />
      {last.done && !last.dry_run && last.recovered > 0 && (
        <p>
          They are watched now: <a href={href(["jobs"], { source: last.source })}>jobs of {last.source}</a>.
        </p>
      )}
    </div>
  );
}
