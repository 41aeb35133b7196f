import { defineConfig } from "tsup";

export default defineConfig({
  entry: ["src/index.ts"],
  format: ["esm", "cjs"],
  dts: true,
  clean: true,
  target: "es2022",
  platform: "neutral",
  // Smaller than esbuild's by a thousand bytes; and Node prints the whole line that an uncaught
  // error comes from.
  minify: "terser",
  terserOptions: { ecma: 2020, module: true, compress: { passes: 3 }, format: { max_line_len: 400 } },
});
