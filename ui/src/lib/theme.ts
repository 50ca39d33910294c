// Light, dark, or as the system has it.

import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

const KEY = "tidings.theme";

function known(kept: string | null): Theme {
  return kept === "light" || kept === "dark" ? kept : "system";
}

function stored(): Theme {
  try {
    return known(localStorage.getItem(KEY));
  } catch {
    return "system";
  }
}

export const theme = signal<Theme>(stored());

const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isSystemDark = signal(systemDark.matches);
systemDark.addEventListener("change", () => (isSystemDark.value = systemDark.matches));

// Another tab changed it.
addEventListener("storage", (event) => {
  if (event.key === KEY) theme.value = known(event.newValue);
});

effect(() => {
  const isDark = theme.value === "system" ? isSystemDark.value : theme.value === "dark";
  const root = document.documentElement;
  if (theme.value === "system") delete root.dataset.theme;
  else root.dataset.theme = theme.value;
  // The colour of the bar, for browsers that give their own frame the same.
  document.querySelector('meta[name="theme-color"]')?.setAttribute("content", isDark ? "#161a20" : "#ffffff");
});

export function cycleTheme(): void {
  const next = { system: "light", light: "dark", dark: "system" } as const;
  theme.value = next[theme.value];
  try {
    localStorage.setItem(KEY, theme.value);
  } catch {
    // It lasts as long as the page.
  }
}
