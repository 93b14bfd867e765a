// Bundles a TypeScript file as esbuild's command line does, but each source file in the bundle
// finds itself where it lies and not where the first one does.
//
// Arguments: the directory of the module esbuild, and the options of its `build` as JSON.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { pathToFileURL } from "node:url";

const [esbuild, options] = process.argv.slice(2);
const { build } = createRequire(import.meta.url)(esbuild);

const ownPlaces = {
  name: "own-places",
  setup({ onLoad }) {
    onLoad({ filter: /\.[cm]?[jt]sx?$/ }, async ({ path }) => {
      const places = {
        __own_dirname: dirname(path),
        __own_filename: path,
        __own_url: pathToFileURL(path).href,
      };
      const constants = Object.entries(places).map(
        ([name, place]) => `const ${name} = ${JSON.stringify(place)};`,
      );
      // On the first line, so that the lines in tracebacks stay right.
      const source = (await readFile(path, "utf8")).replace(/^#!.*/, "");
      return { contents: constants.join("") + source, loader: "default" };
    });
  },
};

try {
  await build({
    ...JSON.parse(options),
    define: {
      __dirname: "__own_dirname",
      __filename: "__own_filename",
      "import.meta.url": "__own_url",
      "import.meta.dirname": "__own_dirname",
      "import.meta.filename": "__own_filename",
    },
    plugins: [ownPlaces],
  });
} catch (error) {
  // What esbuild found it has written itself.
  if (!error.errors) throw error;
  process.exitCode = 1;
}
