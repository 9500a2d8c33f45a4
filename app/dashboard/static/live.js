// Streams of server-sent events. They rest while the page is hidden, and then continue.

import { t } from "./texts.js";

const RETRY_MS = 3000;

class Source {
  // `address()` is asked at each connection; `handlers`: event name -> function of the message.
  constructor(address, handlers, onTrouble) {
    Object.assign(this, { address, handlers, onTrouble, source: null, ended: false });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.rest() : this.open()));
    this.open();
  }

  open() {
    if (this.source || this.ended || document.hidden) return;
    const source = (this.source = new EventSource(this.address()));
    for (const [name, handle] of Object.entries(this.handlers)) {
      source.addEventListener(name, (message) => {
        this.onTrouble("");
        handle(message);
      });
    }
    source.addEventListener("error", () => this.fail(source));
  }

  // The browser tries again by itself, unless the answer was an error: then the session or the service has ended.
  fail(source) {
    this.onTrouble(t("error.lost"));
    if (source.readyState !== EventSource.CLOSED) return;
    this.rest();
    setTimeout(() => this.open(), RETRY_MS);
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

// Everything new of one job, as its page shows it. It ends with the job.
export class Stream extends Source {
  constructor(url, { onNews, onTrouble }) {
    let cursor = "";
    const handlers = {
      news: (message) => {
        cursor = message.lastEventId;
        onNews(JSON.parse(message.data));
      },
      end: () => this.end(),
    };
    super(() => `${url}?after=${encodeURIComponent(cursor)}`, handlers, onTrouble);
  }
}

// The states of the tenant's jobs, datasets, adapters, generations, models, workers and deliveries (GET /activity). `onReady` is called at every
// connection: read what the page shows then, and no change is missed. `onChange` gets { resource, id, status, … }, with
// the status null for what was deleted.
export class Activity extends Source {
  constructor({ onReady = () => {}, onChange, onTrouble = () => {} }) {
    const handlers = { ready: onReady };
    for (const name of ["job", "dataset", "adapter", "generation", "model", "worker", "delivery"]) {
      handlers[name] = (message) => onChange(JSON.parse(message.data));
    }
    super(() => "/activity", handlers, onTrouble);
  }
}
