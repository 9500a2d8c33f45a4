// The choice of a tenant, for the operator; anyone else sees their own.

import { list } from "./api.js";
import { el, find } from "./ui.js";

export let tenants = [];

// Shows the field if there is a choice. `onChange` is called at each.
export async function offerTenants(onChange) {
  const field = find("tenant");
  if (!field) return;
  tenants = await list("/tenants");
  const chosen = field.value;
  field.replaceChildren(...tenants.map((tenant) => el("option", { value: tenant.id }, tenant.name)));
  if (chosen) field.value = chosen;
  field.closest("label").hidden = tenants.length < 2;
  field.onchange = onChange;
}

// As the end of a query, empty for one's own.
export function tenantQuery(before = "?") {
  const chosen = find("tenant")?.value;
  return chosen ? `${before}tenant=${encodeURIComponent(chosen)}` : "";
}
