// Streams of server-sent events. They rest while the page is hidden, and then continue.

import { get } from "./api.js";
import { t } from "./texts.js";

const RETRY_MS = 3000, LONGEST_MS = 60_000;
const isRefused = ({ status }) => status >= 400 && status < 500 && status !== 429;

class Source {
  // `address()` is asked at each connection; `probe`: what is read after an error, for its reason; `handlers`: event
  // name -> function of the message.
  constructor(address, probe, handlers, onTrouble) {
    Object.assign(this, { address, probe, handlers, onTrouble, source: null, ended: false, failures: 0 });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.rest() : this.open()));
    this.open();
  }

  open() {
    if (this.source || this.ended || document.hidden) return;
    const source = (this.source = new EventSource(this.address()));
    for (const [name, handle] of Object.entries(this.handlers)) {
      source.addEventListener(name, (message) => {
        this.onTrouble("");
        this.failures = 0;
        handle(message);
      });
    }
    source.addEventListener("error", () => this.fail(source));
  }

  // The browser tries again by itself, unless the answer was an error: the session or the service has ended, or the
  // thing is gone. A plain read finds out which, and asks for a login.
  async fail(source) {
    this.onTrouble(t("error.lost"));
    if (source.readyState !== EventSource.CLOSED) return;
    this.rest();
    const pause = Math.min(LONGEST_MS, RETRY_MS * 2 ** this.failures++);
    try {
      await get(this.probe);
    } catch (error) {
      if (isRefused(error)) {
        this.end();
        return this.onTrouble(error.message);
      }
    }
    setTimeout(() => this.open(), pause);
  }

  rest() {
    this.source?.close();
    this.source = null;
  }

  end() {
    this.ended = true;
    this.rest();
  }
}

// Everything new of one job, as its page shows it; `path`: the job's. It ends with the job.
export class Stream extends Source {
  constructor(path, { onNews, onEnd, onTrouble }) {
    let cursor = "";
    const handlers = {
      news: (message) => {
        cursor = message.lastEventId;
        onNews(JSON.parse(message.data));
      },
      end: () => {
        this.end();
        onEnd();
      },
    };
    super(() => `/ui${path}/stream?after=${encodeURIComponent(cursor)}`, path, handlers, onTrouble);
  }
}

// The states of the tenant's jobs, datasets, adapters, generations, models, workers and deliveries (GET /activity).
// `onReady` is called at every connection: read what the page shows then, and no change is missed. `onChange` gets { resource, id, status, … }, with
// the status null for what was deleted.
export class Activity extends Source {
  constructor({ onReady = () => {}, onChange, onTrouble = () => {} }) {
    const handlers = { ready: onReady };
    for (const name of ["job", "dataset", "adapter", "generation", "model", "worker", "delivery"]) {
      handlers[name] = (message) => onChange(JSON.parse(message.data));
    }
    super(() => "/activity", "/activity?limit=1", handlers, onTrouble);
  }
}
