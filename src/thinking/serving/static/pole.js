import { ask, find, make } from "/static/ask.js";

const { maxReturn, stepsPerSecond } = document.querySelector("main").dataset;
const [scene, cart, ghost, target, asked, status, episodes, rate] =
  ["scene", "cart", "ghost", "target", "asked", "status", "episodes", "rate"].map(find);
const SCALE = 200; // of the drawing, for a metre
const PUSH = 0.5; // radians a second
const LOW = 18; // steps left, at which more are asked for
const PAUSE_MS = 900; // after an episode
const MAX_EPISODES = 6;

let frames = []; // what the server has sent: observation, sub-goal, carry, each before a step
let place = 0; // in `frames`, with a fraction
let firstStep = 0; // the number of the step of frames[0]
let ended = false; // whether the last frame ends the episode
let generation = 0; // of what is shown; answers for an older one are dropped
let isAsking = false;
let isPaused = false;
let numPushes = 0;

const targetReturn = () => (target.value === maxReturn ? null : Number(target.value));
const sayTarget = () => (targetReturn() === null ? "the highest" : target.value);

function restart() {
  generation += 1;
  frames = [];
  place = firstStep = numPushes = 0;
  ended = false;
  fetchMore();
}

async function fetchMore() {
  const own = generation;
  const last = frames.at(-1);
  const numSteps = firstStep + Math.max(frames.length - 1, 0);
  isAsking = true;
  try {
    const answer = await ask({
      target_return: targetReturn(),
      observation: last ? last.observation : null,
      carry: last ? last.carry : [],
      num_steps: numSteps,
      seed: Math.floor(Math.random() * 2 ** 31),
    });
    if (own !== generation) return;
    const more = answer.observation.map((observation, index) => ({
      observation, subGoal: answer.sub_goal[index], carry: answer.carry[index],
    }));
    frames = [...frames.slice(0, -1), ...more];
    ended = answer.ended;
    status.textContent = "";
  } catch (error) {
    if (own !== generation) return;
    status.textContent = error.message;
    isPaused = true;
    find("pause").textContent = "Go on";
  } finally {
    if (own === generation) isAsking = false;
  }
}

// Push the pole: the page changes the present state, and drops what the server has computed after it.
function push(direction) {
  if (!frames.length || (ended && place >= frames.length - 1)) return;
  const index = Math.floor(place);
  const [x, velocity, angle, turn] = frames[index].observation;
  generation += 1;
  numPushes += 1;
  firstStep += index;
  frames = [{ ...frames[index], observation: [x, velocity, angle, turn + direction * PUSH] }];
  place = 0;
  ended = false;
  fetchMore();
}

function finish() {
  const reached = firstStep + frames.length - 1;
  const pushes = numPushes ? `, with ${numPushes} ${numPushes === 1 ? "push" : "pushes"}` : "";
  episodes.prepend(make("li", "", `asked for ${sayTarget()}, got ${reached}${pushes}`));
  while (episodes.children.length > MAX_EPISODES) episodes.lastChild.remove();
  const own = generation;
  setTimeout(() => own === generation && restart(), PAUSE_MS);
}

function draw() {
  const index = Math.floor(place);
  const [now, next] = [frames[index], frames[Math.min(index + 1, frames.length - 1)]];
  const share = place - index;
  const between = (at) => now.observation[at] * (1 - share) + next.observation[at] * share;
  move(cart, between(0), between(2));
  move(ghost, now.subGoal[0], now.subGoal[2]);
  find("return").textContent = firstStep + index;
}

function move(group, x, angle) {
  group.setAttribute("transform", `translate(${(x * SCALE).toFixed(1)} 0)`);
  group.querySelector("line").setAttribute("transform", `rotate(${((angle * 180) / Math.PI).toFixed(2)} 0 -25)`);
}

let before = performance.now();
let isFinished = false;
let [numDrawn, since] = [0, before];

function tick(now) {
  const seconds = Math.min((now - before) / 1000, 0.1);
  before = now;
  if (frames.length && !isPaused) {
    place = Math.min(place + seconds * stepsPerSecond, frames.length - 1);
    draw();
    numDrawn += 1;
    const atEnd = ended && place >= frames.length - 1;
    if (atEnd && !isFinished) finish();
    isFinished = atEnd;
    if (!ended && !isAsking && frames.length - 1 - place < LOW) fetchMore();
  }
  if (now - since > 1000) {
    rate.textContent = isPaused ? "" : `${Math.round((numDrawn * 1000) / (now - since))} frames a second`;
    [numDrawn, since] = [0, now];
  }
  requestAnimationFrame(tick);
}

scene.addEventListener("pointerdown", (event) => {
  const box = scene.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * 1080 - 540;
  const cartX = frames.length ? frames[Math.floor(place)].observation[0] * SCALE : 0;
  push(x < cartX ? 1 : -1);
});
find("push-left").addEventListener("click", () => push(-1));
find("push-right").addEventListener("click", () => push(1));
find("again").addEventListener("click", restart);
find("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  find("pause").textContent = isPaused ? "Go on" : "Pause";
});
target.addEventListener("input", () => (asked.textContent = sayTarget()));
target.addEventListener("change", restart);

status.textContent = "Loading the guide…";
asked.textContent = sayTarget();
restart();
requestAnimationFrame(tick);
