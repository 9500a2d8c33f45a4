// An adapter's links, and its publications on the Hub.

import { get, list, post, remove } from "./api.js";
import { t } from "./texts.js";
import { showAges } from "./times.js";
import { confirm, el, find, once, showError, stateBadge } from "./ui.js";

const WAIT_SECONDS = 30; // the service answers as soon as it has ended

export function setUpSharing({ path, attempt, copy }) {
  const followed = new Set();

  async function show() {
    await Promise.all([showLinks(), showPublications()]);
  }

  async function showLinks() {
    const links = await list(`${path}/links`);
    find("links").replaceChildren(...links.map((link) => el("li", {},
      el("span", {}, link.expired ? t("adapter.expired") : t("adapter.until", { date: new Date(link.expires_at).toLocaleString() })),
      el("small", { class: "hint" }, t("adapter.uses", { views: link.num_views, downloads: link.num_downloads })),
      el("button", { type: "button", class: "danger", onclick: () => attempt(() => revoke(link)) }, t("adapter.revoke")),
    )));
  }

  async function revoke(link) {
    if (!(await confirm(t("adapter.revokeTitle"), t("adapter.revokeText"), t("adapter.revoke")))) return;
    await remove(link.urls.self);
    await showLinks();
  }

  async function makeLink() {
    const link = await post(`${path}/links`, { expires_in: Number(find("days").value) });
    find("new-link").hidden = false;
    find("link").value = link.url;
    find("link").select();
    await showLinks();
  }

  // --- the Hub --------------------------------------------------------------------------------------------

  async function showPublications() {
    const publications = await list(`${path}/publications`, { limit: 20 });
    find("publications").replaceChildren(...publications.map(showPublication));
    showAges(find("publications"));
    for (const one of publications) if (one.status === "publishing") follow(one);
  }

  function showPublication(one) {
    const reason = one.error ? `${one.error.title}: ${one.error.detail}` : one.status === "publishing" ? one.waiting_reason : null;
    const isWeb = /^https?:\/\//.test(one.url ?? "");
    return el("li", {},
      el("div", { class: "row" }, isWeb ? el("a", { href: one.url, rel: "noreferrer" }, one.repo_id) : el("span", {}, one.repo_id), stateBadge(one.status), el("time", { class: "hint", dateTime: one.created_at })),
      reason && el("p", { class: one.error ? "message bad" : "message" }, reason));
  }

  // By requests that wait for its end.
  async function follow(one) {
    if (followed.has(one.id)) return;
    followed.add(one.id);
    try {
      while ((await get(`${one.urls.self}?wait=${WAIT_SECONDS}`)).status === "publishing");
      await showPublications();
    } catch (error) {
      showError(find("publish-error"), error);
    } finally {
      followed.delete(one.id);
    }
  }

  async function publish() {
    showError(find("publish-error"), null);
    const value = (id) => find(id).value.trim();
    const body = { repo_id: value("repo"), private: find("private").checked, ...(value("base-repo") && { base_model: value("base-repo") }), ...(value("token") && { token: value("token") }) };
    try {
      await post(`${path}/publish`, body);
      find("token").value = "";
      await showPublications();
    } catch (error) {
      showError(find("publish-error"), error);
      const details = Object.values(error.errors ?? {}).flat();
      if (details.length) find("publish-error").append(` ${details.join("; ")}`);
    }
  }

  const submit = (work) => once(async (event) => {
    event.preventDefault();
    await work();
  });
  find("share").addEventListener("submit", submit(() => attempt(makeLink)));
  find("copy-link").addEventListener("click", () => copy(find("link").value));
  find("publish").addEventListener("submit", submit(publish));
  return { show };
}
