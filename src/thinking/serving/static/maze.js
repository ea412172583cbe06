import { ask, find } from "/static/ask.js";

const [maze, size, step, shown, status] = ["maze", "size", "step", "shown", "status"].map(find);
const SVG = "http://www.w3.org/2000/svg";
const CELL = 20; // units of the drawing
const PLAY_MS = 5000; // of a whole thought
const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

let side = 0; // cells of a side of the drawn maze
let openings = new Set(); // "a-b" with a < b
let ends = [];
let cells = [];
let thought = null; // the last answer
let cursor = 0;
let number = 0; // of the last request; the answer to an older one is not shown
let playing = 0; // the animation frame that is asked for

const key = (a, b) => (a < b ? `${a}-${b}` : `${b}-${a}`);
const tool = () => document.querySelector("input[name=tool]:checked").value;

async function think(request) {
  const own = (number += 1);
  status.textContent = "Thinking…";
  cancelAnimationFrame(playing);
  try {
    const answer = await ask(request);
    if (own !== number) return;
    openings = new Set(answer.openings.map(([a, b]) => key(a, b)));
    ends = answer.ends;
    thought = answer;
    step.max = answer.frames.length - 1;
    draw(request.size);
    status.textContent = describe(answer);
    play();
  } catch (error) {
    if (own === number) status.textContent = error.message;
  }
}

const another = () =>
  think({ size: Number(size.value), seed: Math.floor(Math.random() * 2 ** 31), openings: null, ends: null });

// Think about the maze as it is drawn now.
const rethink = () =>
  think({ size: side, seed: 0, openings: [...openings].map((pair) => pair.split("-").map(Number)), ends });

function describe({ sure_after: sureAfter, steps, right, shortest, has_loops: hasLoops }) {
  const halt = sureAfter === null ? `is not sure after ${steps.at(-1)} steps` : `is sure after ${sureAfter} steps`;
  if (right === null) return `The network ${halt}. There is no way from the start to the end.`;
  const verdict = right
    ? sureAfter === null ? "though what it marks is right" : "and is right"
    : sureAfter === null ? "and what it marks is not the way" : "and is wrong";
  const loops = hasLoops ? " This maze has loops, which it never met in training." : "";
  return `The network ${halt}, ${verdict}. The way has ${shortest + 1} cells.${loops}`;
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

function draw(newSide) {
  if (newSide !== side) cursor = 0;
  side = newSide;
  const length = side * CELL;
  maze.setAttribute("viewBox", `-2 -2 ${length + 4} ${length + 4}`);
  cells = Array.from({ length: side * side }, (_, cell) => {
    const [x, y] = placeOf(cell);
    return element("rect", { class: "cell", x, y, width: CELL, height: CELL });
  });
  const marks = ends.map((cell, index) => {
    const [x, y] = placeOf(cell);
    return element("circle", { class: index ? "end" : "start", cx: x + CELL / 2, cy: y + CELL / 2, r: CELL * 0.3 });
  });
  const frame = element("rect", { class: "frame", x: 0, y: 0, width: length, height: length });
  maze.replaceChildren(...cells, ...marks, ...drawWalls(), frame, element("rect", { class: "cursor", width: CELL, height: CELL }));
  moveCursor(cursor);
}

const placeOf = (cell) => [(cell % side) * CELL, Math.floor(cell / side) * CELL];

function drawWalls() {
  const walls = [];
  for (let cell = 0; cell < side * side; cell += 1) {
    const [x, y] = placeOf(cell);
    const [right, below] = [cell + 1, cell + side];
    if (right % side && !openings.has(key(cell, right))) {
      walls.push(element("line", { class: "wall", x1: x + CELL, x2: x + CELL, y1: y, y2: y + CELL }));
    }
    if (below < side * side && !openings.has(key(cell, below))) {
      walls.push(element("line", { class: "wall", x1: x, x2: x + CELL, y1: y + CELL, y2: y + CELL }));
    }
  }
  return walls;
}

function toggleWall(cell, other) {
  const pair = key(cell, other);
  if (!openings.delete(pair)) openings.add(pair);
  rethink();
}

function putEnd(index, cell) {
  if (cell === ends[1 - index]) return;
  ends[index] = cell;
  rethink();
}

maze.addEventListener("pointerdown", (event) => {
  if (!side) return;
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(maze.getScreenCTM().inverse());
  const [x, y] = [point.x / CELL, point.y / CELL];
  const [column, row] = [x, y].map((at) => Math.min(side - 1, Math.max(0, Math.floor(at))));
  const cell = row * side + column;
  moveCursor(cell);
  if (tool() === "wall") {
    const other = beyondNearestWall(cell, x - column, y - row);
    if (other !== null) toggleWall(cell, other);
  } else {
    putEnd(tool() === "start" ? 0 : 1, cell);
  }
});

// The cell behind the wall that is nearest to a point of a cell; null at the rim.
function beyondNearestWall(cell, x, y) {
  const distances = { ArrowUp: y, ArrowDown: 1 - y, ArrowLeft: x, ArrowRight: 1 - x };
  const nearest = Object.keys(MOVES).reduce((a, b) => (distances[a] <= distances[b] ? a : b));
  return neighborOf(cell, MOVES[nearest]);
}

function neighborOf(cell, [down, right]) {
  const [row, column] = [Math.floor(cell / side) + down, (cell % side) + right];
  return row >= 0 && row < side && column >= 0 && column < side ? row * side + column : null;
}

function moveCursor(cell) {
  cursor = cell;
  const [x, y] = placeOf(cell);
  const mark = maze.querySelector(".cursor");
  mark.setAttribute("x", x);
  mark.setAttribute("y", y);
}

maze.addEventListener("keydown", (event) => {
  if (!side || event.ctrlKey || event.metaKey || event.altKey) return;
  const move = MOVES[event.key];
  const other = move && neighborOf(cursor, move);
  if (move) {
    event.preventDefault();
    if (other !== null) event.shiftKey ? toggleWall(cursor, other) : moveCursor(other);
  } else if (event.key === "s" || event.key === "S") {
    putEnd(0, cursor);
  } else if (event.key === "e" || event.key === "E") {
    putEnd(1, cursor);
  }
});

function show(index) {
  step.value = index;
  const frame = thought.frames[index];
  for (const [cell, rect] of cells.entries()) rect.style.fillOpacity = frame[cell] / 100;
  shown.textContent = `${thought.steps[index]} of ${thought.steps.at(-1)}`;
}

function play() {
  cancelAnimationFrame(playing);
  const last = thought.frames.length - 1;
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return show(last);
  const began = performance.now();
  const advance = (now) => {
    const index = Math.min(last, Math.floor(((now - began) / PLAY_MS) * last));
    show(Math.max(0, index));
    if (index < last) playing = requestAnimationFrame(advance);
  };
  playing = requestAnimationFrame(advance);
}

step.addEventListener("input", () => {
  cancelAnimationFrame(playing);
  if (thought) show(Number(step.value));
});
find("play").addEventListener("click", () => thought && play());
find("another").addEventListener("click", another);
find("walls").addEventListener("click", () => {
  if (!side) return;
  openings.clear();
  rethink();
});
size.addEventListener("change", another);

another();
