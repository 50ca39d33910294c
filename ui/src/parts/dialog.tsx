// Dialogs, questions before something that cannot be undone, and short messages about what was done.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

import { sentence } from "../lib/api";
import { Button } from "./basics";

/** The open dialogs; the last one is on top. */
const open = signal<string[]>([]);

interface DialogProps {
  title: ComponentChildren;
  children: ComponentChildren;
  onClose: () => void;
  /** `drawer`: at the side, in full height. */
  form?: "box" | "drawer";
  /** Beside the title. */
  aside?: ComponentChildren;
}

/**
 * A modal dialog, in the browser's own element: it keeps the focus inside, and Escape or a press beside it closes
 * it. The focus then returns to where it was.
 */
export function Dialog({ title, children, onClose, form = "box", aside }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  const close = useRef(onClose);
  close.current = onClose;
  useEffect(() => {
    const dialog = element.current;
    if (!dialog) return;
    const opener = document.activeElement;
    if (!dialog.open) dialog.showModal();
    open.value = [...open.value, id];
    let isPresent = true;
    // Closed by the browser itself, by Escape for example. The element that this view has closed tells nobody.
    const closed = (): void => {
      if (isPresent) close.current();
    };
    dialog.addEventListener("close", closed);
    return () => {
      isPresent = false;
      dialog.removeEventListener("close", closed);
      open.value = open.value.filter((one) => one !== id);
      dialog.close();
      // What opened the dialog may be gone, such as a row that a new list no longer has.
      requestAnimationFrame(() => {
        if (document.activeElement && document.activeElement !== document.body) return;
        const next = opener instanceof HTMLElement && opener.isConnected && opener !== document.body ? opener : document.getElementById("main");
        next?.focus({ preventScroll: true });
      });
    };
  }, []);
  return (
    <dialog
      ref={element}
      class={form}
      aria-labelledby={id}
      onMouseDown={(event) => {
        const dialog = event.currentTarget;
        if (event.target !== dialog) return;
        const box = dialog.getBoundingClientRect();
        const { clientX: x, clientY: y } = event;
        if (x < box.left || x > box.right || y < box.top || y > box.bottom) close.current();
      }}
    >
      <header class="dialog-head">
        {/* A drawer is read from its title on; a question begins at its first button. */}
        <h2 id={id} tabIndex={form === "drawer" ? -1 : undefined} autoFocus={form === "drawer"}>
          {title}
        </h2>
        {aside}
        {form === "drawer" && (
          <button type="button" class="button link" aria-label="Close" title="Close (Escape)" onClick={() => close.current()}>
            ✕
          </button>
        )}
      </header>
      {children}
      {/* Nothing outside a modal dialog can be pressed or is read aloud. */}
      {open.value.at(-1) === id && <MessageStack />}
    </dialog>
  );
}

interface Question {
  title: string;
  text: ComponentChildren;
  action: string;
  danger: boolean;
  answer: (yes: boolean) => void;
}

const question = signal<Question | null>(null);

/** Asks, and tells whether the answer is yes. A question that is still open is answered with no. */
export function confirmed(asked: { title: string; text: ComponentChildren; action: string; danger?: boolean }): Promise<boolean> {
  question.value?.answer(false);
  return new Promise((resolve) => {
    const mine: Question = {
      danger: false,
      ...asked,
      answer: (yes) => {
        if (question.value === mine) question.value = null;
        resolve(yes);
      },
    };
    question.value = mine;
  });
}

export function QuestionDialog() {
  const asked = question.value;
  if (!asked) return null;
  return (
    <Dialog title={asked.title} onClose={() => asked.answer(false)}>
      <div class="text">{asked.text}</div>
      <div class="actions">
        {/* A question about something that cannot be undone begins at the way back. */}
        <Button onClick={() => asked.answer(false)}>Cancel</Button>
        <Button kind={asked.danger ? "danger" : "main"} first={!asked.danger} onClick={() => asked.answer(true)}>
          {asked.action}
        </Button>
      </div>
    </Dialog>
  );
}

interface Message {
  id: number;
  text: string;
  bad: boolean;
  /** How often it was said in a row. */
  times: number;
}

const messages = signal<Message[]>([]);
/** Messages stay while somebody points at one of them. */
const held = signal(false);
let number = 0;

/** Shows a message for a while. */
export function say(text: string, bad = false): void {
  const last = messages.value.at(-1);
  const again = last?.text === text && last.bad === bad ? last : undefined;
  const message = { id: ++number, text, bad, times: (again?.times ?? 0) + 1 };
  messages.value = [...messages.value.filter((one) => one !== again).slice(-3), message];
  const shown = Math.max(bad ? 12_000 : 5_000, text.length * 70);
  const leave = (): void => {
    if (held.value) setTimeout(leave, 1_000);
    else dismiss(message.id);
  };
  setTimeout(leave, shown);
}

function dismiss(id: number): void {
  messages.value = messages.value.filter((message) => message.id !== id);
  if (messages.value.length === 0) held.value = false;
}

/** Does something, and says how it went, where it tells. Errors are always said. */
export async function attempt(what: () => Promise<string | null>): Promise<boolean> {
  try {
    const done = await what();
    if (done !== null) say(done);
    return true;
  } catch (error) {
    say(sentence(error), true);
    return false;
  }
}

function MessageStack() {
  return (
    <div
      class="messages"
      role="status"
      aria-live="polite"
      onPointerEnter={() => (held.value = true)}
      onPointerLeave={() => (held.value = false)}
    >
      {messages.value.map((message) => (
        <div key={message.id} class={`message ${message.bad ? "tone-bad" : "tone-good"}`}>
          <i class="mark" aria-hidden="true" />
          <span>
            {message.text}
            {message.times > 1 && <span class="quiet"> ×{message.times}</span>}
          </span>
          <button type="button" class="button link" aria-label="Dismiss the message" onClick={() => dismiss(message.id)}>
            ✕
          </button>
        </div>
      ))}
    </div>
  );
}

/** The messages, unless a dialog shows them. */
export function Messages() {
  return open.value.length === 0 ? <MessageStack /> : null;
}
