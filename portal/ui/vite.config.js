import { defineConfig } from "vite";

// Each page loads one small entry; what two share becomes a file of its own.
export default defineConfig({
  base: "/ui/",
  build: {
    target: "es2019",
    manifest: "manifest.json",
    modulePreload: { polyfill: false },
    rollupOptions: {
      input: ["src/film.ts", "src/open.ts", "src/share.ts", "src/images.ts", "src/messages.ts", "src/staff.ts"],
    },
  },
});
