// node read.mjs FOLDER: reads diagrams with Mermaid's own parser, as GitHub does before it draws them.
// Stdin is a JSON list of texts; stdout a list of {type, nodes, edges} or {error}, one for each text.
// FOLDER has the packages (see .ci/mermaid). Nothing is drawn; jsdom is there because Mermaid cleans texts with the DOM.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const packages = createRequire(join(resolve(process.argv[2]), "package.json"));
const load = (name) => import(pathToFileURL(packages.resolve(name)));

const { JSDOM } = await load("jsdom");
const { window } = new JSDOM("<!doctype html><body></body>");
globalThis.window = window;
globalThis.document = window.document;
const { default: mermaid } = await load("mermaid");
mermaid.initialize({ startOnLoad: false, logLevel: "fatal" });
await mermaid.parse("flowchart TD\n  a"); // the kinds of diagrams are registered by the first call

// The parser keeps `#91;` as a mark of its own until the text is drawn; what is read then is what counts.
const area = window.document.createElement("textarea");
function words(label) {
  const lines = [].concat(label ?? "").join("\n").replace(/<br\s*\/?>/gi, "\n");
  area.innerHTML = lines.replaceAll("ﬂ°°", "&#").replaceAll("ﬂ°", "&").replaceAll("¶ß", ";").replaceAll("<", "&lt;");
  return area.value;
}

async function read(text) {
  const { type, db } = await mermaid.mermaidAPI.getDiagramFromText(text);
  const { nodes, edges } = db.getData();
  return {
    type,
    nodes: nodes.map((node) => ({
      id: node.id,
      words: words(node.label),
      shape: node.shape,
      classes: String(node.cssClasses ?? "").split(" ").filter(Boolean),
      group: node.parentId ?? null,
      acts: [node.link, node.haveCallback, node.tooltip, node.img, node.icon].some(Boolean),
    })),
    edges: edges.map((edge) => ({ source: edge.start, dest: edge.end, words: words(edge.label) })),
  };
}

const found = [];
for (const text of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    found.push(await read(text));
  } catch (error) {
    found.push({ error: String(error.message ?? error) });
  }
}
process.stdout.write(JSON.stringify(found));
