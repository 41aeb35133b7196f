import { defineConfig } from "tsup";

export default defineConfig({
  entry: ["src/index.ts"],
  format: ["esm", "cjs"],
  dts: true,
  clean: true,
  target: "es2022",
  platform: "neutral",
  minify: true,
  // Node prints the whole line that an uncaught error comes from.
  esbuildOptions(options) {
    options.lineLimit = 160;
  },
});
