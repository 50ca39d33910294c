// The frame of the page: the bar, the view of the present address, and what lies above all views.

import "./style.css";

import { type Signal, useSignal } from "@preact/signals";
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { accepts, sentence } from "./lib/api";
import { utc } from "./lib/format";
import { connection, follow, heardAt } from "./lib/live";
import { remembered } from "./lib/places";
import { go, route, section } from "./lib/router";
import { keepToken, refused, token } from "./lib/session";
import { Button, StaleBanner } from "./parts/basics";
import { Dialog, Messages, QuestionDialog } from "./parts/dialog";
import { cycleTheme, theme } from "./lib/theme";
import { DeliveriesView } from "./views/deliveries";
import { JobView } from "./views/job";
import { JobsView } from "./views/jobs";
import { OverviewView } from "./views/overview";
import { SourcesView } from "./views/sources";

const SECTIONS = [
  ["overview", "Overview"],
  ["jobs", "Jobs"],
  ["deliveries", "Deliveries"],
  ["sources", "Sources"],
] as const;

const KEYS: [string[], string][] = [
  [["g o", "g j", "g d", "g s"], "go to Overview, Jobs, Deliveries, Sources"],
  [["/"], "search jobs"],
  [["j", "k"], "next and previous row, also with the arrows"],
  [["Enter"], "open the row"],
  [["Escape"], "close what lies above the view"],
  [["?"], "this list"],
];

function View() {
  const { parts } = route.value;
  switch (section.value) {
    case "overview":
      return <OverviewView />;
    case "jobs":
      return parts[1] !== undefined && parts[2] !== undefined ? <JobView source={parts[1]} id={parts[2]} /> : <JobsView />;
    case "deliveries":
      return <DeliveriesView />;
    case "sources":
      return <SourcesView name={parts[1]} />;
    default:
      return (
        <main id="main">
          <h1>There is no such view</h1>
          <p>
            <a href="#/">The overview</a> is the first one.
          </p>
        </main>
      );
  }
}

/** Whether the daemon wants a token that this tab has not got. */
function isLocked(): boolean {
  return refused.value !== null && token.value === null;
}

function Connection() {
  const word = { live: "live", connecting: "connecting", deaf: "not live", gone: "not connected" }[connection.value];
  const tone = { live: "good", connecting: "busy", deaf: "warn", gone: "bad" }[connection.value];
  const at = heardAt.value;
  return (
    <span class={`connection tone-${tone}`} title={at === null ? "" : `last heard ${utc(new Date(at).toISOString())}`}>
      <i aria-hidden="true" />
      <span>{word}</span>
    </span>
  );
}

function Bar({ onHelp }: { onHelp: () => void }) {
  return (
    <header class="bar">
      <a class="skip" href="#main" onClick={(event) => {
          event.preventDefault();
          document.getElementById("main")?.focus();
        }}>
        Skip to the content
      </a>
      <a class="brand" href="#/">
        <svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
          <rect width="32" height="32" rx="7" class="brand-tile" />
          <path d="M8 11h16M16 11v12" class="brand-letter" />
          <circle cx="24" cy="22" r="3" class="brand-dot" />
        </svg>
        tidings
      </a>
      <nav aria-label="Views">
        {SECTIONS.map(([name, title]) => (
          <a key={name} href={name === "overview" ? "#/" : `#/${name}`} aria-current={section.value === name ? "page" : undefined}>
            {title}
          </a>
        ))}
      </nav>
      <div class="tools">
        {!isLocked() && <Connection />}
        <button type="button" class="button link" onClick={cycleTheme} aria-label={`Colours: ${theme.value}. Change them`} title={`Colours: ${theme.value}`}>
          {{ system: "◐", light: "☀", dark: "☾" }[theme.value]}
        </button>
        <button type="button" class="button link keys" onClick={onHelp} aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)">
          ?
        </button>
      </div>
    </header>
  );
}

const REFUSALS = {
  missing: "",
  wrong: "The daemon does not accept this token.",
  changed: "The daemon no longer accepts the token that this tab had.",
};

/** Asks for the token; everything else waits behind it. */
function TokenForm() {
  const [problem, setProblem] = useState(REFUSALS[refused.value ?? "missing"]);
  const [isChecking, setChecking] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  const check = async (given: string): Promise<void> => {
    setChecking(true);
    try {
      if (await accepts(given)) return keepToken(given);
      setProblem(REFUSALS.wrong);
    } catch (error) {
      setProblem(error instanceof TypeError ? REFUSALS.wrong : sentence(error));
    }
    setChecking(false);
    field.current?.select();
  };
  return (
    <main id="main" class="token" tabIndex={-1}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const given = new FormData(event.currentTarget).get("token");
          if (!isChecking && typeof given === "string" && given.trim()) void check(given.trim());
        }}
      >
        <h1>This daemon has a token</h1>
        <p>
          Its API answers those who send the token of <code>server.token_file</code>. This tab keeps it until it is closed.
        </p>
        {/* Password managers ask for a name beside a password. */}
        <input class="for-readers" type="text" name="username" autoComplete="username" value="tidings" tabIndex={-1} aria-hidden="true" readOnly />
        <label class="field">
          <span>Token</span>
          <input
            ref={field}
            type="password"
            name="token"
            autoComplete="current-password"
            required
            aria-invalid={problem !== ""}
            aria-describedby="token-problem"
            onInput={() => setProblem("")}
          />
        </label>
        <p id="token-problem" class="toned tone-bad" role="alert">
          {problem}
        </p>
        <button type="submit" class="button main" aria-disabled={isChecking || undefined} aria-busy={isChecking || undefined}>
          {isChecking ? "Checking…" : "Continue"}
        </button>
      </form>
    </main>
  );
}

/** Keys that work everywhere but in a field. */
function useKeys(help: Signal<boolean>): void {
  useEffect(() => {
    let isLed = false;
    const press = (event: KeyboardEvent): void => {
      const wasLed = isLed;
      isLed = false;
      const target = event.target as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      if (target.matches("input, select, textarea")) return;
      if (event.key === "g") isLed = true;
      else if (wasLed && "ojds".includes(event.key)) {
        go({ o: "#/", j: "#/jobs", d: "#/deliveries", s: "#/sources" }[event.key] ?? "#/");
      } else if (event.key === "/") {
        event.preventDefault();
        if (section.value !== "jobs" || route.value.parts.length > 1) go("#/jobs");
        requestAnimationFrame(() => requestAnimationFrame(() => document.getElementById("search")?.focus()));
      } else if (event.key === "?") help.value = true;
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
    // A new listener would not know of a "g" that the one before has seen.
  }, [help]);
}

/** The title names the view, and says when the page is not connected: many tabs are only a title. */
function useTitle(): void {
  const { parts } = route.value;
  const isGone = connection.value === "gone" && refused.value === null;
  useEffect(() => {
    const view = SECTIONS.find(([name]) => name === section.value)?.[1];
    const names = [...parts.slice(1).reverse(), view ?? "No such view", "tidings"];
    document.title = `${isGone ? "⚠ " : ""}${names.join(" · ")}`;
  }, [parts.join("/"), isGone]);
}

/** A new view begins at its top, and at its heading for those who hear it. */
function useBeginning(): void {
  const { parts } = route.value;
  // A delivery opens above the list, which stays where it is.
  const place = isLocked() ? "token" : section.value === "deliveries" ? "deliveries" : parts.join("/");
  const before = useRef(place);
  useEffect(() => {
    if (before.current === place) return;
    before.current = place;
    // The field of the form has the focus.
    if (place === "token") return;
    if (remembered() === undefined) scrollTo(0, 0);
    const heading = document.querySelector<HTMLElement>("main h1") ?? document.getElementById("main");
    if (!heading || document.querySelector("dialog[open]")) return;
    if (heading.tabIndex < 0) heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  }, [place]);
}

function App() {
  const help = useSignal(false);
  const showHelp = (): void => void (help.value = true);
  useKeys(help);
  useEffect(follow, []);
  useTitle();
  useBeginning();
  return (
    <>
      <Bar onHelp={showHelp} />
      {isLocked() ? (
        <TokenForm />
      ) : (
        <>
          <StaleBanner />
          <View />
        </>
      )}
      <Messages />
      <QuestionDialog />
      {help.value && (
        <Dialog title="Keyboard" onClose={() => (help.value = false)}>
          <dl class="facts">
            {KEYS.map(([keys, what]) => (
              <div key={what}>
                <dt>
                  {keys.map((key) => (
                    <>
                      <kbd>{key}</kbd>{" "}
                    </>
                  ))}
                </dt>
                <dd>{what}</dd>
              </div>
            ))}
          </dl>
          <div class="actions">
            <Button kind="main" onClick={() => (help.value = false)}>
              Close
            </Button>
          </div>
        </Dialog>
      )}
    </>
  );
}

const root = document.getElementById("app");
if (root) render(<App />, root);
