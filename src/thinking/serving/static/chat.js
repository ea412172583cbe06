import { ask, find, make } from "/static/ask.js";

const [form, question, check, replies] = ["ask", "question", "check", "replies"].map(find);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  await reply(question.value);
});

for (const button of document.querySelectorAll(".example")) {
  button.addEventListener("click", () => reply(button.textContent));
}

async function reply(text) {
  const entry = make("li", "", make("p", "note", `${text}: thinking…`));
  replies.prepend(entry);
  const buttons = document.querySelectorAll("button");
  buttons.forEach((button) => (button.disabled = true));
  try {
    const answer = await ask({ question: text, check: Boolean(check?.checked) });
    if (answer.refusal) {
      refuse(entry, text, answer.refusal);
    } else {
      entry.replaceChildren(conclude(answer), listThoughts(answer), ...drawTree(answer));
      question.value = "";
    }
  } catch (error) {
    refuse(entry, text, error.message);
  }
  buttons.forEach((button) => (button.disabled = false));
  question.focus();
}

function refuse(entry, text, reason) {
  entry.replaceChildren(make("p", "", make("strong", "", text)), make("p", "", reason));
}

function conclude({ question, answer, right, truth, note }) {
  const said = right ? make("span", "right", `${answer} ✓`) : make("span", "wrong", `${answer} ✗ it is ${truth}`);
  const noted = note ? [" ", make("span", "note", note)] : [];
  return make("p", "", make("strong", "", question), " = ", said, ...noted);
}

function listThoughts({ thoughts }) {
  const lines = thoughts.map(({ text, words, right }) => {
    const name = right === false ? "wrong" : "thought";
    return make("li", name, make("code", "", text), ` ${words}${right === false ? " ✗" : ""}`);
  });
  return make("ol", "steps", ...lines);
}

// Candidates as a tree of thoughts, which parts where they differ.
function drawTree({ tree }) {
  if (!tree) return [];
  const confirmed = collectAnswers(tree).filter(({ verified }) => verified);
  const count = confirmed.reduce((sum, each) => sum + each.count, 0);
  const summary = make("summary", "", `${tree.count} candidates, ${count} confirmed by the model's own check`);
  return [make("details", "", summary, make("ul", "tree", drawBranch(tree, tree.count)))];
}

const collectAnswers = ({ answers, branches }) => [...answers, ...branches.flatMap(collectAnswers)];

function drawBranch({ count, thoughts, branches, answers }, total) {
  const share = make("meter", "");
  share.max = total;
  share.value = count;
  share.setAttribute("aria-label", `${count} of ${total} candidates`);
  const steps = thoughts.map(({ text, right }) => make("code", right === false ? "wrong" : "thought", text, right === false ? " ✗" : ""));
  const head = make("div", "steps-in-row", share, ` ${count} of ${total}: `, ...(steps.length ? steps : ["no thought in common"]));
  const below = [...branches.map((branch) => drawBranch(branch, total)), ...answers.map(drawAnswer)];
  return make("li", "", head, make("ul", "", ...below));
}

function drawAnswer({ count, answer, check, verified }) {
  const mark = make("span", verified ? "right" : "wrong", verified ? "✓" : "✗");
  return make("li", "", `${count} × `, make("strong", "", answer), ...(check ? [`, checked by ${check} `, mark] : [", without a check"]));
}
