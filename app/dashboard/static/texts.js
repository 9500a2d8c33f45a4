// The page's texts, from the file that the templates read too: those that its module and the imported ones name. `t(key, { field: value })` fills the fields in; a text
// with plural forms takes the one for `count`.

const language = document.documentElement.lang;
const [, page] = document.querySelector("script[type=module]").src.match(/([a-z-]+)\.js/);
const { default: texts } = await import(`/ui/strings/${language}.js?page=${page}`);
const plurals = new Intl.PluralRules(language);
const numbers = new Intl.NumberFormat(language);

export const has = (key) => key in texts;

export function t(key, values = {}) {
  let text = texts[key];
  if (text === undefined) throw new Error(`There is no text ${key}.`);
  if (typeof text === "object") text = text[plurals.select(values.count)] ?? text.other;
  return text.replace(/{(\w+)}/g, (_, name) => (typeof values[name] === "number" ? numbers.format(values[name]) : values[name]));
}

export const formatNumber = (value) => numbers.format(value);

export function formatBytes(bytes) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  const value = bytes / 1000 ** power;
  const digits = power && value < 10 ? 1 : 0;
  return new Intl.NumberFormat(language, { style: "unit", unit: units[power], maximumFractionDigits: digits }).format(value);
}
