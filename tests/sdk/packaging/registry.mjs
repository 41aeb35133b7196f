// A registry for npm with the packages of these tarballs, and nothing else: answers what each has in
// it and hands it out. Prints its address, then the path of each request.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { basename } from "node:path";

const packages = new Map();
const tarballs = new Map();
for (const path of process.argv.slice(2)) {
  const tar = spawnSync("tar", ["-xOf", path, "package/package.json"], { encoding: "utf8" });
  if (tar.status !== 0) throw new Error(tar.stderr);
  const manifest = JSON.parse(tar.stdout);
  packages.set(manifest.name, { manifest, file: basename(path) });
  tarballs.set(`/${basename(path)}`, readFileSync(path));
}

const server = createServer((request, response) => {
  const path = decodeURIComponent(request.url);
  console.log(path);
  const tarball = tarballs.get(path);
  if (tarball) {
    response.end(tarball);
    return;
  }
  const found = packages.get(path.slice(1));
  response.setHeader("content-type", "application/json");
  if (!found) {
    response.statusCode = 404;
    response.end(JSON.stringify({ error: "Not found" }));
    return;
  }
  const { manifest, file } = found;
  const sha512 = createHash("sha512").update(tarballs.get(`/${file}`)).digest("base64");
  const dist = { tarball: `${address()}/${file}`, integrity: `sha512-${sha512}` };
  response.end(
    JSON.stringify({
      name: manifest.name,
      "dist-tags": { latest: manifest.version },
      versions: { [manifest.version]: { ...manifest, dist } },
    }),
  );
});

function address() {
  return `http://127.0.0.1:${server.address().port}`;
}

server.listen(0, "127.0.0.1", () => console.log(address()));
