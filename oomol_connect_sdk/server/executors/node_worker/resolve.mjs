// How imports are found that Node.js does not find by itself. This runs in a thread of its own.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const MISSING = new Set(["ERR_MODULE_NOT_FOUND", "ERR_UNSUPPORTED_DIR_IMPORT"]);

let bases = [];

export function initialize(urls) {
  bases = urls;
  ignoreMissingTypes();
}

export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    if (!MISSING.has(error.code) || /^[a-z]+:/i.test(specifier)) throw error;
    const { parentURL } = context;
    // What a block writes next to it is relative to the block; a dependency may be elsewhere.
    for (const from of /^[./]/.test(specifier) ? [parentURL] : [parentURL, ...bases]) {
      const found =
        (await next(specifier, { ...context, parentURL: from }).catch(() => null)) ??
        (await next(required(specifier, from), context).catch(() => null));
      if (found) return found;
    }
    throw error;
  }
}

/** Where `require` finds it: blocks leave out suffixes and `index.js` in imports as well. */
function required(specifier, from) {
  try {
    return pathToFileURL(createRequire(from).resolve(specifier)).href;
  } catch {
    return specifier;
  }
}

/** Most packages don't say that their JavaScript is made of ES modules, and their users can't. */
function ignoreMissingTypes() {
  const { emitWarning } = process;
  process.emitWarning = (warning, ...more) => {
    if (more[0]?.code !== "MODULE_TYPELESS_PACKAGE_JSON") emitWarning(warning, ...more);
  };
}
