import { defineConfig } from "vite";

// The daemon serves index.html at / and everything else under /ui/. All links are relative, because a reverse
// proxy may serve the daemon below a path of its own.
export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  experimental: {
    renderBuiltUrl: (file, { hostType }) => (hostType === "html" ? `./ui/${file}` : { relative: true }),
  },
  build: {
    target: "es2023",
    // The content security policy allows files of this origin alone, so nothing becomes a data URL.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    cssCodeSplit: false,
    reportCompressedSize: true,
  },
  // `npm run dev` beside a running daemon.
  server: { proxy: { "/v1": "http://127.0.0.1:8787", "/readyz": "http://127.0.0.1:8787" } },
});
