// Times of day as "5 min ago", and durations as "0:32".

import { t } from "./texts.js";

const UNITS = [["d", 86400], ["h", 3600], ["min", 60]];

export function formatAge(moment) {
  const seconds = Math.max(0, (Date.now() - moment.getTime()) / 1000);
  for (const [unit, length] of UNITS) {
    if (seconds >= length) return t(`age.${unit}`, { count: Math.floor(seconds / length) });
  }
  return t("age.now");
}

export function formatDuration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
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
