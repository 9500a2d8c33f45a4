// One picture of a generation, large; beside it the same seed without the adapters, if that was drawn.

import { t } from "./texts.js";
import { el } from "./ui.js";

// `onSeed(seed)`, and `onCover(adapterId, generation, index)`: null where the reader may not. Left and right go on.
export function view({ generation, twin }, first, { onSeed, onCover }) {
  let place = Math.max(0, generation.images.findIndex((image) => image.index === first.index));
  const pair = el("div", { class: "pair" }), about = el("p", {}), actions = el("div", { class: "actions" });
  const box = el("dialog", { class: "viewer large", onkeydown: turn, onclose: () => box.remove() }, pair, about, actions);
  const isSingle = generation.adapters.length === 1 && generation.adapters[0].id;

  function show() {
    const image = generation.images[place];
    const base = twin?.images.find((one) => one.index === image.index);
    box.setAttribute("aria-label", image.prompt);
    pair.replaceChildren(...(base ? [figure(base, t("play.without"))] : []), figure(image, base ? t("play.with") : ""));
    about.textContent = `${image.prompt} · ${t("play.seedOf", { seed: String(image.seed) })}`;
    const count = generation.images.length;
    actions.replaceChildren(
      el("button", { type: "button", disabled: place === 0, onclick: () => go(-1) }, t("play.previous")),
      el("button", { type: "button", disabled: place === count - 1, onclick: () => go(1) }, t("play.next")),
      el("a", { class: "button", href: image.url, download: `${generation.id}-${image.index}.png` }, t("play.download")),
      ...(onSeed ? [el("button", { type: "button", onclick: () => { box.close(); onSeed(image.seed); } }, t("play.useSeed"))] : []),
      ...(onCover && isSingle ? [el("button", { type: "button", onclick: () => { box.close(); onCover(isSingle, generation, image.index); } }, t("play.asCover"))] : []),
      el("button", { type: "button", class: "primary", onclick: () => box.close() }, t("close")),
    );
  }

  function go(distance) {
    const next = place + distance;
    if (next < 0 || next >= generation.images.length) return;
    place = next;
    show();
    box.focus();
  }

  function turn(event) {
    if (event.key === "ArrowLeft") go(-1);
    else if (event.key === "ArrowRight") go(1);
    else return;
    event.preventDefault();
  }

  box.tabIndex = -1;
  show();
  document.body.append(box);
  box.showModal();
  box.focus();
}

const figure = (image, title) => el("figure", {}, el("img", { src: image.url, alt: image.prompt }), title && el("figcaption", {}, title));
