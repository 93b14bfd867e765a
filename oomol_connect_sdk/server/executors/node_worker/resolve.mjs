// How imports of packages are found that are not next to the importing file.

let bases = [];

export function initialize(urls) {
  bases = urls;
}

export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    if (error.code !== "ERR_MODULE_NOT_FOUND" || /^[./]|^[a-z]+:/i.test(specifier)) throw error;
    for (const parentURL of bases) {
      const found = await next(specifier, { ...context, parentURL }).catch(() => null);
      if (found) return found;
    }
    throw error;
  }
}
