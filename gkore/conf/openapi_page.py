"""The ``openapi`` directive: a domain's description served as JSON, and to browsers as a page to try it."""

from __future__ import annotations

import json
from typing import Any

from gkore.conf import openapi
from gkore.conf.site import METHODS, Domain, Route, Site

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>API</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1f}
details{border:1px solid #d5d5dc;border-radius:.5rem;margin:.6rem 0;padding:.5rem .8rem}
summary{cursor:pointer}code{font-weight:600}b{display:inline-block;min-width:6rem;color:#1c5a8a}
label{display:block;margin:.5rem 0}input{font:inherit;padding:.3rem;width:100%;max-width:24rem;display:block}
button{font:inherit;padding:.3rem 1rem}pre{background:#f1f1f4;padding:.6rem;overflow:auto;white-space:pre-wrap}
</style>
<h1></h1><div id="list"></div>
<script>
const make = (tag, text, parent) => {
  const made = document.createElement(tag);
  made.textContent = text || "";
  parent.append(made);
  return made;
};
const inputs = (operation) => [
  ...(operation.parameters || []),
  ...Object.entries(Object.values((operation.requestBody || {content: {}}).content)[0]?.schema.properties || {})
    .map(([name, schema]) => ({name, schema, in: "form"})),
];
const send = async (method, path, fields, answer) => {
  const query = new URLSearchParams(), form = new URLSearchParams();
  for (const {field, input} of fields) {
    if (field.in === "path") path = path.replace(`{${field.name}}`, encodeURIComponent(input.value));
    else if (input.value) (field.in === "query" ? query : form).set(field.name, input.value);
  }
  const url = path + (query.size ? `?${query}` : "");
  const response = await fetch(url, {method, body: form.size ? form : undefined});
  answer.hidden = false;
  answer.textContent = `${response.status} ${response.statusText}\\n${await response.text()}`;
};
fetch(location.pathname, {headers: {accept: "application/json"}}).then((got) => got.json()).then((api) => {
  document.querySelector("h1").textContent = document.title = api.info.title;
  for (const [path, item] of Object.entries(api.paths)) for (const [name, operation] of Object.entries(item)) {
    const method = name.toUpperCase();
    const box = make("details", "", document.getElementById("list"));
    const summary = make("summary", "", box);
    make("b", method, summary);
    make("code", path, summary);
    make("span", operation.summary ? ` ${operation.summary}` : "", summary);
    make("p", operation.description, box);
    const form = make("form", "", box);
    const fields = inputs(operation).map((field) => {
      const label = make("label", `${field.name} `, form);
      make("small", field.schema.pattern || field.schema.description, label);
      return {field, input: make("input", "", label)};
    });
    make("button", "Send", form);
    const answer = make("pre", "", box);
    answer.hidden = true;
    form.onsubmit = (event) => { event.preventDefault(); send(method, path, fields, answer); };
  }
});
</script></html>
"""


def add_routes(site: Site) -> None:
    """Give each domain that has an ``openapi PATH`` the route that serves it; whoever declared that path keeps it."""
    for domain in site.domains:
        path = domain.options.get("openapi")
        if path and not any(route.path == path for route in domain.routes):
            made = Route(path, handler=Description(domain), handler_name="(openapi)", place=domain.place)
            made.methods = METHODS["get"] | METHODS["head"]
            domain.routes.append(made)


class Description:
    """This description: JSON, or for browsers a page to try it."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self._text = ""

    def __call__(self, req: Any) -> None:
        """What this domain answers, as OpenAPI 3.1."""
        req.response_header("vary", "accept")
        if "text/html" in (req.request_header("accept") or ""):
            req.response_header("content-type", "text/html; charset=utf-8")
            req.response(200, PAGE)
            return
        req.response_header("content-type", "application/json")
        req.response(200, self.text)

    @property
    def text(self) -> str:
        """The document, made once: when the first one asks, all routes are declared."""
        self._text = self._text or json.dumps(openapi.document(Site(domains=[self.domain])), ensure_ascii=False)
        return self._text
