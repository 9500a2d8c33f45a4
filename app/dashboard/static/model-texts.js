// What is known of a base model, in words.

import { formatBytes, formatNumber, t } from "./texts.js";

export function describeSize(model) {
  if (!model.num_parameters) return null;
  const millions = model.num_parameters / 1e6;
  const text = millions >= 1000 ? `${formatNumber(Number((millions / 1000).toFixed(1)))}\u00a0B` : `${formatNumber(Number(millions.toFixed(millions < 10 ? 1 : 0)))}\u00a0M`;
  return t("models.parameters", { number: text });
}

// `device`: cuda or cpu.
export function describeMemory(model, device) {
  const need = model.memory?.find((one) => one.device === device);
  return need ? t(`models.memory.${device}`, { least: formatBytes(need.least_bytes), most: formatBytes(need.fastest_bytes) }) : null;
}

export function describeTime(model) {
  const timed = model.calibration;
  if (!timed) return null;
  return t("models.perStep", { seconds: round(timed.seconds_per_sample * (model.defaults?.batch_size ?? 1)) });
}

// Two digits that matter.
export const round = (seconds) => formatNumber(Number(seconds.toPrecision(2)));
