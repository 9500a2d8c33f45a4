// Times of day as "5 min ago", and durations as "2 min 10 s".

import { t } from "./texts.js";

const UNITS = [["d", 86400], ["h", 3600], ["min", 60]];

export function formatAge(moment) {
  const seconds = Math.max(0, (Date.now() - moment.getTime()) / 1000);
  for (const [unit, length] of UNITS) {
    if (seconds >= length) return t(`age.${unit}`, { count: Math.floor(seconds / length) });
  }
  return t("age.now");
}

// The two largest units: nobody plans an hour's wait by its seconds.
export function formatDuration(seconds) {
  const whole = Math.max(0, Math.round(seconds)), s = whole % 60;
  if (whole < 60) return t("duration.s", { s });
  if (whole < 3600) return t("duration.min", { min: Math.floor(whole / 60), s });
  return t("duration.h", { h: Math.floor(whole / 3600), min: Math.floor(whole / 60) % 60 });
}

export function showAges(root = document) {
  for (const element of root.querySelectorAll("time[datetime]:not([data-fixed])")) {
    const moment = new Date(element.dateTime);
    element.title = moment.toLocaleString();
    element.textContent = formatAge(moment);
  }
}

showAges();
setInterval(showAges, 30000);
