import { ask, find, make } from "/static/ask.js";

const [graph, hops, status, plan] = ["graph", "hops", "status", "plan"].map(find);
const nodes = [...document.querySelectorAll(".node")];
let start = null;
let number = 0; // of the last request; the answer to an older one is not shown

for (const [index, node] of nodes.entries()) {
  node.addEventListener("click", () => choose(index));
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose(index);
  });
}

function choose(index) {
  if (start === null) {
    clear();
    start = index;
    nodes[index].classList.add("start");
    status.textContent = `From ${nameOf(index)} to … Click a goal.`;
    number += 1;
  } else {
    const from = start;
    start = null;
    show(from, index);
  }
}

async function show(from, to) {
  const own = (number += 1);
  try {
    const began = performance.now();
    const answer = await ask({ start: from, goal: to });
    if (own !== number) return;
    clear();
    draw(from, to, answer);
    status.textContent = describe(answer, performance.now() - began);
  } catch (error) {
    if (own === number) status.textContent = error.message;
  }
}

const nameOf = (index) => nodes[index].querySelector("text").textContent;

function clear() {
  for (const node of nodes) node.classList.remove("start", "goal", "sub-goal", "on-plan");
  hops.replaceChildren();
  plan.replaceChildren();
}

function describe({ nodes: path, arrives, shortest }, milliseconds) {
  const route = path.map(nameOf).join(" → ");
  const count = `${path.length - 1} ${path.length === 2 ? "hop" : "hops"}`;
  const fewest = shortest === null ? "there is no way" : shortest === path.length - 1 ? "as few as possible" : `${shortest} would do`;
  const outcome = arrives ? `arrives after ${count}, ${fewest}` : `does not arrive after ${count}; ${fewest}`;
  return `${route}: ${outcome} (${Math.round(milliseconds)} ms).`;
}

function draw(from, to, { nodes: path, is_edge: isEdge, sub_goals: subGoals }) {
  for (const index of path) nodes[index].classList.add("on-plan");
  for (const index of subGoals.flat()) nodes[index].classList.add("sub-goal");
  nodes[from].classList.add("start");
  if (to !== from) nodes[to].classList.add("goal");
  for (let hop = 0; hop + 1 < path.length; hop += 1) drawHop(path[hop], path[hop + 1], isEdge[hop]);
  const region = graph.parentElement; // which scrolls on a narrow screen
  const middle = (Number(nodes[from].dataset.x) + Number(nodes[to].dataset.x)) / 2 / graph.viewBox.baseVal.width;
  region.scrollLeft = middle * graph.getBoundingClientRect().width - region.clientWidth / 2;
  if (path.length > 1) plan.replaceChildren(makeTable(path, isEdge, subGoals));
}

function drawHop(from, to, isEdge) {
  const edge = graph.querySelector(`[data-edge="${from}-${to}"]`);
  const line = edge ? edge.cloneNode() : document.createElementNS("http://www.w3.org/2000/svg", "line");
  line.removeAttribute("data-edge");
  line.setAttribute("class", isEdge ? "hop" : "hop missing");
  if (!edge) {
    for (const [end, index] of [[1, from], [2, to]]) {
      line.setAttribute(`x${end}`, nodes[index].dataset.x);
      line.setAttribute(`y${end}`, nodes[index].dataset.y);
    }
  }
  hops.append(line);
}

function makeTable(path, isEdge, subGoals) {
  const layers = subGoals.map((_, index) => `sub-goal of layer ${subGoals.length - index}`);
  const head = ["hop", "from", "to", "edge", ...layers].map((text) => scoped("col", text));
  const rows = path.slice(1).map((node, hop) => {
    const cells = [nameOf(path[hop]), nameOf(node), isEdge[hop] ? "yes" : "no", ...subGoals.map((layer) => nameOf(layer[hop]))];
    return make("tr", "", scoped("row", String(hop + 1)), ...cells.map((text) => make("td", "", text)));
  });
  const table = make("table", "", make("caption", "", "The plan, hop by hop"));
  table.append(make("thead", "", make("tr", "", ...head)), make("tbody", "", ...rows));
  const region = make("div", "scroll", table);
  region.tabIndex = 0;
  region.setAttribute("role", "region");
  region.setAttribute("aria-label", "The plan, hop by hop");
  return region;
}

function scoped(scope, text) {
  const cell = make("th", "", text);
  cell.scope = scope;
  return cell;
}

show(0, nodes.length - 1);
