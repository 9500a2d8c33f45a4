// The stream of a job's updates. It pauses while the page is hidden, and then continues.

export class Stream {
  constructor(url, { onNews, onTrouble }) {
    Object.assign(this, { url, onNews, onTrouble, cursor: "", source: null, ended: false });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.rest() : this.open()));
    this.open();
  }

  open() {
    if (this.source || this.ended || document.hidden) return;
    const source = (this.source = new EventSource(`${this.url}?after=${encodeURIComponent(this.cursor)}`));
    source.addEventListener("news", (message) => {
      this.cursor = message.lastEventId;
      this.onTrouble("");
      this.onNews(JSON.parse(message.data));
    });
    source.addEventListener("end", () => {
      this.ended = true;
      this.rest();
    });
    source.addEventListener("error", () => this.fail(source));
  }

  // The browser tries again by itself, unless the answer was an error: then the session or the service has ended.
  fail(source) {
    if (source.readyState !== EventSource.CLOSED) return this.onTrouble("The connection broke; trying again.");
    this.rest();
    this.onTrouble("The service does not respond; trying again. If this persists, load the page again.");
    setTimeout(() => this.open(), 3000);
  }

  rest() {
    this.source?.close();
    this.source = null;
  }
}
