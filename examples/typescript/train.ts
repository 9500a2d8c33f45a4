// A job posted and followed from TypeScript, with types that openapi-typescript makes of the service's own document.
// It runs in Node 20 and in browsers (there the service has to admit the page: ATELIER_CORS_ORIGINS).
//
//   npm install && npm run generate && npm run build
//   node train.js ds_… blip
import type { components } from "./schema";

declare const process: { argv: string[]; env: Record<string, string | undefined>; exitCode: number };

type JobRequest = components["schemas"]["JobRequest"];
type Job = components["schemas"]["JobOut"];
type Problem = components["schemas"]["Problem"];

const url = process.env.ATELIER_URL ?? "http://127.0.0.1:8000";
const key = process.env.ATELIER_API_KEY ?? "";

async function call(path: string, options: RequestInit = {}): Promise<Response> {
  const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json", ...options.headers };
  const response = await fetch(url + path, { ...options, headers });
  if (!response.ok) {
    const problem = (await response.json()) as Problem;
    throw new Error(`${problem.title}: ${problem.detail}`);
  }
  return response;
}

async function train(request: JobRequest): Promise<Job> {
  const headers = { "Idempotency-Key": crypto.randomUUID() };
  const response = await call("/jobs", { method: "POST", body: JSON.stringify(request), headers });
  let job = (await response.json()) as Job;
  while (!["succeeded", "failed", "canceled"].includes(job.status)) {
    job = (await (await call(`/jobs/${job.id}?wait=30`)).json()) as Job;
    console.log(job.status, job.phase ?? "", `step ${job.progress?.step ?? 0}`);
  }
  return job;
}

async function hash(content: ArrayBuffer): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const [dataset, trigger] = process.argv.slice(2);
const job = await train({ model: "tiny", dataset, trigger });
if (job.status === "succeeded") {
  const response = await call(`/jobs/${job.id}/adapter`);
  const content = await response.arrayBuffer();
  const complete = response.headers.get("etag") === `"${await hash(content)}"`;
  console.log(`an adapter of ${content.byteLength} bytes, ${complete ? "complete" : "damaged"}`);
} else {
  console.error(job.error?.detail ?? job.status);
  process.exitCode = 1;
}
