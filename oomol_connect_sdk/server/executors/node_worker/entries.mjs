// The Node.js side of a manifest: an entry file and a function in it.

import { existsSync } from "node:fs";
import Module, { createRequire, register } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** The entry file or its function is not as the manifest says. */
export class EntryError extends Error {}

/**
 * Let blocks find the modules of their package wherever they are: a bundled block runs from
 * another directory, and dependencies are installed outside of the package.
 */
export function prepareImports(packageDir, modulesDir) {
  const bases = [packageDir, modulesDir].filter(Boolean);
  process.env.NODE_PATH = bases.map(base => join(base, "node_modules")).join(":");
  Module._initPaths();
  register?.("./resolve.mjs", import.meta.url, {
    data: bases.map(base => pathToFileURL(join(base, "package.json")).href),
  });
  // A bundle is an ES module, its sources may call require nevertheless.
  globalThis.require = createRequire(join(packageDir, "package.json"));
}

/** The function of this file: the named one, else the default export, else main. */
export async function loadFunction(path, name) {
  if (!existsSync(path)) throw new EntryError(`entry file ${path} not found`);
  const module = await import(pathToFileURL(path).href);
  // The exports of a CommonJS module may be in the default export.
  for (const exported of [module, module.default]) {
    for (const key of [name, "default", "main"]) {
      if (key && typeof exported?.[key] === "function") return exported[key];
    }
  }
  const wanted = name ? `"${name}", "default" or "main"` : `"default" or "main"`;
  throw new EntryError(`function ${wanted} not found in ${path}`);
}
