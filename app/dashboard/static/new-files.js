// What the user drops or picks, as a flat list of files with their paths.

import { get } from "./api.js";

// [{ name, file }], from a drop event: folders are read to the end. Entries must be taken before the first await.
export async function readDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return readInput(transfer.files);
  return (await Promise.all(entries.map((entry) => readEntry(entry, "")))).flat();
}

async function readEntry(entry, above) {
  const name = above + entry.name;
  if (entry.isFile) return [{ name, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) }];
  const reader = entry.createReader(), found = [];
  for (;;) {
    // a reader gives at most 100 entries at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.map((one) => readEntry(one, `${name}/`)))).flat();
}

export function readInput(files) {
  return [...files].map((file) => ({ name: file.webkitRelativePath || file.name, file }));
}

// The bundled example set, as if it had been dropped.
export async function readExample() {
  const { name, files } = await get("/ui/example");
  return Promise.all(files.map(async (file) => {
    const answer = await fetch(`/ui/example/${file}`);
    return { name: `${name}/${file}`, file: new File([await answer.blob()], file) };
  }));
}

// Which of the files a dataset may have, and a name for it. `kinds`: { images, archives, captions, metadata }, each a
// list of suffixes or names. A folder that holds everything is taken off the paths, unless it says how often its
// images repeat (kohya's `10_name`).
export function sift(found, kinds) {
  const visible = found.filter(({ name }) => !name.split("/").some((part) => part.startsWith(".")));
  const is = (name, suffixes) => suffixes.some((suffix) => name.toLowerCase().endsWith(suffix));
  const all = [...kinds.images, ...kinds.archives, ...kinds.captions];
  const isMetadata = (name) => kinds.metadata.includes(name.split("/").at(-1).toLowerCase());
  const accepted = visible.filter(({ name }) => is(name, all) || isMetadata(name));
  const isUsable = accepted.some(({ name }) => is(name, [...kinds.images, ...kinds.archives]));
  const roots = new Set(accepted.map(({ name }) => (name.includes("/") ? name.split("/")[0] : null)));
  const root = roots.size === 1 ? [...roots][0] : null;
  const isKept = root === null || /^\d+_/.test(root);
  const files = accepted.map(({ name, file }) => ({ name: isKept ? name : name.slice(root.length + 1), file }));
  const archive = accepted.length === 1 && is(accepted[0].name, kinds.archives) ? accepted[0].name : null;
  const title = root ?? archive?.split("/").at(-1).replace(/\.(zip|tar(\.\w+)?|tgz)$/i, "") ?? null;
  return { files: isUsable ? files : [], title, isImage: (name) => is(name, kinds.images) };
}
