// Samples that one requests while a job trains.

import { allows, get, post } from "./api.js";
import { t } from "./texts.js";
import { coalesce, el, find, once, showError, thumbnail } from "./ui.js";

export class Requests {
  constructor(address) {
    this.address = `${address}/samples`;
    this.refresh = coalesce(() => this.read());
    find("request")?.addEventListener("submit", once(async (event) => this.send(event)));
  }

  async read() {
    const found = (await get(`${this.address}/requests`).catch(() => null))?.data;
    if (found) find("drawn").replaceChildren(...found.reverse().map((request) => this.show(request)));
    const mayAsk = allows("jobs") && find("state").dataset.status === "running";
    find("requests").hidden = !mayAsk && !found?.length;
    if (find("request")) find("request").hidden = find("request-hint").hidden = !mayAsk;
  }

  show(request) {
    const when = request.step === null ? t(`requests.${request.status}`) : t("samples.step", { step: request.step });
    const pictures = request.images.length
      ? request.images.map((image) => el("figure", {}, thumbnail(image.url, image.prompt), el("figcaption", {}, image.prompt)))
      : request.prompts.map((prompt) => el("figure", {}, el("div", { class: "thumb none" }), el("figcaption", {}, prompt)));
    return el("div", { class: "request" }, el("p", { class: "hint" }, [when, request.error?.detail].filter(Boolean).join(": ")), el("div", { class: "drawn" }, pictures));
  }

  async send(event) {
    event.preventDefault();
    const form = new FormData(find("request"));
    const prompts = form.get("prompts").split("\n").map((line) => line.trim()).filter(Boolean);
    showError(find("request-error"), null);
    try {
      await post(this.address, { prompts, seed: Number(form.get("seed")) });
      find("request").reset();
      await this.refresh();
    } catch (error) {
      showError(find("request-error"), error);
    }
  }
}
