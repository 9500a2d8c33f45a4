// Reads how a picture was made: the text `parameters` of a PNG, as A1111 writes it.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const MAX_TEXT_BYTES = 1_000_000;

// The text, or null if the file is not a PNG or has none. `buffer`: an ArrayBuffer.
export async function readParameters(buffer) {
  const bytes = new Uint8Array(buffer), view = new DataView(buffer);
  if (!SIGNATURE.every((byte, place) => bytes[place] === byte)) return null;
  for (let place = 8; place + 12 <= bytes.length; ) {
    const length = view.getUint32(place);
    const kind = String.fromCharCode(...bytes.subarray(place + 4, place + 8));
    const content = bytes.subarray(place + 8, place + 8 + length);
    if (["tEXt", "zTXt", "iTXt"].includes(kind) && length <= MAX_TEXT_BYTES) {
      const text = await readChunk(kind, content);
      if (text !== null) return text;
    }
    if (kind === "IEND") return null;
    place += 12 + length;
  }
  return null;
}

// PNG, third edition, 11.3.3: tEXt and zTXt are Latin-1, iTXt is UTF-8.
async function readChunk(kind, content) {
  const end = content.indexOf(0);
  if (end < 0 || latin(content.subarray(0, end)) !== "parameters") return null;
  if (kind === "tEXt") return latin(content.subarray(end + 1));
  if (kind === "zTXt") return latin(await inflate(content.subarray(end + 2)));
  const isCompressed = content[end + 1] === 1;
  const afterLanguage = content.indexOf(0, end + 3);
  const start = content.indexOf(0, afterLanguage + 1) + 1;
  const text = content.subarray(start);
  return new TextDecoder().decode(isCompressed ? await inflate(text) : text);
}

const latin = (bytes) => new TextDecoder("iso-8859-1").decode(bytes);

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// { prompt, negative, fields }: the fields of the last line by name, in lower case. Values in quotes are unquoted.
export function parseParameters(text) {
  const lines = text.trim().split("\n");
  const last = /^\s*Steps: /.test(lines.at(-1)) ? lines.pop() : "";
  const fields = {};
  for (const [, name, value] of last.matchAll(/\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)/g)) {
    fields[name.toLowerCase()] = value.startsWith('"') ? JSON.parse(value) : value.trim();
  }
  const at = lines.findIndex((line) => line.startsWith("Negative prompt:"));
  const negative = at < 0 ? "" : [lines[at].slice(16), ...lines.slice(at + 1)].join("\n").trim();
  return { prompt: (at < 0 ? lines : lines.slice(0, at)).join(" ").trim(), negative, fields };
}

// As a request of POST /generations has them. Adapters are those of this service: name (id) x weight; a job's has
// (job@step).
export function toSettings({ prompt, negative, fields }) {
  const number = (name) => (Number.isFinite(parseFloat(fields[name])) ? parseFloat(fields[name]) : undefined);
  const [width, height] = (fields.size ?? "").split("x").map(Number);
  const adapters = [...(fields.adapters ?? "").matchAll(/\((\w+)(?:@(\d+))?\) x (-?[\d.e-]+)/g)];
  return {
    model: fields.model, prompts: [prompt], negative_prompt: negative, seed: number("seed"), num_steps: number("steps"),
    guidance_scale: number("cfg scale"), guidance_rescale: number("cfg rescale phi"),
    ...(width && height && { width, height }),
    adapters: adapters.map(([, id, step, weight]) => ({ ...(step ? { job: id, step: Number(step) } : { id }), weight: Number(weight) })),
  };
}
